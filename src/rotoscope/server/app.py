"""The MCP server: the tools, resources and prompts, served from the studio over any transport, in both eras."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import anyio
from mcp.server.context import ServerMiddleware, ServerRequestContext
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.request_state import RequestStateSecurity
from mcp.server.subscriptions import InMemorySubscriptionBus
from mcp_types import Tool, ToolAnnotations
from pydantic import AnyUrl

from rotoscope import __version__
from rotoscope.contracts.tools import HTTP_TOOLS, TOOLS, ToolContract
from rotoscope.protocol.requests import check_request
from rotoscope.protocol.skills import SkillsExtension
from rotoscope.protocol.tasks import PrincipalOf, TaskListenHandler, TasksExtension, TaskStore
from rotoscope.server.clients.profiles import CallTracker, ClientProfiles
from rotoscope.server.consent import Consent
from rotoscope.server.lazy_studio import LazyStudio, OpenStudio
from rotoscope.server.notifications import CanSubscribe, JobBroadcaster, job_id_from_uri, serve_subscriptions
from rotoscope.server.prompts import check_prompt_request, serve_prompts
from rotoscope.server.resources import TEMPLATES, read_link
from rotoscope.server.schemas import input_schema, output_schema
from rotoscope.server.skills import load_skills, serve_skill_files
from rotoscope.server.task_questions import TaskQuestions
from rotoscope.server.tasks import JobTasks
from rotoscope.server.tool_calls import ToolCalls
from rotoscope.server.viewer.resource import build_apps, tool_meta

if TYPE_CHECKING:
    from rotoscope.server.key_entry import KeyEntry
    from rotoscope.store.records import Job

__all__ = ["INSTRUCTIONS", "LOCAL_PRINCIPAL", "REMOTE_INSTRUCTIONS", "StudioServer", "build_server", "principal_of"]

_SCHEMES = tuple(template.uri.partition("://")[0] + "://" for template in TEMPLATES)

LOCAL_PRINCIPAL = "local"

_PLACES = (
    "Pictures are given by path, https URL, data URI, artifact:// or job:// link (job://ID, job://ID/masks/1, "
    "job://ID/overlay); results are files with a path and an artifact:// link that other tools take: masks as "
)
_REMOTE_PLACES = (
    "Pictures are given by https URL, data URI, artifact:// or job:// link (job://ID, job://ID/masks/1, "
    "job://ID/overlay), not by path: the server is not on the user's machine; results are files with an address (url) "
    "that opens for a day, and an artifact:// link that other tools take: masks as "
)
_INSTRUCTIONS = (
    "rotoscope runs media models that take seconds to minutes and may cost money. A tool either answers with its "
    "result or, when a model takes longer than this client waits, with a job that goes on: then call get_job with "
    "wait_seconds until it is final. Never call the tool again to find out; if a job id was lost, call list_jobs. "
    "{places}"
    "pictures with box and area, an overlay, a COCO file of all masks; a video, its poster and a filmstrip. "
    "view_media shows one of them to you. Pixels count from the top left corner of the upright picture. "
    "A mask from segment_image on a video's first frame goes into edit_video_with_mask as job://ID. "
    "model://ID tells what a model takes and costs. "
    "sandbox: true means that no provider key is set and the built-in sandbox computed the result; it understands "
    "no words, so give it a box or points. dry_run: true shows the exact request and the price and spends nothing."
)
INSTRUCTIONS = _INSTRUCTIONS.format(places=_PLACES)
REMOTE_INSTRUCTIONS = _INSTRUCTIONS.format(places=_REMOTE_PLACES)
"""For clients that are not on the server's machine."""

_UPLOAD_INSTRUCTIONS = (
    "upload_media gives an address for a local or attached file, and a page where the person can drop it; the "
    "artifact:// link that it becomes goes into every tool."
)


class StudioServer(MCPServer[LazyStudio]):
    """An MCPServer that hands tool calls and reads of links to the studio; tools that are added to it work as usual.

    Attributes:
        lazy_studio: the studio, which is opened while the server serves.
        listeners: serves the streams of `subscriptions/listen`; set once the server is built.
    """

    def __init__(self, lazy_studio: LazyStudio, calls: ToolCalls, **options: Any) -> None:
        super().__init__(**options)
        self.lazy_studio = lazy_studio
        self.listeners: TaskListenHandler | None = None
        self._calls = calls

    def end_streams(self) -> None:
        """End every stream of `subscriptions/listen` with its answer: the process is ending."""
        if self.listeners is not None:
            self.listeners.end()

    async def list_tools(self) -> list[Tool]:
        takes_uploads = self._calls.tools is HTTP_TOOLS
        listed = [_describe_tool(name, takes_uploads=takes_uploads) for name in self._calls.tools]
        return [*listed, *await super().list_tools()]

    async def call_tool(
        self, name: str, arguments: dict[str, Any], context: Context[LazyStudio, Any] | None = None
    ) -> Any:
        assert context is not None, "the SDK passes the context of the request"
        if name not in self._calls.tools and any(tool.name == name for tool in await self.list_tools()):
            return await super().call_tool(name, arguments, context)
        return await self._calls.answer(name, arguments, context)

    async def read_resource(self, uri: AnyUrl | str, context: Context[LazyStudio, Any] | None = None) -> Any:
        if not str(uri).startswith(_SCHEMES):
            return await super().read_resource(uri, context)
        assert context is not None, "the SDK passes the context of the request"
        principal = self._calls.principal_of(context.request_context)
        return [await read_link(await self.lazy_studio.studio(), str(uri), principal)]

    async def get_prompt(
        self, name: str, arguments: dict[str, Any] | None = None, context: Context[LazyStudio, Any] | None = None
    ) -> Any:
        check_prompt_request(await self.list_prompts(), name, arguments or {})
        return await super().get_prompt(name, arguments, context)


def principal_of(_: ServerRequestContext[Any, Any]) -> str:
    """On whose behalf a request of a stdio session comes: whoever may run commands on this machine."""
    return LOCAL_PRINCIPAL


def build_server(
    open_studio: OpenStudio,
    clients: ClientProfiles,
    inline_seconds: float | None,
    *,
    ask_above_usd: float | None = 1.0,
    has_open_jobs: Callable[[], bool] = lambda: False,
    retention_seconds: float | None = None,
    find_principal: PrincipalOf = principal_of,
    uploads_url: str | None = None,
    media_origins: Sequence[str] = (),
    key_entry: "KeyEntry | None" = None,
    build_tasks: Callable[[TaskStore, PrincipalOf], TasksExtension] = TasksExtension,
    instructions: str = INSTRUCTIONS,
    request_state: RequestStateSecurity | None = None,
    middleware: Sequence[ServerMiddleware[Any]] = (),
) -> StudioServer:
    """Build the server. Nothing heavy happens before the first call.

    Args:
        open_studio: opens the studio at its first use.
        clients: how long each client waits.
        inline_seconds: how long a call stays open, where the operator has decided it for all clients.
        ask_above_usd: the price of a call above which the user is asked first; None: never.
        has_open_jobs: whether a former process left jobs behind; then the studio is opened for them.
        retention_seconds: how long a task stays readable after it was opened; None: without limit.
        find_principal: on whose behalf a request comes.
        uploads_url: the address at which clients reach the server, where they can upload files to it.
        media_origins: where files of results open beside there, such as that of an object store.
        key_entry: asks principals for provider keys of their own, on a page; None: there is none.
        build_tasks: makes the tasks extension on the store of jobs; a server that adds tools may add their tasks.
        instructions: what the model of a client is given to read of this server.
        request_state: protects what a client sends back with the answer to a question; None: by a key of this process.
        middleware: what else sees every request, the outermost first.
    """
    bus = InMemorySubscriptionBus()
    broadcaster = JobBroadcaster(bus, lambda job_id: _read_changed_job(lazy_studio, job_id))
    lazy_studio = LazyStudio(open_studio, has_open_jobs, on_open=broadcaster.attach)
    consent = Consent(ask_above_usd)
    jobs = JobTasks(lazy_studio.studio, broadcaster, retention_seconds, TaskQuestions(lazy_studio, consent))
    tasks = build_tasks(jobs, find_principal)
    tracker = CallTracker(clients, is_learning=inline_seconds is None)
    tools = TOOLS if uploads_url is None else HTTP_TOOLS
    skills = SkillsExtension(load_skills())
    server = StudioServer(
        lazy_studio,
        ToolCalls(lazy_studio, tracker, inline_seconds, consent, find_principal, tools, uploads_url or "", key_entry),
        name="rotoscope",
        title="rotoscope",
        version=__version__,
        instructions=instructions if uploads_url is None else f"{instructions} {_UPLOAD_INSTRUCTIONS}",
        extensions=[tasks, skills, build_apps(uploads_url, media_origins)],
        subscriptions=bus,
        lifespan=partial(_run_background, lazy_studio, broadcaster),
        log_level="WARNING",
        request_state_security=request_state,
        middleware=[*middleware, check_request],
    )
    server.listeners = serve_subscriptions(server, broadcaster, bus, tasks, _build_subscription_check(server, tasks))
    for template in TEMPLATES:
        server.resource(template.uri, name=template.name, description=template.description, mime_type=template.mime)(
            template.placeholder
        )
    serve_skill_files(server, skills)
    serve_prompts(server, lazy_studio.studio, find_principal)
    return server


@asynccontextmanager
async def _run_background(
    lazy_studio: LazyStudio, broadcaster: JobBroadcaster, _: MCPServer[LazyStudio]
) -> AsyncIterator[LazyStudio]:
    """The time in which the server serves: jobs run, and their changes are published."""
    async with lazy_studio.lifespan(), anyio.create_task_group() as publishing:
        publishing.start_soon(broadcaster.publish_changes)
        yield lazy_studio
        publishing.cancel_scope.cancel()


async def _read_changed_job(lazy_studio: LazyStudio, job_id: str) -> "Job":
    return await (await lazy_studio.studio()).changed_job(job_id)


def _build_subscription_check(server: MCPServer[LazyStudio], tasks: TasksExtension) -> CanSubscribe:
    """Decides who may subscribe to what: to their own jobs, to what never changes, to what was added to the server."""

    async def can_subscribe(ctx: ServerRequestContext[Any, Any], uri: str) -> bool:
        job_id = job_id_from_uri(uri)
        if job_id is not None:
            return await tasks.store.get(tasks.principal_of(ctx), job_id) is not None
        return uri.startswith(_SCHEMES) or uri in {str(one.uri) for one in await server.list_resources()}

    return can_subscribe


@cache
def _describe_tool(name: str, *, takes_uploads: bool) -> Tool:
    """A tool as it is listed, built at the first request for it: building schemas takes time."""
    contract: ToolContract = (HTTP_TOOLS if takes_uploads else TOOLS)[name]
    annotations = ToolAnnotations(
        title=contract.title,
        read_only_hint=contract.is_read_only,
        destructive_hint=contract.is_destructive,
        idempotent_hint=contract.is_idempotent and not contract.can_cost_money,
        open_world_hint=contract.can_cost_money,
    )
    return Tool(
        name=name,
        title=contract.title,
        description=contract.description,
        input_schema=input_schema(contract.arguments),
        output_schema=output_schema(contract.result) if contract.has_structured_content else None,
        annotations=annotations,
        _meta=tool_meta(name),
    )
