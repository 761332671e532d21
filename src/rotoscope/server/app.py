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
from rotoscope.jobs.concurrency import run_with_background
from rotoscope.protocol.arrival import arrival_time
from rotoscope.protocol.requests import check_request
from rotoscope.protocol.tasks import TasksExtension, TaskStore, has_tasks_extension
from rotoscope.server.clients.inline_wait import inline_budget, poll_budget
from rotoscope.server.clients.profiles import ClientProfile, ClientProfiles
from rotoscope.server.clients.recognition import CallTracker, ClientCall
from rotoscope.server.consent import Consent
from rotoscope.server.early import checking_answer, starting_error
from rotoscope.server.lazy_studio import LazyStudio, OpenStudio
from rotoscope.server.notifications import CanSubscribe, JobBroadcaster, job_id_from_uri, serve_subscriptions
from rotoscope.server.present.content import content_blocks
from rotoscope.server.present.progress import ProgressReporter, with_poll_hint
from rotoscope.server.present.text import error_answer, list_answer, result_answer
from rotoscope.server.prompts import check_prompt_request, serve_prompts
from rotoscope.server.resources import TEMPLATES, read_link
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


class _Server(MCPServer[LazyStudio]):
    """An MCPServer that hands every tool call and every read to the studio."""

    def __init__(
        self,
        lazy_studio: LazyStudio,
        clients: ClientProfiles,
        inline_seconds: float | None,
        consent: Consent,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self._lazy_studio = lazy_studio
        self._call_tracker = CallTracker(clients, is_learning=inline_seconds is None)
        self._inline_seconds = inline_seconds
        self._consent = consent

    async def call_tool(
        self, name: str, arguments: dict[str, Any], context: Context[LazyStudio, Any] | None = None
    ) -> Any:
        assert context is not None, "the SDK passes the context of the request"
        if name not in TOOLS and any(tool.name == name for tool in await self.list_tools()):
            return await super().call_tool(name, arguments, context)  # somebody added a tool of their own
        try:
            return await self._run_call(name, _parse_call(name, arguments), context)
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
        context: Context[LazyStudio, Any] | None = None,
    ) -> Any:
        if not str(uri).startswith(_SCHEMES):
            return await super().read_resource(uri, context)
        return [await read_link(await self._lazy_studio.studio(), str(uri), LOCAL)]

    async def get_prompt(
        self, name: str, arguments: dict[str, Any] | None = None, context: Context[LazyStudio, Any] | None = None
    ) -> Any:
        check_prompt_request(await self.list_prompts(), name, arguments or {})
        return await super().get_prompt(name, arguments, context)

    async def _run_call(
        self, name: str, arguments: Arguments, context: Context[LazyStudio, Any]
    ) -> CallToolResult | InputRequiredResult:
        """Perform the call. A client that goes away only stops waiting: the job goes on, and so does its check."""
        begun = arrival_time()  # the time that opening takes, or a question to the user, is the client's time too
        call = self._call_tracker.begin_call(name, arguments, context, begun)
        teller = ProgressReporter(context.report_progress)
        answering = partial(self._answer_call, name, arguments, context, call, teller, begun)
        try:
            return await run_with_background(answering, partial(teller.report_until_job, begun))
        except StillChecking as error:
            call.mark_dismissed()
            if not TOOLS[name].can_cost_money:
                raise
            return result_answer(checking_answer(name, arguments, error, time.monotonic() - begun))
        except RotoscopeError:
            call.mark_dismissed()
            raise
        finally:
            call.mark_ended()

    async def _answer_call(
        self,
        name: str,
        arguments: Arguments,
        context: Context[LazyStudio, Any],
        call: ClientCall,
        reporter: ProgressReporter,
        started_at: float,
    ) -> CallToolResult | InputRequiredResult:
        client = call.profile
        patience = self._inline_seconds or client.inline_seconds  # also where a job is answered with its handle at once
        studio = await self._wait_for_studio(_remaining_seconds(started_at, patience))
        await studio.note_job_use(arguments, LOCAL)
        if isinstance(arguments, ViewMedia):
            return await view_media(studio, arguments.uri, LOCAL, client.view_bytes)
        if TOOLS[name].can_cost_money:
            reporter.activity = "Preparing the request and its media."
        agreed = await self._consent.ask(
            studio, name, arguments, LOCAL, context, _remaining_seconds(started_at, patience)
        )
        if isinstance(agreed, InputRequiredResult):
            call.mark_dismissed()
            return agreed
        asking = poll_budget(client, self._inline_seconds)
        seconds = asking if isinstance(arguments, GetJob) else self._call_budget(name, client, context)
        left, check = _remaining_seconds(started_at, seconds), _remaining_seconds(started_at, patience)
        result = await studio.perform(name, arguments, LOCAL, left, reporter.report_job, agreed.usd, check)
        if not isinstance(result, JobResult):
            return list_answer(result)
        offer_task(name, result)
        await self._consent.remember_dry_run(studio, result)
        blocks = await content_blocks(client, studio, result, LOCAL)
        wanted = arguments.wait_seconds if isinstance(arguments, GetJob) else 0.0
        longest = call.mark_answered(result) if self._inline_seconds is None else asking
        answer = result_answer(with_poll_hint(result, longest, wanted), *blocks)
        # Last: who is cut off before this has heard nothing.
        await studio.mark_delivered(result, late=call.is_late(asking if isinstance(arguments, GetJob) else patience))
        return answer

    async def _wait_for_studio(self, seconds: float) -> "Studio":
        """The studio, if it is open before the client must be answered."""
        with anyio.move_on_after(seconds):
            return await self._lazy_studio.studio()
        raise starting_error()

    def _call_budget(self, tool: str, client: ClientProfile, context: Context[LazyStudio, Any]) -> float:
        """How long this call may stay open. Only what pays becomes a task: the others promise a job as it is."""
        contract = TOOLS[tool]
        tasks = contract.can_cost_money and has_tasks_extension(context.request_context)
        return inline_budget(client, contract.usual_seconds, self._inline_seconds, tasks=tasks)


def _remaining_seconds(started_at: float, seconds: float) -> float:
    """What is left of some seconds that began then."""
    return max(0.0, started_at + seconds - time.monotonic())


def principal_of(_: ServerRequestContext[Any, Any]) -> str:
    """On whose behalf a request comes."""
    return LOCAL


def job_tasks(store: TaskStore) -> TasksExtension:
    """The tasks extension as it is served: every job is a task of its principal's."""
    return TasksExtension(store, principal_of)


def build_server(
    open_studio: OpenStudio,
    clients: ClientProfiles,
    inline_seconds: float | None,
    *,
    ask_above_usd: float | None = 1.0,
    has_open_jobs: Callable[[], bool] = lambda: False,
    retention_seconds: float | None = None,
    build_tasks: Callable[[TaskStore], TasksExtension] = job_tasks,
) -> MCPServer[LazyStudio]:
    """Build the server. Nothing heavy happens before the first call.

    Args:
        open_studio: opens the studio at its first use.
        clients: how patient each client is.
        inline_seconds: the operator's word on that, if any.
        ask_above_usd: the price of a call above which is asked first; None: never.
        has_open_jobs: whether a former process left jobs behind; then the studio is opened for them.
        retention_seconds: how long a task stays readable after it was opened; None: without limit.
        build_tasks: makes the tasks extension on the store of jobs; a server that adds tools may add their tasks.
    """
    bus = InMemorySubscriptionBus()

    async def read_job(job_id: str) -> "Job":
        return await (await door.studio()).context.ledger.job(job_id)

    fanout = JobBroadcaster(bus, read_job)

    def open_and_attach(jobs: anyio.abc.TaskGroup, closing: AsyncExitStack) -> "Studio":
        studio = open_studio(jobs, closing)
        fanout.attach(studio.context.notifier)
        return studio

    door = LazyStudio(open_and_attach, has_open_jobs)
    tasks = build_tasks(JobTasks(door.studio, fanout, retention_seconds))

    @asynccontextmanager
    async def lifespan(_: MCPServer[LazyStudio]) -> AsyncIterator[LazyStudio]:
        async with door.lifespan(), anyio.create_task_group() as telling:
            telling.start_soon(fanout.publish_changes)
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
        tools=[_build_tool(name, contract) for name, contract in TOOLS.items()],
        extensions=[tasks],
        subscriptions=bus,
        lifespan=lifespan,
        log_level="WARNING",
        middleware=[check_request],
    )
    serve_subscriptions(server, fanout, bus, tasks, _build_subscription_check(server, tasks))
    for template in TEMPLATES:
        server.resource(template.uri, name=template.name, description=template.description, mime_type=template.mime)(
            template.placeholder
        )
    serve_prompts(server, door.studio, LOCAL)
    return server


def _build_subscription_check(server: MCPServer[LazyStudio], tasks: TasksExtension) -> CanSubscribe:
    """Who may hear of what: of their own jobs, of what never changes, and of what somebody added to the server."""

    async def can_subscribe(ctx: ServerRequestContext[Any, Any], uri: str) -> bool:
        job_id = job_id_from_uri(uri)
        if job_id is not None:
            return await tasks.store.get(principal_of(ctx), job_id) is not None
        return uri.startswith(_SCHEMES) or uri in {str(one.uri) for one in await server.list_resources()}

    return can_subscribe


def _parse_call(name: str, arguments: Mapping[str, object]) -> Arguments:
    contract = TOOLS.get(name)
    if contract is None:
        raise InvalidInput(f"There is no tool {name[:80]!r}.", hint=f"Tools: {', '.join(TOOLS)}.", code="unknown_tool")
    return parse_arguments(contract.arguments, arguments)


def _build_tool(name: str, contract: ToolContract) -> Tool:
    """A tool as it is listed. Its calls never reach a function: `_Server.call_tool` takes them all."""

    async def reject_call() -> None:
        raise NotImplementedError

    annotations = ToolAnnotations(
        title=contract.title,
        read_only_hint=contract.is_read_only,
        destructive_hint=contract.is_destructive,
        idempotent_hint=not contract.can_cost_money,
        open_world_hint=contract.can_cost_money,
    )
    tool = Tool.from_function(
        reject_call,
        name=name,
        title=contract.title,
        description=contract.description,
        annotations=annotations,
        structured_output=False,
    )
    given = output_schema(contract.result) if contract.has_structured_content else None
    promised = tool.fn_metadata.model_copy(update={"output_schema": given})
    return tool.model_copy(update={"parameters": input_schema(contract.arguments), "fn_metadata": promised})
