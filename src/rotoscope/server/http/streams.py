"""The event streams that are open, so that they can be closed in order: each with a hint when to come again."""

from types import TracebackType
from typing import Self

import anyio
from starlette.types import Message, Receive, Send

__all__ = ["OpenStreams"]

_EVENT_STREAM = b"text/event-stream"


class OpenStreams:
    """Every answer to the MCP endpoint that is under way.

    Args:
        retry_milliseconds: after which a client connects again.
    """

    def __init__(self, retry_milliseconds: int) -> None:
        self._hint = f"retry: {retry_milliseconds}\n\n".encode()
        self._open: set[_Answer] = set()

    def open(self, send: Send, receive: Receive, *, may_end: bool) -> "_Answer":
        """An answer that begins.

        Args:
            send: how it is sent.
            receive: what the client still sends.
            may_end: whether it may be cut off at the end: it answers no call.
        """
        return _Answer(self._open, self._hint, send, receive, may_end=may_end)

    def end(self) -> None:
        """Ask every open stream to end."""
        for one in list(self._open):
            one.ending.set()


class _Answer:
    """One answer: passes on what is sent; at the end an event stream gets its hint, and ends where it may."""

    def __init__(self, among: "set[_Answer]", hint: bytes, send: Send, receive: Receive, *, may_end: bool) -> None:
        self.ending = anyio.Event()
        self._among = among
        self._hint = hint
        self._send = send
        self._receive = receive
        self._may_end = may_end
        self._is_stream = False
        self._is_whole = False
        self._has_hint = False

    def __enter__(self) -> Self:
        self._among.add(self)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._among.discard(self)

    async def send(self, message: Message) -> None:
        """Pass a part of the answer on; in the last parts of a stream, after the hint."""
        if message["type"] == "http.response.start":
            self._is_stream = any(
                name.lower() == b"content-type" and value.startswith(_EVENT_STREAM)
                for name, value in message.get("headers", ())
            )
        else:
            if self._is_stream and self.ending.is_set() and not self._has_hint:
                self._has_hint = True
                message = {**message, "body": self._hint + message.get("body", b"")}
            self._is_whole = not message.get("more_body", False)
        await self._send(message)

    async def finish(self) -> None:
        """End a stream that was cut off in order, so that the client knows it to be whole."""
        if self._is_stream and self.ending.is_set() and not self._is_whole:
            await self.send({"type": "http.response.body", "body": b"", "more_body": False})

    async def receive(self) -> Message:
        """What the client sends; that it has gone, where the process is ending and nothing is owed to it."""
        if not self._may_end:
            return await self._receive()
        found: list[Message] = []
        async with anyio.create_task_group() as tasks:

            async def receive_from_client() -> None:
                found.append(await self._receive())
                tasks.cancel_scope.cancel()

            async def wait_for_end() -> None:
                await self.ending.wait()
                tasks.cancel_scope.cancel()

            tasks.start_soon(receive_from_client)
            tasks.start_soon(wait_for_end)
        return found[0] if found else {"type": "http.disconnect"}
