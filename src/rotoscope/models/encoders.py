"""Encoders: how a tool argument becomes the shape that a model's input has, named by `encode` in a manifest. Pure."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from rotoscope.models.manifest import EncoderName
from rotoscope.providers.http.messages import Json

__all__ = ["ENCODERS", "Encoder", "encode_argument", "is_on_frame"]

_MASK_REQUEST = "Please respond with interleaved segmentation masks for the corresponding parts of the answer."
_VIDEO_1 = re.compile(r"(?<!\w)video ?1(?!\d)", re.IGNORECASE)
_REFERENCE = re.compile(r"(?<![@\w])(Image|Video|Audio) ?([1-9])(?!\w)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Encoder:
    """A named conversion of one argument.

    Attributes:
        arguments: the tool arguments that it can read.
        kind: the kind of input that it makes.
        many: whether that input is a list.
        meaning: what it makes, in one sentence, for docs/manifest.md.
        example: a value of the argument, which the page shows encoded.
        encode: makes the model's value; None where nothing is to be sent.
        is_on_frame: whether it reads on which frame of a clip the value is, as the key `frame` of each object.
    """

    arguments: tuple[str, ...]
    kind: str
    many: bool
    meaning: str
    example: Json
    encode: Callable[[Json], Json]
    is_on_frame: bool = False


def _select_points(value: Json, *, keep: bool) -> list[dict[str, Json]]:
    points = value if isinstance(value, list) else []
    return [point for point in points if isinstance(point, dict) and point.get("keep", True) is keep]


def _round_pixel(value: Json) -> int:
    return round(value) if isinstance(value, int | float) else 0


def _points_as_json(value: Json, *, keep: bool) -> Json:
    pairs: list[Json] = [[_round_pixel(p["x"]), _round_pixel(p["y"])] for p in _select_points(value, keep=keep)]
    if not pairs:
        return None
    return json.dumps(pairs[0] if len(pairs) == 1 else pairs, separators=(",", ":"))


def _encode_labelled_points(value: Json) -> Json:
    points = value if isinstance(value, list) else []
    return [
        {"label": int(p.get("keep") is not False), "x": _round_pixel(p["x"]), "y": _round_pixel(p["y"])}
        for p in points
        if isinstance(p, dict)
    ]


def _encode_corner_box(value: Json) -> Json:
    if not isinstance(value, dict):
        return None
    names = {"x_min": "left", "y_min": "top", "x_max": "right", "y_max": "bottom"}
    return [{name: _round_pixel(value[side]) for name, side in names.items()}]


def _encode_framed_points(value: Json) -> Json:
    points = value if isinstance(value, list) else []
    frames = [{"frame_index": p.get("frame", 0)} for p in points if isinstance(p, dict)]
    labelled = _encode_labelled_points(value)
    assert isinstance(labelled, list)
    return [one | frame for one, frame in zip(labelled, frames, strict=True) if isinstance(one, dict)]


def _encode_framed_box(value: Json) -> Json:
    boxes = _encode_corner_box(value)
    frame = value.get("frame", 0) if isinstance(value, dict) else 0
    return [one | {"frame_index": frame} for one in boxes if isinstance(one, dict)] if isinstance(boxes, list) else None


def _append_mask_request(value: Json) -> Json:
    """A Sa2VA model interleaves masks only when the prompt asks for them, as the prompt of its own example does."""
    text = str(value).strip()
    return text if "segmentation mask" in text.lower() else f"{text} {_MASK_REQUEST}"


def _mark_references(value: Json) -> Json:
    """A reference as the Seedance models at fal read it; what is marked already stays."""
    return _REFERENCE.sub(r"@\1\2", str(value).strip())


def _name_edited_video(value: Json) -> Json:
    """The order with the film that it is about: what a reference film is for, the prompt alone says."""
    text = str(value).strip()
    return text if _VIDEO_1.search(text) else f"Edit Video 1: {text}"


_POINTS: Json = [{"x": 10.4, "y": 20, "keep": True}, {"x": 5, "y": 6, "keep": False}]
_FRAMED_POINTS: Json = [{"x": 10.4, "y": 20, "keep": True, "frame": 12}]

ENCODERS: Mapping[EncoderName, Encoder] = {
    "include_points_json": Encoder(
        ("points",),
        "string",
        many=False,
        meaning="The points on the object as JSON text: `[x,y]`, several as `[[x,y],...]`, in whole pixels.",
        example=_POINTS,
        encode=lambda value: _points_as_json(value, keep=True),
    ),
    "exclude_points_json": Encoder(
        ("points",),
        "string",
        many=False,
        meaning="The points beside the object (`keep: false`) in the same form.",
        example=_POINTS,
        encode=lambda value: _points_as_json(value, keep=False),
    ),
    "labelled_points": Encoder(
        ("points",),
        "object",
        many=True,
        meaning="A list of `{label, x, y}`; label 1 is on the object, 0 beside it.",
        example=_POINTS,
        encode=_encode_labelled_points,
    ),
    "corner_box": Encoder(
        ("box",),
        "object",
        many=True,
        meaning="A list of one `{x_min, y_min, x_max, y_max}`, in whole pixels.",
        example={"left": 1, "top": 2, "right": 30, "bottom": 40.6},
        encode=_encode_corner_box,
    ),
    "framed_points": Encoder(
        ("points",),
        "object",
        many=True,
        meaning="A list of `{label, x, y, frame_index}`: `labelled_points` on the frame that `frame` names.",
        example=_FRAMED_POINTS,
        encode=_encode_framed_points,
        is_on_frame=True,
    ),
    "framed_box": Encoder(
        ("box",),
        "object",
        many=True,
        meaning="A list of one `{x_min, y_min, x_max, y_max, frame_index}`: `corner_box` on that frame.",
        example={"left": 1, "top": 2, "right": 30, "bottom": 40.6, "frame": 12},
        encode=_encode_framed_box,
        is_on_frame=True,
    ),
    "append_sa2va_request": Encoder(
        ("prompt", "instruction"),
        "string",
        many=False,
        meaning="The prompt, and a sentence that asks a Sa2VA model for masks unless the prompt does.",
        example="What is on the table?",
        encode=_append_mask_request,
    ),
    "at_references": Encoder(
        ("prompt",),
        "string",
        many=False,
        meaning="The prompt, with `Image 1`, `Video 2` and `Audio 1` as `@Image1`, `@Video2` and `@Audio1`.",
        example="The man of Image 1 walks as in Video 1.",
        encode=_mark_references,
    ),
    "edit_video_1": Encoder(
        ("prompt",),
        "string",
        many=False,
        meaning="The prompt as an order about `Video 1`, unless it names that: for a model that is given the edited "
        "video as a reference.",
        example="Make the car red.",
        encode=_name_edited_video,
    ),
    "edit_at_video_1": Encoder(
        ("prompt",),
        "string",
        many=False,
        meaning="The same, with references as `at_references` writes them.",
        example="Give the man the hat of Image 1.",
        encode=lambda value: _mark_references(_name_edited_video(value)),
    ),
}


def is_on_frame(name: EncoderName | None) -> bool:
    """Whether what an encoder makes says on which frame of a clip it is."""
    return name is not None and ENCODERS[name].is_on_frame


def encode_argument(name: EncoderName, value: Json, frame: Json) -> Json:
    """The model's value of an argument.

    Args:
        name: the encoder.
        value: the argument.
        frame: the frame of the clip that points and a box are on.
    """
    encoder = ENCODERS[name]
    if not encoder.is_on_frame:
        return encoder.encode(value)
    placed = [value] if isinstance(value, dict) else value if isinstance(value, list) else []
    on_frame: list[Json] = [{**one, "frame": frame or 0} for one in placed if isinstance(one, dict)]
    return encoder.encode(on_frame[0] if isinstance(value, dict) else on_frame)
