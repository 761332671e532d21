"""A clip and its mask film cut into parts that a model takes. Heavy: these functions run in a worker process.

One part is written at a time and one frame of it is held, however long the clip is.
"""

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from rotoscope.errors import InvalidInput
from rotoscope.media.edits.films import FilmShape, FrameReader, GivenMask, MaskReader, read_film_shape
from rotoscope.media.edits.planes import NewFrame, even_size, planes_of, write_film
from rotoscope.media.image.masks import encode_mask_png
from rotoscope.media.vault import file_sha256
from rotoscope.media.video.track_films import FrameClock, TrackFilm
from rotoscope.media.worker_files import WorkerFile
from rotoscope.models.clip_parts import ClipPart
from rotoscope.workers.limits import request_cpu_seconds

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Pixels = NDArray[np.uint8]

__all__ = ["CutMask", "cut_film", "cut_mask_film", "find_scene_changes", "pick_mask_picture"]

_CPU_SECONDS = 240  # asked for
_PART_CRF = 12  # of x264: what a model is sent shows no trace of the cut
_MASK_QUALITY = {"preset": "ultrafast", "qp": "1"}  # every pixel is read as it was meant
_RIM = 4.0  # pixels, for each 854 along the longer side, by which a mask is grown
_RIM_SIDE = 854
_SMALL = (64, 36)  # width and height in pixels at which scenes are compared
_LEAST_DIFFERENCE = 16  # of 255, of any colour: a pixel that differs by more has changed
_LEAST_CHANGE, _TIMES_USUAL = 0.4, 2.5  # part of the pixels that change; and times the usual part around
_AROUND = 12  # frames before and after
_SHORTEST_SCENE = 8  # frames


def find_scene_changes(path: Path) -> tuple[int, ...]:
    """The numbers of the frames with which a new scene begins: hard cuts, not fades.

    Raises:
        InvalidInput: the file is broken.
    """
    import numpy as np

    request_cpu_seconds(_CPU_SECONDS)
    changes = np.asarray(list(_read_changes(path, read_film_shape(path))))
    found = list[int]()
    for number, change in enumerate(changes):
        near = changes[max(number - _AROUND, 1) : number + _AROUND + 1]
        usual = float(np.median(near)) if near.size else 0.0
        is_late = number - (found[-1] if found else 0) >= _SHORTEST_SCENE
        if is_late and change > max(_LEAST_CHANGE, _TIMES_USUAL * usual):
            found.append(number)
    return tuple(found)


def _read_changes(path: Path, shape: FilmShape) -> Iterator[float]:
    """Which part of its pixels differs from those of the frame before, 0 to 1; of the first frame none."""
    import cv2

    last = None
    with closing(FrameReader(path, shape)) as reader:
        for number in range(len(shape.stamps)):
            frame = reader.frame(number)
            small = last if frame is None else frame.picture(_SMALL)
            if last is None or small is None:
                yield 0.0
            else:
                yield float((cv2.absdiff(small, last).max(axis=2) > _LEAST_DIFFERENCE).mean())
            last = small


def cut_film(path: Path, stem: Path, parts: Sequence[ClipPart]) -> list[WorkerFile]:
    """Write each part of a film as an MP4 without sound, at the film's size and frame rate.

    Args:
        path: the film.
        stem: the path with which the names of the new files begin.
        parts: of the film.

    Raises:
        InvalidInput: the film is broken.
        StorageFailed: the disk does not take it.
    """
    request_cpu_seconds(_CPU_SECONDS)
    shape = read_film_shape(path)
    written = list[WorkerFile]()
    for number, part in enumerate(parts):
        target = stem.with_name(f"{stem.name}-part{number}")
        write_film(target, shape, _part_frames(path, shape, part), _PART_CRF)
        written.append(WorkerFile(target, file_sha256(target), "video/mp4"))
    return written


def _part_frames(path: Path, shape: FilmShape, part: ClipPart) -> Iterator[NewFrame]:
    """The frames of a part, from time 0 on; one that is broken is shown as the one before it."""
    size, held = even_size(shape.size), None
    with closing(FrameReader(path, shape)) as reader:
        for place in range(part.sent):
            number = part.first + min(place, part.frames - 1)
            frame = reader.frame(number)
            held = frame or held
            if held is None:
                raise InvalidInput(f"Frame {number} of the video is broken.", code="corrupt", hint="Save it again.")
            yield NewFrame(planes_of(held, size), _pts_of(shape, part, place), held.frame)


def _pts_of(shape: FilmShape, part: ClipPart, place: int) -> int:
    """When a frame of a part begins, from the part's start; repeated frames follow at the usual distance."""
    within = min(place, part.frames - 1)
    step = max(round(1 / shape.facts.frame_rate / shape.unit), 1)
    return shape.stamps[part.first + within] - shape.stamps[part.first] + (place - within) * step


@dataclass(frozen=True, slots=True)
class CutMask:
    """A part of a mask film; None where it selects nothing in any frame of the part."""

    file: WorkerFile | None


def cut_mask_film(
    mask: GivenMask, clip: Path, stem: Path, parts: Sequence[ClipPart | None], is_grown: bool = False
) -> list[CutMask]:
    """Write each part of a mask film, frame by frame as the clip that it covers is cut.

    Args:
        mask: the mask of the whole clip.
        clip: the clip.
        stem: the path with which the names of the new files begin.
        parts: of the clip; None: all of it.
        is_grown: whether it is grown by some pixels: the rim of an object that was found goes with the object.

    Raises:
        InvalidInput: a film is broken, or the mask is none.
        TooLarge: the mask takes too long to read.
        StorageFailed: the disk does not take it.
    """
    request_cpu_seconds(_CPU_SECONDS)
    shape = read_film_shape(clip)
    rim = round(_RIM * max(max(shape.size) / _RIM_SIDE, 0.5)) if is_grown else 0
    whole, found = ClipPart(0, len(shape.stamps), len(shape.stamps)), list[CutMask]()
    for number, part in enumerate(parts):
        found.append(_cut_mask(mask, shape, stem.with_name(f"{stem.name}-mask{number}"), part or whole, rim))
    return found


def _cut_mask(mask: GivenMask, shape: FilmShape, target: Path, part: ClipPart, rim: int) -> CutMask:
    import cv2
    import numpy as np

    width, height = even_size(shape.size)
    rate = Fraction(shape.facts.frame_rate).limit_denominator(1001)
    masks, is_empty = MaskReader(mask, shape), True
    with TrackFilm(target, (width, height), rate, _MASK_QUALITY) as written:
        for place in range(part.sent):
            found = masks.mask(part.first + min(place, part.frames - 1))
            shown = np.zeros((height, width), np.bool_) if found is None else found[:height, :width]
            is_empty = is_empty and not shown.any()
            if rim:
                around = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * rim + 1, 2 * rim + 1))
                shown = cv2.dilate(shown.astype(np.uint8), around) > 0
            written.write_mask(shown, FrameClock(_pts_of(shape, part, place), shape.unit))
    if is_empty:
        target.unlink()
        return CutMask(None)
    return CutMask(WorkerFile(target, file_sha256(target), "video/mp4"))


def pick_mask_picture(mask: GivenMask, clip: Path, target: Path, number: int) -> CutMask:
    """Write the mask of one frame as a picture.

    Args:
        mask: the mask film.
        clip: the clip that it covers.
        target: where to write.
        number: of the frame.

    Raises:
        InvalidInput: a film is broken, or the mask is none.
        TooLarge: the mask takes too long to read.
        StorageFailed: the disk does not take it.
    """
    request_cpu_seconds(_CPU_SECONDS)
    found = MaskReader(mask, read_film_shape(clip)).mask(number)
    if found is None or not found.any():
        return CutMask(None)
    target.write_bytes(encode_mask_png(found))
    return CutMask(WorkerFile(target, file_sha256(target), "image/png"))
