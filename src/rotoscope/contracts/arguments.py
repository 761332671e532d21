"""What each tool takes. The same records stand behind MCP, the command line and the tests."""

import json
import re
from collections.abc import Mapping
from typing import Annotated, Literal, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    ValidationError,
    WithJsonSchema,
    model_validator,
)

from rotoscope.contracts.argument_errors import invalid_argument_error, unknown_argument_error
from rotoscope.contracts.characters import first_control_character, is_blank
from rotoscope.errors import InvalidInput

__all__ = [
    "LONGEST_WAIT",
    "UNLISTED",
    "Arguments",
    "BoxArgument",
    "CancelJob",
    "DescribeWithMasks",
    "EditVideoWithMask",
    "GenerateVideo",
    "GetJob",
    "ListJobs",
    "PointArgument",
    "SegmentImage",
    "SegmentVideo",
    "UploadMedia",
    "ViewMedia",
    "argument_strings",
    "find_references",
    "parse_arguments",
    "require_prompt",
]

_JOB_LINK = re.compile(r"job://([0-9a-f]{32})")
_SHA256 = re.compile(r"[0-9a-f]{64}")
# Gemini CLI adds this key to the schema of every tool and sends it along.
_IGNORED = frozenset({"wait_for_previous"})


def _reject_boolean(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("a number is wanted, not true or false")  # noqa: TRY004 - pydantic reports a ValueError
    return value


def _parse_json_text(value: object) -> object:
    """The value of a JSON string; assistants send one where an array or an object is wanted."""
    if isinstance(value, str) and value.lstrip().startswith(("[", "{")):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


def _read_options(value: object) -> object:
    """The options of a JSON text or an object, without those that are null; None where none is left."""
    decoded = _parse_json_text(value)
    if not isinstance(decoded, Mapping):
        raise ValueError("it is not a JSON object of the model's inputs by name")  # noqa: TRY004 - as above
    return {name: one for name, one in decoded.items() if one is not None} or None


def _read_target(value: object) -> object:
    """Words, a box, or points; one point is a list of one."""
    decoded = _parse_json_text(value)
    return [decoded] if isinstance(decoded, dict) and "left" not in decoded else decoded


def _wrap_in_list(value: object) -> object:
    """A list of one for a single item."""
    decoded = _parse_json_text(value)
    return [decoded] if isinstance(decoded, dict | str) else decoded


def _strip_text(value: object) -> object:
    """A text without blanks at its ends; any other value as it is."""
    return value.strip() if isinstance(value, str) else value


def _normalize_keyword(value: object) -> object:
    """A keyword in lower case, without blanks at its ends."""
    return value.strip().lower() if isinstance(value, str) else value


LONGEST_WAIT = 45.0
"""Seconds: below every limit of 60 that a client has."""

UNLISTED = "x-unlisted"
"""The keyword of an argument that is taken, and not listed to assistants."""

Number = Annotated[float, BeforeValidator(_reject_boolean)]
WaitSeconds = Annotated[float, Field(ge=0, le=LONGEST_WAIT), BeforeValidator(_reject_boolean)]
Media = Annotated[str, Field(min_length=1)]
Flag = Annotated[bool, BeforeValidator(_strip_text)]
JobId = Annotated[str, Field(min_length=1, max_length=200, description="Id or job://."), BeforeValidator(_strip_text)]
ModelId = Annotated[str | None, Field(description="Default auto."), BeforeValidator(_strip_text)]
# A text of JSON, because objects of any shape break several clients; an object is taken as well.
_LISTED_AS_TEXT = WithJsonSchema({"type": "string"})
_OtherInputs = Annotated[dict[str, JsonValue] | None, Field(max_length=64), BeforeValidator(_read_options)]
Options = Annotated[_OtherInputs, Field(description="Other inputs, JSON."), _LISTED_AS_TEXT]
_UNLISTED = Field(json_schema_extra={UNLISTED: True})  # knobs of a sampler: no conversation need pay for them
DryRun = Annotated[Flag, Field(description="Default false.")]


class Arguments(BaseModel):
    """The base of all: unknown names are refused, nothing can be changed afterwards."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
        allow_inf_nan=False,
        defer_build=True,  # a start needs the arguments of few tools
    )

    @model_validator(mode="before")
    @classmethod
    def _drop_omitted_arguments(cls, given: object) -> object:
        decoded = _parse_json_text(given)
        if not isinstance(decoded, Mapping):
            return decoded
        return {name: value for name, value in decoded.items() if not _is_omitted(cls, name, value)}


class PointArgument(Arguments):
    """A click on the upright picture."""

    x: Number
    y: Number
    keep: Annotated[Flag, Field(description="false: outside. Default true.")] = True


class BoxArgument(Arguments):
    """A rectangle on the upright picture; right and bottom are just outside."""

    left: Number
    top: Number
    right: Number
    bottom: Number


Points = Annotated[list[PointArgument] | None, Field(max_length=64), BeforeValidator(_wrap_in_list), _LISTED_AS_TEXT]
Box = Annotated[BoxArgument | None, BeforeValidator(_parse_json_text), _LISTED_AS_TEXT]


class SegmentImage(Arguments):
    """Arguments of `segment_image`."""

    image: Annotated[Media, Field(description="Path, URL, data URI, artifact:// or job://.")]
    instruction: Annotated[str | None, Field(max_length=2000, description="E.g. 'the red car'.")] = None
    points: Annotated[Points, Field(description="JSON: 1-64 {x, y, keep}, upright pixels; keep false: outside.")] = None
    box: Annotated[Box, Field(description="JSON: {left, top, right, bottom}.")] = None
    overlay: Annotated[Flag, Field(description="Default true.")] = True
    options: Options = None
    model: ModelId = None
    dry_run: DryRun = False


class SegmentVideo(Arguments):
    """Arguments of `segment_video`. Points, box and mask are on one frame of the clip, in its upright pixels."""

    video: Annotated[Media, Field(description="Clip.")]
    instruction: Annotated[str | None, Field(max_length=2000, description="Words.")] = None
    points: Annotated[Points, Field(description="As for images.")] = None
    box: Annotated[Box, Field(description="As for images.")] = None
    mask: Annotated[Media | None, Field(description="Picture; white is it.")] = None
    frame: Annotated[int, Field(ge=0, description="Of these. Default 0."), BeforeValidator(_reject_boolean)] = 0
    options: Options = None
    model: ModelId = None
    dry_run: DryRun = False


class DescribeWithMasks(Arguments):
    """Arguments of `describe_with_masks`."""

    image: Annotated[Media, Field(description="Path or URL.")]
    prompt: Annotated[str | None, Field(max_length=2000, description="Default brief.")] = None
    options: Options = None
    model: ModelId = None
    dry_run: DryRun = False


Text = Annotated[str, Field(min_length=1, max_length=4000)]
WholeNumber = Annotated[int | None, BeforeValidator(_reject_boolean)]
MediaList = Annotated[list[Media] | None, BeforeValidator(_wrap_in_list)]


class GenerateVideo(Arguments):
    """Arguments of `generate_video`. What a model takes of each is in its manifest, and checked there."""

    prompt: Annotated[Text, Field(description="What happens; references are 'Image 1' and so on.")]
    first_frame: Annotated[Media | None, Field(description="Start picture.")] = None
    last_frame: Annotated[Media | None, Field(description="Needs first_frame.")] = None
    reference_images: Annotated[MediaList, Field(description="Up to 9; not with frames above.")] = None
    reference_videos: Annotated[MediaList, Field(description="Up to 3, 15 s in all.")] = None
    reference_audios: Annotated[MediaList, Field(description="Up to 3, 15 s; needs an image or video.")] = None
    duration: Annotated[WholeNumber, Field(description="4-15 s, -1: model chooses. Default 5.")] = None
    resolution: Annotated[str | None, Field(description="480p|720p|1080p|4k.")] = None
    aspect_ratio: Annotated[str | None, Field(description="A ratio or adaptive. Default 16:9.")] = None
    generate_audio: Annotated[Flag | None, Field(description="Default true.")] = None
    seed: Annotated[WholeNumber, Field(description="Default drawn.")] = None
    options: Options = None
    model: ModelId = None
    dry_run: DryRun = False


# Listed as a text, because a choice of shapes breaks several clients; a box and points are taken as well.
Target = Annotated[str | BoxArgument | list[PointArgument] | None, BeforeValidator(_read_target), _LISTED_AS_TEXT]


class EditVideoWithMask(Arguments):
    """Arguments of `edit_video_with_mask`. What a model takes of each is in its manifest, and checked there."""

    prompt: Annotated[Text, Field(description="What the masked area becomes.")]
    video: Annotated[Media, Field(description="To edit.")]
    mask: Annotated[Media | None, Field(description="White is edited: first frame or video.")] = None
    target: Annotated[Target, Field(description="Instead of mask: words, or JSON box or points.")] = None
    reference_images: Annotated[MediaList, Field(description="Up to 3.")] = None
    size: Annotated[str | None, Field(description="auto|480p|580p|720p. Default auto.")] = None
    frame_num: Annotated[WholeNumber, Field(description="17-241. Default by video.")] = None
    speed_mode: Annotated[str | None, Field(description="fastest (default), fast, consistent.")] = None
    sample_steps: Annotated[WholeNumber, Field(description="2-50. Default 30."), _UNLISTED] = None
    sample_shift: Annotated[WholeNumber, Field(description="1-15. Default 5."), _UNLISTED] = None
    sample_solver: Annotated[str | None, Field(description="unipc (default), dpm++, euler."), _UNLISTED] = None
    sample_guide_scale: Annotated[WholeNumber, Field(description="1-10. Default 5."), _UNLISTED] = None
    keep_outside: Annotated[Flag, Field(description="Original back outside the mask. Default false.")] = False
    seed: Annotated[WholeNumber, Field(description="Default drawn.")] = None
    options: Options = None
    model: ModelId = None
    dry_run: DryRun = False


class GetJob(Arguments):
    """Arguments of `get_job`."""

    job_id: JobId
    wait_seconds: Annotated[WaitSeconds, Field(description="0-45. Default 0.")] = 0


class ViewMedia(Arguments):
    """Arguments of `view_media`."""

    uri: Annotated[Media, Field(description="artifact:// or job://ID/overlay."), BeforeValidator(_strip_text)]


class CancelJob(Arguments):
    """Arguments of `cancel_job`."""

    job_id: JobId


class ListJobs(Arguments):
    """Arguments of `list_jobs`."""

    status: Annotated[
        Literal["queued", "running", "succeeded", "failed", "cancelled", "needs_review"] | None,
        Field(description="Default all."),
        BeforeValidator(_normalize_keyword),
    ] = None
    limit: Annotated[int, Field(ge=1, le=100, description="1-100. Default 20."), BeforeValidator(_reject_boolean)] = 20


class UploadMedia(Arguments):
    """Arguments of `upload_media`: of a new upload its name and kind, of one that was asked for its ticket."""

    name: Annotated[str | None, Field(max_length=200, description="Shown to the person.")] = None
    kind: Annotated[
        Literal["image", "video", "audio", "mask"] | None,
        Field(description="Default by content."),
        BeforeValidator(_normalize_keyword),
    ] = None
    ticket: Annotated[str | None, Field(max_length=400, description="To ask again."), BeforeValidator(_strip_text)] = (
        None
    )
    wait_seconds: Annotated[WaitSeconds, Field(description="For the file, 0-45. Default 0.")] = 0


def require_prompt(arguments: Arguments) -> None:
    """Refuse a request whose prompts do not say what is wanted: all that shows without its media and its model.

    Raises:
        InvalidInput: a prompt is empty or holds a control character, there is none, or no object can be at its place.
    """
    for name in ("prompt", "instruction"):
        text = getattr(arguments, name, None)
        if text is None:
            continue
        if _is_text_empty(text):
            raise InvalidInput(f"The {name} is empty.", hint=_PROMPT_HINTS.get(type(arguments), "Say what is wanted."))
        if not text.isprintable() and (control := first_control_character(text)):
            raise InvalidInput(f"The {name} holds the control character {control}.", hint="Write it without.")
    if isinstance(arguments, SegmentImage | SegmentVideo):
        _require_object(arguments)
    if isinstance(arguments, EditVideoWithMask):
        _require_place(arguments)


def _require_object(asked: SegmentImage | SegmentVideo) -> None:
    if not (asked.instruction or asked.points or asked.box or getattr(asked, "mask", None)):
        more = ", or a mask of it" if isinstance(asked, SegmentVideo) else ""
        hint = f"Give an instruction in words, points, or a box around the object{more}."
        raise InvalidInput("Nothing says what to segment.", hint=hint)
    if asked.points and not any(point.keep for point in asked.points):
        raise InvalidInput("No point is on the object.", hint="Give at least one point with keep: true.")
    # Some models give places as fractions: read as pixels they are all in the first one.
    places = [value for point in asked.points or () for value in (point.x, point.y)]
    if asked.box is not None:
        places += [asked.box.left, asked.box.top, asked.box.right, asked.box.bottom]
    if all(0 <= place <= 1 for place in places) and any(place % 1 for place in places):
        hint = "Give pixels of the upright picture: multiply by its width and height."
        raise InvalidInput("The points or the box look like fractions of the picture.", hint=hint)
    if asked.box is not None and (asked.box.left >= asked.box.right or asked.box.top >= asked.box.bottom):
        raise InvalidInput("The box is empty.", hint="left must be less than right, and top less than bottom.")


def _require_place(asked: EditVideoWithMask) -> None:
    if asked.mask is None and asked.target is None and asked.model is None:  # a named one may edit by words alone
        hint = "Give target (words, or a box or points on the first frame), or a mask."
        raise InvalidInput("Nothing says which part of the video is to be edited.", hint=hint)
    if asked.mask is not None and asked.target is not None:
        raise InvalidInput("'mask' and 'target' both say which part is to be edited.", hint="Leave one of them out.")


_PROMPT_HINTS: Mapping[type[Arguments], str] = {
    SegmentImage: "Say what to segment, or give points or a box.",
    SegmentVideo: "Say what to segment, or give points, a box or a mask.",
    DescribeWithMasks: "Say what to describe, or leave the prompt out.",
}


Shape = TypeVar("Shape", bound=Arguments)
_RECORDS: Mapping[str, type[Arguments]] = {"points": PointArgument, "box": BoxArgument}
_SHAPES = {"target": "words, a box with left, top, right and bottom, or points with x, y and keep"}


def parse_arguments(shape: type[Shape], raw: Mapping[str, object]) -> Shape:
    """Check what a caller passed in.

    Raises:
        InvalidInput: one sentence about the first argument that is wrong, and the nearest name for an unknown one.
    """
    given = {name: value for name, value in raw.items() if name not in _IGNORED and not _is_omitted(shape, name, value)}
    unknown = [name for name in given if name not in shape.model_fields]
    if unknown:
        raise unknown_argument_error(shape, str(unknown[0]))
    try:
        return shape.model_validate(given)
    except ValidationError as error:
        raise invalid_argument_error(error, _RECORDS, _SHAPES) from None


def _is_omitted(shape: type[Arguments], name: object, value: object) -> bool:
    """Whether an optional argument means "left out": some clients send null, an empty text or a list of these."""
    field = shape.model_fields.get(str(name))
    return field is not None and not field.is_required() and _is_empty_value(value)


def argument_strings(arguments: Arguments) -> list[str]:
    """Every string in some arguments, except data URIs, which are files themselves."""
    return _strings_in(arguments.model_dump(mode="json"))


def find_references(arguments: Arguments) -> tuple[frozenset[str], frozenset[str]]:
    """What some arguments name by links or paths: jobs by their ids, and kept files by their hashes."""
    texts = argument_strings(arguments)
    jobs, files = (frozenset(name for text in texts for name in form.findall(text)) for form in (_JOB_LINK, _SHA256))
    return jobs, files


def _strings_in(value: object) -> list[str]:
    if isinstance(value, str):
        return [] if value[:5].lower() == "data:" else [value]
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for part in parts for text in _strings_in(part)]


def _is_empty_value(value: object) -> bool:
    match value:
        case str():
            return _is_text_empty(value)
        case list():
            return bool(value) and all(one is None or (isinstance(one, str) and _is_text_empty(one)) for one in value)
    return value is None


def _is_text_empty(text: str) -> bool:
    """Whether there is nothing to be seen in a text; in ASCII only blanks are nothing."""
    return not text.strip() if text.isascii() and text.isprintable() else is_blank(text)
