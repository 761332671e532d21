"""Tracking a mask by what the object net sees of it.

In each frame the net is shown the surroundings of where flow carries the mask. A rule that was learnt from the masks so
far (`object_memory`) tells the object from them; the carried mask says where it can be. After a loss the object is
looked for further away.

Figures here were found by trial on clips whose masks people drew (`bench/track_video.py`); none follows from theory.
"""

from collections import deque
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from rotoscope_sandbox.film.object_features import VIEW_SIDE, CropView, Window, view_crop
from rotoscope_sandbox.film.object_memory import ObjectMemory
from rotoscope_sandbox.vision.net_masks import overlap
from rotoscope_sandbox.vision.object_net import ObjectNet
from rotoscope_sandbox.vision.pixels import Frame, Mask, PixelBox, Plane, box_slices

__all__ = ["FeatureTracker"]

_FLOW_SIDE = 480
"""Longer side in pixels of the working plane, at which flow is computed."""

_LEAST_SIDE = 16
"""Least side of the working plane: flow needs some pixels."""

_HALF = 0.5
"""A pixel of a soft mask (0 to 1) from here on belongs to the object."""

# Which surroundings of the object the net is shown.
_MARGIN = 0.45
"""Share of the object's box, on every side of it, that is shown with it."""

_FIRST_MARGINS = (0.45, 0.81, 0.225)
"""The margins of the views of the first frame from which the rule is learnt: later ones differ in size as well."""

_LEAST_ASPECT = 0.6
"""Shorter side of a view before its margin, as a share of the longer one."""

_LEAST_VIEW = 64
"""Least side of a view in pixels of the frame."""

# What speaks for a pixel, in log odds.
_SCORE_WEIGHT, _MOST_SCORE = 2.2, 1.5
"""Log odds for a score of 1, and the score that counts at most."""

_CARRIED_WEIGHT, _CARRIED_BLUR, _LEAST_DOUBT = 0.9, 2.0, 0.02
"""Of the carried mask: its weight, its blur in pixels of the view, and the least probability in it of the contrary."""

_REACH, _DISTANCE_COST = 0.09, 40.0
"""How far from the carried mask a pixel may be without a cost, as a share of the view; the cost of a whole view."""

_SALIENT_OVERLAP, _SALIENT_WEIGHT = 0.5, 0.5
"""Overlap of the most salient object with the carried mask from which it counts, and its weight if it is the same."""

_EDGE_RADIUS, _EDGE_CONTRAST = 4, 2e-3
"""Of the guided filter that brings the outline to the picture's edges: pixels of the view, and squared brightness."""

_SHARPEN = 1.6
"""Contrast of the soft mask that flow carries on: every step blurs it a little."""

# When the object is lost, and what is found again.
_REMEMBERED_AREAS = 15
_LOST_SHARE, _GONE_SHARE = 0.2, 0.02
"""Shares of the usual area: the object is looked for below the first, and it is out of sight below the second."""

_LOST_SCORE = -0.1
"""Mean score below which it is looked for."""

_LEARNT_SCORE, _LEARNT_PIXELS = 0.2, 20
"""Mean score, and pixels of the view, above which the memory learns from a frame."""

_SEARCH_MARGIN = 1.3
"""As `_MARGIN`, where it is looked for."""

_FOUND_SCORE = 0.1
"""Score above which a cell may be the object; and that of all cells of a part, as a share of the usual area, above which
the part is the object.
"""

_LEAST_FOUND, _MOST_FOUND = 0.15, 4.0
"""Area of what is found, as a share of the usual area."""


@dataclass(frozen=True, slots=True)
class _Segmented:
    """What is found in a view.

    Attributes:
        view: where.
        soft: how probably each pixel of the view is the object, 0 to 1.
        score: the mean score of the object; -1 where there is none.
    """

    view: CropView
    soft: Plane
    score: float

    @property
    def part(self) -> Mask:
        """The object within the box of the view, in pixels of the frame."""
        box = self.view.window.box
        return np.asarray(cv2.resize(self.soft, (box.width, box.height), interpolation=cv2.INTER_CUBIC) > _HALF)


class FeatureTracker:
    """Tracks a mask from the first frame through a clip; frames must come in order.

    Args:
        frame: the first frame, RGB.
        mask: the object in it, of the same height and width; not empty.
        net: a net that has features.
    """

    def __init__(self, frame: Frame, mask: Mask, net: ObjectNet) -> None:
        self._net, self._shape = net, mask.shape
        scale = min(1.0, _FLOW_SIDE / max(mask.shape))
        height, width = (max(_LEAST_SIDE, round(side * scale)) for side in mask.shape)
        self._size, self._scale = (width, height), (width / mask.shape[1], height / mask.shape[0])
        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
        self._grey = self._to_grey(frame)
        self._x, self._y = (plane.astype(np.float32) for plane in np.meshgrid(np.arange(width), np.arange(height)))
        whole = mask.astype(np.float32)
        self._soft = np.asarray(cv2.resize(whole, self._size, interpolation=cv2.INTER_AREA), np.float32)
        self._box = PixelBox.around(mask)
        self._areas = deque([int(mask.sum())], maxlen=_REMEMBERED_AREAS)
        self._is_lost = False
        views = [view_crop(net, frame, self._window(margin)) for margin in _FIRST_MARGINS]
        self._memory = ObjectMemory(views, [_show(whole, view.window.box) for view in views])

    def next_mask(self, frame: Frame) -> Mask:
        """Where the object is in the next frame; empty where it is not to be seen."""
        carried = self._carry(frame)
        found = None if self._is_lost else self._segment(frame, carried)
        if found is None or self._is_doubtful(found):
            again = self._search(frame)
            if again is not None:
                found = self._segment(frame, again)
                self._is_lost = False
            elif found is None or found.part.sum() < _GONE_SHARE * self._usual_area:
                self._is_lost = True
        mask = np.zeros(self._shape, np.bool_)
        if found is None:
            self._soft = np.zeros_like(self._soft)
            return mask
        self._keep(found)
        mask[box_slices(found.view.window.box)] = found.part
        return mask

    @property
    def _usual_area(self) -> float:
        return float(np.median(self._areas))

    def _to_grey(self, frame: Frame) -> NDArray[np.uint8]:
        small = cv2.resize(np.ascontiguousarray(frame), self._size, interpolation=cv2.INTER_AREA)
        return np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), np.uint8)

    def _carry(self, frame: Frame) -> Plane:
        """The soft mask where flow brings it in this frame."""
        grey = self._to_grey(frame)
        # From every pixel of the new frame to where it was in the last one.
        flow = self._flow.calc(grey, self._grey, None)  # type: ignore[call-overload]  # None: no first guess
        self._grey = grey
        x, y = self._x + flow[..., 0], self._y + flow[..., 1]
        return np.asarray(cv2.remap(self._soft, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), np.float32)

    def _window(self, margin: float) -> Window:
        """Around the object's box, neither too narrow nor too small."""
        box, (rows, columns) = self._box, self._shape
        wide, high = max(box.width, _LEAST_ASPECT * box.height), max(box.height, _LEAST_ASPECT * box.width)
        wide, high = (max(side * (1 + 2 * margin), _LEAST_VIEW) / 2 for side in (wide, high))
        x, y = (box.left + box.right) / 2, (box.top + box.bottom) / 2
        left, top = int(max(0, x - wide)), int(max(0, y - high))
        right, bottom = int(np.ceil(min(columns, x + wide))), int(np.ceil(min(rows, y + high)))
        return Window(PixelBox(left, top, right, bottom), self._scale)

    def _segment(self, frame: Frame, carried: Plane) -> _Segmented:
        """The object near where the carried mask (a working plane) has it; the box becomes that one's."""
        if (held := carried > _HALF).any():
            self._box = self._scale_box(PixelBox.around(held))
        view = view_crop(self._net, frame, self._window(_MARGIN))
        score = np.asarray(cv2.resize(self._memory.score(view), (VIEW_SIDE, VIEW_SIDE), interpolation=cv2.INTER_CUBIC))
        odds = _SCORE_WEIGHT * np.clip(score, -_MOST_SCORE, _MOST_SCORE) + _weigh_carried(
            view, view.window.cut(carried)
        )
        soft = _draw_to_edges(view.picture, (1 / (1 + np.exp(-np.clip(odds, -30, 30)))).astype(np.float32))
        held = soft > _HALF
        return _Segmented(view, soft, float(score[held].mean()) if held.any() else -1.0)

    def _scale_box(self, box: PixelBox) -> PixelBox:
        """From working pixels to those of the frame."""
        across, down = self._scale
        left, top = int(box.left / across), int(box.top / down)
        return PixelBox(left, top, int(np.ceil(box.right / across)), int(np.ceil(box.bottom / down)))

    def _is_doubtful(self, found: _Segmented) -> bool:
        return found.score < _LOST_SCORE or found.part.sum() < _LOST_SHARE * self._usual_area

    def _keep(self, found: _Segmented) -> None:
        """What the next frame begins with."""
        soft = found.view.window.paste(found.soft, self._soft.shape)
        self._soft = np.clip((soft - _HALF) * np.float32(_SHARPEN) + np.float32(_HALF), 0, 1)
        if found.score > _LEARNT_SCORE and np.count_nonzero(found.soft > _HALF) > _LEARNT_PIXELS:
            self._memory.learn(found.view, found.soft)
            self._areas.append(int(found.part.sum()))

    def _search(self, frame: Frame) -> Plane | None:
        """The part of the wider surroundings that is most like the object, as a working plane, if any is."""
        window = self._window(_SEARCH_MARGIN)
        score = self._memory.score(view_crop(self._net, frame, window))
        size = VIEW_SIDE, VIEW_SIDE
        score = cv2.GaussianBlur(cv2.resize(score, size, interpolation=cv2.INTER_LINEAR), (0, 0), _CARRIED_BLUR)
        count, labels, facts, _ = cv2.connectedComponentsWithStats((score > _FOUND_SCORE).astype(np.uint8))
        unit = window.box.area / VIEW_SIDE**2 / self._usual_area
        fitting = [n for n in range(1, count) if _LEAST_FOUND < facts[n, cv2.CC_STAT_AREA] * unit < _MOST_FOUND]
        totals = {n: float(score[labels == n].sum()) * unit for n in fitting}
        best = max(totals, key=lambda n: totals[n], default=0)
        if not best or totals[best] < _FOUND_SCORE:
            return None
        return window.paste((labels == best).astype(np.float32), self._soft.shape)


def _show(plane: Plane, box: PixelBox) -> Plane:
    """A box of a plane of the frame at the view's size."""
    shrinks = max(box.width, box.height) > VIEW_SIDE
    size = VIEW_SIDE, VIEW_SIDE
    cut = np.ascontiguousarray(plane[box_slices(box)])
    return np.asarray(cv2.resize(cut, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR), np.float32)


def _weigh_carried(view: CropView, carried: Plane) -> Plane:
    """What the carried mask and the most salient object say of each pixel of the view, in log odds."""
    odds = _CARRIED_WEIGHT * _log_odds(np.asarray(cv2.GaussianBlur(carried, (0, 0), _CARRIED_BLUR)))
    held = carried > _HALF
    if not held.any():
        return odds
    distance = cv2.distanceTransform((~held).astype(np.uint8), cv2.DIST_L2, 3) / VIEW_SIDE
    odds = odds - _DISTANCE_COST * np.maximum(0, distance - _REACH)
    agreement = overlap(view.salient > _HALF, held)
    if agreement > _SALIENT_OVERLAP:
        odds = odds + _SALIENT_WEIGHT * (agreement - _SALIENT_OVERLAP) * 2 * _log_odds(view.salient)
    return np.asarray(odds, np.float32)


def _log_odds(probable: Plane) -> Plane:
    bounded = np.clip(probable, _LEAST_DOUBT, 1 - _LEAST_DOUBT)
    return np.log(bounded / (1 - bounded))


def _draw_to_edges(picture: Frame, soft: Plane) -> Plane:
    """The guided filter (He et al., "Guided Image Filtering", 2010) by the picture's brightness."""
    guide = np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), np.float32) / 255
    side = 2 * _EDGE_RADIUS + 1

    def mean(plane: Plane) -> Plane:
        return np.asarray(cv2.blur(plane, (side, side)), np.float32)

    bright, held = mean(guide), mean(soft)
    slope = (mean(guide * soft) - bright * held) / (mean(guide * guide) - bright * bright + _EDGE_CONTRAST)
    return np.clip(mean(slope) * guide + mean(held - slope * bright), 0, 1).astype(np.float32)
