"""A client that speaks raw JSON-RPC of the 2026-07-28 era: what is tested is what is on the wire."""

import itertools
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import anyio
import anyio.lowlevel
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from calls import SECONDS
from mcp.server.mcpserver import MCPServer
from mcp.shared.message import SessionMessage
from mcp_types import jsonrpc_message_adapter

__all__ = ["ClientOpener", "RawClient"]


class RawClient:
    """Sends requests on one connection and reads what comes.

    Attributes:
        earlier: the messages that came before the reply to a request.
        capabilities: what it declares at each request, but for extensions.
    """

    def __init__(self, send: MemoryObjectSendStream[Any], receive: MemoryObjectReceiveStream[Any]) -> None:
        self._send = send
        self._receive = receive
        self._ids = itertools.count(1)
        self.earlier: list[dict[str, Any]] = []
        self.capabilities: dict[str, Any] = {}

    async def post(self, method: str, *, tasks: bool = True, **params: Any) -> int:
        """Send a request; its id. `tasks`: it declares the tasks extension."""
        number = next(self._ids)
        extensions: dict[str, Any] = {"io.modelcontextprotocol/tasks": {}} if tasks else {}
        meta = {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": {**self.capabilities, "extensions": extensions},
        }
        request = {"jsonrpc": "2.0", "id": number, "method": method, "params": {**params, "_meta": meta}}
        await self._send.send(SessionMessage(jsonrpc_message_adapter.validate_python(request, by_name=False)))
        return number

    async def read(self) -> dict[str, Any]:
        """The next message of the server, whatever it is."""
        with anyio.fail_after(SECONDS):
            item = await self._receive.receive()
        return item.message.model_dump(by_alias=True, mode="json", exclude_unset=True)  # type: ignore[no-any-return]

    async def ask(self, method: str, *, tasks: bool = True, **params: Any) -> dict[str, Any]:
        """The reply to a request; what came before it is in `earlier`."""
        number = await self.post(method, tasks=tasks, **params)
        while (message := await self.read()).get("id") != number:
            self.earlier.append(message)
        return message

    async def call(self, tool: str, *, tasks: bool = True, **arguments: Any) -> dict[str, Any]:
        """The result of a tool call."""
        reply = await self.ask("tools/call", tasks=tasks, name=tool, arguments=arguments)
        return reply["result"]  # type: ignore[no-any-return]

    async def finished(self, task_id: str) -> dict[str, Any]:
        """A task when it is final."""
        with anyio.fail_after(SECONDS):
            while (task := (await self.ask("tasks/get", taskId=task_id))["result"])["status"] == "working":
                await anyio.lowlevel.checkpoint()
        return task  # type: ignore[no-any-return]


ClientOpener = Callable[[MCPServer[Any]], AbstractAsyncContextManager[RawClient]]
