"""What goes wrong with a connection itself: acted out on the socket that a request came in on.

Each function returns only when the client is gone, so that the server finds nothing left to answer.
"""

import asyncio
import socket
import struct
from http import HTTPStatus

import anyio
from starlette.types import Receive

from rotoscope_sandbox.faults.error_responses import HttpReply

__all__ = ["CONNECTION", "close", "drain", "hang", "reset", "trickle", "truncate"]

CONNECTION = "sandbox.transport"
"""The key in `scope["extensions"]` under which the server hands over a request's transport."""

_PROMISED = 500  # bytes
_SENT = 6  # bytes


async def drain(receive: Receive) -> None:
    """Reads the rest of a request; returns early if the client has gone."""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            return


async def hang(receive: Receive) -> None:
    """Answers nothing until the client goes."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def reset(transport: asyncio.Transport, receive: Receive) -> None:
    """A connection reset by peer (RST), not an orderly end."""
    peer: socket.socket | None = transport.get_extra_info("socket")
    if peer is not None:
        # To linger for 0 seconds means to drop what is unsent and to reset.
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
    await hang(receive)


async def close(transport: asyncio.Transport, receive: Receive) -> None:
    """An orderly end after what has been sent so far, be it nothing."""
    transport.close()
    await hang(receive)


async def truncate(transport: asyncio.Transport, receive: Receive, reply: HttpReply) -> None:
    """An answer that promises 500 bytes, sends 6, and ends."""
    transport.write(_head(reply, _PROMISED) + reply.body[:_SENT].ljust(_SENT))
    await close(transport, receive)


async def trickle(
    transport: asyncio.Transport, receive: Receive, reply: HttpReply, interval: float, *, is_head_slow: bool
) -> None:
    """The whole answer a byte at a time, with some seconds between two bytes; its headers at once unless asked for."""
    content = _head(reply, len(reply.body)) + reply.body
    at_once = 0 if is_head_slow else len(content) - len(reply.body)
    transport.write(content[:at_once])
    for place in range(at_once, len(content)):
        transport.write(content[place : place + 1])
        with anyio.move_on_after(interval):
            await hang(receive)
            return
    await close(transport, receive)


def _head(reply: HttpReply, length: int) -> bytes:
    """Status line and headers as they go over the wire; the connection ends with the answer."""
    phrase = HTTPStatus(reply.status).phrase
    fields = {**reply.headers, "content-length": str(length), "connection": "close"}
    lines = [f"HTTP/1.1 {reply.status} {phrase}", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
    return "\r\n".join(lines).encode("latin-1")
