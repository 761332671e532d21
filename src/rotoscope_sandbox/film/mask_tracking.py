"""Tracking a mask from the first frame through a clip.

Thresholds in pixels count at the working size, whose longer side is 480 pixels. They were found by trial on
clips; none follows from theory.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from rotoscope_sandbox.film.camera_motion import STILL, Grey, Motion, estimate_motion
from rotoscope_sandbox.vision.pixels import Frame, Mask, Plane

__all__ = ["MaskTracker"]

_FLOW_SIDE = 480
"""Longer side in pixels at which flow is computed: it takes most of the time of a step."""

_HALF = 0.5
"""A pixel of the soft mask (0 to 1) from here on belongs to the object."""

# How the warped mask becomes crisp again. Every step of flow blurs it a little; blurring more and then raising the
# contrast draws a smooth outline through the middle of the blur.
_BLUR = 1.2
"""Sigma in pixels of that blur."""

_SHARPEN = 1.35
"""Factor of that contrast: 1 would let the mask fade, 2 and more would freeze its outline."""

# Colours of object and background, as two histograms.
_BINS = 16
"""Bins per channel: coarse enough that 4,096 bins fill from a small object."""

_BIN_SHIFT = 4
"""Bits that a colour value (0 to 255) is shifted right by to give its bin."""

_PRIOR_COUNT = 0.5
"""Pixels that every bin holds from the start, so that a new colour is no proof of anything."""

_MOST_AGAINST, _MOST_FOR = 1.5, 2.5
"""Bounds of the log odds of colour, against and for the object; wider for it, because what is lost once is gone."""

_COLOUR_WEIGHT = 0.05
"""Weight of those log odds beside the warped mask (0 to 1) where object and background share colours."""

_DISTINCT = 0.6
"""Share of the histograms that does not overlap (0 to 1) from which colours count more than that."""

_DISTINCT_WEIGHT = 1.0
"""How much the weight grows from there to histograms without any overlap."""

_NEAR_BLUR = 4.0
"""Sigma in pixels of the blur that measures how near the outline is."""

_NEAR_BAND = 0.47
"""How far that blurred mask may be from 0.5 for colours to count: about 8 pixels to either side of the outline."""

_LEARNING_RATE = 0.02
"""Share of each new frame in the histograms: half of the first frame's colours remain after 35 frames."""

# What moves with the camera while the object moves otherwise.
_CAMERA_WEIGHT = 0.3
"""Weight of that evidence beside the warped mask: three frames in a row decide."""

_FAINT = 0.1
"""Soft mask from which a pixel is kept out of the estimate of the camera's motion."""

_LEAST_APART = 0.7
"""Pixels by which the object's and the camera's motion must differ to be told apart."""

_CLEAR_ERROR = 10.0
"""Difference between two prediction errors (grey steps of 255) that is full evidence."""

_ERROR_BLUR = 2.5
"""Sigma in pixels over which prediction errors are averaged."""

# Whether the object moves as one piece.
_POINTS = 150
"""Corners of the object that are tracked at most."""

_FEWEST = 8
"""Corners that its motion (4 unknowns, 2 points) is trusted from."""

_CORNER_QUALITY = 0.01
"""A corner counts from this share of the strongest one's strength."""

_SPACING = 4
"""Pixels between two corners."""

_WINDOW = (15, 15)
"""Pixels around a corner that Lucas-Kanade compares."""

_TOLERANCE = 1.5
"""Pixels by which a corner may miss the common motion and still agree with it."""

_LEAST_AGREEING = 0.3
"""Share of corners below which there is no common motion."""

_LOOSE, _RIGID = 0.35, 0.6
"""Shares of agreeing corners between which an object goes from moving in parts (0) to moving as one (1)."""

# Cleaning up: diameters in pixels.
_TRAIL = 9
"""Thinner parts are cut off: trails that flow leaves where background comes into sight behind the object."""

_GAP = 9
"""Narrower gaps are closed."""


class MaskTracker:
    """Tracks a mask from the first frame through a clip; frames must come in order.

    Dense optical flow (DIS) carries the mask from frame to frame. Two kinds of evidence correct it: in a band around
    the outline a pixel is drawn to the side whose colours it has; and what moves with the camera while the object
    moves otherwise is given up. Thin trails are cut off.

    Args:
        frame: the first frame, RGB.
        mask: the object in it, of the same height and width.
    """

    def __init__(self, frame: Frame, mask: Mask) -> None:
        self._shape = mask.shape
        scale = min(1.0, _FLOW_SIDE / max(mask.shape))
        self._size = max(16, round(mask.shape[1] * scale)), max(16, round(mask.shape[0] * scale))
        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
        small = self._shrink(frame)
        self._grey = _to_grey(small)
        self._soft = np.asarray(
            cv2.resize(mask.astype(np.float32), self._size, interpolation=cv2.INTER_AREA), np.float32
        )
        columns, rows = np.meshgrid(np.arange(self._size[0]), np.arange(self._size[1]))
        self._x, self._y = columns.astype(np.float32), rows.astype(np.float32)
        self._object_colours, self._other_colours = (np.ones(_BINS**3, np.float32) for _ in range(2))
        self._strokes = [max(3, round(side * max(self._size) / _FLOW_SIDE)) for side in (_TRAIL, _GAP)]
        self._update_colours(small, 1.0)

    def next_mask(self, frame: Frame) -> Mask:
        """Where the object is in the next frame; the mask may end empty when the object leaves."""
        small = self._shrink(frame)
        grey = _to_grey(small)
        motion, rigidity = self._object_motion(grey)
        back = np.asarray(self._flow.calc(grey, self._grey, self._initial_flow(motion)), np.float32)
        warped = _sample_at(self._soft, self._x + back[..., 0], self._y + back[..., 1])
        camera = self._camera_evidence(grey, motion, back) * np.float32(rigidity)
        self._soft, self._grey = self._combine_evidence(warped, camera, small), grey
        self._update_colours(small, _LEARNING_RATE)
        large = cv2.resize(self._soft, self._shape[::-1], interpolation=cv2.INTER_CUBIC)
        return np.asarray(large > _HALF)

    def _initial_flow(self, motion: Motion) -> Plane:
        """What flow starts from: the object moves as one, everything else stands still.

        Without it, flow misses small things that move further than the details on them are wide.
        """
        here = cv2.warpPerspective(self._soft, motion, self._size)
        there = cv2.dilate(here, np.ones((7, 7), np.uint8)) > _HALF
        flow = np.zeros((*self._soft.shape, 2), np.float32)
        flow[there] = self._backward_flow(motion)[there]
        return flow

    def _backward_flow(self, motion: Motion) -> Plane:
        """From every pixel of the new frame to where it was, in pixels; height x width x 2."""
        places = np.dstack([self._x, self._y])
        return np.asarray(cv2.perspectiveTransform(places, np.linalg.inv(motion)) - places, np.float32)

    def _camera_evidence(self, grey: Grey, motion: Motion, back: Plane) -> Plane:
        """How sure it is (0 to 1) that a pixel goes with the camera and not with the object."""
        camera = estimate_motion(self._grey, grey, self._soft > _FAINT)
        camera_flow = self._backward_flow(camera)
        differ = np.linalg.norm(self._backward_flow(motion) - camera_flow, axis=2) > _LEAST_APART
        with_camera = np.linalg.norm(back - camera_flow, axis=2) < _LEAST_APART
        object_error, camera_error = (self._prediction_error(grey, one) for one in (motion, camera))
        evidence = np.clip((object_error - camera_error) / _CLEAR_ERROR, 0, 1)
        return np.asarray(evidence * (differ & with_camera), np.float32)

    def _prediction_error(self, grey: Grey, motion: Motion) -> Plane:
        """How far the new frame is from the last one after a motion, in grey steps."""
        warped = cv2.warpPerspective(self._grey, motion, self._size, borderMode=cv2.BORDER_REPLICATE)
        error = cv2.absdiff(warped, grey).astype(np.float32)
        return np.asarray(cv2.GaussianBlur(error, (0, 0), _ERROR_BLUR), np.float32)

    def _object_motion(self, grey: Grey) -> tuple[Motion, float]:
        """The turn, scale and shift that most corners of the object agree on, and how much it moves as one (0 to 1)."""
        inside = (self._soft > _HALF).astype(np.uint8)
        points = cv2.goodFeaturesToTrack(self._grey, _POINTS, _CORNER_QUALITY, _SPACING, mask=inside)
        if points is None or len(points) < _FEWEST:
            return STILL, 0.0
        found, known, _ = cv2.calcOpticalFlowPyrLK(self._grey, grey, points, np.empty_like(points), winSize=_WINDOW)
        tracked = known.ravel() == 1
        if tracked.sum() < _FEWEST:
            return STILL, 0.0
        motion, agreeing = cv2.estimateAffinePartial2D(
            points[tracked], found[tracked], method=cv2.RANSAC, ransacReprojThreshold=_TOLERANCE
        )
        share = 0.0 if motion is None else float(agreeing.mean())
        if share < _LEAST_AGREEING:
            return STILL, 0.0
        return np.vstack([motion, [0, 0, 1]]), min(max((share - _LOOSE) / (_RIGID - _LOOSE), 0.0), 1.0)

    def _shrink(self, frame: Frame) -> Frame:
        return np.asarray(cv2.resize(np.ascontiguousarray(frame), self._size, interpolation=cv2.INTER_AREA), np.uint8)

    def _combine_evidence(self, warped: Plane, camera: Plane, small: Frame) -> Plane:
        """The new soft mask: the warped one, crisp again, corrected by colours near its outline and by the camera."""
        belief = cv2.GaussianBlur(warped, (0, 0), _BLUR) - _HALF
        log_odds = np.log(self._object_colours / self._other_colours)[_colour_bins(small)]
        colours = cv2.GaussianBlur(np.clip(log_odds, -_MOST_AGAINST, _MOST_FOR), (0, 0), 1.5)
        near = np.abs(cv2.GaussianBlur(warped, (0, 0), _NEAR_BLUR) - _HALF) < _NEAR_BAND
        distinct = 1 - float(np.minimum(self._object_colours, self._other_colours).sum())
        weight = _COLOUR_WEIGHT + _DISTINCT_WEIGHT * max(0.0, distinct - _DISTINCT)
        evidence = colours * near * weight - camera * _CAMERA_WEIGHT
        crisp = np.clip(belief * _SHARPEN + evidence + _HALF, 0, 1).astype(np.float32)
        trail, gap = (cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)) for side in self._strokes)
        opened = cv2.morphologyEx(crisp, cv2.MORPH_OPEN, trail)
        return np.asarray(cv2.morphologyEx(opened, cv2.MORPH_CLOSE, gap), np.float32)

    def _update_colours(self, small: Frame, rate: float) -> None:
        """Count the colours well inside and well outside of the mask into the histograms."""
        bins = _colour_bins(small)
        square = np.ones((5, 5), np.uint8)
        sure = cv2.erode(self._soft, square), cv2.erode(1 - self._soft, square)
        for shares, weight in zip((self._object_colours, self._other_colours), sure, strict=True):
            counts = np.bincount(bins.ravel(), weight.ravel(), _BINS**3)
            latest = (counts + _PRIOR_COUNT) / (counts.sum() + _PRIOR_COUNT * _BINS**3)
            shares[:] = shares + np.float32(rate) * (latest.astype(np.float32) - shares)


def _sample_at(plane: Plane, x: Plane, y: Plane) -> Plane:
    """The plane's values at fractional places."""
    return np.asarray(cv2.remap(plane, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), np.float32)


def _to_grey(small: Frame) -> Grey:
    return np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), np.uint8)


def _colour_bins(small: Frame) -> NDArray[np.intp]:
    """The histogram bin of every pixel."""
    rough = np.asarray(cv2.GaussianBlur(small, (0, 0), 1), np.intp) >> _BIN_SHIFT
    return np.asarray((rough[..., 0] * _BINS + rough[..., 1]) * _BINS + rough[..., 2], np.intp)
