"""What goes wrong with a connection itself: acted out on the socket that a request came in on.

Each function but `send_zeros` returns only when the client is gone, so that the server finds nothing left to answer.
"""

import asyncio
import mimetypes
import socket
import struct
from http import HTTPStatus

import anyio
from starlette.types import Receive, Scope, Send

from rotoscope_sandbox.faults.error_responses import HttpReply

__all__ = ["CONNECTION", "close", "drain", "hang", "reset", "send_zeros", "trickle", "truncate"]

CONNECTION = "sandbox.transport"
"""The key in `scope["extensions"]` under which the server hands over a request's transport."""

_ZEROS = bytes(64 * 1024)


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


async def truncate(
    transport: asyncio.Transport, receive: Receive, reply: HttpReply, promised: int, sent: int, *, is_reset: bool
) -> None:
    """An answer that promises more bytes than it sends, then ends or is reset."""
    transport.write(_head(reply, promised) + reply.body[:sent].ljust(sent))
    await (reset if is_reset else close)(transport, receive)


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


async def send_zeros(scope: Scope, receive: Receive, send: Send, size: int, *, is_declared: bool) -> None:
    """Zeros until the client goes or the size is reached, whichever comes first.

    Args:
        scope: of the request; the ending of its path decides the content type.
        receive: of the request, whose body has been read.
        send: of the request.
        size: how many bytes.
        is_declared: whether the headers say so.
    """
    kind = mimetypes.guess_type(scope["path"])[0] or "image/jpeg"
    headers = [(b"content-type", kind.encode()), *([(b"content-length", str(size).encode())] if is_declared else [])]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    gone = asyncio.ensure_future(hang(receive))
    try:
        for start in range(0, size, len(_ZEROS)):
            piece = _ZEROS[: min(len(_ZEROS), size - start)]
            await send({"type": "http.response.body", "body": piece, "more_body": start + len(piece) < size})
            # A send that need not wait gives no other task a turn.
            await asyncio.sleep(0)
            if gone.done():
                return
    finally:
        gone.cancel()


def _head(reply: HttpReply, length: int) -> bytes:
    """Status line and headers as they go over the wire; the connection ends with the answer."""
    phrase = HTTPStatus(reply.status).phrase
    fields = {**reply.headers, "content-length": str(length), "connection": "close"}
    lines = [f"HTTP/1.1 {reply.status} {phrase}", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
    return "\r\n".join(lines).encode("latin-1")
