"""Masks of the frames of a clip as run lengths, in every spelling that models give them. Pure.

| what a frame has | read as |
| --- | --- |
| text of numbers with blanks | start and length of each run in turn, row by row |
| the same in a list, or a list of pairs | the same |
| `{size, counts}` with a list, or a list that adds up to the picture | runs of 0 and 1 in turn, column by column |
| `{size, counts}` with a text, or a text without blanks | the same, compressed as COCO does it |
| a list of these, or of `{track_id, rle}` | several objects |
| nothing, null, an empty text or list | no object |

Starts count from 1, as two clients of fal's SAM 3 found (its page says only "Kaggle/COCO order"), and from 0 where a
start is 0. Whether runs go by rows or by columns shows in the picture: read the wrong way it is torn to pieces.

What breaks these rules is a broken frame: it has no object, and a warning counts it. Nothing here trusts a number.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from rotoscope.providers.http.messages import Json

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Pixels = NDArray[np.bool_]
    Numbers = NDArray[np.int64]

__all__ = ["BrokenRuns", "FrameObject", "MaskFrames", "RunOrder", "draw_runs", "find_run_order", "read_mask_frames"]

RunOrder = Literal["rows", "columns"]
_MAX_OBJECTS = 256  # of one frame
_MAX_PIXELS = 18_000_000  # of one mask: `media.video.limits`
_MAX_TEXT = 16 * 1024 * 1024  # characters of one frame
_ORDER_FRAMES = 5  # masks that decide whether runs go by rows or by columns
_FIRST_CHARACTER, _LAST_CHARACTER = 48, 111  # of COCO's compressed text
_MAX_GROUPS = 7  # characters of one number in it: 35 bits
_ID_NAMES = ("track_id", "object_id", "obj_id", "id")
_RUN_NAMES = ("rle", "mask", "segmentation")


class BrokenRuns(ValueError):
    """Run lengths that are none, or that leave their picture."""


@dataclass(frozen=True, slots=True)
class FrameObject:
    """An object in a frame: the number by which it is followed, and its runs as the model gave them."""

    track_id: int
    runs: Json


@dataclass(frozen=True, slots=True)
class MaskFrames:
    """The objects of every frame of a clip.

    Attributes:
        objects: by the number of the frame.
        count: how many frames there are, by what the model says.
        size: width and height of the masks in pixels; None where the model does not say so.
    """

    objects: Mapping[int, Sequence[FrameObject]] = field(default_factory=dict)
    count: int = 0
    size: tuple[int, int] | None = None


def read_mask_frames(document: Json, most: int) -> MaskFrames:
    """The objects by frame in what a model gave.

    Args:
        document: `{frames: [{frame_index, objects}], width, height, num_frames}`, `{rle: [...]}`, or a list or a text
            of run lengths.
        most: how many frames are read at most.
    """
    given = _parse_text(document)
    size = None
    if isinstance(given, dict):
        size = _size_of(given.get("width"), given.get("height"))
        frames = given.get("frames")
        if isinstance(frames, list):
            return _read_numbered_frames(frames, given.get("num_frames"), size, most)
        given = _parse_text(next((given[name] for name in _RUN_NAMES if given.get(name)), given))
    if not isinstance(given, list) or _is_numbers(given):
        given = [given] if given else []
    found = {number: tuple(_iterate_objects(one)) for number, one in enumerate(given[:most])}
    return MaskFrames({number: objects for number, objects in found.items() if objects}, len(given), size)


def _read_numbered_frames(frames: list[Json], count: Json, size: tuple[int, int] | None, most: int) -> MaskFrames:
    found: dict[int, tuple[FrameObject, ...]] = {}
    for place, one in enumerate(frames[:most]):
        number = _whole(one.get("frame_index"), place) if isinstance(one, dict) else place
        listed = one.get("objects") if isinstance(one, dict) else one
        objects = tuple(_iterate_objects(listed))
        if objects and 0 <= number < most:
            found[number] = (*found.get(number, ()), *objects)[:_MAX_OBJECTS]
    return MaskFrames(found, max(_whole(count, len(frames)), 0), size)


def _iterate_objects(given: Json) -> Iterator[FrameObject]:
    """The objects of one frame; without numbers of their own they have their places."""
    value = _parse_text(given)
    if isinstance(value, list) and not _is_numbers(value) and not _is_pairs(value):
        for place, one in enumerate(value[:_MAX_OBJECTS]):
            yield from _one_object(one, place)
    else:
        yield from _one_object(value, 0)


def _one_object(given: Json, place: int) -> Iterator[FrameObject]:
    track, runs = place, given
    if isinstance(given, dict) and "counts" not in given:
        track = next((_whole(given[name], place) for name in _ID_NAMES if name in given), place)
        runs = next((given[name] for name in _RUN_NAMES if name in given), None)
    if runs not in (None, "", [], {}):
        yield FrameObject(track, runs)


def draw_runs(runs: Json, size: tuple[int, int], order: RunOrder = "rows") -> "Pixels":
    """The mask of an object: height x width, true where it is.

    Args:
        runs: as the model gave them.
        size: width and height of the mask, unless the runs have a size of their own.
        order: which way runs of starts and lengths go.

    Raises:
        BrokenRuns: they are no run lengths, or leave the picture.
    """
    value = _parse_text(runs)
    if isinstance(value, dict):
        sides = value.get("size")
        own = _size_of(sides[1], sides[0]) if isinstance(sides, list) and len(sides) == len("hw") else size
        if own is None:
            raise BrokenRuns("the size of the mask is wrong")
        value, size = _parse_text(value.get("counts")), own
    if isinstance(value, str) and not _has_blanks(value):
        return _draw_counts(_decompress(value), size)
    numbers = _numbers_of(value)
    is_counts = isinstance(value, list) and not _is_pairs(value) and int(numbers.sum()) == size[0] * size[1]
    if is_counts or (isinstance(_parse_text(runs), dict) and isinstance(value, list)):
        return _draw_counts(numbers, size)
    return _draw_pairs(numbers, size, order)


def find_run_order(frames: MaskFrames, size: tuple[int, int], usual: RunOrder = "rows") -> RunOrder:
    """Which way runs of starts and lengths go: the way in which the masks have the shorter outlines."""
    every = (one.runs for objects in frames.objects.values() for one in objects)
    edges: dict[RunOrder, int] = {"rows": 0, "columns": 0}
    looked = 0
    for runs in every:
        try:
            drawn = {order: draw_runs(runs, frames.size or size, order) for order in edges}
        except BrokenRuns:
            continue
        for order, mask in drawn.items():
            edges[order] += int((mask[1:] != mask[:-1]).sum()) + int((mask[:, 1:] != mask[:, :-1]).sum())
        looked += 1
        if looked >= _ORDER_FRAMES:
            break
    return usual if edges["rows"] == edges["columns"] else min(edges, key=lambda order: edges[order])


def _draw_pairs(numbers: "Numbers", size: tuple[int, int], order: RunOrder) -> "Pixels":
    import numpy as np

    width, height = size
    if numbers.size % 2 or numbers.size > 2 * width * height:
        raise BrokenRuns("a run has no length, or there are too many")
    starts, lengths = numbers[0::2], numbers[1::2]
    starts = starts - (0 if (starts == 0).any() else 1)
    if (starts < 0).any() or (lengths < 0).any() or (starts > width * height - lengths).any():
        raise BrokenRuns("a run leaves the picture")
    change = np.zeros(width * height + 1, np.int32)
    np.add.at(change, starts, 1)
    np.add.at(change, starts + lengths, -1)
    flat = np.cumsum(change[:-1]) > 0
    return flat.reshape(height, width) if order == "rows" else np.ascontiguousarray(flat.reshape(width, height).T)


def _draw_counts(counts: "Numbers", size: tuple[int, int]) -> "Pixels":
    import numpy as np

    width, height = size
    if (counts < 0).any() or (counts > width * height).any() or int(counts.sum()) != width * height:
        raise BrokenRuns("the runs do not add up to the picture")
    values = np.arange(counts.size) % 2 == 1
    return np.ascontiguousarray(np.repeat(values, counts).reshape(width, height).T)


def _numbers_of(value: Json) -> "Numbers":
    import numpy as np

    parts: Json = [*value.replace(",", " ").split()] if isinstance(value, str) else value
    if not isinstance(parts, list) or len(parts) > _MAX_TEXT:
        raise BrokenRuns("no run lengths")
    if _is_pairs(parts):
        parts = [number for pair in parts if isinstance(pair, list) for number in pair]
    if any(isinstance(one, bool) or not isinstance(one, int | str) for one in parts):
        raise BrokenRuns("no whole numbers")
    try:
        return np.array([int(one) for one in parts if isinstance(one, int | str)], np.int64)
    except (ValueError, OverflowError):
        raise BrokenRuns("no whole numbers") from None


def _decompress(text: str) -> "Numbers":
    """The counts in COCO's compressed text: five bits to a character, and from the fourth on differences."""
    import numpy as np

    if not text.isascii():
        raise BrokenRuns("no compressed run lengths")
    codes = np.frombuffer(text.encode("ascii"), np.uint8).astype(np.int64)
    if not codes.size or (codes < _FIRST_CHARACTER).any() or (codes > _LAST_CHARACTER).any():
        raise BrokenRuns("no compressed run lengths")
    codes -= _FIRST_CHARACTER
    ends = np.flatnonzero(codes & 0x20 == 0)
    if not ends.size or ends[-1] != codes.size - 1:
        raise BrokenRuns("the compressed run lengths are cut off")
    begins = np.concatenate(([0], ends[:-1] + 1))
    if (ends - begins >= _MAX_GROUPS).any():
        raise BrokenRuns("a run is too long")
    places = np.arange(codes.size) - np.repeat(begins, ends - begins + 1)
    values = np.add.reduceat((codes & 0x1F) << (5 * places), begins)
    values -= np.where(codes[ends] & 0x10, np.int64(1) << (5 * (ends - begins + 1)), 0)
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    return values


def _parse_text(value: Json) -> Json:
    """The value of a text of JSON; any other value as it is."""
    if not isinstance(value, str) or value.lstrip()[:1] not in ("{", "["):
        return value
    try:
        parsed: Json = json.loads(value)
    except (ValueError, RecursionError):
        return value
    return parsed


def _size_of(width: Json, height: Json) -> tuple[int, int] | None:
    wide, high = _whole(width, 0), _whole(height, 0)
    return (wide, high) if wide > 0 and high > 0 and wide * high <= _MAX_PIXELS else None


def _whole(value: Json, otherwise: int) -> int:
    is_number = isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 53
    return value if is_number and isinstance(value, int) else otherwise


def _has_blanks(text: str) -> bool:
    return any(blank in text.strip() for blank in " \n\t,")


def _is_numbers(value: list[Json]) -> bool:
    return bool(value) and all(isinstance(one, int) and not isinstance(one, bool) for one in value)


def _is_pairs(value: list[Json]) -> bool:
    return bool(value) and all(isinstance(one, list) and len(one) == 2 and _is_numbers(one) for one in value)  # noqa: PLR2004 - a pair
