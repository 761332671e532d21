"""Tracking a mask by flow and colours alone: what is left where no net gives features.

Thresholds in pixels count at the working size, whose longer side is 480 pixels. They were found by trial on
clips; none follows from theory.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from rotoscope_sandbox.film.frame_flow import FLOW_SIDE, FrameFlow
from rotoscope_sandbox.vision.net_masks import overlap
from rotoscope_sandbox.vision.object_net import ObjectNet
from rotoscope_sandbox.vision.pixels import Frame, Mask, PixelBox, Plane, box_slices

__all__ = ["FlowTracker"]

_HALF = 0.5
"""A pixel of the soft mask (0 to 1) from here on belongs to the object."""

# How the warped mask becomes crisp again. Every step of flow blurs it a little; blurring more and then raising the
# contrast draws a smooth outline through the middle of the blur.
_BLUR = 1.2
"""Sigma in pixels of that blur."""

_SHARPEN = 1.5
"""Factor of that contrast: 1 would let the mask fade, 2 and more would freeze its outline."""

# Colours of object and background, as two histograms.
_BINS = 16
"""Bins per channel: coarse enough that 4,096 bins fill from a small object."""

_BIN_SHIFT = 4
"""Bits that a colour value (0 to 255) is shifted right by to give its bin."""

_PRIOR_COUNT = 0.5
"""Pixels that every bin holds from the start, so that a new colour is no proof of anything."""

_MOST_ODDS = 3.0
"""Bound of the log odds of colour, for and against the object: one odd pixel must not outweigh the mask."""

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

# Cleaning up: diameters in pixels.
_TRAIL = 9
"""Thinner parts are cut off: trails that flow leaves where background comes into sight behind the object."""

_GAP = 9
"""Narrower gaps are closed."""

# The object net sees each frame alone: it may find another object, or more than the one that is tracked, and mistakes
# add up over frames. So it is asked only for objects that it knows, and believed only where it changes little. A car
# whose masks people drew in 33 frames is then followed with a mean overlap of 0.97 instead of 0.65; of objects among
# others like them (`bench/tracking.py`) some are followed better and some a little worse. At 0.7 and 1.15 for the two
# bounds below, one of two boxing cats came back from 25 frames with an overlap of 0.58 instead of 0.84.
_CROP_MARGIN = 0.3
"""Share of the box around the mask, on every side of it, that the net is shown."""

_KNOWN = 0.92
"""Overlap of the net's mask with the given one on the first frame from which it knows the object. A mask that holds
more than the object, such as its shadow, is to keep it.
"""

_BELIEVED = 0.85
"""Overlap of the net's mask with the tracked one from which it may correct it."""

_MOST_GROWTH = 1.08
"""Factor of the area, either way, that such a correction may change in one frame."""

_NET_WEIGHT = 0.7
"""Weight of the net's probabilities beside the tracked soft mask."""


class FlowTracker:
    """Tracks a mask from the first frame through a clip; frames must come in order.

    Dense optical flow (DIS) carries the mask from frame to frame; in a band around the outline a pixel is drawn to the
    side whose colours it has, and thin trails are cut off. Motion of more than about 10 pixels at the working size
    in one frame is lost. An object net corrects the mask in each frame where it knows the object.

    Args:
        frame: the first frame, RGB.
        mask: the object in it, of the same height and width.
        net: the object net, if there is one.
    """

    def __init__(self, frame: Frame, mask: Mask, net: ObjectNet | None = None) -> None:
        self._shape = mask.shape
        self._flow = FrameFlow(frame)
        whole = mask.astype(np.float32)
        self._soft = np.asarray(cv2.resize(whole, self._flow.size, interpolation=cv2.INTER_AREA), np.float32)
        self._object_colours, self._other_colours = (np.ones(_BINS**3, np.float32) for _ in range(2))
        self._strokes = [max(3, round(side * max(self._flow.size) / FLOW_SIDE)) for side in (_TRAIL, _GAP)]
        self._update_colours(self._flow.shrink(frame), 1.0)
        knows = net is not None and overlap(_find_around(net, frame, mask) > _HALF, mask) >= _KNOWN
        self._net = net if knows else None

    def next_mask(self, frame: Frame) -> Mask:
        """Where the object is in the next frame; the mask may end empty when the object leaves."""
        small = self._flow.shrink(frame)
        self._soft = self._correct_by_colours(self._flow.advance(small).carry(self._soft), small)
        self._update_colours(small, _LEARNING_RATE)
        mask = self._full_size_mask()
        if self._net is None or not mask.any():
            return mask
        found = _find_around(self._net, frame, mask)
        if not _may_correct(found > _HALF, mask):
            return mask
        shrunk = cv2.resize(found, self._flow.size, interpolation=cv2.INTER_AREA)
        self._soft = np.asarray((1 - _NET_WEIGHT) * self._soft + _NET_WEIGHT * shrunk, np.float32)
        return self._full_size_mask()

    def _full_size_mask(self) -> Mask:
        return np.asarray(cv2.resize(self._soft, self._shape[::-1], interpolation=cv2.INTER_CUBIC) > _HALF)

    def _correct_by_colours(self, warped: Plane, small: Frame) -> Plane:
        """The new soft mask: the warped one, crisp again; near its outline pixels join the side of their colours."""
        belief = cv2.GaussianBlur(warped, (0, 0), _BLUR) - _HALF
        log_odds = np.log(self._object_colours / self._other_colours)[_colour_bins(small)]
        colours = cv2.GaussianBlur(np.clip(log_odds, -_MOST_ODDS, _MOST_ODDS), (0, 0), 1.5)
        near = np.abs(cv2.GaussianBlur(warped, (0, 0), _NEAR_BLUR) - _HALF) < _NEAR_BAND
        distinct = 1 - float(np.minimum(self._object_colours, self._other_colours).sum())
        weight = _COLOUR_WEIGHT + _DISTINCT_WEIGHT * max(0.0, distinct - _DISTINCT)
        crisp = np.clip(belief * _SHARPEN + colours * near * weight + _HALF, 0, 1).astype(np.float32)
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


def _find_around(net: ObjectNet, frame: Frame, mask: Mask) -> Plane:
    """What the net finds in the surroundings of a mask, as probabilities of the frame's size."""
    crop = box_slices(PixelBox.around(mask).expand(_CROP_MARGIN, frame.shape))
    found = np.zeros(mask.shape, np.float32)
    found[crop] = net.find_object(np.ascontiguousarray(frame[crop]))
    return found


def _may_correct(found: Mask, mask: Mask) -> bool:
    growth = int(np.count_nonzero(found)) / int(np.count_nonzero(mask))
    return overlap(found, mask) >= _BELIEVED and 1 / _MOST_GROWTH < growth < _MOST_GROWTH


def _colour_bins(small: Frame) -> NDArray[np.intp]:
    """The histogram bin of every pixel."""
    rough = np.asarray(cv2.GaussianBlur(small, (0, 0), 1), np.intp) >> _BIN_SHIFT
    return np.asarray((rough[..., 0] * _BINS + rough[..., 1]) * _BINS + rough[..., 2], np.intp)
