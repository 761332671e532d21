"""Why arguments are refused: one sentence about the first that is wrong, and the next step."""

import difflib
from collections.abc import Mapping

from pydantic import BaseModel, ValidationError

from rotoscope.errors import InvalidInput

__all__ = ["invalid_argument_error", "unknown_argument_error"]


def unknown_argument_error(shape: type[BaseModel], name: str, where: str = "") -> InvalidInput:
    """The refusal of an argument that a record does not have, with the nearest name that it has.

    Args:
        shape: the record.
        name: the name that was given.
        where: the same with the argument that it is part of.
    """
    known = list(shape.model_fields)
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"Did you mean {near[0]!r}?" if near else f"Known arguments: {', '.join(known)}."
    return InvalidInput(f"There is no argument {(where or name)[:80]!r}.", hint=hint)


def invalid_argument_error(
    error: ValidationError, records: Mapping[str, type[BaseModel]], shapes: Mapping[str, str]
) -> InvalidInput:
    """The refusal of arguments that pydantic refuses: one sentence about the first of them that is wrong.

    Args:
        error: what pydantic says.
        records: the arguments that are records, or lists of these.
        shapes: the arguments that may have one of several shapes, each with these in words.
    """
    first = error.errors(include_input=False, include_url=False, include_context=False)[0]
    where = ".".join(str(part) for part in first["loc"]) or "arguments"
    if first["loc"] and (expected := shapes.get(str(first["loc"][0]))):
        return InvalidInput(f"The argument {str(first['loc'][0])!r} is wrong.", hint=f"Give {expected}.")
    if first["type"] == "missing":
        return InvalidInput(f"The argument {where!r} is missing.", hint=f"Call again with {where!r}.")
    record = records.get(str(first["loc"][0])) if first["loc"] else None
    if first["type"] == "extra_forbidden" and record is not None:
        return unknown_argument_error(record, str(first["loc"][-1]), where)
    if first["type"] == "model_type" and record is not None:
        keys = ", ".join(record.model_fields)
        return InvalidInput(f"The argument {where!r} is wrong: it is not an object.", hint=f"Give one with {keys}.")
    reason = first["msg"].removeprefix("Value error, ")
    return InvalidInput(f"The argument {where!r} is wrong: {reason}.", hint="Correct it and call again.")
