"""Frames as an encoder stores them (Y, Cb and Cr in 4:2:0), and films that are written of them.

Pixels of an original are never converted to other colours on their way into a new film, only encoded once more.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, cast

from rotoscope.media.edits.films import FilmShape, ShownFrame
from rotoscope.media.video.opening import import_av
from rotoscope.media.video.remux import add_picture_track, open_output, remove_on_failure

if TYPE_CHECKING:
    import numpy as np
    from av.video.frame import VideoFrame
    from numpy.typing import NDArray

    Pixels = NDArray[np.uint8]

__all__ = ["NewFrame", "even_size", "planes_of", "write_film"]

_FAST_PIXELS = 1920 * 1080  # of a larger frame the quicker preset is used, which takes less memory


@dataclass(frozen=True, slots=True, eq=False)
class NewFrame:
    """A frame that is to be written.

    Attributes:
        planes: Y, Cb and Cr.
        pts: when it begins, in units of the film.
        like: a frame that has its colour space; None: not known.
    """

    planes: "list[Pixels]"
    pts: int
    like: "VideoFrame | None"


def even_size(size: tuple[int, int]) -> tuple[int, int]:
    """A size without the last row or column that an encoder does not take: both sides are even."""
    return size[0] - size[0] % 2, size[1] - size[1] % 2


def planes_of(shown: ShownFrame, size: tuple[int, int], colorspace: int | None = None) -> "list[Pixels]":
    """Y, Cb and Cr of a frame, upright and of a size, in 4:2:0 and limited range; in a colour space, or its own."""
    frame, (width, height) = shown.frame, shown.stored_size(size)
    stored = frame.reformat(
        width,
        height,
        "yuv420p",
        src_colorspace=frame.colorspace,
        dst_colorspace=frame.colorspace if colorspace is None else colorspace,
        threads=1,
    )
    flat, count = cast("Pixels", stored.to_ndarray()).reshape(-1), width * height
    chroma = [flat[start : start + count // 4].reshape(height // 2, -1) for start in (count, count + count // 4)]
    return [shown.turn_upright(plane) for plane in (flat[:count].reshape(height, width), *chroma)]


def write_film(target: Path, shape: FilmShape, frames: Iterable[NewFrame], crf: int) -> None:
    """Write an MP4 without sound, of a film's even size, its frame rate and its unit of time.

    Args:
        target: where to write; nothing is left there when this fails.
        shape: of the film that it is made of.
        frames: one after the other.
        crf: of x264; lower is better.

    Raises:
        InvalidInput: a file from which frames are read is broken.
        TooLarge: it takes too much memory or time.
        StorageFailed: the target cannot be written.
    """
    size = even_size(shape.size)
    rate = Fraction(shape.facts.frame_rate).limit_denominator(1001)
    preset = "veryfast" if size[0] * size[1] <= _FAST_PIXELS else "ultrafast"
    track = None
    with remove_on_failure(target), open_output(target, "mp4") as into:
        for new in frames:
            frame = _frame_of(new, size)
            if track is None:
                track = add_picture_track(into, size, rate, crf=crf, preset=preset, like=frame)
            frame.pts, frame.time_base = new.pts, shape.unit
            into.mux(track.encode(frame))
        if track is not None:
            into.mux(track.encode(None))


def _frame_of(new: NewFrame, size: tuple[int, int]) -> "VideoFrame":
    import numpy as np

    width, height = size
    stacked = np.concatenate([plane.reshape(-1) for plane in new.planes]).reshape(height * 3 // 2, width)
    made: VideoFrame = import_av().VideoFrame.from_ndarray(stacked, format="yuv420p")
    if new.like is not None:
        made.colorspace, made.color_primaries = new.like.colorspace, new.like.color_primaries
        made.color_trc = new.like.color_trc
    return made
