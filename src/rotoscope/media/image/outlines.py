"""Outlines: the polygons around the selected pixels of a mask, along the corners of the pixels. Pure.

A pixel in column x and row y is the square from (x, y) to (x + 1, y + 1), so that one pixel has an outline too, and a
polygon that is filled gives its pixels back. Pixels that touch only at a corner belong to different polygons.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from rotoscope.media.image.masks import Mask

__all__ = ["MAX_CORNERS", "Outlines", "trace_outlines"]

MAX_CORNERS = 200_000
"""A mask with more is noise; its outlines would take longer to write than anybody reads them."""

_UP, _RIGHT, _DOWN, _LEFT = range(4)

# By the selected pixels around a point (1: upper left, 2: upper right, 4: lower left, 8: lower right), from where an
# outline that turns there comes and whereto it goes on, with the selected pixels on its right.
_TURNS: Mapping[int, tuple[tuple[int, int], ...]] = {
    1: ((_UP, _LEFT),),
    2: ((_RIGHT, _UP),),
    4: ((_LEFT, _DOWN),),
    8: ((_DOWN, _RIGHT),),
    14: ((_LEFT, _UP),),
    13: ((_UP, _RIGHT),),
    11: ((_DOWN, _LEFT),),
    7: ((_RIGHT, _DOWN),),
    6: ((_RIGHT, _UP), (_LEFT, _DOWN)),
    9: ((_UP, _LEFT), (_DOWN, _RIGHT)),
}

_Coordinates: TypeAlias = "NDArray[np.int64]"
_Ring: TypeAlias = list[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Outlines:
    """The outer outlines of a mask.

    Attributes:
        rings: for each area its corners, x and y in turn, clockwise as one sees it; the last joins the first.
        holes: how many holes they leave out: filled, the rings select those too.
        has_too_many_corners: whether there were more corners than `MAX_CORNERS`, so that there are no rings.
    """

    rings: tuple[tuple[int, ...], ...]
    holes: int = 0
    has_too_many_corners: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class _Corners:
    """Where outlines turn, and by index from which corner an edge leads to which."""

    points: list[tuple[int, int]]
    next_corner: list[int]


def trace_outlines(mask: "Mask") -> Outlines:
    """The outer outline of every area of a mask; holes are counted and left out."""
    import numpy as np

    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        return Outlines(())
    top, left = int(rows[0]), int(columns[0])
    part = np.pad(mask[top : int(rows[-1]) + 1, left : int(columns[-1]) + 1], 1)
    corners = _find_corners(part, left, top)
    if corners is None:
        return Outlines((), has_too_many_corners=True)
    rings = [loop for ring in _walk_outlines(corners) for loop in _split_at_crossings(ring)]
    outer = tuple(tuple(place for point in ring for place in point) for ring in rings if _ring_area(ring) > 0)
    return Outlines(outer, len(rings) - len(outer))


def _find_corners(part: "Mask", left: int, top: int) -> _Corners | None:
    """Every corner of the outlines of a mask that has an empty border; None when there are too many."""
    import numpy as np

    upper, lower = part[:-1], part[1:]
    across = upper != lower  # between the two runs a horizontal edge
    # An outline turns where such an edge begins or ends, and where two meet of pixels that touch only at this corner.
    turning = across[:, :-1] != across[:, 1:]
    turning |= across[:, 1:] & (upper[:, :-1] != upper[:, 1:])
    y, x = np.divmod(np.flatnonzero(turning), turning.shape[1])
    if len(y) > MAX_CORNERS:
        return None
    ways = sum(part[y + down, x + right] << np.uint8(2 * down + right) for down in (0, 1) for right in (0, 1))
    # Where two selected pixels touch only at a corner, two outlines turn in one point, each around its own pixel.
    turns = [(_TURNS[way][number], at) for at, way in enumerate(ways.tolist()) for number in range(len(_TURNS[way]))]
    places = np.array([at for _, at in turns], np.int64)
    x, y = x[places] + left, y[places] + top
    after = _link_corners(
        x, y, np.array([coming for (coming, _), _ in turns]), np.array([going for (_, going), _ in turns])
    )
    return _Corners(list(zip(x.tolist(), y.tolist(), strict=True)), after)


def _link_corners(x: _Coordinates, y: _Coordinates, coming: _Coordinates, going: _Coordinates) -> list[int]:
    """The corner that follows each one.

    Edges that run the same way along one line do not overlap: their beginnings and their ends pair up in order.
    """
    import numpy as np

    after = np.zeros(len(x), np.int64)
    for way, back, order in (
        (_RIGHT, _LEFT, np.lexsort((x, y))),
        (_LEFT, _RIGHT, np.lexsort((x, y))),
        (_DOWN, _UP, np.lexsort((y, x))),
        (_UP, _DOWN, np.lexsort((y, x))),
    ):
        after[order[going[order] == way]] = order[coming[order] == back]
    followed: list[int] = after.tolist()
    return followed


def _walk_outlines(corners: _Corners) -> Iterator[_Ring]:
    """Every outline, each from one of its corners on."""
    left = [True] * len(corners.next_corner)
    for start in range(len(left)):
        ring, at = [], start
        while left[at]:
            left[at] = False
            ring.append(corners.points[at])
            at = corners.next_corner[at]
        if ring:
            yield ring


def _split_at_crossings(ring: _Ring) -> Iterator[_Ring]:
    """An outline that comes twice through one point, as several that do not."""
    path: _Ring = []
    places: dict[tuple[int, int], int] = {}
    for point in ring:
        at = places.get(point)
        if at is not None:
            yield path[at:]
            for gone in path[at + 1 :]:
                del places[gone]
            del path[at + 1 :]
        else:
            places[point] = len(path)
            path.append(point)
    yield path


def _ring_area(ring: _Ring) -> int:
    """Twice the area inside; negative where the outline runs around a hole."""
    return sum(x * below - right * y for (x, y), (right, below) in zip(ring, [*ring[1:], ring[0]], strict=True))
