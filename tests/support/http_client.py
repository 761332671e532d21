"""HTTP inside one process: an app is asked as over a socket, also for answers that are read while they are written."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import anyio
import anyio.abc
import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from rotoscope.composition.http import HttpServing

__all__ = ["BASE", "PORT", "HttpBuilder", "InProcess", "connect", "http_client", "running"]

PORT = 8000
HttpBuilder = Callable[..., HttpServing]
BASE = f"http://127.0.0.1:{PORT}"


class InProcess(httpx2.AsyncBaseTransport):
    """Calls an ASGI app; each request runs in a task group, and its answer is given as soon as its head is there."""

    def __init__(self, app: Any, tasks: anyio.abc.TaskGroup, peer: tuple[str, int] = ("127.0.0.1", 50_000)) -> None:
        self.app, self.tasks, self.peer = app, tasks, peer

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        exchange = _Exchange(await request.aread())
        self.tasks.start_soon(exchange.run, self.app, _scope_of(request, self.peer))
        await exchange.has_head.wait()
        if exchange.error is not None:
            raise exchange.error
        return httpx2.Response(exchange.status, headers=exchange.headers, stream=_Body(exchange))


def _scope_of(request: httpx2.Request, peer: tuple[str, int]) -> dict[str, Any]:
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": request.method,
        "headers": [(name.lower(), value) for name, value in request.headers.raw],
        "scheme": request.url.scheme,
        "path": request.url.path,
        "raw_path": request.url.raw_path.split(b"?")[0],
        "query_string": request.url.query,
        "server": ("127.0.0.1", PORT),
        "client": peer,
        "root_path": "",
    }


class _Exchange:
    """One request and its answer."""

    def __init__(self, body: bytes) -> None:
        self.body: list[bytes] = [body]
        self.has_head = anyio.Event()
        self.is_gone = anyio.Event()
        self.status, self.headers = 500, list[tuple[bytes, bytes]]()
        self.error: Exception | None = None
        self.chunks, self.incoming = anyio.create_memory_object_stream[bytes](16)

    async def run(self, app: Any, scope: dict[str, Any]) -> None:
        async with self.chunks:
            try:
                await app(scope, self.receive, self.send)
            except Exception as error:  # noqa: BLE001 - it is raised where the request was made
                self.error = error
            finally:
                self.has_head.set()

    async def receive(self) -> dict[str, Any]:
        if self.body:
            return {"type": "http.request", "body": self.body.pop(), "more_body": False}
        await self.is_gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.status, self.headers = message["status"], list(message.get("headers", ()))
            self.has_head.set()
        elif message.get("body") and not self.is_gone.is_set():
            try:
                await self.chunks.send(message["body"])
            except (anyio.BrokenResourceError, anyio.ClosedResourceError):
                self.is_gone.set()


@dataclass
class _Body(httpx2.AsyncByteStream):
    exchange: _Exchange

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self.exchange.incoming:
            yield chunk

    async def aclose(self) -> None:
        self.exchange.is_gone.set()
        self.exchange.incoming.close()


@asynccontextmanager
async def running(serving: HttpServing, **headers: str) -> AsyncIterator[httpx2.AsyncClient]:
    """The app, running, and a client of it."""
    async with serving.app.running(), http_client(serving.app, **headers) as client:
        yield client


@asynccontextmanager
async def http_client(app: Any, base: str = BASE, **headers: str) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of an app that runs already; its requests have one id, so that whole answers can be compared."""
    headers = {"x-request-id": "of-a-test", **headers}
    async with anyio.create_task_group() as tasks:
        async with httpx2.AsyncClient(
            transport=InProcess(app, tasks), base_url=base, headers=headers, timeout=None
        ) as client:
            yield client
        tasks.cancel_scope.cancel()


@asynccontextmanager
async def connect(client: httpx2.AsyncClient, mode: str, **options: Any) -> AsyncIterator[Client]:
    """The SDK's client of one protocol era, over HTTP."""
    url = str(client.base_url).rstrip("/") + "/mcp"
    async with Client(streamable_http_client(url, http_client=client), mode=mode, **options) as connected:
        yield connected
