"""The masks of a clip as a model gave them, brought to the clip's size and number of frames, one frame after the other.

They come as a film, or as run lengths by frame. Both can be read twice, because a mask film that was not exact is
written again.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from rotoscope.errors import OutputLost, PredictionFailed, UserMistake
from rotoscope.media.image.masks import fit_mask_to_size
from rotoscope.models.mask_runs import BrokenRuns, MaskFrames, RunOrder, draw_runs, find_run_order, read_mask_frames

if TYPE_CHECKING:
    from PIL.Image import Transpose

    from rotoscope.media.image.masks import Mask
    from rotoscope.media.video.mask_videos import MaskFilm
    from rotoscope.media.video.probing import VideoFacts

__all__ = ["FilmMasks", "FrameMasks", "open_film_masks"]

FrameMasks = Sequence["tuple[int, Mask]"]
"""The objects in a frame: the number by which each is followed, and its mask of the clip's size."""

_MAX_EXTRA_FRAMES = 2  # frames by which counts may differ because a decoder drops or repeats some at an end
_CHECKED_FRAMES = 200  # frames of a mask film by which is found how it selects
_SHAPE_TOLERANCE = 1.03  # ratio of two aspect ratios that count as equal: models round sizes
_PAID_HINT = "The run was probably charged; the file is kept and listed under files."


class FilmMasks(Protocol):
    """The masks of a clip."""

    @property
    def warnings(self) -> Sequence[str]:
        """What is unusual about them, once they were read."""
        ...

    @property
    def are_turned(self) -> bool:
        """Whether the model saw the clip as it is stored, on its side, and they were turned; once they were read."""
        ...

    def read(self, times: Iterator[float]) -> "Iterator[FrameMasks]":
        """The objects in each frame of the clip; may be called again.

        Args:
            times: of the clip's frames in seconds; one frame is read for each.
        """
        ...


def open_film_masks(path: Path, clip: "VideoFacts", turn: "Transpose | None" = None, *, is_document: bool) -> FilmMasks:
    """The masks in a file that a model gave.

    Args:
        path: the file.
        clip: the clip that they are of.
        turn: how a picture of the clip as it is stored becomes upright; None where it is.
        is_document: whether it holds run lengths, and is no film.

    Raises:
        OutputLost: the file cannot be read.
        PredictionFailed: it is a film on which a mask is painted.
    """
    fitting = _Fitting((clip.width, clip.height), turn)
    return _open_runs(path, clip, fitting) if is_document else _open_film(path, clip, fitting)


@dataclass(slots=True)
class _Fitting:
    """Brings masks to the clip's size, and notes what had to be done.

    A clip from a phone is often stored on its side, and says how it is shown. A model that does not read that gives its
    masks on their side: their shape tells it.
    """

    size: tuple[int, int]
    turn: "Transpose | None" = None
    is_turned: bool = False
    notes: dict[str, None] = field(default_factory=dict)

    def fit(self, mask: "Mask") -> "Mask":
        width, height = self.size
        mask = self._make_upright(mask)
        tall, wide = mask.shape
        # Encoders have even sides: one row or column more is no other size.
        if 0 <= wide - width <= 1 and 0 <= tall - height <= 1:
            return mask[:height, :width]
        try:
            fitted, _ = fit_mask_to_size(mask, width, height)
            self.notes[f"The masks were {wide}x{tall} and were resized to the clip's {width}x{height}."] = None
        except UserMistake:
            import numpy as np

            self.notes[f"The masks were {wide}x{tall}, another shape than the clip, and were stretched to it."] = None
            rows, columns = np.arange(height) * tall // height, np.arange(width) * wide // width
            fitted = mask[rows[:, None], columns]
        return fitted

    def _make_upright(self, mask: "Mask") -> "Mask":
        tall, wide = mask.shape
        if self.turn is None or _has_shape((wide, tall), self.size) or not _has_shape((tall, wide), self.size):
            return mask
        import numpy as np
        from PIL import Image

        self.is_turned = True
        self.notes["The clip is stored on its side, and the model saw it so: the masks were turned."] = None
        return np.asarray(Image.fromarray(mask.view(np.uint8)).transpose(self.turn)).astype(np.bool_)


def _has_shape(shape: tuple[int, int], wanted: tuple[int, int]) -> bool:
    ratio = (shape[0] * wanted[1]) / max(shape[1] * wanted[0], 1)
    return 1 / _SHAPE_TOLERANCE < ratio < _SHAPE_TOLERANCE


def _count_note(given: int, wanted: int) -> str:
    return f"The model gave masks for {given} frames, and the clip has {wanted}: they were matched by time."


@dataclass(slots=True)
class _Runs:
    """Masks as run lengths."""

    frames: MaskFrames
    clip: "VideoFacts"
    order: RunOrder
    fitting: _Fitting
    broken: set[int] = field(default_factory=set)

    @property
    def are_turned(self) -> bool:
        return self.fitting.is_turned

    @property
    def warnings(self) -> Sequence[str]:
        more = [_count_note(self.frames.count, self.clip.frames)] if self.frames.count != self.clip.frames else []
        if self.broken:
            shown = ", ".join(map(str, sorted(self.broken)[:5]))
            more.append(f"The masks of {len(self.broken)} frames were damaged and are empty (frame {shown}).")
        return [*self.fitting.notes, *more]

    def read(self, times: Iterator[float]) -> "Iterator[FrameMasks]":
        for number, _ in enumerate(times):
            yield list(self._masks_of(self._place_of(number)))

    def _place_of(self, number: int) -> int:
        """Which of the model's frames a frame of the clip is."""
        count, wanted = self.frames.count, self.clip.frames
        if abs(count - wanted) <= _MAX_EXTRA_FRAMES or not wanted:
            return min(number, max(count - 1, 0))
        return number * count // wanted

    def _masks_of(self, place: int) -> "Iterator[tuple[int, Mask]]":
        for one in self.frames.objects.get(place, ()):
            try:
                mask = draw_runs(one.runs, self.frames.size or self.fitting.size, self.order)
            except BrokenRuns:
                self.broken.add(place)
                continue
            yield one.track_id, self.fitting.fit(mask)


def _open_runs(path: Path, clip: "VideoFacts", fitting: _Fitting) -> FilmMasks:
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        raise OutputLost("The model's run lengths cannot be read.", hint=_PAID_HINT, code="corrupt") from None
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        document = text
    frames = read_mask_frames(document, max(2 * clip.frames, clip.frames + _CHECKED_FRAMES))
    return _Runs(frames, clip, find_run_order(frames, fitting.size), fitting)


@dataclass(slots=True)
class _Film:
    """Masks as a film, which may have another rate and length than the clip."""

    path: Path
    facts: "VideoFacts"
    film: "MaskFilm"
    clip: "VideoFacts"
    fitting: _Fitting

    @property
    def are_turned(self) -> bool:
        return self.fitting.is_turned

    @property
    def warnings(self) -> Sequence[str]:
        is_other = self.facts.frames != self.clip.frames
        return [*self.fitting.notes, *([_count_note(self.facts.frames, self.clip.frames)] if is_other else [])]

    def read(self, times: Iterator[float]) -> "Iterator[FrameMasks]":
        from rotoscope.media.video.mask_videos import read_film_masks

        masks = (
            (time, self.fitting.fit(one)) for time, one in read_film_masks(self.path, self.film, self.facts.frames)
        )
        if abs(self.facts.frames - self.clip.frames) <= _MAX_EXTRA_FRAMES:
            yield from self._pair_in_order(times, masks)
        else:
            yield from self._pair_by_time(times, masks)

    def _pair_in_order(self, times: Iterator[float], masks: "Iterator[tuple[float, Mask]]") -> "Iterator[FrameMasks]":
        last: FrameMasks = ()
        for _ in times:
            found = next(masks, None)
            last = [(0, found[1])] if found is not None else last
            yield last

    def _pair_by_time(self, times: Iterator[float], masks: "Iterator[tuple[float, Mask]]") -> "Iterator[FrameMasks]":
        """Each frame of the clip with the mask that is shown then; after the film's end with none."""
        start, current, following = None, None, next(masks, None)
        begun = following[0] if following else 0.0
        half, end = 0.5 / self.clip.frame_rate, self.facts.duration_seconds
        for time in times:
            start = time if start is None else start
            while following is not None and following[0] - begun <= time - start + half:
                current, following = following, next(masks, None)
            is_over = following is None and time - start > end + half
            yield [] if current is None or is_over else [(0, current[1])]


def _open_film(path: Path, clip: "VideoFacts", fitting: _Fitting) -> FilmMasks:
    from rotoscope.media.video.mask_videos import read_mask_film
    from rotoscope.media.video.videos import probe_video

    try:
        facts = probe_video(path)
        film = read_mask_film(path, min(facts.frames, _CHECKED_FRAMES))
    except UserMistake as error:
        raise OutputLost(
            f"What the model gave cannot be used as a video: {error.message}", hint=_PAID_HINT, code=error.code
        ) from error
    if not film.is_mask:
        raise PredictionFailed(
            "The model gave a film in which no mask can be told from the picture.",
            hint="Try another model; the run may have been charged, and its film is listed under files.",
            code="provider_protocol",
        )
    return _Film(path, facts, film, clip, fitting)
