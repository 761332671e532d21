"""Outlines of masks for formats that hold polygons. Pure.

Two kinds, because programs read polygons in two ways:

- along the corners of pixels, as COCO, CVAT, Label Studio and SVG have it: the pixel in column x and row y is the
  square from (x, y) to (x + 1, y + 1);
- through the middles of the pixels at the border, as OpenCV fills polygons, and with it what reads YOLO's labels.

Most formats have no holes. There a hole is joined to the outline around it by a cut of no width, which the outline runs
along twice: what fills polygons by the even-odd or by the non-zero rule leaves the hole out.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from rotoscope.media.image.coco import MAX_CORNERS, trace_outlines

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from rotoscope.media.image.masks import Mask

__all__ = [
    "HoledOutline",
    "Ring",
    "simplify_ring",
    "trace_holed_outlines",
    "trace_joined_outlines",
    "trace_pixel_outlines",
]

Ring: TypeAlias = "NDArray[np.int64]"
"""N x 2: the x and y of each corner in turn; the last is joined to the first."""

_WINDOW = 128  # corners on both sides among which the nearest is looked for, so that thousands of holes stay cheap
_MIN_CORNERS = 3


@dataclass(frozen=True, slots=True, eq=False)
class HoledOutline:
    """An area whose pixels share sides: its outer outline, and those of its holes."""

    outer: Ring
    holes: tuple[Ring, ...]


def trace_holed_outlines(mask: "Mask") -> list[HoledOutline] | None:
    """Every area of a mask, along the corners of its pixels; None where there are too many corners."""
    import numpy as np

    outlines = trace_outlines(mask)
    if outlines.has_too_many_corners:
        return None
    outer = [np.array(ring, np.int64).reshape(-1, 2) for ring in outlines.rings]
    if not outlines.hole_rings:
        return [HoledOutline(ring, ()) for ring in outer]
    areas = _number_areas(mask)
    holes: dict[int, list[Ring]] = {}
    for given in outlines.hole_rings:
        ring = np.array(given, np.int64).reshape(-1, 2)
        holes.setdefault(_area_beside(ring, areas), []).append(ring)
    return [HoledOutline(ring, tuple(holes.get(_area_beside(ring, areas), ()))) for ring in outer]


def _number_areas(mask: "Mask") -> "NDArray[np.int32]":
    """From 1 on the number of the area of each pixel; pixels of an area share sides."""
    import cv2
    import numpy as np

    return cv2.connectedComponents(mask.astype(np.uint8), connectivity=4)[1].astype(np.int32, copy=False)


def _area_beside(ring: Ring, areas: "NDArray[np.int32]") -> int:
    """The number of the area on the right hand of a ring's first edge: the one that it is an outline of."""
    (x, y), (next_x, next_y) = ring[0].tolist(), ring[1].tolist()
    if y == next_y:
        return int(areas[y if next_x > x else y - 1, min(x, next_x)])
    return int(areas[min(y, next_y), x - 1 if next_y > y else x])


def trace_joined_outlines(mask: "Mask", tolerance: float = 0.0) -> list[Ring] | None:
    """One ring for every area of a mask, along the corners of its pixels, with its holes joined to it.

    Args:
        mask: height x width.
        tolerance: by how many pixels it may be off, so that it has fewer corners.

    Returns:
        The rings; None where there are too many corners.
    """
    outlines = trace_holed_outlines(mask)
    if outlines is None:
        return None
    return [simplify_ring(_join_holes(one), tolerance) for one in outlines]


def _join_holes(outline: HoledOutline) -> Ring:
    """The outer ring with a way to every hole and back, from the corner of the outer ring that is nearly nearest."""
    import numpy as np

    if not outline.holes:
        return outline.outer
    order = np.argsort(outline.outer[:, 1], kind="stable")
    heights = outline.outer[order, 1]
    ways: dict[int, list[Ring]] = {}
    for hole in outline.holes:
        begin = int(np.argmin(hole[:, 0]))
        middle = int(np.searchsorted(heights, hole[begin, 1]))
        near = order[max(middle - _WINDOW, 0) : middle + _WINDOW]
        distances = np.abs(outline.outer[near] - hole[begin]).sum(axis=1)
        closed = np.concatenate((hole[begin:], hole[: begin + 1]))
        ways.setdefault(int(near[int(np.argmin(distances))]), []).append(closed)
    parts = []
    for at, corner in enumerate(outline.outer):
        parts.append(corner[None])
        for way in ways.get(at, ()):
            parts += [way, corner[None]]
    return np.concatenate(parts)


def simplify_ring(ring: Ring, tolerance: float) -> Ring:
    """A ring with fewer corners, at most `tolerance` pixels off; as it is where too little would be left of it."""
    import cv2
    import numpy as np

    if tolerance <= 0 or len(ring) <= _MIN_CORNERS:
        return ring
    found = cv2.approxPolyDP(ring.astype(np.int32).reshape(-1, 1, 2), tolerance, closed=True).reshape(-1, 2)
    if len(found) < _MIN_CORNERS or cv2.contourArea(found.astype(np.int32)) == 0:
        return ring
    return found.astype(np.int64)


def trace_pixel_outlines(mask: "Mask", tolerance: float = 0.0) -> list[Ring] | None:
    """One ring for every area of a mask, through its pixels at the border, with its holes joined to it.

    Pixels that touch at a corner are of one area. Cuts to holes run through pixels of the area alone, so that what
    draws the ring and fills it gives the mask back. A ring of a very small area has one or two corners.

    Returns:
        The rings; None where there are too many corners.
    """
    import cv2
    import numpy as np

    contours, tree = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    if sum(map(len, contours)) > 2 * MAX_CORNERS:
        return None
    rings = [contour.reshape(-1, 2).astype(np.int64) for contour in contours]
    if not rings:
        return []
    holes: dict[int, list[int]] = {}
    for number, parent in enumerate(tree[0][:, 3].tolist()):
        holes.setdefault(parent, []).append(number)
    grounds = _number_areas(~mask)
    joined = (_join_through_pixels(grounds, rings, one, holes.get(one, [])) for one in holes[-1])
    return [simplify_ring(_drop_straight_points(ring), tolerance) for ring in joined]


def _join_through_pixels(grounds: "NDArray[np.int32]", rings: Sequence[Ring], outer: int, holes: Sequence[int]) -> Ring:
    """An outline with its holes. From the leftmost pixel around a hole a cut runs to the left, to another outline.

    That outline is around something that lies further to the left, so that in the end all are joined to the outer one.

    Args:
        grounds: height x width, 0 where selected, else the number of the ground around or of the hole.
        rings: all outlines of the mask.
        outer: the number of the outer one.
        holes: the numbers of those of its holes.
    """
    import numpy as np

    if not holes:
        return rings[outer]
    places = {(number, x, y): at for number in (outer, *holes) for at, (x, y) in enumerate(rings[number].tolist())}
    starts = {number: int(np.argmin(rings[number][:, 0])) for number in holes}
    # The pixel to the right of the leftmost one around a hole is in the hole.
    inside = {int(grounds[rings[n][at, 1], rings[n][at, 0] + 1]): n for n, at in starts.items()}
    ways: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for number, start in starts.items():
        x, y = rings[number][start].tolist()
        empty = np.flatnonzero(grounds[y, :x])
        left = int(empty[-1]) if empty.size else -1
        target = inside.get(int(grounds[y, left]), outer) if empty.size else outer
        ways.setdefault((target, places[target, left + 1, y]), []).append((number, start))
    return np.array(list(_walk_joined(rings, outer, ways)), np.int64)


def _walk_joined(
    rings: Sequence[Ring], outer: int, ways: dict[tuple[int, int], list[tuple[int, int]]]
) -> Iterator[tuple[int, int]]:
    """The points of a ring; where a way to a hole begins, those around the hole, and the point once more."""
    open_rings = [(outer, 0, 0)]  # number, where it begins, and how many of its points are done
    while open_rings:
        number, begin, done = open_rings.pop()
        ring = rings[number]
        while done < len(ring):
            at = (begin + done) % len(ring)
            yield (int(ring[at, 0]), int(ring[at, 1]))
            left = ways.get((number, at))
            if left:
                inner, start = left.pop()
                open_rings += [(number, begin, done), (inner, start, 0)]
                break
            done += 1
        else:
            yield (int(ring[begin, 0]), int(ring[begin, 1]))


def _drop_straight_points(ring: Ring) -> Ring:
    """A ring without the points where it goes straight on, and without a point that repeats the one before it."""
    import numpy as np

    ring = ring[np.any(ring != np.roll(ring, 1, axis=0), axis=1)] if len(ring) > 1 else ring
    if len(ring) <= _MIN_CORNERS:
        return ring
    ways = np.sign(np.roll(ring, -1, axis=0) - ring)
    return ring[np.any(ways != np.roll(ways, 1, axis=0), axis=1)]
