"""Panels of an animatic: a storyboard sheet is split at its gutters, and every panel is fitted to the stage."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from rotoscope_sandbox.vision.pixels import Frame, PixelBox, box_slices, shrink_to_side

__all__ = ["StoryboardPanel", "split", "staged"]

_LOOKED_AT = 1024
_TOLERANCE = 16
_STRAY = 0.015
"""The share of pixels in a gutter line that may differ: dust and the noise of compression."""

_THINNEST = 0.004
_NARROWEST = 0.08
_LEAST_FRAMED = 0.5
_LEAST_COVERED = 0.45
_MOST_PANELS = 24
_ROUNDS = 4

_MILD_CROP = 1.34
_BACKDROP_SIDE = 96
_DIMMED = 0.45


@dataclass(frozen=True, slots=True)
class StoryboardPanel:
    """A picture to be shown, and what it is called on screen."""

    picture: Frame
    name: str


def split(sheet: Frame, name: str) -> list[StoryboardPanel]:
    """The panels of a storyboard sheet in reading order; a picture without gutters is one panel.

    Gutters are straight lines of one colour from edge to edge. What lies between them counts as panels only if it
    is framed: an object on a plain ground touches its own box in a few places, a panel does nearly everywhere.
    """
    small, scale = shrink_to_side(sheet, _LOOKED_AT)
    whole = PixelBox(0, 0, small.shape[1], small.shape[0])
    boxes = [box for box in _cut(small, whole, _ROUNDS) if _is_panel(small, box)]
    covered = sum(box.area for box in boxes) / whole.area
    if not 1 < len(boxes) <= _MOST_PANELS or covered < _LEAST_COVERED:
        return [StoryboardPanel(sheet, name)]
    parts = [sheet[box_slices(_scaled(box, 1 / scale, sheet.shape))] for box in boxes]
    return [StoryboardPanel(part, f"{name}, panel {number}") for number, part in enumerate(parts, 1)]


def _scaled(box: PixelBox, factor: float, within: tuple[int, ...]) -> PixelBox:
    # One pixel of the small picture may be half gutter.
    spare = 0 if factor == 1 else 1
    edges = (box.left + spare, box.top + spare, box.right - spare, box.bottom - spare)
    return PixelBox(*(round(edge * factor) for edge in edges)).expand(0, within)


def _cut(frame: Frame, box: PixelBox, rounds: int) -> list[PixelBox]:
    """Splits a box into bands, the bands into columns, and so on while there are gutters."""
    if rounds == 0:
        return [box]
    for across in (False, True):
        parts = _bands(frame, box, across=across)
        if len(parts) > 1 or (parts and parts[0] != box):
            return [inner for part in parts for inner in _cut(frame, part, rounds - 1)]
    return [box]


def _bands(frame: Frame, box: PixelBox, *, across: bool) -> list[PixelBox]:
    """The parts of a box between lines of one colour: from top to bottom, or from left to right."""
    crop = frame[box_slices(box)]
    lines = crop.transpose(1, 0, 2) if across else crop
    thinnest = max(2, round(_THINNEST * max(frame.shape[:2])))
    runs = _runs(~_plain(lines), thinnest)
    if across:
        return [PixelBox(box.left + first, box.top, box.left + last, box.bottom) for first, last in runs]
    return [PixelBox(box.left, box.top + first, box.right, box.top + last) for first, last in runs]


def _plain(lines: Frame) -> NDArray[np.bool_]:
    """For every line, whether it has one colour."""
    middle = np.median(lines, axis=1, keepdims=True)
    apart = (np.abs(lines - middle) > _TOLERANCE).any(axis=2)
    return np.asarray(apart.mean(axis=1) <= _STRAY)


def _runs(drawn: NDArray[np.bool_], thinnest: int) -> list[tuple[int, int]]:
    """Where drawn lines begin and end; a gap that is too thin for a gutter does not end them."""
    edges = np.flatnonzero(np.diff(np.concatenate(([0], drawn.astype(np.int8), [0]))))
    runs: list[tuple[int, int]] = []
    for first, last in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        if runs and first - runs[-1][1] < thinnest:
            runs[-1] = runs[-1][0], last
        else:
            runs.append((first, last))
    return runs


def _is_panel(frame: Frame, box: PixelBox) -> bool:
    height, width = frame.shape[:2]
    if box.width < _NARROWEST * width or box.height < _NARROWEST * height:
        return False
    crop = frame[box_slices(box)].astype(np.int16)
    beside = frame[max(0, box.top - 2), max(0, box.left - 2)].astype(np.int16)
    sides = (crop[:2].max(axis=0), crop[-2:].max(axis=0), crop[:, :2].max(axis=1), crop[:, -2:].max(axis=1))
    lows = (crop[:2].min(axis=0), crop[-2:].min(axis=0), crop[:, :2].min(axis=1), crop[:, -2:].min(axis=1))
    rims = np.concatenate(sides), np.concatenate(lows)
    framed = np.logical_or.reduce([(np.abs(rim - beside) > _TOLERANCE).any(axis=1) for rim in rims])
    return bool(framed.mean() >= _LEAST_FRAMED)


def staged(picture: Frame, size: tuple[int, int]) -> Frame:
    """A picture that fills the stage: cropped where the shapes are similar, else whole before its own blurred self."""
    (height, width), (wide, high) = picture.shape[:2], size
    ratio = (width / height) / (wide / high)
    if 1 / _MILD_CROP < ratio < _MILD_CROP:
        return _scaled_to(picture, size, max(wide / width, high / height))
    stage = _backdrop(picture, size)
    front = _scaled_to(picture, None, min(wide / width, high / height))
    top, left = (high - front.shape[0]) // 2, (wide - front.shape[1]) // 2
    stage[top : top + front.shape[0], left : left + front.shape[1]] = front
    return stage


def _scaled_to(picture: Frame, size: tuple[int, int] | None, factor: float) -> Frame:
    """The picture scaled, and its middle of that size where one is given."""
    scaled = max(1, round(picture.shape[1] * factor)), max(1, round(picture.shape[0] * factor))
    smooth = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    large = np.asarray(cv2.resize(np.ascontiguousarray(picture), scaled, interpolation=smooth), np.uint8)
    if size is None:
        return large
    left, top = max(0, (scaled[0] - size[0]) // 2), max(0, (scaled[1] - size[1]) // 2)
    cropped = large[top : top + size[1], left : left + size[0]]
    return np.ascontiguousarray(cropped) if cropped.shape[1::-1] == size else _stretched(cropped, size)


def _stretched(picture: Frame, size: tuple[int, int]) -> Frame:
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_LINEAR), np.uint8)


def _backdrop(picture: Frame, size: tuple[int, int]) -> Frame:
    wide, high = _BACKDROP_SIDE, max(1, round(_BACKDROP_SIDE * size[1] / size[0]))
    factor = max(wide / picture.shape[1], high / picture.shape[0])
    soft = cv2.GaussianBlur(_scaled_to(picture, (wide, high), factor), (0, 0), 5)
    return _stretched((soft * _DIMMED).astype(np.uint8), size)
