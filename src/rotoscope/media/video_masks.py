"""A mask that covers a video: the same shape, neither empty nor full, white where the video is to be edited."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from rotoscope.errors import InvalidInput, StorageFailed, UserMistake
from rotoscope.media.masks import same_shape
from rotoscope.media.vault import Vault

if TYPE_CHECKING:
    from pathlib import Path

    from PIL import Image

    from rotoscope.media.decoders import Decodes
    from rotoscope.media.intake import Admitted
    from rotoscope.media.made import MadeFile
    from rotoscope.media.masks import Mask

__all__ = ["fit_mask"]

_WHITE = 128
_DARK, _BRIGHT = 48, 208  # what lies between is neither black nor white, as at soft and compressed edges
_MOST_GREY = 0.25  # of a frame
_FRAMES_JUDGED = 5
_MOST_OBJECTS = 32


async def fit_mask(
    vault: Vault, decoders: "Decodes", mask: "Admitted", video: "Admitted | None", frames: int
) -> tuple["Admitted", list[str]]:
    """The mask as the model wants it, and what was done to it.

    A picture becomes black and white, of the video's own size; a video is only checked.

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

    from rotoscope.media.decoders import FILM, MASKS
    from rotoscope.media.made import scratch_files, take_in

    path = vault.find(mask.value.removeprefix("artifact://"))
    if path is None:
        raise StorageFailed("The mask is no longer in the results folder.", hint="Make it again.")
    wanted = (video.width, video.height) if video and video.width and video.height else None
    if mask.frames is None:
        with scratch_files(vault) as stem:
            fitting = await decoders.run(_fitted_picture, path, wanted, stem, limits=MASKS)
            await anyio.to_thread.run_sync(take_in, vault, [fitting.file])
        link = f"artifact://{fitting.file.sha256}"
        fitted = replace(
            mask,
            value=link,
            content_type="image/png",
            size=fitting.size,
            width=fitting.width,
            height=fitting.height,
        )
        return fitted, list(fitting.notes)
    if wanted and mask.width and mask.height and not same_shape((mask.width, mask.height), wanted):
        raise _another_shape(mask.width, mask.height, *wanted)
    await decoders.run(_check_video, path, frames, limits=FILM)
    if video and video.frames and mask.frames < min(video.frames, frames):
        return mask, [f"The mask has {mask.frames} frames, the video has {video.frames}."]
    return mask, []


@dataclass(frozen=True, slots=True)
class _Fitting:
    """A mask that fits, as it was written: its size in bytes, width and height in pixels, and what was done to it."""

    file: "MadeFile"
    size: int
    width: int
    height: int
    notes: tuple[str, ...]


def _fitted_picture(path: "Path", wanted: tuple[int, int] | None, stem: "Path") -> _Fitting:
    from rotoscope.media.made import Tray
    from rotoscope.media.masks import fit_to, looks_like_mask, mask_png, read_mask
    from rotoscope.media.pictures import decode

    image = decode(path.read_bytes())
    if not looks_like_mask(image) and not _numbers_objects(image):
        raise _a_photo()
    selected = read_mask(image)
    _check_amount([selected])
    width, height = wanted or image.size
    try:
        fitting, resized = fit_to(selected, width, height)
    except UserMistake:
        raise _another_shape(image.width, image.height, width, height) from None
    tray = Tray(stem)
    kept = tray.keep(mask_png(fitting), "image/png")
    sizes = f"from {image.width}x{image.height} to the video's {width}x{height}"
    notes = (f"The mask was resized {sizes} without smoothing.",) if resized else ()
    return _Fitting(tray.files[0], kept.size, width, height, notes)


def _numbers_objects(image: "Image.Image") -> bool:
    """Whether a palette picture is a label map, with a small number for each object, and no photo of few colours."""
    return image.mode == "P" and image.getcolors(_MOST_OBJECTS) is not None


def _check_video(path: "Path", frames: int) -> None:
    from rotoscope.media.videos import grey_frames

    greys = (((frame > _DARK) & (frame < _BRIGHT)).mean() for frame in grey_frames(path, _FRAMES_JUDGED))
    if max(greys, default=0.0) > _MOST_GREY:
        raise _a_photo()
    _check_amount(frame >= _WHITE for frame in grey_frames(path, frames))


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
