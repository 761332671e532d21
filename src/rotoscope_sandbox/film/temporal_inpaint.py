"""Filling a hole in a film with what other frames show behind it.

For every frame: the frames around it are warped into its place by the camera's motion, each pixel of the hole takes
the median of those that see it, and colours are shifted so that they meet what is around the hole. What no frame
shows is inpainted once and then carried along from frame to frame, so that it neither flickers nor swims.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from rotoscope_sandbox.film.camera_motion import STILL, Motion
from rotoscope_sandbox.vision.pixels import Frame, Mask, PixelBox, box_slices, dilate_disc

__all__ = ["REACH", "EditFrame", "TemporalInpainter", "sliding_windows"]

REACH = 22
"""Frames that are held on either side of the one being filled: the largest offset of any speed mode."""

_RIM = 7
"""Pixels around a mask that are filled too: object and shadow end softly, and a fill must not start from them."""

_RING = 10
"""Pixels around the hole over which the colours of two frames are compared."""

_UNSEEN = 32_767
"""Marks a sample that a frame does not show; sorts behind every colour."""

_VISIBLE = 255
_MOST_DIFFERENCE = 40.0
"""Mean difference around the hole (colour steps of 255) from which a frame shows another scene, after a cut."""

_MOST_SHIFT = 40.0
"""Largest brightness shift between two frames (colour steps of 255) that is corrected: exposure, no change of scene."""

_MOST_CARRIED_SHIFT = 2
"""The same from one frame to the next, in colour steps: small, because errors add up over a film."""

_SEAM = 4.0
"""Sigma in pixels of the transition between what was seen and what was inpainted."""

_INPAINT_SIDE = 224
"""Longer side in pixels at which holes are inpainted: the result is smooth, so that more pixels only take more time."""

_INPAINT_RADIUS = 4.0
"""Pixels around each point (at that size) whose colours Telea's method continues into the hole."""


@dataclass(slots=True)
class EditFrame:
    """One frame of an edit: RGB, its mask, and how the camera moved since the frame before."""

    frame: Frame
    mask: Mask
    motion: Motion
    hole: Mask = field(init=False)
    """The mask and a rim around it: what is filled."""

    def __post_init__(self) -> None:
        self.hole = dilate_disc(self.mask, _RIM)


def sliding_windows(frames: Iterable[EditFrame], reach: int = REACH) -> Iterator[tuple[Sequence[EditFrame], int]]:
    """For every frame, those around it and its place among them; never more than `2 * reach + 1` are held."""
    held: deque[EditFrame] = deque(maxlen=2 * reach + 1)
    at = 0
    for frame in frames:
        full = len(held) == held.maxlen
        held.append(frame)
        if full:
            at -= 1
        if len(held) - 1 - at >= reach:
            yield held, at
            at += 1
    for place in range(at, len(held)):
        yield held, place


class TemporalInpainter:
    """Fills frame after frame, in order.

    Args:
        offsets: which frames are looked at, as offsets from the one being filled.

    Attributes:
        missing: pixels of the masks so far that no frame showed.
        wanted: pixels of the masks so far.
    """

    def __init__(self, offsets: Sequence[int]) -> None:
        self.missing = self.wanted = 0
        self._offsets = offsets
        self._previous: Frame | None = None

    def fill_frame(self, window: Sequence[EditFrame], at: int) -> Frame:
        """The frame at place `at` of a window, with its hole filled."""
        edit_frame = window[at]
        result = edit_frame.frame.copy()
        if edit_frame.hole.any():
            box = PixelBox.around(edit_frame.hole).pad(_RING + 2, edit_frame.hole.shape)
            hole = _Hole(edit_frame, box)
            for offset in self._offsets:
                if 0 <= at + offset < len(window):
                    hole.add_view(window[at + offset], _motion_between(window, at + offset, at))
            previous = None if self._previous is None else _warp_box(self._previous, edit_frame.motion, box)
            result[box_slices(box)] = hole.fill(previous)
            self.missing += hole.missing
            self.wanted += int(edit_frame.mask.sum())
        self._previous = result
        return result


def _motion_between(window: Sequence[EditFrame], start: int, end: int) -> Motion:
    """The camera's motion from one frame of a window to another, forward or backward."""
    motion = STILL
    for number in range(min(start, end) + 1, max(start, end) + 1):
        motion = window[number].motion @ motion
    return motion if start < end else np.asarray(np.linalg.inv(motion), np.float64)


def _warp_box(
    picture: NDArray[np.uint8], motion: Motion, box: PixelBox, *, edge: int = cv2.BORDER_REPLICATE
) -> NDArray[np.uint8]:
    """A box of a picture after the camera's motion."""
    if np.array_equal(motion, STILL):
        return picture[box_slices(box)]
    to_box = np.array([[1, 0, -box.left], [0, 1, -box.top], [0, 0, 1]], np.float64)
    size = box.width, box.height
    warped = cv2.warpPerspective(picture, to_box @ motion, size, flags=cv2.INTER_LINEAR, borderMode=edge)
    return np.asarray(warped, np.uint8)


class _Hole:
    """The box around one hole while it is being filled."""

    def __init__(self, edit_frame: EditFrame, box: PixelBox) -> None:
        self.missing = 0
        self._edit_frame = edit_frame
        self._box = box
        self._samples: list[NDArray[np.int16]] = []
        self._pixels = edit_frame.frame[box_slices(box)]
        self._hole = edit_frame.hole[box_slices(box)]
        self._mask = edit_frame.mask[box_slices(box)]
        self._hole_at = np.flatnonzero(self._hole)
        self._ring_at = np.flatnonzero(dilate_disc(self._hole, _RING) & ~self._hole)
        self._ring = _pixels_at(self._pixels, self._ring_at)

    def add_view(self, other: EditFrame, motion: Motion) -> None:
        """Take what another frame shows of the hole, unless it fits badly around it."""
        visible = np.where(other.hole, np.uint8(0), np.uint8(_VISIBLE))
        # Only what is wholly visible counts: warping mixes the object's rim into the pixels beside it.
        known = _warp_box(visible, motion, self._box, edge=cv2.BORDER_CONSTANT) == _VISIBLE
        here = known.ravel()[self._hole_at]
        if not here.any():
            return
        shifted = self._match_brightness(_warp_box(other.frame, motion, self._box), known, _MOST_SHIFT)
        if shifted is not None:
            sample = _pixels_at(shifted, self._hole_at)
            sample[~here] = _UNSEEN
            self._samples.append(sample)

    def fill(self, previous: Frame | None) -> Frame:
        """The box with its hole filled; `previous` is what the filled frame before shows there, warped into place."""
        seen, result = self._median_of_views()
        self.missing = int((self._mask & ~seen).sum())
        if seen[self._hole].all():
            return result
        carried = None
        if previous is not None:
            carried = self._match_brightness(previous, np.ones_like(seen), _MOST_CARRIED_SHIFT)
        if carried is None:
            invented = _inpaint(self._edit_frame.frame, self._edit_frame.hole)[box_slices(self._box)]
        else:
            invented = np.clip(carried, 0, 255).astype(np.uint8)
        # Where the two kinds meet, one passes into the other, or the border would show.
        known = seen | ~self._hole
        soft = cv2.GaussianBlur(known.astype(np.float32), (0, 0), _SEAM)
        share = np.where(known, np.clip(soft * 2 - 1, 0, 1), 0).astype(np.float32)
        share[~self._hole] = 1
        mixed = result * share[..., None] + invented * (1 - share[..., None])
        return np.asarray(mixed + np.float32(0.5), np.uint8)

    def _median_of_views(self) -> tuple[Mask, Frame]:
        """Where something was seen, and the frame with the median of it there."""
        seen, result = np.zeros(self._hole.shape, np.bool_), self._pixels.copy()
        if self._samples:
            stack = np.stack(self._samples)
            counts = (stack[..., 0] != _UNSEEN).sum(axis=0)
            stack.sort(axis=0)
            middle = np.take_along_axis(stack, (np.maximum(counts - 1, 0) // 2)[None, :, None], axis=0)[0]
            seen[self._hole] = counts > 0
            result[seen] = np.clip(middle[counts > 0], 0, 255).astype(np.uint8)
        return seen, result

    def _match_brightness(self, warped: Frame, known: Mask, most: float) -> NDArray[np.int16] | None:
        """Another frame's box, shifted so that it meets this one around the hole; None where it is of another scene.

        Args:
            warped: the box of the other frame, in this one's place.
            known: which of its pixels count.
            most: largest shift, in colour steps.
        """
        around = known.ravel()[self._ring_at]
        shift = np.zeros(3)
        if around.any():
            difference = (self._ring - _pixels_at(warped, self._ring_at))[around]
            shift = np.median(difference, axis=0)
            if np.abs(difference - shift).mean() > _MOST_DIFFERENCE:
                return None
        return warped.astype(np.int16) + np.clip(shift, -most, most).astype(np.int16)


def _pixels_at(picture: NDArray[Any], places: NDArray[np.intp]) -> NDArray[np.int16]:
    """The colours at some places, which are indices into the flattened picture."""
    return np.ascontiguousarray(picture).reshape(-1, 3)[places].astype(np.int16)


def _inpaint(frame: Frame, hole: Mask) -> Frame:
    """The frame with its hole filled smoothly from around it (Telea); where all is hole, its own blur."""
    if hole.all():
        return np.asarray(cv2.GaussianBlur(frame, (0, 0), max(hole.shape) / 8), np.uint8)
    scale = min(1.0, _INPAINT_SIDE / max(hole.shape))
    size = max(1, round(hole.shape[1] * scale)), max(1, round(hole.shape[0] * scale))
    small = np.asarray(cv2.resize(np.ascontiguousarray(frame), size, interpolation=cv2.INTER_AREA), np.uint8)
    gap = cv2.resize(hole.astype(np.float32), size, interpolation=cv2.INTER_AREA) > 0
    smooth = cv2.inpaint(small, gap.astype(np.uint8), _INPAINT_RADIUS, cv2.INPAINT_TELEA)
    result = frame.copy()
    result[hole] = cv2.resize(smooth, hole.shape[::-1], interpolation=cv2.INTER_CUBIC)[hole]
    return result
