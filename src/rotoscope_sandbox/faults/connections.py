"""What goes wrong with a connection itself: acted out on the socket that a request came in on.

Each function returns only when the client is gone, so that the server finds nothing left to answer.
"""

import asyncio
import socket
import struct
from http import HTTPStatus

import anyio
from starlette.types import Receive

from rotoscope_sandbox.faults.refusals import Reply

__all__ = ["CONNECTION", "close", "drained", "hang", "reset", "slow_body", "slow_headers", "truncate"]

CONNECTION = "sandbox.transport"
"""The key in `scope["extensions"]` under which the server hands over a request's transport."""

_PROMISED = 500
_SENT = 6


async def drained(receive: Receive) -> None:
    """Reads the rest of a request; returns early if the client has gone."""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            return


async def hang(receive: Receive) -> None:
    """Says nothing until the client goes."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def _gone(receive: Receive, seconds: float) -> bool:
    """Whether the client goes within some seconds."""
    with anyio.move_on_after(seconds) as waiting:
        await hang(receive)
    return not waiting.cancelled_caught


async def reset(transport: asyncio.Transport, receive: Receive) -> None:
    """A connection reset by peer (RST), not an orderly end."""
    peer: socket.socket | None = transport.get_extra_info("socket")
    if peer is not None:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
    await hang(receive)


async def close(transport: asyncio.Transport, receive: Receive) -> None:
    """An orderly end with what has been sent so far, be it nothing."""
    transport.close()
    await hang(receive)


async def truncate(transport: asyncio.Transport, receive: Receive, reply: Reply) -> None:
    """An answer that promises 500 bytes, sends 6, and ends."""
    promised = {**reply.headers, "content-length": str(_PROMISED)}
    transport.write(_head(Reply(reply.status, promised)) + reply.body[:_SENT].ljust(_SENT))
    await close(transport, receive)


async def slow_headers(transport: asyncio.Transport, receive: Receive, reply: Reply, interval: float) -> None:
    """The whole answer, a byte at a time, from the first one on."""
    await _trickle(transport, receive, _head(_measured(reply)) + reply.body, interval)


async def slow_body(transport: asyncio.Transport, receive: Receive, reply: Reply, interval: float) -> None:
    """The headers at once, then the body a byte at a time."""
    transport.write(_head(_measured(reply)))
    await _trickle(transport, receive, reply.body, interval)


async def _trickle(transport: asyncio.Transport, receive: Receive, content: bytes, interval: float) -> None:
    for place in range(len(content)):
        transport.write(content[place : place + 1])
        if await _gone(receive, interval):
            return
    await close(transport, receive)


def _measured(reply: Reply) -> Reply:
    return Reply(reply.status, {**reply.headers, "content-length": str(len(reply.body))})


def _head(reply: Reply) -> bytes:
    """Status line and headers as they go over the wire; the connection ends with the answer."""
    phrase = HTTPStatus(reply.status).phrase
    fields = {**reply.headers, "connection": "close"}
    lines = [f"HTTP/1.1 {reply.status} {phrase}", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
    return "\r\n".join(lines).encode("latin-1")
