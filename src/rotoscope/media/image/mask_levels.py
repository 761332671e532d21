"""Levels: what the values of a picture tell when they are looked at as a mask: two levels, numbers, soft edges. Pure.

Which one it is shows where values meet. The numbers of a label map meet each other in any order, and no value lies
between two others; along a soft edge every value lies between a lower and a higher one, or next to its neighbours in
order; in a photo there is a bit of everything.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from rotoscope.media.image.masks import Mask

__all__ = ["BRIGHT", "DARK", "Cut", "Grey", "are_flat", "cut"]

Grey: TypeAlias = "NDArray[np.uint8] | NDArray[np.uint16]"
"""Height x width, 0 is black or no object."""

DARK, BRIGHT = 0.16, 0.84
"""Below and above these parts of the brightest value a pixel is as good as black or white."""

_SMALL_NUMBERS = 32  # values below are numbers of objects whatever the picture looks like, unless it is all noise
_MOST_NUMBERS = 256  # in eight bits, and in palettes
_MOST_LONG_NUMBERS = 4096  # in sixteen bits
_FEW_PIXELS = 1024  # too small to tell a photo from anything else

# Of the pixels that lie at an edge, the part that lies between a lower and a higher value. Measured: label maps 0 to
# 0.03, with few edges up to 0.09, photos of few colours 0.07 to 0.74, smooth edges 0.6 to 1.
_MOST_BETWEEN = 0.06
_MOST_BETWEEN_FEW, _FEW_EDGES = 0.12, 0.02
_MOST_BETWEEN_JUMPING, _SOME_EDGES = 0.15, 0.05
_NOISE = 0.03  # how far from black or white compression leaves flat areas, as a part of the brightest value
_MOST_NOISE = 0.3
# Of the places where two values meet, the part where other values of the picture lie between the two. Measured: label
# maps 0.4 to 0.99, soft edges of few levels 0 to 0.014, and to 0.05 where a third and more of the pixels lie between;
# photos of few colours from 0.026, and from 0.2 where a third lies between.
_LEAST_JUMPS, _MANY_JUMPS = 0.15, 0.5
_MOST_JUMPS = 0.02
_MOST_JUMPS_BETWEEN, _THIRD = 0.06, 0.3
_FEW_LEVELS = 64
# With so few levels, objects inside each other are likelier than an edge that was drawn in few steps.
_FEWEST_STEPS = 6
_MOST_EDGES = 0.1  # of the frame

_MIDDLING = 0.05  # of the frame that may be neither dark nor bright, whatever it looks like: edges
_UNSURE = 0.2  # of what is not dark: more that is not bright, and not smooth, may be a dim object
_MOST_SOFT = 0.5  # of the frame that soft edges may take
_LEAST_PLAIN = 0.25  # of the frame that is black or white beside soft edges
_PLAIN = 0.02  # how far from black or white that is, as a part of the brightest value
_LEAST_SIDE = 0.001  # of the frame, for each of the two
# How far a pixel is from the mean around it, as a part of the range around it. Measured: blurred edges 0.008 to 0.09,
# photos 0.12 to 0.22.
_ROUGH = 0.1
_FLAT = 2.0  # of 255: the range around a pixel that lies in a flat area
_MOST_OTHER = 0.1  # of what is not dark: flat areas that are neither black nor white


@dataclass(frozen=True, slots=True, eq=False)
class Cut:
    """What is selected in a picture of one channel, and by which kind of values.

    Attributes:
        mask: True where selected.
        kind: what the values are.
        sure: whether nearly all of what is not dark is bright, or smooth as an edge.
    """

    mask: "Mask"
    kind: Literal["levels", "numbers", "soft"]
    sure: bool = True


@dataclass(frozen=True, slots=True)
class _Meeting:
    """How the levels of a picture meet: see `_MOST_BETWEEN` and `_LEAST_JUMPS`; `edges` are places for each pixel."""

    between: float
    jumps: float
    edges: float

    @property
    def flat(self) -> bool:
        """Whether hardly any value lies between two others."""
        most = _MOST_BETWEEN_FEW if self.edges <= _FEW_EDGES else _MOST_BETWEEN
        return self.between <= most

    @property
    def in_order(self) -> bool:
        """Whether values meet their neighbours in order."""
        return self.jumps <= (_MOST_JUMPS_BETWEEN if self.between >= _THIRD else _MOST_JUMPS)


def cut(values: Grey) -> Cut | None:
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
    levels = list(dict.fromkeys((low, top))) if plain else _levels(values)
    if len(levels) == 1:
        return Cut(values > 0, "levels")
    if len(levels) == 2 and (low == 0 or top >= _SMALL_NUMBERS):  # noqa: PLR2004 - two levels
        return Cut(over, "levels") if 2 * low <= top else None
    meeting = _meeting(_ranked(values, levels)) if len(levels) <= _most_numbers(values) else None
    if meeting is not None and _are_numbers(values, levels, meeting):
        return Cut(values > 0, "numbers")
    eight = _eight_bits(values, top)
    sure = _sureness(eight, meeting if len(levels) <= _FEW_LEVELS else None)
    return None if sure is None else Cut(eight > int(eight.max()) // 2, "soft", sure)


def are_flat(ranks: Grey) -> bool:
    """Whether areas of one value each lie beside each other, as in a label map whose numbers mean no order."""
    return ranks.size < _FEW_PIXELS or _meeting(ranks).flat


def _levels(values: Grey) -> list[int]:
    """The values that occur, in order."""
    import numpy as np

    found: list[int] = np.flatnonzero(np.bincount(values.ravel(), minlength=2)).tolist()
    return found


def _most_numbers(values: Grey) -> int:
    return _MOST_NUMBERS if values.itemsize == 1 else _MOST_LONG_NUMBERS


def _are_numbers(values: Grey, levels: list[int], meeting: _Meeting) -> bool:
    top = levels[-1]
    if top < _SMALL_NUMBERS:
        return values.size < _FEW_PIXELS or meeting.between <= _MOST_NOISE
    if levels[0] != 0:
        return False
    nested = len(levels) < _FEWEST_STEPS and meeting.edges <= _MOST_EDGES
    if meeting.flat:
        return nested or meeting.jumps >= _LEAST_JUMPS
    # Objects that lie over each other leave slivers, which lie between; compression leaves them, too, but no more.
    leaps = meeting.between <= _MOST_BETWEEN_JUMPING and meeting.jumps >= _MANY_JUMPS
    return leaps and meeting.edges <= _SOME_EDGES and any(_NOISE * top < level < (1 - _NOISE) * top for level in levels)


def _ranked(values: Grey, levels: list[int]) -> Grey:
    """Each value as its place among those that occur."""
    import numpy as np

    table = np.zeros(levels[-1] + 1, np.uint16)
    table[levels] = np.arange(len(levels))
    return table[values]


def _meeting(ranks: Grey) -> _Meeting:
    import numpy as np

    meets = jumps = 0
    for one, other in ((ranks[:, 1:], ranks[:, :-1]), (ranks[1:], ranks[:-1])):
        steps = np.maximum(one, other) - np.minimum(one, other)
        meets += int(np.count_nonzero(steps))
        jumps += int(np.count_nonzero(steps > 1))
    return _Meeting(_between(ranks), jumps / max(meets, 1), meets / ranks.size)


def _between(ranks: Grey) -> float:
    """The part of the pixels at edges, the lowest and the highest value apart, that lie between lower and higher."""
    import cv2
    import numpy as np

    around = np.ones((3, 3), np.uint8)
    over, under = cv2.erode(ranks, around) < ranks, cv2.dilate(ranks, around) > ranks
    inner = (ranks > 0) & (ranks < ranks.max())
    edges = int(np.count_nonzero((over | under) & inner))
    return int(np.count_nonzero(over & under & inner)) / edges if edges else 0.0


def _eight_bits(values: Grey, top: int) -> "NDArray[np.uint8]":
    """The values in one byte each; sixteen bits are measured by the brightest."""
    import numpy as np

    if values.itemsize == 1:
        return values.astype(np.uint8, copy=False)
    return (values.astype(np.uint32) * 255 // max(top, 255)).astype(np.uint8)


def _sureness(values: "NDArray[np.uint8]", meeting: _Meeting | None) -> bool | None:
    """Whether a picture is surely black and white with edges in between, however soft; None for a photo."""
    import numpy as np

    top = int(values.max())
    dark = values <= DARK * top
    middling = ~dark & (values < BRIGHT * top)
    share, coloured = float(middling.mean()), values.size - int(np.count_nonzero(dark))
    in_order = meeting is not None and meeting.in_order
    if not in_order and _flat_part(values, middling) > _MOST_OTHER * coloured:
        return None
    if np.count_nonzero(middling) <= _UNSURE * coloured and share <= _MIDDLING:
        return True
    smooth = in_order or _roughness(values, middling) <= _ROUGH
    if smooth and share <= _MOST_SOFT and _is_plain(values, top):
        return True
    return False if share <= _MIDDLING else None


def _is_plain(values: "NDArray[np.uint8]", top: int) -> bool:
    """Whether much of the frame is black or white, and there is some of both sides."""
    dark, bright = float((values <= DARK * top).mean()), float((values >= BRIGHT * top).mean())
    plain = float(((values <= _PLAIN * top) | (values >= (1 - _PLAIN) * top)).mean())
    return min(dark, bright) >= _LEAST_SIDE and plain >= _LEAST_PLAIN


def _ranges(values: "NDArray[np.uint8]") -> "NDArray[np.uint8]":
    """Around each pixel, the brightest less the darkest."""
    import cv2
    import numpy as np

    around = np.ones((3, 3), np.uint8)
    return cv2.subtract(cv2.dilate(values, around), cv2.erode(values, around)).astype(np.uint8, copy=False)


def _flat_part(values: "NDArray[np.uint8]", where: "Mask") -> int:
    """How many pixels of a part of the picture lie in flat areas."""
    import numpy as np

    return int(np.count_nonzero(where & (_ranges(values) <= _FLAT)))


def _roughness(values: "NDArray[np.uint8]", where: "Mask") -> float:
    """How rough a part of the picture is: see `_ROUGH`."""
    import cv2

    off = cv2.absdiff(values, cv2.blur(values, (3, 3)))[where].sum(dtype=float)
    return float(off) / max(float(_ranges(values)[where].sum(dtype=float)), 1.0)
