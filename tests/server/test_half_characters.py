"""Half a character, as a provider or an old ledger may hold it, ends no session: each answer is whole UTF-8."""

import contextlib
import io
import json
import sqlite3
from collections.abc import AsyncIterator, MutableMapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest
from calls import BOX, ServerBuilder
from mcp.server.mcpserver import MCPServer

from rotoscope.contracts.results import JobResult
from rotoscope.errors import UnknownModel
from rotoscope.protocol.stdio import Handover, serve_stdio
from rotoscope.server.lazy_studio import LazyStudio
from rotoscope.server.present.text import error_answer, result_answer
from rotoscope.settings import Settings
from rotoscope_sandbox import Sandbox

pytestmark = pytest.mark.anyio
HELLO = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "any", "version": "1"}}


class Halving:
    """A provider whose answers about a run name a file with half a character, on a host of its own or elsewhere."""

    def __init__(self, app: Sandbox, host: bytes) -> None:
        self._app, self._host = app, host

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        halved = "/requests/" in scope["path"]

        async def changed(message: MutableMapping[str, Any]) -> None:
            if halved and message["type"] == "http.response.start":
                message = {**message, "headers": [one for one in message["headers"] if one[0] != b"content-length"]}
            elif halved and b".png" in message.get("body", b""):
                body = message["body"].replace(b".png", b"\\ud83d.png")
                message = {**message, "body": body.replace(b"sandbox.invalid/", self._host)}
            await send(message)

        await self._app(scope, receive, changed)


async def talk(server: MCPServer[LazyStudio], *calls: tuple[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """What a stdio session answers to these calls of tools, one after the other."""
    said = io.StringIO()
    asked = [("initialize", HELLO), *(("tools/call", {"name": name, "arguments": more}) for name, more in calls)]

    async def typed() -> AsyncIterator[str]:
        for number, (method, params) in enumerate(asked):
            yield json.dumps({"jsonrpc": "2.0", "id": number, "method": method, "params": params}) + "\n"
            while len(said.getvalue().splitlines()) <= number:
                await anyio.lowlevel.checkpoint()
            if not number:
                yield '{"jsonrpc": "2.0", "method": "notifications/initialized"}\n'

    with anyio.fail_after(180):
        await serve_stdio(server, Handover(stdin=typed(), stdout=anyio.wrap_file(said)))
    return [json.loads(line)["result"] for line in said.getvalue().splitlines()[1:]]


async def test_a_result_whose_address_holds_half_a_character_is_reported_as_lost_with_that_address(
    serve: ServerBuilder, settings: Settings, sandbox: Sandbox, photo: Path
) -> None:
    server = serve(settings, Halving(sandbox, b"elsewhere.example/"))
    lost, listed = await talk(server, ("describe_with_masks", {"image": str(photo)}), ("list_jobs", {}))
    assert lost["isError"]
    hint = lost["structuredContent"]["error"]["hint"]
    assert "https://elsewhere.example/" in hint
    assert "%EF%BF%BD.png" in hint
    assert hint in lost["content"][0]["text"]
    assert listed["structuredContent"]["jobs"][0]["status"] == "failed"


async def test_a_result_that_is_fetched_again_and_again_is_reported_with_its_address_whatever_characters_that_has(
    serve: ServerBuilder, settings: Settings, sandbox: Sandbox, photo: Path
) -> None:
    """Its own host does not have it now: as long as the provider keeps results, it may come back."""
    server = serve(replace(settings, inline_seconds=4.0), Halving(sandbox, b"sandbox.invalid/"))
    (waits,) = await talk(server, ("describe_with_masks", {"image": str(photo)}))
    assert waits["structuredContent"]["status"] == "running"
    assert "%EF%BF%BD.png" in json.dumps(waits["structuredContent"])


async def test_a_ledger_that_holds_half_a_character_is_read(
    serve: ServerBuilder, settings: Settings, sandbox: Sandbox, photo: Path
) -> None:
    (made,) = await talk(serve(settings, sandbox), ("segment_image", {"image": str(photo), "box": BOX}))
    job_id = made["structuredContent"]["job_id"]
    with contextlib.closing(sqlite3.connect(settings.home / "ledger.sqlite3", isolation_level=None)) as ledger:
        data = json.loads(ledger.execute("SELECT data FROM jobs").fetchone()[0])
        data["result"]["text"] = "half \ud83d"
        data["warnings"] = ["half \ud83d"]
        ledger.execute("UPDATE jobs SET data = ?", [json.dumps(data)])
    found, listed = await talk(serve(settings, sandbox), ("get_job", {"job_id": job_id}), ("list_jobs", {}))
    assert found["structuredContent"]["text"] == "half \ufffd"
    assert "half \ufffd" in found["structuredContent"]["warnings"]
    assert "half \ufffd" in found["content"][0]["text"]
    assert listed["structuredContent"]["jobs"][0]["job_id"] == job_id


def test_what_a_user_gave_is_repeated_with_whole_characters_and_otherwise_as_it_was() -> None:
    given = {"prompt": "a 👩‍🚀\nand half \ud83d", "more": [{"half \ud83d": "\udc80"}]}
    fields = {"status": "failed", "tool": "t", "model": "m", "provider": "p", "sandbox": True, "progress": 0.0}
    result = JobResult.model_validate(
        {**fields, "job_id": "j", "message": "", "elapsed_seconds": 0.0, "next_step": "", "request": given}
    )
    answer = json.loads(result_answer(result).model_dump_json(by_alias=True))["structuredContent"]
    assert answer["request"] == {"prompt": "a 👩‍🚀\nand half \ufffd", "more": [{"half \ufffd": "\ufffd"}]}
    assert "no model 'half \ufffd'" in error_answer(UnknownModel("There is no model 'half \ud83d'.")).model_dump_json()
