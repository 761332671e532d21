"""Objects that were followed through the parts of a clip, joined into one document of run lengths.

Where two parts overlap, an object of the later one is that object of the earlier one which it covers best there, and
gets its number; what covers none is another object. Heavy: it runs in a worker process.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rotoscope.errors import InvalidInput
from rotoscope.media.vault import file_sha256
from rotoscope.media.worker_files import WorkerFile
from rotoscope.models.mask_runs import BrokenRuns, draw_runs
from rotoscope.providers.http.messages import Json
from rotoscope.workers.limits import request_cpu_seconds

if TYPE_CHECKING:
    from rotoscope.media.image.masks import Mask

__all__ = ["TrackedPart", "join_tracks"]

_CPU_SECONDS = 240  # asked for
_LEAST_COVER = 0.3  # intersection over union on average over the overlap, from which on two objects are one

FrameTracks = Mapping[int, Json]
"""The run lengths of the objects in a frame, by their numbers."""


@dataclass(frozen=True, slots=True)
class TrackedPart:
    """The COCO document of a part of a clip, the number of its first frame in the clip, and how many frames count."""

    document: Path
    first: int
    frames: int


@dataclass(slots=True)
class _Tracks:
    """What is known of the clip so far.

    Attributes:
        frames: by the number of the frame in the clip.
        size: width and height in pixels.
        numbers: how many objects there are.
    """

    frames: dict[int, FrameTracks]
    size: tuple[int, int]
    numbers: int = 0


def join_tracks(parts: Sequence[TrackedPart], frames: int, target: Path) -> WorkerFile:
    """Write the document: `{width, height, num_frames, frames: [{frame_index, objects: [{track_id, rle}]}]}`.

    Args:
        parts: in the order of their first frames.
        frames: how many the clip has.
        target: where to write.

    Raises:
        InvalidInput: a document cannot be read.
    """
    request_cpu_seconds(_CPU_SECONDS)
    joined, end = _Tracks({}, (0, 0)), 0
    for part in parts:
        found, size = _read_document(part)
        joined.size = size
        common = range(part.first, min(end, part.first + part.frames))
        names = _match_objects(joined, found, common)
        middle = common.start + len(common) // 2  # of frames that both have, each part keeps the half that is its own
        for number, objects in found.items():
            if number >= middle or number not in common:
                joined.frames[number] = {names[track]: runs for track, runs in objects.items()}
        for number in set(range(middle, common.stop)) - found.keys():
            joined.frames[number] = {}
        end = max(end, part.first + part.frames)
    with target.open("w", encoding="utf-8") as file:
        file.writelines(_document_texts(joined, frames))
    return WorkerFile(target, file_sha256(target), "application/json")


def _read_document(part: TrackedPart) -> tuple[dict[int, dict[int, Json]], tuple[int, int]]:
    """The objects of each frame by its number in the clip, and the size of the clip."""
    try:
        document: Any = json.loads(part.document.read_bytes())
        sizes = {(int(image["width"]), int(image["height"])) for image in document["images"]}
        frames = {int(image["id"]): int(image["frame"]) for image in document["images"]}
        found: dict[int, dict[int, Json]] = {}
        for one in document["annotations"]:
            number = frames[int(one["image_id"])]
            if number < part.frames:
                found.setdefault(part.first + number, {})[int(one["track_id"])] = one["segmentation"]
        (size,) = sizes
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidInput("The masks of a part cannot be read.", code="corrupt", hint="Call again.") from error
    return found, size


def _match_objects(joined: _Tracks, found: Mapping[int, FrameTracks], common: range) -> dict[int, int]:
    """The number in the clip of each object of a part; the pairs that cover each other best come first."""
    tracks = sorted({track for objects in found.values() for track in objects})
    covers: dict[tuple[int, int], float] = {}
    for number in common:
        known = {name: _draw(runs, joined.size) for name, runs in joined.frames.get(number, {}).items()}
        shown = {track: _draw(runs, joined.size) for track, runs in found.get(number, {}).items()}
        for name, before in known.items():
            for track, after in shown.items():
                covers[name, track] = covers.get((name, track), 0.0) + _measure_cover(before, after) / len(common)
    names: dict[int, int] = {}
    for (name, track), cover in sorted(covers.items(), key=lambda one: (-one[1], one[0])):
        if cover >= _LEAST_COVER and track not in names and name not in names.values():
            names[track] = name
    for track in tracks:
        if track not in names:
            names[track] = joined.numbers
            joined.numbers += 1
    return names


def _draw(runs: Json, size: tuple[int, int]) -> "Mask | None":
    try:
        return draw_runs(runs, size)
    except BrokenRuns:
        return None


def _measure_cover(one: "Mask | None", other: "Mask | None") -> float:
    import numpy as np

    if one is None or other is None or one.shape != other.shape:
        return 0.0
    union = int(np.count_nonzero(one | other))
    return int(np.count_nonzero(one & other)) / union if union else 0.0


def _document_texts(joined: _Tracks, frames: int) -> Iterator[str]:
    width, height = joined.size
    yield f'{{"width": {width}, "height": {height}, "num_frames": {frames}, "frames": ['
    for place, (number, objects) in enumerate(sorted(joined.frames.items())):
        listed = [{"track_id": track, "rle": runs} for track, runs in sorted(objects.items())]
        text = json.dumps({"frame_index": number, "objects": listed}, separators=(",", ":"))
        yield f"{', ' if place else ''}{text}"
    yield "]}"
