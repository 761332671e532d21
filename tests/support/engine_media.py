"""Pictures and videos whose truth is known, and what a sandbox engine is given to work on them."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeAlias

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rotoscope_sandbox.models import Stopped
from rotoscope_sandbox.vision.object_net import ObjectNet

Pixels: TypeAlias = NDArray[np.uint8]
MaskArray: TypeAlias = NDArray[np.bool_]

_SCENERY_SIZE, _SCENERY_FRAMES, _SCENERY_RATE = (160, 96), 13, Fraction(25, 2)


@dataclass
class Scene:
    """A made-up photo and the mask of the object in it, which lies in `box` (left, top, right, bottom)."""

    frame: Pixels
    mask: MaskArray
    box: tuple[int, int, int, int]

    @property
    def png(self) -> bytes:
        return png_bytes(self.frame)

    @property
    def uri(self) -> str:
        return data_uri(self.png)


def make_scene(height: int = 240, width: int = 320) -> Scene:
    """A reddish, grainy disc on a greenish, grainy ground with a slow gradient."""
    chance = np.random.default_rng(7)
    rows, columns = np.mgrid[0:height, 0:width]
    middle, radius = (height * 0.45, width * 0.6), height * 0.25
    mask = (rows - middle[0]) ** 2 + (columns - middle[1]) ** 2 <= radius**2
    ground = np.stack([60 + columns * 40 / width, 110 + rows * 40 / height, 70 + 0 * rows], axis=-1)
    thing = np.array([190.0, 70.0, 60.0]) + 20 * np.sin(columns / 5)[..., None]
    frame = np.where(mask[..., None], thing, ground) + chance.normal(0, 10, (height, width, 1))
    where = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    box = int(where[0][0]), int(where[1][0]), int(where[0][-1]) + 1, int(where[1][-1]) + 1
    return Scene(frame.clip(0, 255).astype(np.uint8), mask, box)


@dataclass
class Scenery:
    """A made-up video of a grainy disc that moves before a grainy ground: what is behind it, and where it is."""

    path: Path
    ground: Pixels
    masks: list[MaskArray]
    rate: Fraction


def make_scenery(path: Path) -> Scenery:
    """13 frames of 160x96 at 12.5 frames a second."""
    chance = np.random.default_rng(3)
    width, height = _SCENERY_SIZE
    ground = _grain(chance, (height, width), (70, 120, 90))
    thing = _grain(chance, (height, width), (190, 80, 60))
    rows, columns = np.mgrid[0:height, 0:width]
    frames, masks = [], []
    for number in range(_SCENERY_FRAMES):
        x, y = 44 + 4 * number, 46 + number // 2
        mask = (columns - x) ** 2 + (rows - y) ** 2 <= 18**2
        shifted = np.roll(thing, (number // 2, 4 * number), (0, 1))
        frames.append(np.where(mask[..., None], shifted, ground).astype(np.uint8))
        masks.append(mask)
    write_video(path, frames, _SCENERY_RATE)
    return Scenery(path, ground, masks, _SCENERY_RATE)


def _grain(chance: np.random.Generator, shape: tuple[int, int], colour: tuple[int, int, int]) -> Pixels:
    """Soft spots of some pixels' size: optical flow and corner tracking need them."""
    spots = chance.normal(0, 90, (*shape, 1))
    for axis in (0, 1, 0, 1):
        spots = (np.roll(spots, -1, axis) + spots + np.roll(spots, 1, axis)) / 3 * 1.25
    return np.asarray((np.array(colour) + spots).clip(0, 255), np.uint8)


@dataclass
class LocalTask:
    """What an engine is given, without a sandbox around it: a reference is the path of a file, results are kept here.

    `stop_after` is how many log lines are accepted before the task counts as cancelled; `net` is the object net.
    """

    input: Mapping[str, Any]
    scratch: Path
    stop_after: int = 10_000
    lines: list[str] = field(default_factory=list)
    metrics: dict[str, Any] = field(default_factory=dict)
    kept: Path | None = None
    net: ObjectNet | None = None

    def open_net(self) -> ObjectNet | None:
        return self.net

    def read(self, field_name: str, reference: str) -> bytes:
        return Path(reference).read_bytes()

    def place(self, field_name: str, reference: str) -> Path:
        return Path(reference)

    def save(self, name: str, content: bytes) -> str:
        (self.scratch / name).write_bytes(content)
        return name

    def keep(self, name: str, made: Path) -> str:
        self.kept = made.rename(self.scratch / f"kept-{len(list(self.scratch.iterdir()))}-{name}")
        return name

    def report(self, metrics: Mapping[str, Any]) -> None:
        self.metrics.update(metrics)

    def log(self, line: str) -> None:
        if len(self.lines) == self.stop_after:
            raise Stopped
        self.lines.append(line)

    @property
    def result(self) -> Path:
        assert self.kept is not None
        return self.kept


def local_task(folder: Path, given: Mapping[str, object], stop_after: int = 10_000) -> LocalTask:
    """A task whose input names files by path; several tasks may share a folder."""
    scratch = folder / "scratch"
    scratch.mkdir(exist_ok=True)
    return LocalTask({name: _as_text(value) for name, value in given.items()}, scratch, stop_after)


def _as_text(value: object) -> object:
    if isinstance(value, list):
        return [_as_text(one) for one in value]
    return str(value) if isinstance(value, Path) else value


def png_bytes(picture: Pixels) -> bytes:
    target = io.BytesIO()
    Image.fromarray(picture).save(target, "PNG")
    return target.getvalue()


def save_png(path: Path, picture: Pixels) -> Path:
    path.write_bytes(png_bytes(picture))
    return path


def data_uri(content: bytes, content_type: str = "image/png") -> str:
    return f"data:{content_type};base64,{base64.b64encode(content).decode()}"


def write_video(path: Path, frames: Sequence[Pixels], rate: Fraction) -> Path:
    """H.264 in nearly lossless quality."""
    with av.open(str(path), "w", format="mp4") as file:
        stream = file.add_stream("libx264", rate=rate, options={"crf": "6", "preset": "ultrafast"})
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            file.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        file.mux(stream.encode(None))
    return path


def read_video(path: Path) -> list[Pixels]:
    with av.open(str(path)) as file:
        return [np.asarray(frame.to_ndarray(format="rgb24"), np.uint8) for frame in file.decode(video=0)]


def psnr(one: Pixels, other: Pixels) -> float:
    """Peak signal to noise ratio in dB; 99 for equal pictures."""
    error = float(np.mean((one.astype(np.float64) - other) ** 2))
    return 99.0 if error == 0 else float(10 * np.log10(255**2 / error))


def overlap(one: MaskArray, other: MaskArray) -> float:
    """Intersection over union."""
    return float((one & other).sum() / (one | other).sum())
