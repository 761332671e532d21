"""What nobody ever saw, made up from the rest of the picture, patch by patch.

From the rim inward, the patch of which most is known, and along which the strongest edge runs, is completed from the
place in the picture that looks most like its known part (after Criminisi, Pérez and Toyama 2004). That is done
small; then the found places are looked up in the full picture, so that what is copied keeps its grain.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from rotoscope_sandbox.vision.pixels import Frame, Mask, Plane

__all__ = ["inpaint_patches"]

_SIDE = 224
_HALF = 6
_EDGE_WEIGHT = 0.004
_NEAR_WEIGHT = 6.0
_GUESS_WEIGHT = 0.15
"""How much the smooth fill counts beside what is known: it keeps strong patterns from running wild."""

_MOST_STEPS = 700
_TELEA = 4.0
_SMOOTH_SHARE = 0.4
_LEAST_SOURCE = 400


def inpaint_patches(frame: Frame, hole: Mask) -> Frame:
    """The frame with its hole made up."""
    if hole.all():
        return np.asarray(cv2.GaussianBlur(frame, (0, 0), max(hole.shape) / 8), np.uint8)
    scale = min(1.0, _SIDE / max(hole.shape))
    size = max(1, round(hole.shape[1] * scale)), max(1, round(hole.shape[0] * scale))
    small = np.asarray(cv2.resize(np.ascontiguousarray(frame), size, interpolation=cv2.INTER_AREA), np.uint8)
    gap = cv2.resize(hole.astype(np.float32), size, interpolation=cv2.INTER_AREA) > 0
    smooth = cv2.inpaint(small, gap.astype(np.uint8), _TELEA, cv2.INPAINT_TELEA)
    flat = cv2.resize(smooth, hole.shape[::-1], interpolation=cv2.INTER_CUBIC).astype(np.float32)
    made = _looked_up(frame, _Puzzle(np.asarray(smooth, np.uint8), np.asarray(gap)).places(), flat)
    result = frame.copy()
    result[hole] = np.clip(made, 0, 255).astype(np.uint8)[hole]
    return result


def _looked_up(frame: Frame, places: Plane | None, flat: Plane) -> Plane:
    """The full picture at the found places, drawn a little toward the smooth fill; only that where none were found."""
    if places is None:
        return flat
    height, width = frame.shape[:2]
    factor = np.array([width / places.shape[1], height / places.shape[0]], np.float32)
    rows, columns = np.mgrid[0 : places.shape[0], 0 : places.shape[1]]
    ways = (places - np.dstack([columns, rows])) * factor
    large = cv2.resize(ways.astype(np.float32), (width, height), interpolation=cv2.INTER_NEAREST)
    x, y = (np.arange(width)[None, :] + large[..., 0]), (np.arange(height)[:, None] + large[..., 1])
    copied = cv2.remap(
        frame, x.astype(np.float32), y.astype(np.float32), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT
    )
    # Coarse light from the smooth fill, grain from the copy: blocks no longer differ from each other.
    reach = max(frame.shape) / 40
    light = cv2.GaussianBlur(copied.astype(np.float32), (0, 0), reach)
    return np.asarray(copied + _SMOOTH_SHARE * (flat - light), np.float32)


@dataclass(slots=True)
class _Puzzle:
    """A small picture, smooth where its hole was, that is laid there with patches of the rest."""

    picture: Frame
    hole: Mask

    def places(self) -> Plane | None:
        """For every pixel, the x and y that it is a copy of; None where too little of the picture is known."""
        side = 2 * _HALF + 1
        whole = cv2.erode((~self.hole).astype(np.uint8), np.ones((side, side), np.uint8), borderValue=0)
        source = np.asarray(whole[_HALF:-_HALF, _HALF:-_HALF] > 0)
        if source.size == 0 or source.sum() < _LEAST_SOURCE:
            return None
        canvas = self.picture.astype(np.float32)
        rows, columns = np.mgrid[0 : self.hole.shape[0], 0 : self.hole.shape[1]]
        places = np.dstack([columns, rows]).astype(np.float32)
        sure = (~self.hole).astype(np.float32)
        left = self.hole.copy()
        for _ in range(_MOST_STEPS):
            if not left.any():
                return places
            self._step(canvas, places, sure, left, source)
        return places

    def _step(self, canvas: Plane, places: Plane, sure: Plane, left: Mask, source: Mask) -> None:
        """Completes one patch, in place."""
        y, x = _most_certain(canvas, sure, left)
        rows, columns = _span(y, left.shape[0]), _span(x, left.shape[1])
        part = canvas[rows, columns]
        known = np.where(left[rows, columns], np.float32(_GUESS_WEIGHT), np.float32(1))
        top, found = _most_alike(canvas, part, known, source, (rows.start, columns.start))
        open_ = left[rows, columns].copy()
        height, width = open_.shape
        part[open_] = canvas[top : top + height, found : found + width][open_]
        places[rows, columns][open_] = places[top : top + height, found : found + width][open_]
        sure[rows, columns][open_] = sure[rows, columns][~open_].mean() * 0.95
        left[rows, columns] = False


def _most_certain(canvas: Plane, sure: Plane, left: Mask) -> tuple[int, int]:
    """The rim's pixel to go on from."""
    rim = left & (cv2.erode(left.astype(np.uint8), np.ones((3, 3), np.uint8)) == 0)
    support = cv2.boxFilter(sure * ~left, -1, (2 * _HALF + 1, 2 * _HALF + 1), borderType=cv2.BORDER_CONSTANT)
    grey = canvas.mean(axis=2) * ~left
    edges = cv2.boxFilter(np.abs(cv2.Laplacian(grey, cv2.CV_32F)) * _well_inside(left), -1, (5, 5))
    score = np.where(rim if rim.any() else left, support * (1 + _EDGE_WEIGHT * np.minimum(edges, 50)), -1)
    y, x = np.unravel_index(int(score.argmax()), score.shape)
    return int(y), int(x)


def _well_inside(left: Mask) -> Mask:
    """What is known and not beside the hole, where an edge would only be the hole's own."""
    return np.asarray(cv2.dilate(left.astype(np.uint8), np.ones((3, 3), np.uint8)) == 0)


def _span(middle: int, length: int) -> slice:
    start = min(max(0, middle - _HALF), max(0, length - 2 * _HALF - 1))
    return slice(start, min(length, start + 2 * _HALF + 1))


def _most_alike(canvas: Plane, part: Plane, known: Plane, source: Mask, here: tuple[int, int]) -> tuple[int, int]:
    """Top and left of the wholly known patch that is most like a part as far as that is known; nearer ones first."""
    apart = cv2.matchTemplate(canvas, part, cv2.TM_SQDIFF, mask=np.dstack([known] * 3))
    rows, columns = np.ogrid[0 : apart.shape[0], 0 : apart.shape[1]]
    far = (rows - here[0]) ** 2 + (columns - here[1]) ** 2
    cost = np.where(source, apart + _NEAR_WEIGHT * known.sum() * np.sqrt(far), np.inf)
    top, found = np.unravel_index(int(cost.argmin()), cost.shape)
    return int(top), int(found)
