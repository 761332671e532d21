"""Deadlines that count the time in which this process ran, and not a pause of it.

A process can be stopped for a while (SIGSTOP, a paused machine, swapping) while a reply waits in its socket. The
monotonic clock goes on meanwhile, and a deadline by that clock would throw the reply away unread. So a deadline is
watched in short steps; each counts for its own length at most, and after one that took far too long there is always
another, in which what has come is read.

How far one request has come, and what its failure proves.

By which lane a request goes, and what it is on its way: none waits behind another kind's.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import anyio

from rotoscope.errors import ReplyLost, RotoscopeError, Unreachable
from rotoscope.providers.http.bodies import has_file
from rotoscope.providers.http.guard import Destination
from rotoscope.providers.http.messages import HttpCall

if TYPE_CHECKING:
    from httpcore import AsyncNetworkStream

__all__ = [
    "NO_KEEPALIVE",
    "Countdown",
    "CountdownTiming",
    "Lane",
    "OutgoingRequest",
    "RequestProgress",
    "lane_of",
    "outgoing_request",
]

_MIN_SECONDS_LEFT = 0.001  # seconds; less than this is nothing
_MAX_EXTRA_STEPS = 3  # so that every wait ends, even on a machine that is paused again and again
Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class CountdownTiming:
    """How a deadline is watched.

    Attributes:
        clock: the monotonic time in seconds.
        sleep: waits some seconds.
        event: the longest wait between two looks at the clock, in seconds.
    """

    clock: Callable[[], float] = anyio.current_time
    sleep: Callable[[float], Awaitable[None]] = anyio.sleep
    step: float = 1.0


class Countdown:
    """Some seconds of running time for one piece of work; whoever sees progress may start them anew.

    Args:
        seconds: how much time there is.
        timing: how it is watched.
    """

    def __init__(self, seconds: float, timing: CountdownTiming) -> None:
        self._left = seconds
        self._timing = timing
        self._since = timing.clock()

    def restart(self, seconds: float) -> None:
        """From now on there are so many seconds."""
        self._left = seconds
        self._since = self._timing.clock()

    async def run(self, work: Callable[[], Awaitable[Answer]]) -> Answer:
        """Do work within the time; its errors come out as they are.

        Raises:
            TimeoutError: the time was over first.
        """
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._watch, tasks.cancel_scope)
                answer = await work()
                tasks.cancel_scope.cancel()
                return answer
        except BaseExceptionGroup as group:
            # The watcher raises nothing, so there is one: that of the work.
            raise group.exceptions[0] from group.exceptions[0].__cause__
        raise TimeoutError

    async def _watch(self, scope: anyio.CancelScope) -> None:
        last_looks = _MAX_EXTRA_STEPS
        while self._left > _MIN_SECONDS_LEFT:
            step = min(self._left, self._timing.step)
            await self._timing.sleep(step)
            paused = self._deduct(step)
            if self._left <= _MIN_SECONDS_LEFT and paused and last_looks:
                self._left, last_looks = self._timing.step, last_looks - 1
        scope.cancel()

    def _deduct(self, step: float) -> bool:
        """Take off what has passed, one step at the most; whether far more has passed."""
        now = self._timing.clock()
        passed, self._since = now - self._since, now
        self._left -= min(passed, step)
        return passed > step + self._timing.step


class RequestProgress:
    """Watches one request leave and translates its failure.

    As long as nothing of the request was written, whatever fails proves that nothing was sent, be it an error of the
    network, of a proxy or of a library. From the first byte on nothing proves that any more.

    Args:
        peer: the one that is spoken to, in words.
        countdown: bounds the connection; once that stands, the reply.
        reply_timeout: how many seconds the reply may take.
        before_send: called when a connection stands and nothing was sent on it yet; what it raises comes out.
    """

    def __init__(
        self, peer: str, countdown: Countdown, reply_timeout: float, before_send: Callable[[], None] | None = None
    ) -> None:
        self.countdown = countdown
        self._peer = peer
        self._reply_timeout = reply_timeout
        self._before_send = before_send
        self._in_before_send = False
        self._may_have_left = False
        self._stream: AsyncNetworkStream | None = None

    async def on_trace(self, event: str, info: Mapping[str, Any]) -> None:
        """Hear of a step of httpcore: https://www.encode.io/httpcore/extensions/#trace.

        The question to a proxy for a tunnel (CONNECT) goes through the same steps; it is not the request.
        """
        if event.endswith("connect_tcp.complete"):
            self._stream = info["return_value"]
        elif event.endswith("send_request_headers.started"):
            asked = info.get("request")
            if asked is None or asked.method != b"CONNECT":
                self._start_sending()
        elif event.endswith("send_request_headers.failed"):
            from httpcore import LocalProtocolError

            # Headers that cannot be worded: they are worded whole before any of them is written.
            self._may_have_left = self._may_have_left and not isinstance(info.get("exception"), LocalProtocolError)

    async def close_unsent(self) -> None:
        """Close a connection that nothing was sent on: httpcore forgets one that is cut off before it stands."""
        if self._stream is not None and not self._may_have_left:
            with anyio.CancelScope(shield=True):
                await self._stream.aclose()

    def restart_timeout(self) -> None:
        """Something more was sent or came: from now on the rest has the whole patience."""
        if self._may_have_left:
            self.countdown.restart(self._reply_timeout)

    def _start_sending(self) -> None:
        if self._before_send is not None:
            self._in_before_send = True
            self._before_send()
            self._in_before_send = False
        self._may_have_left = True
        self.restart_timeout()

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if self._in_before_send or isinstance(error, RotoscopeError) or not isinstance(error, Exception):
            return
        if not self._may_have_left:
            raise Unreachable(
                f"{self._peer} could not be reached; nothing was sent.", hint="Check the network, then try again."
            ) from error
        late = isinstance(error, TimeoutError)
        raise ReplyLost(
            f"The reply of {self._peer} did not come {'in time' if late else 'back'}.", hint="Ask for the job again."
        ) from error


Lane = Literal["pays", "tells", "carries", "stores", "asks", "listens", "fetches"]

# What pays goes out on a connection of its own: an idle one may be closed by the other side at that very moment, and
# then nobody knows whether the request was seen. One opened for a judged name must not serve another name.
NO_KEEPALIVE: tuple[Lane, ...] = ("pays", "stores", "listens", "fetches")


@dataclass(frozen=True, slots=True)
class OutgoingRequest:
    """One request on its way; `body` stands for what `call` does not hold as it is sent."""

    call: HttpCall
    progress: RequestProgress
    extensions: Mapping[str, Any] = field(default_factory=dict)
    body: bytes | None = None


def lane_of(call: HttpCall, *, pays: bool) -> Lane:
    """By which lane a request goes: a cancel waits neither behind questions nor behind files."""
    if pays:
        return "pays"
    if not call.with_key:
        return "stores"
    return "asks" if call.method == "GET" else "carries" if has_file(call) else "tells"


def outgoing_request(call: HttpCall, destination: Destination, progress: RequestProgress) -> OutgoingRequest:
    """A request as it goes out by one way."""
    return OutgoingRequest(
        replace(call, url=destination.url, headers={**call.headers, **destination.headers}),
        progress,
        extensions=destination.extensions,
    )
