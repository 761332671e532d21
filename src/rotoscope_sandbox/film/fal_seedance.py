"""Seedance as fal offers it: three endpoints for each of three tiers, around the same animatic.

What surprises there: a duration is text and by default `auto`, and a number is refused; there is no seed to give, but
one in the reply; a name that the endpoint does not know, `seed` among them, is ignored without a word.
"""

import hashlib
import json
from collections.abc import Mapping
from functools import partial
from typing import Any

from rotoscope_sandbox.film import seedance
from rotoscope_sandbox.inner_task import InnerTask
from rotoscope_sandbox.models import EngineTask, Field, InputProblem, Model, UnusableInput
from rotoscope_sandbox.predictions import JsonObject

__all__ = ["MODELS"]

_AUTO = "auto"
_DURATIONS = (_AUTO, *(str(seconds) for seconds in range(4, 16)))
_ASPECTS = (_AUTO, "21:9", "16:9", "4:3", "1:1", "3:4", "9:16")
_MOST_FILES = 12
_NAMES = {
    "image_url": "image",
    "end_image_url": "last_frame_image",
    "image_urls": "reference_images",
    "video_urls": "reference_videos",
    "audio_urls": "reference_audios",
}
"""Inputs that hold files, with their names in the film engine."""

_AUTO_SECONDS = 8
"""What `auto` chooses here: not what the tool's users are used to, and longer."""


def _generate(known: frozenset[str], task: EngineTask) -> JsonObject:
    """Make the film; whatever is not in `known` is ignored."""
    given = {name: value for name, value in task.input.items() if name in known and value not in (None, "", [])}
    duration, aspect = given.get("duration", _AUTO), given.get("aspect_ratio", _AUTO)
    digest = hashlib.sha256(json.dumps(given, sort_keys=True).encode()).hexdigest()
    inputs: JsonObject = {
        "prompt": given["prompt"],
        **{theirs: given[name] for name, theirs in _NAMES.items() if name in given},
        "duration": _AUTO_SECONDS if duration == _AUTO else int(duration),
        "resolution": given.get("resolution", "720p"),
        "aspect_ratio": "adaptive" if aspect == _AUTO else aspect,
        "generate_audio": given.get("generate_audio", True),
        "seed": int(digest[:8], 16) % 2**31,
    }
    inner = InnerTask(task, inputs)
    try:
        film = seedance.make_film(inner)
    except UnusableInput as problem:
        back = {theirs: name for name, theirs in _NAMES.items()}
        raise UnusableInput(back.get(problem.field_name, problem.field_name), problem.message, problem.kind) from None
    width, height = film.size
    # What is billed by: fal's queue shows no metrics of a model.
    task.report({"width": width, "height": height, "video_input_duration_seconds": film.input_seconds})
    video = {"url": film.reference, "content_type": "video/mp4", "file_name": "output.mp4"}
    return {"video": video, "seed": inputs["seed"], "sandbox": inner.metrics["sandbox"]}


def _find_reference_problem(given: Mapping[str, Any]) -> InputProblem | None:
    lists = {name: given.get(name) or [] for name in ("image_urls", "video_urls", "audio_urls")}
    if not lists["image_urls"] and not lists["video_urls"]:
        name = "audio_urls" if lists["audio_urls"] else "image_urls"
        return InputProblem(name, "An image or a video is needed as a reference", "value_error")
    if sum(map(len, lists.values())) > _MOST_FILES:
        return InputProblem("image_urls", f"All references together are at most {_MOST_FILES} files", "value_error")
    return None


def _fields(resolutions: tuple[str, ...]) -> dict[str, Field]:
    return {
        "prompt": Field("string", required=True),
        "resolution": Field("string", options=resolutions),
        "duration": Field("string", options=_DURATIONS),
        "aspect_ratio": Field("string", options=_ASPECTS),
        "generate_audio": Field("boolean"),
        "end_user_id": Field("string"),
    }


_FRAMES = {"image_url": Field("string", required=True), "end_image_url": Field("string")}
_REFERENCES = {
    "image_urls": Field("list", most=9, items="string"),
    "video_urls": Field("list", most=3, items="string"),
    "audio_urls": Field("list", most=3, items="string"),
}


def _endpoints(tier: str, resolutions: tuple[str, ...]) -> tuple[Model, ...]:
    base, plain = f"bytedance/seedance-2.0{tier}", _fields(resolutions)
    if tier != "/mini":
        plain["bitrate_mode"] = Field("string", options=("standard", "high"))

    def endpoint(name: str, fields: Mapping[str, Field], check: Any = None) -> Model:
        more = {} if check is None else {"check": check}
        compute = partial(_generate, frozenset(fields))
        return Model("fal", f"{base}/{name}", fields, compute, run_seconds=0.0, **more)

    return (
        endpoint("text-to-video", plain),
        endpoint("image-to-video", plain | _FRAMES),
        endpoint("reference-to-video", plain | _REFERENCES, _find_reference_problem),
    )


MODELS = (
    *_endpoints("", ("480p", "720p", "1080p", "4k")),
    *_endpoints("/fast", ("480p", "720p")),
    *_endpoints("/mini", ("480p", "720p")),
)
"""Text, first frame and references, each at its own endpoint, of the full, the fast and the small model."""
