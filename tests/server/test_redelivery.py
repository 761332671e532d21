"""What counts as the delivery of the end of a job: after that, and not before, an equal request is a new run."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from calls import ServerBuilder
from client import ClientOpener
from mcp import Client
from mcp.server.mcpserver import MCPServer
from mcp.shared.exceptions import MCPDeprecationWarning

import rotoscope.server.tool_calls
from rotoscope.server.lazy_studio import LazyStudio
from rotoscope.settings import Settings
from rotoscope_sandbox import Sandbox

pytestmark = pytest.mark.anyio


@pytest.fixture
def impatient(settings: Settings, sandbox: Sandbox, serve: ServerBuilder) -> MCPServer[LazyStudio]:
    """A server whose calls do not wait for their jobs."""
    return serve(replace(settings, inline_seconds=0.0), sandbox)


@pytest.fixture
def asked(photo: Path) -> dict[str, Any]:
    return {"image": str(photo), "box": {"left": 20, "top": 5, "right": 420, "bottom": 512}}


async def ended(wire: Any, job_id: str) -> None:
    """Wait until a job has ended; a list of jobs tells nobody's end."""
    with anyio.fail_after(180):
        while True:
            jobs = (await wire.call("list_jobs", tasks=False))["structuredContent"]["jobs"]
            if next(job for job in jobs if job["job_id"] == job_id)["status"] == "succeeded":
                return
            await anyio.lowlevel.checkpoint()


async def begun(wire: Any, asked: dict[str, Any]) -> str:
    return str((await wire.call("segment_image", tasks=False, **asked))["structuredContent"]["job_id"])


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("tasks/cancel", {"taskId": "{job}"}),
        ("resources/read", {"uri": "job://{job}"}),
        ("tasks/update", {"taskId": "{job}", "inputResponses": {}}),
        ("subscriptions/listen", {"notifications": {"resourceSubscriptions": ["job://{job}"]}}),
    ],
)
async def test_who_only_asks_about_an_ended_job_did_not_receive_its_end(
    impatient: MCPServer[LazyStudio],
    sandbox: Sandbox,
    speak: ClientOpener,
    asked: dict[str, Any],
    method: str,
    params: Any,
) -> None:
    async with speak(impatient) as wire:
        job = await begun(wire, asked)
        await ended(wire, job)
        await wire.post(method, **_named(params, job))
        await wire.read()
        assert await begun(wire, asked) == job
    assert len(sandbox.state.accepted) == 1


@pytest.mark.filterwarnings(f"ignore::{MCPDeprecationWarning.__module__}.{MCPDeprecationWarning.__name__}")
async def test_who_subscribes_to_an_ended_job_did_not_receive_its_end(
    impatient: MCPServer[LazyStudio], sandbox: Sandbox, speak: ClientOpener, asked: dict[str, Any]
) -> None:
    async with speak(impatient) as wire:
        job = await begun(wire, asked)
        await ended(wire, job)
    async with Client(impatient, mode="legacy") as client:
        await client.subscribe_resource(f"job://{job}")
        again = await client.call_tool("segment_image", asked)
    assert again.structured_content is not None
    assert again.structured_content["job_id"] == job
    assert len(sandbox.state.accepted) == 1


@pytest.mark.parametrize("how", ["tasks/get", "notifications/tasks"])
async def test_who_was_given_the_end_of_a_task_received_it(
    impatient: MCPServer[LazyStudio],
    speak: ClientOpener,
    asked: dict[str, Any],
    how: str,
    expire_redelivery: Callable[[], bool],
) -> None:
    async with speak(impatient) as wire:
        job = await begun(wire, asked)
        await ended(wire, job)
        if how == "tasks/get":
            assert (await wire.ask(how, taskId=job))["result"]["status"] == "completed"
        else:
            await wire.post("subscriptions/listen", notifications={"taskIds": [job]})
            while (message := await wire.read()).get("method") != how:
                pass
            assert message["params"]["status"] == "completed"
            await wire.ask("tasks/get", taskId="f" * 32)
        with anyio.fail_after(180):
            while not expire_redelivery():  # it is written after it was sent
                await anyio.lowlevel.checkpoint()
        assert await begun(wire, asked) != job


async def test_who_goes_away_while_the_preview_is_made_received_nothing(
    server: MCPServer[LazyStudio], sandbox: Sandbox, asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    making = anyio.Event()

    async def endless(*_: object) -> list[Any]:
        making.set()
        await anyio.sleep_forever()
        return []

    async with Client(server) as client:
        with monkeypatch.context() as slowly, anyio.fail_after(180):
            slowly.setattr(rotoscope.server.tool_calls, "content_blocks", endless)
            async with anyio.create_task_group() as calling:
                calling.start_soon(client.call_tool, "segment_image", asked)
                await making.wait()
                calling.cancel_scope.cancel()
        with anyio.fail_after(180):
            again = await client.call_tool("segment_image", asked)
    assert again.structured_content is not None
    assert any("nothing was sent or paid again" in one for one in again.structured_content["warnings"])
    assert len(sandbox.state.accepted) == 1


def _named(params: Any, job: str) -> Any:
    if isinstance(params, dict):
        return {name: _named(value, job) for name, value in params.items()}
    if isinstance(params, list):
        return [_named(one, job) for one in params]
    return params.replace("{job}", job)
