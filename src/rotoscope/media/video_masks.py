"""A mask that covers a video: the same shape, neither empty nor full, white where the video is to be edited."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from rotoscope.errors import InvalidInput, StorageFailed, UserMistake
from rotoscope.media.masks import same_shape
from rotoscope.media.selections import Selection, in_percent, selection_of, warnings_on
from rotoscope.media.vault import Vault

if TYPE_CHECKING:
    from pathlib import Path

    from rotoscope.media.decoders import Decodes
    from rotoscope.media.intake import Admitted
    from rotoscope.media.made import MadeFile
    from rotoscope.media.mask_reader import MaskReading

__all__ = ["fit_mask"]

_WHITE = 128
_DARK, _BRIGHT = 48, 208  # what lies between is neither black nor white, as at soft and compressed edges
_MOST_GREY = 0.25  # of a frame
_FRAMES_JUDGED = 5


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
            selects=fitting.selects,
        )
        return fitted, [*fitting.notes, *warnings_on(fitting.selects)]
    if wanted and mask.width and mask.height and not same_shape((mask.width, mask.height), wanted):
        raise _another_shape(mask.width, mask.height, *wanted)
    used = min(frames, video.frames) if video and video.frames else frames
    selects = await decoders.run(_check_video, path, used, limits=FILM)
    fitted, warnings = replace(mask, selects=selects), warnings_on(selects)
    if video and video.frames and mask.frames < min(video.frames, frames):
        return fitted, [f"The mask has {mask.frames} frames, the video has {video.frames}.", *warnings]
    return fitted, warnings


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


def _fitted_picture(path: "Path", wanted: tuple[int, int] | None, stem: "Path") -> _Fitting:
    from rotoscope.media.made import Tray
    from rotoscope.media.masks import fit_to, mask_png

    read = _read(path)
    selected = selection_of([read.mask], moves=False)
    tall, wide = read.mask.shape
    width, height = wanted or (wide, tall)
    try:
        fitting, resized = fit_to(read.mask, width, height)
    except UserMistake:
        raise _another_shape(wide, tall, width, height) from None
    tray = Tray(stem)
    kept = tray.keep(mask_png(fitting), "image/png")
    sizes = f"from {wide}x{tall} to the video's {width}x{height}"
    notes = [f"The mask was resized {sizes} without smoothing."] if resized else []
    return _Fitting(tray.files[0], kept.size, width, height, (*_how_read(read, selected), *notes), selected)


def _read(path: "Path") -> "MaskReading":
    """The mask in a picture.

    Raises:
        InvalidInput: it is a photo, or says two things at once.
    """
    from rotoscope.media.mask_reader import read_mask
    from rotoscope.media.pictures import decode

    read = read_mask(decode(path.read_bytes(), exact=True))
    if read is None:
        raise _a_photo()
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


def _check_video(path: "Path", frames: int) -> Selection:
    from rotoscope.media.videos import grey_frames

    greys = (((frame > _DARK) & (frame < _BRIGHT)).mean() for frame in grey_frames(path, _FRAMES_JUDGED))
    if max(greys, default=0.0) > _MOST_GREY:
        raise _a_photo()
    return selection_of((frame >= _WHITE for frame in grey_frames(path, frames)), moves=True)


def _a_photo() -> InvalidInput:
    return InvalidInput(
        "The mask is a photo or a film, not a mask: it is neither black and white nor a map of numbers.",
        hint="Give one that is white where the video is to be edited, and black elsewhere.",
    )


def _another_shape(width: int, height: int, wanted_width: int, wanted_height: int) -> InvalidInput:
    return InvalidInput(
        f"The mask is {width}x{height}, but the video is {wanted_width}x{wanted_height}: another shape.",
        hint="Make the mask from a frame of this very video.",
    )
