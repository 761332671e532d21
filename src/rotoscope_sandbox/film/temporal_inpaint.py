"""Filling a hole in a film with what other frames show behind it.

For every frame: the frames around it are brought into its place by the camera's motion, each pixel of the hole takes
the median of those that see it, and colours are shifted so that they meet what is around the hole. What no frame
ever shows is invented once and then carried along from frame to frame, so that it neither flickers nor swims.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from rotoscope_sandbox.film.camera_motion import STILL, Motion, dilate_disc
from rotoscope_sandbox.film.invent import inpaint_patches
from rotoscope_sandbox.vision.pixels import Frame, Mask, PixelBox, Plane, box_slices

__all__ = ["REACH", "EditFrame", "TemporalInpainter", "sliding_windows"]

REACH = 22
"""How many frames are looked at to either side."""

_MARGIN = 7
_RING = 10
_NONE = 32_767
_KNOWN = 255
_STRANGE = 40.0
_MOST_SHIFT = 40.0
_SEAM = 4.0


@dataclass(slots=True)
class EditFrame:
    """One frame of an edit: its mask, and how the camera moved since the frame before."""

    frame: Frame
    mask: Mask
    motion: Motion
    hole: Mask = field(init=False)
    """The mask and its rim: object and shadow end softly, and what is filled in must not start from them."""

    def __post_init__(self) -> None:
        self.hole = dilate_disc(self.mask, _MARGIN)


def sliding_windows(takes: Iterable[EditFrame], reach: int = REACH) -> Iterator[tuple[Sequence[EditFrame], int]]:
    """For every take, those around it and its place among them; never more than `2 * reach + 1` are held."""
    held: deque[EditFrame] = deque(maxlen=2 * reach + 1)
    at = 0
    for take in takes:
        full = len(held) == held.maxlen
        held.append(take)
        if full:
            at -= 1
        if len(held) - 1 - at >= reach:
            yield held, at
            at += 1
    for place in range(at, len(held)):
        yield held, place


class TemporalInpainter:
    """Fills frame after frame, in order.

    `missing` and `wanted` count pixels: those of the masks that no frame showed, and all of them.
    """

    def __init__(self, offsets: Sequence[int]) -> None:
        self.missing = self.wanted = 0
        self._offsets = offsets
        self._clean: Frame | None = None

    def fill(self, around: Sequence[EditFrame], at: int) -> Frame:
        """The frame with its hole filled."""
        take = around[at]
        clean = take.frame.copy()
        if take.hole.any():
            box = _box_with_margin(take.hole)
            patch = _HoleBox(take, box)
            for offset in self._offsets:
                if 0 <= at + offset < len(around):
                    patch.add_view(around[at + offset], _motion_between(around, at + offset, at))
            clean[box_slices(box)] = patch.fill_hole(self._previous_result(take, box))
            self.missing += patch.missing
            self.wanted += int(take.mask.sum())
        self._clean = clean
        return clean

    def _previous_result(self, take: EditFrame, box: PixelBox) -> Frame | None:
        """The filled frame before this one, in this one's place."""
        return None if self._clean is None else _warp_box(self._clean, take.motion, box)


def _box_with_margin(hole: Mask) -> PixelBox:
    tight = PixelBox.around(hole)
    room = _RING + 2
    return PixelBox(tight.left - room, tight.top - room, tight.right + room, tight.bottom + room).expand(0, hole.shape)


def _motion_between(around: Sequence[EditFrame], start: int, end: int) -> Motion:
    """The camera's motion from one take to another."""
    motion = STILL
    for number in range(min(start, end) + 1, max(start, end) + 1):
        motion = around[number].motion @ motion
    return motion if start < end else np.asarray(np.linalg.inv(motion), np.float64)


def _warp_box(
    picture: NDArray[np.uint8], motion: Motion, box: PixelBox, *, edge: int = cv2.BORDER_REPLICATE
) -> NDArray[np.uint8]:
    """A box of a picture after the camera's motion."""
    if np.array_equal(motion, STILL):
        return picture[box_slices(box)]
    away = np.array([[1, 0, -box.left], [0, 1, -box.top], [0, 0, 1]], np.float64)
    size = box.width, box.height
    moved = cv2.warpPerspective(picture, away @ motion, size, flags=cv2.INTER_LINEAR, borderMode=edge)
    return np.asarray(moved, np.uint8)


class _HoleBox:
    """The box around one hole while it is being filled."""

    def __init__(self, take: EditFrame, box: PixelBox) -> None:
        self.missing = 0
        self._take = take
        self._box = box
        self._seen_at: list[NDArray[np.int16]] = []
        self._frame = take.frame[box_slices(box)]
        self._hole = take.hole[box_slices(box)]
        self._mask = take.mask[box_slices(box)]
        self._hole_at = np.flatnonzero(self._hole)
        self._ring_at = np.flatnonzero(dilate_disc(self._hole, _RING) & ~self._hole)
        self._rim = _pixels_at(self._frame, self._ring_at)

    def add_view(self, other: EditFrame, motion: Motion) -> None:
        """Takes what another frame shows of the hole, unless it fits badly around it."""
        sight = np.where(other.hole, np.uint8(0), np.uint8(_KNOWN))
        known = _warp_box(sight, motion, self._box, edge=cv2.BORDER_CONSTANT) == _KNOWN
        here = known.ravel()[self._hole_at]
        if not here.any():
            return
        moved = _warp_box(other.frame, motion, self._box)
        apart = self._rim - _pixels_at(moved, self._ring_at)
        common = known.ravel()[self._ring_at]
        if common.any():
            shift = np.median(apart[common], axis=0)
            if np.abs(apart[common] - shift).mean() > _STRANGE:
                return
        else:
            shift = np.zeros(3)
        sample = _pixels_at(moved, self._hole_at) + np.clip(shift, -_MOST_SHIFT, _MOST_SHIFT).astype(np.int16)
        sample[~here] = _NONE
        self._seen_at.append(sample)

    def fill_hole(self, carried: Frame | None) -> Frame:
        """The box with its hole filled; `carried` is what the frame before had there."""
        seen, shown = self._median_of_views()
        self.missing = int((self._mask & ~seen).sum())
        if seen[self._hole].all():
            return shown
        made_up = self._match_colours(carried) if carried is not None else None
        if made_up is None:
            made_up = inpaint_patches(self._take.frame, self._take.hole)[box_slices(self._box)]
        # Where the two kinds meet, one passes into the other, or the border would show.
        trust = cv2.GaussianBlur((seen | ~self._hole).astype(np.float32), (0, 0), _SEAM)
        trust = np.where(seen | ~self._hole, np.clip(trust * 2 - 1, 0, 1), 0)
        trust[~self._hole] = 1
        return _blend(shown, made_up, trust.astype(np.float32))

    def _median_of_views(self) -> tuple[Mask, Frame]:
        """Where something was seen, and the frame with the median of it there."""
        seen, shown = np.zeros(self._hole.shape, np.bool_), self._frame.copy()
        if self._seen_at:
            stack = np.stack(self._seen_at)
            counts = (stack[..., 0] != _NONE).sum(axis=0)
            stack.sort(axis=0)
            middle = np.take_along_axis(stack, (np.maximum(counts - 1, 0) // 2)[None, :, None], axis=0)[0]
            seen[self._hole] = counts > 0
            shown[seen] = np.clip(middle[counts > 0], 0, 255).astype(np.uint8)
        return seen, shown

    def _match_colours(self, carried: Frame) -> Frame | None:
        """The carried picture in the light of this frame; None where it is of another scene."""
        if not len(self._rim):
            return carried
        apart = self._rim - _pixels_at(carried, self._ring_at)
        shift = np.median(apart, axis=0)
        if np.abs(apart).mean() > _STRANGE:
            return None
        return np.asarray(np.clip(carried + np.clip(shift, -2, 2).astype(np.int16), 0, 255), np.uint8)


def _pixels_at(picture: Frame, places: NDArray[np.intp]) -> NDArray[np.int16]:
    """The colours at some places."""
    return np.ascontiguousarray(picture).reshape(-1, 3)[places].astype(np.int16)


def _blend(one: Frame, other: Frame, share: Plane) -> Frame:
    weight = share[..., None]
    mixed = one * weight + other * (1 - weight) + np.float32(0.5)
    return np.asarray(mixed, np.uint8)
