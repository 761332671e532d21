"""Tracking a mask by what the object net sees of it.

In each frame the net is shown the surroundings of where flow carries the mask. A rule that was learnt from the masks so
far (`object_memory`) tells the object from them, less what it was wrong about before (`look_alikes`); the carried mask
says where it can be (`view_masks`). After a loss the object is looked for further away.

Figures here were found by trial on clips whose masks people drew (`bench/track_video.py`); none follows from theory.
"""

from collections import deque
from dataclasses import dataclass

import cv2
import numpy as np

from rotoscope_sandbox.film.frame_flow import FrameFlow
from rotoscope_sandbox.film.look_alikes import LookAlikes
from rotoscope_sandbox.film.object_features import VIEW_SIDE, CropView, Window, view_crop
from rotoscope_sandbox.film.object_memory import ObjectMemory
from rotoscope_sandbox.film.object_motion import weigh_motion
from rotoscope_sandbox.film.view_masks import draw_mask, find_like_part
from rotoscope_sandbox.vision.object_net import ObjectNet
from rotoscope_sandbox.vision.pixels import Frame, Mask, PixelBox, Plane, box_slices

__all__ = ["FeatureTracker"]

_HALF = 0.5
"""A pixel of a soft mask (0 to 1) from here on belongs to the object."""

# Which surroundings of the object the net is shown.
_MARGIN = 0.45
"""Share of the object's box, on every side of it, that is shown with it."""

_FIRST_MARGINS = (0.45, 0.81, 0.225)
"""The margins of the views of the first frame from which the rule is learnt: later ones differ in size as well."""

_SEARCH_MARGIN, _WIDER_SEARCH, _WIDEST_SEARCH = 1.3, 0.2, 2.5
"""The margin where the object is looked for, how much it grows with each frame without it, and the most: what is much
smaller in a view than before looks otherwise to the net.
"""

_LEAST_ASPECT = 0.6
"""Shorter side of a view before its margin, as a share of the longer one."""

_LEAST_VIEW = 64
"""Least side of a view in pixels of the frame."""

_SHARPEN = 1.6
"""Contrast of the soft mask that flow carries on: every step blurs it a little."""

# When the object is lost, and when a mask is learnt from.
_REMEMBERED = 15
"""Frames whose masks give the usual area and size, their median."""

_LOST_SHARE, _GONE_SHARE = 0.35, 0.02
"""Shares of the usual area: the object is looked for below the first, and out of sight below the second, where it is
not found.
"""

_LOST_SCORE = -0.1
"""Mean score below which it is looked for."""

_LEARNT_SCORE, _LEARNT_PIXELS = 0.2, 20
"""Mean score, and pixels of the view, above which a mask is learnt from and its size remembered."""

_LEARNT_SHARE, _MOST_LEARNT_SHARE = 0.35, 2.5
"""Shares of the usual area between which it is: what is much smaller is not the whole object, what is much larger more
than it.
"""


@dataclass(frozen=True, slots=True)
class _Segmented:
    """What is found in a view.

    Attributes:
        view: where.
        scores: of the grid's cells, as the rule gives them.
        soft: how probably each pixel of the view is the object, 0 to 1.
        score: the mean score of the object; -1 where there is none.
        part: the object within the box of the view, in pixels of the frame.
        area: its pixels.
    """

    view: CropView
    scores: Plane
    soft: Plane
    score: float
    part: Mask
    area: int


class FeatureTracker:
    """Tracks a mask from the first frame through a clip; frames must come in order.

    Args:
        frame: the first frame, RGB.
        mask: the object in it, of the same height and width; not empty.
        net: a net that has features.
    """

    def __init__(self, frame: Frame, mask: Mask, net: ObjectNet) -> None:
        self._net, self._shape = net, mask.shape
        self._flow = FrameFlow(frame)
        whole = mask.astype(np.float32)
        self._soft = np.asarray(cv2.resize(whole, self._flow.size, interpolation=cv2.INTER_AREA), np.float32)
        self._box = PixelBox.around(mask)
        self._sizes = deque([(int(mask.sum()), self._box.width, self._box.height)], maxlen=_REMEMBERED)
        self._frames_lost = 0
        self._look_alikes = LookAlikes(self._soft.shape)
        views = [view_crop(net, frame, self._window(self._box, margin)) for margin in _FIRST_MARGINS]
        self._memory = ObjectMemory(views, [_show(whole, view.window.box) for view in views])

    def next_mask(self, frame: Frame) -> Mask:
        """Where the object is in the next frame; empty where it is not to be seen."""
        step = self._flow.advance(self._flow.shrink(frame))
        self._look_alikes.advance(step)
        found = None
        if not self._frames_lost:
            carried, trust = step.carry(self._soft), self._flow.trust(step)
            found = self._segment(frame, carried, trust, trust * weigh_motion(step.back, carried))
        if found is None or self._is_doubtful(found):
            found = self._find_again(frame, found)
        mask = np.zeros(self._shape, np.bool_)
        if found is None:
            self._soft = np.zeros_like(self._soft)
            return mask
        self._keep(found)
        mask[box_slices(found.view.window.box)] = found.part
        return mask

    @property
    def _usual_area(self) -> float:
        return float(np.median([area for area, _, __ in self._sizes]))

    def _window(self, box: PixelBox, margin: float) -> Window:
        """Around the object's box, neither too narrow nor too small."""
        rows, columns = self._shape
        wide, high = max(box.width, _LEAST_ASPECT * box.height), max(box.height, _LEAST_ASPECT * box.width)
        wide, high = (max(side * (1 + 2 * margin), _LEAST_VIEW) / 2 for side in (wide, high))
        x, y = (box.left + box.right) / 2, (box.top + box.bottom) / 2
        left, top = int(max(0, x - wide)), int(max(0, y - high))
        right, bottom = int(np.ceil(min(columns, x + wide))), int(np.ceil(min(rows, y + high)))
        return Window(PixelBox(left, top, right, bottom), self._flow.scale)

    def _segment(self, frame: Frame, carried: Plane, trust: Plane, motion: Plane) -> _Segmented:
        """The object near where the carried mask has it; the box becomes that one's. All are working planes."""
        if (held := carried > _HALF).any():
            self._box = self._scale_box(PixelBox.around(held))
        view = view_crop(self._net, frame, self._window(self._box, _MARGIN))
        scores = self._memory.score(view)
        corrected = self._look_alikes.correct(view, scores)
        soft = draw_mask(view, corrected, *map(view.window.cut, (carried, trust, motion)))
        inside = cv2.resize(corrected, (VIEW_SIDE, VIEW_SIDE), interpolation=cv2.INTER_LINEAR)[soft > _HALF]
        box = view.window.box
        part = np.asarray(cv2.resize(soft, (box.width, box.height), interpolation=cv2.INTER_CUBIC) > _HALF)
        score = float(inside.mean()) if inside.size else -1.0
        return _Segmented(view, scores, soft, score, part, int(np.count_nonzero(part)))

    def _scale_box(self, box: PixelBox) -> PixelBox:
        """From working pixels to those of the frame."""
        across, down = self._flow.scale
        left, top = int(box.left / across), int(box.top / down)
        return PixelBox(left, top, int(np.ceil(box.right / across)), int(np.ceil(box.bottom / down)))

    def _is_doubtful(self, found: _Segmented) -> bool:
        return found.score < _LOST_SCORE or found.area < _LOST_SHARE * self._usual_area

    def _find_again(self, frame: Frame, found: _Segmented | None) -> _Segmented | None:
        """Look for the object further away; what was found, if anything, remains where nothing better is."""
        margin = min(_SEARCH_MARGIN + _WIDER_SEARCH * self._frames_lost, _WIDEST_SEARCH)
        view = view_crop(self._net, frame, self._window(self._whole_box(), margin))
        like = find_like_part(self._memory.score(view), self._usual_area / view.window.box.area)
        if like is not None:
            self._look_alikes.forget()
            self._frames_lost = 0
            carried = view.window.paste(like, self._soft.shape)
            return self._segment(frame, carried, np.ones_like(carried), np.zeros_like(carried))
        if found is not None and found.area >= _GONE_SHARE * self._usual_area:
            return found
        self._frames_lost += 1
        return None

    def _whole_box(self) -> PixelBox:
        """The last box at the usual size: what was seen last of an object that went out of sight was a part of it."""
        wide, high = (float(np.median([size[axis] for size in self._sizes])) for axis in (1, 2))
        across, down = max(0, wide - self._box.width) / 2, max(0, high - self._box.height) / 2
        left, top = round(self._box.left - across), round(self._box.top - down)
        return PixelBox(left, top, round(self._box.right + across), round(self._box.bottom + down))

    def _keep(self, found: _Segmented) -> None:
        """What the next frame begins with."""
        self._look_alikes.learn(found.view, found.scores, found.soft)
        soft = found.view.window.paste(found.soft, self._soft.shape)
        self._soft = np.clip((soft - _HALF) * np.float32(_SHARPEN) + np.float32(_HALF), 0, 1)
        is_usual = _LEARNT_SHARE < found.area / self._usual_area < _MOST_LEARNT_SHARE
        if is_usual and found.score > _LEARNT_SCORE and np.count_nonzero(found.soft > _HALF) > _LEARNT_PIXELS:
            self._memory.learn(found.view, found.soft)
            box = PixelBox.around(found.part)
            self._sizes.append((found.area, box.width, box.height))


def _show(plane: Plane, box: PixelBox) -> Plane:
    """A box of a plane of the frame at the view's size."""
    shrinks = max(box.width, box.height) > VIEW_SIDE
    cut, size = np.ascontiguousarray(plane[box_slices(box)]), (VIEW_SIDE, VIEW_SIDE)
    return np.asarray(cv2.resize(cut, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR), np.float32)
