"""`subscriptions/listen` with task ids: the SDK's own handler knows only its four kinds of events.

It keeps what the SDK's handler promises: it subscribes before it acknowledges, the acknowledgement is the first
frame, every frame carries the request's id, and a stream whose reader has stopped is ended. Each frame says that
something changed: what is waiting already is not queued twice.
"""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, cast

import anyio
from mcp.server.context import ServerRequestContext
from mcp.server.mcpserver.server import require_client_extension
from mcp.server.subscriptions import SUBSCRIPTION_ID_META_KEY, ServerEvent, SubscriptionBus
from mcp.shared.exceptions import MCPError
from mcp.shared.subscriptions import event_matches, event_to_notification
from mcp_types import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    INVALID_REQUEST,
    Notification,
    RequestId,
    ServerNotification,
    SubscriptionFilter,
    SubscriptionsAcknowledgedNotification,
    SubscriptionsAcknowledgedNotificationParams,
    SubscriptionsListenRequestParams,
    SubscriptionsListenResult,
)

from rotoscope.protocol.tasks.extension import TasksExtension
from rotoscope.protocol.tasks.task import IDENTIFIER

__all__ = ["TaskListenHandler"]

_log = logging.getLogger(__name__)
_TASK_IDS = "taskIds"
_MAX_STREAMS, _MAX_WAITING = 1024, 1024  # as the SDK's own handler bounds them
_MAX_NAMED = 1024

Context = ServerRequestContext[Any, Any]


@dataclass(frozen=True, slots=True)
class _TaskChanged:
    task_id: str


class _Inbox:
    """The notices that one listener has not been sent yet, each once."""

    def __init__(self, limit: int) -> None:
        self._send, self._receive = anyio.create_memory_object_stream[ServerEvent | _TaskChanged](limit)
        self._waiting: set[ServerEvent | _TaskChanged] = set()

    def put(self, event: ServerEvent | _TaskChanged) -> bool:
        """Queue an event; False when there are so many that the reader must have stopped, which ends the stream."""
        if event in self._waiting:
            return True
        try:
            self._send.send_nowait(event)
        except anyio.WouldBlock:
            self._send.close()
            return False
        except (anyio.ClosedResourceError, anyio.BrokenResourceError):
            return False
        self._waiting.add(event)
        return True

    async def events(self) -> AsyncIterator[ServerEvent | _TaskChanged]:
        async for event in self._receive:
            self._waiting.discard(event)
            yield event

    def end(self) -> None:
        """Take no more; what waits is still read."""
        self._send.close()

    def close(self) -> None:
        self._send.close()
        self._receive.close()


class TaskListenHandler:
    """Serves `subscriptions/listen`: one call is one stream. Register it for that method on the low-level server.

    Args:
        bus: where the server publishes its events.
        tasks: the extension whose tasks may be listened to.
        can_subscribe: whether a request's principal may subscribe to a resource.
        streams: how many streams may be open at once; more are refused.
        waiting: how many events may wait for one reader before its stream is ended.
    """

    def __init__(
        self,
        bus: SubscriptionBus,
        tasks: TasksExtension,
        can_subscribe: Callable[[Context, str], Awaitable[bool]],
        *,
        streams: int = _MAX_STREAMS,
        waiting: int = _MAX_WAITING,
    ) -> None:
        self._bus = bus
        self._tasks = tasks
        self._can_subscribe = can_subscribe
        self._streams = streams
        self._waiting = waiting
        self._inboxes: set[_Inbox] = set()

    async def __call__(self, ctx: Context, params: SubscriptionsListenRequestParams) -> SubscriptionsListenResult:
        """Acknowledge what is agreed, then forward events until the client goes away.

        Raises:
            MCPError: -32021 when task ids come from a client that did not declare the extension; -32603 when as many
                streams as may be are open, or being opened.
        """
        if ctx.request_id is None:
            raise MCPError(INVALID_REQUEST, "subscriptions/listen needs a request id.")
        with ExitStack() as closing:
            inbox = self._open_inbox(closing)
            agreed, task_ids = await self._grant_filter(ctx, params.notifications)
            meta = {SUBSCRIPTION_ID_META_KEY: ctx.request_id}
            self._subscribe(inbox, agreed, task_ids, closing)
            acknowledged = SubscriptionsAcknowledgedNotificationParams(notifications=agreed, _meta=meta)
            await _send_notification(ctx, SubscriptionsAcknowledgedNotification(params=acknowledged), ctx.request_id)
            ended: set[str] = set()
            async for event in inbox.events():
                # Several changes may lie before one look that shows the end, which is sent once.
                if not isinstance(event, _TaskChanged) or event.task_id not in ended:
                    ended |= await self._send_event(ctx, event, meta, ctx.request_id)
        return SubscriptionsListenResult(_meta=meta)

    def end(self) -> None:
        """End every stream with its answer, which says that it was ended on purpose."""
        for inbox in list(self._inboxes):
            inbox.end()

    async def _grant_filter(
        self, ctx: Context, wanted: SubscriptionFilter
    ) -> tuple[SubscriptionFilter, frozenset[str]]:
        """The part of a subscription that is granted: unknown and foreign tasks and resources are left out alike."""
        asked = (wanted.model_extra or {}).get(_TASK_IDS)
        if asked is not None:
            require_client_extension(ctx, IDENTIFIER)
        ids, links = _read_task_ids(asked), wanted.resource_subscriptions or []
        if len(ids) + len(links) > _MAX_NAMED:
            raise MCPError(INVALID_PARAMS, f"A subscription names at most {_MAX_NAMED} tasks and resources.")
        principal = self._tasks.principal_of(ctx)
        granted = [one for one in ids if await self._tasks.store.get(principal, one) is not None]
        uris = [uri for uri in links if await self._can_subscribe(ctx, uri)]
        agreed = SubscriptionFilter(
            tools_list_changed=wanted.tools_list_changed or None,
            prompts_list_changed=wanted.prompts_list_changed or None,
            resources_list_changed=wanted.resources_list_changed or None,
            resource_subscriptions=uris or None,
            **({_TASK_IDS: granted} if granted else {}),
        )
        return agreed, frozenset(granted)

    def _open_inbox(self, closing: ExitStack) -> _Inbox:
        """A stream's inbox, counted before anything is waited for: many requests may be looked up at once."""
        if len(self._inboxes) >= self._streams:
            raise MCPError(INTERNAL_ERROR, "Too many subscriptions are open.")
        inbox = _Inbox(self._waiting)
        self._inboxes.add(inbox)
        closing.callback(self._inboxes.discard, inbox)
        closing.callback(inbox.close)
        return inbox

    def _subscribe(
        self, inbox: _Inbox, agreed: SubscriptionFilter, task_ids: frozenset[str], closing: ExitStack
    ) -> None:
        """Fill an inbox from now on. It begins with every task: one may have ended before it was listened to."""
        uris = frozenset(agreed.resource_subscriptions or ())

        def put_event(event: ServerEvent | _TaskChanged) -> None:
            if not inbox.put(event):
                # The slot is free now: this stream's own task may hang in a write to a reader that has stopped.
                self._inboxes.discard(inbox)
                _log.warning("a subscription was ended: its reader has stopped")

        def handle_event(event: ServerEvent) -> None:
            if event_matches(agreed, uris, event):
                put_event(event)

        def handle_task_change(task_id: str) -> None:
            if task_id in task_ids:
                put_event(_TaskChanged(task_id))

        closing.callback(self._bus.subscribe(handle_event))
        closing.callback(self._tasks.store.watch(handle_task_change))
        for task_id in task_ids:
            handle_task_change(task_id)

    async def _send_event(
        self, ctx: Context, event: ServerEvent | _TaskChanged, meta: dict[str, Any], request_id: RequestId
    ) -> set[str]:
        """Send what an event means; the ids of the tasks whose end that was."""
        if not isinstance(event, _TaskChanged):
            await _send_notification(ctx, event_to_notification(event, meta), request_id)
            return set()
        store, principal = self._tasks.store, self._tasks.principal_of(ctx)
        task = await store.get(principal, event.task_id)
        if task is None:
            return set()
        params: dict[str, Any] = {**task.detail_payload(), "_meta": meta}
        await _send_notification(
            ctx, Notification[dict[str, Any], str](method="notifications/tasks", params=params), request_id
        )
        if not task.is_final:
            return set()
        await store.mark_delivered(principal, event.task_id)
        return {task.id}


async def _send_notification(
    ctx: Context, notification: ServerNotification | Notification[dict[str, Any], str], request_id: RequestId
) -> None:
    # The SDK's type lists the notifications of the specification; it sends any.
    await ctx.session.send_notification(cast("ServerNotification", notification), related_request_id=request_id)


def _read_task_ids(asked: object) -> list[str]:
    if asked is None:
        return []
    if not isinstance(asked, list) or not all(isinstance(one, str) for one in asked):
        raise MCPError(INVALID_PARAMS, "taskIds must be a list of strings.")
    return list(dict.fromkeys(asked))
