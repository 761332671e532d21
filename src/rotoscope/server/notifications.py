"""Subscriptions to jobs, in both eras of the protocol, from one broadcaster.

A change is written to the ledger first and wakes the calls that wait. Then it goes to `subscriptions/listen` streams,
to the sessions that sent `resources/subscribe`, and to the listeners of tasks. A notification says that a job changed;
the subscriber reads what changed.
"""

import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Protocol

import anyio
from mcp.server.context import ServerRequestContext
from mcp.server.mcpserver import MCPServer
from mcp.server.session import ServerSession
from mcp.server.subscriptions import ResourceUpdated, SubscriptionBus
from mcp.shared.exceptions import MCPError
from mcp_types import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    EmptyResult,
    SubscribeRequestParams,
    SubscriptionsListenRequestParams,
    UnsubscribeRequestParams,
)

from rotoscope.errors import RotoscopeError
from rotoscope.protocol.lowlevel import serve_method
from rotoscope.protocol.tasks import TaskListenHandler, TasksExtension
from rotoscope.store.records import ENDED_STATES, Job

__all__ = ["CanSubscribe", "ChangeSource", "JobBroadcaster", "job_id_from_uri", "serve_subscriptions"]

_log = logging.getLogger(__name__)
_SCHEME = "job://"
_MAX_SUBSCRIPTIONS, _MAX_FINAL_TIMES = 1024, 1024
_SEND_SECONDS = 10.0
_STDIO_CLIENT = "stdio"  # a process that serves a pipe has one client

Context = ServerRequestContext[Any, Any]
Listener = Callable[[str], None]
CanSubscribe = Callable[[Context, str], Awaitable[bool]]


class ChangeSource(Protocol):
    """Where changes of jobs come from: of this process, and of others that work on the same ledger."""

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Call a listener with the id of every job that changes, on the event loop, until what is returned is called.

        The listener neither waits nor raises. An id may come more often than its job changes.
        """
        ...


class JobBroadcaster:
    """Passes every change of a job on to its subscribers outside; tasks take their changes from it.

    Args:
        bus: reaches the streams of `subscriptions/listen`; each of them also subscribes here.
        read_job: reads a job from the ledger.
    """

    def __init__(self, bus: SubscriptionBus, read_job: Callable[[str], Awaitable[Job]]) -> None:
        self._bus = bus
        self._read_job = read_job
        self._pending: OrderedDict[str, None] = OrderedDict()
        self._wakeup: anyio.Event | None = None
        self._final_times: OrderedDict[str, float] = OrderedDict()
        self._listeners: dict[object, Listener] = {}
        self._sessions: dict[str, dict[str, ServerSession]] = {}

    def attach(self, changes: ChangeSource) -> None:
        """Pass on the changes of a source, from now on."""
        changes.subscribe(self.queue_change)

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Call a listener with the id of every job that changes, until what is returned is called."""
        token = object()
        self._listeners[token] = listener

        def remove_listener() -> None:
            self._listeners.pop(token, None)

        return remove_listener

    def queue_change(self, job_id: str) -> None:
        """Have a change published by `publish_changes`. Never waits."""
        self._pending[job_id] = None
        if self._wakeup is not None:
            self._wakeup.set()

    async def publish_changes(self) -> None:
        """Publish changes as they come, until cancelled. No subscriber can hold it up."""
        self._wakeup = None  # an event belongs to the loop that made it, and a server may be served again
        async with anyio.create_task_group() as sending:
            while True:
                job_id = await self._next_change()
                job = await self._load_job(job_id) if self._has_subscribers(job_id) else None
                is_known = job is not None and self._is_known_end(job)
                if not is_known:
                    await self._bus.publish(ResourceUpdated(_SCHEME + job_id))
                self._notify_sessions(job_id, sending)  # also those who subscribed after its end
                for listener in [] if is_known else list(self._listeners.values()):
                    listener(job_id)
                if job is not None and job.state in ENDED_STATES:  # not after a review: its outcome is published too
                    self._sessions.pop(_SCHEME + job_id, None)

    def add_session(self, uri: str, key: str, session: ServerSession) -> None:
        """Notify a session of the handshake era of every change of a job, until the job has ended.

        For a job that has ended already it is notified at once, as no other notification will come.

        Raises:
            MCPError: there are too many subscriptions.
        """
        job_id = job_id_from_uri(uri)
        if job_id is None:
            return  # nothing else that is served here ever changes
        if uri not in self._sessions and len(self._sessions) >= _MAX_SUBSCRIPTIONS:
            raise MCPError(INTERNAL_ERROR, "Too many subscriptions are open.")
        self._sessions.setdefault(uri, {})[key] = session
        self.queue_change(job_id)

    def remove_session(self, uri: str, key: str) -> None:
        """Remove a subscription, if there is one."""
        subscribers = self._sessions.get(uri, {})
        subscribers.pop(key, None)
        if not subscribers:
            self._sessions.pop(uri, None)

    async def _next_change(self) -> str:
        while not self._pending:
            if self._wakeup is None or self._wakeup.is_set():
                self._wakeup = anyio.Event()
            await self._wakeup.wait()
        return self._pending.popitem(last=False)[0]

    def _has_subscribers(self, job_id: str) -> bool:
        """Whether anybody may listen to a job: thousands change, and each read is a question to the ledger."""
        return bool(self._listeners) or _SCHEME + job_id in self._sessions

    async def _load_job(self, job_id: str) -> Job | None:
        try:
            return await self._read_job(job_id)
        except RotoscopeError:
            _log.warning(
                "a job that changed could not be read; its subscribers are notified all the same", exc_info=True
            )
            return None

    def _is_known_end(self, job: Job) -> bool:
        """Whether the end of a job was published before: reading a job may cause a notification, which must end."""
        if not job.is_final:
            return False
        known = self._final_times.get(job.id) == job.updated_at
        self._final_times[job.id] = job.updated_at
        if len(self._final_times) > _MAX_FINAL_TIMES:
            self._final_times.popitem(last=False)
        return known

    def _notify_sessions(self, job_id: str, sending: anyio.abc.TaskGroup) -> None:
        uri = _SCHEME + job_id
        for session in self._sessions.get(uri, {}).values():
            sending.start_soon(_send_update, session, uri)


def serve_subscriptions(
    server: MCPServer[Any],
    broadcaster: JobBroadcaster,
    bus: SubscriptionBus,
    tasks: TasksExtension,
    can_subscribe: CanSubscribe,
) -> TaskListenHandler:
    """Serve the subscription methods of both eras. Call it once, right after the server is built.

    Args:
        server: the server, whose bus is `bus`.
        broadcaster: where subscribers are kept.
        bus: reaches the streams of `subscriptions/listen`.
        tasks: the extension whose tasks may be listened to.
        can_subscribe: whether a request's principal may subscribe to a resource.

    Returns:
        What serves the streams of `subscriptions/listen`.
    """

    async def handle_subscribe(ctx: Context, params: SubscribeRequestParams) -> EmptyResult:
        if not await can_subscribe(ctx, params.uri):
            raise MCPError(INVALID_PARAMS, "Unknown resource.", {"uri": params.uri[:200]})
        broadcaster.add_session(params.uri, _client_key(ctx), ctx.session)
        return EmptyResult()

    async def handle_unsubscribe(ctx: Context, params: UnsubscribeRequestParams) -> EmptyResult:
        broadcaster.remove_session(params.uri, _client_key(ctx))
        return EmptyResult()

    serve_method(server, "resources/subscribe", SubscribeRequestParams, handle_subscribe)
    serve_method(server, "resources/unsubscribe", UnsubscribeRequestParams, handle_unsubscribe)
    listening = TaskListenHandler(bus, tasks, can_subscribe)
    serve_method(server, "subscriptions/listen", SubscriptionsListenRequestParams, listening)
    return listening


def job_id_from_uri(uri: str) -> str | None:
    """The id of the job that a link names, or None for a link to something else."""
    return uri.removeprefix(_SCHEME) if uri.startswith(_SCHEME) else None


def _client_key(ctx: Context) -> str:
    """Names the client: `ctx.session` is a new object at each request."""
    return str(ctx.request.headers.get("mcp-session-id", "")) if ctx.request is not None else _STDIO_CLIENT


async def _send_update(session: ServerSession, uri: str) -> None:
    with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError), anyio.move_on_after(_SEND_SECONDS):
        await session.send_resource_updated(uri)
