"""What the vision engine's models share: reading pictures, points and boxes, and keeping masks."""

from collections.abc import Mapping
from typing import Any

from rotoscope_sandbox.models import EngineTask, UnusableInput
from rotoscope_sandbox.predictions import JsonObject
from rotoscope_sandbox.vision.object_net import ObjectNet
from rotoscope_sandbox.vision.pictures import Encoding, decode_picture
from rotoscope_sandbox.vision.pixels import Frame, PixelBox, Point
from rotoscope_sandbox.vision.segmentation import Segmentation, segment_points

__all__ = [
    "SALIENCE_NOTICE",
    "note_method",
    "read_box",
    "read_picture",
    "read_point",
    "save_image",
    "segment_clicks",
]

SALIENCE_NOTICE = (
    "The sandbox understood no word of the instruction and took the most salient region: "
    "give a box or points, or set a provider key."
)
"""For a mask that words were to find."""


def note_method(found: Segmentation, notice: str | None = None) -> JsonObject:
    """How a mask was made, for the `sandbox` object of an output."""
    return {"method": found.method, "confidence": found.confidence, "notice": notice or found.notice}


def read_picture(task: EngineTask, field_name: str) -> Frame:
    """The picture of an input."""
    return decode_picture(task.read(field_name, task.input[field_name]), field_name)


def save_image(task: EngineTask, name: str, content: bytes, frame: Frame, kind: Encoding) -> JsonObject:
    """Keep a picture of the frame's size as an output; fal's `Image` object."""
    return {
        "url": task.save(name, content),
        "content_type": f"image/{kind}",
        "file_name": name,
        "file_size": len(content),
        "width": frame.shape[1],
        "height": frame.shape[0],
    }


def segment_clicks(
    frame: Frame, clicks: Mapping[bool, list[Point]], net: ObjectNet | None, field_name: str
) -> Segmentation:
    """The mask under clicks, by whether they are on the object. Raises `UnusableInput` where none is."""
    if not clicks[True]:
        raise UnusableInput(field_name, "At least one point has to select something (label 1).")
    return segment_points(frame, clicks[True], clicks[False], net)


def read_point(x: object, y: object, frame: Frame, field_name: str) -> Point:
    """A point in the picture. Raises `UnusableInput` for anything else."""
    if not isinstance(x, int | float) or not isinstance(y, int | float):
        raise UnusableInput(field_name, "A point needs numbers x and y.", "missing")
    height, width = frame.shape[:2]
    if not (0 <= x < width and 0 <= y < height):
        raise UnusableInput(field_name, f"The point ({x}, {y}) is outside the picture of {width} x {height} pixels.")
    return float(x), float(y)


def read_box(box: Mapping[str, Any], frame: Frame, field_name: str) -> PixelBox:
    """What a box holds of the picture. Raises `UnusableInput` where it is no box, or holds nothing."""
    edges = [box.get(name) for name in ("x_min", "y_min", "x_max", "y_max")]
    if not all(isinstance(edge, int | float) for edge in edges):
        raise UnusableInput(field_name, "A box needs numbers x_min, y_min, x_max and y_max.", "missing")
    left, top, right, bottom = (round(float(edge)) for edge in edges if edge is not None)
    inside = PixelBox(left, top, right, bottom).expand(0, frame.shape)
    if inside.width < 1 or inside.height < 1:
        raise UnusableInput(field_name, "The box holds nothing of the picture.")
    return inside
