"""How the bytes of an output go wrong (F24, F25): cut, replaced or endless; never more than a piece in memory."""

import asyncio
import mimetypes
from collections.abc import Callable
from dataclasses import dataclass, field

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rotoscope_sandbox.faults import connections

__all__ = ["send_spoiled", "send_zeros"]

_TEXT = b"This is not the file that you paid for."
_CHUNK = bytes(64 * 1024)


async def send_spoiled(
    app: ASGIApp, scope: Scope, receive: Receive, send: Send, kind: str, transport: asyncio.Transport | None
) -> None:
    """Sends what the app would send, spoiled.

    Args:
        app: knows the true file.
        scope: of the request.
        receive: of the request.
        send: of the request.
        kind: `short` or `reset` (F24), `type` or `broken` (F25).
        transport: the connection; what is cut short needs one.
    """
    cut = _Cut(send, spoil=_SPOILS[kind])
    await app(scope, receive, cut)
    if transport is not None and cut.unfinished:
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
class _Spoil:
    """What is sent for a file of so many bytes: how many are promised, how many come, and a text in their place."""

    promised: Callable[[int], int]
    sent: Callable[[int], int]
    text: bytes = b""


_SPOILS = {
    "short": _Spoil(lambda size: size, lambda size: size // 2),
    "reset": _Spoil(lambda size: size, lambda size: size // 2),
    "broken": _Spoil(lambda size: size // 2, lambda size: size // 2),
    "type": _Spoil(lambda _: len(_TEXT), lambda _: len(_TEXT), _TEXT),
}


@dataclass(slots=True)
class _Cut:
    """A `send` that lets only some of a file through; what is no file passes whole."""

    send: Send
    spoil: _Spoil
    left: int = -1
    unfinished: bool = field(default=False)

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            await self.send(self._begun(message))
        elif self.left < 0:
            await self.send(message)
        else:
            await self._some(message)

    def _begun(self, message: Message) -> Message:
        size = next((int(value) for name, value in message["headers"] if name.lower() == b"content-length"), None)
        if size is None or message["status"] // 100 != 2:  # noqa: PLR2004 - any success
            return message
        self.left = self.spoil.sent(size)
        self.unfinished = self.left < self.spoil.promised(size)
        replaced = {b"content-length": str(self.spoil.promised(size)).encode()}
        headers = [(name, replaced.get(name.lower(), value)) for name, value in message["headers"]]
        return {**message, "headers": headers}

    async def _some(self, message: Message) -> None:
        if self.spoil.text:
            if not message.get("more_body", False):
                await self.send({"type": "http.response.body", "body": self.spoil.text})
            return
        piece = message.get("body", b"")[: self.left]
        self.left -= len(piece)
        over = not message.get("more_body", False)
        if piece or (over and not self.unfinished):
            await self.send({"type": "http.response.body", "body": piece, "more_body": not over or self.unfinished})
