"""Sessions of the handshake era: whose they are, and that a stream that was lost goes on where it broke off."""

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any

import anyio
import httpx2
import pytest
from calls import SECONDS
from http_client import BASE, HttpBuilder, connect, http_client, running
from mcp_types import JSONRPCNotification, JSONRPCResponse

from rotoscope.composition.http import HttpServing
from rotoscope.composition.sign_in import open_sign_in
from rotoscope.protocol.stream_events import StreamEvents
from rotoscope.server.http.limits import HttpLimits
from rotoscope.settings import read_settings

pytestmark = pytest.mark.anyio
ANN, BOB = "a" * 40, "b" * 40
JSON = {"content-type": "application/json", "accept": "application/json, text/event-stream"}
HELLO = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}},
}


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


@asynccontextmanager
async def signed_in(
    build_http: HttpBuilder, environment: dict[str, str], limits: HttpLimits | None = None
) -> AsyncIterator[httpx2.AsyncClient]:
    """The app with two people's tokens, and a client that sends none by itself."""
    settings = read_settings({**environment, "ROTOSCOPE_SIGN_IN": "tokens", "ROTOSCOPE_TOKENS": f"ann={ANN},bob={BOB}"})
    async with AsyncExitStack() as closing:
        sign_in = open_sign_in(settings, f"{BASE}/mcp", closing)
        serving: HttpServing = build_http(limits, settings=settings, sign_in=sign_in)
        async with running(serving) as http:
            yield http


async def test_without_a_token_nothing_is_served_but_what_is_public(
    build_http: HttpBuilder, environment: dict[str, str]
) -> None:
    async with signed_in(build_http, environment) as http:
        refused = await http.post("/mcp", json=HELLO, headers=JSON)
        assert refused.status_code == 401
        assert "oauth-protected-resource/mcp" in refused.headers["www-authenticate"]
        metadata = await http.get(
            "/.well-known/oauth-protected-resource/mcp", headers={"origin": "https://any.example"}
        )
        assert metadata.json()["resource"] == f"{BASE}/mcp"
        assert (await http.get("/healthz")).status_code == 200


async def test_a_session_of_another_principal_answers_like_one_that_never_was(
    build_http: HttpBuilder, environment: dict[str, str]
) -> None:
    async with signed_in(build_http, environment) as http:
        opened = await http.post("/mcp", json=HELLO, headers={**JSON, **bearer(ANN)})
        session = opened.headers["mcp-session-id"]
        ping = {"jsonrpc": "2.0", "id": 2, "method": "ping"}
        for method, body in (("POST", ping), ("GET", None), ("DELETE", None)):

            async def ask(named: str, method: str = method, body: Any = body) -> httpx2.Response:
                headers = {**JSON, **bearer(BOB), "mcp-session-id": named}
                return await http.request(method, "/mcp", headers=headers, json=body)

            foreign, unknown = await ask(session), await ask("0" * 32)
            assert (foreign.status_code, foreign.content) == (unknown.status_code, unknown.content)
            assert (dict(foreign.headers), foreign.status_code) == (dict(unknown.headers), 404)
        own = await http.post("/mcp", json=ping, headers={**JSON, **bearer(ANN), "mcp-session-id": session})
        assert own.status_code == 200


async def test_a_principal_has_so_many_sessions_and_others_have_theirs(
    build_http: HttpBuilder, environment: dict[str, str]
) -> None:
    async with signed_in(build_http, environment, replace(HttpLimits(), sessions_per_principal=1)) as http:
        opened = [await http.post("/mcp", json=HELLO, headers={**JSON, **bearer(one)}) for one in (ANN, ANN, BOB)]
        assert [one.status_code for one in opened] == [200, 503, 200]


async def test_jobs_are_those_of_the_token(build_http: HttpBuilder, environment: dict[str, str]) -> None:
    async with signed_in(build_http, environment) as http:
        asked = {"prompt": "a boat on a lake", "duration": 4}
        http.headers.update(bearer(ANN))
        async with connect(http, "legacy") as client:
            made = await client.call_tool("generate_video", asked)
            assert made.structured_content is not None
            job_id = made.structured_content["job_id"]
        http.headers.update(bearer(BOB))
        for mode in ("legacy", "auto"):
            async with connect(http, mode) as client:
                foreign = await client.call_tool("get_job", {"job_id": job_id})
                unknown = await client.call_tool("get_job", {"job_id": job_id[::-1]})
                assert foreign.is_error
                assert foreign.content == unknown.content
                listed = await client.call_tool("list_jobs", {})
                assert listed.structured_content is not None
                assert listed.structured_content["jobs"] == []


async def events_of(answer: httpx2.Response) -> AsyncIterator[dict[str, Any]]:
    """The events of a stream: `id`, `data` and `retry` of each."""
    event: dict[str, Any] = {}
    async for line in answer.aiter_lines():
        name, found, value = line.partition(": ")
        if found:
            event[name] = value
        elif not line and event:
            yield event
            event = {}


async def reply_of(answer: httpx2.Response) -> dict[str, Any]:
    """The first reply on a stream; what comes before it are notifications."""
    async for event in events_of(answer):
        found: dict[str, Any] = json.loads(event.get("data") or "{}")
        if "id" in found:
            return found
    raise AssertionError("the stream has ended without a reply")


async def test_a_stream_that_was_lost_goes_on_where_it_broke_off(build_http: HttpBuilder) -> None:
    call = {
        "jsonrpc": "2.0",
        "id": 7,
        "method": "tools/call",
        "params": {"name": "generate_video", "arguments": {"prompt": "a boat", "duration": 4}},
    }
    async with running(build_http()) as http, anyio.create_task_group() as tasks:
        opened = await http.post("/mcp", json=HELLO, headers=JSON)
        named = {**JSON, "mcp-session-id": opened.headers["mcp-session-id"], "mcp-protocol-version": "2025-11-25"}
        await http.post("/mcp", json={"jsonrpc": "2.0", "method": "notifications/initialized"}, headers=named)
        async with http.stream("POST", "/mcp", json=call, headers=named) as answer:
            first = await anext(events_of(answer))
        assert first["retry"] == "2000"
        with anyio.fail_after(SECONDS):
            async with http.stream("GET", "/mcp", headers={**named, "last-event-id": first["id"]}) as again:
                final = await reply_of(again)
        assert (final["id"], final["result"]["structuredContent"]["tool"]) == (7, "generate_video")
        tasks.cancel_scope.cancel()


async def test_the_stream_of_a_session_ends_in_order_with_the_process(build_http: HttpBuilder) -> None:
    serving = build_http()
    async with running(serving) as http:
        opened = await http.post("/mcp", json=HELLO, headers=JSON)
        named = {**JSON, "mcp-session-id": opened.headers["mcp-session-id"]}
        with anyio.fail_after(SECONDS):
            async with http.stream("GET", "/mcp", headers=named) as answer:
                assert answer.status_code == 200
                serving.drain.begin()
                assert [event async for event in events_of(answer)] == [{"retry": "2000"}]
        assert (await http.post("/mcp", json=HELLO, headers=JSON)).status_code == 503


async def test_no_session_is_sent_what_was_sent_to_another(build_http: HttpBuilder) -> None:
    async with running(build_http()) as http:
        opened = [await http.post("/mcp", json=HELLO, headers=JSON) for _ in range(2)]
        names = [one.headers["mcp-session-id"] for one in opened]
        listing = {"jsonrpc": "2.0", "id": 3, "method": "tools/list"}
        for name in names[:1]:
            await http.post("/mcp", json=listing, headers={**JSON, "mcp-session-id": name})
        for number in range(1, 6):
            with anyio.fail_after(SECONDS):
                stream = http.stream(
                    "GET", "/mcp", headers={**JSON, "mcp-session-id": names[1], "last-event-id": str(number)}
                )
                async with stream as answer:
                    assert answer.status_code == 200
                    if number > 2:  # the second session has two events, both of its own opening
                        assert [event async for event in events_of(answer)] == []


async def replay(events: StreamEvents, after: str) -> tuple[list[Any], str | None]:
    sent: list[Any] = []

    async def send(event: Any) -> None:
        sent.append(event.message)

    return sent, await events.replay_events_after(after, send)


def note(text: str) -> JSONRPCNotification:
    return JSONRPCNotification(jsonrpc="2.0", method=text)


async def test_only_what_came_later_on_the_same_stream_is_sent_again() -> None:
    events = StreamEvents(10, 10_000)
    begun = await events.store_event("1", None)
    await events.store_event("2", note("other"))
    one = await events.store_event("1", note("a"))
    await events.store_event("1", note("b"))
    assert await replay(events, begun) == ([note("a"), note("b")], "1")
    assert await replay(events, one) == ([note("b")], "1")


async def test_a_stream_whose_answer_was_sent_ends_with_it() -> None:
    events = StreamEvents(10, 10_000)
    begun = await events.store_event("1", None)
    answer = JSONRPCResponse(jsonrpc="2.0", id=1, result={})
    last = await events.store_event("1", answer)
    assert await replay(events, begun) == ([answer], None)
    assert await replay(events, last) == ([], None)


@pytest.mark.parametrize("name", ["0", "99", "", "x", "-1", "\uff11", "9" * 5000])
async def test_an_event_that_is_not_kept_is_answered_by_nothing(name: str) -> None:
    events = StreamEvents(10, 10_000)
    await events.store_event("1", note("a"))
    assert await replay(events, name) == ([], None)


async def test_the_oldest_events_go_first_by_count_and_by_bytes() -> None:
    events = StreamEvents(3, 400)
    ids = [await events.store_event("1", note(str(n))) for n in range(5)]
    assert (await replay(events, ids[1]))[0] == []
    assert (await replay(events, ids[2]))[0] == [note("3"), note("4")]
    await events.store_event("1", note("x" * 300))
    assert (await replay(events, ids[2]))[0] == []
    await events.store_event("1", note("y" * 500))
    assert len((await replay(events, "6"))[0]) == 0


async def test_the_names_of_sessions_cannot_be_guessed(build_http: HttpBuilder) -> None:
    async with running(build_http()) as http, http_client(http._transport.app) as other:  # type: ignore[attr-defined]
        names = {(await one.post("/mcp", json=HELLO, headers=JSON)).headers["mcp-session-id"] for one in (http, other)}
        assert len(names) == 2
        assert all(len(name) == 32 for name in names)
