"""What the MCP endpoint takes of one principal at once: requests and streams; and how long a body may take to come."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import anyio
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rotoscope.protocol.requests import set_arrival_time
from rotoscope.server.http.drain import Drain
from rotoscope.server.http.guard import Refusal
from rotoscope.server.http.limits import HttpLimits
from rotoscope.server.http.streams import OpenStreams

__all__ = ["RequestAdmission"]

_LISTEN = b"subscriptions/listen"
_AGAIN = {"retry-after": "1"}


class RequestAdmission:
    """Serves a request where its principal has not too many open, and the process is not ending.

    Args:
        app: the MCP endpoint.
        limits: what is taken.
        drain: says when the process is ending.
        find_principal: on whose behalf a request comes, by its scope.
    """

    def __init__(self, app: ASGIApp, limits: HttpLimits, drain: Drain, find_principal: Callable[[Scope], str]) -> None:
        self._app = app
        self._limits = limits
        self._drain = drain
        self._find_principal = find_principal
        self._open: Counter[tuple[str, bool]] = Counter()
        self._streams = OpenStreams(limits.retry_milliseconds)
        drain.on_begin(self._streams.end)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        set_arrival_time(time.monotonic())
        if self._drain.is_draining:
            await _refuse(503, "This server is ending. Connect again.", scope, receive, send)
            return
        key = (self._find_principal(scope), _is_stream(scope))
        most = self._limits.streams_per_principal if key[1] else self._limits.requests_per_principal
        if self._open[key] >= most:
            what = "streams" if key[1] else "requests"
            await _refuse(429, f"You have {most} {what} open, which is the most. Wait for one.", scope, receive, send)
            return
        with self._counted(key):
            await self._serve(scope, receive, send)

    @contextmanager
    def _counted(self, key: tuple[str, bool]) -> Iterator[None]:
        self._open[key] += 1
        try:
            yield
        finally:
            self._open[key] -= 1
            if not self._open[key]:
                del self._open[key]

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await _read_body(receive, self._limits) if scope["method"] == "POST" else b""
        if isinstance(body, Refusal):
            await body.response()(scope, receive, send)
        elif body is not None:
            stream = self._streams.open(send, receive, may_end=scope["method"] == "GET")
            with stream:
                await self._app(scope, _after_body(body, stream.receive), stream.send)
                await stream.finish()


async def _refuse(status: int, sentence: str, scope: Scope, receive: Receive, send: Send) -> None:
    await Refusal(status, sentence, _AGAIN).response()(scope, receive, send)


def _is_stream(scope: Scope) -> bool:
    """Whether the answer stays open: what the server tells by itself."""
    return scope["method"] == "GET" or any(
        name == b"mcp-method" and value.strip() == _LISTEN for name, value in scope["headers"]
    )


async def _read_body(receive: Receive, limits: HttpLimits) -> bytes | Refusal | None:
    """The whole body; None where the client has gone."""
    body = bytearray()
    with anyio.move_on_after(limits.body_seconds):
        while True:
            message = await receive()
            if message["type"] != "http.request":
                return None
            body += message.get("body", b"")
            if len(body) > limits.body_bytes:
                most = f"{limits.body_bytes // (1024 * 1024)} MiB"
                return Refusal(
                    413, f"Send at most {most} at once; give media by an https URL.", {"connection": "close"}
                )
            if not message.get("more_body", False):
                return bytes(body)
    return Refusal(408, f"The request did not come within {limits.body_seconds:g} s.", {"connection": "close"})


def _after_body(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives a body that was read, then what comes."""
    given = False

    async def receive_body() -> Message:
        nonlocal given
        if not given:
            given = True
            return {"type": "http.request", "body": body, "more_body": False}
        return await receive()

    return receive_body
