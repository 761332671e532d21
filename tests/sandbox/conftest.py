"""A sandbox whose clock only moves when a test moves it, and photos that are made on the spot."""

import base64
import io
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx  # noqa: TID251 - the tests speak to the sandbox as any client would
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from rotoscope.sandbox import Sandbox, build_sandbox

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
        app.state.site.crew.wait(id_, 20)

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
