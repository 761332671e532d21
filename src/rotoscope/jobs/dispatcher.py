"""The dispatcher: decides when and where a job is driven. Here: at once, in this process."""

import contextlib
import logging
from collections.abc import Awaitable, Callable

import anyio
import anyio.abc

from rotoscope.errors import RotoscopeError, StorageFailed

__all__ = ["Dispatcher"]

_BEAT_SECONDS = 1.0
_log = logging.getLogger(__name__)

Drive = Callable[[str, anyio.Event], Awaitable[None]]
Cancels = Callable[[frozenset[str]], Awaitable[frozenset[str]]]


class Dispatcher:
    """Drives jobs in a task group that outlives every request.

    Args:
        tasks: the task group; it belongs to the process, so a client that goes away stops nothing.
        drive: drives one job to its end; told to stop by an event.
        cancels: which of some jobs somebody, in any process, has asked to cancel.
    """

    def __init__(self, tasks: anyio.abc.TaskGroup, drive: Drive, cancels: Cancels) -> None:
        self._tasks = tasks
        self._drive = drive
        self._cancels = cancels
        self._stops: dict[str, anyio.Event] = {}
        self._beating = False

    def start(self, job_id: str) -> None:
        """Begin to drive a job."""
        self._stops[job_id] = anyio.Event()
        if not self._beating:
            self._beating = True
            self._tasks.start_soon(self._beat)
        self._tasks.start_soon(self._run, job_id)

    def stop(self, job_id: str) -> None:
        """Tell the driver of a job, if it is here, that the job is to be cancelled."""
        if job_id in self._stops:
            self._stops[job_id].set()

    async def _run(self, job_id: str) -> None:
        try:
            await self._drive(job_id, self._stops[job_id])
        except RotoscopeError as error:
            # It stays in the ledger as it is; one job's trouble must not end the others.
            _log.error("job %s is not driven any more: %s %s", job_id, error.code, error.message)
        finally:
            self._stops.pop(job_id, None)

    async def _beat(self) -> None:
        """While jobs run here, look once a second whether another process asked to cancel one."""
        while self._stops:
            await anyio.sleep(_BEAT_SECONDS)
            with contextlib.suppress(StorageFailed):  # the next beat asks again
                for job_id in await self._cancels(frozenset(self._stops)):
                    self.stop(job_id)
        self._beating = False
