"""Masks: which pixels of a picture are meant. A mask is a two-dimensional bool array of height x width.

True is selected, whatever the file looked like that it came from: see `media.mask_reader`.
"""

import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from rotoscope.errors import InvalidInput

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

__all__ = [
    "BoundingBox",
    "Mask",
    "area_of",
    "bounding_box",
    "encode_mask_png",
    "find_painted_mask",
    "fit_mask_to_size",
    "has_same_shape",
]

Mask: TypeAlias = "NDArray[np.bool_]"
"""Height x width, True where selected."""

_MAJORITY = 128
_PAINT_DIFFERENCE = 20  # the mean change of colour that is paint and not compression
_MIN_PAINT_SHARE, _MAX_PAINT_SHARE = 0.0005, 0.98
_SLACK = 3  # pixels
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True, slots=True)
class BoundingBox:
    """A rectangle in pixels of the upright picture; `right` and `bottom` are exclusive: the first pixel outside."""

    left: int
    top: int
    right: int
    bottom: int


def find_painted_mask(painted: "Image.Image", original: "Image.Image") -> "Mask | None":
    """Where a mask was painted on a picture, found by comparing it with the original.

    Args:
        painted: the picture with something painted on it; it may have been scaled and compressed.
        original: the picture without.

    Returns:
        A mask of the original's size; None when nothing or everything differs, or the shapes do.
    """
    import numpy as np
    from PIL import Image, ImageChops, ImageFilter

    if not has_same_shape(painted.size, original.size):
        return None
    scaled = painted.convert("RGB").resize(original.size, Image.Resampling.BILINEAR)
    difference = ImageChops.difference(scaled, original.convert("RGB"))
    # Compression changes single pixels a lot and neighbourhoods little; paint changes both.
    blurred = difference.filter(ImageFilter.BoxBlur(1))
    changed = np.logical_or.reduce([np.asarray(blurred.getchannel(name)) > _PAINT_DIFFERENCE for name in "RGB"])
    # The majority around each pixel: specks go, pin holes close.
    majority = Image.fromarray(changed.astype(np.uint8) * 255).filter(ImageFilter.BoxBlur(2))
    mask = np.asarray(majority) >= _MAJORITY
    return mask if _MIN_PAINT_SHARE <= area_of(mask) <= _MAX_PAINT_SHARE else None


def bounding_box(mask: Mask) -> BoundingBox | None:
    """The smallest box around the selected pixels; None when there are none."""
    import numpy as np

    rows = np.flatnonzero(mask.any(axis=1))
    if not rows.size:
        return None
    top, bottom = int(rows[0]), int(rows[-1]) + 1
    columns = np.flatnonzero(mask[top:bottom].any(axis=0))
    return BoundingBox(left=int(columns[0]), top=top, right=int(columns[-1]) + 1, bottom=bottom)


def area_of(mask: Mask) -> float:
    """The selected part of the picture, from 0 to 1."""
    import numpy as np

    return int(np.count_nonzero(mask)) / mask.size if mask.size else 0.0


def fit_mask_to_size(mask: Mask, width: int, height: int) -> tuple[Mask, bool]:
    """The mask in the size of its picture, by nearest neighbour.

    Returns:
        The mask, and whether it had to be resized.

    Raises:
        InvalidInput: the shapes differ by more than a few pixels, so that it cannot be this picture's mask.
    """
    import numpy as np

    tall, wide = mask.shape
    if (wide, tall) == (width, height):
        return mask, False
    if not has_same_shape((wide, tall), (width, height)):
        message = f"The mask is {wide} x {tall} pixels and the picture {width} x {height}: their shapes differ."
        raise InvalidInput(message, hint="Give a mask with the width and height of the picture.")
    rows = (2 * np.arange(height) + 1) * tall // (2 * height)
    columns = (2 * np.arange(width) + 1) * wide // (2 * width)
    return mask[rows[:, None], columns], True


def encode_mask_png(mask: Mask) -> bytes:
    """The mask as a grey PNG: 255 where selected, else 0."""
    height, width = mask.shape
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)  # eight bits of grey
    return b"".join(
        (
            _PNG_SIGNATURE,
            _png_chunk(b"IHDR", header),
            _png_chunk(b"IDAT", _compress_pixels(mask)),
            _png_chunk(b"IEND", b""),
        )
    )


def _compress_pixels(mask: Mask) -> bytes:
    """The pixels of a PNG. Runs are all there is in a mask: looking for nothing else takes half the time."""
    import numpy as np

    height, width = mask.shape
    lines = np.zeros((height, width + 1), np.uint8)  # each begins with its filter: none
    box = bounding_box(mask)
    if box is not None:  # the rest is black already
        within = slice(box.top, box.bottom), slice(box.left, box.right)
        np.multiply(mask[within], np.uint8(255), out=lines[:, 1:][within])
    packer = zlib.compressobj(strategy=zlib.Z_RLE)
    return packer.compress(lines.data) + packer.flush()


def _png_chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def has_same_shape(one: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether two sizes are the same picture's, but for rounding: a few pixels or one in a hundred."""
    (wide, tall), (width, height) = one, other
    drift = abs(wide * height / tall - width)
    return drift <= max(_SLACK, width / 100, width / wide)
