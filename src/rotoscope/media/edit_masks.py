"""A mask that covers a video: the same shape, neither empty nor full, white where the video is to be edited."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from rotoscope.errors import InvalidInput, StorageFailed, UserMistake
from rotoscope.media.mask_checks import (
    Selection,
    describe_selection,
    mask_shape_error,
    measure_selection,
    not_a_mask_error,
    selection_warnings,
)
from rotoscope.media.vault import Vault, artifact_hash, enter_in_thread, scratch_path
from rotoscope.media.video.mask_fitting import fit_mask_film, is_stored_size

if TYPE_CHECKING:
    from pathlib import Path

    from rotoscope.media.decoders import DecodeRunner
    from rotoscope.media.image.mask_reader import MaskReading
    from rotoscope.media.image.masks import Mask
    from rotoscope.media.intake import AdmittedMedia
    from rotoscope.media.worker_files import WorkerFile

__all__ = ["fit_mask"]


async def fit_mask(
    vault: Vault, decoders: "DecodeRunner", mask: "AdmittedMedia", video: "AdmittedMedia | None", frames: int
) -> tuple["AdmittedMedia", list[str]]:
    """The mask as the model wants it, and what was done to it.

    A picture becomes black and white, of the video's own size; so does a film that is not both already.

    Args:
        vault: where the mask is kept.
        decoders: decodes the mask, out of this process.
        mask: a mask that we have.
        video: what it covers; None where nobody here has read it, then their sizes are not compared.
        frames: how many frames of the video are edited at most.

    Raises:
        InvalidInput: it is a photo, empty, full, or of another shape than the video.
    """
    import anyio.to_thread  # not needed where masks are decoded, and slow to load

    from rotoscope.media.decoders import MASKS
    from rotoscope.media.worker_files import store_worker_files

    wanted = (video.width, video.height) if video and video.width and video.height else None
    stored = video.stored if video else None
    opened = vault.open(artifact_hash(mask.value))
    async with enter_in_thread(opened) as path, enter_in_thread(scratch_path(vault)) as stem:
        if path is None:
            raise StorageFailed("The mask is no longer in the results folder.", hint="Make it again.")
        if mask.frames is not None:
            return await fit_mask_film(vault, decoders, path, stem, mask, video, frames)
        fitting = await decoders.run(_fit_picture_in_worker, path, wanted, stored, stem, limits=MASKS)
        await anyio.to_thread.run_sync(store_worker_files, vault, [fitting.file])
    link = f"artifact://{fitting.file.sha256}"
    made = replace(mask, value=link, content_type="image/png", size=fitting.size)
    fitted = replace(made, width=fitting.width, height=fitting.height, selects=fitting.selects)
    return fitted, [*fitting.notes, *selection_warnings(fitting.selects)]


@dataclass(frozen=True, slots=True)
class _PictureFit:
    """A mask that fits, as it was written: its size in bytes, width and height in pixels, what is to be told of it, and
    how much it selects.
    """

    file: "WorkerFile"
    size: int
    width: int
    height: int
    notes: tuple[str, ...]
    selects: Selection


def _fit_picture_in_worker(
    path: "Path", wanted: tuple[int, int] | None, stored: tuple[int, int] | None, stem: "Path"
) -> _PictureFit:
    from rotoscope.media.image.masks import encode_mask_png, fit_mask_to_size
    from rotoscope.media.worker_files import ScratchVault

    read = _read_picture_mask(path)
    selected, mask = measure_selection([read.mask], moves=False), read.mask
    size = mask.shape[1], mask.shape[0]
    width, height = wanted or size
    if is_stored_size(size, wanted, stored):
        mask = _stretch_mask(mask, width, height)
    try:
        fitting, resized = fit_mask_to_size(mask, width, height)
    except UserMistake:
        raise mask_shape_error(size, (width, height)) from None
    tray = ScratchVault(stem)
    kept = tray.keep(encode_mask_png(fitting), "image/png")
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
    """How the mask was read, where that is not plain; from transparency, it may as well be meant the other way."""
    if read.rule != "transparency":
        return list(read.remarks)
    ways = "If the transparent part is what should be edited, give a mask that is white there and black elsewhere."
    return [f"{remark} That is {describe_selection(selected)}. {ways}" for remark in read.remarks]


def _stretch_mask(mask: "Mask", width: int, height: int) -> "Mask":
    import numpy as np
    from PIL import Image

    return np.asarray(Image.fromarray(mask).resize((width, height), Image.Resampling.NEAREST), dtype=np.bool_)
