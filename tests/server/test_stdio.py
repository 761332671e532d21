"""The stdio runner: a probe decides nothing, and somebody who spoke before can hand over."""

import gc
import io
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp.server.mcpserver import MCPServer
from mcp.shared.message import SessionMessage

from rotoscope.protocol.stdio import Handover, serve_stdio
from rotoscope.server.lazy_studio import LazyStudio

pytestmark = pytest.mark.anyio
ENVELOPE = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
}
CLIENT = {"name": "any", "version": "1"}
HELLO = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": CLIENT}


def request(number: int, method: str, **params: Any) -> str:
    return json.dumps({"jsonrpc": "2.0", "id": number, "method": method, "params": params})


def probe(number: int) -> str:
    return request(number, "server/discover", _meta=ENVELOPE)


def notice(method: str, **params: Any) -> str:
    return json.dumps({"jsonrpc": "2.0", "method": method, "params": params})


INITIALIZE, INITIALIZED = request(1, "initialize", **HELLO), notice("notifications/initialized")


async def talk(
    server: MCPServer[LazyStudio],
    lines: Sequence[str],
    before: Sequence[str] = (),
    answered: frozenset[int] = frozenset(),
) -> list[dict[str, Any]]:
    """Everything that the server says to these lines, one after the other, until the input ends."""
    said = io.StringIO()
    expected = sum('"id"' in line for line in [*before, *lines]) - len(answered)

    def replies() -> list[dict[str, Any]]:
        return [json.loads(line) for line in said.getvalue().splitlines()]

    async def typed() -> AsyncIterator[str]:
        for line in lines:
            yield f"{line}\n"
        while len(replies()) < expected:  # the input ends when all is answered: its end ends the server
            await anyio.lowlevel.checkpoint()

    with anyio.fail_after(180):
        await serve_stdio(server, Handover(tuple(before), answered, typed(), anyio.wrap_file(said)))
    return replies()


async def test_a_client_that_probes_and_then_shakes_hands_on_the_same_pipe_is_served(
    server: MCPServer[LazyStudio],
) -> None:
    late = notice("notifications/cancelled", requestId=7)
    replies = await talk(server, [probe(7), late, INITIALIZE, INITIALIZED, request(2, "tools/list")])
    by_id = {reply["id"]: reply for reply in replies}
    assert "2026-07-28" in by_id[7]["result"]["supportedVersions"]
    assert by_id[1]["result"]["protocolVersion"] == "2025-11-25"
    assert by_id[2]["result"]["tools"]


async def test_a_client_that_probes_and_stays_modern_is_served(server: MCPServer[LazyStudio]) -> None:
    lines = [probe(1), probe(2), request(3, "tools/list", _meta=ENVELOPE), probe(4)]
    replies = await talk(server, lines)
    assert sorted(reply["id"] for reply in replies) == [1, 2, 3, 4]
    assert all("result" in reply for reply in replies)


async def test_a_probe_without_the_envelope_decides_as_any_request_does(server: MCPServer[LazyStudio]) -> None:
    (reply,) = await talk(server, [request(1, "server/discover")])
    assert "error" in reply


async def test_the_era_that_was_decided_stays(server: MCPServer[LazyStudio]) -> None:
    replies = await talk(server, [request(3, "tools/list", _meta=ENVELOPE), INITIALIZE])
    assert {reply["id"]: reply.get("error", {}).get("code") for reply in replies} == {3: None, 1: -32022}


async def test_input_that_ends_before_any_request_ends_the_server_in_silence(server: MCPServer[LazyStudio]) -> None:
    assert await talk(server, []) == []
    assert await talk(server, [INITIALIZED, "", "\ufeff"]) == []
    assert [reply["id"] for reply in await talk(server, [probe(5)])] == [5]


async def test_what_was_answered_before_is_not_answered_again(server: MCPServer[LazyStudio]) -> None:
    before = [probe(9), INITIALIZE, request(2, "tools/list"), INITIALIZED]
    replies = await talk(server, [request(3, "ping")], before, frozenset({9, 1, 2}))
    assert [reply["id"] for reply in replies] == [3]
    assert replies[0]["result"] == {}


async def test_what_was_read_before_but_not_answered_is_answered(server: MCPServer[LazyStudio]) -> None:
    before = [INITIALIZE, INITIALIZED, request(2, "tools/list")]
    replies = await talk(server, [request(2, "ping")], before, frozenset({1}))
    assert sorted(len(reply["result"].get("tools", [])) > 0 for reply in replies) == [False, True]


async def test_an_id_that_is_used_again_is_answered_again(server: MCPServer[LazyStudio]) -> None:
    replies = await talk(server, [request(1, "ping")], [INITIALIZE, INITIALIZED], frozenset({1}))
    assert [(reply["id"], reply["result"]) for reply in replies] == [(1, {})]


async def test_of_what_comes_before_the_first_request_only_a_little_is_kept(server: MCPServer[LazyStudio]) -> None:
    said, kept = io.StringIO(), []

    def messages() -> int:
        return sum(isinstance(one, SessionMessage) for one in gc.get_objects())

    async def typed() -> AsyncIterator[str]:
        before = messages()
        for number in range(1_000):
            yield notice("notifications/cancelled", requestId=number)
        kept.append(messages() - before)
        yield INITIALIZE
        while not said.getvalue():
            await anyio.lowlevel.checkpoint()

    with anyio.fail_after(180):
        await serve_stdio(server, Handover(stdin=typed(), stdout=anyio.wrap_file(said)))
    assert kept[0] < 50
    assert json.loads(said.getvalue())["result"]["protocolVersion"] == "2025-11-25"


def test_rotoscope_serve_accepts_a_late_probe(tmp_path: Path) -> None:
    """The command itself, in a process of its own."""
    late = notice("notifications/cancelled", requestId=7)
    lines = [probe(7), late, INITIALIZE, INITIALIZED, request(2, "tools/list")]
    environment = {**os.environ, "ROTOSCOPE_HOME": str(tmp_path / "rotoscope"), "ROTOSCOPE_SANDBOX": "always"}
    command = [sys.executable, "-m", "rotoscope", "serve"]
    with subprocess.Popen(command, stdin=-1, stdout=-1, env=environment, text=True) as serving:
        assert serving.stdin is not None
        assert serving.stdout is not None
        serving.stdin.write("".join(f"{line}\n" for line in lines))
        serving.stdin.flush()
        replies = [json.loads(serving.stdout.readline()) for _ in range(3)]
        serving.stdin.close()
        assert serving.wait(timeout=60) == 0
    assert [reply["id"] for reply in replies] == [7, 1, 2]
    assert not [reply for reply in replies if "error" in reply]


UNREADABLE = {
    "half a character": (r'{"jsonrpc": "2.0", "id": 7, "method": "tools/list", "params": {"note": "\ud83d"}}', -32700),
    "parameters in a list": ('{"jsonrpc": "2.0", "id": 7, "method": "tools/list", "params": []}', -32600),
    "no version": ('{"id": 7, "method": "tools/list"}', -32600),
    "another version": ('{"jsonrpc": "1.0", "id": 7, "method": "tools/list"}', -32600),
}


@pytest.mark.parametrize(("line", "code"), UNREADABLE.values(), ids=UNREADABLE)
@pytest.mark.parametrize("place", ["first", "later", "handed over"])
async def test_a_request_that_cannot_be_read_is_refused_under_its_id(
    server: MCPServer[LazyStudio], line: str, code: int, place: str
) -> None:
    """The SDK drops it in silence, and its client would wait for ever."""
    opening = [INITIALIZE, INITIALIZED]
    said = {"first": [line, *opening], "later": [*opening, line], "handed over": opening}[place]
    replies = await talk(server, said, before=[line] if place == "handed over" else ())
    found = {reply["id"]: reply for reply in replies}
    assert found[7]["error"]["code"] == code
    assert "result" in found[1]
