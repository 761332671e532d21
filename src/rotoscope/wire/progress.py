"""How far one request has come, and what its failure proves."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import anyio

from rotoscope.errors import ReplyLost, RotoscopeError, Unreachable
from rotoscope.wire.countdown import Countdown

if TYPE_CHECKING:
    from httpcore import AsyncNetworkStream

__all__ = ["RequestProgress"]


class RequestProgress:
    """Watches one request leave and translates its failure.

    As long as nothing of the request was written, whatever fails proves that nothing was sent, be it an error of the
    network, of a proxy or of a library. From the first byte on nothing proves that any more.

    Args:
        who: the one that is spoken to, in words.
        countdown: bounds the connection; once that stands, the reply.
        patience: how many seconds the reply may take.
        guard: called when a connection stands and nothing was sent on it yet; what it raises comes out.
    """

    def __init__(
        self, who: str, countdown: Countdown, patience: float, guard: Callable[[], None] | None = None
    ) -> None:
        self.countdown = countdown
        self._who = who
        self._patience = patience
        self._guard = guard
        self._guarding = False
        self._out = False
        self._stream: AsyncNetworkStream | None = None

    async def told(self, step: str, facts: Mapping[str, Any]) -> None:
        """Hear of a step of httpcore: https://www.encode.io/httpcore/extensions/#trace.

        The question to a proxy for a tunnel (CONNECT) goes through the same steps; it is not the request.
        """
        if step.endswith("connect_tcp.complete"):
            self._stream = facts["return_value"]
        elif step.endswith("send_request_headers.started"):
            asked = facts.get("request")
            if asked is None or asked.method != b"CONNECT":
                self._leaves()
        elif step.endswith("send_request_headers.failed"):
            from httpcore import LocalProtocolError

            # Headers that cannot be worded: they are worded whole before any of them is written.
            self._out = self._out and not isinstance(facts.get("exception"), LocalProtocolError)

    async def drop(self) -> None:
        """Close a connection that nothing was sent on: httpcore forgets one that is cut off before it stands."""
        if self._stream is not None and not self._out:
            with anyio.CancelScope(shield=True):
                await self._stream.aclose()

    def goes_on(self) -> None:
        """Something more was sent or came: from now on the rest has the whole patience."""
        if self._out:
            self.countdown.restart(self._patience)

    def _leaves(self) -> None:
        if self._guard is not None:
            self._guarding = True
            self._guard()
            self._guarding = False
        self._out = True
        self.goes_on()

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if self._guarding or isinstance(error, RotoscopeError) or not isinstance(error, Exception):
            return
        if not self._out:
            raise Unreachable(
                f"{self._who} could not be reached; nothing was sent.", hint="Check the network, then try again."
            ) from error
        late = isinstance(error, TimeoutError)
        raise ReplyLost(
            f"The reply of {self._who} did not come {'in time' if late else 'back'}.", hint="Ask for the job again."
        ) from error
