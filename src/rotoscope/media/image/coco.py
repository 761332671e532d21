"""Masks in the format of the COCO data set: run lengths (RLE) and polygons. Pure.

Run lengths go column by column from the top left: the lengths of the runs of 0 and 1 in turn, always beginning with
the run of 0, which may be empty. Polygons go along the corners of pixels: the pixel in column x and row y is the square
from (x, y) to (x + 1, y + 1), so that a single pixel has an outline too. The reader of COCO files (pycocotools) fills
polygons so, and gives the mask back, except for holes, which polygons of COCO cannot have. Pixels that touch only at a
corner belong to different polygons.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import unquote, urlsplit

from rotoscope.media.image.masks import bounding_box

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from rotoscope.media.image.masks import Mask

__all__ = [
    "MAX_CORNERS",
    "CocoDocument",
    "Outlines",
    "encode_rle",
    "file_name_of",
    "trace_outlines",
]

_MAX_NAME_LENGTH, _MAX_SCHEME_LENGTH = 255, 20  # characters
_EXTENSIONS: Mapping[str, str] = {"image/png": ".png", "image/jpeg": ".jpg", "image/webp": ".webp", "image/gif": ".gif"}
_POLYGON_NOTE = (
    "Polygons are outer outlines: where an annotation has holes_filled, its segmentation (RLE) has the holes."
)


@dataclass(slots=True)
class CocoDocument:
    """A COCO document of one picture, mask by mask: one category for each label, one annotation for each mask.

    `segmentation` is the compressed RLE. `polygons`, `holes_filled` (how many holes they leave out) and, where known,
    `score` are added to what COCO asks for. An annotation's id is the mask's number, from 1 on; a mask that selects
    nothing has none. Annotations are held as text: corners of many masks as numbers take a hundred times the memory.

    Attributes:
        file_name: of the picture, without folders.
        width: of the picture, in pixels.
        height: of the picture, in pixels.
    """

    file_name: str
    width: int
    height: int
    _annotations: list[str] = field(default_factory=list)
    _categories: dict[str, int] = field(default_factory=dict)

    def add(self, number: int, label: str, mask: "Mask", score: float | None = None) -> None:
        """Add one mask of the picture's size.

        Args:
            number: of the mask, from 0 on.
            label: what it shows.
            mask: height x width.
            score: how sure the model is, 0-1.
        """
        category = self._categories.setdefault(label, len(self._categories) + 1)
        annotation = _annotation(number + 1, category, mask, score)
        if annotation is not None:
            self._annotations.append(json.dumps(annotation, separators=(",", ":")))

    def content(self) -> bytes:
        """The document as JSON in UTF-8."""
        head = {
            "info": {"description": f"Masks by rotoscope. {_POLYGON_NOTE}", "version": "1.0"},
            "images": [{"id": 1, "file_name": self.file_name, "width": self.width, "height": self.height}],
            "categories": [{"id": number, "name": label} for label, number in self._categories.items()],
        }
        begun = json.dumps(head, ensure_ascii=False)[:-1]
        return f'{begun}, "annotations": [{", ".join(self._annotations)}]}}'.encode()


def file_name_of(given: str) -> str:
    """The name of the picture that a user gave: the last part of its path or address, without folders.

    Args:
        given: a path, an address, a data URI, or an `artifact://` or `job://` link.
    """
    scheme = given[:_MAX_SCHEME_LENGTH].partition(":")[0].strip().lower()
    if scheme == "data":
        kind = given.partition(":")[2].partition(";")[0].strip().lower()
        return f"picture{_EXTENSIONS.get(kind, '')}"
    name = unquote(urlsplit(given.strip()).path) if scheme in ("http", "https", "file") else given
    # Windows has both kinds of slashes.
    last = name.strip().replace("\\", "/").rstrip("/").rpartition("/")[2]
    return last[-_MAX_NAME_LENGTH:] or "picture"


def encode_rle(mask: "Mask") -> str:
    """The run lengths as COCO's compressed string.

    From the fourth on, a count is stored as its difference to the one two places earlier; five bits to a character,
    lowest first, 0x20 means that more follow, 0x10 of the last is the sign, and 48 is added.
    """
    import numpy as np

    counts = _run_lengths(mask)
    rest = counts.copy()
    rest[3:] -= counts[1:-2]
    more = np.ones(counts.size, dtype=np.bool_)
    chunks, used = [], []
    while more.any():
        used.append(more)
        bits = (rest & 0x1F).astype(np.uint8)
        rest >>= 5
        more = more & (rest != np.where(bits & 0x10, -1, 0))
        chunks.append(bits + (0x20 * more).astype(np.uint8) + np.uint8(48))
    return np.stack(chunks, axis=1)[np.stack(used, axis=1)].tobytes().decode("ascii")


def _run_lengths(mask: "Mask") -> "NDArray[np.int64]":
    """The lengths of the runs of 0 and 1 in turn, column by column, beginning with 0."""
    import cv2
    import numpy as np

    box = bounding_box(mask)
    if box is None:
        return np.array([mask.size], np.int64)
    # Only the box is transposed, with an unselected row above it: then no run reaches from one column to the next.
    part = np.zeros((box.bottom - box.top + 1, box.right - box.left), np.uint8)
    part[1:] = mask[box.top : box.bottom, box.left : box.right]
    pixels = np.append(cv2.transpose(part).ravel(), np.uint8(0))
    edges = np.flatnonzero(pixels[1:] != pixels[:-1]) + 1
    column, row = np.divmod(edges - np.arange(edges.size) % 2, part.shape[0])
    places = (box.left + column) * mask.shape[0] + box.top + row - 1 + np.arange(edges.size) % 2
    # Runs that meet where one column ends and the next begins are one.
    apart = places[1:-1:2] != places[2::2]
    inner = places[1:-1].reshape(-1, 2)[apart].ravel()
    counts = np.diff(np.concatenate(([0], places[:1], inner, places[-1:], [mask.size])))
    return counts if counts[-1] else counts[:-1]


def _annotation(number: int, category: int, mask: "Mask", score: float | None) -> dict[str, Any] | None:
    import numpy as np

    box = bounding_box(mask)
    if box is None:
        return None
    outlines = trace_outlines(mask)
    holes = {"holes_filled": outlines.holes} if outlines.holes else {}
    left_out = {"polygons_left_out": True} if outlines.has_too_many_corners else {}
    return {
        "id": number,
        "image_id": 1,
        "category_id": category,
        "bbox": [box.left, box.top, box.right - box.left, box.bottom - box.top],
        "area": int(np.count_nonzero(mask)),
        "iscrowd": 0,
        "segmentation": {"size": [int(side) for side in mask.shape], "counts": encode_rle(mask)},
        "polygons": outlines.rings,
        **holes,
        **left_out,
        **({} if score is None else {"score": score}),
    }


MAX_CORNERS = 200_000
"""A mask with more corners is noise; its outlines would take long to write and be of no use."""

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
    """The outlines of a mask.

    Attributes:
        rings: for each area its corners, x and y in turn, clockwise on the screen; the last is joined to the first.
        holes: how many holes there are; the rings do not leave them out.
        has_too_many_corners: whether there were more corners than `MAX_CORNERS`, so that there are no rings.
        hole_rings: the outline of every hole, counter-clockwise on the screen.
    """

    rings: tuple[tuple[int, ...], ...]
    holes: int = 0
    has_too_many_corners: bool = False
    hole_rings: tuple[tuple[int, ...], ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class _Corners:
    """The corners of outlines, and by index the corner that follows each."""

    points: list[tuple[int, int]]
    next_corner: list[int]


def trace_outlines(mask: "Mask") -> Outlines:
    """The outer outline of every area of a mask, and apart from them those of its holes."""
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
    holes = tuple(tuple(place for point in ring for place in point) for ring in rings if _ring_area(ring) < 0)
    return Outlines(outer, len(holes), hole_rings=holes)


def _find_corners(part: "Mask", left: int, top: int) -> _Corners | None:
    """Every corner of the outlines of a mask that has an empty border; None when there are too many."""
    import numpy as np

    upper, lower = part[:-1], part[1:]
    across = upper != lower  # between the two runs a horizontal edge
    # An outline turns where such an edge begins or ends, and at points where two pixels touch only at their corners.
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
    """An outline that passes twice through one point, split into several that do not."""
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
