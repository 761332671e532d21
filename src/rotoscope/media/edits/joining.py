"""The edited parts of a clip joined into one film. Heavy: it runs in a worker process.

Each part has the clip's size and frame rate. Where two parts overlap, one passes into the other; what no part has is
the clip's own.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rotoscope.media.edits.films import FilmShape, FrameReader, ShownFrame, read_film_shape
from rotoscope.media.edits.planes import NewFrame, even_size, planes_of, write_film
from rotoscope.media.vault import file_sha256
from rotoscope.media.worker_files import WorkerFile
from rotoscope.workers.limits import request_cpu_seconds

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Pixels = NDArray[np.uint8]

__all__ = ["EditedPart", "join_parts"]

_CPU_SECONDS = 240  # asked for
_JOINED_CRF = 12  # of x264


@dataclass(frozen=True, slots=True)
class EditedPart:
    """The film of an edited part, the number of its first frame in the clip, and how many of its frames count."""

    film: Path
    first: int
    frames: int


def join_parts(clip: Path, parts: Sequence[EditedPart], target: Path) -> WorkerFile:
    """Write the joined film, without sound, with the clip's size, frame rate and times.

    Args:
        clip: the whole clip.
        parts: in the order of their first frames; no more than two have a frame in common.
        target: where to write.

    Raises:
        InvalidInput: a film is broken.
        StorageFailed: the disk does not take it.
    """
    request_cpu_seconds(_CPU_SECONDS)
    shape = read_film_shape(clip)
    with closing(FrameReader(clip, shape)) as original:
        write_film(target, shape, _joined_frames(original, shape, parts), _JOINED_CRF)
    return WorkerFile(target, file_sha256(target), "video/mp4")


def _joined_frames(original: FrameReader, shape: FilmShape, parts: Sequence[EditedPart]) -> Iterator[NewFrame]:
    size, like, waiting, current = even_size(shape.size), None, list(parts), list[_PartReader]()
    with ExitStack() as stack:
        for number, stamp in enumerate(shape.stamps):
            while waiting and waiting[0].first <= number:
                current.append(stack.enter_context(closing(_PartReader(waiting.pop(0)))))
            for ended in [one for one in current if one.end <= number]:
                current.remove(ended)
                ended.close()
            known = original.frame(number)
            like = known.frame if known is not None else like
            colours = like.colorspace if like is not None else None
            shown = [frame for one in current if (frame := one.frame(number)) is not None]
            layers = [planes_of(frame, size, colours) for frame in shown]
            if layers:
                planes = _mix(layers, _later_share(current, number))
            elif known is not None:
                planes = planes_of(known, size)
            else:
                continue
            yield NewFrame(planes, stamp - shape.stamps[0], like)


class _PartReader:
    """The frames of a part by their numbers in the clip; after its last one that stays."""

    def __init__(self, part: EditedPart) -> None:
        self.first, self.end = part.first, part.first + part.frames
        self._frames = FrameReader(part.film, read_film_shape(part.film))
        self._held: ShownFrame | None = None

    def frame(self, number: int) -> ShownFrame | None:
        self._held = self._frames.frame(number - self.first) or self._held
        return self._held

    def close(self) -> None:
        self._frames.close()
        self._held = None


def _later_share(current: Sequence[_PartReader], number: int) -> float:
    """How much of a frame that two parts have is the later one's, 0 to 1: more and more over the overlap."""
    if len(current) < 2:  # noqa: PLR2004 - only two parts overlap
        return 0.0
    overlap = current[0].end - current[1].first
    return (number - current[1].first + 1) / (overlap + 1)


def _mix(layers: "Sequence[list[Pixels]]", share: float) -> "list[Pixels]":
    import cv2
    import numpy as np

    if len(layers) < 2:  # noqa: PLR2004 - as above
        return layers[0]
    return [
        np.asarray(cv2.addWeighted(one, 1 - share, other, share, 0), np.uint8)
        for one, other in zip(layers[0], layers[1], strict=True)
    ]
