"""How the bytes of an output go wrong (`truncated-output`, `damaged-output`): cut, replaced or endless.

Never more than a piece is in memory.
"""

import asyncio
import mimetypes
from collections.abc import Callable
from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rotoscope_sandbox.faults import connections

__all__ = ["send_damaged", "send_zeros"]

_TEXT = b"This is not the file that you paid for."
_CHUNK = bytes(64 * 1024)


async def send_damaged(
    app: ASGIApp, scope: Scope, receive: Receive, send: Send, kind: str, transport: asyncio.Transport | None
) -> None:
    """Sends what the app would send, damaged.

    Args:
        app: knows the true file.
        scope: of the request.
        receive: of the request.
        send: of the request.
        kind: `short` or `reset` (`truncated-output`), `type` or `broken` (`damaged-output`).
        transport: the connection; what is cut short needs one.
    """
    damaging = _DamagingSend(send, _DAMAGES[kind])
    await app(scope, receive, damaging)
    if transport is not None and damaging.is_unfinished:
        end = connections.reset if kind == "reset" else connections.close
        await end(transport, receive)


async def send_zeros(path: str, receive: Receive, send: Send, size: int, *, declared: bool) -> None:
    """Sends zeros until the client goes or the size is reached, whichever comes first.

    Args:
        path: its ending tells the content type.
        receive: of the request, whose body has been read.
        send: of the request.
        size: how many bytes.
        declared: whether the headers say so.
    """
    kind = mimetypes.guess_type(path)[0] or "image/jpeg"
    headers = [(b"content-type", kind.encode()), *([(b"content-length", str(size).encode())] if declared else [])]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    gone = asyncio.ensure_future(connections.hang(receive))
    try:
        for start in range(0, size, len(_CHUNK)):
            piece = _CHUNK[: min(len(_CHUNK), size - start)]
            await send({"type": "http.response.body", "body": piece, "more_body": start + len(piece) < size})
            # A send that need not wait gives nobody else a turn.
            await asyncio.sleep(0)
            if gone.done():
                return
    finally:
        gone.cancel()


@dataclass(frozen=True, slots=True)
class _Damage:
    """What is sent for a file of so many bytes: how many are promised, how many come, and a text in their place."""

    promised_size: Callable[[int], int]
    sent_size: Callable[[int], int]
    text: bytes = b""


_DAMAGES = {
    "short": _Damage(lambda size: size, lambda size: size // 2),
    "reset": _Damage(lambda size: size, lambda size: size // 2),
    "broken": _Damage(lambda size: size // 2, lambda size: size // 2),
    "type": _Damage(lambda _: len(_TEXT), lambda _: len(_TEXT), _TEXT),
}


@dataclass(slots=True)
class _DamagingSend:
    """A `send` that lets only some of a file through; what is no file passes whole."""

    send: Send
    damage: _Damage
    bytes_left: int = -1
    is_unfinished: bool = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            await self.send(self._start(message))
        elif self.bytes_left < 0:
            await self.send(message)
        else:
            await self._send_part(message)

    def _start(self, message: Message) -> Message:
        size = next((int(value) for name, value in message["headers"] if name.lower() == b"content-length"), None)
        if size is None or message["status"] // 100 != 2:  # noqa: PLR2004 - any success
            return message
        self.bytes_left = self.damage.sent_size(size)
        promised = self.damage.promised_size(size)
        self.is_unfinished = self.bytes_left < promised
        replaced = {b"content-length": str(promised).encode()}
        headers = [(name, replaced.get(name.lower(), value)) for name, value in message["headers"]]
        return {**message, "headers": headers}

    async def _send_part(self, message: Message) -> None:
        is_last = not message.get("more_body", False)
        if self.damage.text:
            if is_last:
                await self.send({"type": "http.response.body", "body": self.damage.text})
            return
        piece = message.get("body", b"")[: self.bytes_left]
        self.bytes_left -= len(piece)
        # The server would close an unfinished answer in its own way: `send_damaged` ends it.
        if piece or (is_last and not self.is_unfinished):
            await self.send(
                {"type": "http.response.body", "body": piece, "more_body": not is_last or self.is_unfinished}
            )
