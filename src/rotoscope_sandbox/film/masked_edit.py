"""An edit inside a mask, with what the clip and a reference picture show; what every model of such edits shares.

The result has exactly the requested width and height: where the clip has about the same shape it is scaled, else its
middle is kept.
"""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from rotoscope_sandbox.film.camera_motion import STILL, estimate_motion
from rotoscope_sandbox.film.compositing import ReferenceLayer, cut_out_reference
from rotoscope_sandbox.film.edit_masks import EditMasks, open_edit_masks
from rotoscope_sandbox.film.input_media import InputVideo, crop_to_size, read_frames
from rotoscope_sandbox.film.temporal_inpaint import EditFrame, TemporalInpainter, sliding_windows
from rotoscope_sandbox.film.tqdm_progress import TqdmProgress
from rotoscope_sandbox.film.video_writer import VideoWriter
from rotoscope_sandbox.models import EngineTask
from rotoscope_sandbox.vision.pictures import decode_picture
from rotoscope_sandbox.vision.pixels import Frame, Mask, Plane, dilate_disc

__all__ = ["OFFSETS", "EditRequest", "MaskedEdit", "write_masked_edit"]

OFFSETS: Sequence[int] = (-1, 1, -2, 2, -4, 4, -7, 7, -11, 11, -16, 16, -22, 22)
"""Which frames are looked at for what is behind the mask, by their distance in frames."""

_CRF = 16
"""x264's quality: better than what looks like the source (18), so that pixels outside of the mask stay as they are."""

_FEATHER = 2.5
"""Pixels inside the mask's edge over which the edit passes into the clip."""

_WIDENING = 0.006
"""How much a tracked mask is widened, as a share of the frame's width: what tracking loses at the outline."""


@dataclass(frozen=True, slots=True)
class EditRequest:
    """What is to be edited.

    Attributes:
        video: the clip.
        mask_field: the input that the mask is given by.
        mask: the reference of a mask picture or a mask video.
        size: width and height of the result in pixels; both even.
        frames: the most frames of the clip that are edited: the first ones.
        rate: frames a second of the result; None for those of the clip.
        offsets: which frames are looked at (`OFFSETS`).
        references_field: the input that reference pictures are given by.
        references: their references; the first one is used.
        inverted: whether black is what is edited, and not white.
    """

    video: InputVideo
    mask_field: str
    mask: str
    size: tuple[int, int]
    frames: int
    rate: Fraction | None = None
    offsets: Sequence[int] = OFFSETS
    references_field: str = ""
    references: Sequence[str] = ()
    inverted: bool = False


@dataclass(frozen=True, slots=True)
class MaskedEdit:
    """An edit that was written: its frames, frames a second, and how it was made, for people."""

    frames: int
    rate: Fraction
    note: dict[str, Any]


def write_masked_edit(task: EngineTask, request: EditRequest, path: Path) -> MaskedEdit:
    """Edit the clip inside the mask and write the result, without sound.

    Raises `UnusableInput` when an input file cannot be used, `Stopped` when the task is cancelled.
    """
    edit = _plan_edit(task, request)
    rate = request.rate or request.video.rate
    progress = TqdmProgress(task, request.video.count_frames(request.frames))
    with VideoWriter(path, request.size, rate, crf=_CRF) as writer:
        for frame in edit.result_frames():
            writer.write_frame(frame)
            progress.advance()
    progress.finish()
    return MaskedEdit(writer.frames, rate, _edit_note(edit, len(request.references)))


@dataclass(slots=True)
class _Edit:
    """One edit: what it reads, how it fills, and what it draws into the mask."""

    request: EditRequest
    masks: EditMasks
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
        size = self.request.size
        widening = max(1, round(_WIDENING * size[0])) if self.masks.is_tracked else 0
        frames = (crop_to_size(frame, size) for frame in read_frames(self.request.video, self.request.frames))
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


def _plan_edit(task: EngineTask, request: EditRequest) -> _Edit:
    """Everything is opened and measured here, so that what cannot be used is refused before any frame is made."""
    masks = open_edit_masks(
        task, request.mask_field, request.mask, request.video, request.size, inverted=request.inverted
    )
    layer, method = None, ""
    if request.references:
        content = task.read(request.references_field, request.references[0])
        pixels = decode_picture(content, request.references_field)
        cutout = cut_out_reference(pixels, _read_alpha(content, pixels.shape), task.open_net())
        layer, method = ReferenceLayer(cutout), cutout.method
    return _Edit(request, masks, TemporalInpainter(request.offsets), layer, method)


def _read_alpha(content: bytes, shape: tuple[int, ...]) -> Plane | None:
    """The transparency (0 to 1) of a picture that can be decoded; None where it has none, or is turned by its EXIF."""
    with Image.open(io.BytesIO(content)) as picture:
        if not picture.has_transparency_data:
            return None
        alpha = np.asarray(picture.convert("RGBA").getchannel("A"), np.float32) / np.float32(255)
    return alpha if alpha.shape == shape[:2] else None


def _edit_note(edit: _Edit, references: int) -> dict[str, Any]:
    """How the edit was made."""
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
