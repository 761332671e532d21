"""Lines from the input: cut within bounds, and the outline of one that nobody parses."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rotoscope.protocol.fast_start.handshake import Handshake
from rotoscope.protocol.fast_start.session import Session
from rotoscope.protocol.lines import LongLine, MessageOutline, read_lines, read_outline

MIB = 1024 * 1024


def reading(*chunks: bytes) -> Callable[[], bytes]:
    left = iter(chunks)
    return lambda: next(left, b"")


def cut(*chunks: bytes, longest: int = 100) -> list[bytes | int | float | str | None]:
    """The lines; of one that is too long the id."""
    lines = read_lines(reading(*chunks), longest)
    return [line.outline.request_id if isinstance(line, LongLine) else line for line in lines]


@given(st.lists(st.binary(min_size=1, max_size=9), max_size=9))
def test_lines_are_whole_wherever_the_input_is_cut(chunks: list[bytes]) -> None:
    lines = [line for line in cut(*chunks, longest=10_000) if isinstance(line, bytes)]  # none is too long
    assert b"".join(lines) == b"".join(chunks)
    assert all(line.count(b"\n") == line.endswith(b"\n") for line in lines)


def long(number: int, size: int, *, id_first: bool) -> bytes:
    members = {"jsonrpc": "2.0", "method": "x", "params": {"id": 3, "words": "y" * size}}
    message = {"id": number, **members} if id_first else {**members, "id": number}
    return json.dumps(message).encode() + b"\n"


@pytest.mark.parametrize("id_first", [True, False])
@pytest.mark.parametrize("step", [1, 7, 64])
def test_of_a_line_that_is_too_long_the_id_is_known_and_the_next_line_is_whole(step: int, *, id_first: bool) -> None:
    said = b"first\n" + long(7, 500, id_first=id_first) + b"last"
    chunks = [said[at : at + step] for at in range(0, len(said), step)]
    assert cut(*chunks) == [b"first\n", 7, b"last"]
    assert cut(said[:300], longest=100)[-1] == (7 if id_first else None)


MEASURE_LONG_LINE = """
import tracemalloc
from rotoscope.protocol.lines import read_lines

def cut_in_chunks():
    yield b'{"jsonrpc":"2.0","id":7,"method":"x","params":"'
    for _ in range(1_600):
        yield b"y" * 65_536
    yield b'"}\\n'

chunks = cut_in_chunks()
tracemalloc.start()
(line,) = read_lines(lambda: next(chunks, b""), 1024 * 1024)
print(tracemalloc.get_traced_memory()[1], type(line).__name__, line.outline.request_id)
"""


def test_a_line_that_is_too_long_is_not_held() -> None:
    """In a process of its own: in this one the threads of other tests may allocate meanwhile."""
    command = [sys.executable, "-c", MEASURE_LONG_LINE]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    most_bytes, kind, request_id = done.stdout.split()
    assert int(most_bytes) < 4 * MIB
    assert (kind, request_id) == ("LongLine", "7")


ids = st.integers(-(10**30), 10**30) | st.text(max_size=20).filter(lambda text: text.isprintable())
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(ids, json_values, st.permutations(["jsonrpc", "id", "method", "params"]), st.booleans(), st.integers(1, 40))
def test_the_id_of_a_request_is_found_without_parsing_it(
    number: int | str, params: object, order: list[str], ascii_only: bool, step: int
) -> None:
    message = {"jsonrpc": "2.0", "id": number, "method": "x", "params": params}
    line = json.dumps({name: message[name] for name in order}, ensure_ascii=ascii_only).encode()
    outline = MessageOutline()
    for at in range(0, len(line), step):
        outline.add(line[at : at + step])
    assert outline.request_id == number
    assert outline.is_answer_expected
    assert outline.is_whole


@pytest.mark.parametrize(
    ("line", "request_id"),
    [
        (b'{"params":{"id":3},"method":"x","id":7', 7),
        (b'{"params":["id",3,{"id":4}],"method":"x"', None),
        (b'{"note":"\\"id\\":3","method":"x"', None),
        (b'{"\\u0069d":7,"method":"x"}', 7),
        (b'{"id":7,"id":8,"method":"x"}', 8),
        (b'{"id":"' + b"7" * 1_000 + b'","method":"x"}', None),
        (b'{"id":' + b"7" * 1_000 + b',"method":"x"}', None),
        (b'{"id":Infinity,"method":"x"}', None),
        (b"[[" * 1_000_000, None),
        (b'{"a":' + b"[]," * 1_000_000 + b'"id":7}', None),
        (b'{"id":7,"a":' + b"[]," * 1_000_000, 7),
        (b"", None),
    ],
)
def test_an_id_is_taken_from_the_outermost_object_alone(line: bytes, request_id: int | None) -> None:
    outline = read_outline(line)
    assert (outline.request_id if outline else None) == request_id


@given(st.binary(max_size=80))
def test_no_bytes_break_an_outline(line: bytes) -> None:
    outline = read_outline(line)
    assert outline is None or (outline.is_answer_expected in {True, False} and json.dumps(outline.request_id))


class Client:
    """Says something to a session that is opened and not handed over, and reads what it is answered."""

    def __init__(self, replies: Path) -> None:
        self.replies = replies
        source, self.pen = os.pipe()
        self.session = Session(Handshake(None), source, os.open(replies, os.O_CREAT | os.O_WRONLY))
        self.session.start()

    def say(self, *words: bytes) -> None:
        for one in words:
            rest = memoryview(one)
            while rest:
                rest = rest[os.write(self.pen, rest) :]

    def answered_ids(self) -> list[object]:
        assert self.session.writer.drain(30)
        return [json.loads(line)["id"] for line in self.replies.read_text().splitlines()]


@pytest.fixture
def client(tmp_path: Path) -> Client:
    return Client(tmp_path / "replies")


def test_a_line_of_many_megabytes_is_answered_by_one_error_at_once_and_the_session_goes_on(client: Client) -> None:
    arrived: list[bytes | None] = []
    client.session.hand_over(arrived.append)
    head, notice = b'{"jsonrpc":"2.0","id":7,"method":"x","params":"', b'{"jsonrpc":"2.0","method":"x","params":"'
    for start in (head, notice, b'{"jsonrpc":"2.0","id":8,"result":"'):
        client.say(start, *[b"y" * MIB] * 21, b'"}\n')
    client.say(b"next\n")
    os.close(client.pen)
    client.session._reader.join(30)
    assert arrived == [b"next\n", None]
    assert client.answered_ids() == [7]
    assert "20 MiB" in client.replies.read_text()


def test_where_the_server_cannot_be_loaded_every_line_that_can_have_an_answer_gets_one(client: Client) -> None:
    said = [
        b'{"jsonrpc":"2.0","id":1,"method":"x"}',
        b'{"jsonrpc":"2.0","method":"x"}',
        b'{"jsonrpc":"2.0","id":2,"method":"x","params":' + b"[" * 2_000,
        b'{"jsonrpc":"2.0","id":3,"result":{}}',
        b"",
        b'{"jsonrpc":"2.0","id":1.5,"method":"x"}',
        b"what?",
        b"[]",
    ]
    client.say(*(line + b"\n" for line in said))
    pens = [client.pen]

    def refuse(number: object) -> bytes:
        # The input ends when it is known that the server cannot be loaded: an end before that ends the process.
        while pens:
            os.close(pens.pop())
        return json.dumps({"id": number}).encode() + b"\n"

    client.session.refuse(refuse, 1)
    assert client.answered_ids() == [1, 2, 1.5, None, None]
