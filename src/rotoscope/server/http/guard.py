"""The guard in front of every route: exact Host and Origin sets, bounded headers, JSON alone for the MCP endpoint.

The SDK's own check compares beginnings, and lets `localhost:1:2` and `http://localhost:8000.evil.example` through. A
web page whose name was made to point to this machine is stopped by its Host, any other page by its Origin.
"""

from dataclasses import dataclass, field

import anyio
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rotoscope.server.http.addresses import AccessRules
from rotoscope.server.http.limits import HttpLimits

__all__ = ["MCP_PATH", "Guard", "Refusal", "judge_request"]

MCP_PATH = "/mcp"
_EXPOSED = b"Mcp-Session-Id, MCP-Protocol-Version, WWW-Authenticate, Location, Retry-After, Content-Range, ETag"
_METHODS = "GET, HEAD, POST, PUT, PATCH, DELETE"
_PREFLIGHT_SECONDS = "600"
_MAX_ASKED_HEADERS = 1000  # characters
_HEADER_NAMES = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_, ")


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is not served: a status, and a sentence that says what to change."""

    status: int
    sentence: str
    headers: dict[str, str] = field(default_factory=dict)

    def response(self) -> Response:
        """As an answer; the connection may go on."""
        return PlainTextResponse(f"{self.sentence}\n", self.status, {"cache-control": "no-store", **self.headers})


def judge_request(rules: AccessRules, limits: HttpLimits, scope: Scope) -> Refusal | None:
    """Why a request is refused by its head alone; None where it may go on."""
    headers: list[tuple[bytes, bytes]] = scope["headers"]
    if len(headers) > limits.header_count or sum(len(n) + len(v) for n, v in headers) > limits.header_bytes:
        return Refusal(
            431, f"Send at most {limits.header_count} headers and {limits.header_bytes // 1024} KiB of them."
        )
    if not _is_known_host(rules, scope):
        return Refusal(421, "This server has no such name. Call it by its public address (ROTOSCOPE_PUBLIC_URL).")
    origins = _values(scope, b"origin")
    is_open = scope["path"].startswith(rules.open_paths)
    if origins and not is_open and (len(origins) > 1 or origins[0].lower() not in rules.origins):
        return Refusal(403, "Pages of this origin may not call this server (ROTOSCOPE_ALLOWED_ORIGINS).")
    if scope["method"] == "POST" and scope["path"] == MCP_PATH and not _is_json(_values(scope, b"content-type")):
        return Refusal(415, "Send the request as application/json.")
    return None


def _is_known_host(rules: AccessRules, scope: Scope) -> bool:
    found = _values(scope, b"host")
    if len(found) != 1:
        return False
    host = found[0].lower()
    if host in rules.hosts:
        return True
    server = scope.get("server")
    if server is None or scope["path"] not in rules.probe_paths:
        return False
    address = f"[{server[0]}]" if ":" in server[0] else server[0]
    return host == f"{address}:{server[1]}"


def _is_json(content_types: list[str]) -> bool:
    return len(content_types) == 1 and content_types[0].partition(";")[0].strip().lower() == "application/json"


def _values(scope: Scope, name: bytes) -> list[str]:
    """Every value of a header, as sent."""
    return [value.decode("latin-1") for known, value in scope["headers"] if known == name]


@dataclass(frozen=True, slots=True)
class Guard:
    """Serves what passes, and answers the rest; adds what pages of the allowed origins need (CORS)."""

    app: ASGIApp
    rules: AccessRules
    limits: HttpLimits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return  # the process runs the lifespan itself, and speaks nothing else
        refusal = judge_request(self.rules, self.limits, scope)
        if refusal is not None:
            await refusal.response()(scope, receive, send)
            return
        origin = next(iter(_values(scope, b"origin")), None)
        known = origin is not None and origin.lower() in self.rules.origins
        if known and origin is not None and scope["method"] == "OPTIONS" and _values(scope, _ASKED_METHOD):
            await _preflight_response(origin, scope)(scope, receive, send)
            return
        timed = _TimedSend(_with_origin(send, origin) if known and origin is not None else send, scope, self.limits)
        await self.app(scope, _TimedReceive(receive, self.limits), timed)


_ASKED_METHOD = b"access-control-request-method"
_ASKED_HEADERS = b"access-control-request-headers"


def _preflight_response(origin: str, scope: Scope) -> Response:
    """What a page may send: the origin is trusted, so any header, also one that a tool's schema asks for."""
    asked = ", ".join(_values(scope, _ASKED_HEADERS))[:_MAX_ASKED_HEADERS]
    headers = {
        "access-control-allow-origin": origin,
        "access-control-allow-methods": _METHODS,
        "access-control-max-age": _PREFLIGHT_SECONDS,
        "vary": "Origin, Access-Control-Request-Headers",
    }
    if asked and _HEADER_NAMES.issuperset(asked):
        headers["access-control-allow-headers"] = asked
    return Response(status_code=204, headers=headers)


def _with_origin(send: Send, origin: str) -> Send:
    """A `send` that lets the page at an origin read the answer, and the headers that MCP needs."""

    async def send_with_origin(message: Message) -> None:
        if message["type"] == "http.response.start":
            given = [(n, v) for n, v in message.get("headers", ()) if not n.lower().startswith(b"access-control-")]
            added = [
                (b"access-control-allow-origin", origin.encode("latin-1")),
                (b"access-control-expose-headers", _EXPOSED),
                (b"vary", b"Origin"),
            ]
            message = {**message, "headers": [*given, *added]}
        await send(message)

    return send_with_origin


@dataclass(frozen=True, slots=True)
class _TimedSend:
    """A `send` that ends the connection of a client that takes no more of its answer."""

    send: Send
    scope: Scope
    limits: HttpLimits

    async def __call__(self, message: Message) -> None:
        with anyio.move_on_after(self.limits.chunk_seconds) as timer:
            await self.send(message)
        if timer.cancelled_caught:
            abort = self.scope.get("extensions", {}).get(ABORT)
            if abort is not None:
                abort()


class _TimedReceive:
    """A `receive` that takes a client for gone that sends no more of a body that it has begun."""

    def __init__(self, receive: Receive, limits: HttpLimits) -> None:
        self._receive = receive
        self._limits = limits
        self._is_whole = False

    async def __call__(self) -> Message:
        if self._is_whole:
            return await self._receive()
        with anyio.move_on_after(self._limits.chunk_seconds):
            message = await self._receive()
            self._is_whole = not message.get("more_body", False)
            return message
        return {"type": "http.disconnect"}


ABORT = "rotoscope.abort"
"""The extension of a request's scope that breaks its connection off."""
