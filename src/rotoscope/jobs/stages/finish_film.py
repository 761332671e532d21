"""The last stage of a job that follows an object through a clip: the mask film, the painted film, pictures and COCO.

Clip and masks are read as streams, a frame at a time. The mask film is compared with the masks that were meant, and
written again, more finely, where a pixel of it would be read otherwise (`media.video.track_films`).
"""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from rotoscope.errors import OutputLost, PredictionFailed, UserMistake
from rotoscope.jobs.stages.finish_film_masks import FilmMasks, FrameMasks, open_film_masks
from rotoscope.jobs.stages.finish_masks import FinishResult
from rotoscope.media.image.film_coco import FilmCocoDocument
from rotoscope.media.image.masks import area_of, bounding_box, encode_mask_png
from rotoscope.media.vault import StoredFile
from rotoscope.media.video.track_films import (
    MASK_QUALITIES,
    ClipFrame,
    TrackFilm,
    mask_digest,
    read_clip_frames,
    read_clip_turn,
    verify_mask_film,
)
from rotoscope.media.worker_files import ScratchVault
from rotoscope.providers.http.messages import Json
from rotoscope.store.job_data import MeasuredResult
from rotoscope.store.records import Artifact, Output, error_record
from rotoscope.workers.limits import request_cpu_seconds

if TYPE_CHECKING:
    from rotoscope.media.image.masks import Mask
    from rotoscope.media.video.probing import VideoFacts

__all__ = ["FilmWork", "finish_film"]

_EVEN_PICTURES = 7  # frames, evenly spread, whose masks are given as pictures, besides the prompt's
_SECONDS_PER_PIXEL = 2e-7  # of processor time, for all that is made of one pixel of the clip
_READ_ELSEWHERE = "It also read points and box on the clip as it is stored: check the overlay, or give an upright clip."
_MP4, _JPEG, _PNG = "video/mp4", "image/jpeg", "image/png"


@dataclass(frozen=True, slots=True)
class FilmWork:
    """What came back from a model that follows an object through a clip.

    Attributes:
        raw: the file that it gave.
        is_document: whether that holds run lengths, and is no film.
        clip: the clip that was sent.
        file_name: of the clip, as who gave it calls it, without folders.
        label: what to call the object.
        text: what the model said.
        frame: the frame that the prompt is on.
        points: `x` and `y` of each point on the object.
        box: `left`, `top`, `right` and `bottom` of the box around it.
    """

    raw: Path
    is_document: bool
    clip: Path
    file_name: str
    label: str
    text: str | None = None
    frame: int = 0
    points: Sequence[tuple[float, float]] = ()
    box: tuple[float, float, float, float] | None = None


def finish_film(work: FilmWork, stem: Path) -> FinishResult:
    """Turn what came back into films, pictures and data. Heavy: run it in a worker process.

    Args:
        work: what came back.
        stem: the path with which the names of its files begin.

    Raises:
        OutputLost: a file cannot be read.
        PredictionFailed: the model gave a film that is no mask.
        StorageFailed: the disk does not take the files.
    """
    from rotoscope.media.video.videos import probe_video

    clip = probe_video(work.clip)
    request_cpu_seconds(30 + _SECONDS_PER_PIXEL * clip.width * clip.height * clip.frames)
    masks = open_film_masks(work.raw, clip, read_clip_turn(work.clip), is_document=work.is_document)
    making = _TrackMaking(work, clip, ScratchVault(stem), _choose_tracks(masks, work))
    making.make(masks)
    is_elsewhere = masks.are_turned and (work.points or work.box)
    warnings = (*masks.warnings, *([_READ_ELSEWHERE] if is_elsewhere else []), *making.warnings())
    if not making.has_object:
        error = PredictionFailed(
            "The model found nothing: the object is in no frame.",
            hint="Name the object otherwise, or give a box on a frame that shows it; the run was probably charged.",
            code="nothing_found",
        )
        return FinishResult(MeasuredResult(work.text), (), warnings, error_record(error))
    outputs = tuple(making.outputs())
    return FinishResult(
        MeasuredResult(work.text, frames=tuple(making.rows)), outputs, warnings, new_files=tuple(making.tray.files)
    )


def _choose_tracks(masks: FilmMasks, work: FilmWork) -> frozenset[int] | None:
    """The numbers of the objects under the points or in the box, on the prompt's frame; None: all of them."""
    if not work.is_document or not (work.points or work.box):
        return None
    on_frame = deque(masks.read(float(number) for number in range(work.frame + 1)), maxlen=1).pop()
    if len(on_frame) <= 1:
        return None
    fits = {track: _measure_fit(mask, work) for track, mask in on_frame}
    best = max(fits.values())
    return frozenset(track for track, fit in fits.items() if fit == best) if best > 0 else None


def _measure_fit(mask: "Mask", work: FilmWork) -> float:
    """How well a mask fits points and box, from 0 on."""
    height, width = mask.shape
    inside = sum(bool(mask[min(int(y), height - 1), min(int(x), width - 1)]) for x, y in work.points)
    box = bounding_box(mask)
    if work.box is None or box is None:
        return float(inside)
    left, top, right, bottom = work.box
    across = max(0.0, min(right, box.right) - max(left, box.left))
    shared = across * max(0.0, min(bottom, box.bottom) - max(top, box.top))
    both = (right - left) * (bottom - top) + (box.right - box.left) * (box.bottom - box.top) - shared
    return inside + shared / both


@dataclass(slots=True)
class _TrackMaking:
    """Makes all that is made of a clip and its masks.

    Attributes:
        chosen: the numbers of the objects that count; None: all.
        rows: of every frame, as the result tells them.
    """

    work: FilmWork
    clip: "VideoFacts"
    tray: ScratchVault
    chosen: frozenset[int] | None
    rows: list[Mapping[str, Json]] = field(default_factory=list)
    _pictures: dict[int, StoredFile] = field(default_factory=dict)
    _digests: list[bytes] = field(default_factory=list)
    _colours: dict[int, int] = field(default_factory=dict)
    _poster: bytes | None = None
    _has_poster_object: bool = False
    _coco: FilmCocoDocument | None = None

    @property
    def has_object(self) -> bool:
        """Whether the object is in any frame."""
        return any(row["box"] is not None for row in self.rows)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the clip in pixels."""
        return self.clip.width, self.clip.height

    def make(self, masks: FilmMasks) -> None:
        """Write the films, measure every frame, and write the mask film again until it is exact."""
        overlay, film = self.tray.path_for("overlay"), self.tray.path_for("mask")
        rate = Fraction(self.clip.frame_rate).limit_denominator(1001)
        self._coco = FilmCocoDocument(self.work.file_name, self.work.label, *self.size, self.clip.frame_rate)
        with ExitStack() as stack:
            painted = stack.enter_context(TrackFilm(overlay, self.size, rate))
            written = stack.enter_context(TrackFilm(film, self.size, rate, MASK_QUALITIES[0]))
            for number, (frame, found) in enumerate(self._frames_with_masks(masks)):
                union = self._join(found)
                written.write_mask(union, frame.clock)
                self._paint(number, frame, found, union, painted)
                self._measure(number, found, union)
        for quality in MASK_QUALITIES[1:]:
            if verify_mask_film(film, self.size, self._digests):
                break
            self._write_again(masks, film, rate, quality)

    def _write_again(self, masks: FilmMasks, film: Path, rate: Fraction, quality: dict[str, str]) -> None:
        with TrackFilm(film, self.size, rate, quality) as written:
            for frame, found in self._frames_with_masks(masks):
                written.write_mask(self._join(found), frame.clock)

    def _frames_with_masks(self, masks: FilmMasks) -> "Iterator[tuple[ClipFrame, FrameMasks]]":
        pending: deque[ClipFrame] = deque()

        def times() -> Iterator[float]:
            for frame in read_clip_frames(self.work.clip):
                pending.append(frame)
                yield frame.clock.seconds

        for found in masks.read(times()):
            kept = [(track, mask) for track, mask in found if self.chosen is None or track in self.chosen]
            yield pending.popleft(), kept

    def _join(self, found: FrameMasks) -> "Mask":
        import numpy as np

        width, height = self.size
        union = np.zeros((height, width), np.bool_)
        for _, mask in found:
            union |= mask
        return union

    def _paint(self, number: int, frame: ClipFrame, found: FrameMasks, union: "Mask", film: TrackFilm) -> None:
        """Add a frame to the painted film; the prompt's, or else the first with the object, is the poster."""
        import numpy as np

        from rotoscope.media.image.previews import MaskOverlay

        overlay = MaskOverlay(frame.picture)
        for track, mask in found:
            overlay.paint(self._colours.setdefault(track, len(self._colours)), mask)
        film.write(np.asarray(overlay.image()), frame.clock)
        is_there = bool(union.any())
        is_wanted = number == self.work.frame or (number > self.work.frame and not self._has_poster_object and is_there)
        if is_wanted or (self._poster is None and is_there):
            self._poster = overlay.jpeg()
            self._has_poster_object = is_there

    def _measure(self, number: int, found: FrameMasks, union: "Mask") -> None:
        assert self._coco is not None
        self._digests.append(mask_digest(union))
        self._coco.add_frame(number)
        for track, mask in found:
            self._coco.add_mask(number, track, mask)
        box = bounding_box(union)
        corners: Json = {"left": box.left, "top": box.top, "right": box.right, "bottom": box.bottom} if box else None
        self.rows.append({"frame": number, "box": corners, "area": round(area_of(union), 6)})
        if number in _picture_places(self.clip.frames, self.work.frame):
            self._pictures[number] = self.tray.keep(encode_mask_png(union), _PNG)

    def warnings(self) -> Iterator[str]:
        """What a user should know."""
        missing = sum(row["box"] is None for row in self.rows)
        if missing and self.has_object:
            there = len(self.rows) - missing
            yield f"The object is in {there} of {len(self.rows)} frames; the mask of the others is empty."
        width, height = self.size
        if width % 2 or height % 2:
            yield (
                f"The films are {width + width % 2}x{height + height % 2}, and the clip {width}x{height}: H.264 has "
                "even sides, so the last row or column is there twice."
            )

    def outputs(self) -> Iterator[Output]:
        """The files of the result."""
        assert self._coco is not None
        for role in ("mask", "overlay"):
            kept = self.tray.take(path := self.tray.path_for(role), _MP4)
            yield Output(role, 0, Artifact(kept.sha256, kept.content_type, kept.size, _video_facts(path)))
        if self._poster is not None:
            yield self._picture("poster", 0, self.tray.keep(self._poster, _JPEG))
        document = self.tray.keep(self._coco.content(), "application/json")
        yield Output("coco", 0, Artifact(document.sha256, document.content_type, document.size))
        for number, kept in self._pictures.items():
            yield self._picture("frame", number, kept)

    def _picture(self, role: str, number: int, kept: StoredFile) -> Output:
        facts = {"width": self.clip.width, "height": self.clip.height}
        return Output(role, number, Artifact(kept.sha256, kept.content_type, kept.size, facts))


def _picture_places(frames: int, prompt: int) -> frozenset[int]:
    """The frames whose masks are given as pictures: the first, the prompt's, and some that are evenly spread."""
    last = max(frames - 1, 0)
    return frozenset({prompt, *(round(place * last / (_EVEN_PICTURES - 1)) for place in range(_EVEN_PICTURES))})


def _video_facts(path: Path) -> dict[str, Json]:
    from rotoscope.media.video.videos import probe_video

    try:
        facts = asdict(probe_video(path))
    except UserMistake as error:
        raise OutputLost(f"A film could not be written: {error.message}", hint="Look at the disk.") from error
    facts.pop("content_type")
    return facts
