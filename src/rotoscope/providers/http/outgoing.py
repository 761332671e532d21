"""How one request leaves: its turn, its lane, its body in pieces, its time, and what its failure proves.

A process can be paused (an event loop under load, a machine that swaps or sleeps) while a reply waits in its socket.
The monotonic clock runs on meanwhile, and a deadline by that clock would throw the reply away unread. So `Countdown`
watches a deadline in short steps. A step counts for its own length at most, and after a step that took far too long
there is always one more, in which a reply that has arrived is read.

What may have been paid for hangs on `RequestProgress`: it knows whether the first byte of a request may have left, and
turns any failure into the error that says so (`Unreachable`: nothing was sent; `ReplyLost`: it may have arrived).
"""

import json
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import anyio

from rotoscope.data_uris import encode_data_uri
from rotoscope.errors import ReplyLost, RotoscopeError, StorageFailed, Unreachable
from rotoscope.providers.http.guard import Destination
from rotoscope.providers.http.messages import HttpCall

if TYPE_CHECKING:
    from httpcore import AsyncNetworkStream

__all__ = [
    "CHUNK",
    "MAX_REQUESTS_PER_SECOND",
    "NO_KEEPALIVE",
    "Countdown",
    "CountdownTiming",
    "Lane",
    "OutgoingRequest",
    "ProgressFile",
    "RateLimiter",
    "RequestProgress",
    "data_uri_json",
    "has_file",
    "lane_of",
    "map_read_errors",
    "outgoing_request",
    "request_content",
]

CHUNK = 256 * 1024
"""Bytes of a file that are read or sent at once."""

MAX_REQUESTS_PER_SECOND = 40.0
"""Requests a second to one provider, of all kinds. Replicate takes 50 a second (its "Rate limits")."""

_BURST = 4.0  # requests that may follow each other at once, within `MAX_REQUESTS_PER_SECOND`
_MIN_SECONDS_LEFT = 0.001  # seconds; a countdown with less than this is over
_MAX_EXTRA_STEPS = 3  # so that every wait ends, even on a machine that is paused again and again
Answer = TypeVar("Answer")


class RateLimiter:
    """A token bucket: no more than `MAX_REQUESTS_PER_SECOND` in any second, first come, first served.

    Args:
        clock: seconds of a clock that never goes back.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._interval = 1 / (MAX_REQUESTS_PER_SECOND - _BURST)
        self._next_at = 0.0
        self._request_times = deque((-1.0,) * int(MAX_REQUESTS_PER_SECOND), int(MAX_REQUESTS_PER_SECOND))

    async def wait_turn(self, sleep: Callable[[float], Awaitable[None]]) -> None:
        """Wait for the next free turn; `sleep` waits some seconds. Where no wait is needed, no other task runs."""
        seconds = self.reserve_turn()
        if seconds > 0:
            await sleep(seconds)
        # Several sleepers may wake late, all at once: the request times then show more than a second allows.
        if (late := self._request_times[0] + 1 - self._clock()) > 0:
            await sleep(late)
        self._request_times.append(self._clock())

    def reserve_turn(self) -> float:
        """Take the next turn; returns in how many seconds it comes."""
        now = self._clock()
        turn = max(self._next_at - (_BURST - 1) * self._interval, now)
        self._next_at = max(self._next_at, now) + self._interval
        return turn - now

    def count_request(self) -> None:
        """Count a request that cannot wait; the provider counts it too, so the requests after it wait for longer."""
        self.reserve_turn()
        self._request_times.append(self._clock())


@dataclass(frozen=True, slots=True)
class CountdownTiming:
    """How a deadline is watched.

    Attributes:
        clock: the monotonic time in seconds.
        sleep: waits some seconds.
        step: the longest wait between two looks at the clock, in seconds.
    """

    clock: Callable[[], float] = anyio.current_time
    sleep: Callable[[float], Awaitable[None]] = anyio.sleep
    step: float = 1.0


class Countdown:
    """Some seconds of running time for one piece of work; `restart` gives it new seconds when it makes progress.

    Args:
        seconds: how much time there is.
        timing: how it is watched.
    """

    def __init__(self, seconds: float, timing: CountdownTiming) -> None:
        self._left = seconds
        self._timing = timing
        self._since = timing.clock()

    def restart(self, seconds: float) -> None:
        """Set the time that is left, in seconds from now."""
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
        """Take off the time that has passed, one step at most; returns whether far more has passed (a pause)."""
        now = self._timing.clock()
        passed, self._since = now - self._since, now
        self._left -= min(passed, step)
        return passed > step + self._timing.step


class RequestProgress:
    """Watches one request leave, and translates its failure into what that failure proves.

    As long as nothing of the request was written, any failure proves that nothing was sent, whether it is an error of
    the network, of a proxy or of a library. From the first byte on, no failure proves that any more.

    Args:
        peer: the name of the other side, for messages.
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
        """Note one step of httpcore: https://www.encode.io/httpcore/extensions/#trace.

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

            # Headers that cannot be encoded: all of them are encoded before any of them is written.
            self._may_have_left = self._may_have_left and not isinstance(info.get("exception"), LocalProtocolError)

    async def close_unsent(self) -> None:
        """Close a connection that nothing was sent on: httpcore forgets one that is cut off before it stands."""
        if self._stream is not None and not self._may_have_left:
            with anyio.CancelScope(shield=True):
                await self._stream.aclose()

    def restart_timeout(self) -> None:
        """Give the rest of the exchange the whole time for a reply again, because bytes were sent or came."""
        if self._may_have_left:
            self.countdown.restart(self._reply_timeout)

    def _start_sending(self) -> None:
        if self._before_send is not None:
            # An error of `before_send` is no failure of the request: `__exit__` lets it through untranslated.
            self._in_before_send = True
            self._before_send()
            self._in_before_send = False
        # Set before the first byte is written: from here on only the other side knows whether the request arrived.
        self._may_have_left = True
        self.restart_timeout()

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Translate the failure of the exchange.

        Raises:
            Unreachable: it failed before the first byte of the request: nothing was sent.
            ReplyLost: it failed later: the request may have arrived.
        """
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


Lane = Literal["submit", "control", "upload", "storage", "poll", "stream", "download"]

# A paying request goes out on a connection of its own: the other side may close an idle one at that very moment, and
# then nobody knows whether it saw the request. A connection opened for a checked name must not serve another name.
NO_KEEPALIVE: tuple[Lane, ...] = ("submit", "storage", "stream", "download")


@dataclass(frozen=True, slots=True)
class OutgoingRequest:
    """One request as it leaves; `body` is the encoded content where `call` itself does not hold it."""

    call: HttpCall
    progress: RequestProgress
    extensions: Mapping[str, Any] = field(default_factory=dict)
    body: bytes | None = None


def lane_of(call: HttpCall, *, pays: bool) -> Lane:
    """The lane of a request. Each lane has its own connections, so that a cancel waits behind no poll and no file."""
    if pays:
        return "submit"
    if not call.with_key:
        return "storage"
    return "poll" if call.method == "GET" else "upload" if has_file(call) else "control"


def outgoing_request(call: HttpCall, destination: Destination, progress: RequestProgress) -> OutgoingRequest:
    """A request as it goes out to one destination."""
    return OutgoingRequest(
        replace(call, url=destination.url, headers={**call.headers, **destination.headers}),
        progress,
        extensions=destination.extensions,
    )


def has_file(call: HttpCall) -> bool:
    """Whether a request carries a file; it may then take as long as its bytes keep moving."""
    return call.source is not None or call.form is not None or call.data_uris is not None


def request_content(outgoing: OutgoingRequest) -> tuple[bytes | AsyncIterator[bytes] | None, dict[str, str]]:
    """The content of a request (without JSON and forms), and the headers that describe it."""
    call, on_progress = outgoing.call, outgoing.progress.restart_timeout
    if call.source is not None:
        start, length = _source_span(call)
        return _file_chunks(call.source, start, length, on_progress), {"Content-Length": str(length)}
    if outgoing.body is not None:
        headers = {"Content-Length": str(len(outgoing.body)), "Content-Type": "application/json"}
        return _body_chunks(outgoing.body, on_progress), headers
    return call.content, {}


def _source_span(call: HttpCall) -> tuple[int, int]:
    """The part of the source file that is sent, as (first byte, number of bytes)."""
    size = call.source.stat().st_size if call.source else 0
    start, most = call.span or (0, size)
    return start, min(most, max(0, size - start))


async def _file_chunks(source: Path, start: int, length: int, on_progress: Callable[[], None]) -> AsyncIterator[bytes]:
    """A part of a file in chunks; `on_progress` is called for each."""
    async with await anyio.open_file(source, "rb") as file:
        await file.seek(start)
        while length > 0 and (piece := await file.read(min(CHUNK, length))):
            length -= len(piece)
            on_progress()
            yield piece


async def _body_chunks(body: bytes, on_progress: Callable[[], None]) -> AsyncIterator[bytes]:
    """A long body in chunks; `on_progress` is called for each."""
    for start in range(0, len(body), CHUNK):
        on_progress()
        yield body[start : start + CHUNK]


def data_uri_json(files: Mapping[str, tuple[tuple[Path, str], ...]]) -> bytes:
    """The encoded JSON object whose members are lists of data URIs, from lists of (file, content type)."""
    return json.dumps(
        {name: [_data_uri(path, kind) for path, kind in listed] for name, listed in files.items()}
    ).encode()


def _data_uri(path: Path, content_type: str) -> str:
    return encode_data_uri(path.read_bytes(), content_type)


class ProgressFile(FileIO):
    """A file in a form, which calls `on_progress` whenever a piece of it is read."""

    def __init__(self, path: Path, on_progress: Callable[[], None]) -> None:
        super().__init__(path, "rb")
        self._on_progress = on_progress

    def read(self, size: int | None = -1, /) -> bytes:
        """The next bytes, as of any file."""
        self._on_progress()
        return super().read(-1 if size is None else size) or b""


@contextmanager
def map_read_errors() -> Iterator[None]:
    """Our own files are opened before anything is sent, so an error of the disk is no failure of the network.

    Raises:
        StorageFailed: in place of an OSError.
    """
    try:
        yield
    except OSError as error:
        raise StorageFailed(
            "A file that was to be sent cannot be read; nothing was sent.", hint="Check ROTOSCOPE_HOME."
        ) from error
