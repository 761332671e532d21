"""The one place that looks behind `MCPServer`.

Three things have no public seam in mcp 2.3: `resources/subscribe` and `resources/unsubscribe` of the handshake era,
`subscriptions/listen` with task ids, and serving other streams. `tests/server/test_lowlevel.py` fails when the
SDK changes what is used here.
"""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from mcp.server.context import HandlerResult, ServerRequestContext
from mcp.server.lowlevel.server import Server
from mcp.server.mcpserver import MCPServer
from pydantic import BaseModel

__all__ = ["lowlevel_server", "serve_method"]

State = TypeVar("State")
Params = TypeVar("Params", bound=BaseModel)


def lowlevel_server(server: MCPServer[State]) -> Server[State]:
    """The low-level server that holds a server's methods and its lifespan."""
    return server._lowlevel_server  # noqa: SLF001 - there is no public way; see the top of this file


def serve_method(
    server: MCPServer[Any],
    method: str,
    params: type[Params],
    serve: Callable[[ServerRequestContext[Any, Any], Params], Awaitable[HandlerResult]],
) -> None:
    """Serve a method of the specification by this function, in place of what served it before."""
    lowlevel_server(server).add_request_handler(method, params, serve)
