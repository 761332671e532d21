"""VACE's masked edit: its inputs, and an edit inside the mask with what the clip and a reference picture show.

The result has exactly the asked width and height: where the clip has about the same shape it is scaled, else its
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

from rotoscope_sandbox.film.camera_motion import STILL, dilate_disc, estimate_motion, half_size_grey, to_full_size
from rotoscope_sandbox.film.compositing import ReferenceLayer, cut_out_reference
from rotoscope_sandbox.film.edit_masks import EditMasks, open_edit_masks
from rotoscope_sandbox.film.input_media import InputVideo, crop_to_size, open_video, read_frames
from rotoscope_sandbox.film.prompted import write_prompt_film
from rotoscope_sandbox.film.temporal_inpaint import EditFrame, TemporalInpainter, sliding_windows
from rotoscope_sandbox.film.tqdm_progress import TqdmProgress
from rotoscope_sandbox.film.video_writer import VideoWriter
from rotoscope_sandbox.models import Field, Problem, Task
from rotoscope_sandbox.vision.pictures import decode_picture
from rotoscope_sandbox.vision.pixels import Frame, Mask, Plane

__all__ = ["FIELDS", "VERSION", "edit", "unfit"]

VERSION = "51299232dc3d0946d5f5ed74935d85243e172698f747d291460db1e6ef3669fb"
"""The community model's version on Replicate."""

_SIZE = "832*480"
_FRAMES = 81
_SPEEDS: Mapping[str, Sequence[int]] = {
    "Lightly Juiced 🍊 (more consistent)": (-1, 1, -2, 2, -4, 4, -7, 7, -11, 11, -16, 16, -22, 22),
    "Juiced 🔥 (more speed)": (-1, 1, -4, 4, -11, 11, -22, 22),
    "Extra Juiced 🚀 (even more speed)": (-2, 2, -11, 11),
}
"""Which frames are looked at, by speed mode."""

_CRF = 16
_FEATHER = 2.5
_SPREAD = 0.006
"""How much a followed mask is widened, as a share of the frame's width: what it lost at the outline."""

FIELDS: Mapping[str, Field] = {
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
}
"""What the model takes."""


def unfit(given: Mapping[str, Any]) -> Problem | None:
    """A prompt alone is enough, but a clip is only edited inside a mask."""
    pair = ("src_video", "src_mask")
    absent = [name for name in pair if not given.get(name)]
    if len(absent) != 1:
        return None
    return Problem(absent[0], f"The sandbox only edits inside a mask: {absent[0]} is needed, too", "value_error")


@dataclass(slots=True)
class _Edit:
    """One edit: where it reads, how it fills, and what it lays into the mask."""

    clip: InputVideo
    masks: EditMasks
    size: tuple[int, int]
    frames: int
    filler: TemporalInpainter
    layer: ReferenceLayer | None
    laid: str

    def film(self) -> Iterator[Frame]:
        """Every frame of the result, in order."""
        for around, at in sliding_windows(self._edit_frames()):
            filled = self.filler.fill(around, at)
            made = filled if self.layer is None else self.layer.lay(filled, around, at)
            yield _blend_inside_mask(around[at].frame, made, around[at].mask)

    def _edit_frames(self) -> Iterator[EditFrame]:
        spread = max(1, round(_SPREAD * self.size[0])) if self.masks.followed else 0
        frames = (crop_to_size(frame, self.size) for frame in read_frames(self.clip, self.frames))
        first = next(frames)
        find = self.masks.start(first)
        # The very first mask is the user's own, and taken as it is.
        last, before = EditFrame(first, find(first), STILL), half_size_grey(first)
        yield last
        for frame in frames:
            grey = half_size_grey(frame)
            motion, mask = to_full_size(estimate_motion(before, grey, last.hole)), find(frame)
            last, before = EditFrame(frame, dilate_disc(mask, spread) if spread else mask, motion), grey
            yield last


def _blend_inside_mask(frame: Frame, made: Frame, mask: Mask) -> Frame:
    """The edit inside the mask, softly within its edge; outside not a pixel differs."""
    far = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, 3)
    # The picture's own border is no edge of the mask.
    share = np.clip(far / _FEATHER, 0, 1)[..., None].astype(np.float32)
    return np.asarray(frame * (1 - share) + made * share + np.float32(0.5), np.uint8)


def edit(task: Task) -> str:
    """Edits the clip inside the mask and tells of it as such models do."""
    begun = time.perf_counter()
    given = {name: value for name, value in task.input.items() if value not in (None, "")}
    task.log(f"Using seed: {given.get('seed', -1)}")
    width, height = (int(side) for side in given.get("size", _SIZE).split("*"))
    if "src_video" not in given:
        return write_prompt_film(task, given, (width, height), given.get("frame_num", _FRAMES))
    plan = _plan_edit(task, given, (width, height))
    made = task.scratch / "edit.mp4"
    progress = TqdmProgress(task, plan.clip.count_frames(plan.frames))
    with VideoWriter(made, plan.size, plan.clip.rate, crf=_CRF) as reel:
        for frame in plan.film():
            reel.write_frame(frame)
            progress.advance()
    progress.finish()
    task.log(f"Edited {reel.frames} frames in {time.perf_counter() - begun:.1f}sec")
    task.report({"sandbox": _sandbox_note(plan, len(given.get("src_ref_images", [])))})
    return task.keep("output.mp4", made)


def _plan_edit(task: Task, given: Mapping[str, Any], size: tuple[int, int]) -> _Edit:
    clip = open_video(task, "src_video", given["src_video"])
    masks = open_edit_masks(task, "src_mask", given["src_mask"], clip, size)
    layer, laid = _open_reference(task, given.get("src_ref_images", []))
    offsets = _SPEEDS[given.get("speed_mode", next(iter(_SPEEDS)))]
    return _Edit(clip, masks, size, given.get("frame_num", _FRAMES), TemporalInpainter(offsets), layer, laid)


def _open_reference(task: Task, references: Sequence[str]) -> tuple[ReferenceLayer | None, str]:
    if not references:
        return None, ""
    content = task.read("src_ref_images", references[0])
    pixels = decode_picture(content, "src_ref_images")
    cutting = cut_out_reference(pixels, _read_alpha(content, pixels.shape))
    return ReferenceLayer(cutting), cutting.method


def _read_alpha(content: bytes, shape: tuple[int, ...]) -> Plane | None:
    """The transparency of a picture that was found to be readable, 0 to 1; None where it has none."""
    with Image.open(io.BytesIO(content)) as picture:
        if not picture.has_transparency_data:
            return None
        alpha = np.asarray(picture.convert("RGBA").getchannel("A"), np.float32) / np.float32(255)
    return alpha if alpha.shape == shape[:2] else None


def _sandbox_note(plan: _Edit, references: int) -> dict[str, Any]:
    """How the edit was made: for people, because a bare URL has no place for it."""
    filler = plan.filler
    inpaint_patches = filler.missing / filler.wanted if filler.wanted else 0.0
    method = f"{plan.masks.method}; temporal fill along the camera's motion"
    laid = ""
    if plan.layer is not None:
        method += f"; reference picture laid in ({plan.laid})"
        laid = (
            " and the first reference picture was laid into it" if references > 1 else " and the reference laid into it"
        )
    notice = (
        f"The prompt was not understood: what the mask selects was filled from other frames{laid}; "
        f"{inpaint_patches:.0%} of it was seen in no frame near and had to be invented."
    )
    return {
        "method": method,
        "confidence": round(max(0.1, 0.8 * (1 - inpaint_patches)), 2),
        "notice": notice,
        "inpaint_patches": round(inpaint_patches, 4),
    }
