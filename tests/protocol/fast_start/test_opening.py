"""The opening against the server itself: whatever a client says, it gets the same replies with the front as without."""

import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

import anyio
import anyio.lowlevel
import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcp.server.mcpserver import MCPServer
from mcp_types import jsonrpc_message_adapter

from rotoscope.cli.fast_start import serve_lines
from rotoscope.cli.stored_replies import FILE
from rotoscope.protocol.fast_start.cached_replies import CachedReplies, read_replies
from rotoscope.protocol.fast_start.handshake import Handshake
from rotoscope.server.lazy_studio import LazyStudio

Message = dict[str, Any]
MODERN = "2026-07-28"
TURNS = 100  # of the event loop; a reply takes about ten, and no thread takes part
LISTS = ("tools/list", "resources/list", "resources/templates/list", "prompts/list")
CHEAP = ("resources/list", "prompts/list")  # the server takes long to word the tools
DEEP = json.loads("[" * 220 + "]" * 220)
CLIENTS: tuple[Any, ...] = (
    {"name": "c", "version": "1"}, {"name": "c", "version": "1", "title": "C", "websiteUrl": "https://c.example"},
    {"name": "c", "version": "1", "icons": [{"src": "https://c.example/i.png", "mimeType": "image/png"}]},
    {"name": "c", "version": "1", "icons": [{"src": "https://c.example/i.png", "sizes": ["48x48"]}]},
    {"name": "c", "version": "1", "icons": "none"}, {"name": "c"}, {"name": 1, "version": "1"}, "c", None,
    {"name": "c", "version": "1", "title": None}, {"name": "c", "version": "1", "title": 1},
    {"name": "\ud83d", "version": "1"}, {"name": "\U0001f600", "version": "1"},
)  # fmt: skip
CAPABILITIES: tuple[Any, ...] = (
    {}, {"roots": {"listChanged": True}}, {"roots": {"listChanged": "perhaps"}}, {"roots": True}, {"elicitation": {}},
    {"elicitation": {"form": {"applyDefaults": True}, "url": {}}}, {"elicitation": {"form": True}}, None, [],
    {"sampling": {"tools": {}}}, {"tasks": {"list": {}}}, {"tasks": {"list": True}},
    {"extensions": {"a/b": {"mimeTypes": ["x"], "deep": [{"a": None}]}}}, {"extensions": {"a/b": True}},
    {"experimental": {"x": {"y": 1}}}, {"experimental": 1}, {"unknown": {"x": {}}}, {"unknown": 3},
)  # fmt: skip
PARAMS: tuple[Any, ...] = (..., None, {}, {"cursor": "x"}, {"cursor": None}, {"_meta": None}, {"a": 1})
METAS: tuple[Any, ...] = (
    {}, {"progressToken": 1}, {"progressToken": "p"}, {"progressToken": 1.5}, {"progressToken": None}, {"note": [1]},
    {"note": "\ud83d"}, {"note": "\U0001f600"}, {"\ude00": 1}, {"note": DEEP}, {"note": float("inf")},
    {"io.modelcontextprotocol/logLevel": "info"}, {"io.modelcontextprotocol/logLevel": "loud"},
)  # fmt: skip


@pytest.fixture(scope="module")
def replies() -> CachedReplies:
    found = read_replies(FILE)
    assert found is not None
    return found


def message(method: str, params: object = ...) -> Message:
    return {"jsonrpc": "2.0", "id": 0, "method": method} | ({} if params is ... else {"params": params})


def envelope(version: object = MODERN, client: object = CLIENTS[0], capabilities: object = ..., **more: Any) -> Message:
    meta = {"protocolVersion": version, "clientInfo": client, "clientCapabilities": capabilities}
    meta_fields = {f"io.modelcontextprotocol/{key}": value for key, value in meta.items() if value is not ...}
    return {"_meta": {**meta_fields, **more}}


def initialize(version: object = "2025-11-25", client: object = CLIENTS[0], capabilities: object = ...) -> Message:
    given = {"protocolVersion": version, "clientInfo": client, "capabilities": capabilities}
    return message("initialize", {key: value for key, value in given.items() if value is not ...})


def notice(method: str, **params: Any) -> Message:
    return {"jsonrpc": "2.0", "method": method, "params": params}


VERSIONS: tuple[Any, ...] = ("2024-11-05", "2025-03-26", "2025-06-18", MODERN, "1999-01-01", 3, None, ...)
versions = st.sampled_from(VERSIONS)
clients, capabilities = st.sampled_from([*CLIENTS, ...]), st.sampled_from([*CAPABILITIES, ...])
methods = st.sampled_from([*CHEAP, "ping", "server/discover", "no/such", "completion/complete"])
# One part at a time is unusual: two would hide each other.
initializes = st.one_of(
    st.builds(initialize, versions, capabilities=st.just({})),
    st.builds(initialize, client=clients, capabilities=st.just({})),
    st.builds(initialize, capabilities=capabilities),
)
envelopes = st.one_of(
    st.builds(envelope, versions, capabilities=st.just({})),
    st.builds(envelope, client=clients, capabilities=st.just({})),
    st.builds(envelope, capabilities=capabilities),
)
usual = st.sampled_from(
    [
        initialize(capabilities={}),
        notice("notifications/initialized"),
        *(message(method, {}) for method in CHEAP),
        *(message(method, envelope(capabilities={})) for method in ("server/discover", *CHEAP)),
        message("ping"),
    ]
)
unusual = st.one_of(
    initializes,
    st.builds(message, methods, envelopes),
    st.builds(message, methods, st.builds(lambda meta: envelope(capabilities={}, **meta), st.sampled_from(METAS))),
    st.builds(message, methods, st.sampled_from(METAS).map(lambda meta: {"_meta": meta})),
    st.builds(
        message, methods, st.sampled_from([..., None, {}, {"cursor": "x"}, {"cursor": None}, {"_meta": None}, {"a": 1}])
    ),
    st.just(notice("notifications/cancelled", requestId=0)),
    st.just({"jsonrpc": "2.0", "id": 5, "result": {}}),
    st.sampled_from([{"jsonrpc": "1.0", "id": 0, "method": "ping"}, {"jsonrpc": "2.0", "id": None, "method": "ping"}]),
    st.just({**message("ping"), "extra": 1}),
)
"""What a client may say, right and wrong, where a stored reply might or might not cover it."""


def numbered(messages: Sequence[Message]) -> list[bytes]:
    """Requests get ids of their own, alternately numbers and texts."""
    numbers = [number if number % 2 else str(number) for number in range(len(messages))]
    numbered = [{**m, "id": n} if m.get("id") == 0 else m for n, m in zip(numbers, messages, strict=True)]
    return [json.dumps(m).encode() + b"\n" for m in numbered]


async def served(server: MCPServer[LazyStudio], said: Sequence[bytes], answered: set[int | str]) -> dict[Any, Message]:
    """The server's replies to a client that waits after each line."""
    replies: dict[Any, Message] = {}

    async def lines() -> AsyncIterator[bytes]:
        for line in said:
            yield line
            for _ in range(TURNS):
                await anyio.lowlevel.checkpoint()

    async def write(line: bytes) -> None:
        reply = json.loads(line)
        nulls = sum(str(one).startswith("null") for one in replies)  # each line without an id has its own answer
        number = f"null {nulls}" if reply["id"] is None else reply["id"]
        assert number not in replies
        replies[number] = reply

    with anyio.fail_after(180):
        await serve_lines(server, lines(), write, answered)
    return replies


def with_the_front(
    server: MCPServer[LazyStudio], stored: CachedReplies, said: Sequence[bytes], early: int
) -> dict[Any, Message]:
    """The replies when the first `early` lines come before the server is there."""
    opening = Handshake(stored)
    found = [json.loads(reply) for reply in map(opening.answer_line, said[:early]) if reply is not None]
    replies = {reply["id"]: reply for reply in found}
    late = anyio.run(served, server, [*opening.pending_lines, *said[early:]], opening.answered_ids)
    assert not set(replies) & set(late), "answered twice"
    return {**replies, **late}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> MCPServer[LazyStudio]:
    """One server for all examples: nothing here opens its studio."""
    from rotoscope.composition import build_stdio_server
    from rotoscope.settings import read_settings

    home = tmp_path_factory.mktemp("home")
    return build_stdio_server(read_settings({"ROTOSCOPE_HOME": str(home)}), home, home)


@hypothesis.settings(max_examples=300)
@given(st.data())
@pytest.mark.slow
def test_a_client_gets_the_same_replies_with_the_front_as_without(
    shared: MCPServer[LazyStudio], replies: CachedReplies, data: st.DataObject
) -> None:
    said = numbered(data.draw(st.lists(st.one_of(usual, unusual), min_size=1, max_size=6)))
    early = data.draw(st.integers(1, len(said)))
    assert with_the_front(shared, replies, said, early) == anyio.run(served, shared, said, set())


def taken(opening: Handshake, *messages: Message) -> list[bool]:
    return [opening.answer_line(line) is not None for line in numbered(messages)]


@pytest.mark.parametrize("client", [CLIENTS[0], CLIENTS[1], CLIENTS[2]])
@pytest.mark.parametrize("capabilities", [CAPABILITIES[0], CAPABILITIES[1], CAPABILITIES[5], CAPABILITIES[12]])
def test_real_clients_are_answered_from_the_store(
    replies: CachedReplies, client: Message, capabilities: Message
) -> None:
    """As Claude Code, the Inspector and the SDKs introduce themselves."""
    opening = initialize("2025-06-18", client, capabilities)
    rest = [message(method, {"_meta": {"progressToken": 1}}) for method in LISTS]
    assert taken(Handshake(replies), opening, notice("notifications/initialized"), *rest) == [True, False, *[True] * 4]
    meta = envelope(client=client, capabilities=capabilities, progressToken=2)
    assert all(taken(Handshake(replies), *(message(method, meta) for method in ("server/discover", *LISTS))))


def test_a_probe_decides_nothing(replies: CachedReplies) -> None:
    probe = message("server/discover", envelope(capabilities={}))
    assert taken(Handshake(replies), probe, initialize(capabilities={}), message("tools/list")) == [True] * 3
    assert taken(Handshake(replies), probe, message("tools/list", envelope(capabilities={})), probe) == [True] * 3


def test_a_listening_stream_decides_the_era_and_what_follows_is_still_answered(replies: CachedReplies) -> None:
    """Claude Code opens with a probe, a listen stream, another probe, and the lists."""
    meta = envelope(capabilities={})
    opening = Handshake(replies)
    assert taken(opening, message("server/discover", meta)) == [True]
    methods = ("server/discover", "subscriptions/listen", "server/discover", "tools/list")
    assert taken(opening, *(message(method, meta) for method in methods)) == [True, False, True, True]
    assert len(opening.pending_lines) == 1
    assert taken(opening, initialize(capabilities={})) == [False]


def test_only_what_settles_the_session_is_said_again_to_the_server(replies: CachedReplies) -> None:
    opening = Handshake(replies)
    taken(opening, initialize(capabilities={}), notice("notifications/initialized"), *map(message, LISTS))
    assert [json.loads(line)["method"] for line in opening.pending_lines] == ["initialize", "notifications/initialized"]
    assert opening.answered_ids == {"0"}


def test_without_stored_replies_everything_is_kept(replies: CachedReplies) -> None:
    opening = Handshake(None)
    said = [initialize(capabilities={}), message("ping"), message("server/discover", envelope(capabilities={}))]
    assert taken(opening, *said) == [False] * 3
    assert (opening.pending_lines, opening.answered_ids) == (numbered(said), set())


def noted(value: bytes) -> bytes:
    """A line that is a request but for the value of a note."""
    return b'{"jsonrpc": "2.0", "id": 7, "method": "ping", "params": {"_meta": {"note": %s}}}\n' % value


NOT_UNDERSTOOD = {
    "cut": b"{\n",
    "batch": b"[]\n",
    "not UTF-8": b"\xff\xfe{}\n",
    "marked": b"\xef\xbb\xbf{}\n",
    "deep": b"[" * 20_000 + b"\n",
    "a long number": b"1" * 5_000,
    "long": b" " * 70_000 + b"{}\n",
    "half a character": noted(b'"\\ud83d"'),
    "its other half": noted(b'"\\uDE00"'),
    "halves the wrong way": noted(b'"\\ude00\\ud83d"'),
    "half a character before a whole one": noted(b'"\\ud83d\\ud83d\\ude00"'),
    "half a character behind a backslash": noted(b'"\\\\\\ud83d"'),
    "half a character that is overwritten": noted(b'"\\ud83d", "note": 1'),
    "half a character in a name": noted(b'{"\\ud83d": 1}'),
    "deep inside": noted(b"[" * 220 + b"]" * 220),
    "a long fraction": noted(b"0." + b"1" * 5_000),
}


@pytest.mark.parametrize("line", NOT_UNDERSTOOD.values(), ids=NOT_UNDERSTOOD)
def test_after_a_line_that_cannot_be_understood_nothing_more_is_answered(replies: CachedReplies, line: bytes) -> None:
    opening = Handshake(replies)
    assert opening.answer_line(line) is None
    assert taken(opening, initialize(capabilities={})) == [False]
    assert opening.pending_lines[0] == line


@pytest.mark.parametrize(
    "note", [b'"\\ud83d\\ude00"', b'"\\uD83D\\uDE00\\u00e4\\ud7ff\\ue000"', b'"\\\\ud83d"', '"\U0001f600"'.encode()]
)
def test_whole_characters_however_written_are_understood(replies: CachedReplies, note: bytes) -> None:
    assert Handshake(replies).answer_line(noted(note)) is not None


pieces = st.sampled_from(
    ["\\ud83d", "\\uDE00", "\\u00e4", "\\\\", '\\"', "\\n", "u", "d83d", "\\u", "dD", "00", "\U0001f600"]
)
escaped = st.lists(pieces, max_size=6).map(lambda parts: f'"{"".join(parts)}"')
numbers = st.builds(
    lambda digits, rest: "1" * digits + rest, st.integers(4_200, 4_400), st.sampled_from(["", ".5", "e9"])
)
nested = st.integers(100, 250).map(lambda depth: "[" * depth + "]" * depth)


@given(escaped | numbers | nested)
def test_what_the_front_answers_the_servers_parser_takes(replies: CachedReplies, value: str) -> None:
    line = noted(value.encode())
    if Handshake(replies).answer_line(line) is not None:
        assert jsonrpc_message_adapter.validate_json(line, by_name=False)


def test_a_blank_line_changes_nothing(replies: CachedReplies) -> None:
    opening = Handshake(replies)
    assert opening.answer_line(b"\r\n") is None
    assert taken(opening, initialize(capabilities={})) == [True]


names = st.text(max_size=3) | st.sampled_from(["_meta", "capabilities", "clientInfo", "protocolVersion"])
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=8,
)


@given(st.sampled_from(["initialize", "ping", "server/discover", *LISTS, "x"]), json_values, json_values)
def test_no_message_breaks_the_front(replies: CachedReplies, method: str, params: object, number: object) -> None:
    line = json.dumps({"jsonrpc": "2.0", "id": number, "method": method, "params": params}).encode()
    opening = Handshake(replies)
    reply = opening.answer_line(line)
    assert reply is None or json.loads(reply)["id"] == number
    assert reply is not None or opening.pending_lines == [line]


@given(st.binary(max_size=60))
def test_no_line_breaks_the_front(replies: CachedReplies, line: bytes) -> None:
    assert Handshake(replies).answer_line(line) is None
