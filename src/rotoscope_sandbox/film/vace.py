"""VACE's masked edit on Replicate: its inputs, log lines and output.

The result has the clip's own frame rate, so that motion keeps its speed, and no sound.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from rotoscope_sandbox.film.animatic import FRAME_RATE, AnimaticPlan, StoryboardPanel, write_animatic
from rotoscope_sandbox.film.input_media import open_video
from rotoscope_sandbox.film.masked_edit import OFFSETS, EditRequest, write_masked_edit
from rotoscope_sandbox.film.tqdm_progress import TqdmProgress
from rotoscope_sandbox.models import EngineTask, Field, InputProblem, Model
from rotoscope_sandbox.vision.pictures import decode_picture

__all__ = ["MODEL", "VERSION", "edit_video"]

VERSION = "51299232dc3d0946d5f5ed74935d85243e172698f747d291460db1e6ef3669fb"
"""The community model's version on Replicate."""

_SIZE = "832*480"
_FRAMES = 81
_SPEEDS: Mapping[str, Sequence[int]] = {
    "Lightly Juiced 🍊 (more consistent)": OFFSETS,
    "Juiced 🔥 (more speed)": (-1, 1, -4, 4, -11, 11, -22, 22),
    "Extra Juiced 🚀 (even more speed)": (-2, 2, -11, 11),
}
"""Which frames are looked at for what is behind the mask, by speed mode: offsets in frames."""

_PROMPT_FILM_NOTICE = (
    "The prompt was not understood: it stands in the film as a caption, over the reference pictures if any."
)


def _find_problem(given: Mapping[str, Any]) -> InputProblem | None:
    """What no single field shows: a prompt alone is enough, but a clip is only edited inside a mask."""
    absent = [name for name in ("src_video", "src_mask") if not given.get(name)]
    if len(absent) != 1:
        return None
    return InputProblem(absent[0], f"The sandbox only edits inside a mask: {absent[0]} is needed, too", "value_error")


def edit_video(task: EngineTask) -> str:
    """Edit the clip inside the mask, with the log lines of the real model; the reference of the kept MP4.

    Raises `UnusableInput` when an input file cannot be used, `Stopped` when the task is cancelled.
    """
    start = time.perf_counter()
    given = {name: value for name, value in task.input.items() if value not in (None, "")}
    task.log(f"Using seed: {given.get('seed', -1)}")
    width, height = (int(side) for side in given.get("size", _SIZE).split("*"))
    if "src_video" not in given:
        return _write_prompt_film(task, given, (width, height))
    request = EditRequest(
        video=open_video(task, "src_video", given["src_video"]),
        mask_field="src_mask",
        mask=given["src_mask"],
        size=(width, height),
        frames=given.get("frame_num", _FRAMES),
        offsets=_SPEEDS[given.get("speed_mode", next(iter(_SPEEDS)))],
        references_field="src_ref_images",
        references=given.get("src_ref_images", ()),
    )
    path = task.scratch / "edit.mp4"
    edit = write_masked_edit(task, request, path)
    task.log(f"Edited {edit.frames} frames in {time.perf_counter() - start:.1f}sec")
    # In the metrics, because an output that is a bare URL has no place for it.
    task.report({"sandbox": edit.note})
    return task.keep("output.mp4", path)


def _write_prompt_film(task: EngineTask, given: Mapping[str, Any], size: tuple[int, int]) -> str:
    """Without a clip: an animatic of the prompt and the references, of about as many frames; silent, as the model."""
    references = [
        decode_picture(task.read("src_ref_images", one), "src_ref_images") for one in given.get("src_ref_images", [])
    ]
    plan = AnimaticPlan(
        prompt=given["prompt"],
        panels=[StoryboardPanel(one, f"Image {number}") for number, one in enumerate(references, 1)],
        size=size,
        seconds=max(1, round(given.get("frame_num", _FRAMES) / FRAME_RATE)),
        seed=abs(given.get("seed", 1)),
        sound=False,
    )
    path = task.scratch / "film.mp4"
    write_animatic(plan, path, TqdmProgress(task, plan.frames))
    task.report({"sandbox": {"method": "animatic of the prompt", "confidence": 0.1, "notice": _PROMPT_FILM_NOTICE}})
    return task.keep("output.mp4", path)


MODEL = Model(
    "replicate",
    "prunaai/vace-14b",
    {
        "prompt": Field("string", required=True),
        "src_video": Field("string"),
        "src_mask": Field("string"),
        "src_ref_images": Field("list", items="string"),
        "size": Field("string", options=("720*1280", "1280*720", "480*832", _SIZE)),
        "frame_num": Field("integer", least=1, most=_FRAMES),
        "speed_mode": Field("string", options=tuple(_SPEEDS)),
        "sample_steps": Field("integer", least=1),
        "sample_shift": Field("integer", least=0),
        "sample_solver": Field("string", options=("unipc", "dpm++")),
        "sample_guide_scale": Field("integer", least=0),
        "seed": Field("integer"),
    },
    edit_video,
    version=VERSION,
    check=_find_problem,
    run_seconds=0.0,
)
"""VACE as Replicate and its gateways offer it."""
