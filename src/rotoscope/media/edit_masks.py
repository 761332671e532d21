"""A mask made to fit its video: the same size, neither empty nor full, white where the video is to be edited.

The mask is a picture or a video. Its file is read and written in a worker process (the functions that end on
`in_worker`), and stored by this process.
"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from rotoscope.errors import InvalidInput, StorageFailed, UserMistake
from rotoscope.media.image.masks import (
    Selection,
    describe_selection,
    encode_mask_png,
    fit_mask_to_size,
    has_same_shape,
    mask_shape_error,
    measure_selection,
    not_a_mask_error,
    selection_warnings,
    useless_mask_error,
)
from rotoscope.media.vault import Vault, artifact_hash, enter_in_thread, file_sha256, scratch_path
from rotoscope.media.worker_files import ScratchVault, WorkerFile, store_worker_files

if TYPE_CHECKING:
    from pathlib import Path

    from rotoscope.media.decoders import DecodeRunner
    from rotoscope.media.image.mask_reader import MaskReading
    from rotoscope.media.image.masks import Mask
    from rotoscope.media.intake import AdmittedMedia
    from rotoscope.media.video.mask_videos import MaskFilm

__all__ = ["fit_mask"]

_SAME_RATE_SHARE = 0.01  # frame rates that differ by at most this part count as equal: they are rounded in headers

Size = tuple[int, int]
"""Width and height in pixels."""


async def fit_mask(
    vault: Vault,
    decoders: "DecodeRunner",
    mask: "AdmittedMedia",
    video: "AdmittedMedia | None",
    frames: int,
    *,
    inverted: bool = False,
    may_be_full: bool = False,
) -> tuple["AdmittedMedia", list[str]]:
    """The mask as the model needs it, and notes for the user on what was changed and what is unusual.

    A picture becomes black and white and of the video's own size; so does a mask video that is not both already.

    Args:
        vault: where the mask is stored, and the fitted mask will be.
        decoders: runs what decodes the mask, out of this process.
        mask: a mask that the intake has admitted as an `artifact://` link.
        video: what it covers. Where its size is not known, because it is passed on by its URL, sizes are not compared.
        frames: how many frames of the video are edited at most.
        inverted: whether the model edits what is black. The fitted mask is then the other way round, and what it
            selects is still that of the mask as it was given.
        may_be_full: whether a mask film may select all of every frame.

    Raises:
        InvalidInput: it is a photo, empty, full, or of another shape than the video.
        TooLarge: a mask video takes too long to read or to write.
        StorageFailed: the mask is no longer in the vault, or the fitted one cannot be written.
    """
    import anyio.to_thread  # not needed where masks are decoded, and slow to load

    from rotoscope.media.decoders import MASKS

    wanted = (video.width, video.height) if video and video.width and video.height else None
    stored = video.stored if video else None
    opened = vault.open(artifact_hash(mask.value))
    async with enter_in_thread(opened) as path, enter_in_thread(scratch_path(vault)) as stem:
        if path is None:
            raise StorageFailed("The mask is no longer in the results folder.", hint="Make it again.")
        if mask.frames is not None:
            how = _FilmOptions(frames, inverted, may_be_full)
            return await _fit_mask_film(vault, decoders, path, stem, mask, video, how)
        fitting = await decoders.run(_fit_picture_in_worker, path, wanted, stored, stem, inverted, limits=MASKS)
        await anyio.to_thread.run_sync(store_worker_files, vault, [fitting.file])
    link = f"artifact://{fitting.file.sha256}"
    made = replace(mask, value=link, content_type="image/png", size=fitting.size)
    fitted = replace(made, width=fitting.width, height=fitting.height, selects=fitting.selects)
    return fitted, [*fitting.notes, *selection_warnings(fitting.selects)]


@dataclass(frozen=True, slots=True)
class _PictureFit:
    """A fitted mask picture: its file, size in bytes, width and height in pixels, notes, and how much it selects."""

    file: WorkerFile
    size: int
    width: int
    height: int
    notes: tuple[str, ...]
    selects: Selection


def _fit_picture_in_worker(
    path: "Path",
    wanted: tuple[int, int] | None,
    stored: tuple[int, int] | None,
    stem: "Path",
    inverted: bool,
) -> _PictureFit:
    """Read a mask picture, fit it to a size (None: its own), and write it beside `stem`. Runs in a worker."""
    read = _read_picture_mask(path)
    selected, mask = measure_selection([read.mask], moves=False), read.mask
    size = mask.shape[1], mask.shape[0]
    width, height = wanted or size
    if _is_stored_size(size, wanted, stored):
        mask = _stretch_mask(mask, width, height)
    try:
        fitting, resized = fit_mask_to_size(mask, width, height)
    except UserMistake:
        raise mask_shape_error(size, (width, height)) from None
    tray = ScratchVault(stem)
    kept = tray.keep(encode_mask_png(~fitting if inverted else fitting), "image/png")
    sizes = f"from {size[0]}x{size[1]} to the video's {width}x{height}"
    done = (f"The mask was resized {sizes} without smoothing.",) if resized or size != (width, height) else ()
    return _PictureFit(tray.files[0], kept.size, width, height, (*_reading_notes(read, selected), *done), selected)


def _read_picture_mask(path: "Path") -> "MaskReading":
    """The mask in a picture.

    Raises:
        InvalidInput: it is a photo, or says two things at once.
    """
    from rotoscope.media.image.mask_reader import read_mask
    from rotoscope.media.image.pictures import decode_upright

    read = read_mask(decode_upright(path.read_bytes(), exact=True))
    if read is None:
        raise not_a_mask_error()
    if read.is_contradictory:
        raise InvalidInput(
            "The mask's colours and its transparency select different parts: what is white in it is transparent.",
            hint="Save it without transparency, white where the video is to be edited, and black elsewhere.",
        )
    return read


def _reading_notes(read: "MaskReading", selected: Selection) -> list[str]:
    """How the mask was read, where that is not plain. One read from transparency may be meant the other way round."""
    if read.rule != "transparency":
        return list(read.remarks)
    ways = "If the transparent part is what should be edited, give a mask that is white there and black elsewhere."
    return [f"{remark} That is {describe_selection(selected)}. {ways}" for remark in read.remarks]


def _stretch_mask(mask: "Mask", width: int, height: int) -> "Mask":
    import numpy as np
    from PIL import Image

    return np.asarray(Image.fromarray(mask).resize((width, height), Image.Resampling.NEAREST), dtype=np.bool_)


@dataclass(frozen=True, slots=True)
class _FilmOptions:
    """How many frames of a mask video are read, whether it is turned round, and whether it may select everything."""

    frames: int
    inverted: bool
    may_be_full: bool


@dataclass(frozen=True, slots=True)
class _FilmFit:
    """What a mask video selects, and the file written in its place with its size in bytes; None: it needs no other."""

    film: "MaskFilm"
    file: WorkerFile | None = None
    size: int = 0


async def _fit_mask_film(
    vault: Vault,
    decoders: "DecodeRunner",
    path: "Path",
    stem: "Path",
    mask: "AdmittedMedia",
    video: "AdmittedMedia | None",
    how: "_FilmOptions",
) -> tuple["AdmittedMedia", list[str]]:
    """As `fit_mask`, for a mask video in the file `path`; scratch files begin with `stem`."""
    import anyio.to_thread  # not needed where masks are decoded, and slow to load

    from rotoscope.media.decoders import FILM

    own = (mask.width or 0, mask.height or 0)
    wanted = (video.width, video.height) if video and video.width and video.height else own
    _check_mask_shape(own, wanted, video.stored if video else None)
    used = replace(how, frames=min(how.frames, video.frames)) if video and video.frames else how
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


def _is_stored_size(size: Size, wanted: Size | None, stored: Size | None) -> bool:
    """Whether a mask was made from frames as they are stored (not square pixels), and not as a player shows them.

    Args:
        size: of the mask.
        wanted: of the video as it is shown.
        stored: of the video as it is stored; None where that is the same.
    """
    return bool(wanted and stored and not has_same_shape(size, wanted) and has_same_shape(size, stored))


def _check_mask_shape(own: Size, wanted: Size, stored: Size | None) -> None:
    if not has_same_shape(own, wanted) and not _is_stored_size(own, wanted, stored):
        raise mask_shape_error(own, wanted)


def _fit_film_in_worker(
    path: "Path",
    stem: "Path",
    how: "_FilmOptions",
    own: Size,
    wanted: Size,
) -> _FilmFit:
    """Check a mask video, and write another where it is not black and white, not of the size, or the other way round.

    Runs in a worker.
    """
    from rotoscope.media.video.mask_videos import read_mask_film, write_mask_film

    film = read_mask_film(path, how.frames)
    if not film.is_mask:
        raise not_a_mask_error()
    if film.most <= 0 or (film.least >= 1 and not how.may_be_full):
        raise useless_mask_error(full=film.most > 0)
    if film.is_plain and own == wanted and not how.inverted:
        return _FilmFit(film)
    target = stem.with_name(f"{stem.name}-mask")
    write_mask_film(path, target, film, wanted, inverted=how.inverted)
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
    """A note where mask and video differ in their number of frames or frame rate, with both numbers."""
    if video is None or not video.frames or not mask.frames:
        return []
    rates = (mask.frame_rate or 0.0, video.frame_rate or 0.0)
    if mask.frames == video.frames and abs(rates[0] - rates[1]) <= _SAME_RATE_SHARE * max(rates):
        return []
    mask_has, video_has = f"{mask.frames} frames at {rates[0]:.4g}", f"{video.frames} at {rates[1]:.4g}"
    return [f"The mask has {mask_has} a second, the video has {video_has}: how the model pairs them is not known."]
