"""What moves on the stage of an animatic: panels under a slow camera with cross-fades, or drifting colour."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import cv2
import numpy as np

from rotoscope_sandbox.film.panels import staged
from rotoscope_sandbox.vision.pixels import Frame

__all__ = ["Drift", "Show", "Slides"]

_SPARE = 1.25
"""Panels are kept this much larger than the stage, so that a camera that comes closer finds detail."""

_NEAR = (1.07, 1.14)
_FADE_SECONDS = 0.5
_FADE_SHARE = 0.35
_FIELD = (48, 27)
_SMOOTH = 8
_BLOBS = 6


class Show(Protocol):
    """Something that has a picture for every moment."""

    def frame(self, number: int) -> Frame:
        """The picture of a frame; it may be drawn upon."""

    def on_stage(self, number: int) -> int:
        """Which panel is mainly seen."""


@dataclass(frozen=True, slots=True)
class _Move:
    """A camera's way: how near it is at both ends, and the point that it keeps in view, as shares of the picture."""

    first: float
    last: float
    x: float
    y: float

    def view(self, share: float) -> tuple[float, float, float]:
        """How near, and the left and upper edge of what is seen, as shares; a steady zoom is a geometric one."""
        near = self.first * (self.last / self.first) ** share
        room = 1 - 1 / near
        return near, room * self.x, room * self.y


class Slides:
    """Panels one after the other, each for the same time.

    Args:
        pictures: the panels.
        size: the stage's width and height in pixels.
        frames: how many frames all of it lasts.
        rate: frames a second.
        seed: draws the camera's ways.
        settled: the first panel begins, and the last one ends, with the whole picture in view.
    """

    def __init__(
        self, pictures: Sequence[Frame], size: tuple[int, int], frames: int, rate: int, seed: int, *, settled: bool
    ) -> None:
        self._size = size
        self._length = frames / len(pictures)
        self._fade = min(_FADE_SECONDS * rate, _FADE_SHARE * self._length)
        self._pictures = pictures
        # At most two panels are seen at a time, and a large stage takes much memory.
        self._stage = lru_cache(maxsize=2)(self._staged)
        chance = np.random.default_rng(seed)
        self._moves = [_drawn(chance) for _ in pictures]
        if settled:
            self._settle()

    def _staged(self, panel: int) -> Frame:
        return staged(self._pictures[panel], (round(self._size[0] * _SPARE), round(self._size[1] * _SPARE)))

    def _settle(self) -> None:
        first, last = self._moves[0], self._moves[-1]
        if len(self._moves) > 1:
            self._moves[-1] = _Move(max(last.first, last.last), 1.0, last.x, last.y)
        self._moves[0] = _Move(1.0, max(first.first, first.last), first.x, first.y)

    def on_stage(self, number: int) -> int:
        return min(int(number / self._length), len(self._pictures) - 1)

    def frame(self, number: int) -> Frame:
        panel = self.on_stage(number)
        seen = self._seen(panel, number)
        boundary = round(number / self._length)
        if not 0 < boundary < len(self._pictures) or not self._fade:
            return seen
        share = 0.5 + (number - boundary * self._length) / self._fade
        if not 0 < share < 1:
            return seen
        soft = share * share * (3 - 2 * share)
        before, after = (
            (seen, self._seen(boundary, number)) if panel < boundary else (self._seen(panel - 1, number), seen)
        )
        return np.asarray(cv2.addWeighted(before, 1 - soft, after, soft, 0), np.uint8)

    def _seen(self, panel: int, number: int) -> Frame:
        """One panel through the camera; its way is longer than its time by the fades on both sides."""
        start = panel * self._length - (self._fade / 2 if panel else 0)
        length = self._length + self._fade * (
            1 if 0 < panel < len(self._pictures) - 1 else 0.5 * (len(self._pictures) > 1)
        )
        near, left, top = self._moves[panel].view(min(max((number - start) / max(length - 1, 1), 0), 1))
        stage, scale = self._stage(panel), near / _SPARE
        x, y = left * stage.shape[1] * scale, top * stage.shape[0] * scale
        way = np.array([[scale, 0, -x + (scale - 1) / 2], [0, scale, -y + (scale - 1) / 2]], np.float32)
        flags, edge = cv2.INTER_LINEAR, cv2.BORDER_REPLICATE
        return np.asarray(cv2.warpAffine(stage, way, self._size, flags=flags, borderMode=edge), np.uint8)


def _drawn(chance: np.random.Generator) -> _Move:
    """Closer, further away, or sideways, by chance."""
    near = float(chance.uniform(*_NEAR))
    first, last = (1.0, near) if chance.random() < 0.6 else (near, 1.0)  # noqa: PLR2004 - coming closer draws one in
    return _Move(first, last, float(chance.uniform(0.3, 0.7)), float(chance.uniform(0.25, 0.6)))


class Drift:
    """Soft colours that drift: what is seen when there is no picture at all."""

    def __init__(self, size: tuple[int, int], rate: int, seed: int) -> None:
        chance = np.random.default_rng(seed)
        self._size, self._rate = size, rate
        hue = chance.uniform(0, 360)
        hues = (hue + chance.uniform(-70, 70, _BLOBS)) % 360
        self._ground = _rgb(hue, 0.55, 0.16)
        self._colours = np.stack(
            [_rgb(one, 0.6, light) for one, light in zip(hues, chance.uniform(0.2, 0.45, _BLOBS), strict=True)]
        )
        self._centres = chance.uniform(0.1, 0.9, (_BLOBS, 2))
        self._reach = chance.uniform(0.15, 0.4, (_BLOBS, 2))
        self._speed = chance.uniform(0.15, 0.45, (_BLOBS, 2))
        self._phase = chance.uniform(0, 2 * np.pi, (_BLOBS, 2))
        self._width = chance.uniform(0.16, 0.34, _BLOBS)
        rows, columns = np.mgrid[0 : _FIELD[1], 0 : _FIELD[0]]
        self._x, self._y = (columns + 0.5) / _FIELD[0], (rows + 0.5) / _FIELD[1]

    def on_stage(self, number: int) -> int:  # noqa: ARG002 - there is only one
        return 0

    def frame(self, number: int) -> Frame:
        angle = self._phase + self._speed * 2 * np.pi * number / self._rate / 4
        x, y = (self._centres + self._reach * np.sin(angle)).T
        far = (self._x[..., None] - x) ** 2 + (self._y[..., None] - y) ** 2
        weight = np.exp(-far / (2 * self._width**2))
        field = self._ground + np.tensordot(weight, self._colours, 1) / (1 + 0.6 * weight.sum(axis=2, keepdims=True))
        # In two steps: the smooth one small, the quick one large.
        smooth = cv2.resize(field.astype(np.float32), None, fx=_SMOOTH, fy=_SMOOTH, interpolation=cv2.INTER_CUBIC)
        shown = np.clip(smooth, 0, 255).astype(np.uint8)
        return np.asarray(cv2.resize(shown, self._size, interpolation=cv2.INTER_LINEAR), np.uint8)


def _rgb(hue: float, strength: float, light: float) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    hls = np.array([[[hue, light, strength]]], np.float32)
    return np.asarray(cv2.cvtColor(hls, cv2.COLOR_HLS2RGB)[0, 0] * 255, np.float32)
