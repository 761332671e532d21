"""The MCP server: the tools and resources of the contracts, on the studio, over any transport and in both eras."""

import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import anyio.abc
from mcp import MCPError
from mcp.server.context import ServerRequestContext
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.tools import Tool
from mcp.server.subscriptions import InMemorySubscriptionBus
from mcp_types import CallToolResult, InputRequiredResult, ToolAnnotations
from pydantic import AnyUrl

from rotoscope import __version__
from rotoscope.contracts.arguments import Arguments, GetJob, ViewMedia, parse_arguments
from rotoscope.contracts.results import JobResult
from rotoscope.contracts.tools import TOOLS, ToolContract
from rotoscope.errors import InvalidInput, RotoscopeError, StillChecking
from rotoscope.jobs.concurrency import beside
from rotoscope.protocol.arrival import arrived_at
from rotoscope.protocol.requests import check_request
from rotoscope.protocol.tasks import Tasks, TaskStore, takes_tasks
from rotoscope.server.clients.inline_wait import asking_seconds, open_seconds
from rotoscope.server.clients.profiles import Client, Clients
from rotoscope.server.clients.recognition import Call, Recognition
from rotoscope.server.consent import Consent
from rotoscope.server.early import still_checking, still_starting
from rotoscope.server.lazy_studio import OpenStudio, StudioDoor
from rotoscope.server.notifications import Fanout, MayHear, job_of, serve_subscriptions
from rotoscope.server.present.content import blocks_for
from rotoscope.server.present.progress import Teller, looked_again
from rotoscope.server.present.text import error_answer, list_answer, result_answer
from rotoscope.server.prompts import check_prompt, serve_hints
from rotoscope.server.resources import TEMPLATES, read
from rotoscope.server.schemas import input_schema, output_schema
from rotoscope.server.tasks import JobTasks, offer_task
from rotoscope.server.view_media import view_media

if TYPE_CHECKING:
    from rotoscope.store.records import Job
    from rotoscope.studio.studio import Studio

__all__ = ["INSTRUCTIONS", "LOCAL", "build_server", "job_tasks", "principal_of"]

_log = logging.getLogger(__name__)

_SCHEMES = tuple(template.uri.partition("://")[0] + "://" for template in TEMPLATES)

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
        self._recognition = Recognition(clients, learns=inline_seconds is None)
        self._inline_seconds = inline_seconds
        self._consent = consent

    async def call_tool(
        self, name: str, arguments: dict[str, Any], context: Context[StudioDoor, Any] | None = None
    ) -> Any:
        assert context is not None, "the SDK passes the context of the request"
        if name not in TOOLS and any(tool.name == name for tool in await self.list_tools()):
            return await super().call_tool(name, arguments, context)  # somebody added a tool of their own
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
        context: Context[StudioDoor, Any] | None = None,
    ) -> Any:
        if not str(uri).startswith(_SCHEMES):
            return await super().read_resource(uri, context)
        return [await read(await self._door.studio(), str(uri), LOCAL)]

    async def get_prompt(
        self, name: str, arguments: dict[str, Any] | None = None, context: Context[StudioDoor, Any] | None = None
    ) -> Any:
        check_prompt(await self.list_prompts(), name, arguments or {})
        return await super().get_prompt(name, arguments, context)

    async def _called(
        self, name: str, arguments: Arguments, context: Context[StudioDoor, Any]
    ) -> CallToolResult | InputRequiredResult:
        """Perform the call. A client that goes away only stops waiting: the job goes on, and so does its check."""
        begun = arrived_at()  # the time that opening takes, or a question to the user, is the client's time too
        call = self._recognition.call(name, arguments, context, begun)
        teller = Teller(context.report_progress)
        answering = partial(self._answered, name, arguments, context, call, teller, begun)
        try:
            return await beside(answering, partial(teller.tell_of_beginning, begun))
        except StillChecking as error:
            call.dismissed()
            if not TOOLS[name].pays:
                raise
            return result_answer(still_checking(name, arguments, error, time.monotonic() - begun))
        except RotoscopeError:
            call.dismissed()
            raise
        finally:
            call.ended()

    async def _answered(
        self,
        name: str,
        arguments: Arguments,
        context: Context[StudioDoor, Any],
        call: Call,
        teller: Teller,
        begun: float,
    ) -> CallToolResult | InputRequiredResult:
        client = call.client
        patience = self._inline_seconds or client.inline_seconds  # also where a job is answered with its handle at once
        studio = await self._opened(_left(begun, patience))
        await studio.note_used(arguments, LOCAL)
        if isinstance(arguments, ViewMedia):
            return await view_media(studio, arguments.uri, LOCAL, client.view_bytes)
        if TOOLS[name].pays:
            teller.doing = "Preparing the request and its media."
        agreed = await self._consent.ask(studio, name, arguments, LOCAL, context, _left(begun, patience))
        if isinstance(agreed, InputRequiredResult):
            call.dismissed()
            return agreed
        asking = asking_seconds(client, self._inline_seconds)
        seconds = asking if isinstance(arguments, GetJob) else self._seconds(name, client, context)
        left, check = _left(begun, seconds), _left(begun, patience)
        result = await studio.perform(name, arguments, LOCAL, left, teller.tell, agreed.usd, check)
        if not isinstance(result, JobResult):
            return list_answer(result)
        offer_task(name, result)
        await self._consent.remember(studio, result)
        blocks = await blocks_for(client, studio, result, LOCAL)
        wanted = arguments.wait_seconds if isinstance(arguments, GetJob) else 0.0
        longest = call.answered(result) if self._inline_seconds is None else asking
        answer = result_answer(looked_again(result, longest, wanted), *blocks)
        # Last: who is cut off before this has heard nothing.
        await studio.delivered(result, late=call.is_late(asking if isinstance(arguments, GetJob) else patience))
        return answer

    async def _opened(self, seconds: float) -> "Studio":
        """The studio, if it is open before the client must be answered."""
        with anyio.move_on_after(seconds):
            return await self._door.studio()
        raise still_starting()

    def _seconds(self, tool: str, client: Client, context: Context[StudioDoor, Any]) -> float:
        """How long this call may stay open. Only what pays becomes a task: the others promise a job as it is."""
        contract = TOOLS[tool]
        tasks = contract.pays and takes_tasks(context.request_context)
        return open_seconds(client, contract.usual_seconds, self._inline_seconds, tasks=tasks)


def _left(begun: float, seconds: float) -> float:
    """What is left of some seconds that began then."""
    return max(0.0, begun + seconds - time.monotonic())


def principal_of(_: ServerRequestContext[Any, Any]) -> str:
    """On whose behalf a request comes."""
    return LOCAL


def job_tasks(store: TaskStore) -> Tasks:
    """The tasks extension as it is served: every job is a task of its principal's."""
    return Tasks(store, principal_of)


def build_server(
    open_studio: OpenStudio,
    clients: Clients,
    inline_seconds: float | None,
    *,
    ask_above_usd: float | None = 1.0,
    has_open_jobs: Callable[[], bool] = lambda: False,
    retention_seconds: float | None = None,
    tasks_on: Callable[[TaskStore], Tasks] = job_tasks,
) -> MCPServer[StudioDoor]:
    """Build the server. Nothing heavy happens before the first call.

    Args:
        open_studio: opens the studio at its first use.
        clients: how patient each client is.
        inline_seconds: the operator's word on that, if any.
        ask_above_usd: the price of a call above which is asked first; None: never.
        has_open_jobs: whether a former process left jobs behind; then the studio is opened for them.
        retention_seconds: how long a task stays readable after it was opened; None: without limit.
        tasks_on: makes the tasks extension on the store of jobs; a server that adds tools may add their tasks.
    """
    bus = InMemorySubscriptionBus()

    async def look(job_id: str) -> "Job":
        return await (await door.studio()).rooms.ledger.job(job_id)

    fanout = Fanout(bus, look)

    def opening(jobs: anyio.abc.TaskGroup, closing: AsyncExitStack) -> "Studio":
        studio = open_studio(jobs, closing)
        fanout.attach(studio.rooms.feed)
        return studio

    door = StudioDoor(opening, has_open_jobs)
    tasks = tasks_on(JobTasks(door.studio, fanout, retention_seconds))

    @asynccontextmanager
    async def lifespan(_: MCPServer[StudioDoor]) -> AsyncIterator[StudioDoor]:
        async with door.opened(), anyio.create_task_group() as telling:
            telling.start_soon(fanout.run)
            yield door
            telling.cancel_scope.cancel()

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
        extensions=[tasks],
        subscriptions=bus,
        lifespan=lifespan,
        log_level="WARNING",
        middleware=[check_request],
    )
    serve_subscriptions(server, fanout, bus, tasks, _hearing(server, tasks))
    for template in TEMPLATES:
        server.resource(template.uri, name=template.name, description=template.description, mime_type=template.mime)(
            template.declared
        )
    serve_hints(server, door.studio, LOCAL)
    return server


def _hearing(server: MCPServer[StudioDoor], tasks: Tasks) -> MayHear:
    """Who may hear of what: of their own jobs, of what never changes, and of what somebody added to the server."""

    async def may_hear(ctx: ServerRequestContext[Any, Any], uri: str) -> bool:
        job_id = job_of(uri)
        if job_id is not None:
            return await tasks.store.get(principal_of(ctx), job_id) is not None
        return uri.startswith(_SCHEMES) or uri in {str(one.uri) for one in await server.list_resources()}

    return may_hear


def _parsed(name: str, arguments: Mapping[str, object]) -> Arguments:
    contract = TOOLS.get(name)
    if contract is None:
        raise InvalidInput(f"There is no tool {name[:80]!r}.", hint=f"Tools: {', '.join(TOOLS)}.", code="unknown_tool")
    return parse_arguments(contract.arguments, arguments)


def _tool(name: str, contract: ToolContract) -> Tool:
    """A tool as it is listed. Its calls never reach a function: `_Server.call_tool` takes them all."""

    async def unreached() -> None:
        raise NotImplementedError

    annotations = ToolAnnotations(
        title=contract.title,
        read_only_hint=contract.reads_only,
        destructive_hint=contract.destroys,
        idempotent_hint=not contract.pays,
        open_world_hint=contract.pays,
    )
    tool = Tool.from_function(
        unreached,
        name=name,
        title=contract.title,
        description=contract.description,
        annotations=annotations,
        structured_output=False,
    )
    given = output_schema(contract.result) if contract.structured else None
    promised = tool.fn_metadata.model_copy(update={"output_schema": given})
    return tool.model_copy(update={"parameters": input_schema(contract.arguments), "fn_metadata": promised})
