"""Media are checked before there is a job: the client is notified, and a check is not lost when its client gives up."""

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from calls import BOX, ServerBuilder
from early_progress import leave_out_early
from mcp import Client
from mcp.server.mcpserver import MCPServer
from mcp_types import CallToolResult, TextContent

from rotoscope.errors import InvalidInput
from rotoscope.server.lazy_studio import LazyStudio
from rotoscope.server.tool_calls import ProgressReporter
from rotoscope.settings import Settings
from rotoscope.studio import planning
from rotoscope.studio.validation import admit_media
from rotoscope_sandbox import Sandbox

pytestmark = pytest.mark.anyio
LITTLE = 0.2  # seconds that a client waits


@dataclass
class Checking:
    """Holds every check up until it is let through, and counts them."""

    begun: int = 0
    through: anyio.Event = field(default_factory=anyio.Event)
    refusal: InvalidInput | None = None

    async def admit(self, *given: Any, **more: Any) -> Any:
        self.begun += 1
        await self.through.wait()
        if self.refusal is not None:
            raise self.refusal
        return await admit_media(*given, **more)


@pytest.fixture
def checking(monkeypatch: pytest.MonkeyPatch) -> Checking:
    held = Checking()
    monkeypatch.setattr(planning, "admit_media", held.admit)
    return held


@pytest.fixture
def impatient(settings: Settings, sandbox: Sandbox, serve: ServerBuilder) -> MCPServer[LazyStudio]:
    return serve(replace(settings, inline_seconds=LITTLE), sandbox)


@asynccontextmanager
async def connected(server: MCPServer[LazyStudio]) -> AsyncIterator[Client]:
    async with Client(server) as client:
        while (await client.call_tool("list_jobs", {})).is_error:
            pass  # it is still starting
        yield client


def said(answer: CallToolResult) -> dict[str, Any]:
    assert answer.structured_content is not None, answer.content
    return dict(answer.structured_content)


async def test_a_client_that_cannot_wait_for_the_check_is_asked_to_call_again_and_pays_once(
    impatient: MCPServer[LazyStudio], sandbox: Sandbox, checking: Checking, photo: Path
) -> None:
    asked = {"image": str(photo), "box": BOX}
    with anyio.fail_after(180):
        async with connected(impatient) as client:
            for _ in range(3):
                answer = await client.call_tool("segment_image", asked)
                reported = said(answer)
                assert (reported["status"], reported["job_id"], answer.is_error) == ("queued", "", False)
                assert "still being checked; nothing was sent or spent" in reported["message"]
                assert "Call segment_image again with the very same arguments" in reported["next_step"]
                assert isinstance(answer.content[0], TextContent)
                assert reported["next_step"] in answer.content[0].text
                assert "job -" not in answer.content[0].text
            assert not sandbox.state.accepted
            checking.through.set()
            while said(answer := await client.call_tool("segment_image", asked))["job_id"] == "":
                pass
            found = said(await client.call_tool("get_job", {"job_id": said(answer)["job_id"], "wait_seconds": 30}))
            while found["status"] in ("queued", "running"):
                found = said(await client.call_tool("get_job", {"job_id": found["job_id"], "wait_seconds": 30}))
    assert found["status"] == "succeeded"
    assert checking.begun == 1
    assert len(sandbox.state.accepted) == 1


async def test_a_check_goes_on_when_the_client_that_began_it_gives_up(
    server: MCPServer[LazyStudio], sandbox: Sandbox, checking: Checking, photo: Path
) -> None:
    asked = {"image": str(photo), "box": BOX}
    with anyio.fail_after(180):
        async with connected(server) as client:
            async with anyio.create_task_group() as first:
                first.start_soon(client.call_tool, "segment_image", asked)
                while not checking.begun:
                    await anyio.lowlevel.checkpoint()
                first.cancel_scope.cancel()
            checking.through.set()
            assert said(await client.call_tool("segment_image", asked))["status"] == "succeeded"
    assert checking.begun == len(sandbox.state.accepted) == 1


async def test_equal_requests_at_once_are_checked_once_and_have_one_job(
    server: MCPServer[LazyStudio], sandbox: Sandbox, checking: Checking, photo: Path
) -> None:
    asked, found = {"image": str(photo), "box": BOX}, list[dict[str, Any]]()

    async def call(client: Client) -> None:
        found.append(said(await client.call_tool("segment_image", asked)))

    with anyio.fail_after(180):
        async with connected(server) as client, anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(call, client)
            while not checking.begun:
                await anyio.lowlevel.checkpoint()
            checking.through.set()
    assert len({one["job_id"] for one in found}) == 1
    assert checking.begun == len(sandbox.state.accepted) == 1


async def test_a_check_that_was_used_is_not_used_again(
    server: MCPServer[LazyStudio], sandbox: Sandbox, checking: Checking, photo: Path
) -> None:
    """A dry run and the run that follows draw a seed each, and a file may have been changed."""
    asked = {"image": str(photo), "box": BOX}
    checking.through.set()
    with anyio.fail_after(180):
        async with connected(server) as client:
            await client.call_tool("segment_image", {**asked, "dry_run": True})
            await client.call_tool("segment_image", asked)
    assert checking.begun == 2


async def test_a_file_that_was_changed_makes_another_request(
    impatient: MCPServer[LazyStudio], checking: Checking, photo: Path
) -> None:
    asked = {"image": str(photo), "box": BOX}
    with anyio.fail_after(180):
        async with connected(impatient) as client:
            await client.call_tool("segment_image", asked)
            await client.call_tool("segment_image", asked)
            assert checking.begun == 1
            photo.write_bytes(photo.read_bytes() + b"\0")
            await client.call_tool("segment_image", asked)
    assert checking.begun == 2


async def test_what_a_check_refuses_is_reported_to_who_comes_again(
    impatient: MCPServer[LazyStudio], checking: Checking, photo: Path
) -> None:
    checking.refusal = InvalidInput("This is no picture.", hint="Give another.")
    asked = {"image": str(photo), "box": BOX}
    with anyio.fail_after(180):
        async with connected(impatient) as client:
            await client.call_tool("segment_image", asked)
            checking.through.set()
            while not (answer := await client.call_tool("segment_image", asked)).is_error:
                pass
    assert isinstance(answer.content[0], TextContent)
    assert "This is no picture." in answer.content[0].text


async def test_an_expensive_request_that_is_still_being_checked_is_asked_about_once_its_price_is_known(
    settings: Settings, sandbox: Sandbox, serve: ServerBuilder, checking: Checking
) -> None:
    expensive = {"prompt": "a storm", "duration": 15, "resolution": "1080p", "seed": 7}
    server = serve(replace(settings, inline_seconds=LITTLE, ask_above_usd=0.0), sandbox)
    with anyio.fail_after(180):
        async with connected(server) as client:
            assert said(await client.call_tool("generate_video", {**expensive, "dry_run": True}))["dry_run"]
            assert not said(await client.call_tool("generate_video", expensive))["job_id"]
            checking.through.set()
            while said(answer := await client.call_tool("generate_video", {**expensive, "dry_run": True}))[
                "status"
            ] != ("succeeded"):
                pass
    assert said(answer)["planned_input"]


async def test_the_first_word_comes_while_media_are_checked(
    server: MCPServer[LazyStudio], checking: Checking, photo: Path
) -> None:
    """The check goes on only once it has been reported."""
    reported: list[tuple[float, str]] = []

    async def note(progress: float, total: float | None, message: str | None) -> None:
        reported.append((progress, message or ""))
        checking.through.set()

    with anyio.fail_after(180):
        async with connected(server) as client:
            answer = await client.call_tool("segment_image", {"image": str(photo), "box": BOX}, progress_callback=note)
    assert said(answer)["status"] == "succeeded"
    assert "Preparing the request and its media." in reported[0][1]
    numbers = [progress for progress, _ in reported]
    assert numbers == sorted(set(numbers))
    assert all(said(answer)["job_id"] in first for first in leave_out_early(message for _, message in reported)[:1])


async def test_the_first_word_comes_within_a_second_of_the_arrival_and_one_a_second_follows() -> None:
    now, reported = 100.0, list[tuple[float, str]]()

    async def report(_: float, __: float | None, message: str | None) -> None:
        reported.append((now, message or ""))
        if len(reported) == 4:
            teller._has_job = True

    async def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    teller = ProgressReporter(report, lambda: now)
    await teller.report_until_job(99.5, sleep)
    assert reported[0][0] - 99.5 <= 1.0
    assert all(0.9 <= later[0] - one[0] <= 1.1 for one, later in itertools.pairwise(reported))
    assert reported[-1][1] == "rotoscope is starting. 4 s so far."
