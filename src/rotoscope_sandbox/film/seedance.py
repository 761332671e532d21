"""Seedance on Replicate: its inputs, its frame sizes and its words, around an animatic.

The sizes of 480p and 720p are the provider's. Of 1080p and 4k only 16:9 is sure; the others are ours: 720p scaled by
1.5 and by 3, with even sides.
"""

import hashlib
import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from rotoscope_sandbox.film.animatic import FRAME_RATE, AnimaticPlan, write_animatic
from rotoscope_sandbox.film.input_media import InputSound, InputVideo, open_sound, open_video, read_sound, sample_frames
from rotoscope_sandbox.film.panels import StoryboardPanel, split
from rotoscope_sandbox.film.tqdm_progress import TqdmProgress
from rotoscope_sandbox.film.video_writer import SAMPLE_RATE, StereoSound
from rotoscope_sandbox.models import Field, Problem, Task, UnusableInput
from rotoscope_sandbox.vision.pictures import decode_picture
from rotoscope_sandbox.vision.pixels import shrink_to_side

__all__ = ["FIELDS", "SIZES", "generate", "unfit"]

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
_USUAL = "16:9"
_PANEL_SHARE = 1.5
"""Panels are kept no larger than this share of the film's longer side: a camera comes no closer."""

_CHOSEN_SECONDS = 5
_SECONDS = range(4, 16)
_AUTO = -1
_MOST_REFERENCE_SECONDS = 15.5
"""The provider takes 15 s of references in all; files may be a few frames longer."""

_STILLS = 3
_TOKEN_PIXELS = 1024
_MEGABYTE = 1024 * 1024
_CONFIDENCE = 0.1
_NOTICE = (
    "This is an animatic drawn by the sandbox: the prompt was not understood, only shown; "
    "set a provider key for a generated film."
)

FIELDS: Mapping[str, Field] = {
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
}
"""What the model takes."""


def unfit(given: Mapping[str, Any]) -> Problem | None:
    """What no single field shows."""
    if given.get("last_frame_image") and not given.get("image"):
        return Problem("last_frame_image", "last_frame_image needs image", "value_error")
    if given.get("reference_images") and given.get("image"):
        return Problem("reference_images", "reference_images cannot be used together with image", "value_error")
    seen = any(given.get(name) for name in ("image", "reference_images", "reference_videos"))
    if given.get("reference_audios") and not seen:
        return Problem("reference_audios", "reference_audios needs an image or a video", "value_error")
    duration = given.get("duration")
    if duration is not None and duration != _AUTO and duration not in _SECONDS:
        return Problem("duration", f"duration is {_AUTO} or {_SECONDS[0]} to {_SECONDS[-1]} seconds", "value_error")
    return None


def generate(task: Task) -> str:
    """Makes the animatic and tells of it as the model does."""
    begun = time.perf_counter()
    given = {name: value for name, value in task.input.items() if value not in (None, "")}
    digest = hashlib.sha256(json.dumps(given, sort_keys=True).encode()).hexdigest()
    # Without a seed, the same request still gives the same film: who asks again must not find another one.
    seed = given.get("seed", int(digest[:7], 16))
    task.log(f"Using seed: {seed}")
    resolution = given.get("resolution", "720p")
    plan = _plan_film(task, given, resolution, abs(seed))
    task.log(f"Generating video... (request ID: cgt-{digest[:14]}-{digest[14:19]})")
    made = task.scratch / "film.mp4"
    write_animatic(plan, made, TqdmProgress(task, plan.frames))
    task.log(f"Generated video in {time.perf_counter() - begun:.1f}sec")
    size = made.stat().st_size
    task.log(f"Downloading {size} bytes")
    task.log(f"Downloaded {size / _MEGABYTE:.2f}MB in 0.00sec")
    task.report(_metrics(plan, resolution, with_video=bool(given.get("reference_videos"))))
    return task.keep("output.mp4", made)


def _metrics(plan: AnimaticPlan, resolution: str, *, with_video: bool) -> dict[str, Any]:
    """The model's own metrics, and the sandbox's words, which a bare URL has no place for."""
    width, height = plan.size
    shown = f"{len(plan.panels)} panels" if len(plan.panels) > 1 else "one panel" if plan.panels else "a title card"
    return {
        "model_variant": "video_in" if with_video else "non_video_in",
        "resolution_target": resolution,
        "token_output_count": width * height * (FRAME_RATE * plan.seconds + 1) // _TOKEN_PIXELS,
        "video_output_duration_seconds": plan.seconds,
        "sandbox": {"method": f"animatic of {shown}", "confidence": _CONFIDENCE, "notice": _NOTICE},
    }


def _plan_film(task: Task, given: Mapping[str, Any], resolution: str, seed: int) -> AnimaticPlan:
    clips = [open_video(task, "reference_videos", reference) for reference in given.get("reference_videos", [])]
    _check_total_length("reference_videos", [clip.seconds for clip in clips])
    size = _film_size(task, given, clips, SIZES[resolution])
    side = round(_PANEL_SHARE * max(size))
    panels = [
        StoryboardPanel(shrink_to_side(panel.picture, side)[0], panel.name) for panel in _panels(task, given, clips)
    ]
    duration = given.get("duration", _CHOSEN_SECONDS)
    seconds = _CHOSEN_SECONDS if duration == _AUTO else duration
    audible = given.get("generate_audio", True)
    return AnimaticPlan(
        prompt=given.get("prompt", ""),
        panels=panels,
        size=size,
        seconds=seconds,
        seed=seed,
        settled="image" in given,
        sound=audible,
        heard=_reference_sound(task, given, seconds) if audible else None,
    )


def _check_total_length(field_name: str, lengths: Sequence[float]) -> None:
    if sum(lengths) > _MOST_REFERENCE_SECONDS:
        raise UnusableInput(field_name, "All references together last longer than 15 seconds.")


def _panels(task: Task, given: Mapping[str, Any], clips: Sequence[InputVideo]) -> Iterator[StoryboardPanel]:
    for name, words in (("image", "First frame"), ("last_frame_image", "Last frame")):
        if name in given:
            yield StoryboardPanel(decode_picture(task.read(name, given[name]), name), words)
    for number, reference in enumerate(given.get("reference_images", []), 1):
        picture = decode_picture(task.read("reference_images", reference), "reference_images")
        yield from split(picture, f"Image {number}")
    for number, clip in enumerate(clips, 1):
        yield from (StoryboardPanel(still, f"Video {number}") for still in sample_frames(clip, _STILLS))


def _first_reference_size(task: Task, given: Mapping[str, Any], clips: Sequence[InputVideo]) -> tuple[int, int] | None:
    """Width and height of the first picture or video that was handed in."""
    references = given.get("reference_images", [])
    for name, reference in (("image", given.get("image")), ("reference_images", next(iter(references), None))):
        if reference is not None:
            height, width = decode_picture(task.read(name, reference), name).shape[:2]
            return width, height
    return (clips[0].width, clips[0].height) if clips else None


def _film_size(
    task: Task, given: Mapping[str, Any], clips: Sequence[InputVideo], sizes: Mapping[str, tuple[int, int]]
) -> tuple[int, int]:
    """Width and height: as asked, or of the shape that is nearest to the first picture or video."""
    aspect = given.get("aspect_ratio", _USUAL)
    if aspect != _ADAPTIVE:
        return sizes[aspect]
    shape = _first_reference_size(task, given, clips)
    if shape is None:
        return sizes[_USUAL]
    wanted = math.log(shape[0] / shape[1])
    return min(sizes.values(), key=lambda size: abs(math.log(size[0] / size[1]) - wanted))


def _reference_sound(task: Task, given: Mapping[str, Any], seconds: int) -> StereoSound | None:
    """The sounds that were handed in, one after the other, as long as the film."""
    tracks: list[InputSound] = [open_sound(task, "reference_audios", one) for one in given.get("reference_audios", [])]
    _check_total_length("reference_audios", [track.seconds for track in tracks])
    if not tracks:
        return None
    pieces = [piece for track in tracks for piece in read_sound(track, seconds)]
    return np.concatenate([np.zeros((2, 0), np.float32), *pieces], axis=1)[:, : seconds * SAMPLE_RATE]
