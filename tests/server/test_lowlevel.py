"""What is used of the SDK behind its public names: an SDK that changes it must fail here, not at a user's."""

import inspect
from pathlib import Path
from typing import Any

from mcp.server.lowlevel.server import Server
from mcp.server.mcpserver import MCPServer
from mcp_types import SubscribeRequestParams

from rotoscope.protocol.lowlevel import lowlevel_server, serve_method

SOURCE = Path(__file__).parents[2] / "src" / "rotoscope"


def test_one_module_alone_looks_behind_the_sdks_server() -> None:
    users = {file.name for file in SOURCE.rglob("*.py") if "._lowlevel_server" in file.read_text(encoding="utf-8")}
    assert users == {"lowlevel.py"}


def test_what_is_behind_it_is_what_we_use() -> None:
    inner = lowlevel_server(MCPServer("any", log_level="ERROR"))
    assert isinstance(inner, Server)
    assert list(inspect.signature(inner.lifespan).parameters)
    assert inner.create_initialization_options().server_name == "any"
    assert list(inspect.signature(inner.add_request_handler).parameters) == ["method", "params_type", "handler"]


def test_a_method_of_ours_replaces_the_one_that_was_there() -> None:
    server: MCPServer[Any] = MCPServer("any", log_level="ERROR")

    async def serve(_: object, __: SubscribeRequestParams) -> None:
        return None

    for method in ("resources/subscribe", "subscriptions/listen"):
        serve_method(server, method, SubscribeRequestParams, serve)
        entry = lowlevel_server(server).get_request_handler(method)
        assert entry is not None
        assert entry.handler is serve
    assert lowlevel_server(server).create_initialization_options().capabilities.resources.subscribe is True  # type: ignore[union-attr]
