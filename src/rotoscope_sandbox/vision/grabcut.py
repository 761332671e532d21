"""GrabCut, coarse then fine, and its small mask brought to full size.

GrabCut at 320 pixels decides what belongs to the object; at 384 pixels it only decides a band along the outline once
more. Few rounds do: over eight objects with hand-made masks (VACE's and Cutie's examples, each by its own box) two
rounds and one gave a mean intersection over union of 0.74 in 0.1 to 0.35 s, five rounds at 384 pixels the same in up to
1 s, and a first look at 192 pixels 0.68.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from rotoscope_sandbox.vision.pixels import Frame, Mask, Plane, components_touching, largest_components, shrink_to_side

__all__ = ["FINE_SIDE", "GrabcutHints", "decide_again", "dilate_square", "resize_mask", "segment_crop", "upsample_mask"]

FINE_SIDE = 384
"""Longer side in pixels of the crops that `segment_crop` takes."""

_COARSE_SIDE = 320
_COARSE_ROUNDS = 2
_FINE_ROUNDS = 1
_BAND = 8
"""Pixels to either side of the coarse outline that are decided again."""

_UNUSED_BOX = (0, 0, 1, 1)
"""OpenCV wants a box even where labels are given, and does not read it."""

_EDGE_REACH = 2
"""Radius in pixels (of the small crop) of the windows in which the mask follows the picture's brightness."""

_EDGE_NOISE = 1e-3
"""Variance of brightness (0 to 1) up to which a window counts as flat: 8 of 255 grey steps."""


@dataclass(frozen=True, slots=True)
class GrabcutHints:
    """Where the object may be; masks of one size.

    Attributes:
        inside: where the object probably is; outside of it is background.
        keep: where it certainly is, by clicks.
        drop: where it certainly is not, by clicks.
    """

    inside: Mask
    keep: Mask
    drop: Mask

    def marks(self, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        """The hints as GrabCut's labels, at another (height, width)."""
        marks = np.full(shape, cv2.GC_BGD, np.uint8)
        marks[resize_mask(self.inside, shape)] = cv2.GC_PR_FGD
        self.apply_clicks(marks)
        return marks

    def apply_clicks(self, marks: NDArray[np.uint8]) -> None:
        """Overwrite labels with what the clicks say, in place."""
        marks[resize_mask(self.drop, marks.shape)] = cv2.GC_BGD
        marks[resize_mask(self.keep, marks.shape)] = cv2.GC_FGD


def resize_mask(mask: Mask, shape: tuple[int, ...]) -> Mask:
    """A mask at another (height, width, ...), nearest pixel."""
    if mask.shape == shape[:2]:
        return mask
    size = shape[1], shape[0]
    return np.asarray(cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)).astype(np.bool_)


def dilate_square(mask: Mask, reach: int) -> Mask:
    """The mask grown by `reach` pixels on every side, with square corners."""
    kernel = np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)
    return np.asarray(cv2.dilate(mask.astype(np.uint8), kernel)).astype(np.bool_)


def segment_crop(small: Frame, hints: GrabcutHints) -> Mask:
    """The object in a crop: the parts under the clicks in `keep`, without clicks the largest part; it may be empty."""
    coarse, _ = shrink_to_side(small, _COARSE_SIDE)
    found = _grabcut(coarse, hints.marks(coarse.shape[:2]), _COARSE_ROUNDS)
    found = resize_mask(found, small.shape[:2])
    if coarse.shape != small.shape:
        found = _grabcut(small, _band(found, hints), _FINE_ROUNDS)
    return components_touching(found, hints.keep) if hints.keep.any() else largest_components(found)


def decide_again(small: Frame, guess: Mask, disputed: Mask, hints: GrabcutHints) -> Mask:
    """A mask whose disputed part is found once more from a guess, by the colours of what is not disputed; all of one
    size.
    """
    marks = np.where(guess, cv2.GC_FGD, cv2.GC_BGD).astype(np.uint8)
    marks[disputed & guess], marks[disputed & ~guess] = cv2.GC_PR_FGD, cv2.GC_PR_BGD
    hints.apply_clicks(marks)
    return _grabcut(small, marks, _COARSE_ROUNDS)


def _band(found: Mask, hints: GrabcutHints) -> NDArray[np.uint8]:
    """Labels that leave only a band along the outline open."""
    marks = np.where(found, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    marks[~dilate_square(found, _BAND)] = cv2.GC_BGD
    marks[~dilate_square(~found, _BAND)] = cv2.GC_FGD
    marks[~hints.inside] = cv2.GC_BGD
    hints.apply_clicks(marks)
    return marks


def _grabcut(frame: Frame, marks: NDArray[np.uint8], rounds: int) -> Mask:
    selected = (cv2.GC_FGD, cv2.GC_PR_FGD)
    if np.isin(marks, selected).all():
        # A box as large as the picture leaves no background to learn from: use its rim.
        marks[[0, -1]] = cv2.GC_BGD
        marks[:, [0, -1]] = cv2.GC_BGD
    chosen = np.isin(marks, selected)
    if chosen.all() or not chosen.any():
        return chosen
    models = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.setRNGSeed(0)
    cv2.grabCut(np.ascontiguousarray(frame), marks, _UNUSED_BOX, *models, rounds, cv2.GC_INIT_WITH_MASK)
    return np.isin(marks, selected)


def upsample_mask(found: Mask, small: Frame, crop: Frame) -> Mask:
    """The small mask at the crop's size, its outline drawn along the picture's edges (fast guided filter).

    In every window the mask is a linear function of the brightness; its coefficients are enlarged, not the mask.
    """
    if small.shape == crop.shape:
        return found
    slope, offset = _fit_locally(_brightness(small), found.astype(np.float32))
    size = crop.shape[1], crop.shape[0]
    enlarged = cv2.resize(slope, size) * _brightness(crop) + cv2.resize(offset, size)
    return np.asarray(enlarged > 0.5, dtype=np.bool_)  # noqa: PLR2004 - the middle between background and object


def _brightness(frame: Frame) -> Plane:
    """0 to 1."""
    grey = cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_RGB2GRAY)
    return np.asarray(grey / np.float32(255), dtype=np.float32)


def _fit_locally(guide: Plane, target: Plane) -> tuple[Plane, Plane]:
    """Slope and offset, for every pixel, of the line that gives the target from the guide in a window around it."""

    def mean(plane: Plane) -> Plane:
        return np.asarray(cv2.blur(plane, (2 * _EDGE_REACH + 1, 2 * _EDGE_REACH + 1)), dtype=np.float32)

    guide_mean, target_mean = mean(guide), mean(target)
    covariance, variance = mean(guide * target) - guide_mean * target_mean, mean(guide * guide) - guide_mean**2
    slope = covariance / (variance + _EDGE_NOISE)
    return mean(slope), mean(target_mean - slope * guide_mean)
