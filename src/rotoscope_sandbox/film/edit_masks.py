"""Masks of an edit: one picture that is followed through the clip, or a video that is taken frame by frame."""

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from rotoscope_sandbox.film.input_media import InputVideo, crop_to_size, open_video, read_frames
from rotoscope_sandbox.film.mask_tracking import MaskTracker
from rotoscope_sandbox.models import Task, UnusableInput
from rotoscope_sandbox.vision.pixels import Frame, Mask

__all__ = ["EditMasks", "open_edit_masks", "read_mask"]

_FORMATS = ("PNG", "JPEG", "WEBP")
_MOST_PIXELS = 64_000_000
_MIDDLE = 127
_MOST_IDS = 63
_SIGNATURES = (b"\x89PNG", b"\xff\xd8\xff", b"RIFF")
_SIGNATURE_BYTES = 4
_BOMBS = (Image.DecompressionBombWarning, Image.DecompressionBombError)


@dataclass(frozen=True, slots=True)
class EditMasks:
    """The masks of a clip.

    Attributes:
        method: where they come from.
        followed: whether all but the first are found by following.
        start: from the first frame to what gives the mask of each frame in turn, that of the first included.
    """

    method: str
    followed: bool
    start: Callable[[Frame], Callable[[Frame], Mask]]


def open_edit_masks(task: Task, field_name: str, reference: str, clip: InputVideo, size: tuple[int, int]) -> EditMasks:
    """The masks that a reference stands for, brought to the size of the edit as the clip's frames are."""
    place = task.place(field_name, reference)
    with place.open("rb") as file:
        is_picture = file.read(_SIGNATURE_BYTES).startswith(_SIGNATURES)
    shape = clip.width, clip.height
    if is_picture:
        first = _resize_like_frames(read_mask(place.read_bytes(), field_name), shape, size)
        if not first.any():
            raise UnusableInput(field_name, "The mask selects nothing: white, or any number but 0, is what is edited.")
        return EditMasks("mask followed from the first frame", True, lambda frame: _track_from(frame, first))
    masks = open_video(task, field_name, reference)
    return EditMasks("mask video", False, lambda _: _next_of(_read_mask_frames(masks, shape, size)))


def read_mask(content: bytes, field_name: str) -> Mask:
    """A mask file as a mask: white is selected. In a palette, and where all values are small, numbers are objects."""
    try:
        with Image.open(io.BytesIO(content), formats=_FORMATS) as picture:
            if picture.width * picture.height > _MOST_PIXELS:
                raise UnusableInput(field_name, "The mask is larger than 64 megapixels.", "image_too_large")
            return _selected_pixels(picture)
    except _BOMBS as problem:
        raise UnusableInput(field_name, "The mask has far too many pixels.", "image_too_large") from problem
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as problem:
        raise UnusableInput(field_name, "The mask is damaged and cannot be read.", "image_load_error") from problem


def _selected_pixels(picture: Image.Image) -> Mask:
    if picture.mode == "P":
        return np.asarray(picture) > 0
    if picture.mode.startswith("I"):
        wide = np.asarray(picture)
        return np.asarray(wide > wide.max() / 2 if wide.max() > _MOST_IDS else wide > 0)
    if picture.mode in ("RGBA", "LA", "PA"):
        ground = Image.new("RGBA", picture.size, (0, 0, 0, 255))
        picture = Image.alpha_composite(ground, picture.convert("RGBA"))
    values = np.asarray(picture.convert("L"))
    return np.asarray(values > (_MIDDLE if values.max() > _MOST_IDS else 0))


def _resize_like_frames(mask: Mask, shape: tuple[int, int], size: tuple[int, int]) -> Mask:
    """First to the clip's own size, so that it lies where it was drawn, then cut and scaled as its frames are."""
    shown = cv2.resize(mask.astype(np.uint8), shape, interpolation=cv2.INTER_NEAREST)
    return crop_to_size(np.asarray(shown, np.uint8), size, nearest=True).astype(np.bool_)


def _track_from(frame: Frame, first: Mask) -> Callable[[Frame], Mask]:
    follower = MaskTracker(frame, first)
    waiting = [first]
    return lambda later: waiting.pop() if waiting else follower.next_mask(later)


def _next_of(masks: Iterator[Mask]) -> Callable[[Frame], Mask]:
    return lambda _: next(masks)


def _read_mask_frames(clip: InputVideo, shape: tuple[int, int], size: tuple[int, int]) -> Iterator[Mask]:
    """The mask of every frame; the last one stays when the clip is longer."""
    last: Mask | None = None
    for frame in read_frames(clip):
        last = _resize_like_frames(np.asarray(frame.max(axis=2) > _MIDDLE), shape, size)
        yield last
    while last is not None:
        yield last
