"""Numbers that providers write as text, and texts that mean a number: "5", "10", "8s", "1080p", "24fps". Pure.

A manifest shows how in one of three ways: by its choices ("5", "10"), by its aliases ("-1" is "auto"), or by a
`spelling` such as "{}s" with a range.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Protocol

__all__ = ["SpellingFacts", "format_number", "parse_size", "read_number", "spell_value"]

# A number and its unit. "4k" and "2M" are magnitudes: their number is another one.
_AMOUNT = re.compile(r"(-?[0-9]{1,15}(?:\.[0-9]{1,9})?) ?(?![kKmM]$)[A-Za-z]{0,12}", re.ASCII)
_SIZE = re.compile(r"([1-9][0-9]{0,5})[*x]([1-9][0-9]{0,5})", re.ASCII)

Plain = bool | int | float | str


class SpellingFacts(Protocol):
    """The facts of an input that say how its values are written."""

    @property
    def spelling(self) -> str | None: ...
    @property
    def choices(self) -> Sequence[Plain]: ...
    @property
    def aliases(self) -> Mapping[str, Plain]: ...


def spell_value(facts: SpellingFacts, value: bool | float) -> Plain:
    """How a text input of a model writes a number, or a truth value.

    Returns:
        What the manifest says. A value for which it says nothing is returned as it is; where the manifest has choices
        and none fits, as plain text, so that it can be compared with them.
    """
    text = str(value).lower() if isinstance(value, bool) else format_number(value)
    if text in facts.aliases:
        return facts.aliases[text]
    if text in facts.choices:
        return text
    if isinstance(value, bool):
        return value
    if facts.spelling is not None:
        return facts.spelling.replace("{}", text)
    same = [one for one in facts.choices if isinstance(one, str) and _amount_of(one) == value]
    if len(same) == 1:
        return same[0]
    return text if facts.choices else value


def read_number(facts: SpellingFacts, text: str) -> float | None:
    """The number that a text means to an input; None where it means none.

    A plain numeral always does; one with a unit does where the `spelling` or a choice has that very unit or number.
    """
    plain = text.strip()
    if (amount := _plain_number(plain)) is not None:
        return amount
    if facts.spelling is not None:
        before, _, after = facts.spelling.partition("{}")
        if plain.startswith(before) and plain.endswith(after):
            return _plain_number(plain[len(before) : len(plain) - len(after)].strip())
        return None
    amount = _amount_of(plain)
    return amount if amount is not None and (text in facts.choices or amount in facts.choices) else None


def _amount_of(text: str) -> float | None:
    known = _AMOUNT.fullmatch(text.strip())
    return _plain_number(known[1]) if known else None


def _plain_number(text: str) -> float | None:
    known = re.fullmatch(r"-?[0-9]{1,15}(\.[0-9]{1,9})?", text, re.ASCII)
    if known is None:
        return None
    return float(text) if known[1] else int(text)


def format_number(number: float) -> str:
    """A number as a person writes it: 2147483647 and not 2.14748e+09, 5 and not 5.0."""
    return str(int(number)) if number == int(number) else f"{number:g}"


def parse_size(text: str) -> tuple[int, int] | None:
    """Width and height in pixels of "832*480" or "832x480"; None for any other text."""
    known = _SIZE.fullmatch(text)
    return (int(known[1]), int(known[2])) if known else None
