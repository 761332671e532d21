"""A mask that covers a video: the same shape, neither empty nor full, white where the video is to be edited."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from rotoscope.errors import StorageFailed, UserMistake
from rotoscope.media.fitting_films import fit_film, is_of_stored
from rotoscope.media.mask_errors import another_shape, no_mask, useless_mask
from rotoscope.media.vault import Vault

if TYPE_CHECKING:
    from pathlib import Path

    from PIL import Image

    from rotoscope.media.decoders import Decodes
    from rotoscope.media.intake import Admitted
    from rotoscope.media.made import MadeFile
    from rotoscope.media.masks import Mask

__all__ = ["fit_mask"]

_MOST_OBJECTS = 32


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
    from rotoscope.media.made import scratch_files, take_in

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
    return replace(made, width=fitting.width, height=fitting.height), list(fitting.notes)


@dataclass(frozen=True, slots=True)
class _Fitting:
    """A mask that fits, as it was written: its size in bytes, width and height in pixels, and what was done to it."""

    file: "MadeFile"
    size: int
    width: int
    height: int
    notes: tuple[str, ...]


def _fitted_picture(
    path: "Path", wanted: tuple[int, int] | None, stored: tuple[int, int] | None, stem: "Path"
) -> _Fitting:
    from rotoscope.media.made import Tray
    from rotoscope.media.masks import fit_to, looks_like_mask, mask_png, read_mask
    from rotoscope.media.pictures import decode

    image = decode(path.read_bytes())
    if not looks_like_mask(image) and not _numbers_objects(image):
        raise no_mask()
    selected = read_mask(image)
    _check_amount([selected])
    width, height = wanted or image.size
    if is_of_stored(image.size, wanted, stored):
        selected = _stretched(selected, width, height)
    try:
        fitting, resized = fit_to(selected, width, height)
    except UserMistake:
        raise another_shape(image.size, (width, height)) from None
    tray = Tray(stem)
    kept = tray.keep(mask_png(fitting), "image/png")
    sizes = f"from {image.width}x{image.height} to the video's {width}x{height}"
    notes = (f"The mask was resized {sizes} without smoothing.",) if resized or image.size != (width, height) else ()
    return _Fitting(tray.files[0], kept.size, width, height, notes)


def _numbers_objects(image: "Image.Image") -> bool:
    """Whether a palette picture is a label map, with a small number for each object, and no photo of few colours."""
    return image.mode == "P" and image.getcolors(_MOST_OBJECTS) is not None


def _stretched(mask: "Mask", width: int, height: int) -> "Mask":
    import numpy as np
    from PIL import Image

    return np.asarray(Image.fromarray(mask).resize((width, height), Image.Resampling.NEAREST), dtype=np.bool_)


def _check_amount(masks: "Iterable[Mask]") -> None:
    """Refuse a mask that selects nothing in any frame, or everything in every frame."""
    some = some_not = False
    for mask in masks:
        some, some_not = some or bool(mask.any()), some_not or not mask.all()
        if some and some_not:
            return
    raise useless_mask(full=some)
