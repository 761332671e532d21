"""The viewer in a browser: who opens the address that was printed, once, gets the page and nothing else may ask.

The address holds a token that works one time; it is exchanged for a cookie of this server alone. Everything needs that
cookie. The page sends the very messages that it would send to a chat, and they go to a client of the MCP server.
"""

import json
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import anyio
from mcp import MCPError
from mcp_types import CallToolResult, ReadResourceResult
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from rotoscope.server.http.guard import Refusal
from rotoscope.server.viewer.page import page_policy, render_viewer

__all__ = ["McpSession", "OpenPages", "PageAccess", "PageKey", "page_routes"]

_OPEN_PATH = "/open/"
_ALLOWED_TOOLS = frozenset({"get_job", "cancel_job", "segment_image", "view_media"})
_MAX_MESSAGE_BYTES = 256 * 1024
_TOKEN_BYTES = 24
_PAGE_HEADERS = {"cache-control": "no-store", "x-content-type-options": "nosniff", "referrer-policy": "no-referrer"}
_NEEDS_KEY = Refusal(403, "Open the address that rotoscope view has printed. It works once: run the command again.")


class McpSession(Protocol):
    """What the page's messages go to: a client of the MCP server."""

    async def call_tool(self, name: str, arguments: dict[str, Any] | None = None) -> CallToolResult:
        """Call a tool."""
        ...

    async def read_resource(self, uri: str) -> ReadResourceResult:
        """Read a resource."""
        ...


class PageKey:
    """The one-time token of the address, and the cookie that it is exchanged for."""

    def __init__(self, port: int, draw: Callable[[int], str] = secrets.token_urlsafe) -> None:
        self.token, self._cookie = draw(_TOKEN_BYTES), draw(_TOKEN_BYTES)
        self._is_used = False
        self._name = f"rotoscope_view_{port}"  # a browser sends the cookies of one port to all others

    @property
    def path(self) -> str:
        """The path of the address that is opened, once."""
        return f"{_OPEN_PATH}{self.token}"

    def exchange(self, given: str) -> Response | None:
        """The answer to who opens the address; None where the token is wrong or used."""
        if self._is_used or not secrets.compare_digest(given.encode(), self.token.encode()):
            return None
        self._is_used = True
        answer = RedirectResponse("/", 303, {"cache-control": "no-store", "referrer-policy": "no-referrer"})
        answer.set_cookie(self._name, self._cookie, httponly=True, samesite="strict", path="/")
        return answer

    def is_known(self, request: Request) -> bool:
        """Whether a request brings the cookie."""
        return secrets.compare_digest(request.cookies.get(self._name, "").encode(), self._cookie.encode())


@dataclass(frozen=True, slots=True)
class PageAccess:
    """Serves those who bring the cookie, and the address that gives it."""

    app: ASGIApp
    key: PageKey

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"].startswith(_OPEN_PATH) or self.key.is_known(Request(scope)):
            await self.app(scope, receive, send)
        else:
            await _NEEDS_KEY.response()(scope, receive, send)


class OpenPages:
    """Counts the pages that are open, by the requests that they hold open."""

    def __init__(self) -> None:
        self._open = 0
        self._changed = anyio.Event()
        self._ended = anyio.Event()

    def end(self) -> None:
        """The server is ending: nobody is held any more."""
        self._ended.set()

    @contextmanager
    def hold(self) -> Iterator[None]:
        """The time in which a page is open."""
        self._count(1)
        try:
            yield
        finally:
            self._count(-1)

    def _count(self, by: int) -> None:
        self._open += by
        self._changed.set()
        self._changed = anyio.Event()

    async def stay(self) -> AsyncIterator[bytes]:
        """The body of a request that a page holds open."""
        with self.hold():
            await self._ended.wait()
        yield b""

    async def wait_until_left(self, first_seconds: float, grace_seconds: float) -> None:
        """Wait until no page was open for a while.

        Args:
            first_seconds: how long the first may take to be opened.
            grace_seconds: how long the last may be gone: it is gone for a moment where it is loaded again.
        """
        limit = first_seconds
        while True:
            changed = self._changed
            with anyio.move_on_after(limit if self._open == 0 else None) as timer:
                await changed.wait()
                limit = grace_seconds
            if timer.cancelled_caught:
                return


@dataclass(frozen=True, slots=True)
class _PageRoutes:
    """The answers to the page's requests."""

    job_id: str
    key: PageKey
    pages: OpenPages
    session: Callable[[], McpSession]
    media_origins: Sequence[str]

    async def open(self, request: Request) -> Response:
        """Exchange the token of the address for the cookie."""
        return self.key.exchange(request.path_params["token"]) or _NEEDS_KEY.response()

    async def page(self, _: Request) -> Response:
        """The page itself."""
        policy = page_policy("'self'", " ".join(["'self'", *self.media_origins])) + "; frame-ancestors 'none'"
        page = render_viewer({"mode": "local", "job": self.job_id, "media_origins": list(self.media_origins)})
        return HTMLResponse(page, headers={**_PAGE_HEADERS, "content-security-policy": policy})

    async def alive(self, _: Request) -> Response:
        """Held open as long as the page is."""
        return StreamingResponse(self.pages.stay(), media_type="text/plain")

    async def answer_message(self, request: Request) -> Response:
        """One message of the page, as it would go to a chat."""
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > _MAX_MESSAGE_BYTES:
                return _error("The message is too large.", 413)
        try:
            asked = json.loads(body)
            method, params = str(asked["method"]), dict(asked["params"])
        except (ValueError, KeyError, TypeError, RecursionError):
            return _error("This is no message.", 400)
        try:
            result = await self._call(method, params)
        except MCPError as error:
            return _error(error.error.message, 200)
        return JSONResponse({"result": result}, headers={"cache-control": "no-store"})

    async def _call(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        answer: Awaitable[CallToolResult | ReadResourceResult]
        if method == "resources/read":
            answer = self.session().read_resource(str(params.get("uri", "")))
        elif method == "tools/call" and params.get("name") in _ALLOWED_TOOLS:
            arguments = params.get("arguments")
            answer = self.session().call_tool(params["name"], arguments if isinstance(arguments, dict) else {})
        else:
            raise MCPError(-32601, f"The page may not ask for {method[:80]}.")
        return (await answer).model_dump(mode="json", by_alias=True, exclude_none=True)


def _error(message: str, status: int) -> Response:
    return JSONResponse({"error": {"message": message}}, status, {"cache-control": "no-store"})


def page_routes(
    job_id: str,
    key: PageKey,
    pages: OpenPages,
    session: Callable[[], McpSession],
    media_origins: Sequence[str] = (),
) -> list[BaseRoute]:
    """The routes of the page.

    Args:
        job_id: the job that it shows.
        key: who may ask.
        pages: counts the open ones.
        session: gives the client of the MCP server, while the server runs.
        media_origins: further origins of pictures and films.
    """
    routes = _PageRoutes(job_id, key, pages, session, media_origins)
    return [
        Route(f"{_OPEN_PATH}{{token}}", routes.open, methods=["GET"]),
        Route("/", routes.page, methods=["GET"]),
        Route("/alive", routes.alive, methods=["POST"]),
        Route("/rpc", routes.answer_message, methods=["POST"]),
    ]
