"""How the values of one channel are read as a mask: as two levels, as the numbers of objects, or as soft edges. Pure.

Which one it is follows from the places where different values are neighbours. In a label map any two numbers may be
neighbours, and hardly any pixel lies between a lower and a higher one; along a soft edge nearly every pixel does, and
neighbours differ by one step; in a photo there is some of both.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from rotoscope.media.image.masks import Mask

__all__ = ["BRIGHT", "DARK", "GreyValues", "LevelSelection", "has_flat_areas", "select_by_levels"]

GreyValues: TypeAlias = "NDArray[np.uint8] | NDArray[np.uint16]"
"""Height x width; 0 is black, or no object."""

DARK, BRIGHT = 0.16, 0.84
"""Parts of the brightest value: a pixel below the first counts as black, one above the second as white."""

_SMALL_NUMBERS = 32  # a picture with lower values only is a label map, unless it is all noise
_MAX_NUMBERS = 256  # different values of a label map in eight bits, and in palettes
_MAX_LONG_NUMBERS = 4096  # different values of a label map in sixteen bits
_FEW_PIXELS = 1024  # pixels; a smaller photo cannot be distinguished from a label map, and is read as one

# Parts of the pixels at edges that lie between a lower and a higher value; and of all pixels that are at edges.
# Measured: label maps 0 to 0.03, with few edges to 0.09, photos of few colours 0.07 to 0.74, smooth edges 0.6 to 1.
_MAX_BETWEEN = 0.06
_MAX_BETWEEN_FEW, _FEW_EDGES = 0.12, 0.02
_MAX_BETWEEN_JUMPING, _SOME_EDGES = 0.15, 0.05
_NOISE = 0.03  # part of the brightest value by which compression changes flat black or white areas
_MAX_NOISE = 0.3  # part of the pixels at edges: with more that lie between, even small values are noise
# Parts of the neighbouring pairs of different values with other values of the picture in between. Measured: label maps
# 0.4 to 0.99; soft edges of few levels 0 to 0.014, and to 0.05 where a third and more of the pixels at edges lie
# between a lower and a higher value; photos of few colours from 0.026, and from 0.2 where a third lies between.
_MIN_JUMPS, _MANY_JUMPS = 0.15, 0.5
_MAX_JUMPS = 0.02
_MAX_JUMPS_BETWEEN, _THIRD = 0.06, 0.3
_FEW_LEVELS = 64  # different values; with more, the order of neighbours is not looked at
_MIN_STEPS = 6  # different values; with fewer, objects inside each other are likelier than a soft edge in few steps
_MAX_EDGES = 0.1  # part of all pixels; objects inside each other have no more at edges

_MAX_MIDTONE_SHARE = 0.05  # part of all pixels that may be neither dark nor bright, however they lie: edges
_MAX_DIM_SHARE = 0.2  # part of the pixels that are not dark; more that are not bright may be a dim object
_MAX_SOFT_SHARE = 0.5  # part of all pixels that soft edges may take
_MIN_PLAIN_SHARE = 0.25  # part of all pixels that must be black or white beside soft edges
_PLAIN_TOLERANCE = 0.02  # part of the brightest value by which black and white may be missed there
_MIN_SIDE_SHARE = 0.001  # part of all pixels that must be dark, and that must be bright
# The distance of a pixel from the mean of its 3 x 3 neighbourhood, as a part of the range there. Measured: blurred
# edges 0.008 to 0.09, photos 0.12 to 0.22.
_MAX_ROUGHNESS = 0.1
_FLAT_RANGE = 2.0  # of 255: the largest range of the 3 x 3 neighbourhood of a pixel in a flat area
_MAX_OTHER_SHARE = 0.1  # part of the pixels that are not dark; more in flat grey areas make it no soft mask


@dataclass(frozen=True, slots=True, eq=False)
class LevelSelection:
    """What is selected in a picture of one channel, and how its values were read.

    Attributes:
        mask: True where selected.
        kind: how the values were read.
        sure: whether nearly all pixels that are not dark are bright, or lie on smooth edges.
    """

    mask: "Mask"
    kind: Literal["levels", "numbers", "soft"]
    sure: bool = True


@dataclass(frozen=True, slots=True)
class _Adjacency:
    """Which values are neighbours: see `_MAX_BETWEEN` and `_MIN_JUMPS`; `edge_share` is unequal pairs per pixel."""

    between_share: float
    jump_share: float
    edge_share: float

    @property
    def is_flat(self) -> bool:
        """Whether hardly any pixel lies between a lower and a higher value."""
        most = _MAX_BETWEEN_FEW if self.edge_share <= _FEW_EDGES else _MAX_BETWEEN
        return self.between_share <= most

    @property
    def is_in_order(self) -> bool:
        """Whether neighbouring pixels differ by one step, as along a soft edge."""
        return self.jump_share <= (_MAX_JUMPS_BETWEEN if self.between_share >= _THIRD else _MAX_JUMPS)


def select_by_levels(values: GreyValues) -> LevelSelection | None:
    """What is selected in a picture of one channel; None for a photo.

    - Two levels: the brighter one, if it is twice as bright.
    - Numbers (a label map): all but 0. Values below 32 are always numbers.
    - Soft edges: brighter than half of the brightest.
    """
    import numpy as np

    low, top = int(values.min()), int(values.max())
    # Nearly every mask has two levels; to count every value takes ten times as long as to see that.
    over = values > low
    plain = np.count_nonzero(over) == np.count_nonzero(values == top) or low == top
    levels = list(dict.fromkeys((low, top))) if plain else _distinct_values(values)
    if len(levels) == 1:
        return LevelSelection(values > 0, "levels")
    if len(levels) == 2 and (low == 0 or top >= _SMALL_NUMBERS):  # noqa: PLR2004 - two levels
        return LevelSelection(over, "levels") if 2 * low <= top else None
    meeting = _measure_adjacency(_rank_values(values, levels)) if len(levels) <= _max_label_count(values) else None
    if meeting is not None and _is_label_map(values, levels, meeting):
        return LevelSelection(values > 0, "numbers")
    eight = _scale_to_bytes(values, top)
    sure = _rate_soft_mask(eight, meeting if len(levels) <= _FEW_LEVELS else None)
    return None if sure is None else LevelSelection(eight > int(eight.max()) // 2, "soft", sure)


def has_flat_areas(ranks: GreyValues) -> bool:
    """Whether a picture consists of areas of one value each, as a label map does; `ranks` numbers its values."""
    return ranks.size < _FEW_PIXELS or _measure_adjacency(ranks).is_flat


def _distinct_values(values: GreyValues) -> list[int]:
    """The values that occur, in order."""
    import numpy as np

    found: list[int] = np.flatnonzero(np.bincount(values.ravel(), minlength=2)).tolist()
    return found


def _max_label_count(values: GreyValues) -> int:
    return _MAX_NUMBERS if values.itemsize == 1 else _MAX_LONG_NUMBERS


def _is_label_map(values: GreyValues, levels: list[int], meeting: _Adjacency) -> bool:
    top = levels[-1]
    if top < _SMALL_NUMBERS:
        return values.size < _FEW_PIXELS or meeting.between_share <= _MAX_NOISE
    if levels[0] != 0:
        return False
    nested = len(levels) < _MIN_STEPS and meeting.edge_share <= _MAX_EDGES
    if meeting.is_flat:
        return nested or meeting.jump_share >= _MIN_JUMPS
    # Objects that lie over each other leave slivers, which lie between; compression leaves them, too, but no more.
    leaps = meeting.between_share <= _MAX_BETWEEN_JUMPING and meeting.jump_share >= _MANY_JUMPS
    return (
        leaps
        and meeting.edge_share <= _SOME_EDGES
        and any(_NOISE * top < level < (1 - _NOISE) * top for level in levels)
    )


def _rank_values(values: GreyValues, levels: list[int]) -> GreyValues:
    """Each value replaced by its rank among the values that occur."""
    import numpy as np

    table = np.zeros(levels[-1] + 1, np.uint16)
    table[levels] = np.arange(len(levels))
    return table[values]


def _measure_adjacency(ranks: GreyValues) -> _Adjacency:
    import numpy as np

    meets = jumps = 0
    for one, other in ((ranks[:, 1:], ranks[:, :-1]), (ranks[1:], ranks[:-1])):
        steps = np.maximum(one, other) - np.minimum(one, other)
        meets += int(np.count_nonzero(steps))
        jumps += int(np.count_nonzero(steps > 1))
    return _Adjacency(_between_share(ranks), jumps / max(meets, 1), meets / ranks.size)


def _between_share(ranks: GreyValues) -> float:
    """Of the pixels at edges, without those of the lowest and highest value, the part between a lower and a higher."""
    import cv2
    import numpy as np

    around = np.ones((3, 3), np.uint8)
    over, under = cv2.erode(ranks, around) < ranks, cv2.dilate(ranks, around) > ranks
    inner = (ranks > 0) & (ranks < ranks.max())
    edges = int(np.count_nonzero((over | under) & inner))
    return int(np.count_nonzero(over & under & inner)) / edges if edges else 0.0


def _scale_to_bytes(values: GreyValues, top: int) -> "NDArray[np.uint8]":
    """The values in one byte each; 16-bit values are scaled so that the brightest is 255."""
    import numpy as np

    if values.itemsize == 1:
        return values.astype(np.uint8, copy=False)
    return (values.astype(np.uint32) * 255 // max(top, 255)).astype(np.uint8)


def _rate_soft_mask(values: "NDArray[np.uint8]", meeting: _Adjacency | None) -> bool | None:
    """Whether a picture is surely black and white with edges, however soft they are; None for a photo."""
    import numpy as np

    top = int(values.max())
    dark = values <= DARK * top
    middling = ~dark & (values < BRIGHT * top)
    share, coloured = float(middling.mean()), values.size - int(np.count_nonzero(dark))
    in_order = meeting is not None and meeting.is_in_order
    if not in_order and _count_flat_pixels(values, middling) > _MAX_OTHER_SHARE * coloured:
        return None
    if np.count_nonzero(middling) <= _MAX_DIM_SHARE * coloured and share <= _MAX_MIDTONE_SHARE:
        return True
    smooth = in_order or _roughness(values, middling) <= _MAX_ROUGHNESS
    if smooth and share <= _MAX_SOFT_SHARE and _is_mostly_plain(values, top):
        return True
    return False if share <= _MAX_MIDTONE_SHARE else None


def _is_mostly_plain(values: "NDArray[np.uint8]", top: int) -> bool:
    """Whether much of the picture is black or white, and some of it is dark and some bright."""
    dark, bright = float((values <= DARK * top).mean()), float((values >= BRIGHT * top).mean())
    plain = float(((values <= _PLAIN_TOLERANCE * top) | (values >= (1 - _PLAIN_TOLERANCE) * top)).mean())
    return min(dark, bright) >= _MIN_SIDE_SHARE and plain >= _MIN_PLAIN_SHARE


def _local_ranges(values: "NDArray[np.uint8]") -> "NDArray[np.uint8]":
    """For each pixel, the brightest value of its 3 x 3 neighbourhood less the darkest."""
    import cv2
    import numpy as np

    around = np.ones((3, 3), np.uint8)
    return cv2.subtract(cv2.dilate(values, around), cv2.erode(values, around)).astype(np.uint8, copy=False)


def _count_flat_pixels(values: "NDArray[np.uint8]", where: "Mask") -> int:
    """How many of the pixels in `where` lie in flat areas."""
    import numpy as np

    return int(np.count_nonzero(where & (_local_ranges(values) <= _FLAT_RANGE)))


def _roughness(values: "NDArray[np.uint8]", where: "Mask") -> float:
    """How rough the picture is in `where`: see `_MAX_ROUGHNESS`."""
    import cv2

    off = cv2.absdiff(values, cv2.blur(values, (3, 3)))[where].sum(dtype=float)
    return float(off) / max(float(_local_ranges(values)[where].sum(dtype=float)), 1.0)
