"""How a clip that is longer than a model takes is cut into parts. Pure.

Parts overlap by some frames, so that what the model makes of one passes into what it makes of the next; at a scene
change they do not, because there nothing has to pass. There are never more parts than without scene changes: each of
them is a run that is paid for.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil

from rotoscope.models.manifest import Manifest

__all__ = ["ClipPart", "PartLimit", "find_part_limit", "plan_parts"]

_OVERLAP = 8  # frames
_OVERLAP_PART = 4  # of a short part at most the fourth of its frames overlaps


@dataclass(frozen=True, slots=True)
class PartLimit:
    """How many frames a model takes at once: from `least` to `most`, in multiples of `step` plus `offset`."""

    most: int
    least: int = 1
    step: int = 1
    offset: int = 0

    @property
    def overlap(self) -> int:
        """How many frames two parts have in common."""
        return min(_OVERLAP, self.most // _OVERLAP_PART)

    def fit(self, frames: int) -> int:
        """The least number of frames that the model takes which is not smaller."""
        wanted = max(frames, self.least)
        return self.offset + ceil(max(wanted - self.offset, 0) / self.step) * self.step


@dataclass(frozen=True, slots=True)
class ClipPart:
    """A part of a clip.

    Attributes:
        first: the number of its first frame in the clip.
        frames: how many frames of the clip it has.
        sent: how many frames its file has: the last one is repeated where the model takes no such number.
    """

    first: int
    frames: int
    sent: int

    @property
    def end(self) -> int:
        """The number of the first frame after it."""
        return self.first + self.frames


def find_part_limit(manifest: Manifest, frame_rate: float | None) -> PartLimit | None:
    """How many frames of the argument `video` a model takes at once; None where its manifest knows no limit.

    Args:
        manifest: the model.
        frame_rate: of the clip, in frames a second: some limits are in seconds.
    """
    most, least, step, offset = list[int](), 1, 1, 0
    for field in manifest.inputs.values():
        if field.fits == "frames" and field.maximum is not None:
            step, offset = field.step or 1, field.offset
            least = max(least, int(field.minimum or 1))
            most.append(int(field.maximum))
        if field.argument == "video":
            if field.film is not None and field.film.min_seconds and frame_rate:
                least = max(least, ceil(field.film.min_seconds * frame_rate))
            if field.max_frames is not None:
                most.append(field.max_frames)
            if field.max_total_seconds is not None and frame_rate:
                most.append(int(field.max_total_seconds * frame_rate))
    if not most or min(most) < max(least, offset, 1):
        return None
    return PartLimit(offset + (min(most) - offset) // step * step, least, step, offset)


def plan_parts(frames: int, scenes: Sequence[int], limit: PartLimit) -> tuple[ClipPart, ...]:
    """The parts of a clip, in their order; together they have every frame.

    Args:
        frames: how many the clip has.
        scenes: the numbers of the frames with which a new scene begins, ascending.
        limit: what the model takes at once.
    """
    ends = _choose_cuts(frames, scenes, limit)
    return tuple(part for begin, end in pairwise(ends) for part in _split_stretch(begin, end - begin, limit))


def _count_parts(frames: int, limit: PartLimit) -> int:
    return 1 if frames <= limit.most else ceil((frames - limit.overlap) / (limit.most - limit.overlap))


def _choose_cuts(frames: int, scenes: Sequence[int], limit: PartLimit) -> list[int]:
    """Where the clip is cut without overlap, its start and end among them.

    Of all ways with the fewest parts it is the one with the fewest overlaps.
    """
    places = [0, *(scene for scene in scenes if 0 < scene < frames), frames]
    best: list[tuple[int, int, list[int]]] = [(0, 0, [0])]
    for place in places[1:]:
        ways = []
        for before, (parts, overlaps, cuts) in zip(places, best, strict=False):
            length = place - before
            if length >= limit.least or length == frames:
                count = _count_parts(length, limit)
                ways.append((parts + count, overlaps + count - 1, [*cuts, place]))
        best.append(min(ways, default=(frames + 1, 0, [0, place])))
    return best[-1][2]


def _split_stretch(begin: int, frames: int, limit: PartLimit) -> list[ClipPart]:
    """Parts of about one length that overlap."""
    count = _count_parts(frames, limit)
    if count == 1:
        return [ClipPart(begin, frames, limit.fit(frames))]
    length = ceil((frames + (count - 1) * limit.overlap) / count)
    starts = [begin + n * (frames - length) // (count - 1) for n in range(count)]
    return [ClipPart(start, length, limit.fit(length)) for start in starts]
