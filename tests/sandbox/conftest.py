"""A sandbox whose clock only moves when a test moves it, and photos that are made on the spot."""

import io
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx  # noqa: TID251 - the tests speak to the sandbox as any client would
import numpy as np
import pytest
from engine_media import Scene, Scenery, make_scene, make_scenery, overlap
from numpy.typing import NDArray
from PIL import Image
from set_clock import Clock

from rotoscope_sandbox import Sandbox, build_sandbox

BASE = "https://sandbox.invalid"
KEYS = {
    "replicate": {"authorization": "Bearer r8_test"},
    "fal": {"authorization": "Key test:key"},
    "segmind": {"x-api-key": "SG_test"},
}


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


@pytest.fixture(scope="session")
def scenery(tmp_path_factory: pytest.TempPathFactory) -> Scenery:
    return make_scenery(tmp_path_factory.mktemp("scenery") / "scenery.mp4")
