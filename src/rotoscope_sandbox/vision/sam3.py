"""SAM 3 as fal, Replicate and Segmind offer it: each with its own input, output and defaults.

What surprises there: a prompt that is left out is a word of the provider's own ("wheel" at fal, "person" on Replicate),
which finds something else than was wanted, also beside clicks; fal paints the masks on the picture unless
`apply_mask` is false and gives one mask unless `return_multiple_masks` is true; Replicate's model gives a ZIP unless
`return_zip` is false.
"""

import io
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np

from rotoscope_sandbox.models import EngineTask, Field, InputProblem, Model, UnusableInput
from rotoscope_sandbox.predictions import JsonObject
from rotoscope_sandbox.vision.description import describe_areas
from rotoscope_sandbox.vision.inputs import (
    SALIENCE_NOTICE,
    note_method,
    read_box,
    read_picture,
    read_point,
    save_image,
    segment_clicks,
)
from rotoscope_sandbox.vision.object_net import ObjectNet
from rotoscope_sandbox.vision.pictures import Encoding, decode_picture, encode_picture, mask_picture, paint_mask
from rotoscope_sandbox.vision.pixels import Frame, Mask, PixelBox, Point
from rotoscope_sandbox.vision.segmentation import Segmentation, most_salient_region, segment_boxes

__all__ = ["MODELS"]

_FAL_WORD, _REPLICATE_WORD = "wheel", "person"
_UNASKED_NOTICE = "No prompt was sent, so the word {word!r} was searched for: send a prompt."
_LEAST_PART = 0.1
"""Share of the largest part of a mask from which another part counts as an object of its own."""

_UNASKED_CONFIDENCE = 0.2
_MOST_MASKS = 32


def _find_by_words(frame: Frame, prompt: str | None, default: str, net: ObjectNet | None) -> Segmentation:
    """What words find. They are not understood, but the provider's own word is surely another thing than was meant."""
    if prompt is not None:
        return most_salient_region(frame, net)
    areas = describe_areas(frame, net)
    return Segmentation(
        areas[-1].mask, f"an area for the word {default}", _UNASKED_CONFIDENCE, _UNASKED_NOTICE.format(word=default)
    )


def _split_objects(mask: Mask) -> list[Mask]:
    """The connected parts of a mask, the largest first; specks are left out."""
    count, labels, facts, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    areas = {number: int(facts[number, cv2.CC_STAT_AREA]) for number in range(1, count)}
    largest = max(areas.values(), default=0)
    kept = sorted((one for one in areas if areas[one] >= _LEAST_PART * largest), key=lambda one: -areas[one])
    return [np.asarray(labels == number) for number in kept]


def _segment_at_fal(task: EngineTask) -> JsonObject:
    given = {name: value for name, value in task.input.items() if value is not None}
    frame, net = read_picture(task, "image_url"), task.open_net()
    located = _find_located(given, frame, net)
    prompt = given.get("prompt")
    has_words = prompt is None or bool(prompt.strip())
    worded = _find_by_words(frame, prompt, _FAL_WORD, net) if has_words else None
    if located is None and worded is None:
        raise UnusableInput("prompt", "Give a prompt, points or boxes.", "value_error")
    masks = _masks_of(located, worded, with_default=prompt is None)
    task.log(f"found {len(masks)} objects")
    if given.get("return_multiple_masks", False):
        masks = masks[: given.get("max_masks", 3)]
    elif masks:
        masks = [np.logical_or.reduce(masks)]
    found = located or worded
    assert found is not None
    note = note_method(found, SALIENCE_NOTICE if located is None and found.notice is None else None)
    if worded is not None and worded.notice and _FAL_WORD in worded.notice:
        note["notice"] = worded.notice
    return _fal_output(task, frame, masks, found.confidence) | {"sandbox": note}


def _masks_of(located: Segmentation | None, worded: Segmentation | None, *, with_default: bool) -> list[Mask]:
    """The object of the clicks and the box first; words that were sent beside them choose among it alone."""
    masks = [located.mask] if located is not None and located.mask.any() else []
    if worded is not None and (located is None or with_default):
        masks += _split_objects(worded.mask)
    return masks


def _find_located(given: Mapping[str, Any], frame: Frame, net: ObjectNet | None) -> Segmentation | None:
    """The object of the points and boxes; None without any."""
    points, boxes = given.get("point_prompts") or [], given.get("box_prompts") or []
    clicks: dict[bool, list[Point]] = {True: [], False: []}
    for number, point in enumerate(points):
        place = read_point(point.get("x"), point.get("y"), frame, f"point_prompts.{number}")
        clicks[point.get("label", 1) != 0].append(place)
    found = [read_box(box, frame, f"box_prompts.{number}") for number, box in enumerate(boxes)]
    if found:
        return segment_boxes(frame, found, clicks[True], clicks[False], net)
    return segment_clicks(frame, clicks, net, "point_prompts") if points else None


def _fal_output(task: EngineTask, frame: Frame, masks: Sequence[Mask], confidence: float) -> JsonObject:
    given = task.input
    kind: Encoding = given.get("output_format") or "png"
    is_painted = given.get("apply_mask", True) is not False
    images = [
        save_image(task, f"mask-{number}.{kind}", encode_picture(_draw(frame, mask, is_painted), kind), frame, kind)
        for number, mask in enumerate(masks, 1)
    ]
    boxes = [_normalised_box(mask) for mask in masks]
    scores = [round(max(confidence - 0.01 * number, 0.01), 3) for number in range(len(masks))]
    output: JsonObject = {"masks": images, "metadata": [{"index": number} for number in range(len(masks))]}
    if images:
        output["image"] = images[0]
    if given.get("include_scores"):
        output["scores"] = scores
        output["metadata"] = [one | {"score": score} for one, score in zip(output["metadata"], scores, strict=True)]
    if given.get("include_boxes"):
        output["boxes"] = boxes
        output["metadata"] = [one | {"box": box} for one, box in zip(output["metadata"], boxes, strict=True)]
    return output


def _draw(frame: Frame, mask: Mask, is_painted: bool) -> Any:
    return paint_mask(frame, mask) if is_painted else mask_picture(mask)


def _normalised_box(mask: Mask) -> list[float]:
    """Centre, width and height of the box around a mask, as fractions of the picture."""
    height, width = mask.shape
    box = PixelBox.around(mask)
    middle = (box.left + box.width / 2) / width, (box.top + box.height / 2) / height
    return [round(value, 5) for value in (*middle, box.width / width, box.height / height)]


def _segment_on_replicate(task: EngineTask) -> str:
    given = {name: value for name, value in task.input.items() if value is not None}
    frame, net = read_picture(task, "image"), task.open_net()
    found = _find_by_words(frame, given.get("prompt"), _REPLICATE_WORD, net)
    parts = _split_objects(found.mask)
    task.log(f"Found {len(parts)} objects")
    notice = SALIENCE_NOTICE if found.notice is None else found.notice
    task.report({"sandbox": note_method(found, notice)})
    if given.get("return_zip", True):
        return task.save("masks.zip", _zip_masks(parts))
    bare = given.get("mask_only", False)
    return task.save("mask.png", encode_picture(_draw(frame, found.mask, not bare), "png"))


def _zip_masks(parts: Sequence[Mask]) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for number, part in enumerate(parts):
            # A fixed date: the same picture gives the same bytes.
            entry = zipfile.ZipInfo(f"mask_{number}.png", (2025, 1, 1, 0, 0, 0))
            archive.writestr(entry, encode_picture(mask_picture(part), "png"))
    return target.getvalue()


def _segment_at_segmind(task: EngineTask) -> JsonObject:
    given, image = task.input, task.input["image"]
    link = image.startswith(("data:", "http://", "https://"))
    frame = decode_picture(task.read("image", image if link else f"data:;base64,{image}"), "image")
    found = most_salient_region(frame, task.open_net())
    overlay = bool(given.get("return_overlay")) and not given.get("return_preview", True)
    reference = task.save("image.png", encode_picture(_draw(frame, found.mask, overlay), "png"))
    return {"image": reference, "sandbox": note_method(found, SALIENCE_NOTICE)}


def _find_label_problem(given: Mapping[str, Any]) -> InputProblem | None:
    """A label is 0 or 1, as a number."""
    for number, point in enumerate(given.get("point_prompts") or []):
        if not isinstance(point, dict) or point.get("label", 1) not in (0, 1):
            return InputProblem(f"point_prompts.{number}.label", "Input should be 0 or 1", "literal_error")
    return None


_TEXT = Field("string", required=True)
_FLAG = Field("boolean")

MODELS = (
    Model(
        "fal",
        "fal-ai/sam-3/image",
        {
            "image_url": _TEXT,
            "prompt": Field("string"),
            "point_prompts": Field("list"),
            "box_prompts": Field("list"),
            "apply_mask": _FLAG,
            "output_format": Field("string", options=("png", "jpeg", "webp")),
            "return_multiple_masks": _FLAG,
            "max_masks": Field("integer", least=1, most=_MOST_MASKS),
            "include_scores": _FLAG,
            "include_boxes": _FLAG,
            "sync_mode": _FLAG,
        },
        _segment_at_fal,
        check=_find_label_problem,
    ),
    Model(
        "replicate",
        "mattsays/sam3-image",
        {
            "image": _TEXT,
            "prompt": Field("string"),
            "threshold": Field("number", least=0, most=1),
            "save_overlay": _FLAG,
            "mask_only": _FLAG,
            "return_zip": _FLAG,
            "mask_opacity": Field("number", least=0, most=1),
            "mask_color": Field("string"),
        },
        _segment_on_replicate,
        version="d73db077226443ba4fafd34e233b3626b552eac2a433f90c7c32a9ac89bd9e72",
    ),
    Model(
        "segmind",
        "sam3-image",
        {
            "image": _TEXT,
            "text_prompt": Field("string"),
            "points_input": Field("string"),
            "point_labels_input": Field("string"),
            "boxes_input": Field("string"),
            "return_preview": _FLAG,
            "return_overlay": _FLAG,
            "return_masks": _FLAG,
            "threshold": Field("number", least=0, most=1),
            "max_masks": Field("integer", least=0, most=100),
        },
        _segment_at_segmind,
    ),
)
