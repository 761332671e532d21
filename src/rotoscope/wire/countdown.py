"""Deadlines that count the time in which this process ran, and not a pause of it.

A process can be stopped for a while (SIGSTOP, a paused machine, swapping) while a reply waits in its socket. The
monotonic clock goes on meanwhile, and a deadline by that clock would throw the reply away unread. So a deadline is
watched in short steps; each counts for its own length at most, and after one that took far too long there is always
another, in which what has come is read.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

import anyio

__all__ = ["Countdown", "Pace"]

_OVER = 0.001  # seconds; less than this is nothing
_LAST_LOOKS = 3  # so that every wait ends, even on a machine that is paused again and again
Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Pace:
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
    """Some seconds of running time for one piece of work; whoever sees progress may start them anew.

    Args:
        seconds: how much time there is.
        pace: how it is watched.
    """

    def __init__(self, seconds: float, pace: Pace) -> None:
        self._left = seconds
        self._pace = pace
        self._since = pace.clock()

    def restart(self, seconds: float) -> None:
        """From now on there are so many seconds."""
        self._left = seconds
        self._since = self._pace.clock()

    async def bound(self, work: Callable[[], Awaitable[Answer]]) -> Answer:
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
        last_looks = _LAST_LOOKS
        while self._left > _OVER:
            step = min(self._left, self._pace.step)
            await self._pace.sleep(step)
            paused = self._count(step)
            if self._left <= _OVER and paused and last_looks:
                self._left, last_looks = self._pace.step, last_looks - 1
        scope.cancel()

    def _count(self, step: float) -> bool:
        """Take off what has passed, one step at the most; whether far more has passed."""
        now = self._pace.clock()
        passed, self._since = now - self._since, now
        self._left -= min(passed, step)
        return passed > step + self._pace.step
