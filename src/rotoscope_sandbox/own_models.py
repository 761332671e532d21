"""Models of the user's own: the sandbox plays them by what they are for and by the form of their output.

The engines play certain models of the providers, each with its own input and output. For any other model, `play_model`
finds in the request what the engine of its tool needs, by the role of each input, and puts the results where the
model's output has them.
"""

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from rotoscope_sandbox.inner_task import InnerTask
from rotoscope_sandbox.models import EngineTask, Field, InputProblem, Model, UnusableInput, find_model
from rotoscope_sandbox.predictions import JsonObject

__all__ = ["OwnInput", "OwnModel", "play_model"]

_SA2VA_4B = ("replicate", "bytedance/sa2va-4b-image")
_SA2VA_8B = ("fal", "fal-ai/sa2va/8b/image")
_SAM2 = ("fal", "fal-ai/sam2/image")
_SEEDANCE = ("replicate", "bytedance/seedance-2.0")
_VACE = ("replicate", "prunaai/vace-14b")
_SAM2_VIDEO = ("fal", "fal-ai/sam2/video")
_SAM3_RUNS = ("fal", "fal-ai/sam-3/video-rle")
_HEIGHTS = {"480p": 480, "720p": 720, "1080p": 1080, "4k": 2160}
_ASPECTS = ("16:9", "4:3", "1:1", "3:4", "9:16", "21:9")
_LONGEST_SECONDS = 60
_MOST_FRAMES = 81
_LONGEST_SIDE = 1920
_CORNERS = (("x_min", "left"), ("y_min", "top"), ("x_max", "right"), ("y_max", "bottom"))


@dataclass(frozen=True, slots=True)
class OwnInput:
    """One input of a model.

    Attributes:
        role: what it is for: `image`, `instruction`, `prompt`, `points`, `removed_points`, `box`, `first_frame`,
            `last_frame`, `reference_images`, `reference_videos`, `reference_audios`, `duration`, `resolution`,
            `aspect_ratio`, `generate_audio`, `seed`, `video`, `mask`, `size`, `frame_num` or `frame`; others are
            ignored.
        type: the JSON type of its value, as in `models.Field`; empty where any is taken.
        is_required: whether a request without it is refused.
    """

    role: str = ""
    type: str = ""
    is_required: bool = False


@dataclass(frozen=True, slots=True)
class OwnModel:
    """A model that is played.

    Attributes:
        wire: `replicate`, `fal` or `segmind`.
        name: its name there.
        tool: what it does: `segment_image`, `describe_with_masks`, `generate_video`, `edit_video_with_mask` or
            `segment_video`.
        inputs: by name.
        masks, text, video, runs: where these are in its output: paths of `$`, dotted keys and `[]`; empty for none.
            Runs are the run lengths of a mask in each frame; without them a mask film is at `video`.
        version: the version id of a community model on Replicate; empty for others.
    """

    wire: str
    name: str
    tool: str
    inputs: Mapping[str, OwnInput]
    masks: str = ""
    text: str = ""
    video: str = ""
    version: str = ""
    runs: str = ""


@dataclass(frozen=True, slots=True)
class _Results:
    """What an engine made: references to files, and a text."""

    masks: tuple[str, ...] = ()
    text: str = ""
    video: str = ""
    runs: tuple[str, ...] = ()


def play_model(own: OwnModel) -> Model:
    """The model as the wires know it."""
    fields = {name: Field(one.type, required=one.is_required) for name, one in own.inputs.items() if one.type}
    return Model(
        own.wire,
        own.name,
        fields,
        partial(_compute, own),
        version=own.version,
        check=partial(_tool_problem, own),
        answers_with_json=True,
    )


def _tool_problem(own: OwnModel, _: Mapping[str, Any]) -> InputProblem | None:
    if own.tool in _ENGINES:
        return None
    return InputProblem("tool", f"The sandbox plays no model for {own.tool}, only {', '.join(_ENGINES)}", "value_error")


def _compute(own: OwnModel, task: EngineTask) -> Any:
    names: dict[str, str] = {}
    for name, one in own.inputs.items():
        # Two inputs may have one role, such as a mask as a picture and as a film: the one that was sent counts.
        if one.role and (one.role not in names or task.input.get(name) not in (None, "", [])):
            names[one.role] = name
    request = _Request(task, names, gives_runs=bool(own.runs))
    results = _ENGINES[own.tool](request)
    task.report({"sandbox": request.made})
    output: Any = {"sandbox": request.made}
    runs_path = f"{own.runs.removeprefix('$').strip('.') or 'rle'}[]"
    found = (
        (own.text, results.text),
        (own.video, results.video),
        (own.masks, results.masks),
        (runs_path, results.runs),
    )
    for path, value in found:
        if path and value:
            output = _put(output, path, value)
    return output


class _Request:
    """A request to an own model: the values of its inputs by role; `made` is what the engine measured of its result.

    `gives_runs` says whether its output has run lengths.
    """

    def __init__(self, task: EngineTask, names: Mapping[str, str], *, gives_runs: bool = False) -> None:
        self.gives_runs = gives_runs
        self.made: JsonObject = {}
        self._task = task
        self._names = names

    def get(self, role: str) -> Any:
        """The value of the input with that role; None where it is absent or empty."""
        value = self._task.input.get(self._names.get(role, ""))
        return None if value in ("", []) else value

    def text(self, *roles: str) -> str:
        return next((value for role in roles if isinstance(value := self.get(role), str)), "")

    def file(self, role: str) -> str:
        """The reference of a file that the engine needs.

        Raises:
            UnusableInput: there is none.
        """
        found = self.files(role)
        if not found:
            name = self._names.get(role, role)
            raise UnusableInput(name, f"The sandbox plays this model by its tool and needs its {role}.", "missing")
        return found[0]

    def files(self, role: str) -> list[str]:
        value = self.get(role)
        return [_reference(one) for one in (value if isinstance(value, list) else [value]) if isinstance(one, str)]

    def run(self, engine: tuple[str, str], inputs: Mapping[str, Any], roles: Mapping[str, str]) -> Any:
        """The output of an engine's model.

        Args:
            engine: the model's wire and name.
            inputs: its input; what is None counts as not given.
            roles: the role that fills each of them, so that an error names the input of the own model.
        """
        model = find_model(*engine)
        assert model is not None
        task = InnerTask(self._task, {name: value for name, value in inputs.items() if value is not None})
        try:
            output = model.compute(task)
        except UnusableInput as problem:
            head, dot, rest = problem.field_name.partition(".")
            name = self._names.get(roles.get(head, ""), head)
            raise UnusableInput(f"{name}{dot}{rest}", problem.message, problem.kind) from problem
        # An engine whose output has no place for how it was made reports that among its metrics.
        self.made = output["sandbox"] if isinstance(output, dict) else task.metrics.get("sandbox", {})
        return output


def _segment(request: _Request) -> _Results:
    points = [*_points(request.get("points")), *_points(request.get("removed_points"), label=0)]
    boxes = _boxes(request.get("box"))
    image = request.file("image")
    if not points and not boxes:
        texts = {"image": image, "instruction": request.text("instruction", "prompt")}
        output = request.run(_SA2VA_4B, texts, {"image": "image"})
        return _Results(masks=(output["img"],), text=output["response"])
    inputs: JsonObject = {"image_url": image, "prompts": points, "box_prompts": boxes}
    output = request.run(_SAM2, inputs, {"image_url": "image", "prompts": "points", "box_prompts": "box"})
    return _Results(masks=(output["image"]["url"],))


def _describe(request: _Request) -> _Results:
    inputs = {"image_url": request.file("image"), "prompt": request.text("prompt", "instruction")}
    output = request.run(_SA2VA_8B, inputs, {"image_url": "image"})
    return _Results(tuple(mask["url"] for mask in output["masks"]), output["output"])


def _generate(request: _Request) -> _Results:
    files = {"image": "first_frame", "last_frame_image": "last_frame"}
    lists = {name: name for name in ("reference_images", "reference_videos", "reference_audios")}
    audible, seed = request.get("generate_audio"), request.get("seed")
    inputs = {
        "prompt": request.text("prompt"),
        **{name: next(iter(request.files(role)), None) for name, role in files.items()},
        **{name: request.files(role) or None for name, role in lists.items()},
        "duration": _seconds(request.get("duration")),
        "resolution": _resolution(request.get("resolution")),
        "aspect_ratio": _aspect(request.get("aspect_ratio")),
        "generate_audio": audible if isinstance(audible, bool) else None,
        "seed": seed if isinstance(seed, int) else None,
    }
    return _Results(video=request.run(_SEEDANCE, inputs, files | lists))


def _edit(request: _Request) -> _Results:
    frames = request.get("frame_num")
    inputs = {
        "prompt": request.text("prompt"),
        "src_video": request.file("video"),
        "src_mask": request.file("mask"),
        "src_ref_images": request.files("reference_images") or None,
        "size": _size(request.get("size")),
        "frame_num": min(max(frames, 1), _MOST_FRAMES) if isinstance(frames, int) else None,
    }
    roles = {"src_video": "video", "src_mask": "mask", "src_ref_images": "reference_images"}
    return _Results(video=request.run(_VACE, inputs, roles))


def _track(request: _Request) -> _Results:
    on_frame = {"frame_index": frame if isinstance(frame := request.get("frame"), int) else 0}
    points = [*_points(request.get("points")), *_points(request.get("removed_points"), label=0)]
    inputs = {
        "video_url": request.file("video"),
        "prompt": request.text("instruction", "prompt"),
        "point_prompts": (placed := [on_frame | point for point in points]),
        "prompts": placed,
        "box_prompts": [on_frame | box for box in _boxes(request.get("box"))],
        "mask_url": next(iter(request.files("mask")), None),
        **on_frame,
    }
    roles = {"video_url": "video", "point_prompts": "points", "prompts": "points", "box_prompts": "box"}
    roles |= {"mask_url": "mask", "frame_index": "frame", "prompt": "instruction"}
    if request.gives_runs:
        return _Results(runs=tuple(request.run(_SAM3_RUNS, inputs, roles)["rle"]))
    return _Results(video=request.run(_SAM2_VIDEO, inputs, roles)["video"]["url"])


_ENGINES: Mapping[str, Callable[[_Request], _Results]] = {
    "segment_image": _segment,
    "describe_with_masks": _describe,
    "generate_video": _generate,
    "edit_video_with_mask": _edit,
    "segment_video": _track,
}


def _reference(value: str) -> str:
    """A file as the engines read it: base64 without a head, as Segmind takes it, becomes a data URI."""
    return value if value.startswith(("data:", "http://", "https://")) else f"data:;base64,{value}"


def _items(value: Any) -> list[Any]:
    """What an input holds: one item or many, as JSON or as JSON in a text; numbers alone are one item."""
    try:
        found = json.loads(value) if isinstance(value, str) else value
    except ValueError:
        return []
    if not isinstance(found, list):
        return [found]
    return [found] if found and isinstance(found[0], int | float) else found


def _points(value: Any, label: int = 1) -> list[JsonObject]:
    """Points as SAM 2 takes them, from objects with x and y or from pairs."""
    points: list[JsonObject] = []
    for one in _items(value):
        if isinstance(one, dict):
            kept = one.get("label", one.get("keep", label))
            place = {"frame_index": one["frame_index"]} if "frame_index" in one else {}
            points.append({"x": one.get("x"), "y": one.get("y"), "label": int(kept not in (0, False))} | place)
        elif isinstance(one, list) and len(one) == len("xy"):
            points.append({"x": one[0], "y": one[1], "label": label})
    return points


def _boxes(value: Any) -> list[JsonObject]:
    """Boxes as SAM 2 takes them, from objects or from four numbers."""
    boxes: list[JsonObject] = []
    for one in _items(value):
        if isinstance(one, dict):
            place = {"frame_index": one["frame_index"]} if "frame_index" in one else {}
            boxes.append({theirs: one.get(theirs, one.get(plain)) for theirs, plain in _CORNERS} | place)
        elif isinstance(one, list) and len(one) == len(_CORNERS):
            boxes.append({theirs: edge for (theirs, _), edge in zip(_CORNERS, one, strict=True)})
    return boxes


def _number(value: Any) -> float | None:
    """A number, also one in a text such as "8s"."""
    match = re.search(r"\d+(\.\d+)?", str(value))
    return float(match[0]) if match and not isinstance(value, bool) else None


def _seconds(value: Any) -> int | None:
    seconds = _number(value)
    return None if seconds is None else min(max(math.ceil(seconds), 1), _LONGEST_SECONDS)


def _resolution(value: Any) -> str | None:
    """The engine's resolution with the nearest height."""
    height = _HEIGHTS["4k"] if str(value).lower() == "4k" else _number(value)
    return None if height is None else min(_HEIGHTS, key=lambda name: abs(_HEIGHTS[name] - height))


def _aspect(value: Any) -> str | None:
    """The engine's aspect ratio that is nearest to one such as `3:2`; any other text is `adaptive`."""
    match = re.fullmatch(r"(\d+)[:/x*](\d+)", str(value))
    if match is None or not (int(match[1]) and int(match[2])):
        return "adaptive" if value is not None else None
    ratio = math.log(int(match[1]) / int(match[2]))
    return min(_ASPECTS, key=lambda name: abs(math.log(int(name.split(":")[0]) / int(name.split(":")[1])) - ratio))


def _size(value: Any) -> str | None:
    """Width and height in pixels as the engine takes them: even, and no larger than it can do."""
    match = re.fullmatch(r"(\d+)[*x:](\d+)", str(value))
    sides = [int(side) // 2 * 2 for side in match.groups()] if match else []
    return "*".join(map(str, sides)) if sides and all(0 < side <= _LONGEST_SIDE for side in sides) else None


def _put(output: Any, path: str, value: str | tuple[str, ...]) -> Any:
    """An output with a value, or several for a path with `[]`, at a path; what is at other keys stays."""
    steps = [step for step in path.removeprefix("$").strip(".").split(".") if step]
    return _put_at(output, steps or (["[]"] if path.endswith("[]") else []), value)


def _put_at(output: Any, steps: list[str], value: str | Iterable[str]) -> Any:
    if not steps:
        return value if isinstance(value, str) else next(iter(value))
    key, is_many = steps[0].removesuffix("[]"), steps[0].endswith("[]")
    values = [value] if isinstance(value, str) else list(value)
    inner: Any = [_put_at({}, steps[1:], one) for one in values] if is_many else None
    if not key:
        return inner
    known = output if isinstance(output, dict) else {}
    return known | {key: inner if is_many else _put_at(known.get(key), steps[1:], value)}
