"""VACE's masked edit: its inputs, and an edit inside the mask with what the clip and a reference picture show.

The result has exactly the requested width and height: where the clip has about the same shape it is scaled, else its
middle is kept. It has the clip's own frame rate, so that motion keeps its speed, and no sound.
"""

import io
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from PIL import Image

from rotoscope_sandbox.film.animatic import FRAME_RATE, AnimaticPlan, StoryboardPanel, write_animatic
from rotoscope_sandbox.film.camera_motion import STILL, estimate_motion
from rotoscope_sandbox.film.compositing import ReferenceLayer, cut_out_reference
from rotoscope_sandbox.film.edit_masks import EditMasks, open_edit_masks
from rotoscope_sandbox.film.input_media import InputVideo, crop_to_size, open_video, read_frames
from rotoscope_sandbox.film.temporal_inpaint import EditFrame, TemporalInpainter, sliding_windows
from rotoscope_sandbox.film.tqdm_progress import TqdmProgress
from rotoscope_sandbox.film.video_writer import VideoWriter
from rotoscope_sandbox.models import EngineTask, Field, InputProblem, Model
from rotoscope_sandbox.vision.pictures import decode_picture
from rotoscope_sandbox.vision.pixels import Frame, Mask, Plane, dilate_disc

__all__ = ["MODEL", "VERSION", "edit_video"]

VERSION = "51299232dc3d0946d5f5ed74935d85243e172698f747d291460db1e6ef3669fb"
"""The community model's version on Replicate."""

_SIZE = "832*480"
_FRAMES = 81
_SPEEDS: Mapping[str, Sequence[int]] = {
    "Lightly Juiced 🍊 (more consistent)": (-1, 1, -2, 2, -4, 4, -7, 7, -11, 11, -16, 16, -22, 22),
    "Juiced 🔥 (more speed)": (-1, 1, -4, 4, -11, 11, -22, 22),
    "Extra Juiced 🚀 (even more speed)": (-2, 2, -11, 11),
}
"""Which frames are looked at for what is behind the mask, by speed mode: offsets in frames."""

_CRF = 16
"""x264's quality: better than what looks like the source (18), so that pixels outside of the mask stay as they are."""

_FEATHER = 2.5
"""Pixels inside the mask's edge over which the edit passes into the clip."""

_WIDENING = 0.006
"""How much a tracked mask is widened, as a share of the frame's width: what tracking loses at the outline."""

_PROMPT_FILM_NOTICE = (
    "The prompt was not understood: it stands in the film as a caption, over the reference pictures if any."
)


def _find_problem(given: Mapping[str, Any]) -> InputProblem | None:
    """What no single field shows: a prompt alone is enough, but a clip is only edited inside a mask."""
    absent = [name for name in ("src_video", "src_mask") if not given.get(name)]
    if len(absent) != 1:
        return None
    return InputProblem(absent[0], f"The sandbox only edits inside a mask: {absent[0]} is needed, too", "value_error")


@dataclass(slots=True)
class _Edit:
    """One edit: what it reads, how it fills, and what it draws into the mask."""

    video: InputVideo
    masks: EditMasks
    size: tuple[int, int]
    frames: int
    inpainter: TemporalInpainter
    layer: ReferenceLayer | None
    reference_method: str

    def result_frames(self) -> Iterator[Frame]:
        """Every frame of the result, in order."""
        for window, at in sliding_windows(self._edit_frames()):
            result = self.inpainter.fill_frame(window, at)
            if self.layer is not None:
                result = self.layer.composite(result, window, at)
            yield _blend_inside_mask(window[at].frame, result, window[at].mask)

    def _edit_frames(self) -> Iterator[EditFrame]:
        """The clip's frames at the edit's size, each with its mask and the camera's motion since the one before."""
        widening = max(1, round(_WIDENING * self.size[0])) if self.masks.is_tracked else 0
        frames = (crop_to_size(frame, self.size) for frame in read_frames(self.video, self.frames))
        earlier: EditFrame | None = None
        for frame, mask in self.masks.pair(frames):
            if earlier is None:
                # The first mask is the user's own, and taken as it is.
                earlier = EditFrame(frame, mask, STILL)
            else:
                motion = estimate_motion(earlier.frame, frame, earlier.hole)
                earlier = EditFrame(frame, dilate_disc(mask, widening) if widening else mask, motion)
            yield earlier


def _blend_inside_mask(frame: Frame, result: Frame, mask: Mask) -> Frame:
    """The edit inside the mask, softly within its edge; outside not a pixel differs."""
    # The distance to the next unselected pixel: the picture's own border is no edge of the mask.
    depth = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, 3)
    share = np.clip(depth / _FEATHER, 0, 1)[..., None].astype(np.float32)
    return np.asarray(frame * (1 - share) + result * share + np.float32(0.5), np.uint8)


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
    edit = _plan_edit(task, given, (width, height))
    path = task.scratch / "edit.mp4"
    progress = TqdmProgress(task, edit.video.count_frames(edit.frames))
    with VideoWriter(path, edit.size, edit.video.rate, crf=_CRF) as writer:
        for frame in edit.result_frames():
            writer.write_frame(frame)
            progress.advance()
    progress.finish()
    task.log(f"Edited {writer.frames} frames in {time.perf_counter() - start:.1f}sec")
    task.report({"sandbox": _edit_note(edit, len(given.get("src_ref_images", [])))})
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


def _plan_edit(task: EngineTask, given: Mapping[str, Any], size: tuple[int, int]) -> _Edit:
    """Everything is opened and measured here, so that what cannot be used is refused before any frame is made."""
    video = open_video(task, "src_video", given["src_video"])
    masks = open_edit_masks(task, "src_mask", given["src_mask"], video, size)
    layer, method = None, ""
    if references := given.get("src_ref_images", []):
        content = task.read("src_ref_images", references[0])
        pixels = decode_picture(content, "src_ref_images")
        cutout = cut_out_reference(pixels, _read_alpha(content, pixels.shape), task.open_net())
        layer, method = ReferenceLayer(cutout), cutout.method
    inpainter = TemporalInpainter(_SPEEDS[given.get("speed_mode", next(iter(_SPEEDS)))])
    return _Edit(video, masks, size, given.get("frame_num", _FRAMES), inpainter, layer, method)


def _read_alpha(content: bytes, shape: tuple[int, ...]) -> Plane | None:
    """The transparency (0 to 1) of a picture that can be decoded; None where it has none, or is turned by its EXIF."""
    with Image.open(io.BytesIO(content)) as picture:
        if not picture.has_transparency_data:
            return None
        alpha = np.asarray(picture.convert("RGBA").getchannel("A"), np.float32) / np.float32(255)
    return alpha if alpha.shape == shape[:2] else None


def _edit_note(edit: _Edit, references: int) -> dict[str, Any]:
    """How the edit was made, for people; in the metrics, because an output that is a bare URL has no place for it."""
    inpainter = edit.inpainter
    invented = inpainter.missing / inpainter.wanted if inpainter.wanted else 0.0
    method, laid = f"{edit.masks.method}; temporal fill along the camera's motion", ""
    if edit.layer is not None:
        method += f"; reference picture laid in ({edit.reference_method})"
        laid = " and the reference laid into it"
        if references > 1:
            laid = " and the first reference picture was laid into it"
    notice = (
        f"The prompt was not understood: what the mask selects was filled from other frames{laid}; "
        f"{invented:.0%} of it was seen in no frame near and had to be invented."
    )
    confidence = round(max(0.1, 0.8 * (1 - invented)), 2)
    return {"method": method, "confidence": confidence, "notice": notice, "invented": round(invented, 4)}


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
