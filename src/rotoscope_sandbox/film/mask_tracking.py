"""Following a mask from the first frame through a clip."""

import cv2
import numpy as np
from numpy.typing import NDArray

from rotoscope_sandbox.film.camera_motion import STILL, Grey, Motion, estimate_motion
from rotoscope_sandbox.vision.pixels import Frame, Mask, Plane

__all__ = ["MaskTracker"]

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
_STAYS_WEIGHT = 0.3
_FAINT = 0.1
_LOOSE, _STIFF = 0.35, 0.6
_LEAST_APART = 0.7
_CLEAR_MISFIT = 10.0
_MISFIT_BLUR = 2.5
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


class MaskTracker:
    """Follows a mask from the first frame through a clip.

    Dense flow (DIS) carries the mask from frame to frame. What the flow lets slip is decided by two witnesses: in
    a band around the outline a pixel is drawn to the side whose colours it has; and what moves with the camera
    while the object moves otherwise is given up. Thin trails, which flow leaves where ground comes into sight
    behind the object, are cut off.
    """

    def __init__(self, frame: Frame, mask: Mask) -> None:
        self._shape = mask.shape
        scale = min(1.0, _FLOW_SIDE / max(mask.shape))
        self._size = max(16, round(mask.shape[1] * scale)), max(16, round(mask.shape[0] * scale))
        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
        small = self._shrink(frame)
        self._to_grey = _to_grey(small)
        self._soft = np.asarray(
            cv2.resize(mask.astype(np.float32), self._size, interpolation=cv2.INTER_AREA), np.float32
        )
        columns, rows = np.meshgrid(np.arange(self._size[0]), np.arange(self._size[1]))
        self._x, self._y = columns.astype(np.float32), rows.astype(np.float32)
        self._within, self._beyond = (np.ones(_SHADES**3, np.float32) for _ in range(2))
        self._strokes = [max(3, round(side * max(self._size) / _FLOW_SIDE)) for side in (_TRAIL, _GAP)]
        self._update_colours(small, 1.0)

    def next_mask(self, frame: Frame) -> Mask:
        """Where the mask is in the next frame."""
        small = self._shrink(frame)
        grey = _to_grey(small)
        way, unity = self._object_motion(grey)
        back = np.asarray(self._flow.calc(grey, self._to_grey, self._initial_flow(way)), np.float32)
        carried = _sample_at(self._soft, self._x + back[..., 0], self._y + back[..., 1])
        stays = self._moves_with_camera(grey, way, back) * np.float32(unity)
        self._soft, self._to_grey = self._combine_evidence(carried, stays, small), grey
        self._update_colours(small, _LEARNING)
        large = cv2.resize(self._soft, self._shape[::-1], interpolation=cv2.INTER_CUBIC)
        return np.asarray(large > _HALF)

    def _initial_flow(self, way: Motion) -> Plane:
        """Where the flow starts from: the object moves as one, everything else stands still.

        Without it, flow misses small things that move further than they are grainy.
        """
        here = cv2.warpPerspective(self._soft, way, self._size)
        there = cv2.dilate(here, np.ones((7, 7), np.uint8)) > _HALF
        guess = np.zeros((*self._soft.shape, 2), np.float32)
        guess[there] = self._backward_flow(way)[there]
        return guess

    def _backward_flow(self, way: Motion) -> Plane:
        """How far every pixel has to go to where it was."""
        places = np.dstack([self._x, self._y])
        return np.asarray(cv2.perspectiveTransform(places, np.linalg.inv(way)) - places, np.float32)

    def _moves_with_camera(self, grey: Grey, way: Motion, back: Plane) -> Plane:
        """How sure it is (0 to 1) that a pixel goes with the camera and not with the object."""
        camera = estimate_motion(self._to_grey, grey, self._soft > _FAINT)
        still = self._backward_flow(camera)
        apart = np.linalg.norm(self._backward_flow(way) - still, axis=2) > _LEAST_APART
        flows = np.linalg.norm(back - still, axis=2) < _LEAST_APART
        as_object, as_ground = (self._prediction_error(grey, one) for one in (way, camera))
        return np.asarray(np.clip((as_object - as_ground) / _CLEAR_MISFIT, 0, 1) * (apart & flows), np.float32)

    def _prediction_error(self, grey: Grey, way: Motion) -> Plane:
        moved = cv2.warpPerspective(self._to_grey, way, self._size, borderMode=cv2.BORDER_REPLICATE)
        return np.asarray(
            cv2.GaussianBlur(cv2.absdiff(moved, grey).astype(np.float32), (0, 0), _MISFIT_BLUR), np.float32
        )

    def _object_motion(self, grey: Grey) -> tuple[Motion, float]:
        """The turn, growth and way that most points of the object agree on, and how much it moves as one (0 to 1)."""
        inside = (self._soft > _HALF).astype(np.uint8)
        points = cv2.goodFeaturesToTrack(self._to_grey, _POINTS, 0.01, _APART, mask=inside)
        if points is None or len(points) < _FEWEST:
            return STILL, 0.0
        found, known, _ = cv2.calcOpticalFlowPyrLK(self._to_grey, grey, points, np.empty_like(points), winSize=_WINDOW)
        kept = known.ravel() == 1
        if kept.sum() < _FEWEST:
            return STILL, 0.0
        way, agreeing = cv2.estimateAffinePartial2D(
            points[kept], found[kept], method=cv2.RANSAC, ransacReprojThreshold=1.5
        )
        share = 0.0 if way is None else float(agreeing.mean())
        if share < _LEAST_AGREEING:
            return STILL, 0.0
        return np.vstack([way, [0, 0, 1]]), min(max((share - _LOOSE) / (_STIFF - _LOOSE), 0.0), 1.0)

    def _shrink(self, frame: Frame) -> Frame:
        return np.asarray(cv2.resize(np.ascontiguousarray(frame), self._size, interpolation=cv2.INTER_AREA), np.uint8)

    def _combine_evidence(self, carried: Plane, stays: Plane, small: Frame) -> Plane:
        """The carried mask, crisp again: near its outline the colours have a say, elsewhere other things have them too.

        They argue for the object more than against it: what is lost once does not come back.
        """
        belief = cv2.GaussianBlur(carried, (0, 0), _BLUR) - _HALF
        odds = np.log(self._within / self._beyond)[_colour_bins(small)]
        colours = cv2.GaussianBlur(np.clip(odds, -_AGAINST, _FOR), (0, 0), 1.5)
        near = np.abs(cv2.GaussianBlur(carried, (0, 0), _NEAR) - _HALF) < _BAND
        apart = 1 - float(np.minimum(self._within, self._beyond).sum())
        weight = _COLOUR_WEIGHT + _CLEAR_WEIGHT * max(0.0, apart - _CLEAR)
        said = colours * near * weight - stays * _STAYS_WEIGHT
        crisp = np.clip(belief * _SHARPEN + said + _HALF, 0, 1).astype(np.float32)
        trail, gap = (cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)) for side in self._strokes)
        opened = cv2.morphologyEx(crisp, cv2.MORPH_OPEN, trail)
        return np.asarray(cv2.morphologyEx(opened, cv2.MORPH_CLOSE, gap), np.float32)

    def _update_colours(self, small: Frame, speed: float) -> None:
        """Counts the colours well inside and outside of the mask."""
        shades = _colour_bins(small)
        sure = cv2.erode(self._soft, np.ones((5, 5), np.uint8)), cv2.erode(1 - self._soft, np.ones((5, 5), np.uint8))
        for shares, weight in zip((self._within, self._beyond), sure, strict=True):
            counts = np.bincount(shades.ravel(), weight.ravel(), _SHADES**3)
            now = (counts + _UNSEEN) / (counts.sum() + _UNSEEN * _SHADES**3)
            shares[:] = shares + np.float32(speed) * (now.astype(np.float32) - shares)


def _sample_at(plane: Plane, x: Plane, y: Plane) -> Plane:
    return np.asarray(cv2.remap(plane, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), np.float32)


def _to_grey(small: Frame) -> Grey:
    return np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), np.uint8)


def _colour_bins(small: Frame) -> NDArray[np.intp]:
    """A number for the rough colour of every pixel."""
    rough = np.asarray(cv2.GaussianBlur(small, (0, 0), 1), np.intp) >> _SHADE_BITS
    return np.asarray((rough[..., 0] * _SHADES + rough[..., 1]) * _SHADES + rough[..., 2], np.intp)
