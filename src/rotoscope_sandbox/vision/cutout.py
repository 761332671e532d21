"""From a box or points to a mask: GrabCut on a crop around the object.

The crop (50 % context, longer side 384) is what makes it good and quick: on whole frames GrabCut takes the
background's colours from far away and often ends empty. The mask is computed on the small crop and brought to
full size along the picture's own edges.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from rotoscope_sandbox.vision.outline import FINE_SIDE, Hints, outline, resized, sharpened, spread
from rotoscope_sandbox.vision.pixels import Box, Frame, Mask, disc, fit, lab, window
from rotoscope_sandbox.vision.tree import Tree, grow

__all__ = ["Cutout", "Point", "by_box", "by_boxes", "by_likely", "by_points"]

Point = tuple[float, float]
"""x, y in pixels."""

_CONTEXT = 0.5
_CLICK = 0.012
"""How far a click reaches, as a share of the crop's longer side."""

_COLLAPSED = 0.03
_FILLED = 0.9
_FAITHFUL = 0.5
_METHOD = "grabcut from a box"
_COLLAPSED_NOTICE = "No outline was found inside the box: an ellipse was drawn instead."
_FILLED_NOTICE = "The mask fills the box: the object and what is around it could not be told apart."
_ROOM = 0.06
"""How far an outline may move away from a rough mask, as a share of the crop's longer side."""

_TREE_SIDE = 320
_SPECK = 0.003
_LARGE = 0.25


@dataclass(frozen=True, slots=True)
class Cutout:
    """A mask of the picture's own size, how it was made, how far to trust it (0 to 1), and what to know about it."""

    mask: Mask
    method: str
    confidence: float
    notice: str | None = None


def by_box(frame: Frame, box: Box, keep: Sequence[Point] = (), drop: Sequence[Point] = ()) -> Cutout:
    """The object that fills a box; points inside it correct the result."""
    return _cut(frame, box, None, keep, drop)


def by_boxes(frame: Frame, boxes: Sequence[Box], keep: Sequence[Point], drop: Sequence[Point]) -> Cutout:
    """Several boxes at once: one mask of everything that was found in them."""
    found = [by_box(frame, box, *(_within(points, box) for points in (keep, drop))) for box in boxes]
    together = np.logical_or.reduce([one.mask for one in found])
    notices = [one.notice for one in found if one.notice]
    least = min(one.confidence for one in found)
    return replace(found[0], mask=together, confidence=least, notice=notices[0] if notices else None)


def _within(points: Sequence[Point], box: Box) -> list[Point]:
    return [(x, y) for x, y in points if box.left <= x < box.right and box.top <= y < box.bottom]


def by_points(frame: Frame, keep: Sequence[Point], drop: Sequence[Point] = ()) -> Cutout:
    """The parts of the picture that the points in `keep` lie on and those in `drop` do not.

    The merge tree gives the part: on its way from the clicked superpixel to the whole picture it is the node that
    stays itself for longest. Then GrabCut finds its outline on a crop around it.
    """
    small, scale = fit(frame, _TREE_SIDE)
    tree = grow(small)
    unwanted = {_leaf(tree, point, scale) for point in drop}
    mask = np.zeros(frame.shape[:2], np.bool_)
    trusts: list[float] = []
    for point in keep:
        if not trusts or not (mask & disc(mask.shape, point, 0)).any():
            part = tree.mask(_steadiest(tree, _leaf(tree, point, scale), unwanted))
            found = by_likely(frame, resized(part, mask.shape), [point], drop)
            mask |= found.mask
            trusts.append(found.confidence)
    return Cutout(mask, "merge tree from points, then grabcut", min(trusts))


def by_likely(frame: Frame, likely: Mask, keep: Sequence[Point] = (), drop: Sequence[Point] = ()) -> Cutout:
    """The object that a rough mask shows, outlined."""
    reach = round(max(frame.shape[:2]) * _CLICK)
    around = Box.around(likely)
    roomy = Box(around.left - reach, around.top - reach, around.right + reach, around.bottom + reach)
    return _cut(frame, roomy.grown(0, frame.shape[:2]), likely, keep, drop)


def _leaf(tree: Tree, point: Point, scale: float) -> int:
    height, width = tree.labels.shape
    x, y = min(max(int(point[0] * scale), 0), width - 1), min(max(int(point[1] * scale), 0), height - 1)
    return int(tree.labels[y, x])


def _steadiest(tree: Tree, leaf: int, unwanted: set[int]) -> int:
    """The node above a leaf that costs most, in proportion, to be merged any further.

    Two corrections: specks must not win because their own merges cost nothing, and whoever clicks on something
    seldom means a third of the picture.
    """
    banned = {node for other in unwanted - {leaf} for node in tree.path(other)}
    total = sum(tree.sizes[: tree.leaves])
    best, most = leaf, 0.0
    for node in tree.path(leaf)[:-1]:
        if node in banned:
            break
        steady = tree.costs[tree.parents[node]] / (tree.costs[node] + _SPECK * total)
        score = steady / (1 + tree.sizes[node] / (_LARGE * total))
        if score > most:
            best, most = node, score
    return best


def _cut(frame: Frame, box: Box, likely: Mask | None, keep: Sequence[Point], drop: Sequence[Point]) -> Cutout:
    region = box.grown(_CONTEXT, frame.shape[:2])
    crop = frame[window(region)]
    small, scale = fit(crop, FINE_SIDE)
    lens = _Lens(region, scale, small.shape[:2])
    hints = lens.hints(box, likely, keep, drop)
    found = outline(small, hints)
    if likely is not None:
        found = _faithful(found, hints)
    collapsed = found.sum() < _COLLAPSED * hints.likely.sum()
    if collapsed:
        found = _ellipse(hints)
    mask = np.zeros(frame.shape[:2], np.bool_)
    mask[window(region)] = sharpened(found, small, crop)
    if collapsed:
        return Cutout(mask, "ellipse", 0.1, _COLLAPSED_NOTICE)
    trust = _trust(small, found)
    if likely is None and found.sum() > _FILLED * hints.inside.sum():
        return Cutout(mask, _METHOD, round(trust * 0.4, 2), _FILLED_NOTICE)
    return Cutout(mask, _METHOD, trust)


def _faithful(found: Mask, hints: Hints) -> Mask:
    """An outline that has little to do with the part it started from lost its way: the part itself is better."""
    shared, together = (found & hints.likely).sum(), (found | hints.likely).sum()
    return found if shared > _FAITHFUL * together else (hints.likely & ~hints.drop) | hints.keep


@dataclass(frozen=True, slots=True)
class _Lens:
    """The small crop that is looked at: where it lies in the picture, how much it is scaled, its shape."""

    region: Box
    scale: float
    shape: tuple[int, ...]

    def hints(self, box: Box, likely: Mask | None, keep: Sequence[Point], drop: Sequence[Point]) -> Hints:
        wanted = self._clicks(keep)
        unwanted = self._clicks(drop) & ~wanted
        if likely is None:
            inside = self._framed(box)
            return Hints(inside, inside, wanted, unwanted)
        rough = resized(likely[window(self.region)], self.shape)
        return Hints(spread(rough, round(max(self.shape) * _ROOM)), rough, wanted, unwanted)

    def _framed(self, box: Box) -> Mask:
        left, right = ((edge - self.region.left) * self.scale for edge in (box.left, box.right))
        top, bottom = ((edge - self.region.top) * self.scale for edge in (box.top, box.bottom))
        inside = np.zeros(self.shape, np.bool_)
        inside[round(top) : max(round(bottom), round(top) + 1), round(left) : max(round(right), round(left) + 1)] = True
        return inside

    def _clicks(self, points: Sequence[Point]) -> Mask:
        marked = np.zeros(self.shape, np.bool_)
        for x, y in points:
            place = (x - self.region.left) * self.scale, (y - self.region.top) * self.scale
            marked |= disc(self.shape, place, max(self.shape) * _CLICK)
        return marked


def _ellipse(hints: Hints) -> Mask:
    """GrabCut can give everything away as background; an ellipse says at least where to look."""
    box = Box.around(hints.inside)
    canvas = np.zeros(hints.inside.shape, np.uint8)
    centre = (box.left + box.right - 1) / 2, (box.top + box.bottom - 1) / 2
    cv2.ellipse(canvas, (centre, (float(box.width), float(box.height)), 0.0), 1, -1)
    return (canvas.astype(np.bool_) & ~hints.drop) | hints.keep


def _trust(small: Frame, found: Mask) -> float:
    """How different the colours just inside and just outside the outline are, from 0.2 to 0.9."""
    within, beyond = found & spread(~found, 3), spread(found, 3) & ~found
    if not within.any() or not beyond.any():
        return 0.2
    colours = lab(small)
    apart = float(np.linalg.norm(colours[within].mean(axis=0) - colours[beyond].mean(axis=0)))
    return round(min(0.9, 0.3 + apart / 60), 2)
