"""What moves between two frames: the camera, and the object that a mask selects."""

from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from rotoscope.sandbox.vision.pixels import Frame, Mask, Plane

__all__ = ["STILL", "Follower", "Grey", "Motion", "grown", "halved", "shift"]

Grey: TypeAlias = NDArray[np.uint8]
"""A picture of half size without colour."""

Motion: TypeAlias = NDArray[np.float64]
"""A homography, 3 x 3: where a point of the earlier frame is in the later one, in pixels of the full frame."""

STILL: Motion = np.eye(3)

_POINTS = 300
_FEWEST = 12
_APART = 7
_LOST = 1.0
_LEAST_AGREEING = 0.4
_LONGEST = 0.25
_STEADY = 0.15
_FLOW_SIDE = 480
_HALF = 0.5
_BLUR = 1.2
_SHARPEN = 1.35
_SHADES = 16
_SHADE_BITS = 4
_UNSEEN = 0.5
_AGAINST, _FOR = 1.5, 2.5
_COLOUR_WEIGHT = 0.05
_NEAR = 4.0
_BAND = 0.47
_LEARNING = 0.02
_TRAIL = 9
_GAP = 9
_WINDOW = (15, 15)


def halved(frame: Frame) -> Grey:
    """The frame as motion is looked for in it."""
    half = max(1, frame.shape[1] // 2), max(1, frame.shape[0] // 2)
    grey = cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_RGB2GRAY)
    return np.asarray(cv2.resize(grey, half, interpolation=cv2.INTER_AREA), np.uint8)


def grown(mask: Mask, pixels: int) -> Mask:
    """The mask and everything that near to it."""
    side = 2 * pixels + 1
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    return np.asarray(cv2.dilate(mask.astype(np.uint8), disc), np.bool_)


def shift(earlier: Grey, later: Grey, avoid: Mask) -> Motion:
    """How the camera moved, judged by points outside a mask (of full size); `STILL` where that cannot be told.

    Points are tracked after Lucas and Kanade; a homography is fitted to those that agree (RANSAC, 2 pixels).
    """
    away = cv2.resize((~avoid).astype(np.uint8), earlier.shape[::-1], interpolation=cv2.INTER_NEAREST)
    points = cv2.goodFeaturesToTrack(earlier, _POINTS, 0.01, _APART, mask=away)
    if points is None or len(points) < _FEWEST:
        return STILL
    found, known, _ = cv2.calcOpticalFlowPyrLK(earlier, later, points, np.empty_like(points), winSize=_WINDOW)
    kept = known.ravel() == 1
    before, after = points[kept], found[kept]
    if len(before) < _FEWEST or np.median(np.linalg.norm(after - before, axis=-1)) < _STEADY:
        return STILL
    fitted, agreeing = cv2.findHomography(before, after, cv2.RANSAC, _LOST)
    if fitted is None or agreeing.mean() < _LEAST_AGREEING:
        return STILL
    half = np.diag([0.5, 0.5, 1.0])
    motion: Motion = np.linalg.inv(half) @ fitted @ half
    return motion / motion[2, 2] if _believable(motion, avoid.shape) else STILL


def _believable(motion: Motion, shape: tuple[int, ...]) -> bool:
    """Whether no corner of the picture goes further than a quarter of its width in one frame."""
    height, width = shape[:2]
    corners = np.array([[[0, 0]], [[width, 0]], [[0, height]], [[width, height]]], np.float64)
    far = np.linalg.norm(cv2.perspectiveTransform(corners, motion) - corners, axis=-1)
    return bool(far.max() < _LONGEST * width)


class Follower:
    """Follows a mask from the first frame through a clip.

    Dense flow (DIS) carries the mask from frame to frame. What the flow lets slip at the outline is decided by
    colour: in a band around it a pixel is drawn to the side whose colours it has. Thin trails, which flow leaves
    where ground comes into sight behind the object, are cut off.
    """

    def __init__(self, frame: Frame, mask: Mask) -> None:
        self._shape = mask.shape
        scale = min(1.0, _FLOW_SIDE / max(mask.shape))
        self._size = max(16, round(mask.shape[1] * scale)), max(16, round(mask.shape[0] * scale))
        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
        small = self._small(frame)
        self._grey = _grey(small)
        self._soft = np.asarray(
            cv2.resize(mask.astype(np.float32), self._size, interpolation=cv2.INTER_AREA), np.float32
        )
        columns, rows = np.meshgrid(np.arange(self._size[0]), np.arange(self._size[1]))
        self._x, self._y = columns.astype(np.float32), rows.astype(np.float32)
        self._within, self._beyond = (np.ones(_SHADES**3, np.float32) for _ in range(2))
        self._learn(small, 1.0)

    def step(self, frame: Frame) -> Mask:
        """Where the mask is in the next frame."""
        small = self._small(frame)
        grey = _grey(small)
        back = self._flow.calc(grey, self._grey, np.zeros((*grey.shape, 2), np.float32))
        carried = _looked_up(self._soft, self._x + back[..., 0], self._y + back[..., 1])
        self._soft, self._grey = self._decided(carried, small), grey
        self._learn(small, _LEARNING)
        large = cv2.resize(self._soft, self._shape[::-1], interpolation=cv2.INTER_CUBIC)
        return np.asarray(large > _HALF)

    def _small(self, frame: Frame) -> Frame:
        return np.asarray(cv2.resize(np.ascontiguousarray(frame), self._size, interpolation=cv2.INTER_AREA), np.uint8)

    def _decided(self, carried: Plane, small: Frame) -> Plane:
        """The carried mask, crisp again: near its outline the colours have a say, elsewhere other things have them too.

        They argue for the object more than against it: what is lost once does not come back.
        """
        belief = cv2.GaussianBlur(carried, (0, 0), _BLUR) - _HALF
        odds = np.log(self._within / self._beyond)[_shades(small)]
        colours = cv2.GaussianBlur(np.clip(odds, -_AGAINST, _FOR), (0, 0), 1.5)
        near = np.abs(cv2.GaussianBlur(carried, (0, 0), _NEAR) - _HALF) < _BAND
        crisp = np.clip(belief * _SHARPEN + colours * near * _COLOUR_WEIGHT + _HALF, 0, 1).astype(np.float32)
        trail, gap = (cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)) for side in (_TRAIL, _GAP))
        opened = cv2.morphologyEx(crisp, cv2.MORPH_OPEN, trail)
        return np.asarray(cv2.morphologyEx(opened, cv2.MORPH_CLOSE, gap), np.float32)

    def _learn(self, small: Frame, speed: float) -> None:
        """Counts the colours well inside and outside of the mask."""
        shades = _shades(small)
        sure = cv2.erode(self._soft, np.ones((5, 5), np.uint8)), cv2.erode(1 - self._soft, np.ones((5, 5), np.uint8))
        for shares, weight in zip((self._within, self._beyond), sure, strict=True):
            counts = np.bincount(shades.ravel(), weight.ravel(), _SHADES**3)
            now = (counts + _UNSEEN) / (counts.sum() + _UNSEEN * _SHADES**3)
            shares[:] = shares + np.float32(speed) * (now.astype(np.float32) - shares)


def _looked_up(plane: Plane, x: Plane, y: Plane) -> Plane:
    return np.asarray(cv2.remap(plane, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), np.float32)


def _grey(small: Frame) -> Grey:
    return np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), np.uint8)


def _shades(small: Frame) -> NDArray[np.intp]:
    """A number for the rough colour of every pixel."""
    rough = np.asarray(cv2.GaussianBlur(small, (0, 0), 1), np.intp) >> _SHADE_BITS
    return np.asarray((rough[..., 0] * _SHADES + rough[..., 1]) * _SHADES + rough[..., 2], np.intp)
