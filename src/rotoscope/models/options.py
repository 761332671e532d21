"""Options: inputs of a model that a caller fills by the provider's own names, beside the arguments of the tool. Pure.

An input that an option fills gets an argument of its own, `options.NAME`. So everything that is checked of arguments is
checked of options by the same code: type, range, choices, length, what must and may not go together, and media.
"""

import difflib
import json
from collections.abc import Mapping

from rotoscope.errors import InvalidInput
from rotoscope.models.manifest import Input, Manifest
from rotoscope.providers.http.messages import Json

__all__ = ["OPTIONS_ARGUMENT", "apply_options", "option_names"]

OPTIONS_ARGUMENT = "options"
"""The tool argument that holds them."""

_MAX_SHOWN_NAMES = 40  # names of inputs in a message
_MAX_SHOWN_CHARACTERS = 60  # characters of a name that does not exist


def option_names(manifest: Manifest, asked: Mapping[str, Json]) -> tuple[str, ...]:
    """The inputs that options may fill beside these arguments, by name."""
    return tuple(name for name, field in manifest.inputs.items() if not _is_given(field, asked))


def apply_options(manifest: Manifest, asked: Mapping[str, Json]) -> tuple[Manifest, dict[str, Json]]:
    """Give every input that an option fills an argument of its own.

    Args:
        manifest: the model.
        asked: the arguments by name, the options among them.

    Returns:
        The manifest by which to plan, and the arguments with each option as `options.NAME`, in place of the options.

    Raises:
        InvalidInput: the model has no such input, or an argument fills it too; names the option.
    """
    options = asked.get(OPTIONS_ARGUMENT)
    rest = {name: value for name, value in asked.items() if name != OPTIONS_ARGUMENT}
    if not isinstance(options, dict) or not options:
        return manifest, rest
    changed: dict[str, Input] = {}
    for name, value in options.items():
        field = _find_input(manifest, name, rest)
        argument = f"{OPTIONS_ARGUMENT}.{name}"
        # The value is in the provider's form already, so no encoder shapes it.
        changed[name] = field.model_copy(update={"argument": argument, "encode": None})
        rest[argument] = _read_object(value) if field.kind == "object" else value
    # In the order of the manifest, as without options.
    inputs = {name: changed.get(name, field) for name, field in manifest.inputs.items()}
    return manifest.model_copy(update={"inputs": inputs}), rest


def _find_input(manifest: Manifest, name: str, asked: Mapping[str, Json]) -> Input:
    field = manifest.inputs.get(name)
    if field is None:
        raise InvalidInput(
            f"{manifest.id} has no input for the option {name[:_MAX_SHOWN_CHARACTERS]!r}.",
            hint=_hint_for_unknown(manifest, name, asked),
        )
    if _is_given(field, asked):
        raise InvalidInput(
            f"The option {name!r} and the argument {field.argument!r} fill the same input.", hint="Give one of them."
        )
    return field


def _is_given(field: Input, asked: Mapping[str, Json]) -> bool:
    return field.argument is not None and asked.get(field.argument) not in (None, "", [])


def _hint_for_unknown(manifest: Manifest, name: str, asked: Mapping[str, Json]) -> str:
    if any(field.argument == name for field in manifest.inputs.values()):
        return f"{name!r} is an argument of the tool: give it beside the options."
    names = option_names(manifest, asked)
    near = difflib.get_close_matches(name, names, n=1)
    meant = f"Did you mean {near[0]!r}? " if near else ""
    left = len(names) - _MAX_SHOWN_NAMES
    more = f" and {left} more" if left > 0 else ""
    return f"{meant}Options it takes: {', '.join(names[:_MAX_SHOWN_NAMES]) or 'none'}{more}."


def _read_object(value: Json) -> Json:
    """The value of a JSON text; assistants send one where an object is wanted."""
    if isinstance(value, str) and value.lstrip().startswith(("[", "{")):
        try:
            parsed: Json = json.loads(value)
        except (ValueError, RecursionError):
            return value
        return parsed
    return value
