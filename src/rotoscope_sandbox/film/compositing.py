"""A reference picture in an edit: cut out, and laid where the mask is."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from rotoscope_sandbox.film.temporal_inpaint import EditFrame
from rotoscope_sandbox.vision.pixels import Frame, Mask, PixelBox, Plane, box_slices, shrink_to_side
from rotoscope_sandbox.vision.segmentation import segment_box

__all__ = ["ReferenceCutout", "ReferenceLayer", "cut_out_reference"]

_SIDE = 1024
_OPAQUE = 250
_TRANSPARENT_SHARE = 0.01
_TOLERANCE = 18
_PLAIN_RIM = 0.9
_INSET = 0.03
_TRUSTED = 0.35
_SOME, _MOST = 0.04, 0.9
_SEARCH_SIDE = 96
_SCALES = np.geomspace(0.45, 1.15, 9)
_CLIPPED_WEIGHT = 1.6
_CALM = 5
_LIGHT = 0.3
_DIMMEST, _BRIGHTEST = 0.65, 1.25


@dataclass(frozen=True, slots=True)
class ReferenceCutout:
    """A picture without its ground: colours, how much each pixel covers (0 to 1), and how that was found."""

    frame: Frame
    cover: Plane
    method: str


def cut_out_reference(pixels: Frame, alpha: Mask | Plane | None) -> ReferenceCutout:
    """What is to be seen of a reference: by its own transparency, its plain ground, or an outline; else all of it."""
    frame, _ = shrink_to_side(pixels, _SIDE)
    cover, method = _find_cover(frame, alpha)
    box = PixelBox.around(cover > 0.05)  # noqa: PLR2004 - the faint rest of an edge is not worth room
    return ReferenceCutout(
        np.ascontiguousarray(frame[box_slices(box)]), np.ascontiguousarray(cover[box_slices(box)]), method
    )


def _find_cover(frame: Frame, alpha: Mask | Plane | None) -> tuple[Plane, str]:
    size = frame.shape[1::-1]
    if alpha is not None:
        own = np.asarray(cv2.resize(alpha.astype(np.float32), size, interpolation=cv2.INTER_AREA), np.float32)
        if (own < _OPAQUE / 255).mean() > _TRANSPARENT_SHARE and own.max() > 0.5:  # noqa: PLR2004 - something is visible
            return own, "its own transparency"
    plain = _off_plain_ground(frame)
    if plain is not None:
        return _soft_edge(plain), "its plain ground removed"
    whole = PixelBox(0, 0, *size)
    inner = whole.expand(-_INSET, frame.shape)
    found = segment_box(frame, inner)
    if found.confidence >= _TRUSTED and found.notice is None and _SOME < found.mask.mean() < _MOST:
        return _soft_edge(found.mask), "cut out by its outline"
    return np.ones(frame.shape[:2], np.float32), "the whole picture"


def _off_plain_ground(frame: Frame) -> Mask | None:
    """What stands before a ground of one colour that reaches the picture's edges; None where there is none."""
    rim = np.concatenate([frame[0], frame[-1], frame[:, 0], frame[:, -1]]).astype(np.int16)
    middle = np.median(rim, axis=0)
    if (np.abs(rim - middle).max(axis=1) <= _TOLERANCE).mean() < _PLAIN_RIM:
        return None
    like = (np.abs(frame.astype(np.int16) - middle.astype(np.int16)).max(axis=2) <= _TOLERANCE).astype(np.uint8)
    padded = cv2.copyMakeBorder(like, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=1)
    _, labels = cv2.connectedComponents(padded, connectivity=4)
    object_ = (labels != labels[0, 0])[1:-1, 1:-1]
    return np.asarray(object_, np.bool_) if _SOME < object_.mean() < _MOST else None


def _soft_edge(mask: Mask) -> Plane:
    """An edge of a pixel or two, drawn inward so that no ground shines through."""
    inner = cv2.erode(mask.astype(np.float32), np.ones((3, 3), np.uint8))
    return np.asarray(cv2.GaussianBlur(inner, (0, 0), 1.0), np.float32)


@dataclass(frozen=True, slots=True)
class _MaskPosition:
    """Where a mask is: its middle and the root of its area, in pixels."""

    x: float
    y: float
    size: float

    @classmethod
    def of(cls, mask: Mask) -> "_MaskPosition | None":
        moments = cv2.moments(mask.astype(np.uint8), binaryImage=True)
        if not moments["m00"]:
            return None
        return cls(moments["m10"] / moments["m00"], moments["m01"] / moments["m00"], moments["m00"] ** 0.5)


class ReferenceLayer:
    """A cutting that goes with a mask through a film.

    In the first frame a place and a size are sought where much of it is seen and little is clipped by the mask;
    from there on it moves with the mask's middle and grows with its area, calmly: both are means over the frames
    around.
    """

    def __init__(self, cutting: ReferenceCutout) -> None:
        self._cutting = cutting
        self._light: float | None = None
        self._place: tuple[float, float, float] | None = None
        self._last: _MaskPosition | None = None
        self._sizes: deque[float] = deque(maxlen=4 * _CALM)

    def lay(self, ground: Frame, around: Sequence[EditFrame], at: int) -> Frame:
        """The ground with the cutting on it; the mask has yet to clip it."""
        stand = self._mask_position(around, at)
        if stand is None:
            return ground
        if self._place is None:
            self._place = self._find_place(around[at].mask, stand)
            self._light = self._light_factor(ground, around[at].mask)
        across, down, scale = self._place
        scale *= stand.size
        height, width = self._cutting.cover.shape
        x, y = stand.x + across * stand.size - scale * width / 2, stand.y + down * stand.size - scale * height / 2
        return self._draw(ground, scale, x, y)

    def _mask_position(self, around: Sequence[EditFrame], at: int) -> _MaskPosition | None:
        near = [_MaskPosition.of(take.mask) for take in list(around)[max(0, at - _CALM) : at + _CALM + 1]]
        found = [stand for stand in near if stand is not None]
        if not found:
            return self._last
        self._sizes.append(float(np.mean([stand.size for stand in found])))
        x, y = float(np.mean([stand.x for stand in found])), float(np.mean([stand.y for stand in found]))
        self._last = _MaskPosition(x, y, float(np.mean(self._sizes)))
        return self._last

    def _find_place(self, mask: Mask, stand: _MaskPosition) -> tuple[float, float, float]:
        """Offset of the middle and scale, all relative to the mask's size."""
        box = PixelBox.around(mask) if mask.any() else PixelBox(0, 0, *mask.shape[1::-1])
        factor = _SEARCH_SIDE / max(box.width, box.height)
        small = cv2.resize(
            mask[box_slices(box)].astype(np.float32), None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA
        )
        around = cv2.copyMakeBorder(small, *(_SEARCH_SIDE // 4,) * 4, cv2.BORDER_CONSTANT, value=0)
        height, width = self._cutting.cover.shape
        contained = min(small.shape[1] / width, small.shape[0] / height)
        best = max(
            (self._try_scale(np.asarray(around, np.float32), contained * scale) for scale in _SCALES),
            key=lambda one: one[0],
        )
        _, scale, x, y = best
        pad = _SEARCH_SIDE // 4
        middle = box.left + (x - pad) / factor, box.top + (y - pad) / factor
        return (middle[0] - stand.x) / stand.size, (middle[1] - stand.y) / stand.size, scale / factor / stand.size

    def _try_scale(self, room: Plane, scale: float) -> tuple[float, float, float, float]:
        """How good the best place at a scale is, the scale, and the middle of that place."""
        shape = cv2.resize(self._cutting.cover, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        if shape.shape[0] > room.shape[0] or shape.shape[1] > room.shape[1]:
            return -np.inf, scale, 0.0, 0.0
        seen = cv2.matchTemplate(room, shape, cv2.TM_CCORR)
        _, most, _, (left, top) = cv2.minMaxLoc(seen)
        total = float(shape.sum())
        return most - _CLIPPED_WEIGHT * (total - most), scale, left + shape.shape[1] / 2, top + shape.shape[0] / 2

    def _light_factor(self, ground: Frame, mask: Mask) -> float:
        """How much darker or brighter the cutting is made, to sit in the light of the scene."""
        scene = float(ground[mask].mean()) if mask.any() else float(ground.mean())
        own = float(np.average(self._cutting.frame.mean(axis=2), weights=self._cutting.cover))
        wanted = float((max(scene, 1.0) / max(own, 1.0)) ** _LIGHT)
        return min(max(wanted, _DIMMEST), _BRIGHTEST)

    def _draw(self, ground: Frame, scale: float, x: float, y: float) -> Frame:
        size = ground.shape[1::-1]
        # Averages first: a picture that is shrunk much by warping alone would sparkle.
        near = min(1.0, scale * 1.5)
        cover = cv2.resize(self._cutting.cover, None, fx=near, fy=near, interpolation=cv2.INTER_AREA)
        lit = self._cutting.frame.astype(np.float32) * np.float32(self._light or 1)
        ink = cv2.resize(lit, cover.shape[::-1], interpolation=cv2.INTER_AREA) * cover[..., None]
        step = scale * self._cutting.cover.shape[1] / cover.shape[1]
        way = np.array([[step, 0, x], [0, step, y]], np.float64)
        covers = np.asarray(cv2.warpAffine(cover, way, size), np.float32)[..., None]
        inks = cv2.warpAffine(ink, way, size)
        return np.asarray(np.clip(ground * (1 - covers) + inks, 0, 255), np.uint8)
