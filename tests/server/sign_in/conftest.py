"""What the tests of sign-in share: a clock, and an app that says on whose behalf a request came."""

from collections.abc import Callable

import httpx  # noqa: TID251 - the tests speak to the server as any client would
import pytest
from postgresql import postgresql, postgresql_cluster
from scripted_provider import opened
from set_clock import Clock
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from rotoscope.server.sign_in.contract import SignIn

__all__ = ["opened", "postgresql", "postgresql_cluster"]

Asking = Callable[[SignIn], httpx.AsyncClient]


@pytest.fixture
def seconds() -> Clock:
    return Clock(1000.0)


@pytest.fixture
def ask() -> Asking:
    """A client of a server whose MCP endpoint only says on whose behalf a request came."""

    def ask_server(sign_in: SignIn) -> httpx.AsyncClient:
        async def endpoint(scope: Scope, receive: Receive, send: Send) -> None:
            answer = JSONResponse({"principal": sign_in.find_principal(Request(scope))})
            await answer(scope, receive, send)

        app = Starlette(routes=[Route("/mcp", sign_in.protect(endpoint)), *sign_in.routes()])
        return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="https://rotoscope.example")

    return ask_server
