"""Masked edits as fal offers them: Wan's VACE Fun, and VOID, which removes objects.

What surprises there: a clip is cut in silence to `num_frames`, and its sound is gone. Wan's result has 16 frames a
second unless `match_input_frames_per_second` is set, so that the motion changes its speed. VOID's masks are the other
way round: black is removed, white stays; it moves `num_frames` to a number that it can do, and its prompt is the empty
background.
"""

import hashlib
import json
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

from rotoscope_sandbox.film.input_media import InputVideo, open_video, read_frames
from rotoscope_sandbox.film.masked_edit import EditRequest, MaskedEdit, write_masked_edit
from rotoscope_sandbox.models import EngineTask, Field, InputProblem, Model
from rotoscope_sandbox.predictions import JsonObject
from rotoscope_sandbox.vision.pictures import encode_picture, mask_picture
from rotoscope_sandbox.vision.segmentation import most_salient_region

__all__ = ["MODELS", "snap_void_frames"]

_WAN_FRAMES, _WAN_RATE = 81, 16
_HEIGHTS = {"240p": 240, "360p": 360, "480p": 480, "580p": 580, "720p": 720}
_SHAPES = {"16:9": (16, 9), "1:1": (1, 1), "9:16": (9, 16)}
_SPEEDS = {"none": None, "low": (-1, 1, -4, 4, -11, 11, -22, 22), "regular": (-2, 2, -11, 11)}
_VOID_FRAMES, _VOID_LEAST, _VOID_MOST, _VOID_STEP = 85, 69, 197, 8
_VOID_SIDE = 720
"""The shorter side of VOID's results in pixels, at most."""


def snap_void_frames(asked: int) -> int:
    """The number of frames nearest to one that was asked for of which VOID can do."""
    steps = round((asked - _VOID_LEAST) / _VOID_STEP)
    return min(max(_VOID_LEAST + steps * _VOID_STEP, _VOID_LEAST), _VOID_MOST)


def _given(task: EngineTask) -> JsonObject:
    return {name: value for name, value in task.input.items() if value not in (None, "", [])}


def _seed(given: Mapping[str, Any]) -> int:
    digest = hashlib.sha256(json.dumps(given, sort_keys=True).encode()).hexdigest()
    return int(given.get("seed", int(digest[:8], 16) % 2**31))


def _edit_with_wan(task: EngineTask) -> JsonObject:
    given = _given(task)
    video = open_video(task, "video_url", given["video_url"])
    # A mask picture beside a mask film is ignored.
    mask_field = "mask_video_url" if "mask_video_url" in given else "mask_image_url"
    matches_count = given.get("match_input_num_frames", False)
    rate = None
    if not given.get("match_input_frames_per_second", False):
        rate = Fraction(given.get("frames_per_second", _WAN_RATE)).limit_denominator(1001)
    request = EditRequest(
        video=video,
        mask_field=mask_field,
        mask=given[mask_field],
        size=_wan_size(given, video),
        frames=241 if matches_count else given.get("num_frames", _WAN_FRAMES),
        rate=rate,
        references_field="ref_image_urls",
        references=given.get("ref_image_urls", ()),
        **_speed(given),
    )
    path = task.scratch / "edit.mp4"
    edit = write_masked_edit(task, request, path)
    _report(task, edit, request)
    output = {"video": _film(task, path), "prompt": given["prompt"], "seed": _seed(given)}
    return {**output, "sandbox": edit.note}


def _speed(given: Mapping[str, Any]) -> dict[str, Any]:
    offsets = _SPEEDS[given.get("acceleration", "regular")]
    return {} if offsets is None else {"offsets": offsets}


def _wan_size(given: Mapping[str, Any], video: InputVideo) -> tuple[int, int]:
    """The result's size: `auto` is the largest of the usual heights that the clip has, in the clip's shape."""
    side = min(video.width, video.height)
    resolution = given.get("resolution", "auto")
    known = [height for height in _HEIGHTS.values() if height <= side]
    short = max(known, default=_HEIGHTS["240p"]) if resolution == "auto" else _HEIGHTS[resolution]
    wide, high = _SHAPES.get(given.get("aspect_ratio", "auto"), (video.width, video.height))
    scale = short / min(wide, high)
    return _even(wide * scale), _even(high * scale)


def _even(side: float) -> int:
    return max(2, round(side / 2) * 2)


def _remove_with_void(task: EngineTask) -> JsonObject:
    given = _given(task)
    video = open_video(task, "video_url", given["video_url"])
    scale = min(1.0, _VOID_SIDE / min(video.width, video.height))
    if "quad_mask_video_url" in given:
        mask, field = given["quad_mask_video_url"], "quad_mask_video_url"
    else:
        mask, field = _mask_by_words(task, video), "mask_prompt"
    request = EditRequest(
        video=video,
        mask_field=field,
        mask=mask,
        size=(_even(video.width * scale), _even(video.height * scale)),
        frames=snap_void_frames(given.get("num_frames", _VOID_FRAMES)),
        inverted=True,
    )
    path = task.scratch / "removed.mp4"
    edit = write_masked_edit(task, request, path)
    _report(task, edit, request)
    return {"video": _film(task, path), "seed": _seed(given), "timings": {}, "sandbox": edit.note}


def _mask_by_words(task: EngineTask, video: InputVideo) -> str:
    """A mask of what stands out in the first frame, black where it is: the words are not understood."""
    found = most_salient_region(next(read_frames(video, 1)), task.open_net())
    return task.save("mask.png", encode_picture(mask_picture(~found.mask), "png"))


def _film(task: EngineTask, path: Path) -> JsonObject:
    size = path.stat().st_size
    reference = task.keep("output.mp4", path)
    return {"url": reference, "content_type": "video/mp4", "file_name": "output.mp4", "file_size": size}


def _report(task: EngineTask, edit: MaskedEdit, request: EditRequest) -> None:
    """What is billed by: fal's queue shows no metrics of a model."""
    width, height = request.size
    task.report(
        {
            "video_output_frames": edit.frames,
            "video_output_duration_seconds": float(edit.frames / edit.rate),
            "width": width,
            "height": height,
        }
    )


def _find_wan_problem(given: Mapping[str, Any]) -> InputProblem | None:
    if given.get("mask_video_url") or given.get("mask_image_url"):
        return None
    return InputProblem("mask_video_url", "A mask video or a mask image is needed", "value_error")


def _find_void_problem(given: Mapping[str, Any]) -> InputProblem | None:
    if given.get("quad_mask_video_url") or given.get("mask_prompt"):
        return None
    return InputProblem("quad_mask_video_url", "A quad mask video or a mask prompt is needed", "value_error")


_TEXT = Field("string", required=True)
_FLAG = Field("boolean")

MODELS = (
    Model(
        "fal",
        "fal-ai/wan-22-vace-fun-a14b/inpainting",
        {
            "prompt": _TEXT,
            "video_url": _TEXT,
            "mask_video_url": Field("string"),
            "mask_image_url": Field("string"),
            "ref_image_urls": Field("list", items="string"),
            "negative_prompt": Field("string"),
            "num_frames": Field("integer", least=17, most=241),
            "frames_per_second": Field("integer", least=5, most=30),
            "match_input_num_frames": _FLAG,
            "match_input_frames_per_second": _FLAG,
            "resolution": Field("string", options=("auto", *_HEIGHTS)),
            "aspect_ratio": Field("string", options=("auto", *_SHAPES)),
            "num_inference_steps": Field("integer", least=2, most=50),
            "guidance_scale": Field("number", least=1, most=10),
            "shift": Field("number", least=1, most=15),
            "sampler": Field("string", options=("unipc", "dpm++", "euler")),
            "acceleration": Field("string", options=tuple(_SPEEDS)),
            "seed": Field("integer"),
        },
        _edit_with_wan,
        check=_find_wan_problem,
        run_seconds=0.0,
    ),
    Model(
        "fal",
        "fal-ai/void-video-inpainting",
        {
            "prompt": _TEXT,
            "video_url": _TEXT,
            "quad_mask_video_url": Field("string"),
            "mask_prompt": Field("string"),
            "negative_prompt": Field("string"),
            "num_frames": Field("integer"),
            "num_inference_steps": Field("integer", least=1),
            "guidance_scale": Field("number", least=0),
            "strength": Field("number", least=0, most=1),
            "enable_pass2_refinement": _FLAG,
            "enable_safety_checker": _FLAG,
            "seed": Field("integer"),
        },
        _remove_with_void,
        check=_find_void_problem,
        run_seconds=0.0,
    ),
)
