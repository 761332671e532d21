"""The door to the studio: opened at the first call, so that a client sees the tools before anything heavy loads."""

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import anyio
import anyio.abc
import anyio.to_thread

from rotoscope.errors import RotoscopeError
from rotoscope.signals import closing_stack

if TYPE_CHECKING:
    from rotoscope.studio.studio import Studio

__all__ = ["LazyStudio", "OpenStudio"]

_log = logging.getLogger(__name__)
_FIRST_CHECK_SECONDS = 0.5
_CHECK_SECONDS = 1.0  # as often as a process with a studio looks for what nobody drives
_RETRY_SECONDS = 60.0
_CHECKS_BEFORE_OPENING = 2

OpenStudio = Callable[[anyio.abc.TaskGroup, AsyncExitStack], "Studio"]
"""Builds a studio whose jobs run in the task group; what must be closed goes on the stack."""


class LazyStudio:
    """Holds the studio of one process, and the task group in which its jobs outlive every request.

    Args:
        open_studio: builds the studio at its first use.
        has_open_jobs: whether there are jobs that nobody drives. It is asked in a thread, and loads nothing.
        check_seconds: how often it is asked while the studio is not open.
        on_open: called with the studio before anything runs in it.
    """

    def __init__(
        self,
        open_studio: OpenStudio,
        has_open_jobs: Callable[[], bool] = lambda: False,
        check_seconds: float = _CHECK_SECONDS,
        on_open: "Callable[[Studio], None]" = lambda _: None,
    ) -> None:
        self._open_studio = open_studio
        self._has_open_jobs = has_open_jobs
        self._check_seconds = check_seconds
        self._on_open = on_open
        self._tasks: anyio.abc.TaskGroup | None = None
        self._exit_stack = AsyncExitStack()
        self._attempt: _OpenAttempt | None = None
        self._studio: Studio | None = None

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Keep the jobs running inside this block; at its end they stop and stay in the ledger."""
        async with closing_stack() as self._exit_stack, anyio.create_task_group() as tasks:
            self._tasks = tasks
            tasks.start_soon(self._open_for_left_jobs)
            try:
                yield
            finally:
                tasks.cancel_scope.cancel()
                self._studio, self._attempt = None, None  # a server may be served again

    async def _open_for_left_jobs(self) -> None:
        """Jobs that another process left are driven on without a call; the client's opening goes first.

        At the start one look decides. Later on it takes two: a job that was opened a moment ago, in a process that
        lives, looks like one that was left.
        """
        await anyio.sleep(_FIRST_CHECK_SECONDS)
        looks, pause = 1, self._check_seconds
        while self._studio is None:
            looks = looks + 1 if await anyio.to_thread.run_sync(self._has_open_jobs) else 0
            if looks >= _CHECKS_BEFORE_OPENING:
                looks = 0
                pause = self._check_seconds if await self._try_open() else _RETRY_SECONDS
            await anyio.sleep(pause)

    async def _try_open(self) -> bool:
        try:
            await self.studio()
        except RotoscopeError as error:
            # The same is told to whoever calls a tool; the session must be there to tell it.
            _log.warning("jobs that were left open are not driven yet: %s %s", error.message, error.hint)
            return False
        return True

    async def studio(self) -> "Studio":
        """The studio, built at the first call. It is opened for the process: who stops waiting for it stops nothing."""
        if self._studio is None:
            if self._attempt is None:
                assert self._tasks is not None, "the door is open only inside opened()"
                self._attempt = _OpenAttempt()
                self._tasks.start_soon(self._open, self._tasks, self._attempt)
            opening = self._attempt
            await opening.done.wait()
            return opening.result
        return self._studio

    async def _open(self, tasks: anyio.abc.TaskGroup, opening: "_OpenAttempt") -> None:
        try:
            studio = await anyio.to_thread.run_sync(self._open_studio, tasks, self._exit_stack)
            self._on_open(studio)
            studio.start_background(tasks)
            self._studio = opening.studio = studio
        except Exception as error:  # noqa: BLE001 - it is raised to whoever waits; here it would end every job
            opening.error = error
        except anyio.get_cancelled_exc_class():
            opening.error = RotoscopeError("rotoscope is ending.", hint="Start it anew.", code="internal")
            raise
        finally:
            self._attempt = None  # one that has failed is tried again
            opening.done.set()


@dataclass(slots=True)
class _OpenAttempt:
    """One try to open the studio: what came of it, or why it has failed."""

    done: anyio.Event = field(default_factory=anyio.Event)
    studio: "Studio | None" = None
    error: Exception | None = None

    @property
    def result(self) -> "Studio":
        if self.error is not None:
            raise self.error
        assert self.studio is not None, "an opening that is done and has not failed has built it"
        return self.studio
