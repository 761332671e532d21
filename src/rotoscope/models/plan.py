"""The plan: from a tool's arguments to the exact input of one model, and what it will cost. Pure.

Bad values end here, before any money is spent.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast
from urllib.parse import urlsplit

from rotoscope.errors import InvalidInput
from rotoscope.models.awaited import is_awaited, read_awaited_output
from rotoscope.models.encoders import encode_argument, is_on_frame
from rotoscope.models.estimate import Estimate, MediaLength, estimate_price
from rotoscope.models.manifest import Input, Manifest, MediaKind, PromptKind, Route
from rotoscope.models.provider import Provider
from rotoscope.models.spelling import format_number, read_number, spell_value
from rotoscope.providers.http.messages import Json, measure_depth
from rotoscope.providers.states import Call

__all__ = [
    "CallPlan",
    "awaited_files",
    "check_value",
    "fill_arguments",
    "kept_files",
    "kind_of_input",
    "media_inputs",
    "plan_call",
    "prompt_kinds",
    "replace_media",
    "workload",
]

_NUMBERS = ("integer", "number")
_PADDING_SECONDS = 0.1  # codecs pad every file by some hundredths of a second
_VIDEO_ENDINGS = frozenset({"mp4", "mov", "webm", "mkv", "m4v", "avi"})
_MAX_SHOWN_CHARACTERS = 40  # characters of a number that is refused
_MAX_OBJECT_DEPTH, _MAX_OBJECT_LENGTH = 8, 20_000  # levels, and characters of JSON, of one object


@dataclass(frozen=True, slots=True)
class CallPlan:
    """A request that could be sent: the call, the seed in it, and what it will cost.

    Attributes:
        drawn_inputs: the inputs whose value was drawn, because the user gave none.
    """

    call: Call
    seed: int | None
    estimate: Estimate
    drawn_inputs: tuple[str, ...] = ()


def prompt_kinds(arguments: Mapping[str, Json]) -> frozenset[PromptKind]:
    """Which kinds of prompt the arguments hold."""
    given: dict[PromptKind, object] = {
        "text": arguments.get("instruction") or arguments.get("prompt"),
        "points": arguments.get("points"),
        "box": arguments.get("box"),
        "mask": arguments.get("mask"),
    }
    return frozenset(kind for kind, value in given.items() if value)


def plan_call(
    manifest: Manifest,
    route: Route,
    arguments: Mapping[str, Json],
    draw: Callable[[], int],
    media: Mapping[str, MediaLength] | None = None,
    *,
    provider: Provider | None = None,
    priced_as: Manifest | None = None,
) -> CallPlan:
    """Fill the model's inputs from the tool's arguments.

    Args:
        manifest: the model as the route has it (`Manifest.at`).
        route: the way to it.
        arguments: by name, None where not given; media as https URLs or `artifact://` links.
        draw: draws a seed; asked only when the model takes one and the user gave none.
        media: how long each medium lasts, by its link, as far as it is known.
        provider: the route's provider, where what it does at a deadline bounds the price.
        priced_as: the manifest by which the run is priced, where options have changed what fills the inputs.

    Raises:
        InvalidInput: a value is missing, out of range or at odds with another; names the tool's argument.
    """
    filled: dict[str, Json] = {}
    drawn = []
    for name, field in manifest.inputs.items():
        value = _fill_input(manifest, field, arguments, media or {})
        if field.drawn and value in (None, -1):
            # -1 means "any" to several models; a seed that we know is how a lost reply is found again.
            value = _fit_seed(field, draw())
            drawn.append(name)
        if value is not None:
            filled[name] = value
    _check_frame(manifest, filled, arguments.get("frame"))
    for name, field in manifest.inputs.items():
        _check_presence(manifest, name, field, filled)
        if name in filled:
            filled[name] = check_value(field.argument or name, field, filled[name])
            _check_length(field.argument or name, field, filled[name], media or {})
    call = Call(
        provider=route.provider,
        endpoint=route.endpoint_for(filled),
        input=filled,
        version=route.version,
        form=route.form,
        deadline_seconds=manifest.timing.deadline_seconds,
    )
    estimate = estimate_price(
        priced_as or manifest,
        filled,
        media or {},
        stops_at_deadline=provider is not None and provider.stops_at_deadline,
        provider_title=provider.title if provider is not None else None,
    )
    return CallPlan(call=call, seed=_find_seed(manifest, filled), estimate=estimate, drawn_inputs=tuple(drawn))


def _fit_seed(field: Input, drawn: int) -> int:
    """A drawn number inside the range of the model: some take no seed above 65535."""
    low = 0 if field.minimum is None else int(field.minimum)
    if field.maximum is None or low <= drawn <= field.maximum:
        return max(drawn, low)
    return low + drawn % (int(field.maximum) - low + 1)


def fill_arguments(manifest: Manifest, arguments: Mapping[str, Json]) -> dict[str, Json]:
    """The inputs that some arguments without media fill, by the inputs' names.

    Raises:
        InvalidInput: the model does not take a value.
    """
    return {
        name: check_value(field.argument, field, _resolve_alias(field, arguments[field.argument]))
        for name, field in manifest.inputs.items()
        if field.argument is not None and field.argument in arguments
    }


def workload(manifest: Manifest, call: Call) -> str:
    """The values that decide how long a run takes, as text: runs of equal text take about as long."""
    values = {name: call.input.get(name, manifest.inputs[name].default) for name in manifest.timing.varies_with}
    return json.dumps(values, ensure_ascii=False, separators=(",", ":")) if values else ""


def kind_of_input(field: Input) -> MediaKind:
    """What a medium for an input must be.

    What is looked at may be a video's first frame; what is to be shown in a video is meant as it is.
    """
    return "still" if field.argument == "image" else "mask" if field.covers else cast("MediaKind", field.kind)


def media_inputs(manifest: Manifest, filled: Mapping[str, Json]) -> tuple[str, ...]:
    """Every media value of an input, in order, each once."""
    values: list[str] = []
    for name, field in manifest.inputs.items():
        if field.is_media and name in filled:
            value = filled[name]
            values += [str(one) for one in (value if isinstance(value, list) else [value])]
    return tuple(dict.fromkeys(values))


def awaited_files(manifest: Manifest, filled: Mapping[str, Json]) -> tuple[str, ...]:
    """The links of those files in an input that do not exist yet."""
    return tuple(value for value in media_inputs(manifest, filled) if is_awaited(value))


def kept_files(manifest: Manifest, filled: Mapping[str, Json]) -> tuple[str, ...]:
    """The links of those of our files in an input that have to be brought to the provider."""
    return tuple(value for value in media_inputs(manifest, filled) if value.startswith("artifact://"))


def replace_media(manifest: Manifest, filled: Mapping[str, Json], urls: Mapping[str, str]) -> dict[str, Json]:
    """The same input with every media value replaced by the URL that the provider reads it from."""

    def replace_value(name: str, value: Json) -> Json:
        if not manifest.inputs[name].is_media:
            return value
        if isinstance(value, list):
            return [urls.get(str(one), str(one)) for one in value]
        return urls.get(str(value), str(value))

    return {name: replace_value(name, value) for name, value in filled.items()}


def _fill_input(
    manifest: Manifest, field: Input, arguments: Mapping[str, Json], media: Mapping[str, MediaLength]
) -> Json:
    given = _trim_or_none(arguments.get(field.argument)) if field.argument else None
    if isinstance(given, str) and field.is_media and not _is_input_for(manifest, field, given, media):
        return field.send
    if given is not None and field.encode:
        given = encode_argument(field.encode, given, arguments.get("frame"))
    if given is None:
        return field.send
    if isinstance(given, list) and field.is_media and not field.many and len(given) == 1:
        given = given[0]  # a list of one fills an input that takes one file
    return [_resolve_alias(field, one) for one in given] if isinstance(given, list) else _resolve_alias(field, given)


def _is_input_for(manifest: Manifest, field: Input, file: str, media: Mapping[str, MediaLength]) -> bool:
    """Whether a file goes into this input: where two have the same argument, one takes images and one videos.

    Of a file that was not read the ending of its address tells the kind, and of one that does not exist yet its link.
    """
    rivals = [one for one in manifest.inputs.values() if one.argument == field.argument and one is not field]
    if not rivals or field.kind not in ("image", "video"):
        return True
    awaited = read_awaited_output(file)
    if awaited is not None:
        return awaited.kind == field.kind
    length = media.get(file)
    ending = urlsplit(file).path.rpartition(".")[2].lower() if length is None else ""
    is_video = ending in _VIDEO_ENDINGS if length is None else length.frames is not None
    return is_video == (field.kind == "video")


def _resolve_alias(field: Input, given: Json) -> Json:
    """A value as the model spells it: aliases resolved, numbers as text and text as numbers where it has them so."""
    if isinstance(given, str):
        spelled = field.canonical_choice(given)
        value = field.aliases.get(spelled, spelled)
        number = read_number(field, value) if field.kind in _NUMBERS and isinstance(value, str) else None
        return value if number is None else number
    if field.kind == "string" and isinstance(given, bool | int | float):
        return spell_value(field, given)
    return given


def _trim_or_none(value: Json) -> Json:
    """A text without blanks at its ends; None for an empty one, which means the same as no text."""
    return (value.strip() or None) if isinstance(value, str) else value


def _check_frame(manifest: Manifest, filled: Mapping[str, Json], frame: Json) -> None:
    """Refuse points, a box or a mask of a later frame where the model reads them as of the first."""
    if not frame:
        return
    takes_frame = any(field.argument == "frame" for field in manifest.inputs.values())
    for name, field in manifest.inputs.items():
        is_placed = field.argument in ("points", "box") and not is_on_frame(field.encode)
        if filled.get(name) and (is_placed or (field.argument == "mask" and not takes_frame)):
            raise InvalidInput(
                f"{manifest.id} takes {field.argument!r} on the first frame alone, and 'frame' is {frame}.",
                hint="Give it on frame 0, or leave out the model.",
            )


def _check_presence(manifest: Manifest, name: str, field: Input, filled: Mapping[str, Json]) -> None:
    argument = field.argument or name

    def quote_names(names: Sequence[str]) -> str:
        return " or ".join(repr(manifest.inputs[n].argument or n) for n in names)

    if name not in filled:
        if field.required:
            raise InvalidInput(f"{manifest.id} needs {argument!r}.", hint=f"Call again with {argument!r}.")
        return
    if not filled[name] and field.many:
        return
    missing = [n for n in field.needs if not filled.get(n)]
    if missing:
        raise InvalidInput(f"{argument!r} needs {quote_names(missing)} beside it.", hint=f"Add {quote_names(missing)}.")
    if field.needs_any and not any(filled.get(n) for n in field.needs_any):
        raise InvalidInput(
            f"{argument!r} needs one of {quote_names(field.needs_any)} beside it.", hint="Add one, or leave it out."
        )
    clash = [n for n in field.excludes if filled.get(n)]
    if clash:
        raise InvalidInput(f"{argument!r} cannot go together with {quote_names(clash)}.", hint="Leave one of them out.")


def check_value(argument: str, field: Input, value: Json) -> Json:
    """A value as it is sent: whole numbers as such, one value of a list as a list of one.

    Raises:
        InvalidInput: the model does not take it; names the argument.
    """
    if not field.many:
        return _check_item(argument, field, value)
    items = value if isinstance(value, list) else [value]
    if field.max_items is not None and len(items) > field.max_items:
        raise InvalidInput(
            f"{argument!r} has {len(items)} items; the model takes at most {field.max_items}.",
            hint="Give fewer.",
        )
    return [_check_item(argument, field, item) for item in items]


def _check_length(argument: str, field: Input, value: Json, media: Mapping[str, MediaLength]) -> None:
    items = value if isinstance(value, list) else [value]
    frames = max((media[str(item)].frames or 0 for item in items if str(item) in media), default=0)
    if field.max_frames is not None and frames > field.max_frames:
        raise InvalidInput(
            f"{argument!r} has {frames} frames; the model takes at most {field.max_frames}.",
            hint="Give a shorter piece.",
        )
    total = sum(media[str(item)].seconds for item in items if str(item) in media)
    if field.max_total_seconds is not None and total > field.max_total_seconds + _PADDING_SECONDS * len(items):
        raise InvalidInput(
            f"{argument!r} lasts {total:.1f} s together; the model takes at most {field.max_total_seconds:g} s.",
            hint="Give shorter ones or fewer.",
        )


def _check_item(argument: str, field: Input, value: Json) -> Json:
    if field.kind in _NUMBERS:
        value = _check_number(argument, field, value)
    if field.kind == "boolean" and not isinstance(value, bool):
        raise InvalidInput(f"{argument!r} must be true or false.", hint="Correct it and call again.")
    if field.kind == "string":
        _check_text(argument, field, value)
    if field.kind == "object":
        _check_object(argument, value)
    if field.choices and value not in field.choices:
        offered = ", ".join(str(choice) for choice in (*field.aliases, *field.choices))
        raise InvalidInput(f"{argument!r} cannot be {str(value)[:60]!r}.", hint=f"Choose one of: {offered}.")
    return value


def _check_text(argument: str, field: Input, value: Json) -> None:
    if not isinstance(value, str):
        raise InvalidInput(f"{argument!r} must be text.", hint="Correct it and call again.")
    if field.max_length is not None and len(value) > field.max_length:
        raise InvalidInput(
            f"{argument!r} has {len(value)} characters; the model takes at most {field.max_length}.",
            hint="Make it shorter.",
        )
    number = read_number(field, value) if field.spelling is not None else None
    if number is not None and (field.minimum, field.maximum, field.step) != (None, None, None):
        _check_range(argument, field, number)
    elif field.spelling is not None and number is None and value not in (*field.choices, *field.aliases.values()):
        raise InvalidInput(
            f"{argument!r} cannot be {value[:60]!r}.", hint=f"Give a number, as in {field.spelling.format(5)!r}."
        )


def _check_object(argument: str, value: Json) -> None:
    if not isinstance(value, dict | list):
        raise InvalidInput(f"{argument!r} must be a JSON object.", hint="Correct it and call again.")
    if measure_depth(value, _MAX_OBJECT_DEPTH + 1) > _MAX_OBJECT_DEPTH or len(json.dumps(value)) > _MAX_OBJECT_LENGTH:
        raise InvalidInput(
            f"{argument!r} has more than {_MAX_OBJECT_LENGTH} characters of JSON or {_MAX_OBJECT_DEPTH} levels.",
            hint="Make it smaller.",
        )


def _check_number(argument: str, field: Input, value: Json) -> Json:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidInput(f"{argument!r} must be a number.", hint="Correct it and call again.")
    if field.kind == "integer":
        if value != int(value):
            raise InvalidInput(f"{argument!r} must be a whole number.", hint="Correct it and call again.")
        value = int(value)
    _check_range(argument, field, value)
    return value


def _check_range(argument: str, field: Input, value: float) -> None:
    if value in field.also:
        return
    low, high = field.minimum, field.maximum
    if (low is not None and value < low) or (high is not None and value > high):
        also = f", or {' or '.join(map(str, field.also))}" if field.also else ""
        least, most = ("any" if bound is None else format_number(bound) for bound in (low, high))
        span = f"{least} to {most}{also}"
        raise InvalidInput(
            f"{argument!r} is {str(value)[:_MAX_SHOWN_CHARACTERS]}; the model takes {span}.", hint="Change it."
        )
    if field.step and (value - field.offset) % field.step:
        raise InvalidInput(
            f"{argument!r} is {value}; it must be a multiple of {field.step} plus {field.offset}.",
            hint=f"Try {int((value - field.offset) // field.step * field.step + field.offset)}.",
        )


def _find_seed(manifest: Manifest, filled: Mapping[str, Json]) -> int | None:
    values = (filled.get(name) for name, field in manifest.inputs.items() if field.drawn)
    return next((value for value in values if isinstance(value, int)), None)
