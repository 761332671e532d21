"""Seedance on Replicate: its inputs, frame sizes, log lines and metrics, around an animatic.

The sizes of 480p and 720p are the provider's. Of 1080p and 4k only 16:9 is sure; the others are ours: 720p scaled by
1.5 and by 3, with even sides.
"""

import hashlib
import json
import math
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from rotoscope_sandbox.film.animatic import FRAME_RATE, AnimaticPlan, StoryboardPanel, write_animatic
from rotoscope_sandbox.film.input_media import InputVideo, open_sound, open_video, read_sound, sample_frames
from rotoscope_sandbox.film.tqdm_progress import TqdmProgress
from rotoscope_sandbox.film.video_writer import SAMPLE_RATE, StereoSound
from rotoscope_sandbox.film.words_edit import WordsEdit, write_words_edit
from rotoscope_sandbox.models import EngineTask, Field, InputProblem, Model, UnusableInput
from rotoscope_sandbox.vision.pictures import decode_picture

__all__ = ["MODEL", "SIZES", "Film", "generate_video", "make_film"]

_ASPECTS = ("16:9", "4:3", "1:1", "3:4", "9:16", "21:9")

SIZES: Mapping[str, Mapping[str, tuple[int, int]]] = {
    resolution: dict(zip(_ASPECTS, sizes, strict=True))
    for resolution, sizes in {
        "480p": ((864, 496), (752, 560), (640, 640), (560, 752), (496, 864), (992, 432)),
        "720p": ((1280, 720), (1112, 834), (960, 960), (834, 1112), (720, 1280), (1470, 630)),
        "1080p": ((1920, 1080), (1668, 1252), (1440, 1440), (1252, 1668), (1080, 1920), (2206, 946)),
        "4k": ((3840, 2160), (3336, 2502), (2880, 2880), (2502, 3336), (2160, 3840), (4410, 1890)),
    }.items()
}
"""Width and height in pixels for every resolution and aspect ratio."""

_ADAPTIVE = "adaptive"
_DEFAULT_ASPECT = "16:9"
_DEFAULT_SECONDS = 5
_SECONDS = range(4, 16)
_AUTO = -1
"""The duration that leaves the choice to the model."""

_MOST_REFERENCE_SECONDS = 15.5
"""The provider takes 15 s of references in all; files may be a few frames longer."""

_LEAST_REFERENCE_SECONDS = 1.8
"""The provider takes films of 2 s; files may be a few frames shorter."""

_EDIT_ORDER = re.compile(r"\W*edit\W+video\W?1\b", re.IGNORECASE)
"""A prompt that orders an edit of the one reference video: that is played as an edit, any other as an animatic."""

_STILLS = 3
"""Frames of each reference video that become panels."""

_TOKEN_PIXELS = 1024
_MEGABYTE = 1024 * 1024
_CONFIDENCE = 0.1
_NOTICE = (
    "This is an animatic drawn by the sandbox: the prompt was not understood, only shown; "
    "set a provider key for a generated film."
)


def _find_problem(given: Mapping[str, Any]) -> InputProblem | None:
    """What no single field shows."""
    if given.get("last_frame_image") and not given.get("image"):
        return InputProblem("last_frame_image", "last_frame_image needs image", "value_error")
    if given.get("reference_images") and given.get("image"):
        return InputProblem("reference_images", "reference_images cannot be used together with image", "value_error")
    has_pictures = any(given.get(name) for name in ("image", "reference_images", "reference_videos"))
    if given.get("reference_audios") and not has_pictures:
        return InputProblem("reference_audios", "reference_audios needs an image or a video", "value_error")
    duration = given.get("duration")
    if duration is not None and duration != _AUTO and duration not in _SECONDS:
        return InputProblem(
            "duration", f"duration is {_AUTO} or {_SECONDS[0]} to {_SECONDS[-1]} seconds", "value_error"
        )
    return None


@dataclass(frozen=True, slots=True)
class Film:
    """A film that was made: the reference of the MP4, its size in pixels, its seconds, and those of the films in."""

    reference: str
    size: tuple[int, int]
    seconds: int
    input_seconds: float


def generate_video(task: EngineTask) -> str:
    """Make the animatic as `make_film` does; the reference of the kept MP4."""
    return make_film(task).reference


def make_film(task: EngineTask) -> Film:
    """Make the animatic, with the log lines and metrics of the real model.

    Raises `UnusableInput` when an input file cannot be used, `Stopped` when the task is cancelled.
    """
    start = time.perf_counter()
    given = {name: value for name, value in task.input.items() if value not in (None, "")}
    digest = hashlib.sha256(json.dumps(given, sort_keys=True).encode()).hexdigest()
    # Without a seed, the same request still gives the same film: a repeated request must not find another one.
    seed = given.get("seed", int(digest[:7], 16))
    task.log(f"Using seed: {seed}")
    resolution = given.get("resolution", "720p")
    videos = [open_video(task, "reference_videos", reference) for reference in given.get("reference_videos", [])]
    if len(videos) == 1 and _EDIT_ORDER.match(given.get("prompt", "")):
        return _edit_video(task, given, resolution, videos[0])
    plan = _plan_film(task, given, resolution, abs(seed), videos)
    task.log(f"Generating video... (request ID: cgt-{digest[:14]}-{digest[14:19]})")
    path = task.scratch / "film.mp4"
    write_animatic(plan, path, TqdmProgress(task, plan.frames))
    task.log(f"Generated video in {time.perf_counter() - start:.1f}sec")
    size = path.stat().st_size
    task.log(f"Downloading {size} bytes")
    task.log(f"Downloaded {size / _MEGABYTE:.2f}MB in 0.00sec")
    task.report(_metrics(plan, resolution, with_video=bool(given.get("reference_videos"))))
    film_in = sum(video.seconds for video in videos)
    return Film(task.keep("output.mp4", path), plan.size, plan.seconds, film_in)


def _edit_video(task: EngineTask, given: Mapping[str, Any], resolution: str, video: InputVideo) -> Film:
    """An edit of the reference video by the words of the prompt, of as many seconds as were ordered."""
    _check_reference_video(video)
    first = sample_frames(video, 1)
    shown = [StoryboardPanel(one, "Video 1") for one in first]
    size = _film_size(given.get("aspect_ratio", _DEFAULT_ASPECT), shown, SIZES[resolution])
    duration = given.get("duration", _DEFAULT_SECONDS)
    seconds = min(max(math.ceil(video.seconds), _SECONDS[0]), _SECONDS[-1]) if duration == _AUTO else duration
    edit = WordsEdit(
        prompt=given["prompt"],
        video=video,
        size=size,
        rate=Fraction(FRAME_RATE),
        seconds=seconds,
        sound="new" if given.get("generate_audio", True) else "none",
        references=given.get("reference_images", ()),
        references_field="reference_images",
    )
    path = task.scratch / "film.mp4"
    written = write_words_edit(task, edit, path)
    task.report({**_billed_metrics(size, seconds, resolution, with_video=True), "sandbox": written.note})
    return Film(task.keep("output.mp4", path), size, seconds, video.seconds)


def _check_reference_video(video: InputVideo) -> None:
    _check_total_length("reference_videos", [video.seconds])
    if video.seconds < _LEAST_REFERENCE_SECONDS:
        message = f"A reference video of {video.seconds:.2f} s is shorter than 2 seconds."
        raise UnusableInput("reference_videos", message, "video_duration_too_short")


def _metrics(plan: AnimaticPlan, resolution: str, *, with_video: bool) -> dict[str, Any]:
    """The model's own metrics, and how the film was made, because an output that is a bare URL has no place for it."""
    shown = f"{len(plan.panels)} panels" if len(plan.panels) > 1 else "one panel" if plan.panels else "a title card"
    note = {"method": f"animatic of {shown}", "confidence": _CONFIDENCE, "notice": _NOTICE}
    return {**_billed_metrics(plan.size, plan.seconds, resolution, with_video=with_video), "sandbox": note}


def _billed_metrics(size: tuple[int, int], seconds: int, resolution: str, *, with_video: bool) -> dict[str, Any]:
    return {
        "model_variant": "video_in" if with_video else "non_video_in",
        "resolution_target": resolution,
        "video_output_count": 1,
        "token_output_count": size[0] * size[1] * (FRAME_RATE * seconds + 1) // _TOKEN_PIXELS,
        "video_output_duration_seconds": seconds,
    }


def _plan_film(
    task: EngineTask, given: Mapping[str, Any], resolution: str, seed: int, videos: Sequence[InputVideo]
) -> AnimaticPlan:
    _check_total_length("reference_videos", [video.seconds for video in videos])
    panels = list(_panels(task, given, videos))
    duration = given.get("duration", _DEFAULT_SECONDS)
    seconds = _DEFAULT_SECONDS if duration == _AUTO else duration
    sound = given.get("generate_audio", True)
    return AnimaticPlan(
        prompt=given.get("prompt", ""),
        panels=panels,
        size=_film_size(given.get("aspect_ratio", _DEFAULT_ASPECT), panels, SIZES[resolution]),
        seconds=seconds,
        seed=seed,
        sound=sound,
        reference_sound=_read_reference_sound(task, given, seconds) if sound else None,
    )


def _check_total_length(field_name: str, seconds: Sequence[float]) -> None:
    if sum(seconds) > _MOST_REFERENCE_SECONDS:
        raise UnusableInput(field_name, "All references together last longer than 15 seconds.")


def _panels(task: EngineTask, given: Mapping[str, Any], videos: Sequence[InputVideo]) -> Iterator[StoryboardPanel]:
    for field_name, label in (("image", "First frame"), ("last_frame_image", "Last frame")):
        if field_name in given:
            yield StoryboardPanel(decode_picture(task.read(field_name, given[field_name]), field_name), label)
    for number, reference in enumerate(given.get("reference_images", []), 1):
        picture = decode_picture(task.read("reference_images", reference), "reference_images")
        yield StoryboardPanel(picture, f"Image {number}")
    for number, video in enumerate(videos, 1):
        yield from (StoryboardPanel(still, f"Video {number}") for still in sample_frames(video, _STILLS))


def _film_size(aspect: str, panels: Sequence[StoryboardPanel], sizes: Mapping[str, tuple[int, int]]) -> tuple[int, int]:
    """Width and height: of the requested aspect ratio, or of the one that is nearest to the first picture or video."""
    if aspect != _ADAPTIVE:
        return sizes[aspect]
    if not panels:
        return sizes[_DEFAULT_ASPECT]
    height, width = panels[0].picture.shape[:2]
    # Ratios differ by factors: 2:1 is as far from 1:1 as 1:2 is.
    return min(sizes.values(), key=lambda size: abs(math.log(size[0] / size[1]) - math.log(width / height)))


def _read_reference_sound(task: EngineTask, given: Mapping[str, Any], seconds: int) -> StereoSound | None:
    """The given sounds, one after the other, at most as long as the film; None where there are none."""
    sounds = [open_sound(task, "reference_audios", one) for one in given.get("reference_audios", [])]
    _check_total_length("reference_audios", [sound.seconds for sound in sounds])
    if not sounds:
        return None
    pieces = [piece for sound in sounds for piece in read_sound(sound, seconds)]
    return np.concatenate([np.zeros((2, 0), np.float32), *pieces], axis=1)[:, : seconds * SAMPLE_RATE]


MODEL = Model(
    "replicate",
    "bytedance/seedance-2.0",
    {
        "prompt": Field("string", required=True, most=4000),
        "image": Field("string"),
        "last_frame_image": Field("string"),
        "reference_images": Field("list", most=9, items="string"),
        "reference_videos": Field("list", most=3, items="string"),
        "reference_audios": Field("list", most=3, items="string"),
        "duration": Field("integer", least=_AUTO, most=max(_SECONDS)),
        "resolution": Field("string", options=tuple(SIZES)),
        "aspect_ratio": Field("string", options=(*_ASPECTS, _ADAPTIVE)),
        "generate_audio": Field("boolean"),
        "seed": Field("integer"),
    },
    generate_video,
    check=_find_problem,
    run_seconds=0.0,
)
"""Seedance 2.0 as Replicate offers it."""
