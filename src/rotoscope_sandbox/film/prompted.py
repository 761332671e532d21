"""VACE without a clip: its document asks for a prompt alone, so an animatic of it and of the references is made."""

from collections.abc import Mapping
from typing import Any

from rotoscope_sandbox.film.animatic import FRAME_RATE, AnimaticPlan, write_animatic
from rotoscope_sandbox.film.panels import StoryboardPanel
from rotoscope_sandbox.film.tqdm_progress import TqdmProgress
from rotoscope_sandbox.models import Task
from rotoscope_sandbox.vision.pictures import decode_picture
from rotoscope_sandbox.vision.pixels import shrink_to_side

__all__ = ["write_prompt_film"]

_CONFIDENCE = 0.1
_NOTICE = "The prompt was not understood: it stands in the film as a caption, over the reference pictures if any."


def write_prompt_film(task: Task, given: Mapping[str, Any], size: tuple[int, int], frames: int) -> str:
    """Make a film of about so many frames; without sound, as the model does."""
    references = [
        decode_picture(task.read("src_ref_images", one), "src_ref_images") for one in given.get("src_ref_images", [])
    ]
    plan = AnimaticPlan(
        prompt=given["prompt"],
        panels=[
            StoryboardPanel(shrink_to_side(one, max(size))[0], f"Image {number}")
            for number, one in enumerate(references, 1)
        ],
        size=size,
        seconds=max(1, round(frames / FRAME_RATE)),
        seed=abs(given.get("seed", 1)),
        sound=False,
    )
    made = task.scratch / "film.mp4"
    write_animatic(plan, made, TqdmProgress(task, plan.frames))
    task.report({"sandbox": {"method": "animatic of the prompt", "confidence": _CONFIDENCE, "notice": _NOTICE}})
    return task.keep("output.mp4", made)
