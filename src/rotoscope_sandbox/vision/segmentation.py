"""From a box, points or nothing to a mask: by the object net where there is one, else by colours.

The net is not always right. Where the crops that it is shown disagree, colours decide; where clicks contradict its
mask, GrabCut goes on from there.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from rotoscope_sandbox.vision.colour_masks import (
    Segmentation,
    correct_by_clicks,
    find_by_colours,
    find_parts_by_colours,
)
from rotoscope_sandbox.vision.net_masks import NetMask, box_fit, find_in_box, find_most_salient, find_under_points
from rotoscope_sandbox.vision.object_net import ObjectNet
from rotoscope_sandbox.vision.pixels import Frame, Mask, PixelBox, Point, disc_mask, pixel_at

__all__ = ["Segmentation", "most_salient_region", "segment_box", "segment_boxes", "segment_points"]

_LEAST_AGREEMENT = 0.4
"""Overlap of the net's answers for several crops around a box below which they are different things."""

_LEAST_BOX_FIT = 0.5
"""How well the box around a mask by colours must fit the one given to be better than answers that disagree."""

_LEAST_FIT = 0.3
"""Fit below which the net has found something else than what was clicked on."""

_CLICK_MARGIN = 0.25
"""Share of the box around a mask, on every side of it, within which clicks without a box may correct it."""

_MOST_CONFIDENCE = 0.95
_RIM = 0.05
"""Share of the picture on every side that counts as background where nothing says what is wanted."""

_MOST_GUESS_CONFIDENCE = 0.25
"""Highest confidence of a region that was not asked for."""

_WHOLE = 0.95
"""Share of the picture from which a mask tells nothing: nothing stood out."""


def segment_box(
    frame: Frame, box: PixelBox, keep: Sequence[Point] = (), drop: Sequence[Point] = (), net: ObjectNet | None = None
) -> Segmentation:
    """The object that fills a box.

    Args:
        frame: the picture, RGB.
        box: within the picture.
        keep: points that certainly belong to the object.
        drop: points that certainly do not.
        net: the object net, if there is one.
    """
    found = find_in_box(net, frame, box) if net is not None else None
    if found is not None and found.mask.any() and found.agreement >= _LEAST_AGREEMENT:
        return _by_net(frame, found, box, "a box", keep, drop)
    coloured = find_by_colours(frame, box, keep, drop)
    if found is None or not found.mask.any() or box_fit(coloured.mask, box) >= _LEAST_BOX_FIT:
        return coloured
    return _by_net(frame, found, box, "a box", keep, drop)


def segment_boxes(
    frame: Frame, boxes: Sequence[PixelBox], keep: Sequence[Point], drop: Sequence[Point], net: ObjectNet | None = None
) -> Segmentation:
    """Several boxes at once: one mask of all objects, the lowest confidence and the first notice of them."""
    found = [segment_box(frame, box, _points_in_box(keep, box), _points_in_box(drop, box), net) for box in boxes]
    together = np.logical_or.reduce([one.mask for one in found])
    notices = [one.notice for one in found if one.notice]
    least = min(one.confidence for one in found)
    return replace(found[0], mask=together, confidence=least, notice=notices[0] if notices else None)


def segment_points(
    frame: Frame, keep: Sequence[Point], drop: Sequence[Point] = (), net: ObjectNet | None = None
) -> Segmentation:
    """The parts of the picture that the points in `keep` (not empty) lie on and those in `drop` do not."""
    if net is not None:
        found = find_under_points(net, frame, keep, drop)
        if found.fit >= _LEAST_FIT:
            clicked = [disc_mask(found.mask.shape, point, 0) for point in keep]
            around = PixelBox.around(np.logical_or.reduce([found.mask, *clicked]))
            return _by_net(frame, found, around.expand(_CLICK_MARGIN, frame.shape), "points", keep, drop)
    return find_parts_by_colours(frame, keep, drop)


def most_salient_region(frame: Frame, net: ObjectNet | None = None) -> Segmentation:
    """What stands out in a picture; confidence at most 0.25, because it was not asked for.

    The net gives a whole object; without it, it is what has other colours than the rim of the picture.
    """
    if net is not None:
        mask = find_most_salient(net, frame)
        if mask.any() and mask.mean() < _WHOLE:
            return Segmentation(mask, "salience by u2net", _MOST_GUESS_CONFIDENCE)
    found = find_by_colours(frame, PixelBox(0, 0, *frame.shape[1::-1]).expand(-_RIM, frame.shape))
    confidence = round(min(_MOST_GUESS_CONFIDENCE, found.confidence / 3), 2)
    return replace(found, method="salience by grabcut", confidence=confidence)


def _by_net(
    frame: Frame, found: NetMask, within: PixelBox, asked: str, keep: Sequence[Point], drop: Sequence[Point]
) -> Segmentation:
    """The net's mask, corrected where clicks contradict it."""
    method, mask = f"u2net from {asked}", found.mask
    confidence = round(min(_MOST_CONFIDENCE, found.trust), 2)
    if _contradict(mask, keep, drop):
        mask, method = correct_by_clicks(frame, mask, within, keep, drop), f"{method}, corrected by grabcut"
    return Segmentation(mask, method, confidence)


def _contradict(mask: Mask, keep: Sequence[Point], drop: Sequence[Point]) -> bool:
    """Whether a point that is wanted lies outside of a mask, or one that is excluded inside."""
    missing = any(not mask[pixel_at(point, mask.shape)] for point in keep)
    return missing or any(mask[pixel_at(point, mask.shape)] for point in drop)


def _points_in_box(points: Sequence[Point], box: PixelBox) -> list[Point]:
    return [(x, y) for x, y in points if box.left <= x < box.right and box.top <= y < box.bottom]
