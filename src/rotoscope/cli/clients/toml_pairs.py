"""Where the keys and values of a TOML text stand, in its tables and in tables that are written in one line.

The texts are known to be TOML, so it is enough to find their tokens.
"""

import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["Pair", "find_members", "find_statements"]

_TOKEN = re.compile(
    r'"""(?:[^\\]|\\.)*?"{3,5}|'
    r"'''.*?'{3,5}|"
    r"""
    "(?:[^"\\\n]|\\.)*" | '[^'\n]*' | \#[^\n]* | \n | [{}\[\],=] | [^\s{}\[\],="'\#]+
    """.strip(),
    re.DOTALL | re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class Pair:
    """A key with its value.

    Attributes:
        path: the whole key: that of its table, and its own parts.
        start: where its own key begins.
        value: where its value begins.
        end: behind its value.
        is_in_table: whether it stands below the header of a table.
    """

    path: tuple[str, ...]
    start: int
    value: int
    end: int
    is_in_table: bool = False


def find_statements(text: str) -> Iterator[Pair]:
    """The pairs that stand on lines of their own."""
    table: tuple[str, ...] = ()
    has_table = False
    line: list[re.Match[str]] = []
    for token, depth in [*_tokens(text, 0), (None, 0)]:
        if token is not None and (depth or token.group() != "\n"):
            line += [] if token.group()[0] in "#\n" else [token]
            continue
        if line and line[0].group() == "[":
            table, has_table = _read_path(text[line[0].start() : line[-1].end()]), True
        elif line:
            yield _make_pair(text, line, table, has_table)
        line = []


def find_members(text: str, start: int) -> tuple[Pair, ...]:
    """The pairs of a table that is written between braces, of which the first is at `start`."""
    members: list[Pair] = []
    part: list[re.Match[str]] = []
    for token, depth in _tokens(text, start):
        sign = token.group()
        if token.start() == start or sign[0] in "#\n":
            continue
        if (depth == 1 and sign == ",") or depth == 0:
            members += [_make_pair(text, part, (), False)] if part else []
            part = []
        else:
            part.append(token)
        if depth == 0:
            break
    return tuple(members)


def _tokens(text: str, start: int) -> Iterator[tuple[re.Match[str], int]]:
    """The tokens from a place on, each with the number of brackets that are open behind it."""
    depth = 0
    for token in _TOKEN.finditer(text, start):
        depth += {"{": 1, "[": 1, "}": -1, "]": -1}.get(token.group(), 0)
        yield token, depth


def _make_pair(text: str, tokens: list[re.Match[str]], table: tuple[str, ...], has_table: bool) -> Pair:
    sign = next(number for number, token in enumerate(tokens) if token.group() == "=")
    start = tokens[0].start()
    path = _read_path(f"{text[start : tokens[sign].start()]}= 0")
    return Pair((*table, *path), start, tokens[sign + 1].start(), tokens[-1].end(), has_table)


def _read_path(statement: str) -> tuple[str, ...]:
    """The parts of the one key that a statement has."""
    path: list[str] = []
    value: object = tomllib.loads(statement)
    while isinstance(value, dict) and value:
        ((key, value),) = value.items()
        path.append(key)
    return tuple(path)
