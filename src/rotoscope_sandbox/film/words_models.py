"""Edits by words alone as fal and Replicate offer them: Wan 2.7 and Kling O3.

What surprises there: Wan makes 1080p where no resolution is given, `duration` is a whole number where others take text,
and `audio_setting` is `auto`, which may replace what is spoken. Kling takes no clip with a side under 720 pixels, nor
one of fewer than 24 frames a second; it keeps the clip's sound. What is too long or too small is found out only when a
runner has opened the file.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from rotoscope_sandbox.film.input_media import InputVideo, open_video
from rotoscope_sandbox.film.words_edit import Sound, WordsEdit, WrittenEdit, even_size, write_words_edit
from rotoscope_sandbox.models import EngineTask, Field, InputProblem, Model, UnusableInput
from rotoscope_sandbox.predictions import JsonObject

__all__ = ["MODELS"]

_WAN_SIDES = {"720p": 720, "1080p": 1080}
_WAN_SECONDS = (2, 10)
_MEGABYTE = 1_000_000
_WAN_BYTES, _KLING_BYTES = 100 * _MEGABYTE, 200 * _MEGABYTE
_KLING_PICTURES = 4
_SPARE_SECONDS = 0.1
"""By which a file may be longer: codecs pad every file."""


@dataclass(frozen=True, slots=True)
class _Limits:
    """What a model takes: seconds, pixels of each side, frames a second (each from, to), and bytes."""

    seconds: tuple[float, float]
    most_bytes: int
    sides: tuple[int, int] = (1, 100_000)
    rates: tuple[float, float] = (0.1, 1000.0)


_WAN_LIMITS = _Limits(_WAN_SECONDS, _WAN_BYTES)
_KLING_LIMITS = _Limits((3, 15), _KLING_BYTES, (720, 3840), (24, 60))


def _open_within(task: EngineTask, field_name: str, reference: str, limits: _Limits) -> InputVideo:
    """The clip. Raises `UnusableInput` with fal's name of what is wrong where it is not what the model takes."""
    video = open_video(task, field_name, reference)
    least, most = limits.seconds
    if video.path.stat().st_size > limits.most_bytes:
        raise UnusableInput(field_name, f"File size exceeds {limits.most_bytes // _MEGABYTE} MB.", "file_too_large")
    if video.seconds > most + _SPARE_SECONDS:
        message = f"Video duration exceeds the maximum allowed: {video.seconds:.2f} s, at most {most:g} s."
        raise UnusableInput(field_name, message, "video_duration_too_long")
    if video.seconds < least - _SPARE_SECONDS:
        message = f"Video duration is too short: {video.seconds:.2f} s, at least {least:g} s."
        raise UnusableInput(field_name, message, "video_duration_too_short")
    low, high = limits.sides
    if min(video.width, video.height) < low or max(video.width, video.height) > high:
        message = f"Video dimensions {video.width}x{video.height} are not within {low} to {high} pixels."
        raise UnusableInput(field_name, message, "image_too_small" if video.width < low else "image_too_large")
    if not limits.rates[0] * 0.99 <= video.rate <= limits.rates[1] * 1.01:
        message = f"Video frame rate {float(video.rate):.2f} is not within {limits.rates[0]:g} to {limits.rates[1]:g}."
        raise UnusableInput(field_name, message)
    return video


def _given(task: EngineTask) -> JsonObject:
    return {name: value for name, value in task.input.items() if value not in (None, "", [])}


def _seed(given: Mapping[str, Any]) -> int:
    digest = hashlib.sha256(json.dumps(given, sort_keys=True).encode()).hexdigest()
    return int(given.get("seed", int(digest[:8], 16) % 2**31))


def _edit_with_wan(
    task: EngineTask, given: JsonObject, video_field: str, picture_field: str
) -> tuple[str, WrittenEdit]:
    """The reference of the kept MP4, and how it was made."""
    video = _open_within(task, video_field, given[video_field], _WAN_LIMITS)
    picture = given.get(picture_field)
    sound: Sound = "own" if given.get("audio_setting", "auto") == "origin" else "new"
    asked = given.get("duration") or None
    edit = WordsEdit(
        prompt=given["prompt"],
        video=video,
        size=even_size(video, _WAN_SIDES[given.get("resolution", "1080p")]),
        rate=video.rate,
        seconds=min(float(asked), video.seconds) if asked else None,
        sound=sound,
        references=[picture] if picture else [],
        references_field=picture_field,
    )
    return _write(task, edit)


def _write(task: EngineTask, edit: WordsEdit) -> tuple[str, WrittenEdit]:
    path = task.scratch / "edit.mp4"
    written = write_words_edit(task, edit, path)
    task.report(
        {
            "video_output_count": 1,
            "video_output_frames": written.frames,
            "video_output_duration_seconds": written.seconds,
            "width": edit.size[0],
            "height": edit.size[1],
        }
    )
    return task.keep("output.mp4", path), written


def _file(reference: str) -> JsonObject:
    return {"url": reference, "content_type": "video/mp4", "file_name": "output.mp4"}


def _edit_with_wan_at_fal(task: EngineTask) -> JsonObject:
    given = _given(task)
    reference, written = _edit_with_wan(task, given, "video_url", "reference_image_url")
    return {
        "video": _file(reference),
        "seed": _seed(given),
        "actual_prompt": given["prompt"],
        "sandbox": written.note,
    }


def _edit_with_wan_on_replicate(task: EngineTask) -> str:
    given = _given(task)
    reference, written = _edit_with_wan(task, given, "video", "reference_image")
    # In the metrics, because an output that is a bare URL has no place for it.
    task.report({"resolution_target": given.get("resolution", "1080p"), "sandbox": written.note})
    return reference


def _edit_with_kling(task: EngineTask) -> JsonObject:
    given = _given(task)
    video = _open_within(task, "video_url", given["video_url"], _KLING_LIMITS)
    edit = WordsEdit(
        prompt=given["prompt"],
        video=video,
        size=(video.width - video.width % 2, video.height - video.height % 2),
        rate=min(video.rate, Fraction(60)),
        sound="own" if given.get("keep_audio", True) else "none",
        references=given.get("image_urls", ()),
        references_field="image_urls",
    )
    reference, written = _write(task, edit)
    return {"video": _file(reference), "sandbox": written.note}


def _find_duration_problem(given: Mapping[str, Any]) -> InputProblem | None:
    asked = given.get("duration")
    if asked in (None, 0) or _WAN_SECONDS[0] <= asked <= _WAN_SECONDS[1]:
        return None
    return InputProblem("duration", f"duration is 0 or {_WAN_SECONDS[0]} to {_WAN_SECONDS[1]}", "literal_error")


def _find_reference_problem(given: Mapping[str, Any]) -> InputProblem | None:
    count = len(given.get("image_urls") or []) + len(given.get("elements") or [])
    if count <= _KLING_PICTURES:
        return None
    return InputProblem("image_urls", f"Elements and images together are at most {_KLING_PICTURES}", "too_long")


_TEXT = Field("string", required=True)
_WAN_FIELDS = {
    "prompt": _TEXT,
    "resolution": Field("string", options=tuple(_WAN_SIDES)),
    "aspect_ratio": Field("string"),
    "duration": Field("integer", least=0, most=10),
    "audio_setting": Field("string", options=("auto", "origin")),
    "seed": Field("integer"),
}
_KLING_FIELDS = {
    "prompt": Field("string", required=True, most=2500),
    "video_url": _TEXT,
    "image_urls": Field("list", items="string"),
    "elements": Field("list"),
    "keep_audio": Field("boolean"),
    "shot_type": Field("string", options=("customize",)),
}

MODELS = (
    Model(
        "fal",
        "fal-ai/wan/v2.7/edit-video",
        {
            **_WAN_FIELDS,
            "video_url": _TEXT,
            "reference_image_url": Field("string"),
            "enable_safety_checker": Field("boolean"),
        },
        _edit_with_wan_at_fal,
        check=_find_duration_problem,
        run_seconds=0.0,
    ),
    Model(
        "replicate",
        "wan-video/wan-2.7-videoedit",
        {
            **_WAN_FIELDS,
            "video": _TEXT,
            "reference_image": Field("string"),
            "duration": Field("integer", least=2, most=10),
        },
        _edit_with_wan_on_replicate,
        run_seconds=0.0,
    ),
    *(
        Model(
            "fal",
            f"fal-ai/kling-video/o3/{tier}/video-to-video/edit",
            _KLING_FIELDS,
            _edit_with_kling,
            check=_find_reference_problem,
            run_seconds=0.0,
        )
        for tier in ("standard", "pro")
    ),
)
