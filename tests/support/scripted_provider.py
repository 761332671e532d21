"""A provider in Replicate's shape that answers from a script, and a studio that runs the real engine on it."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from calls import SECONDS, StudioOpener, Until
from decoding import InThread
from photos import mask_png

from rotoscope.composition import open_studio, stdio_roots
from rotoscope.settings import Settings
from rotoscope.studio.studio import Studio

__all__ = ["OUTPUT_URL", "Answer", "ScriptedProvider", "opened", "provider", "studio", "until"]

OUTPUT_URL = "https://sandbox.invalid/out.png"
Answer = tuple[int, Any]
"""A status, and a body as bytes or as what becomes JSON."""


class ScriptedProvider:
    """An ASGI app; a test sets what it answers, and reads what it was asked.

    Attributes:
        states: the answers about a run, in turn; the last one is repeated. A number is a status without a body.
        created: the answer to a paying request.
        cancelled: what `states` becomes when a run is cancelled.
        files: by path, what can be downloaded.
        down: how many downloads fail with 503 first.
        asked: method and path of every request, in order.
        inputs: the input of every paying request.
        on_ask: set when a run is asked about.
        hold: where it is set, a paying request waits for it.
        respond: what is called for an answer; a test may put its own before `answer`.
    """

    def __init__(self) -> None:
        self.states: list[Any] = [{"status": "succeeded", "output": {"img": OUTPUT_URL, "response": "Sure, [SEG]."}}]
        self.created: Answer = (201, {"status": "starting"})
        self.cancelled: list[dict[str, Any]] = [{"status": "canceled"}]
        self.files: dict[str, bytes] = {"/out.png": mask_png()}
        self.down = 0
        self.asked: list[str] = []
        self.inputs: list[dict[str, Any]] = []
        self.on_ask = anyio.Event()
        self.hold: anyio.Event | None = None
        self.respond: Callable[[str, str, bytes], Awaitable[Answer]] = self.answer

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
        status, answer = await self.respond(scope["method"], scope["path"], body)
        content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": content})

    async def answer(self, method: str, path: str, body: bytes) -> Answer:
        """The answer to one request by the script."""
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
        """The answer to a download."""
        if self.down:
            self.down -= 1
            return 503, b"try later"
        return (200, self.files[path]) if path in self.files else (404, b"gone")

    def full(self, state: dict[str, Any], named: str = "p1") -> dict[str, Any]:
        """A prediction with every field that Replicate sends."""
        return {"id": named, "model": "m", "version": "v", "logs": "", "output": None, "error": None, **state}


@pytest.fixture
def provider() -> ScriptedProvider:
    return ScriptedProvider()


@pytest.fixture
def until() -> Until:
    """Waits, within bounds, until something is true that no event says: what a provider was asked, or a row."""

    async def wait(is_true: Callable[[], Awaitable[object]]) -> None:
        with anyio.fail_after(SECONDS):
            while not await is_true():  # noqa: ASYNC110 - there is no event of it
                await anyio.sleep(0.01)

    return wait


async def _pause_briefly(_: float) -> None:
    await anyio.sleep(0.001)


@pytest.fixture
def opened(home: Path) -> StudioOpener:
    """Opens a studio for some settings on an app; what is tried again is tried at once, unless `sleep` is given."""

    @asynccontextmanager
    async def open_on(settings: Settings, app: Any, **more: Any) -> AsyncIterator[Studio]:
        async with AsyncExitStack() as closing, anyio.create_task_group() as tasks:
            roots = stdio_roots(settings, home, home)
            studio = open_studio(
                settings, roots, tasks, closing, app, **{"sleep": _pause_briefly, "decoders": InThread(), **more}
            )
            studio.start_background(tasks)
            yield studio
            tasks.cancel_scope.cancel()

    return open_on


@pytest.fixture
async def studio(settings: Settings, provider: ScriptedProvider, opened: StudioOpener) -> AsyncIterator[Studio]:
    async with opened(settings, provider) as found:
        yield found
