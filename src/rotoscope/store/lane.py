"""The order in which a process's transactions come to its connections, and for how long one waits for its turn."""

import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import TypeVar

import anyio
import anyio.to_thread
from sqlalchemy import Engine

from rotoscope.store.backend import LockTimeout

__all__ = ["Lane"]

_MIN_SECONDS = 0.05

Answer = TypeVar("Answer")


class Lane:
    """Some connections, each used by one thread at a time, in the order in which they are asked for.

    What has to wait gives up when nothing has come through for its time. Only another program's lock may be a reason
    for that, so a machine that is slow must not look like one: the end of a transaction counts in its thread, where the
    event loop may learn of it late; nobody gives up while no thread works at all; and an opening is under way as long
    as its statements come through.
    """

    def __init__(self, error_types: tuple[type[Exception], ...], width: int) -> None:
        self.engine: Engine | None = None
        self.thread_limiter = anyio.CapacityLimiter(width)
        self._failures: tuple[type[Exception], ...] = (*error_types, LockTimeout)
        self._lock = anyio.Semaphore(width, fast_acquire=True)
        self._last_progress_at = -math.inf  # when something last came through here, on the monotonic clock
        self._in_threads = 0
        self._counting = threading.Lock()

    def note_progress(self) -> None:
        """Something has come through here; any thread may say so."""
        self._last_progress_at = monotonic()

    async def run(self, work: Callable[[float], Answer], seconds: float, *, patient: bool) -> Answer:
        """Do something when its turn has come.

        Args:
            work: gets how many seconds are left for it.
            seconds: for how long nothing need come through here before it is given up.
            patient: whether its own waiting begins only with its turn.

        Raises:
            LockTimeout: its turn did not come in time.
        """
        begun = monotonic()
        if patient:
            await self._lock.acquire()
        while not patient and not await self._acquire_in_time(begun, seconds):
            if self._in_threads == 0:
                begun = monotonic()  # who was before has ended, and the event loop has not heard of it yet
            elif self._left(begun, seconds) <= 0:
                raise LockTimeout
        try:
            left = seconds if patient else max(self._left(begun, seconds), _MIN_SECONDS)
            return await anyio.to_thread.run_sync(self._run_in_thread, work, left, limiter=self.thread_limiter)
        finally:
            self._lock.release()

    @contextmanager
    def hold(self, lock: threading.Lock, seconds: float) -> Iterator[None]:
        """Hold a lock of this process, in a thread of this lane.

        Args:
            lock: which one.
            seconds: for how long nothing need come through here before it is given up.

        Raises:
            LockTimeout: it was not free in time.
        """
        begun = monotonic()
        while not lock.acquire(timeout=max(self._left(begun, seconds), 0)):
            if self._left(begun, seconds) <= 0:
                raise LockTimeout
        try:
            yield
        finally:
            lock.release()

    def _run_in_thread(self, work: Callable[[float], Answer], seconds: float) -> Answer:
        self._count(1)
        came_through = True
        try:
            return work(seconds)
        except self._failures:
            came_through = False
            raise
        finally:
            self._count(-1)
            if came_through:
                self.note_progress()

    def _count(self, more: int) -> None:
        with self._counting:
            self._in_threads += more

    def _left(self, begun: float, seconds: float) -> float:
        return max(begun, self._last_progress_at) + seconds - monotonic()

    async def _acquire_in_time(self, begun: float, seconds: float) -> bool:
        """Many that are before it are no reason to give up, as long as they come through."""
        with anyio.CancelScope(deadline=anyio.current_time() + self._left(begun, seconds)) as waiting:
            await self._lock.acquire()
        return not waiting.cancelled_caught
