"""JSON as editors write it, with comments and trailing commas: one member of one object is put in or taken out.

The text is made strict JSON of the same length (comments and trailing commas become blanks), which the standard library
checks; places that are found in it are places in the text. There is no library that changes such a text and keeps it.
"""

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from rotoscope.cli.clients.edits import Change, Data, EditRefused, Entry, Format, find_newline

__all__ = ["JSONC", "Oddity", "find_oddities", "put_member", "read_jsonc", "remove_member"]

Oddity = Literal["comment", "trailing comma", "byte order mark"]
"""What editors write and some readers of JSON refuse."""

_TOKEN = re.compile(r'"(?:[^"\\\n\r]|\\.)*"|//[^\n\r]*|/\*.*?\*/|[{}\[\],:]|[^\s{}\[\],:"/]+', re.DOTALL)
_MARK = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:]')
_BLANKS = " \t\r\n"
_COMMENT = re.compile(r"//[^\n\r]*|/\*.*?\*/", re.DOTALL)
_COMMENTS_BEHIND = re.compile(r"(?:[ \t]*/\*.*?\*/)*(?:[ \t]*//[^\n\r]*|[ \t]+(?=[\r\n]|$))?", re.DOTALL)
_DEFAULT_INDENT = "  "


@dataclass(frozen=True, slots=True)
class _Strict:
    """A text without comments and trailing commas, of the same length; and where those commas were."""

    text: str
    trailing_commas: frozenset[int]


@dataclass(frozen=True, slots=True)
class _Member:
    key: str
    key_start: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class _Object:
    """The places of an object: its braces and its members."""

    start: int
    close: int
    members: Sequence[_Member]

    def find(self, key: str) -> _Member | None:
        """The member of that key.

        Raises:
            EditRefused: there are several.
        """
        found = [member for member in self.members if member.key == key]
        if len(found) > 1:
            raise EditRefused(f"names {key} twice in one place")
        return found[0] if found else None


def read_jsonc(text: str) -> Data:
    """The data of a text; nothing where it holds nothing but blanks and comments.

    Raises:
        EditRefused: it is not JSON, or no object.
    """
    try:
        data = _parse(text)
    except json.JSONDecodeError as error:
        raise EditRefused(f"is not JSON (line {error.lineno}, column {error.colno}: {error.msg})") from None
    except (ValueError, RecursionError):
        raise EditRefused("is not JSON that can be read") from None
    if not isinstance(data, dict):
        raise EditRefused("holds no JSON object")
    return data


def find_oddities(text: str) -> Mapping[Oddity, int]:
    """The lines of the first comment and the first trailing comma of a text, counted from 1."""
    comments = (found.start() for found in _TOKEN.finditer(text) if found.group().startswith(("//", "/*")))
    places: dict[Oddity, int | None] = {
        "comment": next(comments, None),
        "trailing comma": min(_make_strict(text).trailing_commas, default=None),
    }
    return {oddity: text.count("\n", 0, place) + 1 for oddity, place in places.items() if place is not None}


def put_member(text: str, container: str, name: str, entry: Entry) -> Sequence[Change]:
    """The changes that put an entry at the end of a container, or in place of the one of its name."""
    strict = _make_strict(text)
    if not strict.text.strip(_BLANKS):
        newline = find_newline(text)
        gap = newline if text and not text.endswith("\n") else ""
        document = _render({container: {name: entry}}, _DEFAULT_INDENT, "", newline)
        return [Change(len(text), len(text), f"{gap}{document}{newline}")]
    root = _find_object(strict.text, strict.text.index("{"))
    held = root.find(container)
    if held is None:
        return _insert(text, strict, root, container, {name: entry})
    if strict.text[held.start] != "{":
        raise EditRefused(f"holds something else than servers under {container}")
    servers = _find_object(strict.text, held.start)
    former = servers.find(name)
    if former is None:
        return _insert(text, strict, servers, name, entry)
    indent = _indent_at(text, former.key_start)
    is_inline = "\n" not in text[servers.start : servers.close]
    rendered = _render_inline(entry) if is_inline else _render(entry, _unit_of(text, root), indent, find_newline(text))
    return [Change(former.start, former.end, rendered)]


def remove_member(text: str, container: str, name: str, with_container: bool) -> Sequence[Change]:
    """The changes that take an entry out; where asked, with a container in which nothing else is."""
    strict = _make_strict(text)
    root = _find_object(strict.text, strict.text.index("{"))
    held = root.find(container)
    if held is None:
        return []
    servers = _find_object(strict.text, held.start)
    member = servers.find(name)
    if member is None:
        return []
    inner = text[servers.start : member.key_start] + text[member.end : servers.close]
    if with_container and len(servers.members) == 1 and not _COMMENT.search(inner):
        return _take_out(text, strict, root, held)
    return _take_out(text, strict, servers, member)


JSONC = Format(read_jsonc, put_member, remove_member)


def _refuse_constant(name: str) -> object:
    raise ValueError(name)


def _parse(text: str) -> object:
    """The value of a text; what is plain JSON, such as the long history of Claude Code, is read as that at once."""
    with suppress(ValueError):
        return json.loads(text, parse_constant=_refuse_constant)
    strict = _make_strict(text).text
    return json.loads(strict, parse_constant=_refuse_constant) if strict.strip(_BLANKS) else {}


def _make_strict(text: str) -> _Strict:
    characters, trailing = list(text), set()
    before_last, last, last_place = "", "", 0
    for token in _TOKEN.finditer(text):
        word = token.group()
        if word.startswith(("//", "/*")):
            for place in range(token.start(), token.end()):
                if characters[place] not in "\r\n":
                    characters[place] = " "
            continue
        if word in {"}", "]"} and last == "," and before_last not in {"{", "[", ",", ":", ""}:
            characters[last_place] = " "
            trailing.add(last_place)
        before_last, last, last_place = last, word, token.start()
    return _Strict("".join(characters), frozenset(trailing))


def _find_object(strict: str, start: int) -> _Object:
    """The object that begins at a brace of a text that is known to be JSON."""
    members: list[_Member] = []
    key: re.Match[str] | None = None
    depth = value_start = 0

    def end_member(place: int) -> None:
        nonlocal key
        if key is not None:
            begin = value_start + len(strict[value_start:place]) - len(strict[value_start:place].lstrip(_BLANKS))
            end = value_start + len(strict[value_start:place].rstrip(_BLANKS))
            members.append(_Member(json.loads(key.group()), key.start(), begin, end))
            key = None

    for mark in _MARK.finditer(strict, start + 1):
        sign = mark.group()
        if sign in {"{", "["}:
            depth += 1
        elif sign in {"}", "]"} and depth:
            depth -= 1
        elif sign == "}":
            end_member(mark.start())
            return _Object(start, mark.start(), members)
        elif depth == 0 and sign == ",":
            end_member(mark.start())
        elif depth == 0 and sign == ":":
            value_start = mark.end()
        elif depth == 0 and key is None:
            key = mark
    raise EditRefused("is not JSON that can be read")


def _insert(text: str, strict: _Strict, into: _Object, key: str, value: object) -> Sequence[Change]:
    """The changes that add a member as the last one of an object."""
    newline, label = find_newline(text), f"{json.dumps(key, ensure_ascii=False)}: "
    unit = _unit_of(text, _find_object(strict.text, strict.text.index("{")))
    if not into.members:
        return _insert_only(text, into, label, value, unit)
    last = into.members[-1]
    trailing = next((place for place in strict.trailing_commas if last.end <= place < into.close), None)
    after = last.end if trailing is None else trailing + 1
    if "\n" not in text[into.start : last.key_start]:
        added = label + _render_inline(value)
        return [Change(after, after, f", {added}" if trailing is None else f" {added},")]
    indent = _indent_at(text, last.key_start)
    body = f"{newline}{indent}{label}{_render(value, unit, indent, newline)}"
    place = _skip_comments(text, after)
    if trailing is not None:
        return [Change(place, place, f"{body},")]
    return [Change(last.end, last.end, ","), Change(place, place, body)]


def _insert_only(text: str, into: _Object, label: str, value: object, unit: str) -> Sequence[Change]:
    """The change that puts a member into an object that has none."""
    newline, inner = find_newline(text), text[into.start + 1 : into.close]
    if "\n" not in text.strip():
        return [Change(into.close, into.close, label + _render_inline(value))]
    base = _indent_at(text, into.start)
    body = f"{newline}{base}{unit}{label}{_render(value, unit, base + unit, newline)}"
    comments = list(_COMMENT.finditer(inner))
    place = into.start + 1 + (comments[-1].end() if comments else 0)
    ends_line = "\n" in text[place : into.close]
    return [Change(place, place, body if ends_line else f"{body}{newline}{base}")]


def _take_out(text: str, strict: _Strict, holder: _Object, member: _Member) -> Sequence[Change]:
    """The changes that remove a member, one comma, and the line that it began."""
    place = list(holder.members).index(member)
    line = _line_begin(text, member.key_start, holder.start)
    blanks = member.key_start - len(text[: member.key_start].rstrip(" \t"))
    comma = _comma_behind(strict, member.end, holder)
    if comma is not None and line is not None:
        return [Change(line, comma + 1, "")]
    if comma is not None and place == len(holder.members) - 1:
        return [Change(member.key_start - blanks, comma + 1, "")]
    if comma is not None:
        rest = text[comma + 1 : holder.close]
        return [Change(member.key_start, comma + 1 + len(rest) - len(rest.lstrip(" \t")), "")]
    if place:
        former = strict.text.index(",", holder.members[place - 1].end)
        begin = member.key_start - blanks if line is None else line
        return [Change(former, former + 1, ""), Change(begin, member.end, "")]
    is_alone = line == holder.start + 1 and not text[member.end : holder.close].strip()
    return [Change(member.key_start if line is None else line, holder.close if is_alone else member.end, "")]


def _comma_behind(strict: _Strict, end: int, holder: _Object) -> int | None:
    for place in range(end, holder.close):
        if strict.text[place] == "," or place in strict.trailing_commas:
            return place
    return None


def _line_begin(text: str, key_start: int, holder_start: int) -> int | None:
    """Where the line before a member's ends, if the member begins its line."""
    before = text[holder_start + 1 : key_start].rstrip(" \t")
    if not before.endswith("\n"):
        return None
    return holder_start + 1 + len(before) - (2 if before.endswith("\r\n") else 1)


def _skip_comments(text: str, place: int) -> int:
    """Past the comments that follow on the same line."""
    found = _COMMENTS_BEHIND.match(text, place)
    return found.end() if found else place


def _indent_at(text: str, place: int) -> str:
    """The blanks that the line of a place begins with."""
    begin = text.rfind("\n", 0, place) + 1
    line = text[begin:place]
    return line[: len(line) - len(line.lstrip(" \t"))]


def _unit_of(text: str, root: _Object) -> str:
    """By how much the text indents."""
    for member in root.members:
        if "\n" in text[root.start : member.key_start] and (indent := _indent_at(text, member.key_start)):
            return indent
    return _DEFAULT_INDENT


def _render(value: object, unit: str, indent: str, newline: str) -> str:
    """A value over several lines; what holds no table stands on one."""
    if not isinstance(value, Mapping) or not value:
        return _render_inline(value)
    inner = indent + unit
    lines = [f"{inner}{json.dumps(key)}: {_render(one, unit, inner, newline)}" for key, one in value.items()]
    return f"{{{newline}{f',{newline}'.join(lines)}{newline}{indent}}}"


def _render_inline(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
