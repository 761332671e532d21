"""The arrays that the engines work on, and small functions on them that several modules need."""

from dataclasses import dataclass
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Frame",
    "Labels",
    "Mask",
    "PixelBox",
    "Plane",
    "Point",
    "box_slices",
    "components_touching",
    "dilate_disc",
    "disc_mask",
    "largest_components",
    "pixel_at",
    "shrink_to_side",
    "to_lab",
]

Frame: TypeAlias = NDArray[np.uint8]
"""A picture: height x width x 3, RGB."""

Mask: TypeAlias = NDArray[np.bool_]
"""Height x width, true where selected."""

Plane: TypeAlias = NDArray[np.float32]
"""Height x width (x channels), floating point."""

Point: TypeAlias = tuple[float, float]
"""x, y in pixels."""

Labels: TypeAlias = NDArray[np.int32]
"""Height x width, a region number for every pixel."""


@dataclass(frozen=True, slots=True)
class PixelBox:
    """A rectangle in pixels; `right` and `bottom` are just outside."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def width(self) -> int:
        return self.right - self.left

    @property
    def height(self) -> int:
        return self.bottom - self.top

    @property
    def area(self) -> int:
        return self.width * self.height

    def expand(self, share: float, within: tuple[int, ...]) -> "PixelBox":
        """The box with `share` of its size added on every side, kept inside a picture of (height, width, ...)."""
        return self._grow(round(self.width * share), round(self.height * share), within)

    def pad(self, pixels: int, within: tuple[int, ...]) -> "PixelBox":
        """The box with that many pixels added on every side, kept inside a picture of (height, width, ...)."""
        return self._grow(pixels, pixels, within)

    def _grow(self, across: int, down: int, within: tuple[int, ...]) -> "PixelBox":
        left, top = max(0, self.left - across), max(0, self.top - down)
        return PixelBox(left, top, min(within[1], self.right + across), min(within[0], self.bottom + down))

    @classmethod
    def around(cls, mask: Mask) -> "PixelBox":
        """The smallest box that holds everything selected; the mask must not be empty."""
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        return cls(int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)


def box_slices(box: PixelBox) -> tuple[slice, slice]:
    """The box as an index into an array."""
    return slice(box.top, box.bottom), slice(box.left, box.right)


def shrink_to_side(frame: Frame, side: int) -> tuple[Frame, float]:
    """The picture with its longer side at most `side`, and the factor it was scaled by."""
    height, width = frame.shape[:2]
    scale = min(1.0, side / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = cv2.resize(frame, size, interpolation=cv2.INTER_AREA) if scale < 1 else frame
    return np.ascontiguousarray(small, dtype=np.uint8), scale


def to_lab(frame: Frame) -> Plane:
    """CIE L*a*b* with L from 0 to 100: a distance of about 2 in it is the least that an eye sees."""
    return np.asarray(cv2.cvtColor(frame.astype(np.float32) / 255, cv2.COLOR_RGB2LAB), dtype=np.float32)


def pixel_at(point: Point, shape: tuple[int, ...]) -> tuple[int, int]:
    """The pixel under a point, as an index (row, column) into an array; the nearest one for a point outside of it."""
    x, y = point
    return min(max(int(y), 0), shape[0] - 1), min(max(int(x), 0), shape[1] - 1)


def disc_mask(shape: tuple[int, ...], centre: Point, radius: float) -> Mask:
    """A filled circle around (x, y), moved into the picture where it lies outside; at least one pixel."""
    canvas = np.zeros(shape, np.uint8)
    y, x = pixel_at(centre, shape)
    cv2.circle(canvas, (x, y), max(0, round(radius)), 1, -1)
    return canvas.astype(np.bool_)


def dilate_disc(mask: Mask, pixels: int) -> Mask:
    """The mask and everything within that many pixels of it."""
    side = 2 * pixels + 1
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    return np.asarray(cv2.dilate(mask.astype(np.uint8), disc), np.bool_)


def _components(mask: Mask) -> tuple[Labels, NDArray[np.int32]]:
    _, labels, facts, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=4)
    return np.asarray(labels, dtype=np.int32), np.asarray(facts[:, cv2.CC_STAT_AREA], dtype=np.int32)


def components_touching(mask: Mask, touch: Mask) -> Mask:
    """The connected parts of a mask that share a pixel with `touch`."""
    labels, _ = _components(mask)
    return np.isin(labels, np.unique(labels[touch & mask])) & mask


def largest_components(mask: Mask, share: float = 0.2) -> Mask:
    """The biggest connected part of a mask, and every part of at least `share` of its area: specks are dropped."""
    labels, areas = _components(mask)
    if len(areas) < 2:  # noqa: PLR2004 - the background alone
        return mask
    kept = np.flatnonzero(areas[1:] >= share * areas[1:].max()) + 1
    return np.isin(labels, kept)
