"""Input schemas as every client can bear them: one flat object, no titles, no null branches, no unions of objects."""

from collections.abc import Mapping
from typing import Any

from rotoscope.contracts.arguments import Arguments

__all__ = ["input_schema"]

# Titles repeat names, and the descriptions tell the defaults: some clients strip the keyword.
_DROPPED = frozenset({"title", "default", "additionalProperties"})
_NULL = {"type": "null"}


def input_schema(shape: type[Arguments]) -> dict[str, object]:
    """The JSON schema of a tool's arguments."""
    schema = _trimmed(shape.model_json_schema())
    schema.pop("description", None)
    return {**schema, "additionalProperties": False}


def _trimmed(schema: Mapping[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in schema.items() if key not in _DROPPED}
    branches = [branch for branch in kept.pop("anyOf", []) if branch != _NULL]
    if len(branches) == 1:
        kept = {**branches[0], **kept}
    elif branches:
        kept["anyOf"] = [_trimmed(branch) for branch in branches]
    for named in ("properties", "$defs"):
        if named in kept:
            kept[named] = {name: _trimmed(field) for name, field in kept[named].items()}
    if "items" in kept:
        kept["items"] = _trimmed(kept["items"])
    return kept
