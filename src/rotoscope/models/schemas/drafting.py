"""The manifest of a model, drafted from the provider's document: facts, guesses, and what is left open. Pure.

What is drafted passes the check of manifests. A filling that the check refuses is taken back, and the input is left to
the argument `options`; a model that fits no tool is refused in one sentence.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from pydantic import ValidationError

from rotoscope.contracts.characters import one_line
from rotoscope.models.catalog import describe_writing_by_hand
from rotoscope.models.manifest import Input, Manifest, Price, Route, Timing, ToolName
from rotoscope.models.manifest_check import CheckReport, check_manifest
from rotoscope.models.provider import Provider
from rotoscope.models.schemas.arguments import Filling, assign_arguments
from rotoscope.models.schemas.documents import ModelDocument
from rotoscope.models.schemas.drafted_inputs import draft_example, draft_input, needed_beside
from rotoscope.models.schemas.drafted_outputs import draft_outputs
from rotoscope.models.schemas.fields import SchemaField
from rotoscope.models.schemas.media import MediaField, find_media, is_media_default
from rotoscope.models.schemas.outputs import OutputPlace, find_outputs
from rotoscope.models.schemas.tools import DraftRefusal, choose_tool

__all__ = ["Draft", "draft_manifest"]

_MAX_ROUNDS = 60  # of checks, each of which takes one filling back
_MAX_TITLE = 80
_INPUT_FACT = re.compile(r"inputs\.(.+?)(?:\.(?:argument|choices|default|encode|kind|many|maximum|minimum|also|aliases|"
                         r"needs_any|required|drawn|fits|max_items))?: ")  # fmt: skip
_GUESSED_SECONDS: Mapping[ToolName, tuple[float, int]] = {
    "segment_image": (4, 600),
    "describe_with_masks": (6, 600),
    "generate_video": (120, 1800),
    "edit_video_with_mask": (180, 1800),
}
"""For each tool: about how long its models take, and after how long a run is given up; in seconds."""

_ASKING_TOOLS = ("segment_image", "describe_with_masks")
_ASKED = frozenset({"instruction", "prompt", "points", "box"})
_LONG_WAIT = 10.0  # seconds that the example's run waited, from which on a machine had to start
_NEVER_SENT = frozenset({"sync_mode", "webhook", "webhook_url", "webhook_events_filter", "callback_url"})


@dataclass(frozen=True, slots=True)
class Draft:
    """A manifest that passes the check, and what a person should know of it.

    Attributes:
        comments: the comments of the file, by table.
        guesses: sentences about what no document says.
        open_inputs: sentences about inputs that no argument fills although the model requires them.
    """

    manifest: Manifest
    comments: Mapping[str, Sequence[str]]
    guesses: Sequence[str]
    open_inputs: Sequence[str]
    report: CheckReport = field(repr=False)


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is settled before the facts are written down."""

    document: ModelDocument
    tool: ToolName
    media: Mapping[str, MediaField]
    outputs: Sequence[OutputPlace]
    fillings: Mapping[str, Filling]
    price: Price | None


def draft_manifest(
    document: ModelDocument,
    providers: Mapping[str, Provider],
    today: str,
    tool: ToolName | None = None,
    price: Price | None = None,
) -> Draft | DraftRefusal:
    """Draft the manifest of a model.

    Args:
        document: what the provider publishes.
        providers: the providers by name, for the check.
        today: the date on which the document was read, as in 2026-11-28.
        tool: the tool that it is for, where the user says so.
        price: what a run costs, where it is known.

    Returns:
        The draft, or why there is none.
    """
    media, outputs = find_media(document), find_outputs(document)
    chosen = tool or choose_tool(document, media, outputs)
    if isinstance(chosen, DraftRefusal):
        return chosen
    plan = _Plan(document, chosen, media, outputs, assign_arguments(document, chosen, media), price)
    if tool is None and chosen in _ASKING_TOOLS and not {one.argument for one in plan.fillings.values()} & _ASKED:
        return DraftRefusal(
            "no words",
            "It finds masks, but no input of it takes words, clicks or a box in a form that is known here.",
            f"With --tool {chosen} it can be used all the same; it will not get what the user asks for.",
        )
    problem = ""
    for _ in range(_MAX_ROUNDS):
        manifest = _build_manifest(plan, today)
        if isinstance(manifest, DraftRefusal):
            return manifest
        report = check_manifest(manifest, providers)
        if not report.problems:
            return _finish_draft(plan, manifest, report)
        problem = report.problems[0]
        refused = _refused_input(plan, report.problems)
        if refused is None:
            break
        plan = replace(plan, fillings={name: one for name, one in plan.fillings.items() if name != refused})
    return DraftRefusal(
        "unfit",
        f"It does not fit {chosen}: {one_line(problem, 300)}",
        f"Name another tool with --tool, or {describe_writing_by_hand()}.",
    )


def _refused_input(plan: _Plan, problems: Sequence[str]) -> str | None:
    """The first input with a filling that a problem is about."""
    for problem in problems:
        found = _INPUT_FACT.match(problem)
        if found and found[1] in plan.fillings:
            return found[1]
    return None


def _build_manifest(plan: _Plan, today: str) -> Manifest | DraftRefusal:
    document = plan.document
    inputs: dict[str, Input] = {}
    for one in document.fields:
        if not _is_left_out(one):
            inputs[one.name] = draft_input(one, plan.tool, plan.media.get(one.name), plan.fillings)
    if not inputs:
        return DraftRefusal("no input", "It has no input that may be filled.")
    for name, needed in needed_beside(inputs).items():
        inputs[name] = inputs[name].model_copy(update={"needs": needed, "inferred": (*inputs[name].inferred, "needs")})
    kinds = {one.argument for one in inputs.values()}
    prompts = [kind for kind, name in _PROMPT_ARGUMENTS if name in kinds] if plan.tool == "segment_image" else []
    try:
        return Manifest(
            id=document.name.endpoint,
            title=one_line(document.title, _MAX_TITLE) or document.name.endpoint,
            tool=plan.tool,
            prompts=tuple(prompts),  # type: ignore[arg-type]
            combines=prompts == ["points", "box"],
            routes=(_route(document),),
            inputs=inputs,
            outputs=draft_outputs(plan.tool, plan.outputs),
            timing=_timing(document, plan.tool, inputs),
            price=_bound_price(plan.price, inputs),
            example=draft_example(document, inputs),
            source=f"the schema of {document.name} as its provider published it, read {today}",
            notes=_notes(plan),
        )
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        said = f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"
        return DraftRefusal("unfit", f"No manifest can hold it: {one_line(said, 200)}")


_TIER_ARGUMENTS = frozenset({"resolution", "generate_audio", "size", "speed_mode"})
_TIER_NAME = re.compile(
    r".*(?:resolution|quality|audio|mode|speed|variant|fps|frames_per_second|upscale).*", re.IGNORECASE
)
_TIER_MARGIN, _PLAIN_MARGIN = 2.0, 0.05  # sound doubles some prices, 1080p costs two and a half times 720p
_PROMPT_ARGUMENTS = (("text", "instruction"), ("points", "points"), ("box", "box"))


def _is_left_out(one: SchemaField) -> bool:
    return one.is_secret or one.is_hidden or one.name in _NEVER_SENT


def _route(document: ModelDocument) -> Route:
    name = document.name
    if name.provider == "fal":
        return Route(provider="fal", form="queue", endpoint=name.endpoint)
    if document.is_official or name.version is None:
        return Route(provider="replicate", form="official", endpoint=name.endpoint)
    return Route(provider="replicate", form="version", endpoint=name.endpoint, version=name.version)


def _timing(document: ModelDocument, tool: ToolName, inputs: Mapping[str, Input]) -> Timing:
    guessed, deadline = _GUESSED_SECONDS[tool]
    known = document.predict_seconds
    varying = [name for name, one in inputs.items() if one.argument in ("resolution", "duration", "size", "frame_num")]
    waited = document.wait_seconds if document.name.provider == "replicate" and not document.is_official else None
    cold = round(waited) if waited is not None and waited >= _LONG_WAIT else None
    inferred = ["deadline_seconds", *(["varies_with"] if varying else []), *(["typical_seconds"] if not known else [])]
    return Timing(
        typical_seconds=max(round(known, 1), 0.1) if known else guessed,
        deadline_seconds=deadline,
        cold_start_seconds=cold,
        varies_with=tuple(varying),
        inferred=tuple(inferred + (["cold_start_seconds"] if cold else [])),
        note="The time of the example's run." if known else "",
    )


def _bound_price(price: Price | None, inputs: Mapping[str, Input]) -> Price | None:
    """The price with a margin that makes a bound of it: a provider tells one number, and which tiers there are only its
    page says.
    """
    if price is None:
        return None
    deciding = [
        name
        for name, one in inputs.items()
        if one.argument in _TIER_ARGUMENTS or one.kind == "video" or _TIER_NAME.fullmatch(name)
    ]
    if not deciding:
        return price.model_copy(update={"margin": _PLAIN_MARGIN, "inferred": ("margin",)})
    note = f"one number for all of {', '.join(deciding[:6])}: see the provider's page, write tiers, lower the margin"
    return price.model_copy(update={"margin": _TIER_MARGIN, "inferred": ("margin",), "note": note})


def _notes(plan: _Plan) -> tuple[str, ...]:
    notes = [one_line(plan.document.description, 300)] if plan.document.description else []
    if plan.document.is_deprecated:
        notes.append("The provider calls it deprecated.")
    return tuple(notes)


def _finish_draft(plan: _Plan, manifest: Manifest, report: CheckReport) -> Draft:
    comments: dict[str, list[str]] = {
        "": [
            f"Made by `rotoscope models add {plan.document.name}`; yours to correct.",
            "What the schema does not say is named in `inferred`, or in a comment that begins with `guess`.",
        ],
        "price": [] if manifest.price else _PRICE_LINES,
    }
    guesses: list[str] = []
    for one in plan.document.fields:
        said = _guesses_about(plan, one, manifest.inputs.get(one.name))
        guesses += [f"{one.name}: {sentence}" for sentence in said]
        shown = [one_line(one.description, 160)] if one.description else []
        more = [f"schema: {sentence}" for sentence in one.dropped]
        comments[f"inputs.{one.name}"] = [*shown, *(f"guess: {sentence}" for sentence in said), *more]
    comments["inputs"] = _left_out_lines(plan.document.fields)
    comments["outputs"] = [f"guess: {one}" for one in _guesses_about_outputs(plan)]
    guesses += [f"outputs: {one}" for one in _guesses_about_outputs(plan)]
    left_open = {name: _open_sentence(name, one) for name, one in manifest.inputs.items() if _is_open(one)}
    for name, sentence in left_open.items():
        comments[f"inputs.{name}"].append(sentence)
    open_inputs = list(left_open.values())
    return Draft(manifest, comments, guesses, open_inputs, report)


def _is_open(one: Input) -> bool:
    return one.required and one.argument is None and one.send is None and not one.drawn


def _open_sentence(name: str, one: Input) -> str:
    shown = "a file" if one.is_media else f"kind {one.kind}"
    return (
        f"{name} ({shown}) is required and no argument fills it: give it in each call as options = {{{name}: ...}}, "
        f"or write a fixed value here: send = ..."
    )


def _guesses_about(plan: _Plan, one: SchemaField, drafted: Input | None) -> list[str]:
    if drafted is None:
        return []
    said: list[str] = []
    medium, filling = plan.media.get(one.name), plan.fillings.get(one.name)
    if medium is not None and medium.why in ("description", "purpose"):
        said.append(f"that it is a file of kind {drafted.kind} is taken from its {medium.why}")
    if filling is not None and filling.is_guess and drafted.argument:
        said.append(f"that {drafted.argument!r} fills it is taken from its name")
    if drafted.send is not None:
        said.append(f"{drafted.send!r} is sent so that the result is what the tool promises")
    if is_media_default(one.default):
        said.append("its default is the author's own file, which is never used silently, so it is required here")
    if one.is_exclusive:
        said.append("a bound of the schema itself is not taken, only what lies inside it")
    if drafted.fits:
        said.append("it follows the edited video")
    if drafted.argument == "mask" and any(m.is_mask and m.field.name != one.name for m in plan.media.values()):
        said.append(
            "every mask goes here, a picture too; the model has another input for masks, which options can fill"
        )
    return said


def _guesses_about_outputs(plan: _Plan) -> list[str]:
    wanted = "video" if plan.tool in ("generate_video", "edit_video_with_mask") else "image"
    taken = [one for one in plan.outputs if one.kind == wanted]
    said = [f"{one.path} is taken for the {wanted} by its {one.why}" for one in taken[:1] if one.why != "schema"]
    if len(taken) > 1:
        others = ", ".join(one.path for one in taken[1:6])
        said.append(f"there is more of this kind: {others}")
    if wanted == "image":
        said.append("whether they are bare masks shows only in a run")
    return said


def _left_out_lines(fields: Sequence[SchemaField]) -> list[str]:
    lines = []
    for one in fields:
        why = (
            "a secret is never sent" if one.is_secret else "the provider calls it deprecated or hides it"
            if one.is_hidden else "it changes how results come back" if one.name in _NEVER_SENT else ""
        )  # fmt: skip
        if why:
            lines.append(f"left out: {one.name} ({why})")
    return lines


_PRICE_LINES = [
    "The price is not known, so a run is asked about first. Where you know it, write for instance:",
    "[price]",
    'unit = "run"            # or "output_second", "run_second"',
    "usd = 0.05",
    'seen = "2026-11"',
]
