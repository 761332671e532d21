"""Whole characters: text that any client can be sent.

JSON can hold half a character (a lone surrogate): a text that a provider cut in the middle of an emoji, or the name of
a file that is not UTF-8. Nothing that writes UTF-8 takes it.
"""

import re

__all__ = ["whole", "whole_text"]

_HALF = re.compile("[\ud800-\udfff]")


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
