"""What the MCP endpoint takes: a body of some size in some time; requests, streams and sessions of each caller."""

from dataclasses import replace
from typing import Any

import anyio
import httpx2
import pytest
from calls import SECONDS
from http_client import HttpBuilder, connect, http_client, running

from rotoscope.server.http.admission import RequestAdmission
from rotoscope.server.http.drain import Drain
from rotoscope.server.http.limits import HttpLimits

pytestmark = pytest.mark.anyio
JSON = {"content-type": "application/json", "accept": "application/json, text/event-stream"}
HELLO = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}},
}


class Endpoint:
    """Stands for the MCP endpoint: answers when the test lets it."""

    def __init__(self) -> None:
        self.reached = 0
        self.let = anyio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.reached += 1
        body = (await receive())["body"]
        await self.let.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})


def admission(endpoint: Endpoint, drain: Drain | None = None, **limits: Any) -> RequestAdmission:
    """The part under test; a request names its principal by the header `who`."""
    decided = replace(HttpLimits(), **limits)
    return RequestAdmission(
        endpoint, decided, drain or Drain(), lambda scope: dict(scope["headers"]).get(b"who", b"ann").decode()
    )


async def open_requests(http: httpx2.AsyncClient, tasks: Any, endpoint: Endpoint, count: int, **more: Any) -> None:
    """Begin some requests, and wait until all of them are served."""
    for _ in range(count):
        tasks.start_soon(lambda: http.request(**more))
    with anyio.fail_after(SECONDS):
        while endpoint.reached < count:
            await anyio.lowlevel.checkpoint()


async def test_a_principal_has_so_many_requests_open_and_others_have_theirs() -> None:
    endpoint = Endpoint()
    app = admission(endpoint, requests_per_principal=2)
    async with http_client(app) as http, anyio.create_task_group() as tasks:
        await open_requests(http, tasks, endpoint, 2, method="POST", url="/mcp")
        refused = await http.post("/mcp")
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
        tasks.start_soon(lambda: http.post("/mcp", headers={"who": "bob"}))
        with anyio.fail_after(SECONDS):
            while endpoint.reached < 3:
                await anyio.lowlevel.checkpoint()
        endpoint.let.set()
    async with http_client(app) as http:
        assert (await http.post("/mcp")).status_code == 200


@pytest.mark.parametrize(
    "stream", [{"method": "GET"}, {"method": "POST", "headers": {"mcp-method": "subscriptions/listen"}}]
)
async def test_streams_are_counted_apart_from_requests(stream: dict[str, Any]) -> None:
    endpoint = Endpoint()
    app = admission(endpoint, requests_per_principal=1, streams_per_principal=2)
    async with http_client(app) as http, anyio.create_task_group() as tasks:
        await open_requests(http, tasks, endpoint, 2, url="/mcp", **stream)
        assert (await http.request(url="/mcp", **stream)).status_code == 429
        endpoint.let.set()
        assert (await http.post("/mcp")).status_code == 200


async def test_a_body_is_bounded_by_its_bytes() -> None:
    endpoint = Endpoint()
    endpoint.let.set()
    async with http_client(admission(endpoint, body_bytes=1000)) as http:
        assert (await http.post("/mcp", content=b"x" * 1000)).content == b"x" * 1000
        refused = await http.post("/mcp", content=b"x" * 1001)
        assert (refused.status_code, endpoint.reached) == (413, 1)


async def test_a_body_that_does_not_come_is_given_up() -> None:
    endpoint, said = Endpoint(), list[Any]()

    async def receive() -> dict[str, Any]:
        if not said:
            said.append("begun")
            return {"type": "http.request", "body": b"{", "more_body": True}
        await anyio.sleep_forever()
        raise AssertionError

    async def send(message: Any) -> None:
        said.append(message)

    with anyio.fail_after(SECONDS):
        scope = {"type": "http", "method": "POST", "path": "/mcp", "headers": []}
        await admission(endpoint, body_seconds=0.01)(scope, receive, send)
    assert (said[1]["status"], endpoint.reached) == (408, 0)


async def test_a_client_that_goes_before_its_body_came_is_forgotten() -> None:
    endpoint = Endpoint()

    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    async def send(_: Any) -> None:
        raise AssertionError("nobody is there")

    app = admission(endpoint, requests_per_principal=1)
    for _ in range(2):
        await app({"type": "http", "method": "POST", "path": "/mcp", "headers": []}, receive, send)
    assert endpoint.reached == 0


async def test_nothing_new_begins_while_the_process_ends() -> None:
    endpoint, drain = Endpoint(), Drain()
    async with http_client(admission(endpoint, drain)) as http:
        drain.begin()
        refused = await http.post("/mcp")
        assert (refused.status_code, refused.headers["retry-after"], endpoint.reached) == (503, "1", 0)


async def test_sessions_are_bounded_for_all(build_http: HttpBuilder) -> None:
    async with running(build_http(replace(HttpLimits(), sessions=2))) as http:
        answers = [await http.post("/mcp", json=HELLO, headers=JSON) for _ in range(3)]
        assert [one.status_code for one in answers] == [200, 200, 503]
        ended = await http.delete("/mcp", headers={"mcp-session-id": answers[0].headers["mcp-session-id"]})
        assert ended.status_code == 200
        assert (await http.post("/mcp", json=HELLO, headers=JSON)).status_code == 200


async def test_a_session_without_requests_ends(build_http: HttpBuilder) -> None:
    async with running(build_http(replace(HttpLimits(), session_idle_seconds=0.05))) as http:
        named = {"mcp-session-id": (await http.post("/mcp", json=HELLO, headers=JSON)).headers["mcp-session-id"]}
        ping = {"jsonrpc": "2.0", "id": 2, "method": "ping"}
        with anyio.fail_after(SECONDS):
            await anyio.sleep(0.2)
        assert (await http.post("/mcp", json=ping, headers={**JSON, **named})).status_code == 404


async def test_garbage_is_answered_and_leaves_no_session(build_http: HttpBuilder) -> None:
    bombs = [
        b"",
        b"{",
        b"[" * 100_000,
        b'{"a":' * 50_000,
        b"null",
        b"[]",
        b'{"jsonrpc":"2.0"}',
        b"1" * 100_000,
        b"\xff",
    ]
    async with running(build_http(replace(HttpLimits(), sessions=1))) as http:
        for body in bombs:
            for version in ("2025-11-25", "2026-07-28", "1999-01-01"):
                answer = await http.post("/mcp", content=body, headers={**JSON, "mcp-protocol-version": version})
                assert 400 <= answer.status_code < 500, (body[:20], version)
                assert len(answer.content) < 3000
        async with connect(http, "legacy") as client:
            assert (await client.list_tools()).tools
