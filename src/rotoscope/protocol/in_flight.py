"""Requests that are being served, and those that wait until there is room: bounded in number and in bytes.

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

__all__ = ["Answers", "Arrived", "Flights"]

AT_ONCE: Final = 256
AT_ONCE_BYTES: Final = 64 * 1024 * 1024
_WAITING, _HELD_BYTES = 4_096, 32 * 1024 * 1024
_PASSING = 32
_PING, _LISTEN = "ping", "subscriptions/listen"


@dataclass(slots=True)
class Answers:
    """The answers to the requests of one batch, as they come in.

    Attributes:
        missing: how many are to come.
    """

    missing: int
    lines: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Arrived:
    """A message that was read.

    Attributes:
        context: in which it was read: what is known of its arrival.
        size: of its line, in bytes.
        batch: that it is a part of, if any.
    """

    message: SessionMessage
    context: Context | None = None
    size: int = 0
    batch: Answers | None = None

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
    def waits(self) -> bool:
        """Whether it is served only where there is room: what is short, or open as long as its client, is not held."""
        return self.method not in ("", _PING, _LISTEN)

    @property
    def is_counted(self) -> bool:
        """Whether it takes room while it is served. Streams of changes are bounded by their own handler."""
        return self.method not in ("", _LISTEN)

    @property
    def cancels(self) -> str | None:
        """The request that it takes back, as `str` writes its id."""
        message = self.message.message
        if not isinstance(message, JSONRPCNotification) or message.method != "notifications/cancelled":
            return None
        request_id = (message.params or {}).get("requestId")
        return None if request_id is None else str(request_id)


@dataclass(frozen=True, slots=True)
class _Served:
    """What must be known of a request until it is answered."""

    is_counted: bool
    size: int
    batch: Answers | None


class Flights:
    """Hands on what was read, in order, and no more requests than may be served at once.

    Args:
        at_once: how many.
    """

    def __init__(self, at_once: int = AT_ONCE) -> None:
        self._at_once = at_once
        self._waiting: deque[tuple[int, Arrived]] = deque()
        self._passing: deque[tuple[int, Arrived]] = deque()
        self._served: dict[str, list[_Served]] = {}
        self._count = 0
        self._bytes = self._held_bytes = 0
        self._number = 0
        self._ended = False
        self._changed = anyio.Event()

    def put(self, arrived: Arrived) -> Answers | None:
        """Take a message that was read; the answers to a batch, when it takes back a request of one."""
        place = self._place_of(arrived.cancels)
        if place is not None and self._is_held(place):
            return self._withdrawn(place).batch  # nobody has seen it, so nobody needs to hear of its end
        self._number += 1
        # What takes back a request that is about to be served comes behind it.
        queue = self._waiting if arrived.waits or place is not None else self._passing
        queue.append((self._number, arrived))
        self._held_bytes += arrived.size
        self._wake()
        return self.answered(arrived.cancels) if place is None else None

    async def room(self) -> None:
        """Wait until more may be read."""
        while len(self._waiting) >= _WAITING or len(self._passing) >= _PASSING or self._held_bytes >= _HELD_BYTES:
            await self._changed.wait()

    async def take(self) -> Arrived:
        """The next message to serve.

        Raises:
            anyio.EndOfStream: there is none, and none follows.
        """
        while (found := self._next()) is None:
            if self._ended:
                raise anyio.EndOfStream
            await self._changed.wait()
        if found.request_id is not None:
            served = _Served(found.is_counted, found.size, found.batch)
            self._served.setdefault(str(found.request_id), []).append(served)
            self._count += served.is_counted
            self._bytes += found.size
        self._wake()
        return found

    def answered(self, request_id: RequestId | None) -> Answers | None:
        """A request was answered, or will not be; the batch that it came in, if any."""
        served = self._served.get(str(request_id)) if request_id is not None else None
        if not served:
            return None
        found = served.pop(0)
        if not served:
            del self._served[str(request_id)]
        self._count -= found.is_counted
        self._bytes -= found.size
        self._wake()
        return found.batch

    def end(self) -> None:
        """Nothing more is read."""
        self._ended = True
        self._wake()

    def _next(self) -> Arrived | None:
        """Of the two queues, what came first; what waits for room is overtaken."""
        waiting = self._waiting[0][0] if self._waiting and self._has_room() else None
        passing = self._passing[0][0] if self._passing and self._count < 2 * self._at_once else None
        if waiting is None and passing is None:
            return None
        first = waiting is not None and (passing is None or waiting < passing)
        found = (self._waiting if first else self._passing).popleft()[1]
        self._held_bytes -= found.size
        if first:
            self.answered(found.cancels)
        return found

    def _has_room(self) -> bool:
        return self._count == 0 or (self._count < self._at_once and self._bytes < AT_ONCE_BYTES)

    def _place_of(self, request_id: str | None) -> int | None:
        """Where a request waits that is to be taken back."""
        if request_id is None:
            return None
        return next((at for at, (_, one) in enumerate(self._waiting) if str(one.request_id) == request_id), None)

    def _is_held(self, place: int) -> bool:
        """Whether a request is not about to be served; of a batch, whether it waits at all."""
        has_room = self._has_room() and place < self._at_once - self._count
        return not has_room or self._waiting[place][1].batch is not None

    def _withdrawn(self, place: int) -> Arrived:
        _, arrived = self._waiting[place]
        del self._waiting[place]
        self._held_bytes -= arrived.size
        self._wake()
        return arrived

    def _wake(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()
