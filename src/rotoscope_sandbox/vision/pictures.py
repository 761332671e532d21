"""Reading and writing pictures: Pillow opens untrusted files, OpenCV only gets arrays."""

import io
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from rotoscope_sandbox.models import UnusableInput
from rotoscope_sandbox.vision.pixels import Frame, Mask

__all__ = ["Encoding", "decode_picture", "encode_picture", "mask_picture", "paint_mask"]

Encoding: TypeAlias = Literal["png", "jpeg", "webp"]

_FORMATS = ("PNG", "JPEG", "WEBP")
_MOST_PIXELS = 64_000_000
_LONGEST_SIDE = 16_384
_PAINT = np.array([30, 144, 255], np.float32)
_STRENGTH = 0.55
_BOMBS = (Image.DecompressionBombWarning, Image.DecompressionBombError)


def decode_picture(content: bytes, field_name: str) -> Frame:
    """An untrusted picture, upright, as RGB; its size is checked before any pixel is decoded.

    Raises `UnusableInput` when it is damaged, too large or not PNG, JPEG or WEBP.
    """
    try:
        with Image.open(io.BytesIO(content), formats=_FORMATS) as picture:
            if picture.width * picture.height > _MOST_PIXELS or max(picture.size) > _LONGEST_SIDE:
                raise UnusableInput(field_name, _size_message(*picture.size), "image_too_large")
            return np.array(ImageOps.exif_transpose(picture).convert("RGB"), np.uint8)
    except _BOMBS as problem:
        raise UnusableInput(field_name, "The picture has far too many pixels.", "image_too_large") from problem
    except UnidentifiedImageError as problem:
        raise UnusableInput(field_name, "The picture is not PNG, JPEG or WEBP.", "image_load_error") from problem
    except (OSError, SyntaxError, ValueError) as problem:
        raise UnusableInput(field_name, "The picture is damaged and cannot be read.", "image_load_error") from problem


def _size_message(width: int, height: int) -> str:
    return f"The picture of {width} x {height} pixels is larger than 64 megapixels or 16384 pixels a side."


def mask_picture(mask: Mask) -> NDArray[np.uint8]:
    """A mask as a picture: one channel, white where selected."""
    return mask.astype(np.uint8) * np.uint8(255)


def paint_mask(frame: Frame, mask: Mask) -> Frame:
    """The picture with the mask laid over it in blue."""
    copy = frame.copy()
    copy[mask] = (frame[mask] * (1 - _STRENGTH) + _PAINT * _STRENGTH).astype(np.uint8)
    return copy


def encode_picture(picture: NDArray[np.uint8], kind: Encoding) -> bytes:
    """The picture as a file; masks stay exact in PNG and WEBP."""
    target = io.BytesIO()
    Image.fromarray(picture).save(target, kind.upper(), quality=95, lossless=True)
    return target.getvalue()
