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
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import cast

import anyio
import anyio.to_thread
from mcp.server.mcpserver import MCPServer

from rotoscope.compose import stdio_server
from rotoscope.front.opening import request_id_of
from rotoscope.front.session import Converse, Session
from rotoscope.server.door import StudioDoor
from rotoscope.server.stdio import Handover, serve_stdio
from rotoscope.settings import read_settings

__all__ = ["Lines", "load", "run"]

_AHEAD = 64
_UNCOLLECTED_SECONDS = 2.0
_NEEDED_FIRST = (
    "anyio._backends._asyncio",
    "rotoscope.jobs.ledger",
    "rotoscope.jobs.dispatcher",
    "rotoscope.jobs.machine",
    "rotoscope.jobs.leases",
    "rotoscope.jobs.retention",
    "rotoscope.jobs.tempo",
    "rotoscope.media.intake",
    "rotoscope.media.vault",
    "rotoscope.predictions.dialects",
    "rotoscope.wire.client",
    "rotoscope.studio",
)
"""What the first tool call imports (`rotoscope.compose.open_studio`); the sandbox and its engines still wait."""

Ids = set[int | str]


def load() -> Converse:
    """Read the settings and build the server. Importing this module has loaded the SDK.

    Raises:
        InvalidInput: a setting has a value that cannot be used.
    """
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="rotoscope: %(levelname)s: %(message)s")
    server = stdio_server(read_settings(os.environ), Path.cwd(), Path.home())
    return partial(_converse, server)


def _converse(server: MCPServer[StudioDoor], session: Session) -> int:
    anyio.run(_take_over, server, session)
    return 0


async def _take_over(server: MCPServer[StudioDoor], session: Session) -> None:
    lines = Lines()
    kept, answered = session.hand_over(lines.deliver)
    lines.put_first(kept)

    async def write(line: bytes) -> None:
        await anyio.to_thread.run_sync(session.write, line)

    waits = any(request_id_of(line) not in {None, *answered} for line in kept)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_end_at_sigterm, lines)
        tasks.start_soon(_collect_again)
        with _loading_ahead(() if waits else _NEEDED_FIRST):
            await run(server, lines, write, answered)
        tasks.cancel_scope.cancel()


async def _collect_again() -> None:
    """The front has stopped the garbage collector; what the first call loads is worth the same."""
    await anyio.sleep(_UNCOLLECTED_SECONDS)
    gc.freeze()
    gc.enable()


async def _end_at_sigterm(lines: "Lines") -> None:
    import signal

    with anyio.open_signal_receiver(signal.SIGTERM) as signals:
        async for _ in signals:
            lines.end()


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
    """The lines of a session, from a reading thread into the event loop, in order; at most 64 ahead."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._sending, self._receiving = anyio.create_memory_object_stream[bytes](math.inf)
        self._room = threading.BoundedSemaphore(_AHEAD)
        self._first: list[bytes] = []

    def put_first(self, lines: list[bytes]) -> None:
        """Lines that come before all others."""
        self._first = lines

    def deliver(self, line: bytes | None) -> None:
        """Called in the reading thread, with None at the end; waits while the loop is far behind."""
        if line is not None:
            self._room.acquire()
        with suppress(RuntimeError):  # the loop has ended, and nobody reads any more
            self._loop.call_soon_threadsafe(self.end if line is None else partial(self._put, line))

    def end(self) -> None:
        """No line follows. Called in the loop's thread."""
        self._sending.close()

    def _put(self, line: bytes) -> None:
        with suppress(anyio.ClosedResourceError, anyio.BrokenResourceError):
            self._sending.send_nowait(line)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for line in self._first:
            yield line
        async with self._receiving:
            async for line in self._receiving:
                self._room.release()
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
    text = (line.decode("utf-8", "replace") async for line in lines)
    with anyio.CancelScope() as session:
        sink = cast("anyio.AsyncFile[str]", _Sink(write, session.cancel))
        await serve_stdio(server, Handover(answered=frozenset(answered), stdin=text, stdout=sink))


@dataclass(frozen=True, slots=True)
class _Sink:
    """What the SDK writes to: as much of a file as it uses, on the session's own way out."""

    put: Callable[[bytes], Awaitable[None]]
    end: Callable[[], None]

    async def write(self, text: str) -> None:
        try:
            await self.put(text.encode())
        except OSError:
            self.end()  # the client is gone

    async def flush(self) -> None:
        """Every line is written through."""
