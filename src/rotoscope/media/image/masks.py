"""Masks: which pixels of a picture are selected, as a two-dimensional bool array of height x width. Pure.

True is selected, whatever the file looked like: `media.image.mask_reader` reads it. At the end: how much of a frame a
mask selects, what is unusual in that, and what makes a mask useless; the same for pictures and videos.
"""

import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from rotoscope.errors import InvalidInput
from rotoscope.media.image.encoding import PNG_SIGNATURE, png_chunk
from rotoscope.providers.http.messages import Json

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

__all__ = [
    "BoundingBox",
    "Mask",
    "Selection",
    "area_of",
    "bounding_box",
    "describe_selection",
    "encode_mask_png",
    "find_painted_mask",
    "fit_mask_to_size",
    "has_same_shape",
    "is_at_all_borders",
    "mask_shape_error",
    "measure_selection",
    "not_a_mask_error",
    "selection_warnings",
    "useless_mask_error",
]

Mask: TypeAlias = "NDArray[np.bool_]"
"""Height x width, True where selected."""

_MAJORITY = 128  # of 255: half of the pixels around
_PAINT_DIFFERENCE = 20  # of 255: a larger mean change of a channel in 3 x 3 pixels is paint and not compression
_MIN_PAINT_SHARE, _MAX_PAINT_SHARE = 0.0005, 0.98  # parts of the picture that a painted mask covers
_SLACK = 3  # pixels by which two sizes of the same shape may differ, because tools round
_HALF = 0.5  # part of the frame; a mask that selects more is unusual


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
    # The majority of the 5 x 5 pixels around each: specks disappear, and pin holes are closed.
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
    """The selected part of the picture, 0 to 1."""
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
            PNG_SIGNATURE,
            png_chunk(b"IHDR", header),
            png_chunk(b"IDAT", _compress_pixels(mask)),
            png_chunk(b"IEND", b""),
        )
    )


def _compress_pixels(mask: Mask) -> bytes:
    """The packed pixels of a PNG. A mask consists of runs: to look for nothing else takes half the time."""
    import numpy as np

    height, width = mask.shape
    lines = np.zeros((height, width + 1), np.uint8)  # each row begins with the number of its filter: none
    box = bounding_box(mask)
    if box is not None:  # the rest is black already
        within = slice(box.top, box.bottom), slice(box.left, box.right)
        np.multiply(mask[within], np.uint8(255), out=lines[:, 1:][within])
    packer = zlib.compressobj(strategy=zlib.Z_RLE)
    return packer.compress(lines.data) + packer.flush()


def has_same_shape(one: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether two sizes (width, height) may be of the same picture: they differ by 3 pixels or 1 % at most."""
    (wide, tall), (width, height) = one, other
    drift = abs(wide * height / tall - width)
    return drift <= max(_SLACK, width / 100, width / wide)


def not_a_mask_error() -> InvalidInput:
    """The error for a photo in place of a mask."""
    return InvalidInput(
        "The mask is a photo or a film, not a mask: it is neither black and white nor a map of numbers.",
        hint="Give one that is white where the video is to be edited, and black elsewhere.",
    )


def useless_mask_error(*, full: bool) -> InvalidInput:
    """The error for a mask that selects everything, or nothing."""
    if full:
        return InvalidInput(
            "The mask is full.", hint="Nothing of the video would be left: use generate_video for that."
        )
    return InvalidInput(
        "The mask is empty.",
        hint="Nothing would be edited: give a mask that is white where the video is to be edited.",
    )


def mask_shape_error(size: tuple[int, int], wanted: tuple[int, int]) -> InvalidInput:
    """The error for a mask of another shape than the video; sizes are width and height in pixels."""
    return InvalidInput(
        f"The mask is {size[0]}x{size[1]}, but the video is {wanted[0]}x{wanted[1]}: another shape.",
        hint="Make the mask from a frame of this very video.",
    )


@dataclass(frozen=True, slots=True)
class Selection:
    """How much of the frame a mask selects.

    Attributes:
        least: the smallest part of a frame, 0 to 1.
        most: the largest part of a frame, 0 to 1.
        frames: how many frames of a mask video were read, from its start; None for a picture.
        at_all_borders: whether it touches all four borders of a frame.
    """

    least: float
    most: float
    frames: int | None = None
    at_all_borders: bool = False

    @property
    def share(self) -> dict[str, Json]:
        """How much it selects, as a result says it."""
        return {"least": round(self.least, 6), "most": round(self.most, 6), "frames": self.frames}


def measure_selection(masks: "Iterable[Mask]", *, moves: bool) -> Selection:
    """How much of each frame the masks select.

    Args:
        masks: one, or one for each frame; no two are held at once.
        moves: whether they are the frames of a video.

    Raises:
        InvalidInput: nothing is selected in any frame, or everything in every frame.
    """
    least, most, count, at_borders = 1.0, 0.0, 0, False
    for mask in masks:
        area = area_of(mask)
        least, most, count = min(least, area), max(most, area), count + 1
        at_borders = at_borders or is_at_all_borders(mask)
    if most == 0 or least == 1:
        raise useless_mask_error(full=most > 0)
    return Selection(least, most, count if moves else None, at_borders)


def is_at_all_borders(mask: "Mask") -> bool:
    """Whether a mask touches all four borders of its frame."""
    return all(bool(border.any()) for border in (mask[0], mask[-1], mask[:, 0], mask[:, -1]))


def selection_warnings(selection: Selection) -> list[str]:
    """Warnings where a mask may select the background: that is far more often a mistake than wanted."""
    signs = []
    if selection.most > _HALF:
        signs.append(f"selects {describe_selection(selection)}")
    if selection.at_all_borders:
        signs.append("touches all four borders of the frame")
    if not signs:
        return []
    return [f"The mask {' and '.join(signs)}. If this is the ground, invert the mask: what it selects is edited."]


def describe_selection(selection: Selection) -> str:
    """How much is selected, as text: `10.3% of the frame`."""
    least, most = f"{selection.least:.1%}", f"{selection.most:.1%}"
    if least == most:
        return f"{most} of the frame"
    return f"{least} to {most} of the frame in its first {selection.frames} frames"
