"""Connections over real sockets: slow, malformed and too many ones; and a client that reads nothing of its answer."""

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import anyio
import anyio.abc
import pytest
from calls import SECONDS

from rotoscope.server.http.addresses import ListenAddress, build_access_rules
from rotoscope.server.http.drain import Drain
from rotoscope.server.http.guard import Guard
from rotoscope.server.http.limits import HttpLimits
from rotoscope.server.http.serving import bind_listener, serve_app

pytestmark = pytest.mark.anyio


class App:
    """Stands for the app: answers every request with some bytes; its path says how many millions."""

    def __init__(self, port: int, limits: HttpLimits) -> None:
        self.ended = anyio.Event()
        self.limits, self.rules = limits, build_access_rules(ListenAddress("127.0.0.1", port), None, ())

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        yield

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        guarded = Guard(self.answer, self.rules, self.limits)
        await guarded(scope, receive, send)

    async def answer(self, scope: Any, receive: Any, send: Any) -> None:
        size = int(scope["path"].strip("/") or 0)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(size):
            await send({"type": "http.response.body", "body": bytes(1_000_000), "more_body": True})
        await send({"type": "http.response.body", "body": b"done"})
        self.ended.set()


@asynccontextmanager
async def listening(**limits: Any) -> AsyncIterator[tuple[App, int]]:
    decided, ready, asked = replace(HttpLimits(), **limits), anyio.Event(), anyio.Event()
    with bind_listener(ListenAddress("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        app = App(port, decided)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(serve_app, app, listener, decided, Drain(), asked, ready.set)
            await ready.wait()
            yield app, port
            asked.set()


def get(port: int, path: str = "/", more: str = "") -> bytes:
    return f"GET {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\n{more}\r\n".encode()


async def read_to_end(stream: anyio.abc.ByteReceiveStream) -> bytes:
    """What comes until the other end closes."""
    found = b""
    with anyio.fail_after(SECONDS):
        try:
            while True:
                found += await stream.receive()
        except (anyio.EndOfStream, anyio.BrokenResourceError):
            return found


@pytest.mark.parametrize("sent", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nhost: x\r\nx: "])
async def test_a_connection_whose_request_does_not_come_is_closed(sent: bytes) -> None:
    async with listening(header_seconds=0.05) as (_, port), await anyio.connect_tcp("127.0.0.1", port) as stream:
        if sent:
            await stream.send(sent)
        assert await read_to_end(stream) == b""


async def test_a_second_request_must_come_in_time_too() -> None:
    async with listening(header_seconds=0.05) as (_, port), await anyio.connect_tcp("127.0.0.1", port) as stream:
        await stream.send(get(port))
        with anyio.fail_after(SECONDS):
            while b"done" not in await stream.receive():
                pass
        await stream.send(b"GET / HT")
        assert b"200" not in await read_to_end(stream)


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET / HTTP/1.1\r\nx: " + b"a" * 70_000, b"431"),
        (b"garbage\r\n\r\n", b"400"),
        (b"\x16\x03\x01\x02\r\n\r\n", b"400"),
    ],
)
async def test_what_is_no_request_is_answered_in_a_sentence(sent: bytes, status: bytes) -> None:
    async with listening() as (_, port), await anyio.connect_tcp("127.0.0.1", port) as stream:
        await stream.send(sent)
        answer = await read_to_end(stream)
        assert answer.startswith(b"HTTP/1.1 " + status)
        assert answer.rstrip().endswith(b".")


async def test_more_connections_than_may_be_are_turned_away() -> None:
    async with listening(connections=3) as (_, port):
        kept = [await anyio.connect_tcp("127.0.0.1", port) for _ in range(3)]
        for stream in kept:
            await stream.send(get(port, more="connection: close\r\n"))
        answers = [await read_to_end(stream) for stream in kept]
        assert b"503" in answers[0]
        for stream in kept:
            await stream.aclose()


async def test_a_client_that_takes_nothing_of_its_answer_is_cut_off() -> None:
    async with listening(chunk_seconds=0.05) as (app, port):
        with socket.create_connection(("127.0.0.1", port)) as lazy:
            lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            lazy.sendall(get(port, "/64"))
            with anyio.fail_after(SECONDS):
                await app.ended.wait()


async def test_no_name_of_the_software_is_sent() -> None:
    async with listening() as (_, port), await anyio.connect_tcp("127.0.0.1", port) as stream:
        await stream.send(get(port, more="connection: close\r\n"))
        assert b"server:" not in (await read_to_end(stream)).lower()
