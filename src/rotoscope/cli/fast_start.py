"""The handover: the SDK, once it is loaded, goes on with a session that the front has opened.

The server gets what was kept as if it came from the client now; its replies to what was answered already are dropped.
A `server/discover` that leads is answered beside the session, as it decides no era: some clients probe with it, stop
waiting, and send `initialize` on the same pipe.
"""

import asyncio
import gc
import logging
import math
import os
import sys
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
from rotoscope.composition import stdio_server
from rotoscope.protocol.arrival import arrive
from rotoscope.protocol.fast_start.session import Converse, Session, exit_code
from rotoscope.protocol.fast_start.writer import Writer
from rotoscope.protocol.lines import outline_of
from rotoscope.protocol.stdio import Handover, serve_stdio
from rotoscope.server.lazy_studio import StudioDoor
from rotoscope.settings import read_settings, start_folder, user_home

__all__ = ["Lines", "load", "run"]

_AHEAD, _AHEAD_BYTES = 64, 32 * 1024 * 1024
_LOOK_SECONDS = 0.5  # between two looks whether a client that is not read has gone
_ENDING_SECONDS = 2.0  # for what is served, once nothing more will be said
_UNCOLLECTED_SECONDS = 2.0
_NEEDED_FIRST = (
    "anyio._backends._asyncio",
    "rotoscope.store.ledger",
    "rotoscope.jobs.dispatcher",
    "rotoscope.jobs.lifecycle",
    "rotoscope.store.leases",
    "rotoscope.store.retention",
    "rotoscope.store.timing",
    "rotoscope.media.intake",
    "rotoscope.media.vault",
    "rotoscope.providers.dialects",
    "rotoscope.providers.http.client",
    "rotoscope.studio.studio",
)
"""What the first tool call imports (`rotoscope.composition.open_studio`); the sandbox and its engines still wait."""

Ids = set[int | str]


def load() -> Converse:
    """Read the settings and build the server. Importing this module has loaded the SDK.

    Raises:
        InvalidInput: a setting has a value that cannot be used.
    """
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="rotoscope: %(levelname)s: %(message)s")
    server = stdio_server(read_settings(os.environ), start_folder(), user_home())
    return partial(_converse, server)


def _converse(server: MCPServer[StudioDoor], session: Session) -> int:
    code = anyio.run(_take_over, server, session)
    signals.ignore()
    return session.end(code)


async def _take_over(server: MCPServer[StudioDoor], session: Session) -> int:
    """Serve the rest of a session; the exit code."""
    lines, said = Lines(session.check_there), _Saying(session.writer)
    asked: list[int] = []
    loop = asyncio.get_running_loop()

    def end(number: int) -> None:
        asked.append(number)
        with suppress(RuntimeError):  # the loop has ended already
            loop.call_soon_threadsafe(lines.end)

    signals.handle(end)
    kept, answered = session.hand_over(lines.deliver)
    lines.put_first(kept, session.kept_at)
    waits = any(_is_waited_for(line, answered) for line in kept)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_collect_again)
        with anyio.CancelScope() as serving, _loading_ahead(() if waits else _NEEDED_FIRST):
            said.at_end(serving.cancel)
            tasks.start_soon(_cut_off, lines, serving)
            await run(server, lines, said.write, answered)
        tasks.cancel_scope.cancel()
    return exit_code(asked[0]) if asked else 0


def _is_waited_for(line: bytes, answered: Ids) -> bool:
    outline = outline_of(line)
    return outline is not None and outline.wants_answer and outline.request_id not in answered


async def _cut_off(lines: "Lines", serving: anyio.CancelScope) -> None:
    """When nothing more will be said, what is served may end by itself, but not wait for who reads nothing."""
    await lines.ended.wait()
    await anyio.sleep(_ENDING_SECONDS)
    serving.cancel()


class _Saying:
    """The session's way out, for an event loop: waits where too much is unread, and can be cut off there."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._changed = anyio.Event()
        self._end: Callable[[], None] | None = None
        loop = asyncio.get_running_loop()

        def tell() -> None:
            with suppress(RuntimeError):  # the loop has ended, and nobody waits any more
                loop.call_soon_threadsafe(self._wake)

        writer.tell(tell)

    def at_end(self, end: Callable[[], None]) -> None:
        """What to do when the client takes nothing any more."""
        self._end = end

    async def write(self, line: bytes) -> None:
        """Have one whole line written.

        Raises:
            OSError: the client is gone.
        """
        while self._writer.full:
            await self._changed.wait()
        self._writer.put(line)

    def _wake(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()
        if self._writer.broken and self._end is not None:
            self._end()


async def _collect_again() -> None:
    """The front has stopped the garbage collector; what the first call loads is worth the same."""
    await anyio.sleep(_UNCOLLECTED_SECONDS)
    gc.freeze()
    gc.enable()


@contextmanager
def _loading_ahead(modules: Sequence[str]) -> Iterator[None]:
    """Import what the first call needs while nobody waits; at the end, wait for the one that is being imported."""
    stopped = threading.Event()

    def load_each() -> None:
        for module in modules:
            if not stopped.is_set():
                import_module(module)

    loading = threading.Thread(target=load_each, name="loading ahead")
    loading.start()
    try:
        yield
    finally:
        stopped.set()
        loading.join()


class Lines:
    """The lines of a session, from a reading thread into the event loop, in order; at most 64 ahead, or 32 MiB.

    Args:
        check_there: raises OSError when the client has gone.

    Attributes:
        ended: set when no line follows.
    """

    def __init__(self, check_there: Callable[[], None]) -> None:
        self.ended = anyio.Event()
        self._check_there = check_there
        self._loop = asyncio.get_running_loop()
        self._sending, self._receiving = anyio.create_memory_object_stream[tuple[float, bytes]](math.inf)
        self._room = threading.Condition()
        self._ahead: deque[int] = deque()  # how long each line is that the loop has not taken
        self._first: list[tuple[float, bytes]] = []

    def put_first(self, lines: Sequence[bytes], came_at: Sequence[float]) -> None:
        """Lines that come before all others, and when they came in."""
        self._first = list(zip(came_at, lines, strict=True))

    def deliver(self, line: bytes | None) -> None:
        """Called in the reading thread, with None at the end; waits while the loop is far behind.

        Raises:
            OSError: the client has gone meanwhile.
        """
        if line is not None:
            self._wait_for_room(len(line))
        with suppress(RuntimeError):  # the loop has ended, and nobody reads any more
            self._loop.call_soon_threadsafe(self.end if line is None else partial(self._put, (time.monotonic(), line)))

    def _wait_for_room(self, size: int) -> None:
        with self._room:
            while self._ahead and (len(self._ahead) >= _AHEAD or sum(self._ahead) + size > _AHEAD_BYTES):
                if not self._room.wait(_LOOK_SECONDS):
                    self._check_there()
            self._ahead.append(size)

    def _make_room(self) -> None:
        with self._room:
            self._ahead.popleft()
            self._room.notify()

    def end(self) -> None:
        """No line follows. Called in the loop's thread."""
        self._sending.close()
        self.ended.set()

    def _put(self, line: tuple[float, bytes]) -> None:
        with suppress(anyio.ClosedResourceError, anyio.BrokenResourceError):
            self._sending.send_nowait(line)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for at, line in self._first:
            arrive(at)
            yield line
        async with self._receiving:
            async for at, line in self._receiving:
                self._make_room()
                arrive(at)
                yield line


async def run(
    server: MCPServer[StudioDoor],
    lines: AsyncIterable[bytes],
    write: Callable[[bytes], Awaitable[None]],
    answered: Ids,
) -> None:
    """Serve one session until its input ends, or nobody takes what is written any more.

    Args:
        server: the server; its lifespan is entered once.
        lines: what the client says, from its first line on.
        write: sends one whole line.
        answered: ids of requests whose first reply is dropped, because they were answered already.
    """
    with anyio.CancelScope() as session:
        sink = _Sink(write, session.cancel)
        await serve_stdio(server, Handover(answered=frozenset(answered), stdin=lines, stdout=sink))


@dataclass(frozen=True, slots=True)
class _Sink:
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
