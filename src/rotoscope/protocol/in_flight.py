"""Requests that are being served, and those that wait for a slot: bounded in number and in bytes.

At most some hundred requests are served at once. Whoever sends more is read on, because what unblocks those that are
served may come behind: `notifications/cancelled`, a reply to a question of ours, a ping. So requests wait here in
order, and what is none of them goes ahead. Where very many wait, nothing more is read until some are answered.
"""

from collections import deque
from contextvars import Context
from dataclasses import dataclass, field
from typing import Final

import anyio
from mcp.shared.message import SessionMessage
from mcp_types import JSONRPCNotification, JSONRPCRequest, RequestId

__all__ = ["BatchReplies", "IncomingMessage", "RequestQueue"]

MAX_ACTIVE: Final = 256
MAX_ACTIVE_BYTES: Final = 64 * 1024 * 1024
_MAX_WAITING, _MAX_QUEUE_BYTES = 4_096, 32 * 1024 * 1024
_MAX_BYPASS = 32
_PING, _LISTEN = "ping", "subscriptions/listen"


@dataclass(slots=True)
class BatchReplies:
    """The answers to the requests of one batch, as they come in.

    Attributes:
        missing_count: how many are to come.
    """

    missing_count: int
    lines: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class IncomingMessage:
    """A message that was read.

    Attributes:
        context: in which it was read: what is known of its arrival.
        size: of its line, in bytes.
        batch: that it is a part of, if any.
    """

    message: SessionMessage
    context: Context | None = None
    size: int = 0
    batch: BatchReplies | None = None

    @property
    def request_id(self) -> RequestId | None:
        """Of a request alone."""
        message = self.message.message
        return message.id if isinstance(message, JSONRPCRequest) else None

    @property
    def method(self) -> str:
        """Of a request alone; else empty."""
        message = self.message.message
        return message.method if isinstance(message, JSONRPCRequest) else ""

    @property
    def is_limited(self) -> bool:
        """Whether it must wait for a slot: short requests, and those open as long as their client, need not."""
        return self.method not in ("", _PING, _LISTEN)

    @property
    def is_counted(self) -> bool:
        """Whether it takes a slot while it is served. Subscriptions are bounded by their own handler."""
        return self.method not in ("", _LISTEN)

    @property
    def cancel_target(self) -> str | None:
        """The request that it takes back, as `str` writes its id."""
        message = self.message.message
        if not isinstance(message, JSONRPCNotification) or message.method != "notifications/cancelled":
            return None
        request_id = (message.params or {}).get("requestId")
        return None if request_id is None else str(request_id)


@dataclass(frozen=True, slots=True)
class _ActiveRequest:
    """What must be known of a request until it is answered."""

    is_counted: bool
    size: int
    batch: BatchReplies | None


class RequestQueue:
    """Hands on what was read, in order, and no more requests than may be served at once.

    Args:
        max_active: how many.
    """

    def __init__(self, max_active: int = MAX_ACTIVE) -> None:
        self._max_active = max_active
        self._waiting: deque[tuple[int, IncomingMessage]] = deque()
        self._bypass: deque[tuple[int, IncomingMessage]] = deque()
        self._active: dict[str, list[_ActiveRequest]] = {}
        self._active_count = 0
        self._active_bytes = self._queue_bytes = 0
        self._sequence = 0
        self._ended = False
        self._changed = anyio.Event()

    def put(self, arrived: IncomingMessage) -> BatchReplies | None:
        """Take a message that was read; the answers to a batch, when it takes back a request of one."""
        place = self._queue_position(arrived.cancel_target)
        if place is not None and self._can_withdraw(place):
            return self._withdraw(place).batch  # it was not started, so nothing has to be cancelled
        self._sequence += 1
        # What takes back a request that is about to be served comes behind it.
        queue = self._waiting if arrived.is_limited or place is not None else self._bypass
        queue.append((self._sequence, arrived))
        self._queue_bytes += arrived.size
        self._wake()
        return self.finish_request(arrived.cancel_target) if place is None else None

    async def wait_for_space(self) -> None:
        """Wait until more may be read."""
        while (
            len(self._waiting) >= _MAX_WAITING
            or len(self._bypass) >= _MAX_BYPASS
            or self._queue_bytes >= _MAX_QUEUE_BYTES
        ):
            await self._changed.wait()

    async def take(self) -> IncomingMessage:
        """The next message to serve.

        Raises:
            anyio.EndOfStream: there is none, and none follows.
        """
        while (found := self._pop_next()) is None:
            if self._ended:
                raise anyio.EndOfStream
            await self._changed.wait()
        if found.request_id is not None:
            served = _ActiveRequest(found.is_counted, found.size, found.batch)
            self._active.setdefault(str(found.request_id), []).append(served)
            self._active_count += served.is_counted
            self._active_bytes += found.size
        self._wake()
        return found

    def finish_request(self, request_id: RequestId | None) -> BatchReplies | None:
        """A request was answered, or will not be; the batch that it came in, if any."""
        served = self._active.get(str(request_id)) if request_id is not None else None
        if not served:
            return None
        found = served.pop(0)
        if not served:
            del self._active[str(request_id)]
        self._active_count -= found.is_counted
        self._active_bytes -= found.size
        self._wake()
        return found.batch

    def close(self) -> None:
        """Nothing more is read."""
        self._ended = True
        self._wake()

    def _pop_next(self) -> IncomingMessage | None:
        """Of the two queues, what came first; what waits for a slot is overtaken."""
        waiting = self._waiting[0][0] if self._waiting and self._has_capacity() else None
        passing = self._bypass[0][0] if self._bypass and self._active_count < 2 * self._max_active else None
        if waiting is None and passing is None:
            return None
        first = waiting is not None and (passing is None or waiting < passing)
        found = (self._waiting if first else self._bypass).popleft()[1]
        self._queue_bytes -= found.size
        if first:
            self.finish_request(found.cancel_target)
        return found

    def _has_capacity(self) -> bool:
        return self._active_count == 0 or (
            self._active_count < self._max_active and self._active_bytes < MAX_ACTIVE_BYTES
        )

    def _queue_position(self, request_id: str | None) -> int | None:
        """Where a request waits that is to be taken back."""
        if request_id is None:
            return None
        return next((at for at, (_, one) in enumerate(self._waiting) if str(one.request_id) == request_id), None)

    def _can_withdraw(self, place: int) -> bool:
        """Whether a request is not about to be served; of a batch, whether it waits at all."""
        has_place = self._has_capacity() and place < self._max_active - self._active_count
        return not has_place or self._waiting[place][1].batch is not None

    def _withdraw(self, place: int) -> IncomingMessage:
        _, arrived = self._waiting[place]
        del self._waiting[place]
        self._queue_bytes -= arrived.size
        self._wake()
        return arrived

    def _wake(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()
