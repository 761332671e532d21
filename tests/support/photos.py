"""Pictures: those of files, those that are no masks as a camera or a compression makes them, and a drawn mask."""

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

__all__ = ["MEDIA", "PHOTO", "as_jpeg", "draw_photo", "mask_png", "pixel_at"]

_TOP = Path(__file__).parents[2]
PHOTO = _TOP / "src" / "rotoscope" / "assets" / "astronaut.jpg"
MEDIA = _TOP.parent / "shared" / "media"  # tests that need it are skipped where it is missing


def draw_photo(width: int = 200, height: int = 150) -> Image.Image:
    """Waves of light with a camera's noise; always the same."""
    rows, columns = np.mgrid[0:height, 0:width]
    waves = 128 + 60 * np.sin(rows / 7) + 50 * np.cos(columns / 11)
    noise = np.random.default_rng(3).normal(0, 12, (height, width, 3))
    return Image.fromarray(np.clip(waves[..., None] * (1.0, 0.8, 0.6) + noise, 0, 255).astype(np.uint8))


def as_jpeg(image: Image.Image, quality: int) -> Image.Image:
    """The picture as it comes back from a JPEG."""
    target = io.BytesIO()
    image.save(target, "JPEG", quality=quality)
    return Image.open(io.BytesIO(target.getvalue()))


def mask_png(size: tuple[int, int] = (512, 512)) -> bytes:
    """A mask as PNG: a white rectangle from (10, 20) to (110, 70) on black."""
    image = Image.new("L", size, 0)
    ImageDraw.Draw(image).rectangle((10, 20, 109, 69), fill=255)
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def pixel_at(image: Image.Image, place: tuple[float, float]) -> tuple[int, ...]:
    """The colour of a pixel of a picture with several channels; the place in shares of its width and height."""
    found = image.getpixel((int(place[0] * image.width), int(place[1] * image.height)))
    assert isinstance(found, tuple)
    return found
