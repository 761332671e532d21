"""Masks of an edit: one picture that is tracked through the clip, or a video that is taken frame by frame."""

import io
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from rotoscope_sandbox.film.input_media import InputVideo, crop_to_size, open_video, read_frames
from rotoscope_sandbox.film.mask_tracking import MaskTracker
from rotoscope_sandbox.models import EngineTask, UnusableInput
from rotoscope_sandbox.vision.object_net import ObjectNet
from rotoscope_sandbox.vision.pixels import Frame, Mask

__all__ = ["EditMasks", "open_edit_masks", "read_mask_picture"]

_FORMATS = ("PNG", "JPEG", "WEBP")
_MOST_PIXELS = 64_000_000
_MIDDLE = 127
"""Brightness above which a pixel of a black-and-white mask is selected."""

_MOST_IDS = 63
"""Largest value of a mask that holds object numbers instead of brightness: tools write few objects, or 255."""

_SIGNATURES = (b"\x89PNG", b"\xff\xd8\xff", b"RIFF")
_SIGNATURE_BYTES = 4
_BOMBS = (Image.DecompressionBombWarning, Image.DecompressionBombError)

_PairWithMasks: TypeAlias = Callable[[Iterable[Frame]], Iterator[tuple[Frame, Mask]]]


@dataclass(frozen=True, slots=True)
class EditMasks:
    """The masks of a clip.

    Attributes:
        method: where they come from, in words.
        is_tracked: whether all but the first are found by tracking.
        pair: from the clip's frames, all in one size, to each frame with its mask.
    """

    method: str
    is_tracked: bool
    pair: _PairWithMasks


def open_edit_masks(
    task: EngineTask,
    field_name: str,
    reference: str,
    video: InputVideo,
    size: tuple[int, int],
    *,
    inverted: bool = False,
) -> EditMasks:
    """The masks in a file, brought to the edit's (width, height) exactly as the clip's frames are.

    With `inverted`, black selects.

    Raises `UnusableInput` when the file cannot be read, or is a picture that selects nothing.
    """
    path = task.place(field_name, reference)
    with path.open("rb") as file:
        is_picture = file.read(_SIGNATURE_BYTES).startswith(_SIGNATURES)
    shape = video.width, video.height
    if not is_picture:
        masks = open_video(task, field_name, reference)
        return EditMasks("mask video", is_tracked=False, pair=partial(_pair_with_video, masks, shape, size, inverted))
    first = _resize_like_frames(read_mask_picture(path.read_bytes(), field_name) != inverted, shape, size)
    if not first.any():
        raise UnusableInput(field_name, "The mask selects nothing: white, or any number but 0, is what is edited.")
    net = task.open_net()
    return EditMasks("mask followed from the first frame", is_tracked=True, pair=partial(_track, first, net))


def read_mask_picture(content: bytes, field_name: str) -> Mask:
    """A mask file as a mask: white is selected. In a palette, and where all values are small, numbers are objects.

    Raises `UnusableInput` when the file is too large or no picture.
    """
    try:
        with Image.open(io.BytesIO(content), formats=_FORMATS) as picture:
            if picture.width * picture.height > _MOST_PIXELS:
                raise UnusableInput(field_name, "The mask is larger than 64 megapixels.", "image_too_large")
            return _select_pixels(picture)
    except _BOMBS as problem:
        raise UnusableInput(field_name, "The mask has far too many pixels.", "image_too_large") from problem
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as problem:
        raise UnusableInput(field_name, "The mask is damaged and cannot be read.", "image_load_error") from problem


def _select_pixels(picture: Image.Image) -> Mask:
    if picture.mode == "P":
        return np.asarray(picture) > 0
    if picture.mode.startswith("I"):
        # 16 or 32 bits: the brightest value stands for white.
        wide = np.asarray(picture)
        return np.asarray(wide > wide.max() / 2 if wide.max() > _MOST_IDS else wide > 0)
    if picture.mode in ("RGBA", "LA", "PA"):
        black = Image.new("RGBA", picture.size, (0, 0, 0, 255))
        picture = Image.alpha_composite(black, picture.convert("RGBA"))
    values = np.asarray(picture.convert("L"))
    return np.asarray(values > (_MIDDLE if values.max() > _MOST_IDS else 0))


def _resize_like_frames(mask: Mask, shape: tuple[int, int], size: tuple[int, int]) -> Mask:
    """First to the clip's own size, so that it lies where it was drawn, then cropped and scaled as its frames are."""
    whole = cv2.resize(mask.astype(np.uint8), shape, interpolation=cv2.INTER_NEAREST)
    return crop_to_size(np.asarray(whole, np.uint8), size, nearest=True).astype(np.bool_)


def _track(first: Mask, net: ObjectNet | None, frames: Iterable[Frame]) -> Iterator[tuple[Frame, Mask]]:
    tracker: MaskTracker | None = None
    for frame in frames:
        if tracker is None:
            tracker = MaskTracker(frame, first, net)
            yield frame, first
        else:
            yield frame, tracker.next_mask(frame)


def _pair_with_video(
    video: InputVideo,
    shape: tuple[int, int],
    size: tuple[int, int],
    inverted: bool,
    frames: Iterable[Frame],
) -> Iterator[tuple[Frame, Mask]]:
    """The mask video's last mask stays when the clip is longer."""
    masks = read_frames(video)
    mask = np.zeros(size[::-1], np.bool_)
    for frame in frames:
        if (pixels := next(masks, None)) is not None:
            mask = _resize_like_frames(np.asarray((pixels.max(axis=2) > _MIDDLE) != inverted), shape, size)
        yield frame, mask
