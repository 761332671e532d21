"""From a box or points to a mask: GrabCut on a crop around a box, a node of the merge tree under a point.

The crop (50 % context, longer side 384) is what makes it good and quick: on whole frames GrabCut takes the
background's colours from far away and often ends empty. The mask is computed on the small crop and brought to
full size along the picture's own edges.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from rotoscope_sandbox.vision.grabcut import (
    FINE_SIDE,
    GrabcutHints,
    dilate_square,
    segment_crop,
    upsample_mask,
)
from rotoscope_sandbox.vision.pixels import Frame, Mask, PixelBox, box_slices, disc_mask, shrink_to_side, to_lab
from rotoscope_sandbox.vision.region_merge import RegionTree, build_region_tree

__all__ = ["Point", "Segmentation", "most_salient_region", "segment_box", "segment_boxes", "segment_points"]

Point = tuple[float, float]
"""x, y in pixels."""

_CONTEXT = 0.5
"""Share of the box that is added on every side of the crop: the background that GrabCut learns from."""

_CLICK = 0.012
"""Radius of a click, as a share of the crop's longer side: 5 pixels of 384."""

_COLLAPSED = 0.03
"""Share of the box below which GrabCut took the object for background."""

_FILLED = 0.9
"""Share of the box from which GrabCut took the background for object."""

_METHOD = "grabcut from a box"
_COLLAPSED_NOTICE = "No outline was found inside the box: an ellipse was drawn instead."
_FILLED_NOTICE = "The mask fills the box: the object and what is around it could not be told apart."

_RIM = 0.05
"""Share of the picture on every side that counts as background where nothing says what is wanted."""

_MOST_GUESS_CONFIDENCE = 0.25
"""Highest confidence of a region that was not asked for."""

_TREE_SIDE = 320
"""Longer side in pixels at which regions are merged."""

_SPECK = 0.003
"""Merge cost, per pixel of the picture, added to every node: without it specks, which cost nothing, win."""

_LARGE = 0.25
"""Share of the picture at which a region's score is halved: a click seldom means a third of the picture."""


@dataclass(frozen=True, slots=True)
class Segmentation:
    """A mask of the picture's own size, how it was made, its confidence (0 to 1), and a notice for people, if any."""

    mask: Mask
    method: str
    confidence: float
    notice: str | None = None


def segment_box(frame: Frame, box: PixelBox, keep: Sequence[Point] = (), drop: Sequence[Point] = ()) -> Segmentation:
    """The object that fills a box, by GrabCut on a crop around it.

    Where GrabCut takes everything for background, or the whole box for the object, a notice says so.

    Args:
        frame: the picture, RGB.
        box: within the picture.
        keep: points that certainly belong to the object.
        drop: points that certainly do not.
    """
    region = box.expand(_CONTEXT, frame.shape[:2])
    crop = frame[box_slices(region)]
    small, _ = shrink_to_side(crop, FINE_SIDE)
    hints = _crop_hints(region, small.shape[:2], box, keep, drop)
    found, area = segment_crop(small, hints), hints.inside.sum()
    collapsed = found.sum() < _COLLAPSED * area
    if collapsed:
        found = _ellipse_mask(hints)
    mask = np.zeros(frame.shape[:2], np.bool_)
    mask[box_slices(region)] = upsample_mask(found, small, crop)
    if collapsed:
        return Segmentation(mask, "ellipse", 0.1, _COLLAPSED_NOTICE)
    confidence = _colour_contrast(small, found)
    if found.sum() > _FILLED * area:
        return Segmentation(mask, _METHOD, round(confidence * 0.4, 2), _FILLED_NOTICE)
    return Segmentation(mask, _METHOD, confidence)


def segment_boxes(
    frame: Frame, boxes: Sequence[PixelBox], keep: Sequence[Point], drop: Sequence[Point]
) -> Segmentation:
    """Several boxes at once: one mask of all objects, the lowest confidence and the first notice of them."""
    found = [segment_box(frame, box, *(_points_in_box(points, box) for points in (keep, drop))) for box in boxes]
    together = np.logical_or.reduce([one.mask for one in found])
    notices = [one.notice for one in found if one.notice]
    least = min(one.confidence for one in found)
    return replace(found[0], mask=together, confidence=least, notice=notices[0] if notices else None)


def most_salient_region(frame: Frame) -> Segmentation:
    """What has other colours than the rim of the picture; confidence at most 0.25, because it was not asked for."""
    found = segment_box(frame, PixelBox(0, 0, *frame.shape[1::-1]).expand(-_RIM, frame.shape))
    return replace(
        found, method="salience by grabcut", confidence=round(min(_MOST_GUESS_CONFIDENCE, found.confidence / 3), 2)
    )


def _points_in_box(points: Sequence[Point], box: PixelBox) -> list[Point]:
    return [(x, y) for x, y in points if box.left <= x < box.right and box.top <= y < box.bottom]


def segment_points(frame: Frame, keep: Sequence[Point], drop: Sequence[Point] = ()) -> Segmentation:
    """The parts of the picture that the points in `keep` (not empty) lie on and those in `drop` do not.

    The merge tree gives the part: on its way from the clicked superpixel to the whole picture it is the node that
    stays itself for longest; its outline is drawn along the picture's edges.
    """
    small, scale = shrink_to_side(frame, _TREE_SIDE)
    tree = build_region_tree(small)
    unwanted = {_leaf_at(tree, point, scale) for point in drop}
    mask = np.zeros(frame.shape[:2], np.bool_)
    confidences: list[float] = []
    for point in keep:
        click = disc_mask(mask.shape, point, 0)
        if not (mask & click).any():
            part = tree.mask(_most_stable_node(tree, _leaf_at(tree, point, scale), unwanted))
            mask |= upsample_mask(part, small, frame) | click
            confidences.append(_colour_contrast(small, part))
    return Segmentation(mask, "merge tree from points", min(confidences))


def _leaf_at(tree: RegionTree, point: Point, scale: float) -> int:
    """The superpixel under a point of the full picture."""
    height, width = tree.labels.shape
    x, y = min(max(int(point[0] * scale), 0), width - 1), min(max(int(point[1] * scale), 0), height - 1)
    return int(tree.labels[y, x])


def _most_stable_node(tree: RegionTree, leaf: int, unwanted: set[int]) -> int:
    """The node above a leaf whose next merge costs most, in proportion to its own; none that holds an unwanted leaf."""
    banned = {node for other in unwanted - {leaf} for node in tree.ancestors(other)}
    total = sum(tree.sizes[: tree.leaves])
    best, most = leaf, 0.0
    for node in tree.ancestors(leaf)[:-1]:
        if node in banned:
            break
        stability = tree.costs[tree.parents[node]] / (tree.costs[node] + _SPECK * total)
        score = stability / (1 + tree.sizes[node] / (_LARGE * total))
        if score > most:
            best, most = node, score
    return best


def _crop_hints(
    region: PixelBox, shape: tuple[int, ...], box: PixelBox, keep: Sequence[Point], drop: Sequence[Point]
) -> GrabcutHints:
    """Box and clicks in the pixels of a crop of that (height, width); a pixel that is clicked both ways is kept."""
    scale = shape[1] / region.width, shape[0] / region.height

    def crop_point(x: float, y: float) -> Point:
        return (x - region.left) * scale[0], (y - region.top) * scale[1]

    def click_mask(points: Sequence[Point]) -> Mask:
        discs = [disc_mask(shape, crop_point(x, y), max(shape) * _CLICK) for x, y in points]
        return np.asarray(np.logical_or.reduce([np.zeros(shape, np.bool_), *discs]), np.bool_)

    (left, top), (right, bottom) = crop_point(box.left, box.top), crop_point(box.right, box.bottom)
    inside = np.zeros(shape, np.bool_)
    inside[round(top) : max(round(bottom), round(top) + 1), round(left) : max(round(right), round(left) + 1)] = True
    wanted = click_mask(keep)
    return GrabcutHints(inside, wanted, click_mask(drop) & ~wanted)


def _ellipse_mask(hints: GrabcutHints) -> Mask:
    """The ellipse that fills the box: what is returned when GrabCut takes everything for background."""
    box = PixelBox.around(hints.inside)
    canvas = np.zeros(hints.inside.shape, np.uint8)
    centre = (box.left + box.right - 1) / 2, (box.top + box.bottom - 1) / 2
    cv2.ellipse(canvas, (centre, (float(box.width), float(box.height)), 0.0), 1, -1)
    return (canvas.astype(np.bool_) & ~hints.drop) | hints.keep


def _colour_contrast(small: Frame, found: Mask) -> float:
    """Confidence, 0.2 to 0.9: Lab distance between the mean colours of 3 pixels inside and outside of the outline."""
    within, beyond = found & dilate_square(~found, 3), dilate_square(found, 3) & ~found
    if not within.any() or not beyond.any():
        return 0.2
    colours = to_lab(small)
    apart = float(np.linalg.norm(colours[within].mean(axis=0) - colours[beyond].mean(axis=0)))
    return round(min(0.9, 0.3 + apart / 60), 2)
