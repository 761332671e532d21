"""JSON schemas that every client accepts: one flat object, no titles, no null branches, no unions of objects."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from rotoscope.contracts.arguments import UNLISTED, Arguments

__all__ = ["input_schema", "output_schema"]

# Titles repeat names. Defaults and limits stand in the descriptions, because some clients strip the keywords;
# what a keyword only repeats is left out, because every word here is read in every conversation.
_DROPPED_KEYWORDS = frozenset(
    {"title", "default", "additionalProperties", "$defs", "minLength", "maxLength", "maxItems", "minimum", "maximum"}
)
_NULL = {"type": "null"}
_STABLE_FIELDS = {"job_id": "string", "ticket": "string", "status": "string", "jobs": "array"}
"""What is promised of results: that by which one goes on."""


def input_schema(shape: type[Arguments]) -> dict[str, object]:
    """The JSON schema of a tool's arguments but for the unlisted: complete in itself, and as short as it can be."""
    full = shape.model_json_schema()
    schema = _trim_schema(full, full.get("$defs", {}))
    schema.pop("description", None)
    return schema


def output_schema(shape: type[BaseModel]) -> dict[str, object]:
    """The JSON schema of a result with only the fields that a next call needs.

    The whole schema of a result is some thousand tokens. A client that hands it to its model pays for it with every
    request, and none was seen to make use of it: results are JSON that explains itself.
    """
    promised = {name: {"type": kind} for name, kind in _STABLE_FIELDS.items() if name in shape.model_fields}
    return {"type": "object", "properties": promised}


def _trim_schema(schema: Mapping[str, Any], shared: Mapping[str, Any]) -> dict[str, Any]:
    """A schema without what is dropped; a reference becomes the thing itself."""
    kept = {key: value for key, value in schema.items() if key not in _DROPPED_KEYWORDS}
    branches = [branch for branch in kept.pop("anyOf", []) if branch != _NULL]
    if len(branches) == 1:
        kept = {**branches[0], **kept}
    elif branches:
        kept["anyOf"] = [_trim_schema(branch, shared) for branch in branches]
    if "$ref" in kept:
        # The description of a record is for its readers in Python; that of the argument stays.
        record = dict(shared[kept.pop("$ref").rpartition("/")[2]])
        record.pop("description", None)
        kept = {**record, **kept}
    if "properties" in kept:
        listed = {name: field for name, field in kept["properties"].items() if UNLISTED not in field}
        kept["properties"] = {name: _trim_schema(field, shared) for name, field in listed.items()}
    if "items" in kept:
        kept["items"] = _trim_schema(kept["items"], shared)
    wanted = {key: value for key, value in kept.items() if key not in _DROPPED_KEYWORDS}
    return {key: wanted[key] for key in sorted(wanted, key=lambda key: key != "description")}
