"""What looks like the object and is not: the other of two cats, which no rule over one crop's features tells apart.

What was beside the object and scored as if it were the object scores too high by so much. Flow carries that excess with
what it was seen on, so that it still counts when the two touch and the mask's own place says little. Figures were found
by trial, as those of `feature_tracking`.
"""

import cv2
import numpy as np

from rotoscope_sandbox.film.frame_flow import FlowStep
from rotoscope_sandbox.film.object_features import GRID_SIDE, VIEW_SIDE, CropView
from rotoscope_sandbox.vision.pixels import Plane

__all__ = ["LookAlikes"]

_HALF = 0.5

_USUAL_SCORE = -0.3
"""What is around the object may score so high, of -1 for right: above it, it looks like the object."""

_WEIGHT = 0.6
"""Share of the excess that is taken off: a part of the object that the mask has missed has one as well."""

_LEARNING_RATE = 0.3
"""Share of each new frame: one that is wrong is forgotten after a few."""


class LookAlikes:
    """By how much each place scores too high; nowhere at first.

    Args:
        shape: of the working plane, height and width.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._excess = np.zeros(shape, np.float32)

    def advance(self, step: FlowStep) -> None:
        """Go on to the next frame."""
        self._excess = step.carry(self._excess)

    def forget(self) -> None:
        """Where the mask was lost, what was beside it may have been the object."""
        self._excess = np.zeros_like(self._excess)

    def correct(self, view: CropView, scores: Plane) -> Plane:
        """The scores of a view's grid without what they are too high by."""
        return scores - np.float32(_WEIGHT) * _shrink(view.window.cut(self._excess))

    def learn(self, view: CropView, scores: Plane, soft: Plane) -> None:
        """Take for right what is found in a view.

        Args:
            view: what is seen.
            scores: of the grid's cells, not corrected.
            soft: how probably each pixel of the view is the object, 0 to 1.
        """
        fine = cv2.resize(scores, (VIEW_SIDE, VIEW_SIDE), interpolation=cv2.INTER_LINEAR)
        latest = np.where(soft > _HALF, 0, np.maximum(0, fine - np.float32(_USUAL_SCORE)))
        before = view.window.cut(self._excess)
        known = before + np.float32(_LEARNING_RATE) * (latest.astype(np.float32) - before)
        self._excess = view.window.paste(known, self._excess.shape)


def _shrink(plane: Plane) -> Plane:
    return np.asarray(cv2.resize(plane, (GRID_SIDE, GRID_SIDE), interpolation=cv2.INTER_AREA), np.float32)
