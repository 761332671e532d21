"""A description that is true without recognising anything: areas, their colour, size and place.

The text has the format of the Sa2VA models: `<p>  phrase  </p>   [SEG]`, and the i-th `[SEG]` belongs to the i-th
mask. The only noun is "area", because nothing is recognised: the object net finds that something is an object, not
what it is.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rotoscope_sandbox.vision.grabcut import resize_mask, upsample_mask
from rotoscope_sandbox.vision.net_masks import find_most_salient
from rotoscope_sandbox.vision.object_net import ObjectNet
from rotoscope_sandbox.vision.pixels import Frame, Mask, largest_components, shrink_to_side, to_lab
from rotoscope_sandbox.vision.region_merge import RegionTree, build_region_tree

__all__ = ["ImageArea", "describe_areas", "sa2va_text"]

_SIDE = 320
"""Longer side in pixels at which areas are found."""

_AREAS = 18
"""Areas that a picture is divided into, of which the largest are described."""

_LEAST, _MOST = 3, 6
_SMALLEST_SHARE = 0.03
"""Share of the picture from which an area is described."""

_LEAST_OBJECT, _MOST_OBJECT = 0.005, 0.9
"""Shares of the picture between which the net's answer is an object; a larger one is the picture itself."""

_VISIBLE_COST = 0.75
"""Merge cost, per root of the picture's pixels, from which two areas look different. Two halves of one plain colour
merge at 0.5.
"""

_END = "<|im_end|>"


@dataclass(frozen=True, slots=True)
class ImageArea:
    """One area of a picture: its mask at the picture's size, the phrase that says which one it is, and whether it is
    the object that the net found.
    """

    mask: Mask
    phrase: str
    is_object: bool = False


def describe_areas(frame: Frame, net: ObjectNet | None = None) -> list[ImageArea]:
    """Three to six areas (fewer in a plain picture); together they need not cover the picture.

    With a net the object that stands out comes first, then what surrounds it, largest first.
    """
    small, _ = shrink_to_side(frame, _SIDE)
    tree = build_region_tree(small)
    found = find_most_salient(net, frame) if net is not None else None
    if found is None or not _LEAST_OBJECT <= found.mean() <= _MOST_OBJECT:
        nodes = _largest_nodes(tree)
        masks = [_full_size_mask(tree.mask(node), small, frame) for node in nodes]
        return [ImageArea(mask, _area_phrase(mask, tree.colours[n])) for n, mask in zip(nodes, masks, strict=True)]
    inside = resize_mask(found, small.shape)
    phrase = f"the area that stands out, {_area_phrase(found, _mean_colour(small, inside))}"
    areas = [ImageArea(found, phrase, is_object=True)]
    for part in _surroundings(tree, inside):
        mask = largest_components(_full_size_mask(part, small, frame) & ~found)
        if mask.any():
            areas.append(ImageArea(mask, _area_phrase(mask, _mean_colour(small, part))))
    return areas


def _surroundings(tree: RegionTree, inside: Mask) -> list[Mask]:
    """What is left of the largest areas outside of an object; all at the size of the tree."""
    outside = [largest_components(tree.mask(node) & ~inside) for node in _visible_nodes(tree)]
    large = [mask for mask in outside if mask.mean() >= _SMALLEST_SHARE]
    return sorted(large, key=lambda mask: -int(mask.sum()))[: _MOST - 1]


def _mean_colour(frame: Frame, mask: Mask) -> NDArray[np.float64]:
    """In Lab; of the whole picture where the mask, shrunk, holds nothing."""
    pixels = frame[mask] if mask.any() else frame.reshape(-1, 3)
    return np.asarray(to_lab(pixels[None])[0].mean(axis=0), np.float64)


def _full_size_mask(mask: Mask, small: Frame, frame: Frame) -> Mask:
    """The mask at the picture's size without specks; never empty."""
    full = largest_components(upsample_mask(mask, small, frame))
    return full if full.any() else resize_mask(mask, frame.shape)


def sa2va_text(areas: list[ImageArea]) -> str:
    """The areas as one Sa2VA answer."""
    marked = [f"<p>  {area.phrase}  </p>   [SEG] " for area in areas]
    listed = " , ".join(marked[:-1])
    return f"{listed} and  {marked[-1]}.{_END}" if listed else f"{marked[-1]}.{_END}"


def _visible_nodes(tree: RegionTree) -> list[int]:
    """18 nodes, or fewer where some of them would look the same; largest first."""
    total = sum(tree.sizes[: tree.leaves])
    visible = sum(cost > _VISIBLE_COST * total**0.5 for cost in tree.costs[tree.leaves :])
    return sorted(tree.nodes_at(min(_AREAS, visible + 1)), key=lambda node: (-tree.sizes[node], node))


def _largest_nodes(tree: RegionTree) -> list[int]:
    total, largest_first = sum(tree.sizes[: tree.leaves]), _visible_nodes(tree)
    large = [node for node in largest_first if tree.sizes[node] >= _SMALLEST_SHARE * total]
    return large[:_MOST] if len(large) >= _LEAST else largest_first[:_LEAST]


def _area_phrase(mask: Mask, colour: NDArray[np.float64]) -> str:
    share = float(mask.mean())
    percent = max(1, round(share * 100))
    size = _size_phrase(share)
    return f"{size} {_colour_name(colour)} area {_place_phrase(mask)} ({percent}% of the image)"


def _size_phrase(share: float) -> str:
    for least, word in ((0.2, "a large"), (0.07, "a medium-sized")):
        if share >= least:
            return word
    return "a small"


def _place_phrase(mask: Mask) -> str:
    rows, columns = np.nonzero(mask)
    down, across = rows.mean() / mask.shape[0], columns.mean() / mask.shape[1]
    vertical = "top" if down < 1 / 3 else "bottom" if down > 2 / 3 else "middle"
    horizontal = "left" if across < 1 / 3 else "right" if across > 2 / 3 else "center"
    if (vertical, horizontal) == ("middle", "center"):
        return "in the center"
    return f"on the {horizontal}" if vertical == "middle" else f"in the {vertical} {horizontal}"


_HUES = (
    (15.0, "pink"),
    (45.0, "red"),
    (65.0, "orange"),
    (105.0, "yellow"),
    (165.0, "green"),
    (215.0, "turquoise"),
    (300.0, "blue"),
    (340.0, "purple"),
    (361.0, "pink"),
)
"""Where a colour name ends, in degrees of hue in the Lab plane."""

_GREY_CHROMA = 9.0


def _colour_name(mean: NDArray[np.float64]) -> str:
    """The name of a mean Lab colour."""
    lightness, green_red, blue_yellow = (float(value) for value in mean)
    chroma = float(np.hypot(green_red, blue_yellow))
    if chroma < _GREY_CHROMA:
        return _grey_name(lightness)
    degrees = float(np.degrees(np.arctan2(blue_yellow, green_red))) % 360
    hue = next(name for end, name in _HUES if degrees < end)
    if hue in ("orange", "yellow") and (lightness < 55 or chroma < 35):  # noqa: PLR2004 - what eyes call brown
        hue = "brown" if lightness < 60 else "beige"  # noqa: PLR2004 - light brown is called beige
    if hue == "pink" and degrees < _HUES[0][0] and lightness < 60:  # noqa: PLR2004 - a deep pink is called red
        hue = "red"
    if lightness < 28:  # noqa: PLR2004 - on the scale of 0 to 100
        return f"dark {hue}"
    return f"light {hue}" if lightness > 75 and hue != "beige" else hue  # noqa: PLR2004 - the same scale


def _grey_name(lightness: float) -> str:
    for least, name in ((92.0, "white"), (70.0, "light gray"), (40.0, "gray"), (18.0, "dark gray")):
        if lightness >= least:
            return name
    return "black"
