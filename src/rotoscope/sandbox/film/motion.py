"""What moves between two frames: the camera, and the object that a mask selects."""

from dataclasses import dataclass
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
_SHARPEN = 1.25
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


@dataclass(slots=True)
class _Look:
    """A frame as the follower sees it."""

    grey: Grey
    colours: Plane


class Follower:
    """Follows a mask from the first frame through a clip.

    Dense flow (DIS) carries the mask from frame to frame. What the flow makes fuzzy or lets slip at the outline is
    decided by colour: in a narrow band around it a pixel belongs to the side whose colours it has.
    """

    def __init__(self, frame: Frame, mask: Mask) -> None:
        self._shape = mask.shape
        scale = min(1.0, _FLOW_SIDE / max(mask.shape))
        self._small = max(16, round(mask.shape[1] * scale)), max(16, round(mask.shape[0] * scale))
        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
        self._last = self._seen(frame)
        soft = cv2.resize(mask.astype(np.float32), self._small, interpolation=cv2.INTER_AREA)
        self._soft: Plane = np.asarray(soft, np.float32)
        columns, rows = np.meshgrid(np.arange(self._small[0]), np.arange(self._small[1]))
        self._places = np.dstack([columns, rows]).astype(np.float32)

    def _seen(self, frame: Frame) -> _Look:
        small = cv2.resize(np.ascontiguousarray(frame), self._small, interpolation=cv2.INTER_AREA)
        return _Look(np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), np.uint8), small.astype(np.float32))

    def step(self, frame: Frame) -> Mask:
        """Where the mask is in the next frame."""
        look = self._seen(frame)
        back = self._flow.calc(look.grey, self._last.grey, np.zeros((*look.grey.shape, 2), np.float32))
        places = self._places + back
        moved = cv2.remap(self._soft, places, np.empty(0), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        self._soft = np.clip((moved - 0.5) * _SHARPEN + 0.5, 0, 1).astype(np.float32)
        self._last = look
        large = cv2.resize(self._soft, self._shape[::-1], interpolation=cv2.INTER_CUBIC)
        return np.asarray(large > 0.5)  # noqa: PLR2004 - the middle between in and out
