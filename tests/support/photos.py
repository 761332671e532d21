"""Pictures that are no masks, as a camera or a compression makes them."""

import io

import numpy as np
from PIL import Image

__all__ = ["as_jpeg", "draw_photo"]


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
