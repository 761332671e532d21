"""Masks: which pixels of a picture are meant. A mask is a two-dimensional bool array of height x width.

True is selected, whatever the file looked like that it came from; `read_mask` is the one place where files become
masks. For COCO, masks are written as run lengths (RLE): column by column from the top left, the lengths of the runs of
0 and 1 in turn, always beginning with the run of 0, which may be empty.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from rotoscope.errors import InvalidInput

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

__all__ = [
    "Box",
    "LabelledMask",
    "Mask",
    "area_of",
    "box_of",
    "coco_document",
    "decode_rle",
    "encode_rle",
    "fit_to",
    "looks_like_mask",
    "mask_png",
    "painted_difference",
    "polygons_of",
    "read_mask",
    "rle_counts",
    "same_shape",
]

Mask: TypeAlias = "NDArray[np.bool_]"
"""Height x width, True where selected."""

_MOST_IDS = 32  # grey values below are the numbers of objects, not shades
_OPAQUE_ENOUGH = 128
_SOFT = 0.16  # how far from black or white a pixel of a mask may be, as a part of the range
_ONE_COLOUR = 40  # the most that a channel of a flat colour differs after compression
_STRAY = 0.05  # the part of a mask's pixels that may be neither dark nor bright: soft edges
_PAINT = 20  # the mean change of colour that is paint and not compression
_LEAST_PAINT, _MOST_PAINT = 0.0005, 0.98
_SLACK = 3  # pixels
_MOST_CHUNKS = 7  # of five bits: run lengths beyond 2^34 do not occur
_FEWEST_POINTS = 3


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle in pixels of the upright picture; `right` and `bottom` are exclusive: the first pixel outside."""

    left: int
    top: int
    right: int
    bottom: int


@dataclass(frozen=True, slots=True, eq=False)
class LabelledMask:
    """A mask, what it shows and, where the model says so, how sure it is (0 to 1)."""

    label: str
    mask: Mask
    score: float | None = None


def read_mask(image: "Image.Image") -> Mask:
    """The mask that a picture stands for: white, opaque or numbered is selected.

    - Palette: the entries are ids, all but 0 are selected. A palette of pure black and white goes by its colours.
    - Alpha, where some of it is transparent and some is not, is the mask; else it is ignored.
    - Grey and colour: brighter than half of the brightest pixel. Where that one is below 32, the values are ids.
    """
    import numpy as np

    if image.mode == "1":
        return np.asarray(image, dtype=np.bool_).copy()
    if image.mode == "P":
        return _from_palette(image)
    alpha = _real_alpha(image)
    return alpha if alpha is not None else _from_values(_brightness(image))


def looks_like_mask(image: "Image.Image") -> bool:
    """Whether a picture is a bare mask, not a photo that something was painted on.

    A bare mask is cut out by alpha, holds ids, or has nearly two levels: black and one flat colour, mostly white.
    """
    import numpy as np

    if image.mode == "1" or (image.mode != "P" and _real_alpha(image) is not None):
        return True
    colours = np.asarray(image.convert("RGB"))
    values = colours.max(axis=2)
    top = int(values.max())
    if top < _MOST_IDS:
        return True
    bright = values >= (1 - _SOFT) * top
    if float(np.mean(~bright & (values > _SOFT * top))) > _STRAY:
        return False
    flat = np.median(colours[bright], axis=0).astype(np.int16)
    return float(np.mean(np.abs(colours[bright] - flat).max(axis=1) > _ONE_COLOUR)) <= _STRAY


def painted_difference(painted: "Image.Image", original: "Image.Image") -> "Mask | None":
    """Where a mask was painted on a picture, found by comparing it with the original.

    Args:
        painted: the picture with something painted on it; it may have been scaled and compressed.
        original: the picture without.

    Returns:
        A mask of the original's size; None when nothing or everything differs, or the shapes do.
    """
    import numpy as np
    from PIL import Image, ImageChops, ImageFilter

    if not same_shape(painted.size, original.size):
        return None
    scaled = painted.convert("RGB").resize(original.size, Image.Resampling.BILINEAR)
    difference = ImageChops.difference(scaled, original.convert("RGB"))
    # Compression changes single pixels a lot and neighbourhoods little; paint changes both.
    changed = np.asarray(difference.filter(ImageFilter.BoxBlur(1))).max(axis=2) > _PAINT
    # The majority around each pixel: specks go, pin holes close.
    majority = Image.fromarray(changed.astype(np.uint8) * 255).filter(ImageFilter.BoxBlur(2))
    mask = np.asarray(majority) >= _OPAQUE_ENOUGH
    return mask if _LEAST_PAINT <= area_of(mask) <= _MOST_PAINT else None


def box_of(mask: Mask) -> Box | None:
    """The smallest box around the selected pixels; None when there are none."""
    import numpy as np

    rows = np.flatnonzero(mask.any(axis=1))
    columns = np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        return None
    return Box(left=int(columns[0]), top=int(rows[0]), right=int(columns[-1]) + 1, bottom=int(rows[-1]) + 1)


def area_of(mask: Mask) -> float:
    """The selected part of the picture, from 0 to 1."""
    return float(mask.mean()) if mask.size else 0.0


def fit_to(mask: Mask, width: int, height: int) -> tuple[Mask, bool]:
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
    if not same_shape((wide, tall), (width, height)):
        message = f"The mask is {wide} x {tall} pixels and the picture {width} x {height}: their shapes differ."
        raise InvalidInput(message, hint="Give a mask with the width and height of the picture.")
    rows = (2 * np.arange(height) + 1) * tall // (2 * height)
    columns = (2 * np.arange(width) + 1) * wide // (2 * width)
    return mask[rows[:, None], columns], True


def rle_counts(mask: Mask) -> list[int]:
    """The lengths of the runs of 0 and 1 in turn, column by column, beginning with 0."""
    import numpy as np

    pixels = mask.ravel(order="F")
    edges = np.flatnonzero(pixels[1:] != pixels[:-1]) + 1
    counts: list[int] = np.diff(edges, prepend=0, append=pixels.size).tolist()
    return [0, *counts] if pixels.size and pixels[0] else counts


def encode_rle(mask: Mask) -> str:
    """The run lengths as COCO's compressed string.

    From the fourth on, a count is stored as its difference to the one two places earlier; five bits to a character,
    lowest first, 0x20 says that more follow, 0x10 of the last is the sign, and 48 is added.
    """
    import numpy as np

    counts = np.array(rle_counts(mask), dtype=np.int64)
    rest = counts.copy()
    rest[3:] -= counts[1:-2]
    more = np.ones(counts.size, dtype=np.bool_)
    chunks, used = [], []
    while more.any():
        used.append(more)
        bits = (rest & 0x1F).astype(np.uint8)
        rest >>= 5
        more = more & (rest != np.where(bits & 0x10, -1, 0))
        chunks.append(bits + (0x20 * more).astype(np.uint8) + np.uint8(48))
    return np.stack(chunks, axis=1)[np.stack(used, axis=1)].tobytes().decode("ascii")


def decode_rle(counts: str, height: int, width: int) -> Mask:
    """The mask of a COCO compressed string.

    Raises:
        InvalidInput: `corrupt`, when the string is none or does not describe height x width pixels.
    """
    import numpy as np

    runs = _read_counts(counts)
    # Each run is judged before the sum, which could not tell a negative one or an overflow.
    if runs is None or np.any((runs < 0) | (runs > height * width)) or int(runs.sum()) != height * width:
        message = f"The run lengths do not describe a mask of {width} x {height} pixels."
        raise InvalidInput(message, code="corrupt", hint="Check the size that belongs to the run lengths.")
    values = np.arange(runs.size) % 2 == 1
    return np.repeat(values, runs).reshape((height, width), order="F")


def polygons_of(mask: Mask) -> list[list[float]]:
    """The outer outlines as COCO polygons: x1, y1, x2, y2, ... in pixels, at least three points each.

    Holes and specks of one or two pixels are not in them; the run lengths say all.
    """
    import cv2
    import numpy as np

    outlines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    return [[float(value) for value in line.ravel()] for line in outlines if len(line) >= _FEWEST_POINTS]


def coco_document(file_name: str, width: int, height: int, masks: Sequence[LabelledMask]) -> dict[str, Any]:
    """A COCO document of one picture: one category for each label, one annotation for each mask.

    `segmentation` is the compressed RLE; `polygons` and, where known, `score` are added to what COCO asks for.
    """
    categories = {label: number for number, label in enumerate(dict.fromkeys(item.label for item in masks), start=1)}
    return {
        "info": {"description": "Masks by rotoscope", "version": "1.0"},
        "images": [{"id": 1, "file_name": file_name, "width": width, "height": height}],
        "categories": [{"id": number, "name": label} for label, number in categories.items()],
        "annotations": [
            _annotation(number, categories[item.label], item) for number, item in enumerate(masks, start=1)
        ],
    }


def mask_png(mask: Mask) -> bytes:
    """The mask as a grey PNG: 255 where selected, else 0."""
    import numpy as np
    from PIL import Image

    target = io.BytesIO()
    Image.fromarray(mask.astype(np.uint8) * 255).save(target, "PNG")
    return target.getvalue()


def _from_palette(image: "Image.Image") -> Mask:
    import numpy as np

    ids = np.asarray(image)
    colours = {tuple((image.getpalette("RGB") or [])[3 * i : 3 * i + 3]) for i in np.unique(ids).tolist()}
    if colours <= {(0, 0, 0), (255, 255, 255)}:
        return np.asarray(image.convert("L"), dtype=np.uint8) >= _OPAQUE_ENOUGH
    return np.asarray(ids, dtype=np.bool_)


def _from_values(values: "NDArray[np.uint8]") -> Mask:
    top = int(values.max())
    return values > (0 if top < _MOST_IDS else top // 2)


def _brightness(image: "Image.Image") -> "NDArray[np.uint8]":
    """The brightest channel of each pixel: a mask in pure blue is as bright as one in white."""
    import numpy as np

    if image.mode in {"L", "LA"}:
        return np.asarray(image.getchannel("L"))
    brightest: NDArray[np.uint8] = np.asarray(image.convert("RGB")).max(axis=2)
    return brightest


def _real_alpha(image: "Image.Image") -> "Mask | None":
    """The opaque pixels, when there are transparent ones too: many files have an alpha channel that says nothing."""
    import numpy as np

    if "A" not in image.getbands():
        return None
    opaque = np.asarray(image.getchannel("A")) >= _OPAQUE_ENOUGH
    return opaque if opaque.any() and not opaque.all() else None


def same_shape(one: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether two sizes are the same picture's, but for rounding: a few pixels or one in a hundred."""
    (wide, tall), (width, height) = one, other
    drift = abs(wide * height / tall - width)
    return drift <= max(_SLACK, width / 100, width / wide)


def _read_counts(text: str) -> "NDArray[np.int64] | None":
    """The run lengths of a compressed string; None when it is none."""
    import numpy as np

    chunks = np.frombuffer(text.encode("utf-8", "replace"), dtype=np.uint8).astype(np.int64) - 48
    last = np.flatnonzero(chunks & 0x20 == 0)
    if not chunks.size or chunks.min() < 0 or chunks.max() > 0x3F or not last.size or last[-1] != chunks.size - 1:  # noqa: PLR2004 - six bits
        return None
    first = np.concatenate(([0], last[:-1] + 1))
    sizes = last - first + 1
    if sizes.max() > _MOST_CHUNKS:
        return None
    places = np.arange(chunks.size) - np.repeat(first, sizes)
    counts = np.add.reduceat((chunks & 0x1F) << (5 * places), first)
    counts -= np.where(chunks[last] & 0x10, 1 << (5 * sizes), 0)
    counts[1::2] = np.cumsum(counts[1::2])
    counts[2::2] = np.cumsum(counts[2::2])
    return counts


def _annotation(number: int, category: int, item: LabelledMask) -> dict[str, Any]:
    box = box_of(item.mask) or Box(0, 0, 0, 0)
    known = {} if item.score is None else {"score": item.score}
    return {
        "id": number,
        "image_id": 1,
        "category_id": category,
        "bbox": [box.left, box.top, box.right - box.left, box.bottom - box.top],
        "area": int(item.mask.sum()),
        "iscrowd": 0,
        "segmentation": {"size": [int(side) for side in item.mask.shape], "counts": encode_rle(item.mask)},
        "polygons": polygons_of(item.mask),
        **known,
    }
