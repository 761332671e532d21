"""The studio of a server, opened at the first call: a client sees the tools before anything heavy loads."""

import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

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
_CHECK_SECONDS = 1.0  # as often as a process with a studio looks for jobs that no process drives
_RETRY_SECONDS = 60.0
_CHECKS_BEFORE_OPENING = 2

OpenStudio = Callable[[anyio.abc.TaskGroup, AsyncExitStack], "Studio"]
"""Builds a studio whose jobs run in the task group; what must be closed goes on the stack."""


class LazyStudio:
    """Holds the studio of one process, and the task group in which its jobs outlive every request.

    Args:
        open_studio: builds the studio at its first use.
        has_open_jobs: whether there are jobs that no process drives. It is called in a thread, and imports nothing.
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
        """Open the studio without a call when another process has left jobs; a client's first requests go before that.

        At the start one check decides. Later it takes two: a job that a living process opened a moment ago looks like
        one that was left.
        """
        await anyio.sleep(_FIRST_CHECK_SECONDS)
        checks, pause = 1, self._check_seconds
        while self._studio is None:
            checks = checks + 1 if await anyio.to_thread.run_sync(self._has_open_jobs) else 0
            if checks >= _CHECKS_BEFORE_OPENING:
                checks = 0
                pause = self._check_seconds if await self.try_open() else _RETRY_SECONDS
            await anyio.sleep(pause)

    async def try_open(self) -> bool:
        """Open the studio, if it is not open; whether it is. Why not is logged."""
        try:
            await self.studio()
        except RotoscopeError as error:
            # A tool call gets the same error; the session must go on to answer it.
            _log.warning("jobs that were left open are not driven yet: %s %s", error.message, error.hint)
            return False
        return True

    async def studio(self) -> "Studio":
        """The studio, built at the first call. A caller that stops waiting does not stop its attempt.

        Raises:
            RotoscopeError: it cannot be opened; the next call tries again.
        """
        if self._studio is None:
            if self._attempt is None:
                assert self._tasks is not None, "a studio is opened only inside lifespan()"
                self._attempt = _OpenAttempt()
                self._tasks.start_soon(self._open, self._tasks, self._attempt)
            attempt = self._attempt
            await attempt.done.wait()
            return attempt.result
        return self._studio

    def start_soon(self, work: Callable[..., Coroutine[Any, Any, None]], *arguments: object) -> None:
        """Do some work that outlives the request that asked for it; it ends with the server."""
        assert self._tasks is not None, "work is begun only inside lifespan()"
        self._tasks.start_soon(work, *arguments)

    def end_waits(self) -> None:
        """Let every call that waits for a job be answered with the job as it is: the process is ending."""
        if self._studio is not None:
            from rotoscope.studio.serving import end_waits

            end_waits(self._studio)

    async def _open(self, tasks: anyio.abc.TaskGroup, attempt: "_OpenAttempt") -> None:
        try:
            studio = await anyio.to_thread.run_sync(self._open_studio, tasks, self._exit_stack)
            self._on_open(studio)
            studio.start_background(tasks)
            self._studio = attempt.studio = studio
        except Exception as error:  # noqa: BLE001 - it is raised to those who wait; here it would end every job
            attempt.error = error
        except anyio.get_cancelled_exc_class():
            attempt.error = RotoscopeError("rotoscope is ending.", hint="Start it anew.", code="internal")
            raise
        finally:
            self._attempt = None  # one that has failed is tried again
            attempt.done.set()


@dataclass(slots=True)
class _OpenAttempt:
    """One attempt to open the studio: the studio, or why it failed."""

    done: anyio.Event = field(default_factory=anyio.Event)
    studio: "Studio | None" = None
    error: Exception | None = None

    @property
    def result(self) -> "Studio":
        if self.error is not None:
            raise self.error
        assert self.studio is not None, "an attempt that is done and has not failed has built it"
        return self.studio
