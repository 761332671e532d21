"""Masks by the object net: which crops of a picture it is shown, and which of its answers is kept.

The net finds what stands out in the crop that it is shown. So it is shown several, and an answer counts for more where
it fits what was asked for, and where the other crops say the same: where they disagree, it saw different things.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from rotoscope_sandbox.vision.object_net import CROP_SIDE, WHOLE_SIDE, ObjectNet
from rotoscope_sandbox.vision.pixels import (
    Frame,
    Mask,
    PixelBox,
    Point,
    box_slices,
    components_touching,
    disc_mask,
    largest_components,
    pixel_at,
)

__all__ = ["NetMask", "box_fit", "find_in_box", "find_most_salient", "find_under_points", "overlap"]

_BOX_MARGINS = (0.15, 0.05, 0.3, 0.6)
"""Shares of the box's sides that are added on every side of it, in the order in which the crops are shown."""

_CLEAR_AGREEMENT, _CLEAR_FIT = 0.9, 0.85
"""Overlap of the first two answers, and fit of the better one, from which no other crop is shown: a pass of the net
takes most of the time of a mask.
"""

_POINT_SIDES = (0.4, 0.65)
"""Sides of the squares around points, as shares of the picture's longer side; the whole picture is shown as well."""

_POINT_MARGIN = 1.6
"""Least side of such a square, as a multiple of how far the points are apart."""

_HALF = 0.5
"""Probability from which a pixel belongs to the object."""

_CUT_OFF = 4.0
"""How much worse an answer is for each share of the crop's edges that it covers: the object goes on beyond them."""


@dataclass(frozen=True, slots=True)
class NetMask:
    """An answer of the net.

    Attributes:
        mask: of the picture's size; it may be empty.
        fit: how well it fits what was asked for, 0 to 1.
        agreement: its mean overlap with the answers for the other crops, 0 to 1; 1 where there are none.
    """

    mask: Mask
    fit: float
    agreement: float

    @property
    def trust(self) -> float:
        """How far to trust it, 0 to 1. One that fits may be right although the others saw something else."""
        return self.fit * (1 + self.agreement) / 2


def find_in_box(net: ObjectNet, frame: Frame, box: PixelBox) -> NetMask:
    """The object that fills a box; nothing outside of it. It fits as well as the box around it equals the one given."""
    within = box_slices(box)
    masks: list[Mask] = []
    fits: list[float] = []
    for crop in _distinct(box.expand(margin, frame.shape) for margin in _BOX_MARGINS):
        if len(masks) == 2 and max(fits) >= _CLEAR_FIT and overlap(*masks) >= _CLEAR_AGREEMENT:  # noqa: PLR2004
            break
        mask = np.zeros(frame.shape[:2], np.bool_)
        mask[within] = _show_crop(net, frame, crop)[within]
        masks.append(mask)
        fits.append(box_fit(mask, box))
    return _choose(masks, fits)


def find_under_points(net: ObjectNet, frame: Frame, keep: Sequence[Point], drop: Sequence[Point]) -> NetMask:
    """The parts under the points in `keep` (not empty) of what the net finds around them.

    It fits as well as it holds those points and not the ones in `drop`, and less where its crop cuts it off.
    """
    touch = np.logical_or.reduce([disc_mask(frame.shape[:2], point, 0) for point in keep])
    masks, fits = [], []
    for crop in _distinct([*_squares_around(keep, frame.shape), PixelBox(0, 0, *frame.shape[1::-1])]):
        mask = components_touching(_show_crop(net, frame, crop, WHOLE_SIDE), touch)
        masks.append(mask)
        fits.append(_points_fit(mask, keep, drop) * max(0.0, 1 - _CUT_OFF * _cut_off_share(mask, crop)))
    return _choose(masks, fits)


def find_most_salient(net: ObjectNet, frame: Frame) -> Mask:
    """The object that stands out most in a picture, without specks; it may be empty."""
    return largest_components(net.find_object(frame, WHOLE_SIDE) > _HALF)


def _distinct(crops: Iterable[PixelBox]) -> list[PixelBox]:
    """Crops near the picture's edges may be the same, and each costs a pass of the net."""
    return list(dict.fromkeys(crops))


def _show_crop(net: ObjectNet, frame: Frame, crop: PixelBox, side: int = CROP_SIDE) -> Mask:
    """What the net finds in a crop, as a mask of the picture's size."""
    mask = np.zeros(frame.shape[:2], np.bool_)
    within = box_slices(crop)
    mask[within] = net.find_object(np.ascontiguousarray(frame[within]), side) > _HALF
    return mask


def _choose(masks: Sequence[Mask], fits: Sequence[float]) -> NetMask:
    agreements = [
        float(np.mean([overlap(mask, other) for other in masks if other is not mask] or [1.0])) for mask in masks
    ]
    return max(map(NetMask, masks, fits, agreements), key=lambda one: one.trust)


def overlap(one: Mask, other: Mask) -> float:
    """Intersection over union; 0 where both are empty."""
    union = int(np.count_nonzero(one | other))
    return int(np.count_nonzero(one & other)) / union if union else 0.0


def box_fit(mask: Mask, box: PixelBox) -> float:
    """Intersection over union of the box around a mask with a box that holds it; 0 for an empty mask."""
    return PixelBox.around(mask).area / box.area if mask.any() else 0.0


def _points_fit(mask: Mask, keep: Sequence[Point], drop: Sequence[Point]) -> float:
    """The share of the points in `keep` that a mask holds, times the share of those in `drop` that it does not."""
    held, excluded = (
        float(np.mean([mask[pixel_at(point, mask.shape)] for point in points] or [0.0])) for points in (keep, drop)
    )
    return held * (1 - excluded)


def _squares_around(points: Sequence[Point], shape: tuple[int, ...]) -> list[PixelBox]:
    """Squares with the points in their middle, moved and cut so that they lie within the picture."""
    xs, ys = zip(*points, strict=True)
    apart = max(max(xs) - min(xs), max(ys) - min(ys)) * _POINT_MARGIN
    middle = (max(xs) + min(xs)) / 2, (max(ys) + min(ys)) / 2
    sides = [max(share * max(shape[:2]), apart) for share in _POINT_SIDES]
    return [_square_at(middle, side, shape) for side in sides]


def _square_at(middle: Point, side: float, shape: tuple[int, ...]) -> PixelBox:
    starts, ends = [], []
    for at, most in zip(middle, shape[1::-1], strict=True):
        length = max(1, min(round(side), most))
        start = min(max(0, round(at - side / 2)), most - length)
        starts.append(start)
        ends.append(start + length)
    return PixelBox(*starts, *ends)


def _cut_off_share(mask: Mask, crop: PixelBox) -> float:
    """The share of the crop's edges that a mask covers; the picture's own edges do not count."""
    height, width = mask.shape
    part = mask[box_slices(crop)]
    inner = (crop.left > 0, part[:, 0]), (crop.top > 0, part[0]), (crop.right < width, part[:, -1])
    edges = [edge for is_inner, edge in (*inner, (crop.bottom < height, part[-1])) if is_inner]
    return float(np.concatenate(edges).mean()) if edges else 0.0
