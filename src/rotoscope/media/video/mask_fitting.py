"""A mask film that covers a video: judged, and written anew where the model would not see what was meant."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from rotoscope.media.mask_checks import (
    Selection,
    mask_shape_error,
    not_a_mask_error,
    selection_warnings,
    useless_mask_error,
)
from rotoscope.media.vault import Vault, file_sha256

if TYPE_CHECKING:
    from pathlib import Path

    from rotoscope.media.decoders import DecodeRunner
    from rotoscope.media.intake import AdmittedMedia
    from rotoscope.media.video.mask_videos import MaskFilm
    from rotoscope.media.worker_files import WorkerFile

__all__ = ["fit_mask_film", "is_stored_size"]

_SAME_RATE_SHARE = 0.01  # the part by which rates may differ and be the same

Size = tuple[int, int]


@dataclass(frozen=True, slots=True)
class _FilmFit:
    """What a mask film is, and the film that was written in its place with its size in bytes; None where it is good."""

    film: "MaskFilm"
    file: "WorkerFile | None" = None
    size: int = 0


async def fit_mask_film(
    vault: Vault,
    decoders: "DecodeRunner",
    path: "Path",
    stem: "Path",
    mask: "AdmittedMedia",
    video: "AdmittedMedia | None",
    frames: int,
) -> tuple["AdmittedMedia", list[str]]:
    """The mask film as the model wants it, and what was done to it.

    Args:
        vault: where the mask is kept.
        decoders: decodes the mask, out of this process.
        path: of the mask's file.
        stem: the path with which the names of scratch files begin.
        mask: a mask film that we have.
        video: what it covers; None where nobody here has read it.
        frames: how many frames of the video are edited at most.

    Raises:
        InvalidInput: it is a film of the world, empty, full, or of another shape than the video.
        TooLarge: it takes too long to read or to write anew.
    """
    import anyio.to_thread  # not needed where masks are decoded, and slow to load

    from rotoscope.media.decoders import FILM
    from rotoscope.media.worker_files import store_worker_files

    own = (mask.width or 0, mask.height or 0)
    wanted = (video.width, video.height) if video and video.width and video.height else own
    _check_mask_shape(own, wanted, video.stored if video else None)
    used = min(frames, video.frames) if video and video.frames else frames
    fitting = await decoders.run(_fit_film_in_worker, path, stem, used, own, wanted, limits=FILM)
    if fitting.file is not None:
        await anyio.to_thread.run_sync(store_worker_files, vault, [fitting.file])
        await anyio.to_thread.run_sync(vault.mark_prepared, fitting.file.sha256, "video")
    film = fitting.film
    selects = Selection(film.least, film.most, film.frames, film.at_all_borders)
    mask = replace(mask, selects=selects)
    notes = [*_change_notes(film, own, wanted), *_pairing_notes(mask, video), *selection_warnings(selects)]
    if fitting.file is None:
        return mask, notes
    link = f"artifact://{fitting.file.sha256}"
    made = replace(mask, value=link, content_type="video/mp4", size=fitting.size, has_audio=False)
    return replace(made, width=wanted[0], height=wanted[1]), notes


def is_stored_size(size: Size, wanted: Size | None, stored: Size | None) -> bool:
    """Whether a mask was made from frames as they are stored, and not as a player shows them.

    Args:
        size: of the mask; all are width and height in pixels.
        wanted: of the video as it is shown.
        stored: of the video as it was stored; None where that is the same.
    """
    from rotoscope.media.image.masks import has_same_shape

    return bool(wanted and stored and not has_same_shape(size, wanted) and has_same_shape(size, stored))


def _check_mask_shape(own: Size, wanted: Size, stored: Size | None) -> None:
    from rotoscope.media.image.masks import has_same_shape

    if not has_same_shape(own, wanted) and not is_stored_size(own, wanted, stored):
        raise mask_shape_error(own, wanted)


def _fit_film_in_worker(path: "Path", stem: "Path", frames: int, own: Size, wanted: Size) -> _FilmFit:
    """Judge a mask film, and write it anew where it is needed. Heavy: run it in a worker."""
    from rotoscope.media.video.mask_videos import read_mask_film, write_mask_film
    from rotoscope.media.worker_files import WorkerFile

    film = read_mask_film(path, frames)
    if not film.is_mask:
        raise not_a_mask_error()
    if film.most <= 0 or film.least >= 1:
        raise useless_mask_error(full=film.most > 0)
    if film.is_plain and own == wanted:
        return _FilmFit(film)
    target = stem.with_name(f"{stem.name}-mask")
    write_mask_film(path, target, film, wanted)
    return _FilmFit(film, WorkerFile(target, file_sha256(target), "video/mp4"), target.stat().st_size)


def _change_notes(film: "MaskFilm", own: Size, wanted: Size) -> list[str]:
    notes = []
    if not film.is_plain:
        notes.append("The mask film was made black and white; what is bright in it is edited.")
    if own != wanted:
        sizes = f"from {own[0]}x{own[1]} to the video's {wanted[0]}x{wanted[1]}"
        notes.append(f"The mask film was resized {sizes} without smoothing.")
    return notes


def _pairing_notes(mask: "AdmittedMedia", video: "AdmittedMedia | None") -> list[str]:
    """That frames of mask and film may not go together, with both numbers."""
    if video is None or not video.frames or not mask.frames:
        return []
    rates = (mask.frame_rate or 0.0, video.frame_rate or 0.0)
    if mask.frames == video.frames and abs(rates[0] - rates[1]) <= _SAME_RATE_SHARE * max(rates):
        return []
    mask_has, video_has = f"{mask.frames} frames at {rates[0]:.4g}", f"{video.frames} at {rates[1]:.4g}"
    return [f"The mask has {mask_has} a second, the video has {video_has}: how the model pairs them is not known."]
