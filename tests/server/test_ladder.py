"""Each client is answered within its patience, with what it accepts and nothing else."""

import re
import time
import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import pytest
from calls import BOX
from mcp import Client
from mcp.client import ClientExtension
from mcp.server.mcpserver import MCPServer
from mcp_types import CallToolResult, ImageContent, Implementation, ResourceLink, TextContent

from rotoscope.models.access import SANDBOX_URL
from rotoscope.models.catalog import manifest_folder
from rotoscope.server.clients import profiles
from rotoscope.server.clients.profiles import inline_budget, read_client_profiles
from rotoscope.server.lazy_studio import LazyStudio
from rotoscope.settings import Settings
from rotoscope.store.records import Job
from rotoscope.studio.waiting import JobWaiter
from rotoscope_sandbox import Sandbox, build_sandbox

FILE = manifest_folder() / "clients.toml"
TABLE = tomllib.loads(FILE.read_text(encoding="utf-8"))
ROWS: dict[str, dict[str, Any]] = {
    **{name.replace("*", "node server.js"): row for name, row in TABLE["clients"].items()},
    "somebody-else": TABLE["default"],
    "mcp": TABLE["default"],
}
CLIENTS = read_client_profiles(FILE)


@pytest.mark.parametrize("name", ROWS)
def test_a_client_waits_as_long_as_its_row_says(name: str) -> None:
    assert inline_budget(CLIENTS.profile_for(name), 60, tasks=False) == ROWS[name]["inline_seconds"]


@pytest.mark.parametrize("name", ROWS)
def test_a_client_with_tasks_waits_shortly_for_what_is_quick_and_not_at_all_for_what_is_not(name: str) -> None:
    row = CLIENTS.profile_for(name)
    assert inline_budget(row, 177, tasks=True) == 0.0
    assert inline_budget(row, None, tasks=True) == 0.0
    assert 2 <= inline_budget(row, 1.5, tasks=True) <= 3


@pytest.mark.parametrize("seconds", [0.0, 7.0, 120.0])
def test_the_operators_word_beats_every_row(seconds: float) -> None:
    for name in ROWS:
        assert inline_budget(CLIENTS.profile_for(name), 60, seconds, tasks=False) == seconds
        assert inline_budget(CLIENTS.profile_for(name), 1, seconds, tasks=True) == min(seconds, 2.5)


def test_a_client_that_nobody_knows_is_treated_with_care() -> None:
    for name in (None, "", "Claude-Code", "claude-code "):
        row = CLIENTS.profile_for(name)
        assert (row.inline_seconds, row.links, row.pictures) == (3.5, False, False)


def test_every_row_says_how_we_know_and_stays_below_the_limit_of_every_client() -> None:
    for row in TABLE["clients"].values():
        assert row["evidence"]
        assert row["inline_seconds"] <= 45


class _Tasks(ClientExtension):
    identifier = "io.modelcontextprotocol/tasks"


@pytest.mark.anyio
async def test_a_handshake_client_that_names_the_extension_of_tasks_waits_like_any_other(
    server: MCPServer[LazyStudio],
) -> None:
    """Its era has no tasks, so it would get neither a task nor its result."""
    film = {"prompt": "a storm", "duration": 4, "resolution": "480p"}
    async with Client(server, mode="legacy", extensions=[_Tasks()]) as client:
        with anyio.fail_after(180):
            answer = await client.call_tool("generate_video", film)
    assert answer.structured_content is not None
    assert answer.structured_content["status"] == "succeeded"


@pytest.fixture
def patient(settings: Settings) -> Settings:
    return replace(settings, inline_seconds=None)


def texts(answer: CallToolResult) -> str:
    return "".join(block.text for block in answer.content if isinstance(block, TextContent))


@pytest.mark.anyio
async def test_the_log_names_a_client_that_has_no_row_once(
    server: MCPServer[LazyStudio], photo: Path, caplog: pytest.LogCaptureFixture
) -> None:
    dry = {"image": str(photo), "dry_run": True}
    for name in ("fastmcp", "new\nclient", "new\nclient"):
        async with Client(server, client_info=Implementation(name=name, version="1")) as client:
            await client.call_tool("describe_with_masks", dry)
    assert [line.getMessage() for line in caplog.records if "clients.toml" in line.getMessage()] == [
        r"clients.toml does not know the client 'new\nclient': its calls stay open for 3.5 s"
    ]


@pytest.mark.anyio
@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_every_client_gets_the_blocks_that_its_row_allows_and_no_others(
    patient: Settings, sandbox: Sandbox, serve: Callable[..., MCPServer[LazyStudio]], photo: Path, mode: Any
) -> None:
    server = serve(patient, sandbox)
    found: dict[str, Any] | None = None
    for name, row in ROWS.items():
        who = Implementation(name=str(name), version="1")
        async with Client(server, mode=mode, client_info=who) as client:
            with anyio.fail_after(180):
                if found is None:
                    first = await client.call_tool("segment_image", {"image": str(photo), "box": BOX})
                    found = first.structured_content
                assert found is not None
                answer = await client.call_tool("get_job", {"job_id": found["job_id"], "wait_seconds": 30})
        links = [block for block in answer.content if isinstance(block, ResourceLink)]
        pictures = [block for block in answer.content if isinstance(block, ImageContent)]
        assert isinstance(answer.content[0], TextContent), "the text comes first"
        assert bool(links) is row["links"], name
        assert bool(pictures) is row["pictures"], name
        assert all(len(picture.data) < 60_000 * 4 / 3 + 4 for picture in pictures)
        assert answer.structured_content is not None
        assert all(picture.data not in str(answer.structured_content) for picture in pictures)
        if links:
            assert f"job://{found['job_id']}" in {link.uri for link in links}
            assert answer.structured_content["overlay"]["uri"] in {link.uri for link in links}


@pytest.mark.anyio
@pytest.mark.parametrize("name", ROWS)
async def test_a_client_gets_its_handle_when_its_patience_ends_and_is_reported_how_to_go_on(
    patient: Settings,
    sandbox: Sandbox,
    serve: Callable[..., MCPServer[LazyStudio]],
    photo: Path,
    name: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing here waits for real: what is looked at is how long the studio was delivered to wait."""
    row, waits, wait = ROWS[name], [], JobWaiter.wait

    async def recorded(waiting: JobWaiter, job: Job, seconds: float, reported: Any = None, **more: Any) -> Job:
        waits.append(seconds)
        return await wait(waiting, job, 0.0, reported, **more)

    monkeypatch.setattr(JobWaiter, "wait", recorded)
    monkeypatch.setattr(time, "monotonic", lambda: 1000.0)
    monkeypatch.setattr(anyio, "current_time", lambda: 1000.0)
    asking = row.get("wait_seconds", row["inline_seconds"])
    who = Implementation(name=name, version="1")
    async with Client(serve(patient, sandbox), client_info=who) as client:
        with anyio.fail_after(180):
            answer = await client.call_tool("segment_image", {"image": str(photo), "box": BOX})
            again = await client.call_tool(
                "get_job",
                {"job_id": answer.structured_content["job_id"], "wait_seconds": 45},
            )
    assert waits == [row["inline_seconds"], asking]
    for one in (answer, again):
        assert one.structured_content is not None
        assert one.structured_content["status"] in ("queued", "running")
        assert f"wait_seconds {asking:.0f}" in one.structured_content["next_step"]
        assert one.structured_content["next_step"] in texts(one)
        assert len(one.content) == 1 + row["links"]


@pytest.mark.anyio
async def test_a_client_that_nobody_knows_makes_few_calls_for_a_run_of_three_minutes(
    patient: Settings, serve: Callable[..., MCPServer[LazyStudio]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It calls as it is reported to. The clock goes on by what a call waits, and nothing here waits for real."""
    now, waits, wait = [1000.0], list[float](), JobWaiter.wait

    async def waited(waiting: JobWaiter, job: Job, seconds: float, reported: Any = None, **more: Any) -> Job:
        waits.append(seconds)
        now[0] += seconds
        return await wait(waiting, job, 0.0, reported, **more)

    slow = build_sandbox(tmp_path / "slow", pace=5000.0, public_url=SANDBOX_URL)
    monkeypatch.setattr(JobWaiter, "wait", waited)
    monkeypatch.setattr(profiles, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr("rotoscope.server.tool_calls.arrival_time", lambda: now[0])
    monkeypatch.setattr("rotoscope.server.tool_calls._remaining_seconds", lambda _, seconds: seconds)
    who = Implementation(name="nobody-knows-it", version="1")
    async with Client(serve(patient, slow), client_info=who) as client:
        with anyio.fail_after(180):
            answer = await client.call_tool("generate_video", {"prompt": "a storm", "duration": 4})
            while now[0] < 1177:
                assert answer.structured_content is not None
                job, step = answer.structured_content["job_id"], answer.structured_content["next_step"]
                reported = re.search(r"wait_seconds (\d+)", step)
                assert reported is not None, step
                answer = await client.call_tool("get_job", {"job_id": job, "wait_seconds": int(reported[1])})
    whole = [round(seconds) for seconds in waits]
    assert whole == sorted(whole)
    assert whole[-1] == 45
    assert len(waits) <= 9
