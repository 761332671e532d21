"""Words on a film: captions in any script that OpenCV's own font knows, and labels."""

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import cv2
import numpy as np

from rotoscope_sandbox.vision.pixels import Frame, Plane

__all__ = ["Overlay", "caption", "label", "pages_of", "title"]

_WHITE = (255.0, 255.0, 255.0)
_LINE_HEIGHT = 1.42
_SHADOW = 0.75
_BAND = 0.62
_BOX = 0.62
_MEDIUM = 500
_FIRST_EMOJI = 0x1F000
_UNDRAWABLE = {"\ufe0f", "\ufe0e", "\u200d", "\u200b", "\ufeff"}
_CLOSING = ("Pe", "Pf", "Po")
_WIDE = ("W", "F")
_ELLIPSIS = "…"


@dataclass(frozen=True, slots=True)
class Overlay:
    """Something to lay over a frame: where its top left corner is, how much it covers (0 to 1), in what colour."""

    left: int
    top: int
    cover: Plane
    colour: Plane

    def over(self, frame: Frame, strength: float = 1.0) -> None:
        """Draws it on a frame, in place."""
        height, width = self.cover.shape[:2]
        part = frame[self.top : self.top + height, self.left : self.left + width]
        cover = self.cover * np.float32(strength)
        part[:] = (part * (1 - cover) + self.colour * cover).astype(np.uint8)


def pages_of(words: str, size: tuple[int, int], most: int, *, large: bool = False) -> list[list[str]]:
    """A text in lines that fit a picture of that size, in at most `most` pages; what does not fit ends in an ellipsis.

    Every script breaks its own way: between words where there are spaces, between any two signs in Chinese and
    Japanese, and never in front of a closing mark.
    """
    letters, rows, width = _measure(size, large=large)
    lines = list(_lines(words, letters, width))
    shown = rows * most
    if len(lines) > shown:
        lines = [*lines[: shown - 1], _unclosed(lines[shown - 1]) + _ELLIPSIS]
    count = -(-len(lines) // rows)
    # Even pages read better than a full one and a single last line.
    each = -(-len(lines) // count) if count else 1
    return [lines[first : first + each] for first in range(0, len(lines), each)]


def caption(lines: Sequence[str], size: tuple[int, int]) -> Overlay:
    """Lines at the foot of the picture on a dark band that fades out upward."""
    letters, _, _ = _measure(size, large=False)
    step = round(letters * _LINE_HEIGHT)
    inset, height = round(letters * 0.9), round(letters * 2.6) + step * (len(lines) - 1)
    foot = height - inset - round(letters * 0.2)
    ink = _ink(lines, (size[0], height), letters, [foot - step * after for after in reversed(range(len(lines)))])
    slope = np.minimum(np.linspace(0, 2.2, height, dtype=np.float32), 1)[:, None, None] * np.float32(_BAND)
    return _inked(0, size[1] - height, ink, np.broadcast_to(slope, (height, size[0], 1)))


def title(lines: Sequence[str], size: tuple[int, int]) -> Overlay:
    """Lines in large letters in the middle of the picture."""
    letters, _, _ = _measure(size, large=True)
    step = round(letters * _LINE_HEIGHT)
    height = step * len(lines) + letters
    ink = _ink(lines, (size[0], height), letters, [step * number for number in range(1, len(lines) + 1)])
    return _inked(0, max(0, (size[1] - height) // 2), ink, np.zeros((height, size[0], 1), np.float32))


def label(words: str, size: tuple[int, int]) -> Overlay:
    """A small box in the upper left corner."""
    letters = max(9, round(_measure(size, large=False)[0] * 0.62))
    margin, pad = round(min(size) * 0.03), round(letters * 0.55)
    width, height = min(_width(words, letters) + 2 * pad, size[0] - 2 * margin), letters + 2 * pad
    ink = _ink([words], (width, height), letters, [height - pad - round(letters * 0.14)])
    return _inked(margin, margin, ink, np.full((height, width, 1), _BOX, np.float32))


def _measure(size: tuple[int, int], *, large: bool) -> tuple[int, int, int]:
    """Size of the letters in pixels, most lines on a page, and the width of a line in pixels."""
    side = (size[0] * size[1]) ** 0.5
    letters = max(11, round(side * (0.056 if large else 0.035)))
    return letters, 5 if large else 3, round(size[0] * (0.8 if large else 0.88))


def _ink(lines: Sequence[str], size: tuple[int, int], letters: int, feet: Sequence[int]) -> Plane:
    """How much of each pixel the letters cover; every line is centred."""
    canvas = np.zeros((size[1], size[0], 3), np.uint8)
    for line, foot in zip(lines, feet, strict=True):
        left = max(0, (size[0] - _width(line, letters)) // 2)
        cv2.putText(canvas, line, (left, foot), _WHITE, _font(), letters, _MEDIUM)
    return np.asarray(canvas[..., :1] / np.float32(255), np.float32)


def _inked(left: int, top: int, ink: Plane, ground: Plane) -> Overlay:
    """White letters with a soft shadow on a dark ground that covers as much as it says."""
    blur = max(1.0, ink.shape[0] / 60)
    shadow = np.minimum(cv2.GaussianBlur(ink[..., 0], (0, 0), blur)[..., None] * 2, 1) * np.float32(_SHADOW)
    dark = 1 - (1 - ground) * (1 - shadow)
    cover = ink + dark * (1 - ink)
    colour = 255 * ink / np.maximum(cover, np.float32(1e-6))
    return Overlay(left, top, np.asarray(cover, np.float32), np.asarray(np.repeat(colour, 3, axis=2), np.float32))


@cache
def _font() -> cv2.FontFace:
    return cv2.FontFace("uni")


@cache
def _width(words: str, letters: int) -> int:
    left, _, width, _ = cv2.getTextSize((0, 0), words, (0, 0), _font(), letters, _MEDIUM)
    return int(left + width)


def _lines(words: str, letters: int, width: int) -> Iterator[str]:
    line = ""
    for piece in _pieces(words):
        longer = line + piece
        if line.strip() and _width(longer.strip(), letters) > width and piece.strip():
            yield line.strip()
            line = piece.lstrip()
        else:
            line = longer
        while _width(line.strip(), letters) > width:
            kept = _fitting(line, letters, width)
            yield line[:kept]
            line = line[kept:]
    if line.strip():
        yield line.strip()


def _fitting(line: str, letters: int, width: int) -> int:
    """How many signs of a word that is longer than a line fit into one."""
    return max(
        1, next(count for count in range(len(line), 0, -1) if count == 1 or _width(line[:count], letters) <= width)
    )


def _pieces(words: str) -> list[str]:
    """What a line may be broken between: words with the space before them, wide signs one by one."""
    found: list[str] = []
    for word in _drawable(words).split():
        found.append(f" {word[0]}")
        for before, sign in pairwise(word):
            if _closes(sign) or not (_is_wide(before) or _is_wide(sign)):
                found[-1] += sign
            else:
                found.append(sign)
    return found


def _unclosed(line: str) -> str:
    while line and _closes(line[-1]):
        line = line[:-1]
    return line


def _is_wide(sign: str) -> bool:
    return unicodedata.east_asian_width(sign) in _WIDE


def _closes(sign: str) -> bool:
    """Closing brackets and quotes, commas, stops: what no line may begin with."""
    return unicodedata.category(sign) in _CLOSING


def _drawable(words: str) -> str:
    """The text without what the font cannot draw: emoji and what belongs to them; line breaks become spaces."""
    kept = (sign for sign in words if ord(sign) < _FIRST_EMOJI and sign not in _UNDRAWABLE)
    return " ".join("".join(" " if unicodedata.category(sign) == "Cc" else sign for sign in kept).split())
