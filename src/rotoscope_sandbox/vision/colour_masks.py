"""Masks by colours alone: GrabCut on a crop around a box, a node of the merge tree under a point.

The crop (50 % context, longer side 384) is what makes GrabCut good and quick: on whole frames it takes the background's
colours from far away and often ends empty. The mask is computed on the small crop and brought to full size along the
picture's own edges.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from rotoscope_sandbox.vision.grabcut import (
    FINE_SIDE,
    GrabcutHints,
    decide_again,
    dilate_square,
    resize_mask,
    segment_crop,
    upsample_mask,
)
from rotoscope_sandbox.vision.pixels import (
    Frame,
    Mask,
    PixelBox,
    Point,
    box_slices,
    dilate_disc,
    disc_mask,
    pixel_at,
    shrink_to_side,
    to_lab,
)
from rotoscope_sandbox.vision.region_merge import RegionTree, build_region_tree

__all__ = ["Segmentation", "correct_by_clicks", "find_by_colours", "find_parts_by_colours"]

_CONTEXT = 0.5
"""Share of the box that is added on every side of the crop: the background that GrabCut learns from."""

_CLICK = 0.012
"""Radius of a click, as a share of the crop's longer side: 5 pixels of 384."""

_CORRECTION = 0.1
"""How far around a click a mask that it contradicts is decided again, as a share of the crop's longer side. Over 22
objects with hand-made masks, clicked where the mask was most wrong, five clicks then add 0.06 to the mean intersection
over union; decided again as a whole, 0.01.
"""

_LARGEST_PART = 0.08
"""Largest share of the box that a part under such a click may have to be added or removed as a whole, like a shadow.
Larger ones are too often more than was meant.
"""

_COLLAPSED = 0.03
"""Share of the box below which GrabCut took the object for background."""

_FILLED = 0.9
"""Share of the box from which GrabCut took the background for object."""

_METHOD = "grabcut from a box"
_COLLAPSED_NOTICE = "No outline was found inside the box: an ellipse was drawn instead."
_FILLED_NOTICE = "The mask fills the box: the object and what is around it could not be told apart."

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


def find_by_colours(
    frame: Frame, box: PixelBox, keep: Sequence[Point] = (), drop: Sequence[Point] = ()
) -> Segmentation:
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


def find_parts_by_colours(frame: Frame, keep: Sequence[Point], drop: Sequence[Point] = ()) -> Segmentation:
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


def correct_by_clicks(frame: Frame, mask: Mask, within: PixelBox, keep: Sequence[Point], drop: Sequence[Point]) -> Mask:
    """A mask that is decided again, by GrabCut, around the clicks that contradict it; elsewhere it stays as it is.

    Args:
        frame: the picture, RGB.
        mask: of the picture's size.
        within: the box that may hold something; outside of it the mask is empty.
        keep: points that certainly belong to the object.
        drop: points that certainly do not.
    """
    region = within.expand(_CONTEXT, frame.shape[:2])
    crop = frame[box_slices(region)]
    small, _ = shrink_to_side(crop, _TREE_SIDE)
    hints = _crop_hints(region, small.shape[:2], within, keep, drop)
    before = resize_mask(mask[box_slices(region)], small.shape[:2])
    guess, disputed = _dispute(small, before, hints)
    found = upsample_mask(decide_again(small, guess, disputed, hints), small, crop)
    changed = resize_mask(disputed, found.shape)
    corrected = mask.copy()
    corrected[box_slices(region)][changed] = found[changed]
    return _apply_clicks(corrected, keep, drop)


def _dispute(small: Frame, before: Mask, hints: GrabcutHints) -> tuple[Mask, Mask]:
    """What a mask may be instead, and where it is in dispute: around the clicks that contradict it, and in the small
    parts of one colour that they lie on.
    """
    wanted, unwanted = hints.keep & ~before, hints.drop & before
    reach = max(1, round(_CORRECTION * max(small.shape)))
    near = dilate_disc(wanted | unwanted, reach)
    tree = build_region_tree(small)
    largest = _LARGEST_PART * np.count_nonzero(hints.inside)
    added = _clicked_parts(tree, wanted, hints.drop, hints.inside & ~before, largest)
    removed = _clicked_parts(tree, unwanted, hints.keep, hints.inside & before, largest)
    return (before | added) & ~removed, (near & hints.inside) | added | removed


def _clicked_parts(tree: RegionTree, clicked: Mask, others: Mask, within: Mask, largest: float) -> Mask:
    """The parts under clicked pixels that hold none of the others', as far as they lie within a mask and are small."""
    parts = np.zeros_like(within)
    unwanted = set(np.unique(tree.labels[others]).tolist())
    for leaf in np.unique(tree.labels[clicked]).tolist():
        part = tree.mask(_most_stable_node(tree, leaf, unwanted)) & within
        if np.count_nonzero(part) <= largest:
            parts |= part
    return parts


def _apply_clicks(mask: Mask, keep: Sequence[Point], drop: Sequence[Point]) -> Mask:
    """The mask with what was clicked on, whatever an outline that was smoothed says; in place."""
    for points, selected in ((drop, False), (keep, True)):
        for point in points:
            mask[disc_mask(mask.shape, point, 1)] = selected
    return mask


def _leaf_at(tree: RegionTree, point: Point, scale: float) -> int:
    """The superpixel under a point of the full picture."""
    return int(tree.labels[pixel_at((point[0] * scale, point[1] * scale), tree.labels.shape)])


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
