"""Characters that any client can be sent and any reader sees: the one cleaner of what others have written.

JSON can hold half a character (a lone surrogate): a text that a provider cut in the middle of an emoji, or the name of
a file that is not UTF-8. Nothing that writes UTF-8 takes it. And a text can hold what nobody sees: commands to a
terminal (ECMA-48), marks that turn the direction of writing, and letters that are drawn as nothing, in which words for
an assistant can hide.
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
"""What stands for the rest of a text."""

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_CONTROL = re.compile("[\0-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_MAX_DEPTH = 8
_NAME_LENGTH = 200

# Drawn as nothing although Unicode files them under letters and marks: text can hide in them.
_INVISIBLE_LETTERS = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0000-\U000e0fff]"
)
_INVISIBLE_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co"})  # control, format, half a character, private use

# Terminals obey both forms, ESC and one letter or a single C1 byte. Of what carries words (OSC, DCS, APC, PM, SOS) the
# words go with it.
_TERMINAL_COMMAND = re.compile(
    "(?:\x1b\\[|\x9b)[0-?]{0,64}[ -/]{0,8}[@-~]"
    "|(?:\x1b[\\]PX^_]|[\x90\x98\x9d\x9e\x9f])[^\x07\x1b\x9c]{0,65536}(?:\x07|\x1b\\\\|\x9c)"
    "|\x1b[ -/]{0,8}[0-~]"
)


def is_blank(text: str) -> bool:
    """Whether there is nothing to be seen in a text: no character, or only white space and what is drawn as nothing."""
    return all(one.isspace() or is_invisible(one) for one in text)


def first_control_character(text: str) -> str | None:
    """The first control character of a text, as `U+0000`; tabs and line ends are none."""
    found = _CONTROL.search(text)
    return f"U+{ord(found.group()):04X}" if found else None


def is_invisible(character: str) -> bool:
    """Whether a character is drawn as nothing; white space is seen."""
    if character.isspace():
        return False
    return unicodedata.category(character) in _INVISIBLE_CATEGORIES or _INVISIBLE_LETTERS.match(character) is not None


def visible_text(text: str) -> str:
    """The same text as a reader sees it: without commands to terminals and without what is drawn as nothing.

    White space of every kind is a plain space; a control character that is none becomes one too, for it may part words.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(map(_visible_character, _TERMINAL_COMMAND.sub("", text)))


def one_line(text: str, limit: int) -> str:
    """Text of somebody else's as one line that is safe to show, to log and to hand on: as seen, in at most `limit`
    characters.
    """
    # What is removed may be many times what stays; and a hostile megabyte must be cheap.
    line = " ".join(visible_text(text[: 4 * limit]).split())
    return line if len(line) <= limit else line[: limit - 1].rstrip() + ELLIPSIS


def escape_invisible(document: str) -> str:
    """A JSON document with every character that nobody sees escaped: the same values, and nothing for a terminal."""
    if document.isascii() and document.replace("\n", "").isprintable():
        return document
    return "".join(
        _escape_character(one) if one != "\n" and (is_invisible(one) or not one.isprintable()) else one
        for one in document
    )


def limit_json_value(value: object, items: int, length: int) -> object:
    """A JSON value of somebody else's, cleaned and in bounds: no more than so many values, none deeper than a few.

    Args:
        value: what they said.
        items: how many values are kept, those inside others counted in; the first ones.
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
    """The same text with U+FFFD for each half character; its length stays."""
    return text if text.isascii() else _LONE_SURROGATE.sub("\ufffd", text)


def replace_lone_surrogates(value: object) -> object:
    """The same value with whole characters in every text of its lists and dictionaries."""
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
