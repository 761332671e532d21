"""The last messages of one session of the handshake era, kept to be sent again to a client that lost its stream.

The SDK numbers streams by the ids of requests, which are the same in every session. So each session has a store of its
own, and none can ask for what another was sent.
"""

import re
from collections import OrderedDict
from dataclasses import dataclass

from mcp.server.streamable_http import EventCallback, EventMessage, EventStore
from mcp_types import JSONRPCError, JSONRPCMessage, JSONRPCResponse

__all__ = ["StreamEvents"]

_NUMBER = re.compile(r"[0-9]{1,18}")


@dataclass(frozen=True, slots=True)
class _Event:
    stream_id: str
    message: JSONRPCMessage | None
    size: int


class StreamEvents(EventStore):
    """A bounded store of one session's events; the oldest go first.

    Args:
        most: how many are kept.
        most_bytes: of all that are kept. A message that is larger alone is sent once, and never again.
    """

    def __init__(self, most: int, most_bytes: int) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._events: OrderedDict[int, _Event] = OrderedDict()
        self._bytes = 0
        self._last = 0

    async def store_event(self, stream_id: str, message: JSONRPCMessage | None) -> str:
        """Keep an event; its id. A stream begins with an event without a message."""
        size = 0 if message is None else len(message.model_dump_json(by_alias=True, exclude_unset=True))
        self._last += 1
        if size <= self._most_bytes:
            self._events[self._last] = _Event(stream_id, message, size)
            self._bytes += size
        while len(self._events) > self._most or self._bytes > self._most_bytes:
            self._bytes -= self._events.popitem(last=False)[1].size
        return str(self._last)

    async def replay_events_after(self, last_event_id: str, send_callback: EventCallback) -> str | None:
        """Send what came on an event's stream after it.

        Returns:
            The stream's id, where more may come on it; None where its answer was sent, or the event is not kept.
        """
        number = int(last_event_id) if _NUMBER.fullmatch(last_event_id) else 0
        known = self._events.get(number)
        if known is None:
            return None
        later = [(n, one) for n, one in self._events.items() if n > number and one.stream_id == known.stream_id]
        is_answered = isinstance(known.message, JSONRPCResponse | JSONRPCError)
        for n, one in later:
            if one.message is not None:
                await send_callback(EventMessage(one.message, str(n)))
                is_answered = is_answered or isinstance(one.message, JSONRPCResponse | JSONRPCError)
        return None if is_answered else known.stream_id
