"""The proof of an edit: what was changed and what became of the sound, in numbers and words; and a film made of it.

Heavy: both functions run in a worker process.

Measured with `bench/edit_proof.py` on two real clips (81 frames, 1280x720), encoded again with x264: with crf 18 to 28
less than 0.001 % of the pixels outside count as changed (41 to 50 dB), with crf 34 at most 0.2 % (37 dB), made 832x480
at most 0.006 %. Of an object that was inverted 99 % count.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from rotoscope.errors import InvalidInput, TooLarge, UserMistake
from rotoscope.media.edits.films import FilmShape, GivenMask, read_film_shape
from rotoscope.media.edits.laying_back import restore_film
from rotoscope.media.edits.limits import LARGEST_LAYING_BACK, MAX_FRAMES
from rotoscope.media.edits.measuring import FilmPair, MaskedChange, compared_size, measure_change
from rotoscope.media.edits.pairing import Pairing, Region, pair_frames
from rotoscope.media.edits.sounds import add_sound, has_same_sound
from rotoscope.media.vault import file_sha256
from rotoscope.media.worker_files import WorkerFile
from rotoscope.providers.http.messages import Json
from rotoscope.workers.limits import request_cpu_seconds

__all__ = ["EditProof", "EditWork", "prove_edit", "remake_film"]

_QUALITIES = (14, 8, 3)  # crf of x264, one after the other until the original is near enough
_WANTED_PSNR = 40.0  # dB
_RETRY_SECONDS = 60.0  # of processor time: after so many no better quality is tried
_CPU_SECONDS = 240  # asked for

Sound = Literal["kept", "carried_over", "changed", "none"]


@dataclass(frozen=True, slots=True)
class EditWork:
    """The films of an edit.

    Attributes:
        film: what the model gave.
        original: what was edited.
        mask: as it was sent, or kept where the model takes none; None where it cannot be read.
        frames: how many frames were to be edited; None where that was not said.
        keeps_outside: whether the original is laid back outside of the mask.
    """

    film: Path
    original: Path
    mask: GivenMask | None
    frames: int | None
    keeps_outside: bool = False


@dataclass(frozen=True, slots=True)
class EditProof:
    """What was found.

    Attributes:
        changes: as the tool's result shows it; None where it could not be measured.
        warnings: sentences for the user.
        carries_sound: whether the original's sound is to be put into the film.
        restores: whether the film is to be brought back to the original's size and frame rate.
        made: the film that was made; None: the model's own is the result.
    """

    changes: Mapping[str, Json] | None = None
    warnings: tuple[str, ...] = ()
    carries_sound: bool = False
    restores: bool = False
    made: WorkerFile | None = None


def prove_edit(work: EditWork) -> EditProof:
    """Measure what an edit has changed.

    Raises:
        InvalidInput: a film is broken.
        TooLarge: a film takes too much memory or time.
    """
    request_cpu_seconds(_CPU_SECONDS)
    shapes = read_film_shape(work.original), read_film_shape(work.film)
    pairing = pair_frames(work.original, work.film, shapes, work.frames)
    restores, too_long = _judge_shape(shapes, pairing)
    sound, carries = _judge_sound(work, shapes, pairing, restores=restores)
    has_sounds = shapes[0].facts.has_audio, shapes[1].facts.has_audio
    lost = [_OTHER_SPEED] if has_sounds[0] and sound == "none" and not carries else []
    lost += [_SOUND_LEFT_OUT] if has_sounds[1] and sound == "none" else []
    found = EditProof(None, (*lost, *too_long), carries, restores)
    if work.mask is None:
        return replace(found, warnings=(*found.warnings, f"{_UNMEASURED}: the mask cannot be read any more."))
    films = FilmPair(work.original, work.film, shapes, work.mask, pairing)
    try:
        change = measure_change(films)
    except UserMistake as error:
        return replace(found, warnings=(*found.warnings, f"{_UNMEASURED}: {error.message}"))
    if not change.frames:
        return replace(found, warnings=(*found.warnings, f"{_UNMEASURED}: no frames of it belong together."))
    return replace(found, changes=_describe(change, films, sound))


def _judge_shape(shapes: tuple[FilmShape, FilmShape], pairing: Pairing) -> tuple[bool, tuple[str, ...]]:
    """Whether the film has another size or other frames than its original and can be brought back, else why not."""
    original, edit = shapes
    rates = original.facts.frame_rate, edit.facts.frame_rate
    has_other_rate = abs(rates[0] - rates[1]) > _SAME_RATE_SHARE * max(rates)
    if original.size == edit.size and pairing.is_in_step and not has_other_rate:
        return False, ()
    shown = len(pairing.shown_frames(len(original.stamps)))
    if not shown:
        return False, ()
    if shown > MAX_FRAMES or shown * original.size[0] * original.size[1] > LARGEST_LAYING_BACK:
        sizes = f"{shown} frames of {_size_text(original.size)}"
        return False, (f"The film stays as the model gave it: to make {sizes} of it would take too long.",)
    return True, ()


_UNMEASURED = "What the edit changed could not be measured"
_SOUND_LEFT_OUT = "The model's own sound was left out: its frames were brought back to the clip's times."
_OTHER_SPEED = "The clip's sound was not put back: the result does not play at the clip's speed."


def remake_film(work: EditWork, proof: EditProof, stem: Path) -> EditProof:
    """Write the film that stands in place of the model's: with the original outside of the mask, with its sound.

    Args:
        work: the films.
        proof: what `prove_edit` has found.
        stem: the path with which the names of the new files begin.

    Raises:
        InvalidInput: a film is broken, or the mask is not that of every frame.
        TooLarge: it takes too much memory or time.
        StorageFailed: the disk does not take it.
    """
    request_cpu_seconds(_CPU_SECONDS)
    film, found = work.film, proof
    if work.keeps_outside or proof.restores:
        film = stem.with_name(f"{stem.name}-restored")
        found = (_lay_back if work.keeps_outside else _restore)(work, proof, film)
    source = work.original if proof.carries_sound else work.film
    if proof.carries_sound or (film != work.film and _has_fitting_sound(work)):
        found, film = _put_sound(found, film, source, stem)
    if film == work.film:
        return found
    return replace(found, made=WorkerFile(film, file_sha256(film), "video/mp4"))


def _has_fitting_sound(work: EditWork) -> bool:
    """Whether the model's film has a sound that fits its frames at the original's speed."""
    shapes = read_film_shape(work.original), read_film_shape(work.film)
    return shapes[1].facts.has_audio and pair_frames(work.original, work.film, shapes, work.frames).has_same_speed


def _restore(work: EditWork, proof: EditProof, target: Path) -> EditProof:
    """Write the film with the original's size, frame rate and times.

    Raises:
        InvalidInput, TooLarge: it cannot be done.
    """
    shapes = read_film_shape(work.original), read_film_shape(work.film)
    films = FilmPair(work.original, work.film, shapes, None, pair_frames(work.original, work.film, shapes, work.frames))
    restore_film(films, target, _QUALITIES[0], keeps_outside=False)
    return replace(proof, warnings=(*proof.warnings, _restored_note(films)))


def _restored_note(films: FilmPair) -> str:
    (original, edit), rates = films.shapes, [shape.facts.frame_rate for shape in films.shapes]
    given = f"{_size_text(edit.size)}, {len(edit.stamps)} frames at {rates[1]:.4g} a second"
    count = len(films.pairing.shown_frames(len(original.stamps)))
    return (
        f"The model's film ({given}) was brought back to the clip's {_size_text(original.size)} and "
        f"{rates[0]:.4g} frames a second: {count} frames."
    )


def _put_sound(found: EditProof, film: Path, source: Path, stem: Path) -> tuple[EditProof, Path]:
    target = stem.with_name(f"{stem.name}-with-sound")
    try:
        add_sound(film, source, target)
    except UserMistake as error:
        reason = f"The sound could not be put into the film: {error.message}"
        changes = {**found.changes, "sound": "none"} if found.changes is not None else None
        return replace(found, changes=changes, warnings=(*found.warnings, reason)), film
    if not found.carries_sound:
        return found, target
    if found.changes is None:
        return replace(found, warnings=(*found.warnings, "The clip's own sound was put back.")), target
    return replace(found, changes={**found.changes, "sound": "carried_over"}), target


def _lay_back(work: EditWork, proof: EditProof, target: Path) -> EditProof:
    """Write the film with the original outside of the mask, good enough, and measure it.

    Raises:
        InvalidInput, TooLarge: it cannot be done.
    """
    shapes = read_film_shape(work.original), read_film_shape(work.film)
    if work.mask is None or work.mask.path is None or not work.mask.is_film:
        raise InvalidInput("there is no mask of every frame.", hint="Give a mask film.")
    pairing = pair_frames(work.original, work.film, shapes, work.frames)
    count, pixels = len(pairing.shown_frames(len(shapes[0].stamps))), shapes[0].size[0] * shapes[0].size[1]
    if count > MAX_FRAMES or count * pixels > LARGEST_LAYING_BACK:
        raise TooLarge(f"{count} frames of {shapes[0].size[0]}x{shapes[0].size[1]} are too much.", hint="Give less.")
    films = FilmPair(work.original, work.film, shapes, work.mask, pairing)
    begun = time.process_time()
    for crf in _QUALITIES:
        written = tuple(restore_film(films, target, crf, keeps_outside=True))
        new = replace(pairing, sources=written, region=Region(0, 0, *shapes[0].size))
        made = FilmPair(work.original, target, (shapes[0], read_film_shape(target)), work.mask, new)
        change = measure_change(made)
        if change.psnr is None or change.psnr >= _WANTED_PSNR or time.process_time() - begun > _RETRY_SECONDS:
            break
    sound = str(proof.changes["sound"]) if proof.changes is not None else "none"
    changes = {**_describe(change, made, sound), "outside_restored": True}
    notes = _laid_back_notes(proof, changes, films, written)
    return replace(proof, changes=changes, warnings=(*proof.warnings, *notes))


def _laid_back_notes(
    proof: EditProof, changes: Mapping[str, Json], films: FilmPair, written: Sequence[int]
) -> Iterator[str]:
    was = proof.changes["changed_outside"] if proof.changes is not None else None
    had = f", where the model had changed {was:.1%}" if isinstance(was, float) else ""
    yield f"Outside of the mask the original was laid back{had}."
    if proof.restores:
        yield _restored_note(films)
    missing = len(films.pairing.shown_frames(len(films.shapes[0].stamps))) - len(written)
    if missing > 0:
        yield f"{missing} frames of the model's film are broken and are left out."
    psnr = changes["psnr_outside_db"]
    if isinstance(psnr, float) and psnr < _WANTED_PSNR:
        yield f"Outside of the mask it is {psnr:.1f} dB near the original, less than {_WANTED_PSNR:g}."


def _judge_sound(
    work: EditWork, shapes: tuple[FilmShape, FilmShape], pairing: Pairing, *, restores: bool
) -> tuple[Sound, bool]:
    """What became of the sound, and whether the original's is to be put into the film."""
    had, has = (shape.facts.has_audio for shape in shapes)
    if not has:
        return "none", had and (pairing.has_same_speed or restores)
    if restores and not pairing.has_same_speed:  # the model's sound would not fit the frames any more
        return "none", had
    try:
        return ("kept" if had and has_same_sound(work.original, work.film) else "changed"), False
    except UserMistake:
        return "changed", False


def _describe(change: MaskedChange, films: FilmPair, sound: str) -> dict[str, Json]:
    """The counts as the tool's result shows them."""
    pairing, psnr = films.pairing, change.psnr
    return {
        "mask_share": round(change.selected / change.pixels, 6),
        "changed_inside": _share(change.changed_selected, change.selected),
        "changed_outside": _share(change.changed_outside, change.outside),
        "psnr_outside_db": None if psnr is None else round(psnr, 2),
        "frames_compared": change.frames,
        "frames_dropped": pairing.dropped,
        "frames_added": pairing.added,
        "sound": sound,
        "outside_restored": False,
        "note": " ".join(_notes(films)),
    }


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, 6) if whole else None


def _notes(films: FilmPair) -> Iterator[str]:
    """How the frames were compared, where that is not plain."""
    (original, edit), pairing = films.shapes, films.pairing
    if films.mask is not None and films.mask.path is None:
        yield "No mask was given: all of the frame counts as outside."
    if films.mask is not None and not films.mask.is_film:
        yield "The mask is a picture: only the first frame was compared, as the later masks of the model are not known."
    if original.size != edit.size:
        width, height = compared_size(pairing.region, edit.size)
        sizes = f"the result was {_size_text(edit.size)}, the original {_size_text(original.size)}"
        yield f"Compared at {width}x{height}: {sizes}."
    if (pairing.region.width, pairing.region.height) != original.size:
        yield f"The result shows the middle {pairing.region.width}x{pairing.region.height} of the original."
    rates = [shape.facts.frame_rate for shape in films.shapes]
    if pairing.way == "spread":
        yield "The result's frames are spread over the whole original."
    elif abs(rates[0] - rates[1]) > _SAME_RATE_SHARE * max(rates):
        how = "by their times" if pairing.way == "time" else "in their order"
        yield f"Frames were paired {how}: the result has {rates[1]:.4g} a second, the original {rates[0]:.4g}."


_SAME_RATE_SHARE = 0.01


def _size_text(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"
