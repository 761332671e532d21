"""A task is a job: what a client that takes tasks meets, from the call to the result."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import httpx  # noqa: TID251 - speaks to the server's ASGI app in memory
import pytest
from calls import BOX, ServerBuilder
from client import ClientOpener
from mcp import Client
from mcp.server.mcpserver import MCPServer

from rotoscope.contracts.results import Problem, Status, VideoResult
from rotoscope.models.access import SANDBOX_URL
from rotoscope.server.lazy_studio import LazyStudio
from rotoscope.server.present.text import result_answer
from rotoscope.server.tasks import task_of
from rotoscope.settings import Settings
from rotoscope.store.records import Job
from rotoscope_sandbox import Sandbox, build_sandbox

pytestmark = pytest.mark.anyio
FILM: dict[str, Any] = {"prompt": "a storm", "duration": 4, "resolution": "480p"}
TASKS = "io.modelcontextprotocol/tasks"


@pytest.fixture
def slow(tmp_path: Path) -> Sandbox:
    """A sandbox whose runs take hours."""
    return build_sandbox(tmp_path / "slow", pace=5000.0, public_url=SANDBOX_URL)


async def test_a_film_is_a_task_at_once_and_ends_with_the_result_of_its_tool(
    server: MCPServer[LazyStudio], speak: ClientOpener
) -> None:
    async with speak(server) as wire:
        begun = await wire.call("generate_video", **FILM)
        assert (begun["resultType"], begun["status"], begun["ttlMs"]) == ("task", "working", None)
        assert 2000 <= begun["pollIntervalMs"] <= 5000
        task = await wire.finished(begun["taskId"])
        found = await wire.call("get_job", job_id=begun["taskId"])
    assert task["status"] == "completed"
    assert task["result"]["isError"] is False
    assert task["result"]["structuredContent"]["video"] == found["structuredContent"]["video"]
    assert found["structuredContent"]["video"]["frames"] == 96


async def test_a_short_tool_answers_plainly_when_it_is_done_in_time(
    server: MCPServer[LazyStudio], speak: ClientOpener, photo: Path
) -> None:
    async with speak(server) as wire:
        result = await wire.call("segment_image", image=str(photo), box=BOX)
    assert result["resultType"] == "complete"
    assert result["structuredContent"]["status"] == "succeeded"


async def test_a_short_tool_that_is_not_done_in_time_becomes_a_task(
    settings: Settings, slow: Sandbox, serve: ServerBuilder, speak: ClientOpener, photo: Path
) -> None:
    async with speak(serve(replace(settings, inline_seconds=0.0), slow)) as wire:
        begun = await wire.call("segment_image", image=str(photo), box=BOX)
        job = await wire.call("get_job", job_id=begun["taskId"])
        state = (await wire.ask("tasks/get", taskId=begun["taskId"]))["result"]
    assert begun["resultType"] == "task"
    assert job["resultType"] == "complete", "get_job promises the job itself"
    assert job["structuredContent"]["job_id"] == begun["taskId"]
    assert state["statusMessage"]


async def test_who_takes_no_tasks_gets_a_job_in_the_same_place(
    settings: Settings, slow: Sandbox, serve: ServerBuilder, speak: ClientOpener
) -> None:
    async with speak(serve(replace(settings, inline_seconds=0.0), slow)) as wire:
        result = await wire.call("generate_video", tasks=False, **FILM)
    assert result["resultType"] == "complete"
    assert result["structuredContent"]["status"] in ("queued", "running")


async def test_a_refusal_and_a_dry_run_are_never_tasks(server: MCPServer[LazyStudio], speak: ClientOpener) -> None:
    async with speak(server) as wire:
        refused = await wire.call("generate_video", prompt="", duration=999)
        planned = await wire.call("generate_video", **FILM, dry_run=True)
    assert (refused["resultType"], refused["isError"]) == ("complete", True)
    assert (planned["resultType"], planned["structuredContent"]["dry_run"]) == ("complete", True)


async def test_a_task_is_found_again_after_a_restart(
    settings: Settings, slow: Sandbox, serve: ServerBuilder, speak: ClientOpener
) -> None:
    async with speak(serve(settings, slow)) as wire:
        begun = await wire.call("generate_video", **FILM)
    async with speak(serve(settings, slow)) as wire:
        found = (await wire.ask("tasks/get", taskId=begun["taskId"]))["result"]
        link = await wire.ask("tasks/get", taskId=f"job://{begun['taskId']}")
    assert found["taskId"] == begun["taskId"]
    assert found["createdAt"] == begun["createdAt"]
    assert link["error"]["code"] == -32602, "one task has one id"


async def test_cancelling_a_task_cancels_at_the_provider(
    settings: Settings, slow: Sandbox, serve: ServerBuilder, speak: ClientOpener
) -> None:
    async with speak(serve(settings, slow)) as wire:
        begun = await wire.call("generate_video", **FILM)
        with anyio.fail_after(180):
            while not slow.state.accepted:
                await wire.ask("tasks/get", taskId=begun["taskId"])
        assert "error" not in await wire.ask("tasks/cancel", taskId=begun["taskId"])
        task = await wire.finished(begun["taskId"])
    assert task["status"] == "cancelled"
    assert "result" not in task
    assert [seen.path for seen in slow.state.requests if "cancel" in seen.path]


async def test_over_http_a_task_is_begun_and_asked_for(settings: Settings, slow: Sandbox, serve: ServerBuilder) -> None:
    app = serve(settings, slow).streamable_http_app()

    async def post(client: httpx.AsyncClient, method: str, routed: str, **params: Any) -> dict[str, Any]:
        meta = {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": {"extensions": {TASKS: {}}},
        }
        headers = {"accept": "application/json, text/event-stream", "mcp-protocol-version": "2026-07-28"}
        headers |= {"mcp-method": method, "mcp-name": routed}
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {**params, "_meta": meta}}
        reply = await client.post("http://127.0.0.1:1/mcp", json=body, headers=headers)
        data = [line for line in reply.text.splitlines() if line.startswith("data:")]
        return json.loads(data[-1][5:] if data else reply.text)["result"]  # type: ignore[no-any-return]

    with anyio.fail_after(180):
        async with app.router.lifespan_context(app), httpx.AsyncClient(transport=httpx.ASGITransport(app)) as client:
            begun = await post(client, "tools/call", "generate_video", name="generate_video", arguments=FILM)
            found = await post(client, "tasks/get", begun["taskId"], taskId=begun["taskId"])
    assert (begun["resultType"], found["status"]) == ("task", "working")


async def test_the_extension_is_advertised_to_the_era_that_has_it(server: MCPServer[LazyStudio]) -> None:
    async with Client(server) as client:
        assert TASKS in ((client.server_capabilities and client.server_capabilities.extensions) or {})


JOB = Job(
    "j1", "generate_video", "m", "p", "local", True, "running", "watch", {}, 0.62, "Rendering.", None, False, None,
    1, 100.0, 161.0, None,
)  # fmt: skip


@pytest.mark.parametrize(
    ("state", "status", "is_error", "words"),
    [
        ("queued", "working", None, "Rendering."),
        ("running", "working", None, "62 %: Rendering."),
        ("succeeded", "completed", False, "Rendering."),
        ("failed", "completed", True, "refused: No."),
        ("needs_review", "working", None, "Waits for a person's review. No. -"),
        ("cancelled", "cancelled", None, "Rendering."),
    ],
)
def test_every_state_of_a_job_has_its_status_in_words(
    state: Status, status: str, is_error: bool | None, words: str
) -> None:
    problem = Problem(code="refused", message="No.") if state in ("failed", "needs_review") else None
    result = VideoResult(
        job_id="j1", status=state, tool="generate_video", model="m", provider="p", sandbox=True, progress=0.62,
        message="Rendering.", elapsed_seconds=61.0, expected_seconds=176.9, request={}, next_step="-", error=problem,
    )  # fmt: skip
    task = task_of(replace(JOB, state=state), result, result_answer(result), retention_seconds=3600.0)
    poll = 30_000 if state == "needs_review" else 5000  # a person takes their time
    assert (task.status, task.message, task.ttl_ms, task.poll_ms) == (status, words, 3_600_000, poll)
    assert (task.result.is_error if task.result else None) is is_error


@pytest.mark.parametrize(
    ("elapsed", "expected", "poll"),
    [
        (10.0, 177.0, 5000),
        (165.0, 177.0, 1000),
        (180.0, 177.0, 1000),
        (300.0, 177.0, 5000),
        (0.5, 6.0, 2000),
        (4.0, 6.0, 1000),
        (50.0, None, 2000),
    ],
)
def test_a_task_is_asked_about_every_second_near_its_expected_end(
    elapsed: float, expected: float | None, poll: int
) -> None:
    """A result comes up to a poll's length late."""
    result = VideoResult(
        job_id="j1", status="running", tool="generate_video", model="m", provider="p", sandbox=True, progress=0.62,
        message="Rendering.", elapsed_seconds=elapsed, expected_seconds=expected, request={}, next_step="-",
    )  # fmt: skip
    assert task_of(JOB, result, result_answer(result), retention_seconds=None).poll_ms == poll
