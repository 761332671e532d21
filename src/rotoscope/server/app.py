"""The MCP server: the tools and resources of the contracts, on the studio, over any transport and in both eras."""

import logging
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Annotated, Any

from mcp.server.lowlevel.helper_types import ReadResourceContents
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.tools import Tool
from mcp_types import CallToolResult, ToolAnnotations
from pydantic import AnyUrl

from rotoscope import __version__
from rotoscope.contracts.arguments import Arguments, parse_arguments
from rotoscope.contracts.results import JobResult
from rotoscope.contracts.tools import TOOLS, ToolContract
from rotoscope.errors import InvalidInput, RotoscopeError
from rotoscope.server.answers import error_answer, list_answer, result_answer
from rotoscope.server.delivery import Teller, client_name
from rotoscope.server.door import OpenStudio, StudioDoor
from rotoscope.server.patience import Clients
from rotoscope.server.resources import TEMPLATES, read
from rotoscope.server.schemas import input_schema

__all__ = ["INSTRUCTIONS", "LOCAL", "build_server"]

_log = logging.getLogger(__name__)

LOCAL = "local"
"""The principal of a stdio session: whoever may run commands on this machine."""

INSTRUCTIONS = (
    "rotoscope runs media models that take seconds to minutes and may cost money. A tool either answers with its "
    "result or, when a model takes longer than this client waits, with a job that goes on: then call get_job with "
    "wait_seconds until it is final. Never call the tool again to find out; if a job id was lost, call list_jobs. "
    "Pictures are given by path, https URL, data URI, artifact:// or job:// link; results are files with a path and "
    "an artifact:// link that other tools take. Pixels count from the top left corner of the upright picture. "
    "sandbox: true means that no provider key is set and the built-in sandbox computed the result; it understands "
    "no words, so give it a box or points. dry_run: true shows the exact request and the price and spends nothing."
)


class _Server(MCPServer[StudioDoor]):
    """An MCPServer that hands every tool call and every read to the studio."""

    def __init__(self, door: StudioDoor, clients: Clients, inline_seconds: float | None, **options: Any) -> None:
        super().__init__(**options)
        self._door = door
        self._clients = clients
        self._inline_seconds = inline_seconds

    async def call_tool(
        self, name: str, arguments: dict[str, Any], context: Context[StudioDoor, Any] | None = None
    ) -> Any:
        assert context is not None, "the SDK passes the context of the request"
        try:
            return await self._called(name, _parsed(name, arguments), context)
        except RotoscopeError as error:
            return error_answer(error)
        except Exception as error:  # noqa: BLE001 - the outermost edge: no traceback may reach a client
            _log.exception("%s failed", name)
            words = f"rotoscope failed: {type(error).__name__}."
            return error_answer(RotoscopeError(words, hint="Its log says more.", code="internal"))

    async def read_resource(
        self,
        uri: AnyUrl | str,
        context: Context[StudioDoor, Any] | None = None,  # noqa: ARG002 - the SDK passes it
    ) -> Iterable[ReadResourceContents]:
        return [await read(await self._door.studio(), str(uri), LOCAL)]

    async def _called(self, name: str, arguments: Arguments, context: Context[StudioDoor, Any]) -> CallToolResult:
        """Perform the call. A client that goes away only stops waiting: the job goes on."""
        studio = await self._door.studio()
        teller = Teller(context.report_progress)
        result = await studio.perform(name, arguments, LOCAL, self._budget(context), teller.tell)
        return result_answer(result) if isinstance(result, JobResult) else list_answer(result)

    def _budget(self, context: Context[StudioDoor, Any]) -> float:
        return self._clients.inline_seconds(client_name(context), self._inline_seconds)


def build_server(
    open_studio: OpenStudio,
    clients: Clients,
    inline_seconds: float | None,
    has_open_jobs: Callable[[], bool] = lambda: False,
) -> MCPServer[StudioDoor]:
    """Build the server. Nothing heavy happens before the first call.

    Args:
        open_studio: opens the studio at its first use.
        clients: how patient each client is.
        inline_seconds: the operator's word on that, if any.
        has_open_jobs: whether a former process left jobs behind; then the studio is opened for them.
    """
    door = StudioDoor(open_studio, has_open_jobs)

    @asynccontextmanager
    async def lifespan(_: MCPServer[StudioDoor]) -> AsyncIterator[StudioDoor]:
        async with door.opened():
            yield door

    server = _Server(
        door,
        clients,
        inline_seconds,
        name="rotoscope",
        title="rotoscope",
        version=__version__,
        instructions=INSTRUCTIONS,
        tools=[_tool(name, contract) for name, contract in TOOLS.items()],
        lifespan=lifespan,
        log_level="WARNING",
    )
    for template in TEMPLATES:
        server.resource(template.uri, name=template.name, description=template.description, mime_type=template.mime)(
            template.declared
        )
    return server


def _parsed(name: str, arguments: Mapping[str, object]) -> Arguments:
    contract = TOOLS.get(name)
    if contract is None:
        raise InvalidInput(f"There is no tool {name[:80]!r}.", hint=f"Tools: {', '.join(TOOLS)}.", code="unknown_tool")
    return parse_arguments(contract.arguments, arguments)


def _tool(name: str, contract: ToolContract) -> Tool:
    """A tool as it is listed. Its calls never reach a function: `_Server.call_tool` takes them all."""

    async def declared() -> None:
        raise NotImplementedError

    declared.__annotations__["return"] = Annotated[CallToolResult, contract.result]
    annotations = ToolAnnotations(
        title=contract.title,
        read_only_hint=contract.reads_only,
        destructive_hint=False,
        idempotent_hint=not contract.pays,
        open_world_hint=contract.pays,
    )
    tool = Tool.from_function(
        declared, name=name, title=contract.title, description=contract.description, annotations=annotations
    )
    return tool.model_copy(update={"parameters": input_schema(contract.arguments)})
