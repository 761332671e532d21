"""Characters: text that any client can be sent, and text that says something.

JSON can hold half a character (a lone surrogate): a text that a provider cut in the middle of an emoji, or the name of
a file that is not UTF-8. Nothing that writes UTF-8 takes it.
"""

import re
import unicodedata

__all__ = ["control_in", "is_blank", "whole", "whole_text"]

_HALF = re.compile("[\ud800-\udfff]")
_CONTROL = re.compile("[\0-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_UNSEEN = {"Cc", "Cf", "Zl", "Zp", "Zs"}  # controls, formats such as U+200B, and blanks
_FILLERS = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0") | {chr(one) for one in range(0xFE00, 0xFE10)}


def is_blank(text: str) -> bool:
    """Whether there is nothing to be seen in a text: no character, or only blanks, controls and those without width."""
    return all(one in _FILLERS or unicodedata.category(one) in _UNSEEN for one in text)


def control_in(text: str) -> str | None:
    """The first control character of a text, as `U+0000`; tabs and line ends are none."""
    found = _CONTROL.search(text)
    return f"U+{ord(found.group()):04X}" if found else None


def whole_text(text: str) -> str:
    """The same text with U+FFFD for each half character; its length stays."""
    return text if text.isascii() else _HALF.sub("\ufffd", text)


def whole(value: object) -> object:
    """The same value with whole characters in every text of its lists and dictionaries."""
    match value:
        case str():
            return whole_text(value)
        case list() | tuple():
            return [whole(one) for one in value]
        case dict():
            return {whole(name): whole(one) for name, one in value.items()}
        case _:
            return value
