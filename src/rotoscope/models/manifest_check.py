"""The check of a manifest: every call that it claims to take is planned, and what a real call would refuse is found.

Reading a manifest checks each fact alone. Whether the facts fit together and fit the tool shows only when a request is
planned: with each input alone, each choice, both ends of each range, what must go together and what may. Pure.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from itertools import islice
from math import ceil, floor

from rotoscope.contracts.arguments import parse_arguments
from rotoscope.contracts.tools import TOOLS
from rotoscope.errors import InvalidInput
from rotoscope.models.clip_defaults import ClipShape, arguments_for_clip
from rotoscope.models.encoders import ENCODERS
from rotoscope.models.manifest import EncoderName, Input, Manifest, PromptKind, ToolName
from rotoscope.models.plan import check_value, plan_call
from rotoscope.models.provider import Provider
from rotoscope.models.request_key import trim_arguments
from rotoscope.models.spelling import read_number
from rotoscope.providers.http.messages import Json

__all__ = ["MEDIA_ARGUMENTS", "REQUEST_FORMS", "CheckReport", "check_manifest"]

REQUEST_FORMS: Mapping[str, Mapping[str, str]] = {
    "replicate": {
        "official": "`POST /v1/models/ENDPOINT/predictions`: models that Replicate runs itself, and gateways; a "
        "`version` is sent too where there is one.",
        "version": "`POST /v1/predictions` with the `version`: community models.",
    },
    "fal": {"queue": "`POST ENDPOINT` at the queue, the only form."},
    "segmind": {
        "v1": "`POST /v1/ENDPOINT`: the answer is the result itself.",
        "v2": "`POST /v2/ENDPOINT`: a request that is asked about, and so survives a lost connection.",
    },
}
"""The request forms of each dialect that comes with rotoscope, for `form` of a route."""

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

_NOT_FOR_MODELS = ("model", "dry_run", "overlay")  # arguments that are ours alone
_MAX_CALLS = 2_000
_MAX_PROBLEMS = 20
_MAX_SHOWN = 60  # characters of a value in a message
_SEEDS = (0, 2**31 - 1)  # the ends of what is drawn
_OUTPUT_PATH = re.compile(r"\$(\[\])?|(\$\.)?[^.\[\]$]+(\[\])?(\.[^.\[\]]+(\[\])?)*")
_PROMPT_ARGUMENTS: Mapping[PromptKind, tuple[str, Json]] = {
    "text": ("instruction", "the red car"),
    "points": ("points", [{"x": 10, "y": 20, "keep": True}, {"x": 30, "y": 40, "keep": False}]),
    "box": ("box", {"left": 10, "top": 20, "right": 30, "bottom": 40}),
}
_CLIP_SHAPES = ((1920, 1080), (1080, 1920), (640, 640))
_MANY_FRAMES = 100_000


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What a check found.

    Attributes:
        problems: sentences about what a call would refuse, each beginning with the fact that is wrong.
        notes: sentences about what no call can use; nothing is wrong with it.
        calls: how many calls were planned.
    """

    problems: tuple[str, ...]
    notes: tuple[str, ...]
    calls: int


@dataclass(slots=True)
class _Findings:
    problems: dict[str, None] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    calls: int = 0

    def add(self, fact: str, sentence: str) -> None:
        if len(self.problems) < _MAX_PROBLEMS:
            self.problems[f"{fact}: {sentence}"] = None


def check_manifest(manifest: Manifest, providers: Mapping[str, Provider]) -> CheckReport:
    """Plan every call that a manifest claims to take, a bounded number of them; nothing is sent.

    Args:
        manifest: the model; its facts were read and are right each by itself.
        providers: the providers by name; each route's is among them.
    """
    found = _Findings()
    _check_routes(manifest, providers, found)
    _check_outputs(manifest, found)
    for name, fact in manifest.inputs.items():
        _check_source(manifest, name, fact, found)
    _check_prompt_sources(manifest, found)
    if not found.problems:
        for claim in islice(_iterate_claims(manifest), _MAX_CALLS):
            _check_claim(manifest, claim, found)
        _check_clip_defaults(manifest, found)
    _check_example(manifest, found)
    _note_unused_facts(manifest, found)
    return CheckReport(tuple(found.problems), tuple(found.notes), found.calls)


def _check_routes(manifest: Manifest, providers: Mapping[str, Provider], found: _Findings) -> None:
    for number, route in enumerate(manifest.routes):
        dialect = providers[route.provider].dialect
        forms = REQUEST_FORMS.get(dialect)
        if forms is not None and route.form and route.form not in forms:
            found.add(
                f"routes.{number}.form", f"{dialect} has no request form {route.form!r}; it has {_join_names(forms)}."
            )
        if "/" in route.endpoint[:1] or "://" in route.endpoint:
            found.add(f"routes.{number}.endpoint", "it is the model's name at the provider, not an address.")


def _check_outputs(manifest: Manifest, found: _Findings) -> None:
    wanted = "video" if manifest.tool in ("generate_video", "edit_video_with_mask") else "masks"
    if getattr(manifest.outputs, wanted) is None:
        found.add(f"outputs.{wanted}", f"it is missing: {manifest.tool} would find no result.")
    for name in ("masks", "text", "video"):
        path = getattr(manifest.outputs, name)
        if path is not None and not _OUTPUT_PATH.fullmatch(path):
            found.add(f"outputs.{name}", f"{path!r} is no path of `$`, dotted keys and `[]`, such as masks[].url.")


def _check_source(manifest: Manifest, name: str, fact: Input, found: _Findings) -> None:
    """Whether what fills an input exists and is of its kind."""
    place = f"inputs.{name}"
    if fact.required and not fact.argument and fact.send is None and not fact.drawn:
        found.add(f"{place}.required", "nothing fills it; name an argument, or a value to send.")
    if fact.drawn and (fact.kind != "integer" or fact.step or fact.choices):
        found.add(f"{place}.drawn", "a seed is an integer without step or choices.")
    if fact.fits and (not fact.argument or (fact.fits == "frames" and (fact.kind != "integer" or not fact.maximum))):
        found.add(f"{place}.fits", "it needs an argument, and with frames an integer with a maximum.")
    strange = [one for one in fact.choices if not _is_of_kind(fact.kind, one)]
    if strange:
        found.add(f"{place}.choices", f"{_join_names(map(repr, strange))} can be no value of kind {fact.kind}.")
    if fact.argument is not None:
        _check_argument(manifest, place, fact, fact.argument, found)
    if fact.encode is not None:
        _check_encoder(place, fact, fact.encode, found)


def _is_of_kind(kind: str, value: bool | float | str) -> bool:
    types = {"string": str, "integer": int, "number": (int, float), "boolean": bool}.get(kind)
    return types is not None and isinstance(value, types) and isinstance(value, bool) == (kind == "boolean")


def _check_argument(manifest: Manifest, place: str, fact: Input, argument: str, found: _Findings) -> None:
    offered = [name for name in TOOLS[manifest.tool].arguments.model_fields if name not in _NOT_FOR_MODELS]
    if argument not in offered:
        takes = _join_names(offered)
        found.add(f"{place}.argument", f"{manifest.tool} has no argument {argument!r} for a model; it has {takes}.")
    elif argument in MEDIA_ARGUMENTS:
        _check_media_kind(place, fact, found)
    elif fact.is_media:
        found.add(f"{place}.kind", f"{argument!r} is no file, so it cannot be {fact.kind}.")


def _check_media_kind(place: str, fact: Input, found: _Findings) -> None:
    kind, many = MEDIA_ARGUMENTS[str(fact.argument)]
    fitting = ("image", "video", "visual") if kind == "visual" else (kind, "visual")
    if fact.kind not in fitting:
        found.add(f"{place}.kind", f"{fact.argument!r} is a file, so it must be {' or '.join(fitting)}.")
    if many and not fact.many:
        found.add(f"{place}.many", f"{fact.argument!r} is a list, so it must be true.")


def _check_encoder(place: str, fact: Input, name: EncoderName, found: _Findings) -> None:
    encoder = ENCODERS[name]
    if fact.argument not in encoder.arguments:
        found.add(f"{place}.encode", f"{name} encodes {' or '.join(encoder.arguments)}, not {fact.argument!r}.")
    if (fact.kind, fact.many) != (encoder.kind, encoder.many):
        many = "true" if encoder.many else "false"
        found.add(f"{place}.encode", f'{name} makes kind = "{encoder.kind}" with many = {many}.')


def _check_prompt_sources(manifest: Manifest, found: _Findings) -> None:
    if manifest.tool != "segment_image":
        return
    filled = {fact.argument for fact in manifest.inputs.values()}
    for kind in manifest.prompts:
        argument, _ = _PROMPT_ARGUMENTS[kind]
        if argument not in filled:
            found.add("prompts", f"{kind!r} is claimed, but no input has argument = {argument!r}.")


def _check_example(manifest: Manifest, found: _Findings) -> None:
    """The example is what the provider's page shows, so a fact that refuses it is wrong."""
    for name, fact in manifest.inputs.items():
        if name not in manifest.example:
            if fact.required and fact.send is None:
                found.add(f"example.{name}", "it is missing, and the input is required.")
            continue
        value = manifest.example[name]
        if value == fact.default:
            continue
        if fact.many and not isinstance(value, list):
            found.add(f"example.{name}", "it must be a list, because the input has many = true.")
            continue
        try:
            sent = check_value(name, fact, value)
        except InvalidInput as error:
            found.add(f"example.{name}", f"{error.message} {error.hint}")
        else:
            if isinstance(value, str) and fact.kind == "string" and sent != value:
                found.add(f"example.{name}", f"{value!r} is not as the provider takes it: {sent!r}.")


@dataclass(frozen=True, slots=True)
class _Claim:
    """A call that the manifest says the model takes, and the fact that says so."""

    fact: str
    arguments: Mapping[str, Json]
    shown: str


def _iterate_claims(manifest: Manifest) -> Iterator[_Claim]:
    bases = list(_base_arguments(manifest))
    for base in bases:
        yield _Claim("inputs", base, f"{' and '.join(base)} alone")
    every = dict(bases[0])
    for name, fact in manifest.inputs.items():
        if fact.argument is None or fact.encode is not None or fact.argument in _prompt_names(manifest):
            continue
        beside = _arguments_beside(manifest, name)
        values = list(_values_to_try(manifest, fact)) or [("", _sample_value(manifest, fact))]
        for claimed, value in values:
            shown = (
                f"{fact.argument}={str(value)[:_MAX_SHOWN]!r}" if isinstance(value, str) else f"{fact.argument}={value}"
            )
            yield _Claim(f"inputs.{name}{claimed}", {**bases[0], **beside, fact.argument: value}, shown)
        if not _is_excluded(manifest, name, every):
            every |= {**beside, fact.argument: _sample_value(manifest, fact)}
    yield _Claim("inputs", every, "everything that may go together")


def _base_arguments(manifest: Manifest) -> Iterator[dict[str, Json]]:
    """The least that a call holds: what the tool and the model require, with each kind of prompt."""
    shape = TOOLS[manifest.tool].arguments.model_fields
    base = {name: _sample_argument(name) for name, one in shape.items() if one.is_required()}
    for name, fact in manifest.inputs.items():
        if fact.required and fact.send is None and fact.argument and fact.argument not in _prompt_names(manifest):
            base.setdefault(fact.argument, _sample_value(manifest, fact))
            base |= {n: v for n, v in _arguments_beside(manifest, name).items() if n not in base}
    if manifest.tool != "segment_image":
        yield base
        return
    kinds = manifest.prompts or tuple(_PROMPT_ARGUMENTS)
    for kind in kinds:
        yield {**base, **dict([_PROMPT_ARGUMENTS[kind]])}
    if manifest.combines and len(kinds) > 1:
        yield {**base, **dict(_PROMPT_ARGUMENTS[kind] for kind in kinds)}


def _prompt_names(manifest: Manifest) -> frozenset[str]:
    names = (name for name, _ in _PROMPT_ARGUMENTS.values())
    return frozenset(names) if manifest.tool == "segment_image" else frozenset()


def _arguments_beside(manifest: Manifest, name: str, seen: frozenset[str] = frozenset()) -> dict[str, Json]:
    """What must be given beside an input: all that it needs, and the first of those of which it needs one."""
    fact = manifest.inputs[name]
    beside: dict[str, Json] = {}
    for needed in (*fact.needs, *fact.needs_any[:1]):
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
    kind = _argument_kind(manifest.tool, fact.argument)
    if kind == "boolean":
        yield from (("", value) for value in (True, False))
    for choice in fact.choices:
        yield from ((".choices", value) for value in _values_for_choice(kind, fact, choice))
    for alias in fact.aliases:
        yield from ((".aliases", value) for value in _values_for_choice(kind, fact, alias))
    if isinstance(fact.default, bool | int | float | str) and not fact.drawn:
        yield from ((".default", value) for value in _values_for_choice(kind, fact, fact.default))
    for name, bound in (("minimum", fact.minimum), ("maximum", fact.maximum)):
        if bound is not None:
            yield f".{name}", _number_argument(kind, fact, (ceil if name == "minimum" else floor)(bound))
    yield from ((".also", _number_argument(kind, fact, number)) for number in fact.also)


def _values_for_choice(kind: str, fact: Input, choice: bool | float | str) -> Iterator[Json]:
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
    kind = _argument_kind(manifest.tool, fact.argument)
    for likely in (*fact.choices, fact.default):
        if isinstance(likely, bool | int | float | str) and not fact.drawn and likely not in fact.also:
            for value in _values_for_choice(kind, fact, likely):
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
    prompts = dict(_PROMPT_ARGUMENTS.values())
    return True if kind == "boolean" else prompts.get(name, "a red car")


@cache
def _argument_kind(tool: ToolName, name: str) -> str:
    """The JSON type of a tool argument, without its null."""
    schema = TOOLS[tool].arguments.model_json_schema()["properties"][name]
    offered = [one.get("type", "object") for one in schema.get("anyOf", [schema])]
    return str(next(one for one in offered if one != "null"))


def _check_claim(manifest: Manifest, claim: _Claim, found: _Findings) -> None:
    found.calls += 1
    for seed in _SEEDS:
        try:
            _plan(manifest, claim.arguments, seed)
        except InvalidInput as error:
            fact = claim.fact if claim.fact != "inputs" else _fact_in_message(manifest, error.message)
            found.add(fact, f"a call with {claim.shown} would be refused: {error.message}{_advice(error)}")
            return


def _advice(error: InvalidInput) -> str:
    """What the author of the manifest can do; the hint of the error itself is for the caller of a tool."""
    if "must be text" in error.message:
        return ' Give the input choices, or a spelling such as "{}s", or another kind.'
    return f" {error.hint}" if error.hint.startswith(("Choose", "Try")) else ""


def _plan(manifest: Manifest, arguments: Mapping[str, Json], seed: int) -> None:
    shape = TOOLS[manifest.tool].arguments
    asked: dict[str, Json] = parse_arguments(shape, arguments).model_dump(mode="json", exclude={"model", "dry_run"})
    plan_call(manifest, manifest.routes[0], trim_arguments(manifest, asked), lambda: seed)


def _fact_in_message(manifest: Manifest, message: str) -> str:
    """The fact that an error is about: the input whose argument, or name, is the first one in quotes."""
    quoted = re.findall(r"'([^']*)'", message)
    names = [name for one in quoted for name, fact in manifest.inputs.items() if one in (fact.argument, name)]
    return f"inputs.{names[0]}" if names else "inputs"


def _check_clip_defaults(manifest: Manifest, found: _Findings) -> None:
    """What is chosen for a clip, when the user chooses nothing, must be what the model takes."""
    frames = [fact for fact in manifest.inputs.values() if fact.fits == "frames"]
    if not any(fact.fits for fact in manifest.inputs.values()):
        return
    least = max((int(fact.minimum or 1) for fact in frames), default=1)
    base = next(_base_arguments(manifest))
    for width, height in _CLIP_SHAPES:
        for count in (least, least + 1, _MANY_FRAMES):
            chosen, _ = arguments_for_clip(manifest, base, ClipShape(width, height, count))
            claim = _Claim("inputs", {**base, **chosen}, f"a clip of {width}x{height} pixels and {count} frames")
            _check_claim(manifest, claim, found)


def _note_unused_facts(manifest: Manifest, found: _Findings) -> None:
    for name, fact in manifest.inputs.items():
        if fact.argument is None and fact.send is None and not fact.drawn:
            found.notes.append(f"inputs.{name}: nothing fills it, so the provider's default is used.")
        if fact.argument is None or fact.argument in MEDIA_ARGUMENTS or found.problems:
            continue
        kind = _argument_kind(manifest.tool, fact.argument)
        lost = [one for one in fact.choices if kind == "integer" and not _is_reachable(fact, one)]
        if lost:
            found.notes.append(
                f"inputs.{name}.choices: no number means {_join_names(map(str, lost))}; an alias can, such as "
                f'aliases = {{ "-1" = "{lost[0]}" }}.'
            )
    filled = {fact.argument for fact in manifest.inputs.values()}
    arguments = TOOLS[manifest.tool].arguments.model_fields
    unused = [name for name in arguments if name not in filled and name not in _NOT_FOR_MODELS]
    if unused:
        found.notes.append(f"arguments that the model does not take: {_join_names(unused)}.")


def _is_reachable(fact: Input, choice: bool | float | str) -> bool:
    spelled = [alias for alias, meant in fact.aliases.items() if meant == choice]
    return any(True for one in (choice, *spelled) for _ in _values_for_choice("integer", fact, one))


def _join_names(names: Iterable[str]) -> str:
    return ", ".join(names)
