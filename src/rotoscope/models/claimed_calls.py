"""The calls that a manifest claims its model takes: each input alone, each choice, both ends of each range. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from math import ceil, floor

from rotoscope.contracts.tools import TOOLS
from rotoscope.models.manifest import PROMPTED_TOOLS, Input, Manifest, PromptKind, ToolName
from rotoscope.models.options import OPTIONS_ARGUMENT
from rotoscope.models.spelling import read_number
from rotoscope.providers.http.messages import Json

__all__ = [
    "MEDIA_ARGUMENTS",
    "PROMPT_ARGUMENTS",
    "ClaimedCall",
    "argument_kind",
    "is_left_to_options",
    "iterate_base_arguments",
    "iterate_claimed_calls",
    "required_in_part",
    "values_for_choice",
]

MEDIA_ARGUMENTS: Mapping[str, tuple[str, bool]] = {
    "image": ("image", False),
    "first_frame": ("image", False),
    "last_frame": ("image", False),
    "reference_images": ("image", True),
    "reference_videos": ("video", True),
    "reference_audios": ("audio", True),
    "video": ("video", False),
    "mask": ("visual", False),
}
"""The arguments that are files: the kind of each, and whether it is a list of them."""

PROMPT_ARGUMENTS: Mapping[PromptKind, tuple[str, Json]] = {
    "text": ("instruction", "the red car"),
    "points": ("points", [{"x": 10, "y": 20, "keep": True}, {"x": 30, "y": 40, "keep": False}]),
    "box": ("box", {"left": 10, "top": 20, "right": 30, "bottom": 40}),
    "mask": ("mask", "https://example.com/mask.png"),
}
"""For tools that find an object: the argument of each kind of prompt, and a value of it."""

_MAX_SHOWN = 60  # characters of a value in a message


@dataclass(frozen=True, slots=True)
class ClaimedCall:
    """A call that the manifest says the model takes, and the fact that says so."""

    fact: str
    arguments: Mapping[str, Json]
    shown: str


def iterate_claimed_calls(manifest: Manifest) -> Iterator[ClaimedCall]:
    """Every call that the facts of a manifest say the model takes, the least ones first; what excludes is respected."""
    bases = list(iterate_base_arguments(manifest))
    for base in bases:
        yield ClaimedCall("inputs", base, f"{' and '.join(base)} alone")
    every = dict(bases[0])
    for name, fact in manifest.inputs.items():
        if fact.argument is None or fact.encode is not None or fact.argument in _prompt_names(manifest):
            continue
        if fact.fits == "seconds":
            continue  # it follows the clip; no caller gives it
        beside = _arguments_beside(manifest, name)
        values = list(_values_to_try(manifest, fact)) or [("", _sample_value(manifest, fact))]
        for claimed, value in values:
            shown = (
                f"{fact.argument}={str(value)[:_MAX_SHOWN]!r}" if isinstance(value, str) else f"{fact.argument}={value}"
            )
            yield ClaimedCall(f"inputs.{name}{claimed}", {**bases[0], **beside, fact.argument: value}, shown)
        for other in fact.needs_any[1:]:
            needed = {**_arguments_beside(manifest, name, one_of=other), fact.argument: _sample_value(manifest, fact)}
            shown = f"{fact.argument} and {manifest.inputs[other].argument}"
            yield ClaimedCall(f"inputs.{name}.needs_any", {**bases[0], **needed}, shown)
        if not _is_excluded(manifest, name, every):
            every |= {**beside, fact.argument: _sample_value(manifest, fact)}
    yield ClaimedCall("inputs", every, "everything that may go together")


def iterate_base_arguments(manifest: Manifest) -> Iterator[dict[str, Json]]:
    """The least that a call holds: what the tool and the model require, with each kind of prompt."""
    shape = TOOLS[manifest.tool].arguments.model_fields
    base = {name: _sample_argument(name) for name, one in shape.items() if one.is_required()}
    base |= {name: _sample_argument(name) for name in required_in_part(manifest)}
    for name, fact in manifest.inputs.items():
        if fact.required and fact.send is None and fact.argument and fact.argument not in _prompt_names(manifest):
            base.setdefault(fact.argument, _sample_value(manifest, fact))
            base |= {n: v for n, v in _arguments_beside(manifest, name).items() if n not in base}
    needed = {n: manifest.example[n] for n, f in manifest.inputs.items() if f.required and is_left_to_options(f)}
    if needed:
        base[OPTIONS_ARGUMENT] = needed
    if manifest.tool not in PROMPTED_TOOLS:
        yield base
        return
    offered = TOOLS[manifest.tool].arguments.model_fields
    kinds = manifest.prompts or tuple(kind for kind, (name, _) in PROMPT_ARGUMENTS.items() if name in offered)
    for kind in kinds:
        yield {**base, **dict([PROMPT_ARGUMENTS[kind]])}
    if manifest.combines and len(kinds) > 1:
        yield {**base, **dict(PROMPT_ARGUMENTS[kind] for kind in kinds)}


def required_in_part(manifest: Manifest) -> tuple[str, ...]:
    """The arguments that the tool's record does not require, because another may stand for them, as a target does.

    A model that edits by words alone takes none of them.
    """
    is_masked = manifest.tool == "edit_video_with_mask" and not manifest.edits_by_words
    return ("mask",) if is_masked else ()


def is_left_to_options(fact: Input) -> bool:
    """Whether nothing fills an input but the argument `options`."""
    return fact.argument is None and fact.send is None and not fact.drawn


def _prompt_names(manifest: Manifest) -> frozenset[str]:
    names = (name for name, _ in PROMPT_ARGUMENTS.values())
    return frozenset(names) if manifest.tool in PROMPTED_TOOLS else frozenset()


def _arguments_beside(
    manifest: Manifest, name: str, seen: frozenset[str] = frozenset(), one_of: str | None = None
) -> dict[str, Json]:
    """What must be given beside an input: all that it needs, and `one_of` (else the first) of its `needs_any`."""
    fact = manifest.inputs[name]
    beside: dict[str, Json] = {}
    for needed in (*fact.needs, *((one_of,) if one_of else fact.needs_any[:1])):
        other = manifest.inputs[needed]
        if needed not in seen and other.argument is not None:
            beside |= _arguments_beside(manifest, needed, seen | {name})
            beside[other.argument] = _sample_value(manifest, other)
    return beside


def _is_excluded(manifest: Manifest, name: str, given: Mapping[str, Json]) -> bool:
    """Whether an input, or what it needs, cannot go together with arguments that are given already."""
    fact = manifest.inputs[name]
    names = {name, *fact.needs, *fact.needs_any[:1]}
    held = {other for other, one in manifest.inputs.items() if one.argument in given}
    excluded = {one for other in names for one in manifest.inputs[other].excludes}
    excluding = {other for other in held if names & set(manifest.inputs[other].excludes)}
    return bool(excluded & held or excluding)


def _values_to_try(manifest: Manifest, fact: Input) -> Iterator[tuple[str, Json]]:
    """Values of an argument that the facts of its input allow, each with the fact that allows it."""
    assert fact.argument is not None
    if fact.argument in MEDIA_ARGUMENTS:
        sample = _sample_argument(fact.argument)
        if fact.max_items is not None and isinstance(sample, list):
            yield ".max_items", [sample[0]] * fact.max_items
        return
    kind = argument_kind(manifest.tool, fact.argument)
    if kind == "boolean":
        yield from (("", value) for value in (True, False))
    for choice in fact.choices:
        yield from ((".choices", value) for value in values_for_choice(kind, fact, choice))
    for alias in fact.aliases:
        yield from ((".aliases", value) for value in values_for_choice(kind, fact, alias))
    if isinstance(fact.default, bool | int | float | str) and not fact.drawn:
        yield from ((".default", value) for value in values_for_choice(kind, fact, fact.default))
    for name, bound in (("minimum", fact.minimum), ("maximum", fact.maximum)):
        if bound is not None:
            yield f".{name}", _number_argument(kind, fact, (ceil if name == "minimum" else floor)(bound))
    yield from ((".also", _number_argument(kind, fact, number)) for number in fact.also)


def values_for_choice(kind: str, fact: Input, choice: bool | float | str) -> Iterator[Json]:
    """The argument that means a choice; none where an argument of this kind cannot mean it."""
    match kind:
        case "boolean":
            if choice in (True, False, "true", "false"):
                yield choice in (True, "true")
        case "integer":
            number = read_number(fact, choice) if isinstance(choice, str) else choice
            if number is not None and not isinstance(number, bool) and number == int(number):
                yield int(number)
        case _:
            yield choice if isinstance(choice, str) else _number_argument(kind, fact, choice)


def _number_argument(kind: str, fact: Input, number: float) -> Json:
    if kind == "integer":
        return int(number)
    text = f"{number:g}"
    return fact.spelling.replace("{}", text) if fact.spelling else text


def _sample_value(manifest: Manifest, fact: Input) -> Json:
    """A value of the argument that fills an input: what the model does by default, else the first that it takes."""
    assert fact.argument is not None
    kind = argument_kind(manifest.tool, fact.argument)
    for likely in (*fact.choices, fact.default):
        if isinstance(likely, bool | int | float | str) and not fact.drawn and likely not in fact.also:
            for value in values_for_choice(kind, fact, likely):
                return value
    if kind == "integer":
        least = 5 if fact.minimum is None else ceil(fact.minimum)
        step = fact.step or 1
        return least + (fact.offset - least) % step if fact.maximum is None or least < fact.maximum else least
    if fact.kind in ("integer", "number") and fact.minimum is not None:
        return _number_argument(kind, fact, fact.minimum)
    return _sample_argument(fact.argument, kind)


def _sample_argument(name: str, kind: str = "string") -> Json:
    if name in MEDIA_ARGUMENTS:
        media, many = MEDIA_ARGUMENTS[name]
        url = f"https://example.com/{name}.{ {'video': 'mp4', 'audio': 'mp3'}.get(media, 'png') }"
        return [url] if many else url
    prompts = dict(PROMPT_ARGUMENTS.values())
    return True if kind == "boolean" else prompts.get(name, "a red car")


@cache
def argument_kind(tool: ToolName, name: str) -> str:
    """The JSON type of a tool argument, without its null."""
    schema = TOOLS[tool].arguments.model_json_schema()["properties"][name]
    offered = [one.get("type", "object") for one in schema.get("anyOf", [schema])]
    return str(next(one for one in offered if one != "null"))
