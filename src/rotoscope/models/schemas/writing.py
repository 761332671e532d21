"""A manifest as TOML with comments: the same facts that it was made of, in the order in which a person reads them."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence

from rotoscope.contracts.characters import one_line
from rotoscope.models.manifest import Manifest

__all__ = ["write_manifest"]

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_LONGEST_COMMENT = 200  # characters
_HEADS = ("routes", "inputs", "outputs", "timing", "price", "example")


def write_manifest(manifest: Manifest, comments: Mapping[str, Sequence[str]]) -> str:
    """The text of a manifest file.

    Args:
        manifest: the facts.
        comments: lines to stand above a table, by its name (`inputs.NAME`, `outputs`, `price`); above all: "".
    """
    facts = manifest.model_dump(mode="json", exclude_defaults=True)
    lines = [*_comment_lines(comments.get("", ())), *_fact_lines({k: v for k, v in facts.items() if k not in _HEADS})]
    for route in facts["routes"]:
        lines += ["", *_comment_lines(comments.get("routes", ())), "[[routes]]", *_fact_lines(route)]
    for name, field in facts["inputs"].items():
        place = f"inputs.{name}"
        lines += ["", *_comment_lines(comments.get(place, ())), f"[inputs.{_key(name)}]", *_fact_lines(field)]
    lines += _left_out_lines(comments.get("inputs", ()))
    for table in ("outputs", "timing", "price", "example"):
        above = list(_comment_lines(comments.get(table, ())))
        if table in facts or table == "example":
            lines += ["", *above, f"[{table}]", *_fact_lines(facts.get(table, {}))]
        elif above:
            lines += ["", *above]
    return "\n".join(lines) + "\n"


def _left_out_lines(comments: Sequence[str]) -> list[str]:
    return ["", *_comment_lines(comments)] if comments else []


def _comment_lines(comments: Sequence[str]) -> Iterator[str]:
    for comment in comments:
        yield f"# {one_line(comment, _LONGEST_COMMENT)}".rstrip()


def _fact_lines(facts: Mapping[str, object]) -> Iterator[str]:
    for name, value in facts.items():
        yield f"{_key(name)} = {_value(value)}"


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else _text(name)


def _text(text: str) -> str:
    """A basic string: JSON's escapes are TOML's, but for DEL, which JSON leaves as it is."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _value(value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return _text(value)
        case float() if value.is_integer() and abs(value) < 2**53:
            return str(int(value))
        case int() | float():
            return repr(value)
        case Mapping():
            inner = ", ".join(f"{_key(str(name))} = {_value(one)}" for name, one in value.items())
            return f"{{ {inner} }}" if inner else "{}"
        case list() | tuple():
            return f"[{', '.join(_value(one) for one in value)}]"
    raise TypeError(f"{type(value)} is no value of TOML")
