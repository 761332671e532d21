"""A TOML file of facts as a checked record, with an error that names the file and the fact."""

import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from rotoscope.errors import InvalidInput

__all__ = ["parse_toml", "validate_facts"]

Shape = TypeVar("Shape", bound=BaseModel)
_TYPE_SUFFIX = re.compile(r"bool|int|float|str|list\[.*")  # what pydantic adds to the place of a fact of several kinds


def parse_toml(file: Path) -> dict[str, object]:
    """The tables of a TOML file.

    Raises:
        InvalidInput: it cannot be read, or is not TOML; the message names the file.
    """
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{file.name} cannot be read.", hint="Give the path of a TOML file.") from error
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise InvalidInput(f"{file.name} is not TOML: {str(error)[:300]}.", hint="Correct the file.") from error


def validate_facts(shape: type[Shape], data: Mapping[str, object], file: Path) -> Shape:
    """The record that the tables of a file make.

    Raises:
        InvalidInput: a fact is wrong; the message names the file and the fact.
    """
    try:
        return shape.model_validate(data)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False, include_context=False)
        # A value of a union is wrong in each of its types; "nan or inf" explains more than "no valid text".
        first = next((one for one in found if one["type"] == "finite_number"), found[0])
        where = _fact_path(first["loc"])
        reason = first["msg"].removeprefix("Value error, ")
        raise InvalidInput(f"{file.name}: {where}: {reason}.", hint="Correct the manifest.") from None


def _fact_path(loc: Sequence[int | str]) -> str:
    """The place of a fact, without the types that pydantic adds. An input may be named like a type, so the first three
    parts always count.
    """
    tables = 3  # inputs, its name, the fact
    return ".".join(str(part) for n, part in enumerate(loc) if n < tables or not _TYPE_SUFFIX.fullmatch(str(part)))
