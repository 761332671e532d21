"""Odd parameters of every method: a proper error that repeats little, nothing in the log, and the server goes on."""

import json
from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest
from mcp.server.mcpserver import MCPServer

from rotoscope.protocol.stdio import Handover, serve_stdio
from rotoscope.server.lazy_studio import LazyStudio

pytestmark = pytest.mark.anyio
ENVELOPE = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {"extensions": {"io.modelcontextprotocol/tasks": {}}},
}
HELLO = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "any", "version": "1"}}
BIG = "x" * 100_000
PROPER = {-32600, -32601, -32602, -32021}


class Said:
    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []

    async def write(self, text: str, /) -> None:
        self.lines.append(json.loads(text))

    async def flush(self) -> None:
        pass


async def ask(server: MCPServer[LazyStudio], era: str, *asked: tuple[str, Any]) -> list[dict[str, Any]]:
    """The reply to each request, in an open session."""
    said, count = Said(), 0

    async def lines() -> AsyncIterator[bytes]:
        nonlocal count
        reported = [*asked] if era == "2026-07-28" else [("initialize", HELLO), *asked]
        for count, (method, params) in enumerate(reported, 1):
            given = {**params, "_meta": ENVELOPE} if era == "2026-07-28" else params
            yield json.dumps({"jsonrpc": "2.0", "id": count, "method": method, "params": given}).encode()
            while not any(one.get("id") == count for one in said.lines):
                await anyio.lowlevel.checkpoint()
            if method == "initialize":
                yield b'{"jsonrpc": "2.0", "method": "notifications/initialized"}'

    with anyio.fail_after(120):
        await serve_stdio(server, Handover(stdin=lines(), stdout=said))
    return said.lines[-len(asked) :]


PROMPT = {"type": "ref/prompt", "name": "photo_to_coco"}
ODD: list[tuple[str, dict[str, Any]]] = [
    *(("resources/read", {"uri": f"{scheme}{BIG}"}) for scheme in ("foo://", "job://", "artifact://", "model://", "")),
    *(("resources/read", params) for params in ({"uri": 3}, {"uri": ""}, {"uri": "job://\0"}, {})),
    ("prompts/get", {"name": "photo_to_coco", "arguments": {"image": "a", "bogus": "b"}}),
    ("prompts/get", {"name": "photo_to_coco", "arguments": {"image": "a", BIG: "b"}}),
    ("prompts/get", {"name": "photo_to_coco", "arguments": {"image": " "}}),
    ("prompts/get", {"name": "photo_to_coco", "arguments": {"image": {"a": 1}}}),
    ("prompts/get", {"name": "photo_to_coco", "arguments": "image"}),
    ("prompts/get", {"name": BIG}),
    *(("completion/complete", {"ref": PROMPT, "argument": one}) for one in ({}, {"name": 3, "value": 4}, 3)),
    ("completion/complete", {"ref": {"type": "x"}, "argument": {"name": "a", "value": ""}}),
    (
        "completion/complete",
        {"ref": PROMPT, "argument": {"name": "a", "value": ""}, "context": {"arguments": {"a": 3}}},
    ),
    *(("resources/subscribe", {"uri": uri}) for uri in (BIG, f"job://{BIG}", "", 3, "job://\0")),
    ("resources/unsubscribe", {}),
    ("subscriptions/listen", {"notifications": {"taskIds": [BIG, 3]}}),
    ("subscriptions/listen", {"notifications": 3}),
    *((f"tasks/{one}", {"taskId": BIG}) for one in ("get", "cancel", "update", "list", "result")),
    *((f"tasks/{one}", {"taskId": 3}) for one in ("get", "cancel", "update")),
    ("tasks/update", {"taskId": "\0", "inputResponses": {}}),
    ("tasks/update", {"taskId": "x", "inputResponses": []}),
    *(("logging/setLevel", {"level": level}) for level in ("debug", "loud", 3, BIG)),
    *(("tools/call", {"name": "list_jobs", "arguments": given}) for given in ("[1", "[1]", "limit", [1], 3, True)),
    *(("tools/call", params) for params in ({"name": 3}, {})),
    ("tools/list", {"cursor": 3}),
    (BIG, {}),
    ("", {}),
]


@pytest.mark.parametrize("era", ["2025-11-25", "2026-07-28"])
async def test_odd_parameters_get_a_proper_error_that_repeats_little_and_leave_no_trace_in_the_log(
    server: MCPServer[LazyStudio], era: str, caplog: pytest.LogCaptureFixture
) -> None:
    for (method, params), reply in zip(ODD, await ask(server, era, *ODD), strict=True):
        shown = f"{method[:40]} {json.dumps(params)[:80]}"
        assert reply["error"]["code"] in PROPER, shown
        assert len(json.dumps(reply)) < 700, shown
        assert json.dumps(reply).count("x" * 10) < 25, shown
    assert not [record for record in caplog.records if record.exc_info or record.levelname == "ERROR"]


LIMITS_OF_LISTS: tuple[Any, ...] = ('{"limit": 1}', "", " ", [], None, {})
TAKEN: list[tuple[str, dict[str, Any]]] = [
    *(("tools/call", {"name": "list_jobs", "arguments": given}) for given in LIMITS_OF_LISTS),
    ("tools/call", {"name": "list_jobs"}),
    ("prompts/get", {"name": "photo_to_coco", "arguments": '{"image": "a.png"}'}),
    ("prompts/get", {"name": "storyboard_to_video", "arguments": {"storyboard": "a", "duration": 5, "story": None}}),
    ("completion/complete", {"ref": PROMPT, "argument": {"name": BIG, "value": "\0"}}),
    ("completion/complete", {"ref": {"type": "ref/resource", "uri": BIG}, "argument": {"name": "a", "value": BIG}}),
]


@pytest.mark.parametrize("era", ["2025-11-25", "2026-07-28"])
async def test_arguments_as_a_text_of_json_an_empty_list_or_numbers_for_texts_are_taken(
    server: MCPServer[LazyStudio], era: str
) -> None:
    for asked, reply in zip(TAKEN, await ask(server, era, *TAKEN), strict=True):
        assert "result" in reply, (asked, reply)
        assert not reply["result"].get("isError"), asked
