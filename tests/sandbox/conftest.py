"""A sandbox whose clock only moves when a test moves it, and photos that are made on the spot."""

import base64
import io
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import httpx  # noqa: TID251 - the tests speak to the sandbox as any client would
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from rotoscope_sandbox import Sandbox, build_sandbox
from rotoscope_sandbox.models import Stopped

BASE = "https://sandbox.invalid"
KEYS = {
    "replicate": {"authorization": "Bearer r8_test"},
    "fal": {"authorization": "Key test:key"},
    "segmind": {"x-api-key": "SG_test"},
}


@dataclass
class Clock:
    """The time, as a test wants it."""

    now: float = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Scene:
    """A made-up photo and the mask of the object in it, which lies in `box` (left, top, right, bottom)."""

    frame: NDArray[np.uint8]
    mask: NDArray[np.bool_]
    box: tuple[int, int, int, int]

    @property
    def png(self) -> bytes:
        return as_png(self.frame)

    @property
    def uri(self) -> str:
        return as_uri(self.png)


def as_png(picture: NDArray[np.uint8]) -> bytes:
    target = io.BytesIO()
    Image.fromarray(picture).save(target, "PNG")
    return target.getvalue()


def as_uri(content: bytes, content_type: str = "image/png") -> str:
    return f"data:{content_type};base64,{base64.b64encode(content).decode()}"


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


def overlap(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    """Intersection over union."""
    return float((one & other).sum() / (one | other).sum())


@pytest.fixture
def scene() -> Scene:
    return make_scene()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "sandbox"


@pytest.fixture
def app(folder: Path, clock: Clock) -> Sandbox:
    """A sandbox that pretends to need no time."""
    return build_sandbox(folder, pace=0, clock=clock)


@pytest.fixture
def slow_app(folder: Path, clock: Clock) -> Sandbox:
    """A sandbox that pretends to need time; it passes when the test says so."""
    return build_sandbox(folder, pace=1, clock=clock)


@pytest.fixture
def finish() -> Callable[[Sandbox, str], None]:
    """Blocks until the sandbox has computed a prediction, whatever it pretends."""

    def finished(app: Sandbox, id_: str) -> None:
        app.state.core.workers.wait(id_, 20)

    return finished


@pytest.fixture
def ask() -> Callable[..., Any]:
    """Opens a plain client with the key of one wire; without a wire, with no key."""

    def opened(app: Sandbox, wire: str | None = None) -> httpx.AsyncClient:
        headers = KEYS[wire] if wire else {}
        return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=BASE, headers=headers)

    return opened


@pytest.fixture
async def fal(app: Sandbox, ask: Callable[..., Any]) -> AsyncIterator[httpx.AsyncClient]:
    async with ask(app, "fal") as client:
        yield client


@pytest.fixture
async def segmind(app: Sandbox, ask: Callable[..., Any]) -> AsyncIterator[httpx.AsyncClient]:
    async with ask(app, "segmind") as client:
        yield client


@pytest.fixture
def opened_mask() -> Callable[[bytes], NDArray[np.bool_]]:
    """Reads a mask file as a mask: it must have one channel and nothing between black and white."""

    def opened(content: bytes) -> NDArray[np.bool_]:
        with Image.open(io.BytesIO(content)) as picture:
            assert picture.mode == "L"
            values = np.asarray(picture)
        assert set(np.unique(values)) <= {0, 255}
        return values > 0

    return opened


@pytest.fixture
def likeness() -> Callable[[NDArray[np.bool_], NDArray[np.bool_]], float]:
    return overlap


@dataclass
class Job:
    """What an engine is given, without a sandbox around it: files are read by their path, all is remembered."""

    input: dict[str, Any]
    scratch: Path
    lines: list[str] = field(default_factory=list)
    metrics: dict[str, Any] = field(default_factory=dict)
    kept: Path | None = None
    stop_after: int = 10_000

    def read(self, _: str, reference: str) -> bytes:
        return Path(reference).read_bytes()

    def place(self, _: str, reference: str) -> Path:
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


@dataclass
class Scenery:
    """A made-up film: a grainy disc that wanders before a grainy ground; what is behind it, and where it is."""

    place: Path
    ground: NDArray[np.uint8]
    masks: list[NDArray[np.bool_]]
    rate: Fraction


SCENERY_RATE = Fraction(25, 2)
SCENERY_SIZE = (160, 96)
SCENERY_FRAMES = 13


def make_scenery(place: Path) -> Scenery:
    chance = np.random.default_rng(3)
    width, height = SCENERY_SIZE
    ground = _grain(chance, (height, width), (70, 120, 90))
    thing = _grain(chance, (height, width), (190, 80, 60))
    rows, columns = np.mgrid[0:height, 0:width]
    frames, masks = [], []
    for number in range(SCENERY_FRAMES):
        x, y = 44 + 4 * number, 46 + number // 2
        mask = (columns - x) ** 2 + (rows - y) ** 2 <= 18**2
        moved = np.roll(thing, (number // 2, 4 * number), (0, 1))
        frames.append(np.where(mask[..., None], moved, ground).astype(np.uint8))
        masks.append(mask)
    write_clip(place, frames, SCENERY_RATE)
    return Scenery(place, ground, masks, SCENERY_RATE)


def _grain(chance: np.random.Generator, shape: tuple[int, int], colour: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Soft spots of some pixels' size: what optical flow and feature tracking live on."""
    spots = chance.normal(0, 90, (*shape, 1))
    for axis in (0, 1, 0, 1):
        spots = sum(np.roll(spots, step, axis) for step in (-1, 0, 1)) / 3 * 1.25
    return (np.array(colour) + spots).clip(0, 255).astype(np.uint8)


def write_clip(place: Path, frames: list[NDArray[np.uint8]], rate: Fraction) -> None:
    with av.open(str(place), "w", format="mp4") as file:
        stream = file.add_stream("libx264", rate=rate, options={"crf": "6", "preset": "ultrafast"})
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            file.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        file.mux(stream.encode(None))


def read_clip(place: Path) -> list[NDArray[np.uint8]]:
    with av.open(str(place)) as file:
        return [np.asarray(frame.to_ndarray(format="rgb24"), np.uint8) for frame in file.decode(video=0)]


def likeness_in_db(one: NDArray[Any], other: NDArray[Any]) -> float:
    """Peak signal to noise ratio."""
    error = float(np.mean((one.astype(np.float64) - other) ** 2))
    return 99.0 if error == 0 else float(10 * np.log10(255**2 / error))


@pytest.fixture(scope="session")
def scenery(tmp_path_factory: pytest.TempPathFactory) -> Scenery:
    return make_scenery(tmp_path_factory.mktemp("scenery") / "scenery.mp4")


@pytest.fixture
def job(tmp_path: Path) -> Callable[..., Job]:
    """Makes a task for an engine out of an input."""

    def made(given: Mapping[str, Any], **more: Any) -> Job:
        scratch = tmp_path / "scratch"
        scratch.mkdir(exist_ok=True)
        return Job({name: _worded(value) for name, value in given.items()}, scratch, **more)

    return made


def _worded(value: Any) -> Any:
    if isinstance(value, list):
        return [_worded(one) for one in value]
    return str(value) if isinstance(value, Path) else value


@pytest.fixture
def frames_in() -> Callable[[Path], list[NDArray[np.uint8]]]:
    return read_clip


@pytest.fixture
def psnr() -> Callable[[NDArray[Any], NDArray[Any]], float]:
    return likeness_in_db


@pytest.fixture
def saved(tmp_path: Path) -> Callable[[str, NDArray[np.uint8]], Path]:
    """Writes a picture as PNG."""

    def written(name: str, picture: NDArray[np.uint8]) -> Path:
        place = tmp_path / name
        place.write_bytes(as_png(picture))
        return place

    return written


@pytest.fixture
def write_film() -> Callable[[Path, list[NDArray[np.uint8]], Fraction], None]:
    return write_clip
