"""Limits on what is read of a response: replies, their values, the lines of a stream, a file that comes too slowly."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from recorder import Recorder

from rotoscope.errors import ReplyLost, SlowHost
from rotoscope.models.catalog import load_catalog, manifest_folder
from rotoscope.providers.dialects import DIALECTS
from rotoscope.providers.http.client import ProviderAccess, Wire
from rotoscope.providers.http.downloads import MIN_BYTES_PER_SECOND, require_minimum_speed, stream_lines
from rotoscope.providers.http.messages import ECHO_BYTES, REPLY_BYTES, HttpCall, Reply
from rotoscope.providers.recent import MAX_ROWS
from rotoscope.providers.states import Call

pytestmark = pytest.mark.anyio
URL = "https://sandbox.invalid/v1/p"


def wire_to(app: Recorder) -> Wire:
    return Wire({"p": ProviderAccess("Authorization", "Bearer ", "key-of-a-test")}, frozenset({"sandbox.invalid"}), app)


@pytest.mark.parametrize("bound", [REPLY_BYTES, ECHO_BYTES])
async def test_a_reply_is_read_up_to_the_limit_of_its_request(bound: int) -> None:
    call = HttpCall("GET", URL, max_reply_bytes=bound)
    assert len((await wire_to(Recorder(body=b" " * bound)).send("p", call)).body) == bound
    with pytest.raises(ReplyLost, match="larger"):
        await wire_to(Recorder(body=b" " * (bound + 1))).send("p", call)


@pytest.mark.parametrize(
    "body",
    [
        b"[" + b"[]," * 600_000 + b"[]]",
        b"[" + b"0," * 600_000 + b"0]",
        b"[" * 101 + b"]" * 101,
        b'{"a":' * 150 + b"1" + b"}" * 150,
        b"[" * 1_000_000,
        json.dumps({"status": "succeeded"}).encode("utf-16"),
        json.dumps({"status": "succeeded"}).encode("utf-32-le"),
        b'{"a": "\xff"}',
    ],
    ids=["many lists", "many numbers", "deep lists", "deep objects", "open lists", "UTF-16", "UTF-32", "no UTF-8"],
)
def test_a_reply_of_too_many_or_too_deep_values_or_in_another_encoding_is_no_json(body: bytes) -> None:
    assert Reply(200, body=body).json() is None
    assert Reply(200, body=body).fields() == {}


def test_an_ordinary_reply_is_read_whatever_its_texts_contain() -> None:
    known = {"logs": "[,{" * 200_000, "output": [["deep"]], "image": "x" * 1_000_000}
    assert Reply(200, body=json.dumps({"input": known}).encode()).fields() == {"input": known}
    assert Reply(200, body=b"\xef\xbb\xbf{}").json() == {}


async def sent(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def test_the_lines_of_a_stream_are_complete_however_its_chunks_are_cut() -> None:
    calls: list[None] = []
    parts = (b"data: a\r", b"\ndata: b\nda", b"ta: c\n\n", b"data: d")
    lines = [line async for line in stream_lines(sent(*parts), lambda: calls.append(None)) if line]
    assert lines == [b"data: a", b"data: b", b"data: c", b"data: d"]
    assert len(calls) >= len(lines)


async def test_an_endless_line_or_stream_is_not_read_on() -> None:
    taken = [0]

    async def endless(part: bytes) -> AsyncIterator[bytes]:
        while True:
            taken[0] += len(part)
            yield part

    async for _ in stream_lines(endless(b"x" * 65_536), lambda: None):
        raise AssertionError
    assert taken[0] < 1024 * 1024
    taken[0] = 0
    async for _ in stream_lines(endless(b"data: x\n" * 8192), lambda: None):
        pass
    assert taken[0] < 64 * 1024 * 1024


async def test_the_client_ends_a_stream_without_line_ends(tmp_path: Path) -> None:
    events: list[str] = []
    await wire_to(Recorder(body=b"data: x\n" + b"y" * 3_000_000)).listen("p", HttpCall("GET", URL), events.append)
    assert events == ["x"]


@pytest.mark.parametrize(
    ("speed", "slow"), [(1, True), (MIN_BYTES_PER_SECOND - 1, True), (MIN_BYTES_PER_SECOND, False), (10**6, False)]
)
async def test_a_download_below_the_minimum_speed_is_given_up(speed: int, slow: bool) -> None:
    clock = [0.0]

    async def body() -> AsyncIterator[bytes]:
        for _ in range(120):
            clock[0] += 1
            yield b"x" * speed

    pieces = require_minimum_speed(body(), lambda: clock[0])
    if not slow:
        assert len([piece async for piece in pieces]) == 120
        return
    with pytest.raises(SlowHost):
        async for _ in pieces:
            pass
    assert clock[0] <= 31


async def test_a_pause_of_this_process_is_no_slowness_of_the_host() -> None:
    clock = [0.0]

    async def body() -> AsyncIterator[bytes]:
        yield b"x" * 100_000
        clock[0] += 86_400
        yield b"x" * 100_000

    assert len([piece async for piece in require_minimum_speed(body(), lambda: clock[0])]) == 2


@pytest.mark.parametrize("wire", ["replicate", "fal", "segmind"])
def test_a_page_of_a_list_is_read_up_to_a_limit_and_is_then_incomplete(wire: str) -> None:
    provider = load_catalog(manifest_folder()).providers[wire]
    dialect, call = DIALECTS[provider.dialect](provider.bases), Call(wire, "owner/model", {})
    row = {"input": {}, "json_input": {}, "request_body": {}, "request_id": "p1", "id": "p1"}
    for rows, read in ((50, 50), (MAX_ROWS + 5_000, MAX_ROWS)):
        listed = [row] * rows
        reply = Reply(200, body=json.dumps({"results": listed, "items": listed, "data": listed}).encode())
        page = dialect.read_recent(reply, call)
        assert len(page.predictions) == read
        assert page.is_complete is (read == rows)
        assert len(dialect.read_runs(reply, "owner/model").rows) <= read
