"""One process that serves the app over sockets: uvicorn, with bounded headers and time, and an end in order."""

import asyncio
import contextlib
import logging
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

import anyio
import h11
import uvicorn
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from rotoscope.errors import InvalidInput
from rotoscope.server.http.addresses import ListenAddress
from rotoscope.server.http.drain import Drain
from rotoscope.server.http.guard import ABORT
from rotoscope.server.http.limits import HttpLimits

__all__ = ["ServedApp", "bind_listener", "serve_app"]

_BACKLOG = 512
_SPARE_FILES = 100  # descriptors for everything else than connections
_SENTENCES = {431: "The headers are too large.", 400: "This is no HTTP request."}


class ServedApp(Protocol):
    """An ASGI app that serves while `running` is entered."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        ...

    def running(self) -> AbstractAsyncContextManager[None]:
        """The time in which it serves."""
        ...


def bind_listener(address: ListenAddress) -> socket.socket:
    """A socket that listens; its port is the real one.

    Raises:
        InvalidInput: nothing can listen there.
    """
    try:
        family = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((address.host, address.port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise InvalidInput(
            f"--http {address.host}:{address.port} cannot be listened on: {error.strerror or error}.",
            hint="Choose another port, or port 0 for any free one.",
        ) from error


async def serve_app(
    app: ServedApp,
    listener: socket.socket,
    limits: HttpLimits,
    drain: Drain,
    asked_to_end: anyio.Event,
    on_ready: Callable[[], None] = lambda: None,
) -> None:
    """Serve until the process is asked to end; then what is under way is answered, for some seconds.

    Cancelling this ends it at once: jobs are still handed over in order.

    Args:
        app: what is served.
        listener: where.
        limits: what is taken.
        drain: begun when the process is asked to end.
        asked_to_end: is set when it is.
        on_ready: called when requests are answered.
    """
    server = _Server(_make_config(app, limits), on_ready)

    async def end_when_asked() -> None:
        await asked_to_end.wait()
        drain.begin()
        server.should_exit = True

    logging.getLogger("uvicorn.error").addFilter(_is_no_cancellation)
    async with app.running(), anyio.create_task_group() as tasks:
        tasks.start_soon(end_when_asked)
        await server.serve(sockets=[listener])
        tasks.cancel_scope.cancel()


def _is_no_cancellation(record: logging.LogRecord) -> bool:
    """Whether a line of uvicorn's log is about something else than a request that was ended with the process."""
    return record.exc_info is None or not isinstance(record.exc_info[1], asyncio.CancelledError)


def _make_config(app: ServedApp, limits: HttpLimits) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=_protocol_class(limits),
        ws="none",
        loop="asyncio",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # whoever calls can write them; the public address is a setting
        limit_concurrency=_connection_limit(limits.connections),
        h11_max_incomplete_event_size=2 * limits.header_bytes,
        timeout_keep_alive=int(limits.idle_seconds),
        timeout_graceful_shutdown=int(limits.drain_seconds),
    )


def _connection_limit(wanted: int) -> int:
    """As many connections as the system has files for; it is asked for more where it has too few."""
    try:
        import resource
    except ImportError:  # Windows
        return wanted
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted + _SPARE_FILES:
        most = wanted + _SPARE_FILES if hard == resource.RLIM_INFINITY else min(wanted + _SPARE_FILES, hard)
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
            soft = most
        return max(min(wanted, soft - _SPARE_FILES), 1)
    return wanted


class _Server(uvicorn.Server):
    """Leaves the signals to the command, which ends more than this server; says when it has started."""

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_ready()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _protocol_class(limits: HttpLimits) -> type[H11Protocol]:
    class Protocol(_BoundedH11):
        header_seconds = limits.header_seconds

    return Protocol


class _BoundedH11(H11Protocol):
    """HTTP/1.1 as uvicorn speaks it, with a bound on the time in which a request's head must come.

    Each request can break its connection off, by an extension of its scope.
    """

    header_seconds = 15.0

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._head_timer: asyncio.TimerHandle | None = None
        inner = self.app

        async def app(scope: Any, receive: Any, send: Any) -> None:
            scope.setdefault("extensions", {})[ABORT] = self.transport.abort
            await inner(scope, receive, send)

        self.app = app

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Count the time from here."""
        super().connection_made(transport)
        self._set_head_timer()

    def data_received(self, data: bytes) -> None:
        """Count the time while the head of a request is not whole."""
        super().data_received(data)
        if self.conn.their_state is h11.IDLE and self.conn.trailing_data[0]:
            self._set_head_timer()
        else:
            self._unset_head_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing more is waited for."""
        self._unset_head_timer()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """Answer what is no request, with the status that says why."""
        error = sys.exception()
        status = error.error_status_hint if isinstance(error, h11.RemoteProtocolError) else 400
        sentence = f"{_SENTENCES.get(status, msg)}\n".encode()
        headers = [
            (b"content-type", b"text/plain; charset=utf-8"),
            (b"content-length", str(len(sentence)).encode()),
            (b"connection", b"close"),
        ]
        for event in (h11.Response(status_code=status, headers=headers), h11.Data(data=sentence), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def _set_head_timer(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(self.header_seconds, self.transport.abort)

    def _unset_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
