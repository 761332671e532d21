"""COCO: masks as the files of that name say them. Pure.

Run lengths (RLE) go column by column from the top left: the lengths of the runs of 0 and 1 in turn, always beginning
with the run of 0, which may be empty. Polygons go along the corners of pixels, because the reader of COCO files
(pycocotools) fills them so: what it gives back is the mask, but for holes, which polygons of COCO cannot have.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from rotoscope.errors import InvalidInput
from rotoscope.media.image.masks import bounding_box
from rotoscope.media.image.outlines import trace_outlines

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from rotoscope.media.image.masks import Mask

__all__ = ["CocoDocument", "decode_rle", "encode_rle", "file_name_of", "rle_counts"]

_MAX_CHUNKS = 7  # of five bits: run lengths beyond 2^34 do not occur
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
    nothing has none. It is kept as text, because the corners of many masks as numbers take a hundred times the memory.

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
    # Windows knows both kinds of slashes.
    last = name.strip().replace("\\", "/").rstrip("/").rpartition("/")[2]
    return last[-_MAX_NAME_LENGTH:] or "picture"


def rle_counts(mask: "Mask") -> list[int]:
    """The lengths of the runs of 0 and 1 in turn, column by column, beginning with 0."""
    counts: list[int] = _run_lengths(mask).tolist()
    return counts


def encode_rle(mask: "Mask") -> str:
    """The run lengths as COCO's compressed string.

    From the fourth on, a count is stored as its difference to the one two places earlier; five bits to a character,
    lowest first, 0x20 says that more follow, 0x10 of the last is the sign, and 48 is added.
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


def decode_rle(counts: str, height: int, width: int) -> "Mask":
    """The mask of a COCO compressed string.

    Raises:
        InvalidInput: `corrupt`, when the string is none or does not describe height x width pixels.
    """
    import numpy as np

    runs = _parse_counts(counts)
    # Each run is judged before the sum, which could not tell a negative one or an overflow.
    if runs is None or np.any((runs < 0) | (runs > height * width)) or int(runs.sum()) != height * width:
        message = f"The run lengths do not describe a mask of {width} x {height} pixels."
        raise InvalidInput(message, code="corrupt", hint="Check the size that belongs to the run lengths.")
    values = np.arange(runs.size) % 2 == 1
    return np.repeat(values, runs).reshape((height, width), order="F")


def _run_lengths(mask: "Mask") -> "NDArray[np.int64]":
    import cv2
    import numpy as np

    box = bounding_box(mask)
    if box is None:
        return np.array([mask.size], np.int64)
    # Only the box is turned round, with an unselected row above it: then no run reaches from one column to the next.
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


def _parse_counts(text: str) -> "NDArray[np.int64] | None":
    """The run lengths of a compressed string; None when it is none."""
    import numpy as np

    chunks = np.frombuffer(text.encode("utf-8", "replace"), dtype=np.uint8).astype(np.int64) - 48
    last = np.flatnonzero(chunks & 0x20 == 0)
    if not chunks.size or chunks.min() < 0 or chunks.max() > 0x3F or not last.size or last[-1] != chunks.size - 1:  # noqa: PLR2004 - six bits
        return None
    first = np.concatenate(([0], last[:-1] + 1))
    sizes = last - first + 1
    if sizes.max() > _MAX_CHUNKS:
        return None
    places = np.arange(chunks.size) - np.repeat(first, sizes)
    counts = np.add.reduceat((chunks & 0x1F) << (5 * places), first)
    counts -= np.where(chunks[last] & 0x10, 1 << (5 * sizes), 0)
    counts[1::2] = np.cumsum(counts[1::2])
    counts[2::2] = np.cumsum(counts[2::2])
    return counts


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
