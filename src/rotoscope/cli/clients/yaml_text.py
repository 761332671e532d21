"""YAML: one entry of one mapping is put in or taken out; ruamel.yaml says where things stand, and the rest is kept."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rotoscope.cli.clients.edits import Change, Data, EditRefused, Entry, Format, find_newline

if TYPE_CHECKING:
    from ruamel.yaml.nodes import MappingNode, Node

__all__ = ["YAML_FORMAT", "put_key", "read_yaml", "remove_key"]

_PLAIN = re.compile(r"[A-Za-z_/][A-Za-z0-9_./-]*")
_WORDS = {"true", "false", "null", "yes", "no", "on", "off", "y", "n"}
_INDENT = "  "
_MAX_CHARACTERS = 256 * 1024  # a second of reading


def read_yaml(text: str) -> Data:
    """The data of a text; nothing where it holds nothing but blanks and comments.

    Raises:
        EditRefused: it is not YAML, or no mapping.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    if len(text) > _MAX_CHARACTERS:
        raise EditRefused("is larger than any such file")
    try:
        data: Any = YAML(typ="safe", pure=True).load(text)
    except YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        at = "" if mark is None else f" (line {mark.line + 1}, column {mark.column + 1})"
        raise EditRefused(f"is not YAML{at}") from None
    except (ValueError, RecursionError):
        raise EditRefused("is not YAML that can be read") from None
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise EditRefused("holds no YAML mapping")
    return data


def put_key(text: str, container: str, name: str, entry: Entry) -> Sequence[Change]:
    """The changes that put an entry at the end of a mapping, or in place of the one of its name."""
    newline, root = find_newline(text), _compose(text)
    if root is None:
        gap = newline if text and not text.endswith("\n") else ""
        block = newline.join(_block_lines(container, {name: entry}, ""))
        return [Change(len(text), len(text), f"{gap}{block}{newline}")]
    found = _find(root, container)
    if found is None:
        return [_append(text, root, container, {name: entry})]
    key, value = found
    if _is_empty(value):
        indent = " " * key.start_mark.column + _INDENT
        block = newline + newline.join(_block_lines(name, entry, indent))
        start, end = value.start_mark.index, value.end_mark.index
        if start == end:
            start = end = _line_end(text, text.index(":", key.end_mark.index))
        return [Change(start, end, block)]
    former = _find(value, name)
    return [_append(text, value, name, entry) if former is None else _replace(text, value, former, entry)]


def remove_key(text: str, container: str, name: str, with_container: bool) -> Sequence[Change]:
    """The changes that take an entry out; where asked, with a mapping in which nothing else is."""
    root = _compose(text)
    held = None if root is None else _find(root, container)
    if root is None or held is None or _is_empty(held[1]):
        return []
    found = _find(held[1], name)
    if found is None:
        return []
    if with_container and len(held[1].value) == 1:
        return [_take_out(text, root, held)]
    return [_take_out(text, held[1], found)]


YAML_FORMAT = Format(read_yaml, put_key, remove_key)
Pair = tuple["Node", Any]


def _compose(text: str) -> "MappingNode | None":
    """The places of what a text that can be read holds; None for nothing."""
    from ruamel.yaml import YAML
    from ruamel.yaml.nodes import MappingNode

    node = YAML(typ="safe", pure=True).compose(text)
    return node if isinstance(node, MappingNode) else None


def _find(mapping: "MappingNode", key: str) -> Pair | None:
    return next((pair for pair in mapping.value if pair[0].value == key), None)


def _is_empty(node: Any) -> bool:
    return bool(node.id == "scalar")  # a container is read as a mapping or null: `edits` has looked


def _append(text: str, mapping: "MappingNode", key: str, value: Entry) -> Change:
    if mapping.flow_style:
        place = mapping.end_mark.index - 1
        before = text[mapping.start_mark.index + 1 : place].rstrip()
        place = mapping.start_mark.index + 1 + len(before)
        if before.endswith(","):
            return Change(place, place, f" {_render_flow(key, value)},")
        return Change(place, place, (", " if before else "") + _render_flow(key, value))
    newline, column = find_newline(text), mapping.value[0][0].start_mark.column
    place = _content_end(text, mapping.value[-1])
    block = newline.join(_block_lines(key, value, " " * column))
    ends_text = "" if text[place:] else newline
    return Change(place, place, f"{newline}{block}{ends_text}")


def _replace(text: str, mapping: "MappingNode", former: Pair, entry: Entry) -> Change:
    name, start = str(former[0].value), former[0].start_mark.index
    if mapping.flow_style:
        return Change(start, former[1].end_mark.index, _render_flow(name, entry))
    block = find_newline(text).join(_block_lines(name, entry, " " * former[0].start_mark.column)).lstrip(" ")
    return Change(start, _content_end(text, former), block)


def _take_out(text: str, mapping: "MappingNode", pair: Pair) -> Change:
    start, end = pair[0].start_mark.index, _content_end(text, pair)
    if mapping.flow_style:
        end = pair[1].end_mark.index
        number = mapping.value.index(pair)
        if text[end:].lstrip().startswith(","):
            start = len(text[:start].rstrip(" "))
            return Change(start, text.index(",", end) + 1, "")
        return Change(int(mapping.value[number - 1][1].end_mark.index) if number else start, end, "")
    line = text.rfind("\n", 0, start)
    if line < 0:
        return Change(0, end + len(text[end:]) - len(text[end:].lstrip("\r\n")), "")
    if text[line + 1 : start].strip():
        raise EditRefused("has something before the entry on its line")
    return Change(line - 1 if text[line - 1 : line] == "\r" else line, end, "")


def _content_end(text: str, pair: Pair) -> int:
    """The end of the line on which the last thing of a key and its value stands, with the comment there."""
    key, value = pair
    while value.id != "scalar" and not value.flow_style and value.value:
        last = value.value[-1]
        key, value = last if isinstance(last, tuple) else (last, last)
    end = max(int(value.end_mark.index), int(key.end_mark.index))
    return _line_end(text, len(text[:end].rstrip()))


def _line_end(text: str, place: int) -> int:
    end = text.find("\n", place)
    if end < 0:
        return len(text)
    return end - 1 if text[end - 1] == "\r" else end


def _block_lines(key: str, value: object, indent: str) -> Iterator[str]:
    if isinstance(value, Mapping) and value:
        yield f"{indent}{_render_scalar(key)}:"
        for inner, one in value.items():
            yield from _block_lines(inner, one, indent + _INDENT)
    elif isinstance(value, list | tuple) and value:
        yield f"{indent}{_render_scalar(key)}:"
        yield from (f"{indent}- {_render_scalar(one)}" for one in value)
    else:
        yield f"{indent}{_render_scalar(key)}: {_render_scalar(value)}"


def _render_scalar(value: object) -> str:
    if isinstance(value, str) and _PLAIN.fullmatch(value) and value.lower() not in _WORDS:
        return value
    return json.dumps(value, ensure_ascii=False)


def _render_flow(key: str, value: Entry) -> str:
    return f"{_render_scalar(key)}: {json.dumps(value, ensure_ascii=False)}"
