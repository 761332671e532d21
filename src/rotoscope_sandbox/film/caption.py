"""Text on a picture, drawn with OpenCV's own font, which knows Latin, Cyrillic, Greek, Chinese, Japanese and Korean."""

import math
import re
from functools import cache

import cv2

from rotoscope_sandbox.vision.pixels import Frame

__all__ = ["draw_caption", "draw_label", "wrap_text"]

_WHITE = (255.0, 255.0, 255.0)
_WEIGHT = 500
"""Font weight: between regular (400) and semibold (600), which stays legible after video compression."""

_LETTER_SHARE = 0.035
"""Font size as a share of the root of the picture's area: about 23 pixels at 864x496."""

_SMALLEST_LETTERS = 11
"""Font size in pixels below which strokes merge."""

_LINE_HEIGHT = 1.4
_MARGIN_SHARE = 0.06
"""Margin at either side of a line, as a share of the picture's width."""

_DARKEN = 0.35
"""Brightness that is left behind the text: white letters are legible on a white picture."""

_PIECE = re.compile(r"\s?[^\s\u2e80-\uffff]{1,24}|\s?[\u2e80-\uffff]")
"""What a line is never broken inside of: up to 24 signs of a word, one of a script without spaces (U+2E80 on)."""

_FIRST_EMOJI = 0x1F000
_CAPTION_LINES = 3
_CENTRED_LINES = 8


def draw_caption(picture: Frame, text: str, *, centred: bool = False) -> None:
    """Draw a text on a picture, in place: at its foot, or in its middle; on a dark band from side to side.

    Text that needs more than 3 lines at the foot, or 8 in the middle, ends in an ellipsis.
    """
    height, width = picture.shape[:2]
    letters = _letter_size(picture)
    margin, step = round(width * _MARGIN_SHARE), round(letters * _LINE_HEIGHT)
    lines = wrap_text(text, width - 2 * margin, letters, _CENTRED_LINES if centred else _CAPTION_LINES)
    if not lines:
        return
    band = step * len(lines) + letters
    top = max(0, (height - band) // 2 if centred else height - band)
    _darken(picture[top : top + band])
    for number, line in enumerate(lines, 1):
        left = (width - _text_width(line, letters)) // 2
        cv2.putText(picture, line, (left, top + step * number), _WHITE, _font(), letters, _WEIGHT)


def draw_label(picture: Frame, text: str) -> None:
    """Draw one short line on a dark box in the upper left corner, in place."""
    letters = max(_SMALLEST_LETTERS, round(_letter_size(picture) * 0.62))
    margin = letters // 2
    _darken(picture[margin : margin + 2 * letters, margin : margin + _text_width(text, letters) + letters])
    corner = margin + letters // 2, margin + round(letters * 1.35)
    cv2.putText(picture, text, corner, _WHITE, _font(), letters, _WEIGHT)


def wrap_text(text: str, width: int, letters: int, most_lines: int) -> list[str]:
    """The lines of a text that are at most `width` pixels wide in letters of that size; the rest becomes an ellipsis.

    Lines break at spaces, and between any two signs of Chinese and Japanese. Emoji, which the font lacks, are left out.
    """
    lines = [""]
    drawable = "".join(sign for sign in " ".join(text.split()) if ord(sign) < _FIRST_EMOJI)
    for piece in _PIECE.findall(drawable):
        if _text_width(lines[-1] + piece, letters) > width and lines[-1]:
            lines.append("")
        lines[-1] += piece if lines[-1] else piece.lstrip()
    if len(lines) > most_lines:
        lines[most_lines - 1 :] = [lines[most_lines - 1][:-1] + "…"]
    return lines if lines[0] else []


def _letter_size(picture: Frame) -> int:
    """The font size for a picture, in pixels."""
    height, width = picture.shape[:2]
    return max(_SMALLEST_LETTERS, round(math.sqrt(width * height) * _LETTER_SHARE))


def _darken(part: Frame) -> None:
    part[:] = (part * _DARKEN).astype(part.dtype)


@cache
def _font() -> cv2.FontFace:
    return cv2.FontFace("uni")


def _text_width(text: str, letters: int) -> int:
    """Width of one line in pixels."""
    left, _, width, _ = cv2.getTextSize((0, 0), text, (0, 0), _font(), letters, _WEIGHT)
    return int(left + width)
