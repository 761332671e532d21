"""A mask that covers a video: the same shape, neither empty nor full, white where the video is to be edited."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from rotoscope.errors import InvalidInput, StorageFailed, UserMistake
from rotoscope.media.mask_checks import Selection, another_shape, in_percent, no_mask, selection_of, warnings_on
from rotoscope.media.vault import Vault
from rotoscope.media.video.mask_fitting import fit_film, is_of_stored

if TYPE_CHECKING:
    from pathlib import Path

    from rotoscope.media.decoders import Decodes
    from rotoscope.media.image.mask_reader import MaskReading
    from rotoscope.media.image.masks import Mask
    from rotoscope.media.intake import Admitted
    from rotoscope.media.worker_files import MadeFile

__all__ = ["fit_mask"]


async def fit_mask(
    vault: Vault, decoders: "Decodes", mask: "Admitted", video: "Admitted | None", frames: int
) -> tuple["Admitted", list[str]]:
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
    from rotoscope.media.worker_files import scratch_files, take_in

    path = vault.find(mask.value.removeprefix("artifact://"))
    if path is None:
        raise StorageFailed("The mask is no longer in the results folder.", hint="Make it again.")
    if mask.frames is not None:
        return await fit_film(vault, decoders, path, mask, video, frames)
    wanted = (video.width, video.height) if video and video.width and video.height else None
    stored = video.stored if video else None
    with scratch_files(vault) as stem:
        fitting = await decoders.run(_fitted_picture, path, wanted, stored, stem, limits=MASKS)
        await anyio.to_thread.run_sync(take_in, vault, [fitting.file])
    link = f"artifact://{fitting.file.sha256}"
    made = replace(mask, value=link, content_type="image/png", size=fitting.size)
    fitted = replace(made, width=fitting.width, height=fitting.height, selects=fitting.selects)
    return fitted, [*fitting.notes, *warnings_on(fitting.selects)]


@dataclass(frozen=True, slots=True)
class _Fitting:
    """A mask that fits, as it was written: its size in bytes, width and height in pixels, what is to be told of it, and
    how much it selects.
    """

    file: "MadeFile"
    size: int
    width: int
    height: int
    notes: tuple[str, ...]
    selects: Selection


def _fitted_picture(
    path: "Path", wanted: tuple[int, int] | None, stored: tuple[int, int] | None, stem: "Path"
) -> _Fitting:
    from rotoscope.media.image.masks import fit_to, mask_png
    from rotoscope.media.worker_files import Tray

    read = _read(path)
    selected, mask = selection_of([read.mask], moves=False), read.mask
    size = mask.shape[1], mask.shape[0]
    width, height = wanted or size
    if is_of_stored(size, wanted, stored):
        mask = _stretched(mask, width, height)
    try:
        fitting, resized = fit_to(mask, width, height)
    except UserMistake:
        raise another_shape(size, (width, height)) from None
    tray = Tray(stem)
    kept = tray.keep(mask_png(fitting), "image/png")
    sizes = f"from {size[0]}x{size[1]} to the video's {width}x{height}"
    done = (f"The mask was resized {sizes} without smoothing.",) if resized or size != (width, height) else ()
    return _Fitting(tray.files[0], kept.size, width, height, (*_how_read(read, selected), *done), selected)


def _read(path: "Path") -> "MaskReading":
    """The mask in a picture.

    Raises:
        InvalidInput: it is a photo, or says two things at once.
    """
    from rotoscope.media.image.mask_reader import read_mask
    from rotoscope.media.image.pictures import decode

    read = read_mask(decode(path.read_bytes(), exact=True))
    if read is None:
        raise no_mask()
    if read.contradicts:
        raise InvalidInput(
            "The mask's colours and its transparency select different parts: what is white in it is transparent.",
            hint="Save it without transparency, white where the video is to be edited, and black elsewhere.",
        )
    return read


def _how_read(read: "MaskReading", selected: Selection) -> list[str]:
    """How the mask was read, where that is not plain; from transparency, it may as well be meant the other way."""
    if read.rule != "transparency":
        return list(read.remarks)
    ways = "If the transparent part is what should be edited, give a mask that is white there and black elsewhere."
    return [f"{remark} That is {in_percent(selected)}. {ways}" for remark in read.remarks]


def _stretched(mask: "Mask", width: int, height: int) -> "Mask":
    import numpy as np
    from PIL import Image

    return np.asarray(Image.fromarray(mask).resize((width, height), Image.Resampling.NEAREST), dtype=np.bool_)
