"""A client over HTTP that speaks to an ASGI app in this process, in both eras, with streams that need not end."""

import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import anyio
from calls import SECONDS
from starlette.types import ASGIApp, Message

__all__ = ["Answer", "HttpCaller"]

_MODERN = "2026-07-28"
_HANDSHAKE = "2025-11-25"
_NAMED_BY = {
    "tools/call": "name",
    "prompts/get": "name",
    "resources/read": "uri",
    "tasks/get": "taskId",
    "tasks/update": "taskId",
    "tasks/cancel": "taskId",
}


@dataclass(frozen=True)
class Answer:
    """What came back: the status, the headers by lower-case name, the body, and the message that ends a call."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    message: dict[str, Any] = field(default_factory=dict)

    def comparable(self) -> str:
        """Everything that a client can see, but for what differs between any two requests."""
        dated = {"date", "mcp-session-id", "x-request-id", "content-length"}
        shown = {name: value for name, value in self.headers.items() if name not in dated}
        message = {name: value for name, value in self.message.items() if name != "id"}
        body = "" if self.message else self.body.decode()
        return json.dumps([self.status, shown, message, body], sort_keys=True)


class HttpCaller:
    """Sends requests with one bearer token.

    Args:
        app: the server.
        token: the bearer token; empty: none is sent.
        session: the session of the handshake era; None: the era of 2026-07-28.
    """

    def __init__(self, app: ASGIApp, token: str, session: str | None = None) -> None:
        self._app = app
        self._token = token
        self.session = session
        self._ids = itertools.count(1)

    async def initialize(self, capabilities: Mapping[str, Any] | None = None) -> "HttpCaller":
        """A client with a session of the handshake era."""
        info = {"name": "tests", "version": "1"}
        params = {"protocolVersion": _HANDSHAKE, "capabilities": capabilities or {}, "clientInfo": info}
        answer = await self.send(
            "POST", "/mcp", {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params}, {}, ends_with=0
        )
        assert answer.status == 200, answer
        client = HttpCaller(self._app, self._token, answer.headers["mcp-session-id"])
        note = {"jsonrpc": "2.0", "method": "notifications/initialized"}
        accepted = await client.send("POST", "/mcp", note, client._handshake_headers())
        assert accepted.status == 202, accepted
        return client

    async def call(self, method: str, *, capabilities: Mapping[str, Any] | None = None, **params: Any) -> Answer:
        """The answer to one MCP request; a stream is read to the message that answers it, or that acknowledges it."""
        number = next(self._ids)
        headers = self._handshake_headers()
        if self.session is None:
            declared = capabilities or {"extensions": {"io.modelcontextprotocol/tasks": {}}}
            meta = {
                "io.modelcontextprotocol/protocolVersion": _MODERN,
                "io.modelcontextprotocol/clientCapabilities": declared,
            }
            params = {**params, "_meta": meta}
            headers = {"mcp-protocol-version": _MODERN, "mcp-method": method}
            if method in _NAMED_BY:
                headers["mcp-name"] = str(params.get(_NAMED_BY[method]))
        request = {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
        return await self.send("POST", "/mcp", request, headers, ends_with=number)

    async def ask(self, method: str, **params: Any) -> dict[str, Any]:
        """The message that answers a request."""
        return (await self.call(method, **params)).message

    def _handshake_headers(self) -> dict[str, str]:
        return {} if self.session is None else {"mcp-session-id": self.session, "mcp-protocol-version": _HANDSHAKE}

    async def send(
        self,
        method: str,
        path: str,
        message: object = None,
        headers: Mapping[str, str] | None = None,
        ends_with: int | None = None,
    ) -> Answer:
        """Send one HTTP request and read its answer, of a stream as much as up to a certain message.

        Args:
            method: of HTTP.
            path: with its query.
            message: the body as JSON, or as bytes.
            headers: beside the usual ones.
            ends_with: the id of the message with which a stream counts as read.
        """
        body = message if isinstance(message, bytes) else b"" if message is None else json.dumps(message).encode()
        usual = {
            "host": "rotoscope.example",
            "accept": "application/json, text/event-stream",
            "content-type": "application/json",
            "content-length": str(len(body)),
            **({"authorization": f"Bearer {self._token}"} if self._token else {}),
            **(headers or {}),
        }
        place, _, query = path.partition("?")
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "https",
            "path": place,
            "raw_path": place.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [(name.encode(), value.encode()) for name, value in usual.items()],
            "client": ("127.0.0.1", 1),
            "server": ("rotoscope.example", 443),
            "state": {},
        }
        with anyio.fail_after(SECONDS):
            return await _exchange(self._app, scope, body, ends_with)


async def _exchange(app: ASGIApp, scope: dict[str, Any], body: bytes, ends_with: int | None) -> Answer:
    sending, receiving = anyio.create_memory_object_stream[Message](64)
    gone = anyio.Event()
    to_send = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        if to_send:
            return to_send.pop()
        await gone.wait()
        return {"type": "http.disconnect"}

    async def run() -> None:
        async with sending:
            await app(scope, receive, sending.send)

    async with anyio.create_task_group() as tasks, receiving:
        tasks.start_soon(run)
        answer = await _read_answer(receiving, ends_with)
        gone.set()
        if "method" in answer.message:
            tasks.cancel_scope.cancel()  # else the app comes to its own end
    return answer


async def _read_answer(messages: Any, ends_with: int | None) -> Answer:
    status, headers, content = 0, {}, b""
    found: dict[str, Any] | None = None
    async for one in messages:
        if one["type"] == "http.response.start":
            status = one["status"]
            headers = {name.decode().lower(): value.decode() for name, value in one["headers"]}
            continue
        content += one.get("body", b"")
        found = found or _find_message(headers, content, ends_with)
        # A stream that was acknowledged goes on; whatever else was answered ends, and is not cut off before.
        if not one.get("more_body") or (found is not None and "method" in found):
            break
    return Answer(status, headers, content, found or {})


def _find_message(headers: Mapping[str, str], content: bytes, ends_with: int | None) -> dict[str, Any] | None:
    """The message that answers a request, or that acknowledges a stream, if it is there."""
    if ends_with is None:
        return None
    if not headers.get("content-type", "").startswith("text/event-stream"):
        try:
            found = json.loads(content)
        except ValueError:
            return None
        return found if isinstance(found, dict) else None
    for line in content.decode().splitlines():
        if not line.startswith("data:") or not line[5:].strip():
            continue
        try:
            found = json.loads(line[5:])
        except ValueError:
            continue  # the rest of it is on its way
        if found.get("id") == ends_with or found.get("method") == "notifications/subscriptions/acknowledged":
            return dict(found)
    return None
