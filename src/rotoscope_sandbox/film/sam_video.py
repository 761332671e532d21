"""SAM 2 and SAM 3 on video as fal and Replicate offer them: an object is followed through a clip.

What surprises there: the endpoints differ in what they give. `video` gives a film, painted at SAM 3 unless `apply_mask`
is false; `video-rle` gives for each frame a text of run lengths (start and length in turn, from 1, row by row), all
objects in one mask; `video-rle-objects` keeps the objects apart, each with a number of its own. On Replicate the film
is painted unless `mask_only` is true. Only `video-rle` and SAM 2 take a mask, and prompts on a later frame.
"""

from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from rotoscope_sandbox.film.input_media import InputVideo, open_video, read_frames
from rotoscope_sandbox.film.object_tracks import (
    ObjectPrompt,
    ObjectTracks,
    find_object,
    frame_at,
    read_prompt,
    track_objects,
)
from rotoscope_sandbox.film.video_writer import VideoWriter
from rotoscope_sandbox.models import EngineTask, Field, InputProblem, Model
from rotoscope_sandbox.predictions import JsonObject
from rotoscope_sandbox.vision.inputs import SALIENCE_NOTICE, note_method
from rotoscope_sandbox.vision.pictures import mask_picture, paint_mask
from rotoscope_sandbox.vision.pixels import Mask, PixelBox
from rotoscope_sandbox.vision.segmentation import Segmentation

__all__ = ["MODELS", "encode_runs", "write_mask_film"]

_SAM3_FIELDS = ("point_prompts", "box_prompts", "mask_url")
_SAM2_FIELDS = ("prompts", "box_prompts", "mask_url")
_REPLICATE_WORD = "person"
_CRF = 12
_LEAST_PART, _MOST_PARTS = 0.1, 4
"""Share of the largest part of a mask from which another counts as an object of its own, and how many are followed."""


def encode_runs(mask: Mask) -> str:
    """Starts and lengths of the runs in turn, as a text: starts count from 1, row by row."""
    flat = np.concatenate(([0], mask.ravel().astype(np.int8), [0]))
    edges = np.flatnonzero(np.diff(flat))
    starts, ends = edges[0::2], edges[1::2]
    return " ".join(str(number) for pair in zip(starts + 1, ends - starts, strict=True) for number in pair)


def _find_and_track(
    task: EngineTask, video: InputVideo, prompt: ObjectPrompt, *, apart: bool = False
) -> tuple[Segmentation, ObjectTracks]:
    frame = frame_at(video, prompt.frame, "frame_index")
    found = find_object(task, prompt, frame)
    tracks = track_objects(task, video, prompt.frame, _split(found.mask) if apart else [found.mask])
    task.report({"video_input_frames": tracks.frames, "width": tracks.width, "height": tracks.height})
    return found, tracks


def _split(mask: Mask) -> list[Mask]:
    """The connected parts of a mask, the largest first; specks belong to none."""
    count, labels, facts, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    areas = {number: int(facts[number, cv2.CC_STAT_AREA]) for number in range(1, count)}
    largest = max(areas.values(), default=0)
    kept = sorted((one for one in areas if areas[one] >= _LEAST_PART * largest), key=lambda one: -areas[one])
    return [np.asarray(labels == number) for number in kept[:_MOST_PARTS]] or [mask]


def _note(found: Segmentation, prompt: ObjectPrompt) -> JsonObject:
    """How the mask was made: the object on one frame, and then frame by frame."""
    placed = prompt.points or prompt.boxes or prompt.mask
    note = note_method(found, None if placed or found.notice else SALIENCE_NOTICE)
    return {**note, "method": f"{found.method} on frame {prompt.frame}, followed by optical flow"}


def write_mask_film(path: Path, video: InputVideo, tracks: ObjectTracks, *, is_painted: bool) -> None:
    """The masks as a film in black and white, or the clip with the mask painted on it; of an even size."""
    size = tracks.width + tracks.width % 2, tracks.height + tracks.height % 2
    with VideoWriter(path, size, Fraction(video.rate), crf=_CRF) as writer:
        for number, frame in enumerate(read_frames(video, tracks.frames)):
            mask = tracks.union(number)
            grey = mask_picture(mask)
            shown = paint_mask(frame, mask) if is_painted else np.repeat(grey[..., None], 3, axis=2)
            edge = ((0, size[1] - tracks.height), (0, size[0] - tracks.width), (0, 0))
            writer.write_frame(np.pad(shown, edge, mode="edge"))


def _save_film(task: EngineTask, video: InputVideo, tracks: ObjectTracks, *, is_painted: bool) -> JsonObject:
    path = task.scratch / "segmented.mp4"
    write_mask_film(path, video, tracks, is_painted=is_painted)
    size = path.stat().st_size
    reference = task.keep("output.mp4", path)
    return {"url": reference, "content_type": "video/mp4", "file_name": "output.mp4", "file_size": size}


def _given(task: EngineTask) -> JsonObject:
    return {name: value for name, value in task.input.items() if value is not None}


def _segment_to_film(task: EngineTask, fields: tuple[str, str, str], *, paints: bool) -> JsonObject:
    given = _given(task)
    video = open_video(task, "video_url", given["video_url"])
    prompt = read_prompt(given, fields)
    found, tracks = _find_and_track(task, video, prompt)
    film = _save_film(task, video, tracks, is_painted=given.get("apply_mask", paints))
    return {"video": film, "boundingbox_frames_zip": None, "sandbox": _note(found, prompt)}


def _segment_with_sam2(task: EngineTask) -> JsonObject:
    return _segment_to_film(task, _SAM2_FIELDS, paints=False)


def _segment_with_sam3(task: EngineTask) -> JsonObject:
    return _segment_to_film(task, _SAM3_FIELDS, paints=True)


def _segment_to_runs(task: EngineTask) -> JsonObject:
    """What two clients got of `video-rle`: a text for each frame, boxes, and no film."""
    given = _given(task)
    video = open_video(task, "video_url", given["video_url"])
    prompt = read_prompt(given, _SAM3_FIELDS)
    found, tracks = _find_and_track(task, video, prompt)
    if given.get("apply_mask"):
        film = _save_film(task, video, tracks, is_painted=True)
        return {"video": film, "boundingbox_frames_zip": None, "sandbox": _note(found, prompt)}
    masks = [tracks.union(number) for number in range(tracks.frames)]
    boxes = [_normalised_box(mask) for mask in masks]
    return {
        "rle": [encode_runs(mask) for mask in masks],
        "boxes": boxes,
        "scores": None,
        "metadata": [{"index": n, "score": found.confidence, "box": box} for n, box in enumerate(boxes)],
        "boundingbox_frames_zip": None,
        "sandbox": _note(found, prompt),
    }


def _normalised_box(mask: Mask) -> list[float]:
    """Centre, width and height of the box around a mask, as fractions of the frame; empty without an object."""
    if not mask.any():
        return []
    height, width = mask.shape
    box = PixelBox.around(mask)
    middle = (box.left + box.width / 2) / width, (box.top + box.height / 2) / height
    return [round(value, 5) for value in (*middle, box.width / width, box.height / height)]


def _segment_each_object(task: EngineTask) -> JsonObject:
    given = _given(task)
    video = open_video(task, "video_url", given["video_url"])
    prompt = read_prompt(given, _SAM3_FIELDS)
    found, tracks = _find_and_track(task, video, prompt, apart=True)
    return {
        "frames": [{"frame_index": n, "objects": _objects_in(tracks, n)} for n in range(tracks.frames)],
        "width": tracks.width,
        "height": tracks.height,
        "num_frames": tracks.frames,
        "sandbox": _note(found, prompt),
    }


def _objects_in(tracks: ObjectTracks, frame: int) -> list[JsonObject]:
    masks = ((number, tracks.mask(number, frame)) for number in range(len(tracks.packed)))
    return [{"track_id": number, "rle": encode_runs(mask)} for number, mask in masks if mask.any()]


def _segment_on_replicate(task: EngineTask) -> str:
    given = _given(task)
    video = open_video(task, "video", given["video"])
    prompt = ObjectPrompt(given.get("prompt", _REPLICATE_WORD), (), (), "", 0, _SAM3_FIELDS)
    found, tracks = _find_and_track(task, video, prompt)
    task.report({"sandbox": _note(found, prompt)})
    path = task.scratch / "segmented.mp4"
    write_mask_film(path, video, tracks, is_painted=not given.get("mask_only", False))
    return task.keep("output.mp4", path)


def _find_label_problem(name: str, given: Mapping[str, Any]) -> InputProblem | None:
    """A label is 0 or 1, as a number."""
    for number, point in enumerate(given.get(name) or []):
        if not isinstance(point, dict) or point.get("label", 1) not in (0, 1):
            return InputProblem(f"{name}.{number}.label", "Input should be 0 or 1", "literal_error")
    return None


def _find_sam3_problem(given: Mapping[str, Any]) -> InputProblem | None:
    return _find_label_problem("point_prompts", given)


def _find_sam2_problem(given: Mapping[str, Any]) -> InputProblem | None:
    return _find_label_problem("prompts", given)


_TEXT = Field("string", required=True)
_FLAG = Field("boolean")
_SAM3_INPUTS = {
    "video_url": _TEXT,
    "prompt": Field("string"),
    "point_prompts": Field("list"),
    "box_prompts": Field("list"),
    "apply_mask": _FLAG,
    "detection_threshold": Field("number", least=0, most=1),
}
_RLE_INPUTS = {
    **_SAM3_INPUTS,
    "mask_url": Field("string"),
    "frame_index": Field("integer", least=0),
    "boundingbox_zip": _FLAG,
}
_FILM_INPUTS = {**_SAM3_INPUTS, "video_output_type": Field("string", options=("X264 (.mp4)", "VP9 (.webm)"))}
_MANY = {"max_num_objects": Field("integer", least=1, most=128)}


def _at_fal(name: str, fields: Mapping[str, Field], compute: Any, check: Any = _find_sam3_problem) -> Model:
    return Model("fal", f"fal-ai/{name}", fields, compute, check=check, run_seconds=0.0)


MODELS = (
    _at_fal("sam-3/video", _FILM_INPUTS, _segment_with_sam3),
    _at_fal("sam-3-1/video", _FILM_INPUTS | _MANY, _segment_with_sam3),
    _at_fal("sam-3/video-rle", _RLE_INPUTS, _segment_to_runs),
    _at_fal("sam-3-1/video-rle", _RLE_INPUTS | _MANY, _segment_to_runs),
    _at_fal(
        "sam-3/video-rle-objects",
        {name: _SAM3_INPUTS[name] for name in ("video_url", "prompt", "detection_threshold")},
        _segment_each_object,
    ),
    _at_fal(
        "sam2/video",
        {
            "video_url": _TEXT,
            "mask_url": Field("string"),
            "prompts": Field("list"),
            "box_prompts": Field("list"),
            "apply_mask": _FLAG,
            "boundingbox_zip": _FLAG,
        },
        _segment_with_sam2,
        _find_sam2_problem,
    ),
    Model(
        "replicate",
        "lucataco/sam3-video",
        {
            "video": _TEXT,
            "prompt": Field("string"),
            "visual_prompt": Field("string"),
            "negative_prompt": Field("string"),
            "mask_only": _FLAG,
            "return_zip": _FLAG,
            "mask_opacity": Field("number", least=0, most=1),
            "mask_color": Field("string"),
        },
        _segment_on_replicate,
        version="8cbab4c2a3133e679b5b863b80527f6b5c751ec7b33681b7e0b7c79c749df961",
        run_seconds=0.0,
    ),
)
