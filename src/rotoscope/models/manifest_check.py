"""The check of a manifest: every call that it claims to take is planned, and what a real call would refuse is found.

Reading a manifest checks each fact alone. Whether the facts fit together and fit the tool shows only when a request is
planned: with each input alone, each choice, both ends of each range, what must go together and what may. Pure.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import islice

from rotoscope.contracts.arguments import parse_arguments, require_prompt
from rotoscope.contracts.tools import TOOLS
from rotoscope.errors import InvalidInput
from rotoscope.models.claimed_calls import (
    MEDIA_ARGUMENTS,
    PROMPT_ARGUMENTS,
    ClaimedCall,
    argument_kind,
    is_left_to_options,
    iterate_base_arguments,
    iterate_claimed_calls,
    required_in_part,
    values_for_choice,
)
from rotoscope.models.clip_defaults import ClipShape, arguments_for_clip
from rotoscope.models.encoders import ENCODERS
from rotoscope.models.manifest import PROMPTED_TOOLS, EncoderName, Input, Manifest
from rotoscope.models.options import OPTIONS_ARGUMENT, apply_options
from rotoscope.models.plan import CallPlan, check_value, plan_call
from rotoscope.models.provider import Provider
from rotoscope.models.request_key import trim_arguments
from rotoscope.providers.http.messages import Json

__all__ = ["REQUEST_FORMS", "CheckReport", "check_manifest"]

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

_NOT_FOR_MODELS = ("model", "dry_run", "overlay", "keep_outside", OPTIONS_ARGUMENT)  # they fill no input by their name
_MAX_CALLS = 2_000
_MAX_PROBLEMS = 20
_SEEDS = (0, 2**31 - 1)  # the ends of what is drawn
_OUTPUT_PATH = re.compile(r"\$(\[\])?|(\$\.)?[^.\[\]$]+(\[\])?(\.[^.\[\]]+(\[\])?)*")
_OUTPUTS_OF_TOOLS: Mapping[str, tuple[str, ...]] = {
    "segment_image": ("masks",),
    "describe_with_masks": ("masks",),
    "generate_video": ("video",),
    "edit_video_with_mask": ("video",),
    "segment_video": ("mask_film", "rle"),
}
_PAINTED = {"apply_mask": True, "mask_only": False}  # inputs that decide whether a film is a mask, and when it is none
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

    def include(self, other: "_Findings", prefix: str) -> None:
        """Add what was found of one route; `prefix` says where its facts stand."""
        for problem in other.problems:
            if len(self.problems) < _MAX_PROBLEMS:
                self.problems[prefix + problem] = None
        self.notes += [f"{prefix}{note}" for note in other.notes if f"{prefix}{note}" not in self.notes]
        self.calls += other.calls


def check_manifest(manifest: Manifest, providers: Mapping[str, Provider]) -> CheckReport:
    """Plan every call that a manifest claims to take, a bounded number of them; nothing is sent.

    Args:
        manifest: the model; its facts were read and are right each by itself.
        providers: the providers by name; each route's is among them.
    """
    found = _Findings()
    _check_routes(manifest, providers, found)
    for number, route in enumerate(manifest.routes):
        own = _Findings()
        _check_price(manifest.at(route), providers[route.provider], own)
        if number == 0 or route.inputs is not None or route.outputs is not None:
            _check_view(manifest.at(route), own)
        found.include(own, f"routes.{number}." if route.inputs is not None else "")
    return CheckReport(tuple(found.problems), tuple(found.notes), found.calls)


def _check_view(view: Manifest, found: _Findings) -> None:
    """Check the model as one route has it."""
    _check_outputs(view, found)
    for name, fact in view.inputs.items():
        _check_source(view, name, fact, found)
    _check_required_sources(view, found)
    if not found.problems:
        for claim in islice(iterate_claimed_calls(view), _MAX_CALLS):
            _check_claim(view, claim, found)
        _check_clip_defaults(view, found)
    _check_example(view, found)
    _note_unused_facts(view, found)


def _check_price(view: Manifest, provider: Provider, found: _Findings) -> None:
    """A price whose bound is not known counts as unknown: its author should know."""
    price = view.price
    if price is None or price.unit == "unknown" or price.at_most_usd is not None:
        return
    if price.unit == "run_second" and not provider.stops_at_deadline:
        found.notes.append(
            f"price: {provider.title} stops no run at a deadline, so computing time has no bound and the price counts "
            "as unknown; give at_most_usd."
        )


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
    wanted = _OUTPUTS_OF_TOOLS[manifest.tool]
    if all(getattr(manifest.outputs, name) is None for name in wanted):
        found.add(f"outputs.{wanted[0]}", f"it is missing: {manifest.tool} would find no result.")
    for name, value in _PAINTED.items() if manifest.tool == "segment_video" else ():
        fact = manifest.inputs.get(name)
        if fact is not None and value in (fact.send, fact.default if fact.send is None else None):
            found.add(
                f"inputs.{name}", f"with {name} = {str(value).lower()} a mask is painted on the film: that is none."
            )
    for name in ("masks", "text", "video", "mask_film", "rle"):
        path = getattr(manifest.outputs, name)
        if path is not None and not _OUTPUT_PATH.fullmatch(path):
            found.add(f"outputs.{name}", f"{path!r} is no path of `$`, dotted keys and `[]`, such as masks[].url.")


def _check_source(manifest: Manifest, name: str, fact: Input, found: _Findings) -> None:
    """Whether what fills an input exists and is of its kind."""
    place = f"inputs.{name}"
    # With a value in the example, calls can be planned in which an option gives it.
    can_be_option = name in manifest.example and name not in TOOLS[manifest.tool].arguments.model_fields
    if is_left_to_options(fact) and fact.required and not can_be_option:
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
    types: dict[str, tuple[type, ...]] = {"string": (str,), "integer": (int,), "number": (int, float)}
    return isinstance(value, bool) if kind == "boolean" else type(value) in types.get(kind, ())


def _check_argument(manifest: Manifest, place: str, fact: Input, argument: str, found: _Findings) -> None:
    offered = [name for name in TOOLS[manifest.tool].arguments.model_fields if name not in _NOT_FOR_MODELS]
    if fact.fits == "seconds":
        if argument != "duration" or manifest.tool != "edit_video_with_mask":
            found.add(f"{place}.fits", 'seconds that follow the edited video have argument = "duration".')
    elif argument not in offered:
        takes = _join_names(offered)
        found.add(f"{place}.argument", f"{manifest.tool} has no argument {argument!r} for a model; it has {takes}.")
    elif argument in MEDIA_ARGUMENTS:
        _check_media_kind(place, fact, found)
    elif fact.is_media:
        found.add(f"{place}.kind", f"{argument!r} is no file, so it cannot be {fact.kind}.")


def _check_media_kind(place: str, fact: Input, found: _Findings) -> None:
    kind, _ = MEDIA_ARGUMENTS[str(fact.argument)]
    fitting = ("image", "video", "visual") if kind == "visual" else (kind, "visual")
    if fact.kind not in fitting:
        found.add(f"{place}.kind", f"{fact.argument!r} is a file, so it must be {' or '.join(fitting)}.")


def _check_encoder(place: str, fact: Input, name: EncoderName, found: _Findings) -> None:
    encoder = ENCODERS[name]
    if fact.argument not in encoder.arguments:
        found.add(f"{place}.encode", f"{name} encodes {' or '.join(encoder.arguments)}, not {fact.argument!r}.")
    if (fact.kind, fact.many) != (encoder.kind, encoder.many):
        many = "true" if encoder.many else "false"
        found.add(f"{place}.encode", f'{name} makes kind = "{encoder.kind}" with many = {many}.')


def _check_required_sources(manifest: Manifest, found: _Findings) -> None:
    """Whether some input takes each file that the tool requires, and each kind of prompt that is claimed."""
    filled = {fact.argument for fact in manifest.inputs.values()}
    for argument, one in TOOLS[manifest.tool].arguments.model_fields.items():
        is_required = one.is_required() or argument in required_in_part(manifest)
        if is_required and argument in MEDIA_ARGUMENTS and argument not in filled:
            found.add("inputs", f"no input has argument = {argument!r}, which every call of {manifest.tool} gives.")
    if manifest.tool not in PROMPTED_TOOLS:
        return
    for kind in manifest.prompts:
        argument, _ = PROMPT_ARGUMENTS[kind]
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


def _check_claim(manifest: Manifest, claim: ClaimedCall, found: _Findings) -> None:
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


def _plan(manifest: Manifest, arguments: Mapping[str, Json], seed: int) -> CallPlan:
    shape = TOOLS[manifest.tool].arguments
    follows = {field.argument for field in manifest.inputs.values() if field.fits == "seconds"}  # no caller gives them
    # A model that takes no mask must be named where neither a mask nor a target is given.
    given = {name: value for name, value in arguments.items() if name not in follows}
    parsed = parse_arguments(shape, {**given, "model": manifest.id})
    require_prompt(parsed)
    asked: dict[str, Json] = parsed.model_dump(mode="json", exclude={"model", "dry_run"})
    asked |= {name: value for name, value in arguments.items() if name in follows}
    fillable, values = apply_options(manifest, trim_arguments(manifest, asked))
    return plan_call(fillable, manifest.routes[0], values, lambda: seed, priced_as=manifest)


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
    base = next(iterate_base_arguments(manifest))
    for width, height in _CLIP_SHAPES:
        for count in (least, least + 1, _MANY_FRAMES):
            chosen, _ = arguments_for_clip(manifest, base, ClipShape(width, height, count, count / 24))
            claim = ClaimedCall("inputs", {**base, **chosen}, f"a clip of {width}x{height} pixels and {count} frames")
            _check_claim(manifest, claim, found)


def _note_unused_facts(manifest: Manifest, found: _Findings) -> None:
    """What is no mistake but may surprise: inputs, choices, arguments and a price that no call can use."""
    if manifest.tool == "generate_video" and manifest.price is not None and not found.problems:
        plan = _plan(manifest, next(iterate_base_arguments(manifest)), 0)
        if plan.estimate.typical_usd is None and manifest.price.unit in ("output_second", "output_frame"):
            found.notes.append("price: no input has argument = 'duration', so the price of a run is not known before.")
    for name, fact in manifest.inputs.items():
        if is_left_to_options(fact) and fact.required:
            found.notes.append(f"inputs.{name}: every call must give it: options = {{{name}: ...}}.")
        if fact.argument is None or fact.argument in MEDIA_ARGUMENTS or found.problems or fact.fits == "seconds":
            continue
        kind = argument_kind(manifest.tool, fact.argument)
        lost = [one for one in fact.choices if kind == "integer" and not _is_reachable(fact, one)]
        if lost:
            found.notes.append(
                f"inputs.{name}.choices: no number means {_join_names(map(str, lost))}; an alias can, such as "
                f'aliases = {{ "-1" = "{lost[0]}" }}.'
            )
    filled = {fact.argument for fact in manifest.inputs.values()}
    arguments = TOOLS[manifest.tool].arguments.model_fields
    optional = [name for name, fact in manifest.inputs.items() if is_left_to_options(fact) and not fact.required]
    if optional:
        found.notes.append(f"inputs with the provider's default, unless options give them: {_join_names(optional)}.")
    ours = (*_NOT_FOR_MODELS, "target", *(["mask"] if manifest.edits_by_words else []))
    unused = [name for name in arguments if name not in filled and name not in ours]
    if unused:
        found.notes.append(f"arguments that the model does not take: {_join_names(unused)}.")


def _is_reachable(fact: Input, choice: bool | float | str) -> bool:
    spelled = [alias for alias, meant in fact.aliases.items() if meant == choice]
    return any(True for one in (choice, *spelled) for _ in values_for_choice("integer", fact, one))


def _join_names(names: Iterable[str]) -> str:
    return ", ".join(names)
