"""How Replicate words an input that it refuses. Pure.

The words are those of the JSON schema validator that Replicate runs (gojsonschema). Public logs show `required` (told
of the object that lacks the field: "field": "input") and `enum`; the other kinds are written as that validator writes
them.
"""

import json
from collections.abc import Mapping
from typing import Any

from rotoscope_sandbox.models import Field, Model, Problem

__all__ = ["invalid_body"]

_MISSING = "missing"
_GIVEN = {"str": "string", "int": "integer", "float": "number", "bool": "boolean", "list": "array", "dict": "object"}
_EXPECTED = {"list": "array"}


def invalid_body(problems: list[Problem], model: Model | None, given: Mapping[str, Any]) -> dict[str, Any]:
    """`detail` and `invalid_fields` of a 422 reply.

    Args:
        problems: what is wrong.
        model: whose input it is; None where the request has no input at all.
        given: the input.
    """
    fields = [_field(one, None if model is None else model.fields.get(one.field), given) for one in problems]
    detail = "".join(f"- {one['field']}: {one['description']}\n" for one in fields)
    return {"detail": detail, "invalid_fields": fields}


def _field(problem: Problem, known: Field | None, given: Mapping[str, Any]) -> dict[str, str]:
    if problem.kind == _MISSING:
        # The object that lacks it is at fault; a request without an input lacks it in the body itself.
        where = "input" if known is not None else ""
        return {"type": "required", "field": where, "description": f"{problem.field} is required"}
    kind, words = _worded(problem, known, given.get(problem.field))
    return {"type": kind, "field": f"input.{problem.field}", "description": words}


def _worded(problem: Problem, known: Field | None, value: Any) -> tuple[str, str]:
    if known is None:
        return problem.kind, problem.message
    allowed = ", ".join(json.dumps(option, ensure_ascii=False) for option in known.options)
    expected, actual = _EXPECTED.get(known.type, known.type), _GIVEN.get(type(value).__name__, "null")
    words = {
        "literal_error": ("enum", f"{problem.field} must be one of the following: {allowed}"),
        "too_small": ("number_gte", f"Must be greater than or equal to {known.least}"),
        "too_large": ("number_lte", f"Must be less than or equal to {known.most}"),
        "too_long": ("array_max_items", f"Array must have at most {known.most} items"),
    }
    if problem.kind == "too_long" and isinstance(value, str):
        return "string_lte", f"String length must be less than or equal to {known.most}"
    if problem.kind.endswith("_type"):
        return "invalid_type", f"Invalid type. Expected: {expected}, given: {actual}"
    return words.get(problem.kind, (problem.kind, problem.message))
