"""A provider in Replicate's shape that follows a script, and a studio that talks to it."""

import io
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from decoding import InThread
from PIL import Image, ImageDraw

from rotoscope.composition import open_studio, stdio_roots
from rotoscope.settings import Settings
from rotoscope.studio.studio import Studio

OUT = "https://sandbox.invalid/out.png"
Answer = tuple[int, Any]
Open = Callable[..., AbstractAsyncContextManager[Studio]]


def mask_png(size: tuple[int, int] = (512, 512)) -> bytes:
    image = Image.new("L", size, 0)
    ImageDraw.Draw(image).rectangle((10, 20, 109, 69), fill=255)
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


class Replicate:
    """Answers from a script, and keeps what it was asked."""

    def __init__(self) -> None:
        self.states: list[Any] = [{"status": "succeeded", "output": {"img": OUT, "response": "Sure, [SEG]."}}]
        self.created: Answer = (201, {"status": "starting"})
        self.cancelled: list[dict[str, Any]] = [{"status": "canceled"}]
        self.files: dict[str, bytes] = {"/out.png": mask_png()}
        self.down = 0
        self.asked: list[str] = []
        self.inputs: list[dict[str, Any]] = []
        self.on_ask = anyio.Event()
        self.hold: anyio.Event | None = None

    @property
    def posts(self) -> int:
        """How often it was asked to do paid work."""
        return len(self.inputs)

    async def __call__(
        self, scope: dict[str, Any], receive: Callable[[], Awaitable[dict[str, Any]]], send: Any
    ) -> None:
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"") if scope["path"] != "/v1/files" else b""
            if not message.get("more_body"):
                break
        self.asked.append(f"{scope['method']} {scope['path']}")
        status, answer = await self.answer(scope["method"], scope["path"], body)
        content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": content})

    async def answer(self, method: str, path: str, body: bytes) -> Answer:
        if path == "/v1/files":
            return 201, {"id": "f1", "urls": {"get": "https://sandbox.invalid/v1/files/f1"}}
        if path.endswith("/cancel"):
            self.states = list(self.cancelled)
            return 200, self.full(self.states[0], path.split("/")[-2])
        if method == "POST":
            self.inputs.append(json.loads(body)["input"])
            named = f"p{self.posts}"  # a run of its own for every paying request
            if self.hold is not None:
                await self.hold.wait()
            status, answer = self.created
            return status, self.full(answer, named) if status < 300 and isinstance(answer, dict) else answer
        if path.startswith("/v1/predictions/"):
            self.on_ask.set()
            state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
            return (state, b"{}") if isinstance(state, int) else (200, self.full(state, path.split("/")[3]))
        return self.file(path)

    def file(self, path: str) -> Answer:
        if self.down:
            self.down -= 1
            return 503, b"try later"
        return (200, self.files[path]) if path in self.files else (404, b"gone")

    def full(self, state: dict[str, Any], named: str = "p1") -> dict[str, Any]:
        return {"id": named, "model": "m", "version": "v", "logs": "", "output": None, "error": None, **state}


@pytest.fixture
def provider() -> Replicate:
    return Replicate()


Until = Callable[[Callable[[], Awaitable[object]]], Awaitable[None]]


@pytest.fixture
def until() -> Until:
    """Waits, within bounds, until something is true that nothing tells of: what a provider was asked, or a row."""

    async def wait(true: Callable[[], Awaitable[object]]) -> None:
        with anyio.fail_after(15):
            while not await true():  # noqa: ASYNC110 - there is no event of it
                await anyio.sleep(0.01)

    return wait


async def at_once(_: float) -> None:
    await anyio.sleep(0.001)


@pytest.fixture
def opened(home: Path) -> Open:
    """Opens a studio for some settings on an app; what is tried again is tried at once, unless `sleep` is given."""

    @asynccontextmanager
    async def open_on(settings: Settings, app: Any, **more: Any) -> AsyncIterator[Studio]:
        async with AsyncExitStack() as closing, anyio.create_task_group() as tasks:
            roots = stdio_roots(settings, home, home)
            studio = open_studio(
                settings, roots, tasks, closing, app, **{"sleep": at_once, "decoders": InThread(), **more}
            )
            studio.start_background(tasks)
            yield studio
            tasks.cancel_scope.cancel()

    return open_on


@pytest.fixture
async def studio(settings: Settings, provider: Replicate, opened: Open) -> AsyncIterator[Studio]:
    async with opened(settings, provider) as found:
        yield found
