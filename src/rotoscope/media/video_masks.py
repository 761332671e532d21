"""A mask that covers a video: the same shape, neither empty nor full, white where the video is to be edited."""

import hashlib
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

import anyio.to_thread

from rotoscope.errors import InvalidInput, StorageFailed, UserMistake
from rotoscope.media.vault import Vault

if TYPE_CHECKING:
    from pathlib import Path

    from PIL import Image

    from rotoscope.media.intake import Admitted
    from rotoscope.media.mask_films import MaskFilm
    from rotoscope.media.masks import Mask

__all__ = ["fit_mask"]

_SAME_RATE = 0.01
_MOST_OBJECTS = 32


async def fit_mask(
    vault: Vault, mask: "Admitted", video: "Admitted | None", frames: int
) -> tuple["Admitted", list[str]]:
    """The mask as the model wants it, and what was done to it.

    A picture becomes black and white, of the video's own size; so does a film that is not both already.

    Args:
        vault: where the mask is kept.
        mask: a mask that we have.
        video: what it covers; None where nobody here has read it, then their sizes are not compared.
        frames: how many frames of the video are edited at most.

    Raises:
        InvalidInput: it is a photo, empty, full, or of another shape than the video.
    """
    path = vault.find(mask.value.removeprefix("artifact://"))
    if path is None:
        raise StorageFailed("The mask is no longer in the results folder.", hint="Make it again.")
    wanted = (video.width, video.height) if video and video.width and video.height else None
    if mask.frames is None:
        stored = video.stored if video else None
        return await anyio.to_thread.run_sync(_fitted_picture, vault, path, mask, wanted, stored)
    return await _fitted_film(vault, path, mask, video, frames)


def _fitted_picture(
    vault: Vault, path: "Path", mask: "Admitted", wanted: tuple[int, int] | None, stored: tuple[int, int] | None
) -> tuple["Admitted", list[str]]:
    from rotoscope.media.masks import fit_to, looks_like_mask, mask_png, read_mask
    from rotoscope.media.pictures import decode

    image = decode(path.read_bytes())
    if not looks_like_mask(image) and not _numbers_objects(image):
        raise _a_photo()
    selected = read_mask(image)
    _check_amount([selected])
    width, height = wanted or image.size
    if _is_of_stored(image.size, wanted, stored):
        selected = _stretched(selected, width, height)
    try:
        fitting, resized = fit_to(selected, width, height)
    except UserMistake:
        raise _another_shape(image.width, image.height, width, height) from None
    kept = vault.keep(mask_png(fitting), "image/png")
    fitted = replace(mask, value=kept.uri, content_type="image/png", size=kept.size, width=width, height=height)
    sizes = f"from {image.width}x{image.height} to the video's {width}x{height}"
    resized = resized or image.size != (width, height)
    return fitted, [f"The mask was resized {sizes} without smoothing."] if resized else []


def _numbers_objects(image: "Image.Image") -> bool:
    """Whether a palette picture is a label map, with a small number for each object, and no photo of few colours."""
    return image.mode == "P" and image.getcolors(_MOST_OBJECTS) is not None


def _is_of_stored(size: tuple[int, int], wanted: tuple[int, int] | None, stored: tuple[int, int] | None) -> bool:
    """Whether a mask was made from frames as they are stored, and not as a player shows them."""
    from rotoscope.media.masks import same_shape

    return bool(wanted and stored and not same_shape(size, wanted) and same_shape(size, stored))


def _stretched(mask: "Mask", width: int, height: int) -> "Mask":
    import numpy as np
    from PIL import Image

    return np.asarray(Image.fromarray(mask).resize((width, height), Image.Resampling.NEAREST), dtype=np.bool_)


async def _fitted_film(
    vault: Vault, path: "Path", mask: "Admitted", video: "Admitted | None", frames: int
) -> tuple["Admitted", list[str]]:
    """A mask film as the model wants it: written anew where it is not black and white, or of another size."""
    from rotoscope.media.masks import same_shape

    own = (mask.width or 0, mask.height or 0)
    wanted = (video.width, video.height) if video and video.width and video.height else own
    if not same_shape(own, wanted) and not _is_of_stored(own, wanted, video.stored if video else None):
        raise _another_shape(*own, *wanted)
    target = await anyio.to_thread.run_sync(vault.scratch)
    try:
        film, anew = await anyio.to_thread.run_sync(_checked_film, path, target, frames, own, wanted)
        fitted = await anyio.to_thread.run_sync(_kept_film, vault, target, mask, wanted) if anew else mask
    finally:
        target.unlink(missing_ok=True)
    return fitted, [*_film_notes(film, own, wanted), *_pairing(mask, video)]


def _checked_film(
    path: "Path", target: "Path", frames: int, own: tuple[int, int], wanted: tuple[int, int]
) -> "tuple[MaskFilm, bool]":
    """What a mask film is, and whether it was written anew into the target.

    Raises:
        InvalidInput: it is a film of the world, empty or full.
    """
    from rotoscope.media.mask_films import read_mask_film, write_mask_film

    film = read_mask_film(path, frames)
    if not film.looks_like_mask:
        raise _a_photo()
    if film.most <= 0 or film.least >= 1:
        raise _amount("full" if film.most > 0 else "empty")
    if film.is_plain and own == wanted:
        return film, False
    write_mask_film(path, target, film, wanted)
    return film, True


def _kept_film(vault: Vault, target: "Path", mask: "Admitted", size: tuple[int, int]) -> "Admitted":
    with target.open("rb") as made:
        sha256 = hashlib.file_digest(made, "sha256").hexdigest()
    kept = vault.adopt(target, sha256, "video/mp4")
    vault.note_made(kept.sha256, "video")
    return replace(
        mask, value=kept.uri, content_type="video/mp4", size=kept.size, width=size[0], height=size[1], has_audio=False
    )


def _film_notes(film: "MaskFilm", own: tuple[int, int], wanted: tuple[int, int]) -> list[str]:
    notes = []
    if not film.is_plain:
        notes.append("The mask film was made black and white; what is bright in it is edited.")
    if own != wanted:
        sizes = f"from {own[0]}x{own[1]} to the video's {wanted[0]}x{wanted[1]}"
        notes.append(f"The mask film was resized {sizes} without smoothing.")
    return notes


def _pairing(mask: "Admitted", video: "Admitted | None") -> list[str]:
    """That frames of mask and film may not go together, with both numbers."""
    if video is None or not video.frames or not mask.frames:
        return []
    rates = (mask.frame_rate or 0.0, video.frame_rate or 0.0)
    if mask.frames == video.frames and abs(rates[0] - rates[1]) <= _SAME_RATE * max(rates):
        return []
    return [
        f"The mask has {mask.frames} frames at {rates[0]:.4g} a second, the video has {video.frames} at {rates[1]:.4g}: "
        "which of them go together is the model's choice."
    ]


def _a_photo() -> InvalidInput:
    return InvalidInput(
        "The mask is a photo or a film, not a mask.",
        hint="Give one that is white where the video is to be edited, and black elsewhere.",
    )


def _check_amount(masks: "Iterable[Mask]") -> None:
    """Refuse a mask that selects nothing in any frame, or everything in every frame."""
    some = some_not = False
    for mask in masks:
        some, some_not = some or bool(mask.any()), some_not or not mask.all()
        if some and some_not:
            return
    raise _amount("full" if some else "empty")


def _amount(what: str) -> InvalidInput:
    hint = {
        "full": "Nothing of the video would be left: use generate_video for that.",
        "empty": "Nothing would be edited: give a mask that is white where the video is to be edited.",
    }[what]
    return InvalidInput(f"The mask is {what}.", hint=hint)


def _another_shape(width: int, height: int, wanted_width: int, wanted_height: int) -> InvalidInput:
    return InvalidInput(
        f"The mask is {width}x{height}, but the video is {wanted_width}x{wanted_height}: another shape.",
        hint="Make the mask from a frame of this very video.",
    )
