"""A mask that covers a video: the same shape, neither empty nor full, white where the video is to be edited."""

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
    from rotoscope.media.masks import Mask

__all__ = ["fit_mask"]

_SAME_PIXELS = 8  # real data sets have masks that are off by this much
_WHITE = 128
_MOST_OBJECTS = 32
_FRAMES_LOOKED_AT = 400


async def fit_mask(vault: Vault, mask: "Admitted", video: "Admitted") -> tuple["Admitted", list[str]]:
    """The mask as the model wants it, and what was done to it.

    A picture becomes black and white, of the video's own size; a video is only checked.

    Raises:
        InvalidInput: it is empty, full, or of another shape than the video.
    """
    path = vault.find(mask.value.removeprefix("artifact://"))
    if path is None:
        raise StorageFailed("The mask is no longer in the results folder.", hint="Make it again.")
    if mask.frames is None:
        return await anyio.to_thread.run_sync(_fitted_picture, vault, path, mask, video)
    return await anyio.to_thread.run_sync(_checked_video, path, mask, video)


def _fitted_picture(vault: Vault, path: "Path", mask: "Admitted", video: "Admitted") -> tuple["Admitted", list[str]]:
    from rotoscope.media.masks import fit_to, looks_like_mask, mask_png, read_mask
    from rotoscope.media.pictures import decode

    image = decode(path.read_bytes())
    if not looks_like_mask(image) and not _numbers_objects(image):
        raise InvalidInput(
            "The mask is a photo, not a mask.", hint="Give a picture that is white where the video is to be edited."
        )
    selected = read_mask(image)
    _check_amount([selected])
    width, height = video.width or image.width, video.height or image.height
    try:
        fitting, resized = fit_to(selected, width, height)
    except UserMistake:
        raise _another_shape(image.width, image.height, width, height) from None
    kept = vault.keep(mask_png(fitting), "image/png")
    fitted = replace(mask, value=kept.uri, content_type="image/png", size=kept.size, width=width, height=height)
    sizes = f"from {image.width}x{image.height} to the video's {width}x{height}"
    return fitted, [f"The mask was resized {sizes} without smoothing."] if resized else []


def _numbers_objects(image: "Image.Image") -> bool:
    """Whether a palette picture is a label map, with a small number for each object, and no photo of few colours."""
    return image.mode == "P" and image.getcolors(_MOST_OBJECTS) is not None


def _checked_video(path: "Path", mask: "Admitted", video: "Admitted") -> tuple["Admitted", list[str]]:
    from rotoscope.media.videos import grey_frames

    assert mask.width
    assert mask.height
    assert video.width
    assert video.height
    off = max(abs(mask.width * video.height / video.width - mask.height), 0)
    if off > _SAME_PIXELS:
        raise _another_shape(mask.width, mask.height, video.width, video.height)
    _check_amount(frame >= _WHITE for frame in grey_frames(path, _FRAMES_LOOKED_AT))
    if mask.frames is not None and video.frames is not None and mask.frames < video.frames:
        return mask, [f"The mask has {mask.frames} frames, the video has {video.frames}."]
    return mask, []


def _check_amount(masks: "Iterable[Mask]") -> None:
    """Refuse a mask that selects nothing in any frame, or everything in every frame."""
    some = some_not = False
    for mask in masks:
        some, some_not = some or bool(mask.any()), some_not or not mask.all()
        if some and some_not:
            return
    what, hint = (
        ("full", "Nothing of the video would be left: use generate_video for that.")
        if some
        else ("empty", "Nothing would be edited: give a mask that is white where the video is to be edited.")
    )
    raise InvalidInput(f"The mask is {what}.", hint=hint)


def _another_shape(width: int, height: int, wanted_width: int, wanted_height: int) -> InvalidInput:
    return InvalidInput(
        f"The mask is {width}x{height}, but the video is {wanted_width}x{wanted_height}: another shape.",
        hint="Make the mask from a frame of this very video.",
    )
