"""What flow says of an object: whether a pixel moves as the object does, or as what is around it.

Both motions are fitted as affine ones. Where they are the same, as those of an object at rest, nothing is said.
Thresholds in pixels count at the working size of `frame_flow`.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from rotoscope_sandbox.vision.pixels import Mask, PixelBox, Plane, box_slices

__all__ = ["weigh_motion"]

_HALF = 0.5

_SURROUNDINGS = 0.8
"""Share of the object's box, on every side of it, that is taken for its surroundings."""

_OUTLINE = 5
"""Diameter in pixels of the band along the outline from which no motion is fitted: flow is mixed there."""

_STEP = 3
"""Every so many pixels across and down one is taken for a fit."""

_LEAST_PIXELS = 24
"""Pixels from which a motion is fitted."""

_ROUNDS = 4
"""Of fitting, each with less weight for what did not fit."""

_RIDGE = 1e-3
"""How much a motion that is not the same everywhere has to explain."""

_NOISE, _NOISE_SHARE = 0.7, 0.08
"""What flow is wrong by, in pixels and more as a share of the motion."""

_BLUR = 2.0
"""Sigma in pixels by which the odds are smoothed."""

_MOST_ODDS = 2.0
"""Bound of the log odds."""


def weigh_motion(back: Plane, carried: Plane) -> Plane:
    """For each pixel the log odds that it moves with the object; 0 where nothing can be said.

    Args:
        back: from each pixel to where it was, height x width x 2, in pixels.
        carried: how probably each pixel is the object, 0 to 1.
    """
    odds = np.zeros(carried.shape, np.float32)
    held = carried > _HALF
    if not held.any():
        return odds
    within = box_slices(PixelBox.around(held).expand(_SURROUNDINGS, held.shape))
    near, inside = back[within], held[within].astype(np.uint8)
    band = np.ones((_OUTLINE, _OUTLINE), np.uint8)
    with_object = _find_misfit(near, np.asarray(cv2.erode(inside, band) > 0))
    with_others = _find_misfit(near, np.asarray(cv2.dilate(inside, band) == 0))
    if with_object is None or with_others is None:
        return odds
    noise = (_NOISE + _NOISE_SHARE * np.linalg.norm(near, axis=2)) ** 2
    ratio = np.log((with_others + noise) / (with_object + noise)).astype(np.float32)
    odds[within] = np.clip(cv2.GaussianBlur(ratio, (0, 0), _BLUR), -_MOST_ODDS, _MOST_ODDS)
    return odds


def _find_misfit(back: Plane, where: Mask) -> Plane | None:
    """By how many pixels, squared, each pixel's motion differs from the affine one of some; None for too few."""
    height, width = where.shape
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    places = np.stack([columns / width - _HALF, rows / height - _HALF, np.ones_like(rows)], axis=2)
    some = np.zeros_like(where)
    some[::_STEP, ::_STEP] = where[::_STEP, ::_STEP]
    if np.count_nonzero(some) < _LEAST_PIXELS:
        return None
    motion = _fit_motion(places[some], back[some])
    return np.asarray(((places @ motion - back) ** 2).sum(axis=2), np.float32)


def _fit_motion(places: Plane, moved: Plane) -> NDArray[np.float32]:
    """The affine motion of most of the pixels: rows of x, y and 1, and how far each went."""
    weights, ridge = np.ones(len(places), np.float32), _RIDGE * len(places) * np.diag([1.0, 1.0, 1e-6])
    motion = np.zeros((places.shape[1], moved.shape[1]), np.float32)
    for _ in range(_ROUNDS):
        weighted = places * weights[:, None]
        motion = np.linalg.solve(weighted.T @ places + ridge, weighted.T @ moved).astype(np.float32)
        misfit = ((places @ motion - moved) ** 2).sum(axis=1)
        weights = 1 / (1 + misfit / max(float(np.median(misfit)), _NOISE**2))
    return motion
