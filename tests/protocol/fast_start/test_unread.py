"""A client that asks and does not read: it holds up neither the handover nor the end, and memory is bounded."""

import json
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rotoscope.cli.stored_replies import FILE
from rotoscope.protocol.fast_start.cached_replies import read_replies
from rotoscope.protocol.fast_start.handshake import Handshake
from rotoscope.protocol.fast_start.session import Session
from rotoscope.protocol.fast_start.writer import Writer

SECONDS = 180
ENDS_SECONDS = 60  # it promises 10; the machine may be busy
STILL_SECONDS = 1.0  # a pipe that takes nothing for so long is not read
PROGRAM = """
import os, sys
from rotoscope.cli.stored_replies import read_stored_replies
from rotoscope.protocol.fast_start.session import serve_process
def load():
    {before}
    from rotoscope.cli import fast_start as handover
    return handover.load_server()
raise SystemExit(serve_process(read_stored_replies(os.environ)[0], load))
"""
HELLO = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "mcp", "version": "1"}}


def line(number: int | None, method: str, params: dict[str, Any] | None = None) -> bytes:
    message = {"jsonrpc": "2.0", "method": method, "params": params or {}} | ({} if number is None else {"id": number})
    return json.dumps(message).encode() + b"\n"


OPENING = line(0, "initialize", HELLO) + line(None, "notifications/initialized")
LOOK = {"name": "list_jobs", "arguments": {}}

Begin = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def begin(tmp_path: Path, home: Path) -> Iterator[Begin]:
    kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    # However slowly the server is loaded on a busy machine, this client waits for the answer to its calls.
    patience = {"ROTOSCOPE_INLINE_SECONDS": str(SECONDS)}
    env = {**kept, **patience, "HOME": str(home), "ROTOSCOPE_HOME": str(tmp_path / "rotoscope")}
    env["PYTHONWARNINGS"] = "error"
    begun: list[subprocess.Popen[bytes]] = []

    def session(before: str = "pass", **more: str) -> "subprocess.Popen[bytes]":
        words, pipe = [sys.executable, "-c", PROGRAM.format(before=before)], subprocess.PIPE
        given = {**env, **more}
        begun.append(subprocess.Popen(words, env=given, cwd=home, stdin=pipe, stdout=pipe, stderr=pipe, bufsize=0))
        return begun[-1]

    yield session
    for process in begun:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            assert stream is not None
            stream.close()


def say(process: "subprocess.Popen[bytes]", words: bytes) -> None:
    assert process.stdin is not None
    process.stdin.write(words)


def talk(process: "subprocess.Popen[bytes]", words: bytes, most: int) -> int:
    """Say the same again and again until nobody reads it; how many bytes were taken."""
    assert process.stdin is not None
    pen, taken = process.stdin.fileno(), 0
    os.set_blocking(pen, False)
    rest = b""
    while taken < most and select.select([], [pen], [], STILL_SECONDS)[1]:
        rest = rest or words
        count = os.write(pen, rest)
        taken, rest = taken + count, rest[count:]
    return taken


def read_all(process: "subprocess.Popen[bytes]", number: int) -> dict[int, Any]:
    assert process.stdout is not None
    reader = process.stdout
    replies: dict[int, Any] = {}
    rest = b""
    while number not in replies:
        rest += os.read(reader.fileno(), 65_536)
        *ended, rest = rest.split(b"\n")
        replies |= {reply["id"]: reply for reply in map(json.loads, ended)}
    return replies


def test_many_requests_that_are_written_before_anything_is_read_are_all_answered(begin: Begin) -> None:
    """Lists of 40 times 20 kB: the pipe to the client holds 64, and the server is loaded all the same."""
    process = begin()
    lists = b"".join(line(number, "tools/list") for number in range(1, 41))
    say(process, OPENING + lists + line(41, "tools/call", LOOK))
    replies = read_all(process, 41)
    assert sorted(replies) == list(range(42))
    assert replies[41]["result"]["structuredContent"]["jobs"] == []


@pytest.mark.parametrize("how", ["end of input", signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
@pytest.mark.parametrize("when", ["opening", "server"])
def test_a_client_that_no_longer_reads_keeps_no_process_alive(
    begin: Begin, how: str | signal.Signals, when: str
) -> None:
    process = begin(before="import time; time.sleep(3600)" if when == "opening" else "pass")
    say(process, OPENING)
    read_all(process, 0)
    if when == "server":
        say(process, line(1, "tools/call", LOOK))
        read_all(process, 1)
    say(process, b"".join(line(number, "tools/list") for number in range(2, 42)))
    if isinstance(how, signal.Signals):
        process.send_signal(how)
    else:
        assert process.stdin is not None
        process.stdin.close()
    codes = {signal.SIGINT: 130, signal.SIGHUP: 129}
    assert process.wait(ENDS_SECONDS) == (codes.get(how, 0) if isinstance(how, signal.Signals) else 0)


@pytest.mark.parametrize("how", ["end of input", "signal"])
def test_a_client_that_asks_without_end_and_reads_nothing_is_read_no_further_and_keeps_no_process_alive(
    begin: Begin, how: str
) -> None:
    process = begin()
    say(process, OPENING + line(1, "tools/call", LOOK))
    read_all(process, 1)
    most = 64 * 1024 * 1024
    assert talk(process, line(2, "tools/list", {"_meta": {"note": "x" * 6_000}}), most) < most
    if how == "signal":
        process.send_signal(signal.SIGTERM)
    else:
        assert process.stdin is not None
        process.stdin.close()
    assert process.wait(ENDS_SECONDS) == 0


def test_a_server_that_cannot_be_loaded_does_not_stay_for_a_client_that_reads_nothing(begin: Begin) -> None:
    process = begin(before="raise OSError")
    say(process, line(0, "no/such"))
    read_all(process, 0)
    say(process, b"".join(line(number, "no/such") for number in range(1, 2_000)))
    process.send_signal(signal.SIGTERM)
    assert process.wait(ENDS_SECONDS) == 0


@pytest.fixture
def unread() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


def test_the_handover_does_not_wait_for_a_client_that_reads_nothing(unread: tuple[int, int]) -> None:
    source, pen = os.pipe()
    session = Session(Handshake(read_replies(FILE)), source, unread[1])
    session.start()
    os.write(pen, OPENING + b"".join(line(number, "tools/list") for number in range(1, 41)))
    arrived, ended = [], threading.Event()

    def deliver(said: bytes | None) -> None:
        arrived.append(said) if said is not None else ended.set()

    os.write(pen, line(99, "no/such"))
    kept, answered = session.hand_over(deliver)
    os.close(pen)
    assert ended.wait(SECONDS)
    assert answered <= {0}
    assert (kept + arrived)[-1] == line(99, "no/such")


def test_a_writer_is_full_while_much_is_unwritten_and_takes_more_when_it_was_read(unread: tuple[int, int]) -> None:
    reading, sink = unread
    writer = Writer(sink, most_bytes=200_000)
    while not writer.is_full:
        writer.put(b"x" * 1_000)
    assert not writer.wait_for_space(0)
    assert not writer.drain(0)
    for _ in range(4):
        os.read(reading, 65_536)
    assert writer.wait_for_space(SECONDS)


def test_a_writer_says_that_its_client_is_gone_and_takes_nothing_more() -> None:
    reading, sink = os.pipe()
    os.close(reading)
    writer, notified = Writer(sink), threading.Event()
    writer.set_listener(lambda: notified.set() if writer.is_broken else None)
    writer.put(b"line\n")
    assert notified.wait(SECONDS)
    assert writer.drain(SECONDS)
    assert not writer.is_full
    with pytest.raises(BrokenPipeError):
        writer.put(b"line\n")
    os.close(sink)
