"""The sandbox over real sockets on 127.0.0.1: what the command runs, and what tests serve inside their process."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from rotoscope_sandbox import Sandbox
from rotoscope_sandbox.certificates import Certificate
from rotoscope_sandbox.faults.connections import CONNECTION
from rotoscope_sandbox.origin_check import OriginCheck

__all__ = ["H11WithTransport", "listen", "serve_in_thread", "serve_sandbox"]

_HOST = "127.0.0.1"
_STOP_SECONDS = 20.0


class H11WithTransport(H11Protocol):
    """HTTP/1.1 as uvicorn speaks it, which also hands each request its transport, so that faults can break it."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        inner = self.app

        async def app(scope: Any, receive: Any, send: Any) -> None:
            scope.setdefault("extensions", {})[CONNECTION] = self.transport
            await inner(scope, receive, send)

        self.app = app


class _Server(uvicorn.Server):
    """Does not wait for clients that hang on a fault: the end cuts every connection."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for connection in list(self.server_state.connections):
            if isinstance(connection, H11WithTransport):
                connection.transport.abort()
        await super().shutdown(sockets)


def _make_server(app: Sandbox, level: str, certificate: Certificate | None = None) -> uvicorn.Server:
    config = uvicorn.Config(
        OriginCheck(app, _public_hosts(app)),
        http=H11WithTransport,
        ws="none",
        loop="asyncio",
        lifespan="off",
        log_level=level,
        access_log=False,
        ssl_certfile=str(certificate.chain) if certificate else None,
        ssl_keyfile=str(certificate.key) if certificate else None,
    )
    return _Server(config)


def _public_hosts(app: Sandbox) -> tuple[str, ...]:
    """The host in the addresses that it hands out, where one was set: a proxy may ask for it by that name."""
    core = getattr(app.state, "core", None) if hasattr(app, "state") else None
    host = urlsplit(getattr(core, "public_url", None) or "").hostname
    return (f"[{host}]" if ":" in host else host,) if host else ()


def listen(port: int = 0) -> socket.socket:
    """A socket that listens on a port of 127.0.0.1, any free one for 0.

    Raises:
        OSError: the port is taken.
    """
    return socket.create_server((_HOST, port))


def serve_sandbox(app: Sandbox, listener: socket.socket, certificate: Certificate | None = None) -> None:
    """Serve until the process is asked to stop; over TLS where there is a certificate."""
    _make_server(app, "warning", certificate).run(sockets=[listener])


@contextmanager
def serve_in_thread(app: Sandbox, port: int = 0, certificate: Certificate | None = None) -> Iterator[str]:
    """Serve from a thread of this process as long as the context lasts; gives the base URL.

    Works in async tests as well: the thread has an event loop of its own.
    """
    with listen(port) as listener:
        server = _make_server(app, "error", certificate)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="sandbox server", daemon=True)
        thread.start()
        try:
            yield f"{'https' if certificate else 'http'}://{_HOST}:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(_STOP_SECONDS)
