"""How many files one tool call goes through: what a reader must open to follow it."""

import re
import sys
import threading
from collections.abc import Callable
from contextvars import ContextVar
from pathlib import Path
from types import FrameType
from typing import Any

import anyio
import pytest
from mcp import Client
from mcp.server.mcpserver import MCPServer

from rotoscope.jobs import lifecycle  # noqa: F401 - imported at first need; an import is no step of the call
from rotoscope.models.access import SANDBOX_URL
from rotoscope.providers.http.client import AsgiApp
from rotoscope.server.lazy_studio import LazyStudio
from rotoscope.settings import Settings
from rotoscope.studio.waiting import JobWaiter
from rotoscope_sandbox import build_sandbox

pytestmark = pytest.mark.anyio

SOURCE = Path(__file__).parents[1] / "src" / "rotoscope"
PAGE = SOURCE.parents[1] / "docs" / "one-call.md"
MOST_FILES = 47
_STOP = re.compile(r"`([a-z_/]+\.py)` `([A-Za-z_.]+)`")
in_call: ContextVar[bool] = ContextVar("in_call", default=False)


class FileTrace:
    """Notes the project's files whose functions run on behalf of one call, in the order in which it enters them."""

    def __init__(self) -> None:
        self.files: dict[str, list[str]] = {}
        self.order: dict[tuple[str, str], int] = {}
        self.is_over = False

    def __call__(self, frame: FrameType, event: str, _: Any) -> None:
        path = Path(frame.f_code.co_filename)
        if event != "call" or self.is_over or not in_call.get() or SOURCE not in path.parents:
            return
        if frame.f_code.co_name != "<module>":  # an import is not a step of the call
            file, name = str(path.relative_to(SOURCE)), frame.f_code.co_name
            self.files.setdefault(file, []).append(name)
            self.order.setdefault((file, name), len(self.order))


@pytest.fixture
async def trace(
    settings: Settings,
    serve: Callable[[Settings, AsgiApp], MCPServer[LazyStudio]],
    photo: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> FileTrace:
    """The way of one `segment_image` on Replicate until the first byte of its paying request."""
    sandbox, trace = build_sandbox(tmp_path / "sandbox", pace=0.0, public_url=SANDBOX_URL), FileTrace()
    wait = JobWaiter.wait

    async def wait_beside(*given: Any) -> Any:
        in_call.set(False)  # whoever waits for the job is not on its way to the provider
        return await wait(*given)

    monkeypatch.setattr(JobWaiter, "wait", wait_beside)

    async def answer(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and scope["method"] == "POST" and scope["path"].endswith("/predictions"):
            trace.is_over = True
        await sandbox(scope, receive, send)

    server = serve(settings, answer)
    call_tool = server.call_tool

    async def call_traced(name: str, *given: Any) -> Any:
        in_call.set(name == "segment_image")
        return await call_tool(name, *given)

    monkeypatch.setattr(server, "call_tool", call_traced)
    arguments = {"image": str(photo), "instruction": "the face", "model": "bytedance/sa2va-4b-image"}
    with anyio.fail_after(180):
        async with Client(server) as client:
            # Opening the studio, and importing what planning needs, are no part of the call.
            await client.call_tool("list_jobs", {})
            await client.call_tool("segment_image", {**arguments, "dry_run": True})
            sys.setprofile(trace)
            threading.setprofile(trace)
            try:
                await client.call_tool("segment_image", arguments)
            finally:
                sys.setprofile(None)
                threading.setprofile(None)
    assert trace.is_over, "no paying request was seen"
    return trace


async def test_a_call_enters_few_files_until_its_paying_request_leaves(trace: FileTrace) -> None:
    listed = "\n".join(f"{file}: {', '.join(dict.fromkeys(names))}" for file, names in trace.files.items())
    assert len(trace.files) <= MOST_FILES, f"{len(trace.files)} files:\n{listed}"


async def test_the_page_of_one_call_names_the_stops_of_a_real_call_in_their_order(trace: FileTrace) -> None:
    stops = _STOP.findall(PAGE.read_text(encoding="utf-8"))
    assert 8 <= len(stops) <= 12
    places = [trace.order[file, function.rpartition(".")[2]] for file, function in stops]
    assert places == sorted(places), stops
