"""The door to the studio: opened at the first call, so that a client sees the tools before anything heavy loads."""

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

import anyio
import anyio.abc
import anyio.to_thread

from rotoscope.errors import RotoscopeError
from rotoscope.signals import closing

if TYPE_CHECKING:
    from rotoscope.studio import Studio

__all__ = ["OpenStudio", "StudioDoor"]

_log = logging.getLogger(__name__)
_OPENING_SECONDS = 0.5

OpenStudio = Callable[[anyio.abc.TaskGroup, AsyncExitStack], "Studio"]
"""Builds a studio whose jobs run in the task group; what must be closed goes on the stack."""


class StudioDoor:
    """Holds the studio of one process, and the task group in which its jobs outlive every request."""

    def __init__(self, open_studio: OpenStudio, has_open_jobs: Callable[[], bool] = lambda: False) -> None:
        self._open_studio = open_studio
        self._has_open_jobs = has_open_jobs
        self._tasks: anyio.abc.TaskGroup | None = None
        self._closing = AsyncExitStack()
        self._lock = anyio.Lock()
        self._studio: Studio | None = None

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Keep the jobs running inside this block; at its end they stop and stay in the ledger."""
        async with closing() as self._closing, anyio.create_task_group() as tasks:
            self._tasks = tasks
            tasks.start_soon(self._take_up)
            try:
                yield
            finally:
                tasks.cancel_scope.cancel()
                self._studio = None  # a server may be served again

    async def _take_up(self) -> None:
        """Jobs that a former process left open are driven on without a call; the client's opening goes first."""
        await anyio.sleep(_OPENING_SECONDS)
        if not await anyio.to_thread.run_sync(self._has_open_jobs):
            return
        try:
            await self.studio()
        except RotoscopeError as error:
            # The same is told to whoever calls a tool; the session must be there to tell it.
            _log.warning("jobs that were left open are not driven yet: %s %s", error.message, error.hint)

    async def studio(self) -> "Studio":
        """The studio, built at the first call."""
        async with self._lock:
            if self._studio is None:
                assert self._tasks is not None, "the door is open only inside opened()"
                building = partial(self._open_studio, self._tasks, self._closing)
                self._studio = await anyio.to_thread.run_sync(building)
                self._studio.begin(self._tasks)
        return self._studio
