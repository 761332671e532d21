"""Which frame of the original each frame of an edit shows, and which part of the picture.

Models work at sizes and frame rates of their own, and no document says what each does with a film that is larger,
quicker or longer. Both are found from the films: the ways that there are, are tried on some frames, and the one with
the smallest difference is taken. Where that is not clearly smaller, frames are paired by their times, and the whole
picture is taken.
"""

from bisect import bisect_right
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rotoscope.media.edits.films import FilmShape, FrameReader
from rotoscope.media.edits.limits import MAX_FRAMES

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Pixels = NDArray[np.uint8]

__all__ = ["Pairing", "Region", "pair_frames"]

_TRIED_FRAMES = 24  # frames of the edit by which the way is found
_TRIED_SIDE = 192  # pixels along the longer side, for that
_CLEARLY = 0.9  # a difference counts as smaller when it is at most this part of the other
_SAME_SHAPE = 0.01  # part by which two ratios of width and height may differ and count as equal
_SAME_SPEED = 0.03  # part by which the edit may be quicker or slower and count as of one speed

Way = Literal["time", "order", "spread"]


@dataclass(frozen=True, slots=True)
class Region:
    """A part of the original's picture, in pixels: even numbers, as colours are stored for two by two pixels."""

    left: int
    top: int
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Pairing:
    """How an edit's frames belong to those of its original.

    Attributes:
        way: by their times, one by one in their order, or spread over the whole original.
        sources: for each frame of the edit, the number of the original's frame; None where there is none.
        region: the part of the original's picture that the edit shows.
        dropped: how many frames of the edited part of the original the edit does not show.
        added: how many frames of the edit show no frame of the original, or one that another shows, too.
        has_same_speed: whether the edit plays as quickly as the original.
    """

    way: Way
    sources: tuple[int | None, ...]
    region: Region
    dropped: int
    added: int
    has_same_speed: bool

    @property
    def is_in_step(self) -> bool:
        """Whether the edit's frames are the original's first ones, one by one."""
        return self.sources == tuple(range(len(self.sources)))

    def shown_frames(self, count: int) -> tuple[int, ...]:
        """For each of the original's frames from the first one on, the number of the edit's frame that is nearest.

        It ends where the edit ends: a frame of the edit stands for as many of the original's as the others do.

        Args:
            count: how many frames the original has.
        """
        known = [(source, number) for number, source in enumerate(self.sources) if source is not None]
        if not known:
            return ()
        kept = sorted(dict(reversed(known)).items())
        gap = max((after[0] - before[0] for before, after in pairwise(kept)), default=1)
        shown, at = list[int](), 0
        for original in range(min(kept[-1][0] + gap, count)):
            while at + 1 < len(kept) and kept[at + 1][0] - original < original - kept[at][0]:
                at += 1
            shown.append(kept[at][1])
        return tuple(shown)


def pair_frames(original: Path, edit: Path, shapes: tuple[FilmShape, FilmShape], asked: int | None) -> Pairing:
    """Find how an edit's frames belong to those of its original.

    Args:
        original: the film that was edited.
        edit: the film that the model gave.
        shapes: of both.
        asked: how many frames were to be edited, where that was said.

    Raises:
        InvalidInput: a film is broken.
    """
    ways, regions = _possible_ways(*shapes), _possible_regions(*shapes)
    way, sources, region = (*ways[0], regions[0])
    if len(ways) > 1 or len(regions) > 1:
        way, sources, region = _best_way(original, edit, shapes, ways, regions)
    shown = {source for source in sources if source is not None}
    span = _edited_span(way, shapes, asked)
    return Pairing(
        way,
        sources,
        region,
        dropped=max(span - sum(source < span for source in shown), 0),
        added=len(sources) - len(shown),
        has_same_speed=_has_same_speed(sources, shapes),
    )


def _possible_ways(original: FilmShape, edit: FilmShape) -> list[tuple[Way, tuple[int | None, ...]]]:
    """The ways that differ, the likeliest first."""
    times, count, many = original.times, len(original.stamps), len(edit.stamps)
    step = original.facts.duration_seconds / count
    by_time, by_clock = list[int | None](), list[int | None]()
    for time in edit.times:
        is_over = time >= times[-1] + step - 1e-6
        before = bisect_right(times, time + 1e-6) - 1
        is_nearer = before + 1 < count and times[before + 1] - time < time - times[before]
        by_time.append(None if is_over else before + is_nearer)
        by_clock.append(None if is_over else before)
    in_order: list[int | None] = [number if number < count else None for number in range(many)]
    ways: list[tuple[Way, list[int | None]]] = [("time", by_time), ("time", by_clock), ("order", in_order)]
    if many < count <= MAX_FRAMES and many > 1:
        ways.append(("spread", [round(number * (count - 1) / (many - 1)) for number in range(many)]))
    kept = {tuple(sources): way for way, sources in reversed(ways)}
    return [(way, sources) for sources, way in reversed(kept.items())]


def _possible_regions(original: FilmShape, edit: FilmShape) -> list[Region]:
    """The whole picture; where the shapes differ, also its middle in the shape of the edit."""
    (width, height), (across, down) = original.size, edit.size
    whole = Region(0, 0, width, height)
    ratio = (across / down) / (width / height)
    if abs(ratio - 1) <= _SAME_SHAPE:
        return [whole]
    wide, high = (_even(width * ratio), height) if ratio < 1 else (width, _even(height / ratio))
    return [whole, Region(_even((width - wide) / 2), _even((height - high) / 2), wide, high)]


def _even(value: float) -> int:
    return 2 * round(value / 2)


def _best_way(
    original: Path,
    edit: Path,
    shapes: tuple[FilmShape, FilmShape],
    ways: Sequence[tuple[Way, tuple[int | None, ...]]],
    regions: Sequence[Region],
) -> tuple[Way, tuple[int | None, ...], Region]:
    """The way and the region with the smallest difference on some frames."""
    many = min(len(shapes[1].stamps), MAX_FRAMES)
    tried = sorted({number * (many - 1) // (_TRIED_FRAMES - 1) for number in range(_TRIED_FRAMES)})
    wanted = sorted({source for _, sources in ways for number in tried if (source := sources[number]) is not None})
    shown = _small_pictures(edit, shapes[1], tried)
    known = _small_pictures(original, shapes[0], [number for number in wanted if number < MAX_FRAMES])
    best, least = (*ways[0], regions[0]), float("inf")
    for way, sources in ways:
        for region in regions:
            pairs = [(sources[number], number) for number in tried if sources[number] in known and number in shown]
            off = [_difference(known[a], shown[b], region, shapes[0].size) for a, b in pairs if a is not None]
            mean = sum(off) / len(off) if off else float("inf")
            if mean < (_CLEARLY * least if least < float("inf") else float("inf")):
                best, least = (way, sources, region), mean
    return best


def _small_pictures(path: Path, shape: FilmShape, numbers: Sequence[int]) -> "dict[int, Pixels]":
    """Small grey pictures of some frames, by their numbers."""
    import cv2
    import numpy as np

    scale = min(_TRIED_SIDE / max(shape.size), 1.0)
    size = max(round(shape.size[0] * scale), 1), max(round(shape.size[1] * scale), 1)
    found = dict[int, "Pixels"]()
    with closing(FrameReader(path, shape)) as reader:
        for number in numbers:
            frame = reader.frame(number)
            if frame is not None:
                grey = cv2.cvtColor(frame.picture(), cv2.COLOR_RGB2GRAY)
                found[number] = np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA), np.uint8)
    return found


def _difference(known: "Pixels", shown: "Pixels", region: Region, size: tuple[int, int]) -> float:
    """The mean difference of two small pictures; the second shows a region of the first, whose full size is given."""
    import cv2

    across, down = known.shape[1] / size[0], known.shape[0] / size[1]
    left, top = round(region.left * across), round(region.top * down)
    part = known[top : top + round(region.height * down), left : left + round(region.width * across)]
    fitted = cv2.resize(shown, (part.shape[1], part.shape[0]), interpolation=cv2.INTER_AREA)
    return float(cv2.absdiff(part, fitted).mean())


def _edited_span(way: Way, shapes: tuple[FilmShape, FilmShape], asked: int | None) -> int:
    """How many first frames of the original were to be edited."""
    original, edit = shapes
    count = len(original.stamps)
    if way == "spread" or asked is None:
        return count
    if way == "order":
        return min(asked, count)
    end = asked / edit.facts.frame_rate - 1e-6
    return sum(time < end for time in original.times)


def _has_same_speed(sources: Sequence[int | None], shapes: tuple[FilmShape, FilmShape]) -> bool:
    original, edit = shapes[0].times, shapes[1].times
    known = [(edit[number], original[source]) for number, source in enumerate(sources) if source is not None]
    if len(known) < 2:  # noqa: PLR2004 - one frame has no speed
        return True
    shown, covered = known[-1][0] - known[0][0], known[-1][1] - known[0][1]
    # Whole frames: the spans may differ by the time of one.
    return abs(covered - shown) <= _SAME_SPEED * shown + 1 / shapes[0].facts.frame_rate
