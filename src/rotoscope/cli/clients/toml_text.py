"""TOML: one table of tables is put at the end of a text, or taken out of it.

A new table may stand at the end of nearly every TOML text, and a table ends where the next one begins, so nothing else
has to be touched. Whether a line that looks like a header is one is asked of the parser: all before it must be whole.
Only where the servers are written between braces, or by dotted keys, a new one has to stand among them.
"""

import json
import tomllib
from collections.abc import Iterator, Mapping, Sequence

from rotoscope.cli.clients.edits import Change, Data, EditRefused, Entry, Format, find_newline
from rotoscope.cli.clients.toml_pairs import Pair, find_members, find_statements

__all__ = ["TOML", "put_table", "read_toml", "remove_table"]


def read_toml(text: str) -> Data:
    """The data of a text.

    Raises:
        EditRefused: it is not TOML.
    """
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise EditRefused(f"is not TOML ({_first_line(error)})") from None


def put_table(text: str, container: str, name: str, entry: Entry) -> Sequence[Change]:
    """The changes that put a table at the end of a text, or in place of the one of its name."""
    newline = find_newline(text)
    spans = _table_spans(text, container, name)
    block = newline.join(_table_lines((container, name), entry))
    if spans:
        first, *others = spans
        return [Change(*first, block + newline), *(Change(*other, "") for other in others)]
    near = _put_among_pairs(text, container, name, entry)
    if near is not None:
        return [near]
    gap = "" if not text.strip() else newline if text.endswith("\n") else newline * 2
    return [Change(len(text), len(text), f"{gap}{block}{newline}")]


def remove_table(text: str, container: str, name: str, with_container: bool) -> Sequence[Change]:
    """The changes that take a table out, with those below it and one empty line before."""
    changes = []
    for start, end in _table_spans(text, container, name):
        before = text[:start]
        empty_line = next((one for one in ("\r\n", "\n") if before.endswith(one * 2) or before == one), "")
        changes.append(Change(start - len(empty_line), end, ""))
    return changes or _remove_among_pairs(text, container, name, with_container)


def _put_among_pairs(text: str, container: str, name: str, entry: Entry) -> Change | None:
    """The change where the servers are no tables with headers; None where a table at the end does."""
    value = _render_inline(entry)
    for pair in find_statements(text):
        if pair.path == (container, name):
            return Change(pair.value, pair.end, value)
        if pair.path == (container,) and text[pair.value] == "{":
            members = find_members(text, pair.value)
            former = next((one for one in members if one.path == (name,)), None)
            if former is not None:
                return Change(former.value, former.end, value)
            place = members[-1].end if members else pair.value + 1
            return Change(place, place, f"{', ' if members else ''}{_render_key(name)} = {value}")
        if pair.path[0] == container and not pair.is_in_table:
            # A header could not name a table that dotted keys have made.
            return Change(pair.start, pair.start, f"{container}.{_render_key(name)} = {value}{find_newline(text)}")
    return None


def _remove_among_pairs(text: str, container: str, name: str, with_container: bool) -> Sequence[Change]:
    for pair in find_statements(text):
        if pair.path == (container, name):
            return [_take_line(text, pair)]
        if pair.path != (container,) or text[pair.value] != "{":
            continue
        members = find_members(text, pair.value)
        number = next((number for number, one in enumerate(members) if one.path == (name,)), None)
        if number is None:
            continue
        if len(members) == 1:
            return [_take_line(text, pair) if with_container else Change(members[0].start, members[0].end, "")]
        if number:
            return [Change(members[number - 1].end, members[number].end, "")]
        return [Change(members[0].start, members[1].start, "")]
    return []


def _take_line(text: str, pair: Pair) -> Change:
    """Take out a statement with its line."""
    end = text.find("\n", pair.end)
    return Change(text.rfind("\n", 0, pair.start) + 1, len(text) if end < 0 else end + 1, "")


TOML = Format(read_toml, put_table, remove_table)


def _table_spans(text: str, container: str, name: str) -> list[tuple[int, int]]:
    """Where the table and those below it stand: from the header to behind the last line that says something."""
    spans: list[tuple[int, int]] = []
    lines = list(_lines(text))
    number = 0
    while number < len(lines):
        start, line = lines[number]
        number += 1
        if not _is_header_of(line, container, name) or not _is_whole(text[:start]):
            continue
        end = start + len(line)
        while number < len(lines) and not _is_next_table(text, *lines[number], (container, name)):
            start_of_line, line = lines[number]
            if line.strip() and not line.lstrip().startswith("#"):
                end = start_of_line + len(line)
            number += 1
        if spans and not text[spans[-1][1] : start].strip():
            spans[-1] = (spans[-1][0], end)
        else:
            spans.append((start, end))
    return spans


def _lines(text: str) -> Iterator[tuple[int, str]]:
    start = 0
    for line in text.split("\n"):
        whole = text[start : start + len(line) + 1]
        yield start, whole
        start += len(whole)


def _is_next_table(text: str, start: int, line: str, path: tuple[str, str]) -> bool:
    return line.lstrip().startswith("[") and not _is_header_of(line, *path) and _is_whole(text[:start])


def _is_header_of(line: str, container: str, name: str) -> bool:
    if not line.lstrip().startswith("["):
        return False
    try:
        servers = tomllib.loads(line).get(container)
    except (tomllib.TOMLDecodeError, RecursionError):
        return False
    return isinstance(servers, dict) and name in servers


def _is_whole(text: str) -> bool:
    try:
        tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError):
        return False
    return True


def _table_lines(path: tuple[str, ...], entry: Entry) -> Iterator[str]:
    yield f"[{'.'.join(map(_render_key, path))}]"
    tables = {key: value for key, value in entry.items() if isinstance(value, Mapping)}
    for key, value in entry.items():
        if key not in tables:
            yield f"{_render_key(key)} = {_render_value(value)}"
    for key, table in tables.items():
        if table:
            yield ""
            yield from _table_lines((*path, key), table)


def _render_key(key: str) -> str:
    is_bare = key.isascii() and key.replace("-", "").replace("_", "").isalnum()
    return key if is_bare else _render_value(key)


def _render_inline(entry: Entry) -> str:
    """A table between braces, on one line as TOML wants it; what is an empty table says nothing."""
    fields = (
        f"{_render_key(key)} = {_render_inline(value) if isinstance(value, Mapping) else _render_value(value)}"
        for key, value in entry.items()
        if value != {}
    )
    return f"{{ {', '.join(fields)} }}"


def _render_value(value: object) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_render_value, value))}]"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
