"""Small pictures for models to look at: few pixels and few bytes, whatever they are made of."""

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rotoscope.media.image.previews import encode_jpeg

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["THUMBNAIL_BYTES", "THUMBNAIL_SIDE", "Thumbnail", "make_thumbnail"]

THUMBNAIL_SIDE = 768
"""Pixels: no measured client scales such a picture down."""
THUMBNAIL_BYTES = 100_000

_QUALITIES = (85, 75, 60, 45, 30)
_FEW_COLOURS = 256  # a mask or a drawing: without loss it is smaller and sharper
_SHRINK_FACTOR = 0.75
_MIN_SIDE = 16


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """A picture as a PNG or JPEG; `width` and `height` are in pixels."""

    content: bytes
    content_type: str
    width: int
    height: int


def make_thumbnail(image: "Image.Image", side: int = THUMBNAIL_SIDE, most: int = THUMBNAIL_BYTES) -> Thumbnail:
    """The picture in at most `most` bytes, its longer side at most `side` pixels, as sharp as that allows.

    Of the forms that fit, the first is taken: a PNG where there are few colours, a JPEG of falling quality, then the
    same with fewer pixels. A small picture is not made larger.
    """
    from PIL import Image

    while True:
        shown = image
        if max(image.size) > side:
            ratio = side / max(image.size)
            smaller = (max(round(image.width * ratio), 1), max(round(image.height * ratio), 1))
            shown = (image.convert("RGBA") if image.mode == "P" else image).resize(smaller, Image.Resampling.BOX)
        for content, content_type in _encode_candidates(shown, most):
            if len(content) <= most or side <= _MIN_SIDE:
                return Thumbnail(content, content_type, *shown.size)
        side = max(round(min(side, max(image.size)) * _SHRINK_FACTOR), _MIN_SIDE)


def _encode_candidates(image: "Image.Image", most: int) -> "list[tuple[bytes, str]]":
    """The picture in each form, the sharpest first, up to the first that fits."""
    if image.getcolors(_FEW_COLOURS) is not None:
        target = io.BytesIO()
        image.save(target, "PNG", optimize=True)
        if target.tell() <= most:
            return [(target.getvalue(), "image/png")]
    forms: list[tuple[bytes, str]] = []
    for quality in _QUALITIES:
        forms.append((encode_jpeg(image, quality), "image/jpeg"))
        if len(forms[-1][0]) <= most:
            break
    return forms
