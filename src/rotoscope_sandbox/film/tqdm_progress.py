"""Progress as real models print it: the lines of a tqdm bar."""

import time
from collections.abc import Callable

from rotoscope_sandbox.models import EngineTask

__all__ = ["TqdmProgress"]

_CELLS = 10
"""Characters of the bar."""

_LINES = 20
"""Lines between the first and the last one, when steps are quick."""

_QUIET_SECONDS = 0.4
"""Longest time without a line: logging is where a cancelled task stops, so it must stop soon however slow steps are."""


class TqdmProgress:
    """Counts steps and logs ` 40%|████      | 48/120 [00:01<00:02, 31.2it/s]`; the number never falls.

    Every method raises `Stopped` when the task should end.
    """

    def __init__(self, task: EngineTask, total: int, clock: Callable[[], float] = time.perf_counter) -> None:
        self._task = task
        self._total = max(1, total)
        self._clock = clock
        self._start = self._last_log = clock()
        self._done = self._done_in_log = 0
        self._log_line()

    def advance(self) -> None:
        """Count one step. A file may hold more frames than it claimed: the total is never exceeded."""
        self._done = min(self._done + 1, self._total)
        new_line = self._done * _LINES // self._total > self._done_in_log * _LINES // self._total
        is_due = new_line or self._clock() - self._last_log >= _QUIET_SECONDS
        if self._done > self._done_in_log and is_due:
            self._log_line()

    def finish(self) -> None:
        """Log the last line, even if there were fewer steps than announced."""
        self._done = self._total
        if self._done_in_log != self._done:
            self._log_line()

    def _log_line(self) -> None:
        self._last_log, self._done_in_log = self._clock(), self._done
        seconds = self._last_log - self._start
        left, speed = "?", "?"
        if self._done and seconds > 0:
            left, speed = _minutes(seconds * (self._total / self._done - 1)), f"{self._done / seconds:.2f}"
        share = self._done / self._total
        bar = "█" * int(share * _CELLS)
        times = f"[{_minutes(seconds)}<{left}, {speed:>5}it/s]"
        self._task.log(f"{int(100 * share):3}%|{bar:<{_CELLS}}| {self._done}/{self._total} {times}")


def _minutes(seconds: float) -> str:
    """`01:05`."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes:02}:{rest:02}"
