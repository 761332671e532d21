"""A client that says much before the server is there: it is read no further until then, and nothing is lost."""

import json
import os
import select
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from rotoscope.protocol.fast_start.handshake import Handshake
from rotoscope.protocol.fast_start.session import Session

SECONDS = 120
STILL_SECONDS = 0.5  # a pipe that takes nothing for so long is not read
MOST = 32 * 1024 * 1024


def request(number: int, size: int) -> bytes:
    line = {"jsonrpc": "2.0", "id": number, "method": "no/such", "params": {"words": "x" * size}}
    return json.dumps(line).encode() + b"\n"


class Chatty:
    """A client whose session is opened and not handed over, and what it has said without being held up."""

    def __init__(self, sink: int) -> None:
        source, self.pen = os.pipe()
        os.set_blocking(self.pen, False)
        self.session = Session(Handshake(None), source, sink)
        self.session.start()
        self.said: list[bytes] = []
        self.rest = b""

    def talk(self, size: int) -> None:
        """Say requests, one after the other, until nobody reads."""
        written = 0
        while written < MOST and select.select([], [self.pen], [], STILL_SECONDS)[1]:
            if not self.rest:
                self.rest = request(len(self.said), size)
                self.said.append(self.rest)
            count = os.write(self.pen, self.rest)
            self.rest, written = self.rest[count:], written + count

    def end(self) -> None:
        """Say the rest of the last line, and close. Somebody must be reading."""
        os.set_blocking(self.pen, True)
        os.write(self.pen, self.rest)
        os.close(self.pen)


@pytest.fixture
def replies(tmp_path: Path) -> Path:
    return tmp_path / "replies"


@pytest.fixture
def chatty(replies: Path) -> Iterator[Chatty]:
    sink = os.open(replies, os.O_CREAT | os.O_WRONLY)
    yield Chatty(sink)
    os.close(sink)


@pytest.mark.parametrize("size", [10, 3_000, 100_000])
def test_a_client_that_says_much_is_read_no_further_until_the_handover_and_all_of_it_arrives(
    chatty: Chatty, size: int
) -> None:
    arrived: list[bytes] = []
    ended = threading.Event()

    def deliver(line: bytes | None) -> None:
        arrived.append(line) if line is not None else ended.set()

    chatty.talk(size)
    kept, answered = chatty.session.hand_over(deliver)
    assert len(kept) <= 1_000
    assert sum(map(len, kept)) < 5 * 1024 * 1024
    assert sum(map(len, chatty.said)) < MOST
    chatty.end()
    assert ended.wait(SECONDS)
    assert kept + arrived == chatty.said
    assert not answered


def test_when_the_server_cannot_be_loaded_a_client_that_sent_much_gets_the_reason_in_reply_to_every_request(
    chatty: Chatty, replies: Path
) -> None:
    begun = threading.Event()

    def refusal(number: int | str) -> bytes:
        begun.set()
        return b"%d\n" % int(number)

    chatty.talk(10)
    refusing = threading.Thread(target=chatty.session.refuse, args=(refusal, 1), daemon=True)
    refusing.start()
    assert begun.wait(SECONDS)
    chatty.end()
    refusing.join(SECONDS)
    assert [int(number) for number in replies.read_text().split()] == list(range(len(chatty.said)))
