"""The extension itself: which calls become tasks, and the three methods that clients use on them."""

from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.extension import Extension, MethodBinding
from mcp.server.mcpserver.server import require_client_extension
from mcp.shared.exceptions import MCPError
from mcp.shared.inbound import MCP_NAME_HEADER, decode_header_value
from mcp_types import HEADER_MISMATCH, INVALID_PARAMS, CallToolRequestParams, RequestParams
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import Field

from rotoscope.protocol.tasks.store import PrincipalOf, TaskStore
from rotoscope.protocol.tasks.task import IDENTIFIER, Task

__all__ = ["TaskOffer", "TaskParams", "TasksExtension", "UpdateParams", "current_offer", "has_tasks_extension"]

_MODERN = frozenset(MODERN_PROTOCOL_VERSIONS)


@dataclass(slots=True)
class TaskOffer:
    """A call that may become a task: a tool that sets `task_id` has its result replaced by that task."""

    task_id: str | None = None


_CURRENT_OFFER: ContextVar[TaskOffer | None] = ContextVar("tasks_extension_offer", default=None)


def current_offer() -> TaskOffer | None:
    """The offer of the call that is being served; None when its client takes no tasks."""
    return _CURRENT_OFFER.get()


def has_tasks_extension(ctx: ServerRequestContext[Any, Any]) -> bool:
    """Whether this very request declared the extension, in a revision that has it."""
    capabilities = ctx.session.client_capabilities
    declared = capabilities.extensions if capabilities else None
    return ctx.protocol_version in _MODERN and bool(declared) and IDENTIFIER in (declared or {})


class TaskParams(RequestParams):
    """Parameters of `tasks/get` and `tasks/cancel`."""

    task_id: str = Field(alias="taskId")


class UpdateParams(TaskParams):
    """Parameters of `tasks/update`."""

    input_responses: dict[str, dict[str, Any]] = Field(alias="inputResponses")


class TasksExtension(Extension):
    """Serves the tasks of a store.

    Args:
        store: where the tasks are kept.
        principal_of: on whose behalf a request comes.
        required: tools that have no answer but a task: a client that takes none is refused with -32021.
    """

    identifier = IDENTIFIER

    def __init__(self, store: TaskStore, principal_of: PrincipalOf, required: frozenset[str] = frozenset()) -> None:
        self.store = store
        self.principal_of = principal_of
        self._required = required

    def methods(self) -> Sequence[MethodBinding]:
        """The methods, which exist only in the revisions that have the extension."""
        return [
            MethodBinding("tasks/get", TaskParams, self._handle_get, _MODERN),
            MethodBinding("tasks/update", UpdateParams, self._handle_update, _MODERN),
            MethodBinding("tasks/cancel", TaskParams, self._handle_cancel, _MODERN),
        ]

    async def intercept_tool_call(
        self, params: CallToolRequestParams, ctx: ServerRequestContext[Any, Any], call_next: CallNext
    ) -> HandlerResult:
        """Serve the call; where its tool offers a task that the store has, answer with that."""
        if not has_tasks_extension(ctx):
            if params.name in self._required:
                require_client_extension(ctx, IDENTIFIER)
            return await call_next(ctx)
        token = _CURRENT_OFFER.set(offer := TaskOffer())
        try:
            result = await call_next(ctx)
        finally:
            _CURRENT_OFFER.reset(token)
        if offer.task_id is None:
            return result
        task = await self.store.get(self.principal_of(ctx), offer.task_id)
        return result if task is None else task.creation_payload()

    async def _handle_get(self, ctx: ServerRequestContext[Any, Any], params: TaskParams) -> HandlerResult:
        task = await self._find_task(ctx, params)
        if task.is_final:
            await self.store.mark_delivered(self.principal_of(ctx), task.id)
        return task.detail_payload()

    async def _handle_update(self, ctx: ServerRequestContext[Any, Any], params: UpdateParams) -> HandlerResult:
        task = await self._find_task(ctx, params)
        answers = {key: answer for key, answer in params.input_responses.items() if key in task.inputs}
        if answers:
            await self.store.update(self.principal_of(ctx), task.id, answers)
        return {}

    async def _handle_cancel(self, ctx: ServerRequestContext[Any, Any], params: TaskParams) -> HandlerResult:
        task = await self._find_task(ctx, params)
        if not task.is_final:
            await self.store.cancel(self.principal_of(ctx), task.id)
        return {}

    async def _find_task(self, ctx: ServerRequestContext[Any, Any], params: TaskParams) -> Task:
        """The task of a request, in the specification's order: routing header, declaration, task."""
        _check_routing(ctx, params.task_id)
        require_client_extension(ctx, IDENTIFIER)
        task = await self.store.get(self.principal_of(ctx), params.task_id)
        if task is None:
            raise MCPError(INVALID_PARAMS, "There is no such task.", {"taskId": params.task_id[:200]})
        return task


def _check_routing(ctx: ServerRequestContext[Any, Any], task_id: str) -> None:
    """Refuse a request whose `Mcp-Name` header, by which HTTP proxies route, differs from its body."""
    if ctx.request is not None and decode_header_value(ctx.request.headers.get(MCP_NAME_HEADER)) != task_id:
        raise MCPError(HEADER_MISMATCH, f"The {MCP_NAME_HEADER} header does not match the request's taskId.")
