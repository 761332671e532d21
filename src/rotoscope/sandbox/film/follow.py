"""Following a mask from the first frame through a clip."""

import cv2
import numpy as np
from numpy.typing import NDArray

from rotoscope.sandbox.film.motion import Grey
from rotoscope.sandbox.vision.pixels import Frame, Mask, Plane

__all__ = ["Follower"]

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
_CLEAR = 0.6
_CLEAR_WEIGHT = 1.0
"""How much more colours count where object and ground share none."""

_LEARNING = 0.02
_TRAIL = 9
_GAP = 9
_POINTS = 150
_FEWEST = 8
_APART = 4
_LEAST_AGREEING = 0.3
_WINDOW = (15, 15)


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
        self._strokes = [max(3, round(side * max(self._size) / _FLOW_SIDE)) for side in (_TRAIL, _GAP)]
        self._learn(small, 1.0)

    def step(self, frame: Frame) -> Mask:
        """Where the mask is in the next frame."""
        small = self._small(frame)
        grey = _grey(small)
        back = self._flow.calc(grey, self._grey, self._guess(grey))
        carried = _looked_up(self._soft, self._x + back[..., 0], self._y + back[..., 1])
        self._soft, self._grey = self._decided(carried, small), grey
        self._learn(small, _LEARNING)
        large = cv2.resize(self._soft, self._shape[::-1], interpolation=cv2.INTER_CUBIC)
        return np.asarray(large > _HALF)

    def _guess(self, grey: Grey) -> Plane:
        """Where the flow starts from: the object moves as one, everything else stands still.

        Without it, flow misses small things that move further than they are grainy.
        """
        way = self._as_one(grey)
        guess = np.zeros((*grey.shape, 2), np.float32)
        if way is not None:
            back_x = way[0, 0] * self._x + way[0, 1] * self._y + way[0, 2]
            back_y = way[1, 0] * self._x + way[1, 1] * self._y + way[1, 2]
            here = _looked_up(self._soft, back_x.astype(np.float32), back_y.astype(np.float32)) > _HALF
            there = cv2.dilate(here.astype(np.uint8), np.ones((7, 7), np.uint8)) > 0
            guess[there] = np.dstack([back_x - self._x, back_y - self._y])[there]
        return guess

    def _as_one(self, grey: Grey) -> NDArray[np.float64] | None:
        """The turn, growth and way back (2 x 3) that most points of the object agree on, or None."""
        inside = (self._soft > _HALF).astype(np.uint8)
        points = cv2.goodFeaturesToTrack(self._grey, _POINTS, 0.01, _APART, mask=inside)
        if points is None or len(points) < _FEWEST:
            return None
        found, known, _ = cv2.calcOpticalFlowPyrLK(self._grey, grey, points, np.empty_like(points), winSize=_WINDOW)
        kept = known.ravel() == 1
        if kept.sum() < _FEWEST:
            return None
        way, agreeing = cv2.estimateAffinePartial2D(
            found[kept], points[kept], method=cv2.RANSAC, ransacReprojThreshold=1.5
        )
        good = way is not None and agreeing.mean() >= _LEAST_AGREEING
        return np.asarray(way, np.float64) if good else None

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
        apart = 1 - float(np.minimum(self._within, self._beyond).sum())
        weight = _COLOUR_WEIGHT + _CLEAR_WEIGHT * max(0.0, apart - _CLEAR)
        crisp = np.clip(belief * _SHARPEN + colours * near * weight + _HALF, 0, 1).astype(np.float32)
        trail, gap = (cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)) for side in self._strokes)
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
