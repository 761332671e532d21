"""A client counts from the moment at which its request came in, and each is distinguished by all that it says."""

import json
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest
from calls import BOX
from mcp import Client
from mcp.server.mcpserver import MCPServer

from rotoscope.cli.fast_start import serve_lines
from rotoscope.models.access import SANDBOX_URL
from rotoscope.models.catalog import manifest_folder
from rotoscope.protocol.requests import set_arrival_time
from rotoscope.server.clients.profiles import poll_budget, read_client_profiles
from rotoscope.server.lazy_studio import LazyStudio
from rotoscope.settings import Settings
from rotoscope_sandbox import build_sandbox

pytestmark = pytest.mark.anyio
CLIENTS = read_client_profiles(manifest_folder() / "clients.toml")
ENVELOPE = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
    "io.modelcontextprotocol/clientInfo": {"name": "claude-code", "version": "1"},
}


@pytest.mark.parametrize("opening", [[], ["tools/list"]], ids=["first", "later"])
async def test_the_time_before_the_server_was_there_counts(
    settings: Settings, serve: Callable[..., MCPServer[LazyStudio]], photo: Path, tmp_path: Path, opening: list[str]
) -> None:
    """This client waits 45 s; its call waited as long for the server to be loaded."""
    slow = build_sandbox(tmp_path / "slow", pace=5000.0, public_url=SANDBOX_URL)
    answered = anyio.Event()
    replies: dict[int, Any] = {}

    async def lines() -> AsyncIterator[bytes]:
        set_arrival_time(time.monotonic() - 46)
        asked: list[tuple[str, dict[str, Any]]] = [(method, {}) for method in opening]
        asked.append(("tools/call", {"name": "segment_image", "arguments": {"image": str(photo), "box": BOX}}))
        for number, (method, params) in enumerate(asked):
            message = {"jsonrpc": "2.0", "id": number, "method": method, "params": {**params, "_meta": ENVELOPE}}
            yield json.dumps(message).encode()
        await answered.wait()

    async def write(line: bytes) -> None:
        reply = json.loads(line)
        replies[reply["id"]] = reply
        if reply["id"] == len(opening):
            answered.set()

    with anyio.fail_after(180):
        await serve_lines(serve(replace(settings, inline_seconds=None), slow), lines(), write, set())
    assert replies[len(opening)]["result"]["structuredContent"]["status"] in ("queued", "running")


@pytest.mark.parametrize(
    ("protocol", "declares", "inline", "asking"),
    [
        ("2025-11-25", [], 20, 25),  # LangChain, LlamaIndex, smolagents, CrewAI
        ("2025-11-25", ["sampling"], 3.5, 4),  # AutoGen
        ("2026-07-28", [], 3.5, 4),  # OpenAI Agents, the bare SDK
        ("2026-07-28", ["sampling"], 30, 45),  # Microsoft Agent Framework
        ("2025-06-18", [], 3.5, 4),  # never seen: it is learned
    ],
)
def test_clients_of_one_name_are_distinguished_by_what_else_they_say(
    protocol: str, declares: list[str], inline: float, asking: float
) -> None:
    client = CLIENTS.profile_for("mcp", protocol, frozenset(declares))
    assert (client.inline_seconds, poll_budget(client)) == (inline, asking)
    assert not client.links
    assert poll_budget(client, 7.0) == 7.0


@pytest.mark.parametrize(
    ("name", "protocol", "declares", "learns"),
    [
        ("google-adk", "2025-11-25", [], False),
        ("mcp", "2026-07-28", [], False),
        ("mcp", "2025-11-25", ["sampling"], False),
        ("mcp", "2025-06-18", [], True),
        ("somebody-else", "2025-11-25", [], True),
        ("claude-ai", "2025-06-18", [], False),
    ],
)
def test_only_who_is_known_to_give_up_at_five_seconds_stays_at_three_and_a_half(
    name: str, protocol: str, declares: list[str], learns: bool
) -> None:
    client = CLIENTS.profile_for(name, protocol, frozenset(declares))
    assert client.learns is learns
    assert client.inline_seconds == (45 if name == "claude-ai" else 3.5)


def test_a_name_that_ends_with_a_star_stands_for_all_that_begin_so() -> None:
    assert CLIENTS.profile_for("stdio: node server.js").inline_seconds == 30
    assert CLIENTS.profile_for("stdio").inline_seconds == 3.5
    assert CLIENTS.has_client("stdio: x")
    assert not CLIENTS.has_client("")


@pytest.mark.parametrize(("mode", "wait"), [("legacy", "wait_seconds 25"), ("auto", "wait_seconds 4")])
async def test_a_client_is_distinguished_over_the_wire_and_reported_when_its_wait_is_cut(
    settings: Settings,
    serve: Callable[..., MCPServer[LazyStudio]],
    photo: Path,
    tmp_path: Path,
    mode: Any,
    wait: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    slow = build_sandbox(tmp_path / "slow", pace=5000.0, public_url=SANDBOX_URL)
    async with Client(serve(replace(settings, inline_seconds=0.0), slow), mode=mode) as client:
        begun = await client.call_tool("segment_image", {"image": str(photo), "box": BOX})
        assert begun.structured_content is not None
        job = begun.structured_content["job_id"]
    async with Client(serve(replace(settings, inline_seconds=None), slow), mode=mode) as client:
        await client.call_tool("list_jobs", {})  # the studio is open
        monkeypatch.setattr("rotoscope.server.tool_calls._remaining_seconds", lambda *_: 0.0)
        answer = await client.call_tool("get_job", {"job_id": job, "wait_seconds": 45})
        less = await client.call_tool("get_job", {"job_id": job, "wait_seconds": 3})
    assert answer.structured_content is not None
    assert less.structured_content is not None
    assert f"{wait} (more is cut to that" in answer.structured_content["next_step"]
    assert "is cut" not in less.structured_content["next_step"]
