"""A reference picture in a masked edit: cut out of its background, then drawn where the mask is, frame by frame."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

from rotoscope_sandbox.film.temporal_inpaint import EditFrame
from rotoscope_sandbox.vision.object_net import ObjectNet
from rotoscope_sandbox.vision.pixels import Frame, Mask, PixelBox, Plane, box_slices, shrink_to_side
from rotoscope_sandbox.vision.segmentation import segment_box

__all__ = ["ReferenceCutout", "ReferenceLayer", "cut_out_reference"]

_SIDE = 1024
"""Longer side in pixels at which a reference is kept: more than any mask in a film of 1280x720 shows of it."""

_OPAQUE = 250 / 255
"""Alpha from which a pixel counts as opaque, with room for rounding."""

_TRANSPARENT_SHARE = 0.01
"""Share of transparent pixels from which an alpha channel says something; many files have one that hides nothing."""

_VISIBLE = 0.5
"""Alpha that some pixel must reach, or the picture is blank."""

_EDGE = 0.05
"""Cover below which a pixel is left out of the cropped picture: the faint rest of a soft edge."""

_TOLERANCE = 18
"""Colour steps (of 255) within which a pixel has the background's colour, with room for compression noise."""

_PLAIN_RIM = 0.9
"""Share of the picture's rim that must have one colour for a plain background; the object may touch the rest."""

_INSET = 0.03
"""Share of the picture that is left outside of the box for GrabCut, so that it sees some background."""

_TRUSTED = 0.35
"""Confidence from which an outline by GrabCut is used: below, inside and outside have about the same colour."""

_SMALLEST_SHARE, _LARGEST_SHARE = 0.04, 0.9
"""Shares of the picture between which an object is believable: dust is smaller, a failed outline larger."""

_SMOOTHING = 5
"""Frames to either side over which the position is averaged: a tracked mask's middle jitters by some pixels."""


@dataclass(frozen=True, slots=True)
class ReferenceCutout:
    """A picture without its background: colours, how much each pixel covers (0 to 1), and how that was found."""

    frame: Frame
    cover: Plane
    method: str


def cut_out_reference(frame: Frame, alpha: Plane | None, net: ObjectNet | None = None) -> ReferenceCutout:
    """The object in a reference picture, cropped to it; the whole picture where none stands out from its background.

    Args:
        frame: the picture, RGB.
        alpha: its transparency, height x width, 0 to 1; None where it has none.
        net: the object net, if there is one.
    """
    small, _ = shrink_to_side(frame, _SIDE)
    cover, method = _find_cover(small, alpha, net)
    crop = box_slices(PixelBox.around(cover > _EDGE))
    return ReferenceCutout(np.ascontiguousarray(small[crop]), np.ascontiguousarray(cover[crop]), method)


def _find_cover(frame: Frame, alpha: Plane | None, net: ObjectNet | None) -> tuple[Plane, str]:
    """How much each pixel covers, and by which method: the first that works of alpha, plain background, outline."""
    size = frame.shape[1::-1]
    if alpha is not None:
        own = np.asarray(cv2.resize(alpha, size, interpolation=cv2.INTER_AREA), np.float32)
        if (own < _OPAQUE).mean() > _TRANSPARENT_SHARE and own.max() > _VISIBLE:
            return own, "its own transparency"
    plain = _mask_off_plain_background(frame)
    if plain is not None:
        return _soft_edge(plain), "its plain ground removed"
    found = segment_box(frame, PixelBox(0, 0, *size).expand(-_INSET, frame.shape), net=net)
    if found.confidence >= _TRUSTED and found.notice is None and _is_believable(found.mask):
        return _soft_edge(found.mask), "cut out by its outline"
    return np.ones(frame.shape[:2], np.float32), "the whole picture"


def _mask_off_plain_background(frame: Frame) -> Mask | None:
    """What stands before a background of one colour that reaches the picture's edges; None where there is none."""
    rim = np.concatenate([frame[0], frame[-1], frame[:, 0], frame[:, -1]]).astype(np.int16)
    colour = np.median(rim, axis=0)
    if (np.abs(rim - colour).max(axis=1) <= _TOLERANCE).mean() < _PLAIN_RIM:
        return None
    alike = (np.abs(frame.astype(np.int16) - colour.astype(np.int16)).max(axis=2) <= _TOLERANCE).astype(np.uint8)
    # With a border of that colour around it, all of the background is one connected part, the one in the corner.
    padded = cv2.copyMakeBorder(alike, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=1)
    _, labels = cv2.connectedComponents(padded, connectivity=4)
    mask = np.asarray((labels != labels[0, 0])[1:-1, 1:-1], np.bool_)
    return mask if _is_believable(mask) else None


def _is_believable(mask: Mask) -> bool:
    return bool(_SMALLEST_SHARE < mask.mean() < _LARGEST_SHARE)


def _soft_edge(mask: Mask) -> Plane:
    """The mask with an edge of a pixel or two, drawn inward so that no background shines through."""
    inner = cv2.erode(mask.astype(np.float32), np.ones((3, 3), np.uint8))
    return np.asarray(cv2.GaussianBlur(inner, (0, 0), 1.0), np.float32)


class _MaskPosition(NamedTuple):
    """Where a mask is: its middle, and the root of its area as its size; all in pixels."""

    x: float
    y: float
    size: float


def _mask_position(mask: Mask) -> _MaskPosition | None:
    """None for an empty mask."""
    moments = cv2.moments(mask.astype(np.uint8), binaryImage=True)
    area = moments["m00"]
    return _MaskPosition(moments["m10"] / area, moments["m01"] / area, area**0.5) if area else None


class ReferenceLayer:
    """A cutout that goes with a mask through a film.

    In the first frame it fills the mask's box as far as its shape allows; then it moves with the mask's middle and
    grows with its area, both averaged over some frames.
    """

    def __init__(self, cutout: ReferenceCutout) -> None:
        self._cutout = cutout
        self._placement: tuple[float, float, float] | None = None

    def composite(self, background: Frame, window: Sequence[EditFrame], at: int) -> Frame:
        """The background with the cutout on it, not yet clipped by the mask; frames must come in order.

        Args:
            background: the frame to draw on; it is left as it is.
            window: the frames around, this one at place `at`.
            at: a place in `window`.
        """
        near = list(window)[max(0, at - _SMOOTHING) : at + _SMOOTHING + 1]
        found = [position for frame in near if (position := _mask_position(frame.mask)) is not None]
        if not found:
            return background
        position = _MaskPosition(*np.mean(found, axis=0).tolist())
        if self._placement is None:
            self._placement = self._fit_into(window[at].mask, position)
        across, down, scale = (share * position.size for share in self._placement)
        height, width = self._cutout.cover.shape
        x, y = position.x + across - scale * width / 2, position.y + down - scale * height / 2
        return self._draw(background, scale, x, y)

    def _fit_into(self, mask: Mask, position: _MaskPosition) -> tuple[float, float, float]:
        """Offset from the mask's middle and scale, all as shares of the mask's size."""
        box = PixelBox.around(mask) if mask.any() else PixelBox(0, 0, *mask.shape[1::-1])
        height, width = self._cutout.cover.shape
        middle_x, middle_y = (box.left + box.right) / 2, (box.top + box.bottom) / 2
        scale = min(box.width / width, box.height / height)
        return tuple(np.divide((middle_x - position.x, middle_y - position.y, scale), position.size).tolist())

    def _draw(self, background: Frame, scale: float, x: float, y: float) -> Frame:
        """The cutout, scaled, with its upper left corner at (x, y) in pixels."""
        # Averaged down first: a picture that is shrunk much by warping alone shows aliasing.
        near = min(1.0, scale * 1.5)
        cover = cv2.resize(self._cutout.cover, None, fx=near, fy=near, interpolation=cv2.INTER_AREA)
        size = cover.shape[::-1]
        ink = cv2.resize(self._cutout.frame, size, interpolation=cv2.INTER_AREA) * cover[..., None]
        step = scale * self._cutout.cover.shape[1] / size[0]
        way = np.array([[step, 0, x], [0, step, y]], np.float64)
        full_cover, full_ink = (cv2.warpAffine(one, way, background.shape[1::-1]) for one in (cover, ink))
        return np.asarray(np.clip(background * (1 - full_cover[..., None]) + full_ink, 0, 255), np.uint8)
