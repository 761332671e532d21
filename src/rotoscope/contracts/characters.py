"""Text from outside, made safe to store, to show and to send.

JSON can hold a lone surrogate: a text that a provider cut in the middle of an emoji, or the name of a file that is not
UTF-8. No UTF-8 writer takes it. And a text can hold invisible characters: commands to a terminal (ECMA-48), marks that
change the direction of writing, and letters that are drawn as nothing, in which instructions for an assistant can hide.
"""

import re
import unicodedata

__all__ = [
    "ELLIPSIS",
    "escape_invisible",
    "first_control_character",
    "is_blank",
    "is_invisible",
    "limit_json_value",
    "one_line",
    "replace_lone_surrogates",
    "replace_surrogates_in_text",
    "visible_text",
]

ELLIPSIS = "…"
"""Replaces the rest of a text that was cut."""

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_CONTROL = re.compile("[\0-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_MAX_DEPTH = 8
_NAME_LENGTH = 200

# Drawn as nothing although Unicode files them under letters and marks: text can hide in them.
_INVISIBLE_LETTERS = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0000-\U000e0fff]"
)
_INVISIBLE_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co"})  # control, format, surrogate, private use

# Terminals obey both forms, ESC and one letter or a single C1 byte. Commands that carry text (OSC, DCS, APC, PM, SOS)
# are removed with their text.
_TERMINAL_COMMAND = re.compile(
    "(?:\x1b\\[|\x9b)[0-?]{0,64}[ -/]{0,8}[@-~]"
    "|(?:\x1b[\\]PX^_]|[\x90\x98\x9d\x9e\x9f])[^\x07\x1b\x9c]{0,65536}(?:\x07|\x1b\\\\|\x9c)"
    "|\x1b[ -/]{0,8}[0-~]"
)


def is_blank(text: str) -> bool:
    """Whether a text shows nothing: it is empty, or all white space and invisible characters."""
    return all(one.isspace() or is_invisible(one) for one in text)


def first_control_character(text: str) -> str | None:
    """The first control character of a text, as `U+0000`; tabs and line ends are none."""
    found = _CONTROL.search(text)
    return f"U+{ord(found.group()):04X}" if found else None


def is_invisible(character: str) -> bool:
    """Whether a character is drawn as nothing; white space counts as visible."""
    if character.isspace():
        return False
    return unicodedata.category(character) in _INVISIBLE_CATEGORIES or _INVISIBLE_LETTERS.match(character) is not None


def visible_text(text: str) -> str:
    """A text as a reader sees it: without commands to terminals and without invisible characters.

    White space of every kind becomes a plain space, and so does any other control character: it may separate words.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(map(_visible_character, _TERMINAL_COMMAND.sub("", text)))


def one_line(text: str, limit: int) -> str:
    """Foreign text as one line of at most `limit` characters that is safe to show, to log and to send."""
    # Four times the limit: much may be removed, and a hostile megabyte must stay cheap.
    line = " ".join(visible_text(text[: 4 * limit]).split())
    return line if len(line) <= limit else line[: limit - 1].rstrip() + ELLIPSIS


def escape_invisible(document: str) -> str:
    """A JSON document with every invisible character escaped: the same values, and nothing that a terminal obeys."""
    if document.isascii() and document.replace("\n", "").isprintable():
        return document
    return "".join(
        _escape_character(one) if one != "\n" and (is_invisible(one) or not one.isprintable()) else one
        for one in document
    )


def limit_json_value(value: object, items: int, length: int) -> object:
    """A foreign JSON value, cleaned and bounded in size and depth.

    Args:
        value: the value.
        items: how many values are kept, nested ones included; the first ones.
        length: how many characters of each text are kept.
    """
    return _limit_value(value, [items], length, _MAX_DEPTH)


def _limit_value(value: object, left: list[int], length: int, depth: int) -> object:
    left[0] -= 1
    match value:
        case str():
            return one_line(value, length)
        case list() if depth:
            return [_limit_value(one, left, length, depth - 1) for one in value[: max(left[0], 0)] if left[0] > 0]
        case dict() if depth:
            named = list(value.items())[: max(left[0], 0)]
            return {
                one_line(str(name), _NAME_LENGTH): _limit_value(one, left, length, depth - 1)
                for name, one in named
                if left[0] > 0
            }
        case bool() | int() | float() | None:
            return value
        case _:
            return None


def replace_surrogates_in_text(text: str) -> str:
    """A text with U+FFFD in place of each lone surrogate; its length stays."""
    return text if text.isascii() else _LONE_SURROGATE.sub("\ufffd", text)


def replace_lone_surrogates(value: object) -> object:
    """A value without lone surrogates in any text of its lists and dictionaries."""
    match value:
        case str():
            return replace_surrogates_in_text(value)
        case list() | tuple():
            return [replace_lone_surrogates(one) for one in value]
        case dict():
            return {replace_lone_surrogates(name): replace_lone_surrogates(one) for name, one in value.items()}
        case _:
            return value


def _visible_character(character: str) -> str:
    if character.isspace() or unicodedata.category(character) == "Cc":
        return " "
    return "" if is_invisible(character) else character


def _escape_character(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[n]:02x}{units[n + 1]:02x}" for n in range(0, len(units), 2))
