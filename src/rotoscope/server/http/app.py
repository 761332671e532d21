"""The HTTP app: the guard, then who calls, then the routes."""

import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from mcp.server.streamable_http_manager import StreamableHTTPASGIApp
from starlette.applications import Starlette
from starlette.requests import HTTPConnection
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from rotoscope.errors import MissingKey, RotoscopeError, UserMistake
from rotoscope.protocol.sessions import HttpSessions
from rotoscope.server.app import LOCAL_PRINCIPAL, StudioServer
from rotoscope.server.http.addresses import AccessRules
from rotoscope.server.http.admission import RequestAdmission
from rotoscope.server.http.drain import Drain
from rotoscope.server.http.guard import MCP_PATH, Guard
from rotoscope.server.http.limits import HttpLimits
from rotoscope.server.http.request_log import RequestLog
from rotoscope.server.lazy_studio import LazyStudio
from rotoscope.server.sign_in.contract import SignIn

_log = logging.getLogger(__name__)

__all__ = ["HttpApp", "HttpParts", "build_http_app"]


@dataclass(frozen=True, slots=True)
class HttpParts:
    """What the app is built from.

    Attributes:
        server: the MCP server.
        rules: by which names and from which origins it may be called.
        limits: what it takes.
        drain: says when the process is ending.
        sign_in: how callers prove who they are; None: every request is the local principal's.
        routes: what is served beside the MCP endpoint.
        meter: puts something around the whole app that counts its requests.
    """

    server: StudioServer
    rules: AccessRules
    limits: HttpLimits
    drain: Drain
    sign_in: SignIn | None = None
    routes: Sequence[BaseRoute] = ()
    meter: Callable[[ASGIApp], ASGIApp] = lambda app: app


class HttpApp:
    """An ASGI app that serves requests while `running` is entered; it takes no lifespan messages."""

    def __init__(self, app: ASGIApp, sessions: HttpSessions, lazy_studio: LazyStudio) -> None:
        self._app = app
        self._sessions = sessions
        self._lazy_studio = lazy_studio

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """The time in which it serves, and in which jobs run. It is entered once.

        Raises:
            UserMistake, MissingKey: a setting cannot be used. A ledger that does not answer now may do so later.
        """
        mistake: UserMistake | MissingKey | None = None
        async with self._sessions.run():
            try:
                await self._lazy_studio.studio()
            except (UserMistake, MissingKey) as error:
                mistake = error
            except RotoscopeError as error:
                _log.warning("%s %s", error.message, error.hint)
            if mistake is None:
                yield
        if mistake is not None:
            raise mistake


def build_http_app(parts: HttpParts) -> HttpApp:
    """The app. Nothing heavy happens before it runs."""
    limits = parts.limits
    sessions = HttpSessions(
        parts.server,
        body_bytes=limits.body_bytes,
        idle_seconds=limits.session_idle_seconds,
        retry_milliseconds=limits.retry_milliseconds,
        most=limits.sessions,
        most_of_one=limits.sessions_per_principal,
        events=limits.events_per_session,
        event_bytes=limits.event_bytes_per_session,
    )
    admitted = RequestAdmission(StreamableHTTPASGIApp(sessions), limits, parts.drain, _principal_finder(parts.sign_in))
    routes = [*_mcp_routes(admitted, parts.sign_in), *parts.routes]
    inner = Starlette(routes=routes)
    served = RequestLog(parts.meter(Guard(inner, parts.rules, limits)))
    return HttpApp(served, sessions, parts.server.lazy_studio)


def _principal_finder(sign_in: SignIn | None) -> Callable[[Scope], str]:
    """On whose behalf a request to the MCP endpoint comes, by its scope."""
    if sign_in is None:
        return lambda _: LOCAL_PRINCIPAL
    return lambda scope: sign_in.find_principal(HTTPConnection(scope))


def _mcp_routes(endpoint: ASGIApp, sign_in: SignIn | None) -> list[BaseRoute]:
    if sign_in is None:
        return [Route(MCP_PATH, endpoint=endpoint)]
    return [Route(MCP_PATH, endpoint=sign_in.protect(endpoint)), *sign_in.routes()]
