"""What tells an object from its surroundings: a linear rule over features, learnt from its masks so far.

It is ridge regression: of the features' products and of their products with the mask, running means are kept, so that
neither memory nor time grows with the clip. Half of what counts is always the first frame, whose mask was given: what
is learnt later can be wrong.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from rotoscope_sandbox.film.object_features import GRID_SIDE, CropView
from rotoscope_sandbox.vision.pixels import Plane

__all__ = ["ObjectMemory"]

_FIRST_SHARE = 0.5
"""Weight of the first frame beside all later ones."""

_LEARNING_RATE = 0.05
"""Share of each new frame in the later ones."""

_RIDGE = 3e-3
"""Ridge, as a share of the mean square of a feature."""

_HALF = 0.5


@dataclass(frozen=True, slots=True)
class _Evidence:
    """Of some cells: the weighted products of their features, and of features and mask."""

    products: NDArray[np.float32]
    targets: NDArray[np.float32]

    def mix(self, other: "_Evidence", share: float) -> "_Evidence":
        """With that share of the other."""
        rest = np.float32(1 - share)
        taken = np.float32(share)
        return _Evidence(rest * self.products + taken * other.products, rest * self.targets + taken * other.targets)


class ObjectMemory:
    """The rule, from the first frame on.

    Args:
        views: of the first frame; at least one.
        masks: for each view the object in it, 0 to 1, of the view's size.
    """

    def __init__(self, views: Sequence[CropView], masks: Sequence[Plane]) -> None:
        all_evidence = [_weigh(view, mask) for view, mask in zip(views, masks, strict=True)]
        first = all_evidence[0]
        for count, evidence in enumerate(all_evidence[1:], 2):
            first = first.mix(evidence, 1 / count)
        self._first = self._later = first
        self._rule = self._solve()

    def score(self, view: CropView) -> Plane:
        """For each cell of the grid, about 1 for the object and -1 for what is around it."""
        return np.asarray((view.features @ self._rule).reshape(GRID_SIDE, GRID_SIDE), np.float32)

    def learn(self, view: CropView, mask: Plane) -> None:
        """Take a later frame's mask, 0 to 1, of the view's size, for right."""
        self._later = self._later.mix(_weigh(view, mask), _LEARNING_RATE)
        self._rule = self._solve()

    def _solve(self) -> NDArray[np.float32]:
        known = self._later.mix(self._first, _FIRST_SHARE)
        count = len(known.targets)
        ridge = _RIDGE * float(np.trace(known.products)) / count * np.eye(count)
        return np.linalg.solve(known.products + ridge, known.targets).astype(np.float32)


def _weigh(view: CropView, mask: Plane) -> _Evidence:
    """Object and surroundings weigh the same, however large; cells that the outline cuts weigh little."""
    cells = cv2.resize(mask, (GRID_SIDE, GRID_SIDE), interpolation=cv2.INTER_AREA).ravel() - _HALF
    sure = np.abs(cells) * 2
    inside, outside = sure * (cells > 0), sure * (cells <= 0)
    weights = inside / max(float(inside.sum()), 1.0) + outside / max(float(outside.sum()), 1.0)
    weighted = view.features * weights[:, None].astype(np.float32)
    return _Evidence(view.features.T @ weighted, weighted.T @ np.sign(cells).astype(np.float32))
