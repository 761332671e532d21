"""Clients that start a process for each call: a job gets on although each of them only looks."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest
from calls import BOX, ServerBuilder
from mcp import Client
from mcp.server.mcpserver import MCPServer

from rotoscope.server.lazy_studio import LazyStudio
from rotoscope.settings import Settings
from rotoscope_sandbox import Sandbox

pytestmark = pytest.mark.anyio
FILM = {"prompt": "a storm", "duration": 4, "resolution": "480p"}


async def call(server: MCPServer[LazyStudio], tool: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """One call, in a server of its own."""
    with anyio.fail_after(180):
        async with Client(server) as client:
            answer = await client.call_tool(tool, arguments)
    assert answer.structured_content is not None
    return dict(answer.structured_content)


@pytest.mark.parametrize(("tool", "asked"), [("segment_image", {"box": BOX}), ("generate_video", FILM)])
async def test_a_job_that_is_only_looked_at_comes_to_its_end(
    settings: Settings, sandbox: Sandbox, serve: ServerBuilder, photo: Path, tool: str, asked: dict[str, Any]
) -> None:
    begun = await call(
        serve(replace(settings, inline_seconds=0.0), sandbox),
        tool,
        {**asked, **({"image": str(photo)} if tool == "segment_image" else {})},
    )
    seen = [begun["status"]]
    while seen[-1] in ("queued", "running") and len(seen) < 20:
        found = await call(serve(settings, sandbox), "get_job", {"job_id": begun["job_id"]})
        seen.append(found["status"])
    assert seen[-1] == "succeeded"
    assert len(sandbox.state.accepted) == 1


async def test_a_job_that_is_only_listed_comes_to_its_end(
    settings: Settings, sandbox: Sandbox, serve: ServerBuilder
) -> None:
    await call(serve(replace(settings, inline_seconds=0.0), sandbox), "generate_video", FILM)
    seen = ["queued"]
    while seen[-1] in ("queued", "running") and len(seen) < 20:
        (listed,) = (await call(serve(settings, sandbox), "list_jobs", {}))["jobs"]
        seen.append(listed["status"])
    assert seen[-1] == "succeeded"
    assert len(sandbox.state.accepted) == 1


async def test_a_job_with_a_run_at_its_provider_is_running_although_nobody_drives_it(
    settings: Settings, serve: ServerBuilder, slow: Sandbox
) -> None:
    begun = await call(serve(replace(settings, inline_seconds=2.0), slow), "generate_video", FILM)
    assert slow.state.accepted
    impatient = serve(replace(settings, inline_seconds=0.0), slow)
    found = await call(impatient, "get_job", {"job_id": begun["job_id"]})
    assert found["status"] == "running"
    for status, number in (("running", 1), ("queued", 0)):
        assert len((await call(impatient, "list_jobs", {"status": status}))["jobs"]) == number


@pytest.fixture
def slow(tmp_path: Path) -> Sandbox:
    from rotoscope.models.access import SANDBOX_URL
    from rotoscope_sandbox import build_sandbox

    return build_sandbox(tmp_path / "slow", pace=5000.0, public_url=SANDBOX_URL)
