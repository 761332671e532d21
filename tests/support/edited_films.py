"""Films of an edit whose truth is known: an original, what a model might give for it, and the mask between them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from films import film

__all__ = ["FRAMES", "RATE", "SIZE", "changed", "drawn", "mask_film", "original", "shifted", "spot"]

SIZE, FRAMES, RATE = (160, 96), 33, 16
_LARGE = {"qp": "0", "preset": "ultrafast"}  # without loss
Draw = Callable[[int, int, int], np.ndarray]


def original(number: int, width: int, height: int) -> np.ndarray:
    """A pattern that moves to the right by a 40th of the width with each frame, over a still gradient."""
    across, down = np.meshgrid(np.arange(width) / width, np.arange(height) / height)
    wave = 60 * np.sin(2 * np.pi * (3 * across + 2 * down - number / 20))
    planes = (110 + wave, 90 + 80 * across, 90 + 80 * down - wave / 2)
    return np.stack(planes, axis=2).clip(0, 255).astype(np.uint8)


def spot(number: int, width: int, height: int) -> np.ndarray:
    """Where the mask of a frame is: a box that moves to the right."""
    mask = np.zeros((height, width), bool)
    left = round(width * (0.2 + 0.01 * number))
    mask[height // 4 : height // 2, left : left + width // 4] = True
    return mask


def changed(number: int, width: int, height: int) -> np.ndarray:
    """The original with another colour inside of the mask."""
    pixels = original(number, width, height)
    pixels[spot(number, width, height)] = (250, 240, 20)
    return pixels


def shifted(number: int, width: int, height: int) -> np.ndarray:
    """What a model gives that touches everything: brighter all over, and changed inside of the mask."""
    pixels = changed(number, width, height).astype(np.int16) + 25
    return pixels.clip(0, 255).astype(np.uint8)


def mask_film(path: Path, size: tuple[int, int] = SIZE, frames: int = FRAMES, rate: int = RATE) -> Path:
    """The masks of all frames as a film."""

    def draw(number: int, width: int, height: int) -> np.ndarray:
        return np.repeat(255 * spot(number, width, height)[:, :, None].astype(np.uint8), 3, axis=2)

    return film(path, size=size, frames=frames, rate=rate, draw=draw, options={"crf": "10"})


def drawn(
    path: Path,
    draw: Draw = original,
    *,
    size: tuple[int, int] = SIZE,
    frames: int = FRAMES,
    rate: int = RATE,
    tone: bool = False,
    options: dict[str, str] | None = None,
) -> Path:
    """A film of one of the drawings above, without loss unless encoder options are given."""
    return film(path, size=size, frames=frames, rate=rate, draw=draw, tone=tone, options=options or _LARGE)
