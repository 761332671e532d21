"""The MCP server: the tools and resources of the contracts, on the studio, over any transport and in both eras."""

import logging
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Annotated, Any

from mcp import MCPError
from mcp.server.lowlevel.helper_types import ReadResourceContents
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.tools import Tool
from mcp_types import CallToolResult, InputRequiredResult, ToolAnnotations
from pydantic import AnyUrl

from rotoscope import __version__
from rotoscope.contracts.arguments import Arguments, ViewMedia, parse_arguments
from rotoscope.contracts.results import JobResult
from rotoscope.contracts.tools import TOOLS, ToolContract
from rotoscope.errors import InvalidInput, RotoscopeError
from rotoscope.server.answers import error_answer, list_answer, result_answer
from rotoscope.server.blocks import blocks_for, view_answer
from rotoscope.server.consent import Consent
from rotoscope.server.delivery import Teller, client_name, declared, looked_again
from rotoscope.server.door import OpenStudio, StudioDoor
from rotoscope.server.hints import check_prompt, serve_hints
from rotoscope.server.ladder import rung
from rotoscope.server.patience import Client, Clients
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
    "Pictures are given by path, https URL, data URI, artifact:// or job:// link (job://ID, job://ID/masks/1, "
    "job://ID/overlay); results are files with a path and an artifact:// link that other tools take: masks as "
    "pictures with box and area, an overlay, a COCO file of all masks; a video, its poster and a filmstrip. "
    "view_media shows one of them to you. Pixels count from the top left corner of the upright picture. "
    "A mask from segment_image on a video's first frame goes into edit_video_with_mask as job://ID. "
    "model://ID tells what a model takes and costs. "
    "sandbox: true means that no provider key is set and the built-in sandbox computed the result; it understands "
    "no words, so give it a box or points. dry_run: true shows the exact request and the price and spends nothing."
)


class _Server(MCPServer[StudioDoor]):
    """An MCPServer that hands every tool call and every read to the studio."""

    def __init__(
        self, door: StudioDoor, clients: Clients, inline_seconds: float | None, consent: Consent, **options: Any
    ) -> None:
        super().__init__(**options)
        self._door = door
        self._clients = clients
        self._inline_seconds = inline_seconds
        self._consent = consent

    async def call_tool(
        self, name: str, arguments: dict[str, Any], context: Context[StudioDoor, Any] | None = None
    ) -> Any:
        assert context is not None, "the SDK passes the context of the request"
        try:
            return await self._called(name, _parsed(name, arguments), context)
        except MCPError:
            raise  # a fault of the protocol is told as one
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

    async def get_prompt(
        self, name: str, arguments: dict[str, Any] | None = None, context: Context[StudioDoor, Any] | None = None
    ) -> Any:
        check_prompt(await self.list_prompts(), name, arguments or {})
        return await super().get_prompt(name, arguments, context)

    async def _called(
        self, name: str, arguments: Arguments, context: Context[StudioDoor, Any]
    ) -> CallToolResult | InputRequiredResult:
        """Perform the call. A client that goes away only stops waiting: the job goes on."""
        studio = await self._door.studio()
        if isinstance(arguments, ViewMedia):
            return await self._viewed(arguments.uri)
        question = await self._consent.ask(studio, name, arguments, LOCAL, context)
        if question is not None:
            return question
        teller = Teller(context.report_progress)
        seconds = self._budget(context)
        result = await studio.perform(name, arguments, LOCAL, seconds, teller.tell)
        if not isinstance(result, JobResult):
            return list_answer(result)
        self._consent.remember(name, arguments, LOCAL, result)
        blocks = await blocks_for(self._client(context), studio, result, LOCAL)
        return result_answer(looked_again(result, seconds), *blocks)

    async def _viewed(self, uri: str) -> CallToolResult:
        from rotoscope.viewing import view

        return view_answer(await view(await self._door.studio(), uri, LOCAL), uri)

    def _client(self, context: Context[StudioDoor, Any]) -> Client:
        return self._clients.named(client_name(context))

    def _budget(self, context: Context[StudioDoor, Any]) -> float:
        said = replace(declared(context), tasks=False)  # a task is made of what is left when this time is up
        return rung(said, self._client(context), None, self._inline_seconds).seconds


def build_server(
    open_studio: OpenStudio, clients: Clients, inline_seconds: float | None, *, ask_above_usd: float | None = 1.0
) -> MCPServer[StudioDoor]:
    """Build the server. Nothing heavy happens before the first call.

    Args:
        open_studio: opens the studio at its first use.
        clients: how patient each client is.
        inline_seconds: the operator's word on that, if any.
        ask_above_usd: the price of a call above which is asked first; None: never.
    """
    door = StudioDoor(open_studio)

    @asynccontextmanager
    async def lifespan(_: MCPServer[StudioDoor]) -> AsyncIterator[StudioDoor]:
        async with door.opened():
            yield door

    server = _Server(
        door,
        clients,
        inline_seconds,
        Consent(ask_above_usd),
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
    serve_hints(server, door.studio, LOCAL)
    return server


def _parsed(name: str, arguments: Mapping[str, object]) -> Arguments:
    contract = TOOLS.get(name)
    if contract is None:
        raise InvalidInput(f"There is no tool {name[:80]!r}.", hint=f"Tools: {', '.join(TOOLS)}.", code="unknown_tool")
    return parse_arguments(contract.arguments, arguments)


def _tool(name: str, contract: ToolContract) -> Tool:
    """A tool as it is listed. Its calls never reach a function: `_Server.call_tool` takes them all."""

    async def unreached() -> None:
        raise NotImplementedError

    if contract.structured:
        unreached.__annotations__["return"] = Annotated[CallToolResult, contract.result]
    annotations = ToolAnnotations(
        title=contract.title,
        read_only_hint=contract.reads_only,
        destructive_hint=False,
        idempotent_hint=not contract.pays,
        open_world_hint=contract.pays,
    )
    tool = Tool.from_function(
        unreached,
        name=name,
        title=contract.title,
        description=contract.description,
        annotations=annotations,
        structured_output=None if contract.structured else False,
    )
    return tool.model_copy(update={"parameters": input_schema(contract.arguments)})
