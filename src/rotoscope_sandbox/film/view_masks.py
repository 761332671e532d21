"""The object's mask in a view: from what the memory says of each cell, and from the mask that flow carries.

What speaks for a pixel is added up in log odds. Figures were found by trial, as those of `feature_tracking`.
"""

import cv2
import numpy as np

from rotoscope_sandbox.film.object_features import VIEW_SIDE, CropView
from rotoscope_sandbox.vision.net_masks import overlap
from rotoscope_sandbox.vision.pixels import Frame, Mask, Plane

__all__ = ["draw_mask", "find_like_part"]

_HALF = 0.5
_SIZE = VIEW_SIDE, VIEW_SIDE

_SCORE_WEIGHT, _MOST_SCORE = 2.8, 1.5
"""Log odds for a score of 1, and the score that counts at most."""

_CARRIED_WEIGHT, _CARRIED_BLUR = 0.9, 2.0
"""Of the carried mask: its weight, and its blur in pixels of the view."""

_MOTION_WEIGHT = 0.3
"""Of the motion."""

_LEAST_DOUBT = 0.02
"""The least probability that a pixel is not what a mask says of it."""

_REACH, _DISTANCE_COST = 0.09, 40.0
"""How far from the carried mask a pixel may be without a cost, as a share of the view; the cost of a whole view."""

_SALIENT_OVERLAP, _SALIENT_WEIGHT = 0.5, 0.5
"""Overlap of the most salient object with the carried mask from which it counts, and its weight if it is the same."""

_EDGE_RADIUS, _EDGE_CONTRAST = 4, 2e-3
"""Of the guided filter that brings the outline to the picture's edges: pixels of the view, and squared brightness."""

_MOST_ODDS = 30.0
"""Bound of the sum: more is the same probability in 32 bits."""

_FOUND_SCORE, _FOUND_BLUR = 0.1, 2.0
"""Score above which a pixel may be the object, and the sum of all scores of a part, as a share of the usual area, from
which the part is the object; the blur before that, in pixels of the view.
"""

_LEAST_FOUND, _MOST_FOUND = 0.15, 4.0
"""Area of such a part, as a share of the usual area."""


def draw_mask(view: CropView, scores: Plane, carried: Plane, trust: Plane, motion: Plane) -> Plane:
    """How probably each pixel of the view is the object, 0 to 1.

    Args:
        view: what is seen.
        scores: of the grid's cells, about 1 for the object and -1 for what is around it.
        carried: the mask that flow carries here, 0 to 1.
        trust: how far that is to be believed, 0 to 1.
        motion: the log odds of each pixel's motion.
    """
    fine = cv2.resize(scores, _SIZE, interpolation=cv2.INTER_CUBIC)
    blurred = np.asarray(cv2.GaussianBlur(carried, (0, 0), _CARRIED_BLUR), np.float32)
    odds = _SCORE_WEIGHT * np.clip(fine, -_MOST_SCORE, _MOST_SCORE) + _MOTION_WEIGHT * motion
    odds += _CARRIED_WEIGHT * trust * _log_odds(blurred)
    if (held := carried > _HALF).any():
        odds += _weigh_place(held) + _weigh_salience(view.salient, held)
    probable = 1 / (1 + np.exp(-np.clip(odds, -_MOST_ODDS, _MOST_ODDS)))
    return _draw_to_edges(view.picture, np.asarray(probable, np.float32))


def find_like_part(scores: Plane, usual: float) -> Plane | None:
    """The part of a view that is most like the object, as a mask of 0 and 1; None where nothing is.

    Args:
        scores: of the grid's cells.
        usual: the object's usual area, as a share of the view's.
    """
    fine = cv2.GaussianBlur(cv2.resize(scores, _SIZE, interpolation=cv2.INTER_LINEAR), (0, 0), _FOUND_BLUR)
    count, labels, facts, _ = cv2.connectedComponentsWithStats((fine > _FOUND_SCORE).astype(np.uint8))
    unit = 1 / (VIEW_SIDE**2 * usual)
    fitting = [n for n in range(1, count) if _LEAST_FOUND < facts[n, cv2.CC_STAT_AREA] * unit < _MOST_FOUND]
    totals = {n: float(fine[labels == n].sum()) * unit for n in fitting}
    best = max(totals, key=lambda n: totals[n], default=0)
    return (labels == best).astype(np.float32) if best and totals[best] >= _FOUND_SCORE else None


def _weigh_place(held: Mask) -> Plane:
    """What being far from the carried mask costs."""
    distance = np.asarray(cv2.distanceTransform((~held).astype(np.uint8), cv2.DIST_L2, 3), np.float32) / VIEW_SIDE
    return -np.float32(_DISTANCE_COST) * np.maximum(0, distance - np.float32(_REACH))


def _weigh_salience(salient: Plane, held: Mask) -> Plane:
    """What the most salient object says, as far as it is the carried one."""
    agreement = overlap(salient > _HALF, held)
    share = max(0.0, (agreement - _SALIENT_OVERLAP) / (1 - _SALIENT_OVERLAP))
    return np.float32(_SALIENT_WEIGHT * share) * _log_odds(salient)


def _log_odds(probable: Plane) -> Plane:
    bounded = np.clip(probable, _LEAST_DOUBT, 1 - _LEAST_DOUBT)
    return np.asarray(np.log(bounded / (1 - bounded)), np.float32)


def _draw_to_edges(picture: Frame, soft: Plane) -> Plane:
    """The guided filter (He et al., "Guided Image Filtering", 2010) by the picture's brightness."""
    guide = np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), np.float32) / np.float32(255)
    bright, held = _mean_around(guide), _mean_around(soft)
    spread = _mean_around(guide * guide) - bright * bright + np.float32(_EDGE_CONTRAST)
    slope = np.asarray((_mean_around(guide * soft) - bright * held) / spread, np.float32)
    return np.clip(_mean_around(slope) * guide + _mean_around(held - slope * bright), 0, 1)


def _mean_around(plane: Plane) -> Plane:
    side = 2 * _EDGE_RADIUS + 1
    return np.asarray(cv2.blur(plane, (side, side)), np.float32)
