"""Lines as clients send them: whatever can have an answer gets exactly one, in both eras, and the session goes on."""

import json
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mcp.server.mcpserver import Context, MCPServer
from pydantic import BaseModel

from rotoscope.protocol.incoming import ErrorReply, parse_line
from rotoscope.protocol.stdio import Handover, serve_stdio
from rotoscope.server.lazy_studio import LazyStudio

pytestmark = pytest.mark.anyio
ENVELOPE = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
}
CLIENT = {"name": "any", "version": "1"}
INITIALIZED = b'{"jsonrpc": "2.0", "method": "notifications/initialized"}'
ERAS = ["2026-07-28", "2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"]
SECONDS = 180


def request(number: Any, method: str, **params: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": number, "method": method, "params": params}).encode()


def opening(era: str) -> list[bytes]:
    if era == ERAS[0]:
        return [request("open", "tools/list", _meta=ENVELOPE)]
    hello = {"protocolVersion": era, "capabilities": {}, "clientInfo": CLIENT}
    return [request("open", "initialize", **hello), INITIALIZED]


def look(number: Any, era: str) -> bytes:
    """What shows that a session lives: the modern era has no ping."""
    return request(number, "prompts/list", _meta=ENVELOPE) if era == ERAS[0] else request(number, "ping")


class Received:
    """Collects what a server says."""

    def __init__(self) -> None:
        self.lines: list[Any] = []

    async def write(self, text: str, /) -> None:
        self.lines.append(json.loads(text))

    async def flush(self) -> None:
        pass

    def answers(self, request_id: Any) -> list[Any]:
        return [one for one in self.lines if isinstance(one, dict) and one.get("id") == request_id]

    async def until(self, holds: Callable[[], object]) -> None:
        with anyio.fail_after(SECONDS):
            while not holds():
                await anyio.lowlevel.checkpoint()


async def converse(server: MCPServer[LazyStudio], script: Callable[[Received], AsyncIterator[bytes]]) -> list[Any]:
    """Everything that a server says to what a script sends."""
    received = Received()
    with anyio.fail_after(SECONDS):
        await serve_stdio(server, Handover(stdin=script(received), stdout=received))
    return received.lines


async def answers(server: MCPServer[LazyStudio], era: str, *lines: bytes) -> list[Any]:
    """What a server says to lines in an open session, which must live afterwards."""

    async def script(received: Received) -> AsyncIterator[bytes]:
        for line in opening(era):
            yield line + b"\n"
        await received.until(lambda: received.answers("open"))
        for line in lines:
            yield line + b"\n"
        yield look("alive", era) + b"\n"
        await received.until(lambda: received.answers("alive"))

    said = await converse(server, script)
    (alive,) = [one for one in said if isinstance(one, dict) and one.get("id") == "alive"]
    assert "result" in alive
    return [one for one in said if not isinstance(one, dict) or one.get("id") not in ("open", "alive")]


def deep(depth: int, *, id_first: bool = True) -> bytes:
    params = b'"params":{"x":' + b"[" * depth + b"]" * depth + b"}"
    members = [b'"jsonrpc":"2.0"', b'"id":7', b'"method":"tools/list"', params]
    return b"{" + b",".join(members if id_first else [*members[:1], *members[2:], members[1]]) + b"}"


PING = b'{"jsonrpc":"2.0","id":7,"method":"ping"}'
ILL: dict[str, tuple[bytes, Any, int]] = {
    "nested 1,000 deep": (deep(1_000), 7, -32700),
    "nested 100,000 deep, the id last": (deep(100_000, id_first=False), 7, -32700),
    "a number of 5,000 digits": (request(7, "ping", x=1).replace(b"1}", b"1" * 5_000 + b"}"), 7, -32700),
    "an id of 5,000 digits": (PING.replace(b"7", b"7" * 5_000), None, -32700),
    "two objects": (PING + PING.replace(b"7", b"8"), 7, -32700),
    "cut off": (b'{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"x","arg', 7, -32700),
    "cut off before its id": (b'{"jsonrpc":"2.0","method":"tools/call","params":{"id":3,', None, -32700),
    "bytes that are no UTF-8 before the brace": (b"\xff\xfe" + PING, 7, -32700),
    "UTF-16": (PING.decode().encode("utf-16"), 7, -32700),
    "UTF-16 without a mark": (PING.decode().encode("utf-16-be"), 7, -32700),
    "half a character": (PING[:-1] + rb',"params":{"x":"\ud83d"}}', 7, -32700),
    "half a character in its id": (rb'{"jsonrpc":"2.0","id":"\ud83d","method":"ping"}', None, -32700),
    "words": (b"this is not JSON", None, -32700),
    "a bracket": (b"{", None, -32700),
    "single quotes": (b"{'jsonrpc':'2.0','id':7,'method':'ping'}", None, -32700),
    "a trailing comma": (PING[:-1] + b",}", 7, -32700),
    "an id of 1.5": (PING.replace(b"7", b"1.5"), 1.5, -32600),
    "an id of true": (PING.replace(b"7", b"true"), None, -32600),
    "an id of null": (PING.replace(b"7", b"null"), None, -32600),
    "an id in an object": (PING.replace(b"7", b'{"a":1}'), None, -32600),
    "an id in a list": (PING.replace(b"7", b"[7]"), None, -32600),
    "an id that is no number": (PING.replace(b"7", b"NaN"), None, -32600),
    "an id without end": (PING.replace(b"7", b"1e999"), None, -32600),
    "no version": (b'{"id":7,"method":"ping"}', 7, -32600),
    "a number for a method": (b'{"jsonrpc":"2.0","id":7,"method":3}', 7, -32600),
    "parameters in a list": (PING[:-1] + b',"params":[]}', 7, -32600),
    "no method": (b'{"jsonrpc":"2.0","id":7}', 7, -32600),
    "an empty object": (b"{}", None, -32600),
    "a number": (b"3", None, -32600),
    "a text": (b'"ping"', None, -32600),
    "null": (b"null", None, -32600),
    "an empty array": (b"[]", None, -32600),
    "a deep array": (b"[" * 5_000, None, -32700),
}


@pytest.mark.parametrize("era", ERAS)
async def test_a_line_that_is_no_request_gets_one_error_under_its_id_where_that_can_be_read(
    server: MCPServer[LazyStudio], era: str
) -> None:
    found = await answers(server, era, *(line for line, _, _ in ILL.values()))
    assert [(one["id"], one["error"]["code"]) for one in found] == [(number, code) for _, number, code in ILL.values()]
    assert all(one["error"]["message"].endswith(".") for one in found)
    assert sum(len(json.dumps(one)) for one in found) < 300 * len(found)


@pytest.mark.parametrize("case", ["nested 1,000 deep", "words", "an id of 1.5"])
async def test_such_a_line_gets_its_error_before_anything_was_said(server: MCPServer[LazyStudio], case: str) -> None:
    line, number, code = ILL[case]

    async def script(received: Received) -> AsyncIterator[bytes]:
        for one in (line, *opening(ERAS[1])):
            yield one
        await received.until(lambda: received.answers("open"))

    refused, opened = await converse(server, script)
    assert (refused["id"], refused["error"]["code"]) == (number, code)
    assert opened["result"]["protocolVersion"] == ERAS[1]


SILENT = [
    b"",
    b" \t\r",
    b"\0",
    b"\xef\xbb\xbf",
    b'{"jsonrpc":"2.0","id":7,"result":3}',
    b'{"jsonrpc":"2.0","id":7,"result":{"x":' + b"[" * 1_000,
    b'{"jsonrpc":"2.0","id":7,"error":{"code":',
    b'{"jsonrpc":"2.0","id":"unknown","result":{}}',
    b'{"jsonrpc":"2.0","method":"notifications/cancelled","params":[]}',
    b'{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":',
    b'{"jsonrpc":"2.0","id":null,"method":"notifications/roots/list_changed"}',
    rb'{"jsonrpc":"2.0","method":"notifications/progress","params":{"x":"\ud83d"}}',
    b'{"method":"no/such/notification"}',
]


@pytest.mark.parametrize("era", ERAS[:2])
async def test_what_is_blank_or_a_reply_or_a_notification_is_never_answered(
    server: MCPServer[LazyStudio], era: str
) -> None:
    assert await answers(server, era, *SILENT) == []


@pytest.mark.parametrize("era", ERAS[:2])
async def test_marks_and_blanks_around_a_request_and_an_id_written_as_a_fraction_are_accepted(
    server: MCPServer[LazyStudio], era: str
) -> None:
    plain = look(7, era)
    lines = [b"\xef\xbb\xbf" + plain, b" \xef\xbb\xbf\xef\xbb\xbf " + plain + b" \r", plain.replace(b"7", b"7.0", 1)]
    found = await answers(server, era, *lines)
    assert [(one["id"], "result" in one) for one in found] == [(7, True)] * 3


# Any line at all.

WHOLE = [PING, deep(3), request("a\u00e4\U0001f600", "tools/list", x={"id": 9, "method": "y"}), INITIALIZED]
JUNK = [
    b"{",
    b"}",
    b"[",
    b"]",
    b'"',
    b"\\",
    b",",
    b":",
    b"\xff",
    b"\0",
    b"\xed\xa0\x80",
    b"\xef\xbb\xbf",
    b"1",
    b"e",
    b" ",
]


@st.composite
def mangled(draw: st.DrawFn) -> bytes:
    """A line that is nearly a message: pieces of it are cut out, doubled, exchanged or put in."""
    line = draw(st.sampled_from(WHOLE))
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(line)))
        stop = draw(st.integers(start, min(len(line), start + 12)))
        piece = draw(st.sampled_from([b"", line[start:stop] * 2, *JUNK, b"[" * 300, b"9" * 5_000]))
        line = line[:start] + piece + line[stop:]
    return line.replace(b"\n", b"")


def expected(line: bytes) -> bool | None:
    """Whether a line must be answered, by Python's own parser; None where that cannot tell."""
    text = line.strip(b" \t\r\n\0")
    while text.startswith(b"\xef\xbb\xbf"):
        text = text[3:].strip(b" \t\r\n\0")
    if not text:
        return False
    try:
        message = json.loads(text.decode())
    except (ValueError, RecursionError):
        return None
    if not isinstance(message, dict):
        return True
    if "method" not in message:
        return not message.keys() & {"result", "error"}
    return "id" in message and not (message["id"] is None and str(message["method"]).startswith("notifications/"))


@given(mangled() | st.binary(max_size=40).map(lambda line: line.replace(b"\n", b"")))
@settings(max_examples=500)
def test_no_line_is_too_mangled_to_be_judged(line: bytes) -> None:
    found = parse_line(line)
    must = expected(line)
    refused = isinstance(found, ErrorReply)
    if must is False:
        assert not refused
    elif must:
        assert found is not None
    elif refused:
        json.dumps(found.to_line())  # type: ignore[union-attr] # it is one


@given(lines=st.lists(mangled(), min_size=1, max_size=12), era=st.sampled_from(ERAS[:2]))
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_each_mangled_line_gets_at_most_one_answer_and_the_session_lives(
    server: MCPServer[LazyStudio], lines: Sequence[bytes], era: str
) -> None:
    needed = [expected(line) for line in lines]

    async def run() -> list[Any]:
        return await answers(server, era, *lines)

    found = anyio.run(run)
    assert sum(one is True for one in needed) <= len(found) <= sum(one is not False for one in needed)


# Batches.


async def test_a_batch_is_answered_as_a_batch_where_the_revision_has_them(server: MCPServer[LazyStudio]) -> None:
    batch = [
        json.loads(request(1, "ping")),
        json.loads(INITIALIZED),
        json.loads(request(2, "prompts/list")),
        json.loads(request(3, "no/such")),
        json.loads(request(4, "initialize")),
        {"jsonrpc": "2.0", "id": 1.5, "method": "ping"},
        3,
    ]
    (found,) = await answers(server, "2025-03-26", json.dumps(batch).encode())
    codes = {str(one["id"]): one.get("error", {}).get("code") for one in found}
    assert len(found) == 6
    assert codes == {"1": None, "2": None, "3": -32601, "4": -32600, "1.5": -32600, "None": -32600}


async def test_a_batch_of_nothing_that_asks_is_not_answered(server: MCPServer[LazyStudio]) -> None:
    assert await answers(server, "2025-03-26", b"[" + INITIALIZED + b"," + INITIALIZED + b"]") == []


@pytest.mark.parametrize("era", [one for one in ERAS if one != "2025-03-26"])
async def test_a_batch_elsewhere_gets_one_error(server: MCPServer[LazyStudio], era: str) -> None:
    (found,) = await answers(server, era, b"[" + look(1, era) + b"," + look(2, era) + b"]")
    assert (found["id"], found["error"]["code"]) == (None, -32600)
    assert "2025-03-26" in found["error"]["message"]


async def test_a_request_of_a_batch_that_is_taken_back_is_not_waited_for(serve_slow: "Slow") -> None:
    batch = [json.loads(slow(1)), json.loads(request(2, "ping"))]

    async def script(received: Received) -> AsyncIterator[bytes]:
        for line in opening("2025-03-26"):
            yield line
        yield json.dumps(batch).encode()
        await serve_slow.until_served(1)
        yield cancelled(1)
        await received.until(lambda: len(received.lines) == 2)

    _, found = await converse(serve_slow.server, script)
    assert [one["id"] for one in found] == [2]


# How many at once.


def slow(number: int) -> bytes:
    return request(number, "tools/call", name="slow", arguments={})


def cancelled(number: int) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": number}}).encode()


class Nothing(BaseModel):
    """A question without fields."""


class Slow:
    """A server with one tool, whose calls last until they are let go."""

    def __init__(self) -> None:
        self.server: MCPServer[Any] = MCPServer("slow")
        self.served = self.most = self.begun = 0
        self.go = anyio.Event()

        @self.server.tool(name="slow")
        async def run() -> str:
            self.begun += 1
            self.served += 1
            self.most = max(self.most, self.served)
            try:
                await self.go.wait()
            finally:
                self.served -= 1
            return "done"

    async def until_served(self, number: int) -> None:
        with anyio.fail_after(SECONDS):
            while self.served < number:
                await anyio.lowlevel.checkpoint()


@pytest.fixture
async def serve_slow() -> Slow:
    return Slow()


async def test_more_requests_than_are_served_at_once_wait_and_are_all_answered(serve_slow: Slow) -> None:
    many = 600

    async def script(received: Received) -> AsyncIterator[bytes]:
        for line in (*opening(ERAS[1]), *map(slow, range(many))):
            yield line
        await serve_slow.until_served(256)
        yield request("ping", "ping")
        await received.until(lambda: received.answers("ping"))  # what is short goes ahead
        serve_slow.go.set()
        await received.until(lambda: len(received.lines) == many + 2)

    said = await converse(serve_slow.server, script)
    assert {one["id"] for one in said} == {*range(many), "open", "ping"}
    assert serve_slow.most == 256


async def test_a_request_that_is_taken_back_while_it_waits_is_never_served(serve_slow: Slow) -> None:
    async def script(received: Received) -> AsyncIterator[bytes]:
        for line in (*opening(ERAS[1]), *map(slow, range(300))):
            yield line
        await serve_slow.until_served(256)
        for line in map(cancelled, range(290, 300)):
            yield line
        yield cancelled(0)  # its place is the next one's
        await received.until(lambda: serve_slow.begun == 257)
        serve_slow.go.set()
        await received.until(lambda: len(received.lines) == 290)

    said = await converse(serve_slow.server, script)
    assert {one["id"] for one in said} == {*range(1, 290), "open"}
    assert serve_slow.begun == 290


async def test_a_reply_to_the_servers_question_comes_through_while_very_many_wait() -> None:
    server: MCPServer[Any] = MCPServer("asking")

    @server.tool(name="asks")
    async def ask(ctx: Context[Any, Any]) -> str:
        return (await ctx.elicit("Go on?", Nothing)).action

    async def script(received: Received) -> AsyncIterator[bytes]:
        def questions() -> list[Any]:
            return [one["id"] for one in received.lines if one.get("method") == "elicitation/create"]

        def asked() -> bool:
            return len(questions()) > answered

        hello = {"protocolVersion": ERAS[1], "capabilities": {"elicitation": {}}, "clientInfo": CLIENT}
        yield request("open", "initialize", **hello)
        yield INITIALIZED
        for number in range(300):
            yield request(number, "tools/call", name="asks", arguments={})
        await received.until(lambda: len(questions()) == 256)
        for answered in range(300):
            await received.until(asked)
            reply = {"jsonrpc": "2.0", "id": questions()[answered], "result": {"action": "decline"}}
            yield json.dumps(reply).encode()
        await received.until(lambda: sum("result" in one for one in received.lines) == 301)

    said = await converse(server, script)
    results = [one["result"]["content"][0]["text"] for one in said if "result" in one and one["id"] != "open"]
    assert results == ["decline"] * 300
