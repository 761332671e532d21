"""The models that the vision engine stands in for, each with its provider's own input and output.

The SAM 3 models have a module of their own.
"""

import json
import time
from collections.abc import Mapping
from typing import Any

from rotoscope_sandbox.models import EngineTask, Field, InputProblem, Model, UnusableInput
from rotoscope_sandbox.predictions import JsonObject
from rotoscope_sandbox.vision.description import describe_areas, sa2va_text
from rotoscope_sandbox.vision.inputs import (
    SALIENCE_NOTICE,
    note_method,
    read_box,
    read_picture,
    read_point,
    save_image,
    segment_clicks,
)
from rotoscope_sandbox.vision.pictures import Encoding, decode_picture, encode_picture, mask_picture, paint_mask
from rotoscope_sandbox.vision.pixels import Frame, Point
from rotoscope_sandbox.vision.sam3 import MODELS as SAM3_MODELS
from rotoscope_sandbox.vision.segmentation import (
    most_salient_region,
    segment_boxes,
)

__all__ = ["MODELS"]

_DESCRIPTION_NOTICE = (
    "The sandbox recognises nothing and understood no word of the prompt: it names areas by colour, size and place; "
    "set a provider key for a real description."
)
_LOW_CONFIDENCE = 0.2
_COORDINATES = "Coordinates are [x,y] or [[x,y],...], as a string."


def _sa2va_4b(task: EngineTask) -> JsonObject:
    """Replicate's Sa2VA 4B: one instruction, one mask. The log lines are the model's own, with the sandbox's speed."""
    task.log("propagate in video: 0%| | 0/1 [00:00<?, ?it/s]")
    start = time.perf_counter()
    found = most_salient_region(read_picture(task, "image"), task.open_net())
    speed = 1 / max(time.perf_counter() - start, 1e-6)
    image = task.save("output.png", encode_picture(mask_picture(found.mask), "png"))
    task.log(f"propagate in video: 100%|██████████| 1/1 [00:00<00:00, {speed:.2f}it/s]")
    return {"img": image, "response": "Sure, [SEG].<|end|>", "sandbox": note_method(found, SALIENCE_NOTICE)}


def _sa2va_8b(task: EngineTask) -> JsonObject:
    """Fal's Sa2VA 8B: a description with a mask for every `[SEG]`, in order."""
    task.log("dividing the picture into areas")
    frame = read_picture(task, "image_url")
    areas = describe_areas(frame, task.open_net())
    masks = []
    for number, area in enumerate(areas, 1):
        masks.append(
            save_image(task, f"mask-{number}.png", encode_picture(mask_picture(area.mask), "png"), frame, "png")
        )
        task.log(f"described area {number} of {len(areas)}")
    method = "superpixel merge tree"
    if areas[0].is_object:
        method = f"salience by u2net, {method}"
    note = {"method": method, "confidence": _LOW_CONFIDENCE, "notice": _DESCRIPTION_NOTICE}
    return {"output": sa2va_text(areas), "masks": masks, "sandbox": note}


def _sam2(task: EngineTask) -> JsonObject:
    """Fal's SAM 2: points and boxes; the bare mask, or the picture with the mask painted on it."""
    given = task.input
    frame = read_picture(task, "image_url")
    points = given.get("prompts") or []
    clicks: dict[bool, list[Point]] = {True: [], False: []}
    for number, point in enumerate(points):
        clicks[point.get("label", 1) != 0].append(
            read_point(point.get("x"), point.get("y"), frame, f"prompts.{number}")
        )
    boxes = [read_box(box, frame, f"box_prompts.{number}") for number, box in enumerate(given.get("box_prompts") or [])]
    task.log(f"segmenting with {len(points)} points and {len(boxes)} boxes")
    net = task.open_net()
    found = (
        segment_boxes(frame, boxes, clicks[True], clicks[False], net)
        if boxes
        else segment_clicks(frame, clicks, net, "prompts")
    )
    kind: Encoding = given.get("output_format") or "png"
    picture = paint_mask(frame, found.mask) if given.get("apply_mask") else mask_picture(found.mask)
    image = save_image(task, f"image.{kind}", encode_picture(picture, kind), frame, kind)
    return {"image": image, "sandbox": note_method(found)}


def _sam_v2(task: EngineTask) -> JsonObject:
    """Segmind's SAM 2: a prompt or coordinates; the result is a JPEG, as the provider's is."""
    given = task.input
    image = given["image"]
    link = image.startswith(("data:", "http://", "https://"))
    frame = decode_picture(task.read("image", image if link else f"data:;base64,{image}"), "image")
    net = task.open_net()
    if (given.get("prompt") or "").strip():
        found = most_salient_region(frame, net)
        note = note_method(found, SALIENCE_NOTICE)
    else:
        names = {True: "coordinates", False: "remove_coordinates"}
        clicks = {keep: _read_coordinates(given.get(name), frame, name) for keep, name in names.items()}
        found = segment_clicks(frame, clicks, net, "coordinates")
        note = note_method(found)
    overlay = given.get("overlay_mask", True)
    picture = paint_mask(frame, found.mask) if overlay else mask_picture(found.mask)
    return {"image": task.save("image.jpg", encode_picture(picture, "jpeg")), "sandbox": note}


def _read_coordinates(text: str | None, frame: Frame, field_name: str) -> list[Point]:
    """`[x,y]` or `[[x,y],...]`, written as a string."""
    try:
        parsed = json.loads(text or "[]")
    except ValueError:
        parsed = None
    if not isinstance(parsed, list):
        raise UnusableInput(field_name, _COORDINATES)
    pairs = parsed if not parsed or isinstance(parsed[0], list) else [parsed]
    if not all(isinstance(pair, list) and len(pair) == len("xy") for pair in pairs):
        raise UnusableInput(field_name, _COORDINATES)
    return [read_point(x, y, frame, field_name) for x, y in pairs]


def _find_missing_prompts(given: Mapping[str, Any]) -> InputProblem | None:
    if given.get("prompts") or given.get("box_prompts"):
        return None
    return InputProblem("prompts", "Give at least one point or one box", "missing")


def _find_missing_prompt(given: Mapping[str, Any]) -> InputProblem | None:
    if (given.get("prompt") or "").strip() or given.get("coordinates"):
        return None
    return InputProblem("prompt", "Provide either a prompt or coordinates", "missing")


_TEXT = Field("string", required=True)

MODELS = (
    Model(
        "replicate",
        "bytedance/sa2va-4b-image",
        {"image": _TEXT, "instruction": _TEXT},
        _sa2va_4b,
        version="ccf8e58352ce5b2a6cbf5cb68b947ca3bc62009ce66e82071eeae14555414411",
    ),
    Model("fal", "fal-ai/sa2va/8b/image", {"prompt": _TEXT, "image_url": _TEXT}, _sa2va_8b),
    Model(
        "fal",
        "fal-ai/sam2/image",
        {
            "image_url": _TEXT,
            "prompts": Field("list"),
            "box_prompts": Field("list"),
            "apply_mask": Field("boolean"),
            "output_format": Field("string", options=("png", "jpeg", "webp")),
        },
        _sam2,
        check=_find_missing_prompts,
    ),
    Model(
        "segmind",
        "sam-v2-image",
        {
            "image": _TEXT,
            "prompt": Field("string"),
            "coordinates": Field("string"),
            "remove_coordinates": Field("string"),
            "overlay_mask": Field("boolean"),
            "base64": Field("boolean"),
        },
        _sam_v2,
        check=_find_missing_prompt,
    ),
    *SAM3_MODELS,
)
