"""How the camera moves between two frames."""

from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from rotoscope_sandbox.vision.pixels import Frame, Mask

__all__ = ["STILL", "Motion", "estimate_motion"]

Motion: TypeAlias = NDArray[np.float64]
"""A homography, 3 x 3: where a point of the earlier frame is in the later one, in pixels."""

STILL: Motion = np.eye(3)

_POINTS = 300
"""Corners that are tracked at most."""

_FEWEST = 12
"""Corners that a homography (8 unknowns, 4 points) is trusted from."""

_CORNER_QUALITY = 0.01
"""A corner counts from this share of the strongest one's strength."""

_SPACING = 7
"""Pixels between two corners, at half size: they should cover the picture, not crowd on one object."""

_TOLERANCE = 1.0
"""Pixels (at half size) by which a point may miss the homography and still agree with it."""

_LEAST_AGREEING = 0.4
"""Share of the points that must agree: with fewer, no motion dominates the picture."""

_MOST_WAY = 0.25
"""Way of the picture's corners from which a motion is a mistake, as a share of its width: no camera pans so fast."""

_NOISE = 0.15
"""Median way of the points, in pixels, below which the camera stands still and noise is all that moves."""

_WINDOW = (15, 15)
"""Pixels around a point that Lucas-Kanade compares."""


def estimate_motion(earlier_frame: Frame, later_frame: Frame, avoid: Mask) -> Motion:
    """How the camera moved between two frames of one size, judged by points outside a mask, at half that size.

    Points are tracked after Lucas and Kanade; a homography is fitted to those that agree (RANSAC). `STILL` where the
    motion cannot be determined.
    """
    earlier, later = _shrink_to_half(earlier_frame), _shrink_to_half(later_frame)
    allowed = cv2.resize((~avoid).astype(np.uint8), earlier.shape[::-1], interpolation=cv2.INTER_NEAREST)
    points = cv2.goodFeaturesToTrack(earlier, _POINTS, _CORNER_QUALITY, _SPACING, mask=allowed)
    if points is None or len(points) < _FEWEST:
        return STILL
    found, known, _ = cv2.calcOpticalFlowPyrLK(earlier, later, points, np.empty_like(points), winSize=_WINDOW)
    tracked = known.ravel() == 1
    before, after = points[tracked], found[tracked]
    if len(before) < _FEWEST or np.median(np.linalg.norm(after - before, axis=-1)) < _NOISE:
        return STILL
    homography, agreeing = cv2.findHomography(before, after, cv2.RANSAC, _TOLERANCE)
    if homography is None or agreeing.mean() < _LEAST_AGREEING:
        return STILL
    # From points at half size to points at full size.
    half = np.diag([0.5, 0.5, 1.0])
    motion: Motion = np.asarray(np.linalg.inv(half) @ (homography / homography[2, 2]) @ half, np.float64)
    return motion if _is_plausible(motion, earlier_frame.shape) else STILL


def _shrink_to_half(frame: Frame) -> NDArray[np.uint8]:
    """Half the width and height, grey."""
    half = max(1, frame.shape[1] // 2), max(1, frame.shape[0] // 2)
    grey = cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_RGB2GRAY)
    return np.asarray(cv2.resize(grey, half, interpolation=cv2.INTER_AREA), np.uint8)


def _is_plausible(motion: Motion, shape: tuple[int, ...]) -> bool:
    """Whether no corner of the picture goes further than a camera can turn in one frame."""
    height, width = shape[:2]
    corners = np.array([[[0, 0]], [[width, 0]], [[0, height]], [[width, height]]], np.float64)
    way = np.linalg.norm(cv2.perspectiveTransform(corners, motion) - corners, axis=-1)
    return bool(way.max() < _MOST_WAY * width)
