"""One input of a drafted manifest from the field of a schema, and the example that all of them make up. Pure."""

import re
from collections.abc import Mapping
from typing import cast

from pydantic import JsonValue, ValidationError

from rotoscope.errors import InvalidInput
from rotoscope.models.claimed_calls import argument_kind
from rotoscope.models.manifest import Input, Scalar, ToolName
from rotoscope.models.plan import check_value
from rotoscope.models.schemas.arguments import Filling
from rotoscope.models.schemas.documents import ModelDocument
from rotoscope.models.schemas.fields import SchemaField
from rotoscope.models.schemas.media import MediaField, is_media_default
from rotoscope.models.spelling import parse_size
from rotoscope.providers.http.messages import Json, measure_depth

__all__ = ["draft_example", "draft_input", "needed_beside"]

_MAX_NOTE = 200
_LARGEST_SEED = 2_147_483_647
_MAX_EXAMPLE_LEVELS, _MAX_EXAMPLE_LENGTH = 8, 4000
_SEGMENT_TOOLS = ("segment_image", "describe_with_masks")
_EDIT_CHOICES = ("inpainting", "inpaint", "video_inpainting", "origin")  # origin: the clip's own sound
_KEPT_SOUND = ("keep_audio", "keep_original_sound", "preserve_audio")
_BARE_MASKS: Mapping[str, Scalar] = {
    **dict.fromkeys(("mask_only", "only_mask", "return_mask", "mask", "preview"), True),
    **dict.fromkeys(("return_multiple_masks", "return_all_masks"), True),
    **dict.fromkeys(("apply_mask", "save_overlay", "overlay_mask", "overlay", "return_overlay"), False),
    **dict.fromkeys(("return_zip", "show_box"), False),
}
"""Inputs of segmentation models by which they give bare masks, all of them, and no archive."""

_MASK_REQUEST = (
    "Could you please give me a brief description of the image? Please respond with interleaved segmentation masks for "
    "the corresponding parts of the answer."
)
_SAMPLES: Mapping[str, Json] = {
    "image": "https://example.com/picture.png", "video": "https://example.com/clip.mp4",
    "audio": "https://example.com/sound.mp3", "visual": "https://example.com/mask.png", "string": "a red car",
    "integer": 1, "number": 1, "boolean": False, "object": {},
}  # fmt: skip
_COUNT_WORDS = re.compile(
    r"(?:up to|max(?:imum)?(?: of)?|at most|[0-9]{1,2} ?-)\s*([0-9]{1,2})\s+(?:\w+ )?"
    r"(?:images?|pictures?|videos?|clips?|files?|audios?|references?|urls?)\b",
    re.IGNORECASE,
)
_SECONDS_WORDS = re.compile(
    r"(?:combined|total) (?:duration|length)[^.]{0,40}?(?:exceed|and|up to|at most|max(?:imum)?) ([0-9]{1,3}) ?"
    r"s(?:econds?)?\b",
    re.IGNORECASE,
)
_OUTPUT_COUNT = re.compile(
    r"n|(?:num|number_of|n)_(?:outputs?|images?|videos?|results?|samples?|generations?|variations?)|batch_(?:size|count)"
    r"|(?:output|image|video|sample)_count|outputs",
    re.IGNORECASE,
)
_ONE_RESULT = "One result a run: the price is that of one."
_ANY = re.compile(r"auto|adaptive|model|dynamic", re.IGNORECASE)


def draft_input(
    field: SchemaField, tool: ToolName, medium: MediaField | None, fillings: Mapping[str, Filling]
) -> Input:
    """The input of a manifest that says what the schema says, and what fills it."""
    filling = fillings.get(field.name)
    kind = medium.kind if medium else field.type
    authors = is_media_default(field.default)
    default = None if medium or authors else _plain_default(field)
    if filling is not None and default == "":
        default = None  # an argument is never empty
    drawn = (filling is not None and filling.argument == "seed") or (filling is None and _is_seed(field))
    send, sent_facts = _value_to_send(field, tool, filling)
    minimum = max(field.minimum or 0, 0) if drawn else field.minimum
    facts: dict[str, object] = {
        "kind": kind,
        "many": field.many,
        "required": authors or (field.is_required and (filling is not None or default is None)),
        "argument": filling.argument if filling else None,
        "encode": filling.encode if filling else None,
        "default": None if drawn and default == -1 else default,
        "send": send,
        "choices": field.choices,
        "minimum": minimum,
        "maximum": field.maximum if not drawn or field.maximum is None else min(field.maximum, float(2**63 - 1)),
        "step": field.step,
        "max_length": field.max_length,
        **_limits_in_words(field, medium),
        "drawn": drawn,
    }
    if filling is not None and filling.argument == "duration" and minimum == -1:
        facts |= {"minimum": 1, "also": (-1,)}  # -1 lets the model choose; 0 seconds are none
        sent_facts = [*sent_facts, "minimum"]
    if filling is None and _is_output_count(field):
        # A price is that of one result, and one is what a tool gives: more would cost a multiple of the estimate.
        facts |= {"send": 1, "maximum": 1, "note": _ONE_RESULT}
        sent_facts = ["send", "maximum"]
    facts |= _aliases(field, tool, filling) | _clip_facts(field, filling, medium, fillings)
    inferred = [*sent_facts, *(["argument"] if filling and filling.is_guess else []), *_guessed_kind(medium)]
    inferred += [name for name in ("fits", "step", "aliases") if facts.get(name) and (name != "step" or not field.step)]
    inferred += ["required"] if authors else []
    try:
        return Input(**{**facts, "inferred": tuple(dict.fromkeys(inferred))})  # type: ignore[arg-type]
    except ValidationError:
        bare = {name: facts[name] for name in ("kind", "many", "required", "argument", "encode")}
        return Input(**bare)  # type: ignore[arg-type]


def _limits_in_words(field: SchemaField, medium: MediaField | None) -> dict[str, object]:
    """How many files a list takes, and how long they may last together, where only the description says so."""
    counts = [int(found[1]) for found in _COUNT_WORDS.finditer(field.description)] if medium and field.many else []
    seconds = _SECONDS_WORDS.search(field.description) if medium and medium.kind in ("video", "audio") else None
    return {
        "max_items": field.max_items or max((one for one in counts if one), default=None),
        "max_total_seconds": int(seconds[1]) or None if seconds and field.many else None,
    }


def _guessed_kind(medium: MediaField | None) -> list[str]:
    return ["kind"] if medium and medium.why in ("description", "purpose") else []


def _plain_default(field: SchemaField) -> Json:
    value = field.default
    if isinstance(value, list):
        return value if all(isinstance(one, bool | int | float | str) for one in value) else None
    return value if isinstance(value, bool | int | float | str) else None


def _is_seed(field: SchemaField) -> bool:
    return field.type == "integer" and not field.many and not field.choices and field.name.lower() in (
        "seed", "random_seed", "noise_seed",
    )  # fmt: skip


def _is_output_count(field: SchemaField) -> bool:
    is_count = _OUTPUT_COUNT.fullmatch(field.name) is not None and field.type == "integer" and not field.many
    return is_count and not field.choices and (field.minimum or 0) <= 1


def _value_to_send(field: SchemaField, tool: ToolName, filling: Filling | None) -> tuple[Scalar | None, list[str]]:
    """What is sent when no argument fills an input: bare masks, and no author's words in place of the user's."""
    sent: Scalar | None = None
    if filling is not None:
        if filling.argument == "instruction" and isinstance(field.default, str) and field.default:
            sent = ""
        elif filling.argument == "prompt" and tool == "describe_with_masks" and field.is_required:
            sent = _MASK_REQUEST if filling.encode else "Describe the image briefly."
    elif field.is_required and field.name.startswith("negative") and field.type == "string" and field.default is None:
        sent = ""
    elif tool == "edit_video_with_mask":
        sent = _edit_value(field)
    elif tool in _SEGMENT_TOOLS:
        if field.type == "boolean":
            sent = _BARE_MASKS.get(field.name)
        elif field.name in ("max_masks", "num_masks") and field.type == "integer" and field.maximum is not None:
            sent = int(field.maximum)
        elif field.name in ("output_format", "format") and "png" in field.choices:
            sent = "png"
    return sent, [] if sent is None else ["send"]


def _edit_value(field: SchemaField) -> Scalar | None:
    """The way of working that edits what a mask selects, and the clip's own sound."""
    if field.name in _KEPT_SOUND and field.type == "boolean":
        return True
    return next((one for one in field.choices if one in _EDIT_CHOICES), None)


def _aliases(field: SchemaField, tool: ToolName, filling: Filling | None) -> dict[str, object]:
    """-1 as the argument for a choice by which the model itself chooses, where the argument is a number."""
    if filling is None or field.type != "string" or argument_kind(tool, filling.argument) != "integer":
        return {}
    free = [one for one in field.choices if isinstance(one, str) and _ANY.fullmatch(one)]
    return {"aliases": {"-1": free[0]}} if free and "-1" not in field.choices else {}


def _clip_facts(
    field: SchemaField, filling: Filling | None, medium: MediaField | None, fillings: Mapping[str, Filling]
) -> dict[str, object]:
    """What follows the edited video: the mask covers it, the number of frames and the size are its own."""
    if filling is None:
        return {}
    if filling.argument == "mask" and medium is not None:
        covered = next((name for name, one in fillings.items() if one.argument == "video"), None)
        return {"covers": covered}
    if filling.argument == "size":
        sizes = [*field.choices, field.default]
        return {"fits": "size"} if all(isinstance(one, str) and parse_size(one) for one in sizes) else {}
    if filling.argument == "frame_num" and field.maximum is not None and field.type == "integer":
        known = [one for one in (field.minimum, field.maximum, field.default) if isinstance(one, int | float)]
        is_wan = len(known) > 1 and all(one % 4 == 1 for one in known) and not field.step
        return {"fits": "frames"} | ({"step": 4, "offset": 1} if is_wan else {})
    return {}


def needed_beside(inputs: Mapping[str, Input]) -> dict[str, tuple[str, ...]]:
    """Of a last frame that is not required: the first frame, which no model was seen to do without."""
    names = {one.argument: name for name, one in inputs.items() if one.argument}
    first, last = names.get("first_frame"), names.get("last_frame")
    return {last: (first,)} if first and last and not inputs[first].required else {}


def draft_example(document: ModelDocument, inputs: Mapping[str, Input]) -> dict[str, JsonValue]:
    """A request as the provider's page shows it, as far as the inputs take it, with a stand-in for what is missing."""
    fields = {one.name: one for one in document.fields}
    example: dict[str, JsonValue] = {}
    for name, one in inputs.items():
        listed = fields[name].examples
        shown = [document.example_input.get(name), *(listed[:1] if not one.many else [*listed[:1], list(listed)])]
        shown += [fields[name].default] if one.required else []
        if one.required and one.send is None:
            shown += _stand_ins(one)
        value = next((fit for value in shown if (fit := _fit_value(name, one, value)) is not None), None)
        if value is not None:
            example[name] = cast("JsonValue", value)
    return example


def _fit_value(name: str, one: Input, value: Json) -> Json:
    """A value of an example in the form in which it would be sent; None where the input does not take it."""
    if value is None or value == "" or measure_depth(value, _MAX_EXAMPLE_LEVELS + 1) > _MAX_EXAMPLE_LEVELS:
        return None
    if one.many and not isinstance(value, list):
        value = [value]
    if _holds_null(value) or len(repr(value)) > _MAX_EXAMPLE_LENGTH or (not one.many and isinstance(value, list)):
        return None
    items = value if isinstance(value, list) else [value]
    if one.is_media and not all(isinstance(item, str) and item.startswith("https://") for item in items):
        return None
    try:
        return check_value(name, one, one.canonical_choice(value) if isinstance(value, str) else value)
    except InvalidInput:
        return None


def _holds_null(value: Json) -> bool:
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return value is None or any(map(_holds_null, parts))


def _stand_ins(one: Input) -> list[Json]:
    """Values for the example of a required input of which no page shows any."""
    found: list[Json] = [*one.choices[:1], _SAMPLES[one.kind]]
    found += [one.minimum, one.maximum]
    return [int(value) if one.kind == "integer" and isinstance(value, float) else value for value in found]
