"""The viewer in a real browser: in a frame of its own origin under a strict policy, as in a chat, and by itself."""

import json
import os
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import pytest
import uvicorn
from calls import SECONDS
from chromium import BROWSER
from decoding import InThread
from playwright.async_api import BrowserContext, ConsoleMessage, Frame, Page, async_playwright
from starlette.responses import HTMLResponse
from starlette.routing import Route

from rotoscope.composition.http import build_http_server
from rotoscope.server.http.addresses import ListenAddress
from rotoscope.settings import Settings
from rotoscope_sandbox import Sandbox

__all__ = [
    "SOURCE",
    "Chat",
    "fail_or_skip",
    "find_violations",
    "install_tools",
    "listen",
    "open_browser",
    "open_chat",
    "serve_app",
    "take_shot",
]

TOP = Path(__file__).parents[2]
SOURCE = TOP / "src" / "rotoscope" / "server" / "viewer" / "source"
_TOOLS = TOP / ".node" / "viewer"
_CHAT_PAGE = Path(__file__).with_name("chat_page.html")
_INSTALL_SECONDS = 300
_PAUSE_SECONDS = 0.05


def fail_or_skip(why: str) -> None:
    """Where everything is there, as in CI, a test that cannot run has failed."""
    (pytest.fail if os.environ.get("CI") else pytest.skip)(why)


def install_tools() -> Path:
    """The folder that has the viewer's tools for development in its `node_modules`, as `make viewer` makes it."""
    wanted = json.loads((SOURCE / "package.json").read_text(encoding="utf-8"))["devDependencies"]
    if any(_installed_version(name) != version for name, version in wanted.items()):
        npm = shutil.which("npm")
        if npm is None or shutil.which("node") is None:
            fail_or_skip("node and npm are not installed")
            raise AssertionError
        _TOOLS.mkdir(parents=True, exist_ok=True)
        for name in ("package.json", ".npmrc"):
            shutil.copy(SOURCE / name, _TOOLS / name)
        command = [npm, "install", "--silent", "--prefix", str(_TOOLS)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=_INSTALL_SECONDS, check=False)
        if done.returncode:
            fail_or_skip(f"npm cannot install the viewer's tools: {done.stderr[-300:]}")
    return _TOOLS


def _installed_version(name: str) -> str | None:
    try:
        found = json.loads((_TOOLS / "node_modules" / name / "package.json").read_text(encoding="utf-8"))
    except OSError:
        return None
    return str(found["version"])


@dataclass
class Chat:
    """A chat that shows the page.

    Attributes:
        page: the chat's own page.
        log: what the browser has logged.
    """

    page: Page
    log: list[str] = field(default_factory=list)

    @property
    def app(self) -> Frame:
        """The viewer in its frame."""
        return next(frame for frame in self.page.frames if frame != self.page.main_frame)

    async def open(self, tool: str, arguments: dict[str, Any], **options: Any) -> dict[str, Any]:
        """Call a tool and show its result; what the tool gave."""
        return dict((await self.show(tool, arguments, None, **options))["structuredContent"])

    async def show(
        self, tool: str, arguments: dict[str, Any], result: dict[str, Any] | None, **options: Any
    ) -> dict[str, Any]:
        """Show a result of a tool, or of a call where none is given; the whole result."""
        await self.page.evaluate("(given) => Object.assign(options, given)", options)
        given = [tool, arguments, result]
        shown = await self.page.evaluate("([tool, args, result]) => openApp(tool, args, result)", given)
        await self.page.wait_for_function("document.getElementById('app').srcdoc && frames.length === 1")
        return dict(shown)

    async def until(self, condition: str) -> None:
        """Wait until a condition of the viewer holds; its policy lets in no script that would wait by itself."""
        with anyio.fail_after(SECONDS):
            while not await self.app.evaluate(condition):  # noqa: ASYNC110 - the page has no event for it
                await anyio.sleep(_PAUSE_SECONDS)

    async def until_seen(self, condition: str) -> None:
        """Wait until a condition of the chat holds."""
        await self.page.wait_for_function(condition)

    async def seen(self, name: str) -> list[Any]:
        """What the chat has got from the page."""
        return list(await self.page.evaluate("(name) => seen[name]", name))


@asynccontextmanager
async def open_browser() -> AsyncIterator[BrowserContext]:
    """A headless browser, for the time of a block."""
    if BROWSER is None:
        fail_or_skip("no chromium is installed")
    async with async_playwright() as driver:
        browser = await driver.chromium.launch(
            executable_path=BROWSER, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        context = await browser.new_context(viewport={"width": 1000, "height": 800})
        context.set_default_timeout(SECONDS * 1000)
        try:
            yield context
        finally:
            await browser.close()


def listen() -> tuple[socket.socket, ListenAddress]:
    """A socket of loopback, and where it listens."""
    opened = socket.socket()
    opened.bind(("127.0.0.1", 0))
    return opened, ListenAddress("127.0.0.1", opened.getsockname()[1])


@asynccontextmanager
async def serve_app(app: Any, listener: socket.socket) -> AsyncIterator[None]:
    """Serve an ASGI app, for the time of a block; requests that are open at its end are cut off."""
    config = uvicorn.Config(app, log_level="error", lifespan="off", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: server.serve(sockets=[listener]))
        try:
            yield
        finally:
            server.should_exit = True


@asynccontextmanager
async def open_chat(settings: Settings, sandbox: Sandbox, home: Path) -> AsyncIterator[Chat]:
    """A chat page on our HTTP server, in a browser, for the time of a block."""
    chat_page = HTMLResponse(_CHAT_PAGE.read_text(encoding="utf-8"))
    async with AsyncExitStack() as stack:
        context = await stack.enter_async_context(open_browser())
        listener, bound = listen()
        serving = build_http_server(
            settings,
            bound,
            home,
            sandbox=sandbox,
            decoders=InThread(),
            routes=lambda _: [Route("/chat", lambda _: chat_page)],
        )
        stack.enter_context(listener)
        await stack.enter_async_context(serving.app.running())
        await stack.enter_async_context(serve_app(serving.app, listener))
        page = await context.new_page()
        chat = Chat(page)
        page.on("console", lambda message: chat.log.append(_worded(message)))
        page.on("pageerror", lambda error: chat.log.append(str(error)))
        await page.goto(f"{bound.url}/chat")
        yield chat
        await page.close()


def _worded(message: ConsoleMessage) -> str:
    return f"{message.type}: {message.text}"


async def take_shot(page: Page, name: str, tmp_path: Path) -> None:
    """Keep a picture of a state: in `ROTOSCOPE_TEST_SCREENSHOTS`, or among the files of the test."""
    folder = Path(os.environ.get("ROTOSCOPE_TEST_SCREENSHOTS") or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)
    size, height = page.viewport_size, await page.evaluate("document.body.scrollHeight")
    assert size is not None
    await page.set_viewport_size({"width": size["width"], "height": height})
    await page.screenshot()  # a frame that has grown is drawn by the next one
    await page.screenshot(path=folder / f"{name}.png")
    await page.set_viewport_size(size)


async def find_violations(page: Page | Frame) -> list[str]:
    """What axe-core finds wrong with a page for people who do not see it or use no mouse, of serious impact."""
    axe = install_tools() / "node_modules" / "axe-core" / "axe.min.js"
    await page.evaluate(axe.read_text(encoding="utf-8"))
    found = await page.evaluate("axe.run(document, { resultTypes: ['violations'] })")
    serious = [one for one in found["violations"] if one["impact"] in ("serious", "critical")]
    return [f"{one['id']}: {one['nodes'][0]['html'][:200]} {one['nodes'][0]['failureSummary']}" for one in serious]
