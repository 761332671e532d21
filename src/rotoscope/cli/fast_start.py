"""The handover: the server, once it is loaded, goes on with a session that the fast start has opened.

The server gets the lines that were kept as if they came now; its replies to what was answered already are dropped.
A `server/discover` that leads is answered beside the session, as it decides no era: some clients probe with it, stop
waiting, and send `initialize` on the same pipe.
"""

import asyncio
import gc
import math
import os
import threading
import time
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from importlib import import_module

import anyio
from mcp.server.mcpserver import MCPServer

from rotoscope import signals
from rotoscope.composition import build_stdio_server
from rotoscope.logs import configure_logging
from rotoscope.protocol.fast_start.session import ServeSession, Session, exit_code
from rotoscope.protocol.fast_start.writer import Writer
from rotoscope.protocol.lines import read_outline
from rotoscope.protocol.requests import set_arrival_time
from rotoscope.protocol.stdio import Handover, serve_stdio
from rotoscope.server.lazy_studio import LazyStudio
from rotoscope.settings import read_settings, user_home, working_folder

__all__ = ["LineQueue", "load_server", "serve_lines"]

_MAX_PENDING, _MAX_PENDING_BYTES = 64, 32 * 1024 * 1024
_CHECK_SECONDS = 0.5  # between two looks whether a client that is not read has gone
_ENDING_SECONDS = 2.0  # for what is served, once nothing more will be said
_COLLECTOR_PAUSE_SECONDS = 2.0
_FIRST_CALL_MODULES = (
    "anyio._backends._asyncio",
    "rotoscope.store.ledger",
    "rotoscope.jobs.dispatcher",
    "rotoscope.store.leases",
    "rotoscope.store.retention",
    "rotoscope.store.timing",
    "rotoscope.media.intake",
    "rotoscope.media.vault",
    "rotoscope.providers.dialects",
    "rotoscope.providers.http.client",
    "rotoscope.studio.studio",
    "rotoscope.studio.planning",
    "rotoscope.jobs.lifecycle",
)
"""What opening the studio imports, then what the first paying call and the first job need."""

Ids = set[int | str]


def load_server() -> ServeSession:
    """Read the settings and build the server. Importing this module has loaded the SDK.

    Raises:
        InvalidInput: a setting has a value that cannot be used.
    """
    settings = read_settings(os.environ)
    configure_logging(settings.network.log_format)
    server = build_stdio_server(settings, working_folder(), user_home())
    return partial(_serve_session, server)


def _serve_session(server: MCPServer[LazyStudio], session: Session) -> int:
    code = anyio.run(_serve_rest, server, session)
    signals.ignore_late_signals()
    return session.end(code)


async def _serve_rest(server: MCPServer[LazyStudio], session: Session) -> int:
    """Serve the rest of a session; the exit code."""
    lines, writer = LineQueue(session.check_connected), _AsyncWriter(session.writer)
    signals_received: list[int] = []
    loop = asyncio.get_running_loop()

    def end(number: int) -> None:
        signals_received.append(number)
        with suppress(RuntimeError):  # the loop has ended already
            loop.call_soon_threadsafe(lines.end)

    signals.handle_signals(end)
    pending, answered = session.hand_over(lines.deliver)
    lines.put_first(pending, session.arrival_times)
    has_waiting_client = any(_is_unanswered(line, answered) for line in pending)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_restart_collector)
        with anyio.CancelScope() as serving, _preload_modules(() if has_waiting_client else _FIRST_CALL_MODULES):
            writer.on_disconnect(serving.cancel)
            tasks.start_soon(_cancel_after_end, lines, serving)
            await serve_lines(server, lines, writer.write, answered)
        tasks.cancel_scope.cancel()
    return exit_code(signals_received[0]) if signals_received else 0


def _is_unanswered(line: bytes, answered_ids: Ids) -> bool:
    outline = read_outline(line)
    return outline is not None and outline.is_answer_expected and outline.request_id not in answered_ids


async def _cancel_after_end(lines: "LineQueue", serving: anyio.CancelScope) -> None:
    """After the last line, requests may end by themselves for a while, but not wait for a client that reads nothing."""
    await lines.end_event.wait()
    await anyio.sleep(_ENDING_SECONDS)
    serving.cancel()


class _AsyncWriter:
    """The session's writer for an event loop: waits, and can be cancelled, while too much is unread."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._changed = anyio.Event()
        self._end: Callable[[], None] | None = None
        loop = asyncio.get_running_loop()

        def wake_loop() -> None:
            with suppress(RuntimeError):  # the loop has ended, and nobody waits any more
                loop.call_soon_threadsafe(self._wake)

        writer.set_listener(wake_loop)

    def on_disconnect(self, end: Callable[[], None]) -> None:
        """What to do when the client takes nothing any more."""
        self._end = end

    async def write(self, line: bytes) -> None:
        """Have one whole line written.

        Raises:
            OSError: the client is gone.
        """
        while self._writer.is_full:
            await self._changed.wait()
        self._writer.put(line)

    def _wake(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()
        if self._writer.is_broken and self._end is not None:
            self._end()


async def _restart_collector() -> None:
    """The fast start has stopped the garbage collector; it starts again once the modules of the first call are
    loaded.
    """
    await anyio.sleep(_COLLECTOR_PAUSE_SECONDS)
    gc.freeze()
    gc.enable()


@contextmanager
def _preload_modules(modules: Sequence[str]) -> Iterator[None]:
    """Import what the first call needs while nobody waits; at the end, wait for the one that is being imported."""
    stopped = threading.Event()

    def import_each() -> None:
        for module in modules:
            if not stopped.is_set():
                import_module(module)

    loading = threading.Thread(target=import_each, name="loading ahead")
    loading.start()
    try:
        yield
    finally:
        stopped.set()
        loading.join()


class LineQueue:
    """The lines of a session, from a reading thread into the event loop, in order; at most 64 ahead, or 32 MiB.

    Args:
        check_connected: raises OSError when the client has gone.

    Attributes:
        end_event: set when no line follows.
    """

    def __init__(self, check_connected: Callable[[], None]) -> None:
        self.end_event = anyio.Event()
        self._check_connected = check_connected
        self._loop = asyncio.get_running_loop()
        self._sending, self._receiving = anyio.create_memory_object_stream[tuple[float, bytes]](math.inf)
        self._space = threading.Condition()
        self._pending_sizes: deque[int] = deque()  # how long each line is that the loop has not taken
        self._first_lines: list[tuple[float, bytes]] = []

    def put_first(self, lines: Sequence[bytes], arrival_times: Sequence[float]) -> None:
        """Lines that come before all others, and when they came in."""
        self._first_lines = list(zip(arrival_times, lines, strict=True))

    def deliver(self, line: bytes | None) -> None:
        """Called in the reading thread, with None at the end; waits while the loop is far behind.

        Raises:
            OSError: the client has gone meanwhile.
        """
        if line is not None:
            self._wait_for_space(len(line))
        with suppress(RuntimeError):  # the loop has ended, and nobody reads any more
            self._loop.call_soon_threadsafe(
                self.end if line is None else partial(self._enqueue, (time.monotonic(), line))
            )

    def _wait_for_space(self, size: int) -> None:
        with self._space:
            while self._pending_sizes and (
                len(self._pending_sizes) >= _MAX_PENDING or sum(self._pending_sizes) + size > _MAX_PENDING_BYTES
            ):
                if not self._space.wait(_CHECK_SECONDS):
                    self._check_connected()
            self._pending_sizes.append(size)

    def _free_space(self) -> None:
        with self._space:
            self._pending_sizes.popleft()
            self._space.notify()

    def end(self) -> None:
        """No line follows. Called in the loop's thread."""
        self._sending.close()
        self.end_event.set()

    def _enqueue(self, line: tuple[float, bytes]) -> None:
        with suppress(anyio.ClosedResourceError, anyio.BrokenResourceError):
            self._sending.send_nowait(line)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for at, line in self._first_lines:
            set_arrival_time(at)
            yield line
        async with self._receiving:
            async for at, line in self._receiving:
                self._free_space()
                set_arrival_time(at)
                yield line


async def serve_lines(
    server: MCPServer[LazyStudio],
    lines: AsyncIterable[bytes],
    write: Callable[[bytes], Awaitable[None]],
    answered_ids: Ids,
) -> None:
    """Serve one session until its input ends, or nobody takes what is written any more.

    Args:
        server: the server; its lifespan is entered once.
        lines: what the client says, from its first line on.
        write: sends one whole line.
        answered_ids: ids of requests whose first reply is dropped, because they were answered already.
    """
    with anyio.CancelScope() as session:
        sink = _SessionSink(write, session.cancel)
        await serve_stdio(server, Handover(answered_ids=frozenset(answered_ids), stdin=lines, stdout=sink))


@dataclass(frozen=True, slots=True)
class _SessionSink:
    """What the server writes to: the session's own way out, and the end of it all when nobody takes it any more."""

    put: Callable[[bytes], Awaitable[None]]
    end: Callable[[], None]

    async def write(self, text: str, /) -> None:
        try:
            await self.put(text.encode())
        except OSError:
            self.end()  # the client is gone

    async def flush(self) -> None:
        """Every line is written through."""
