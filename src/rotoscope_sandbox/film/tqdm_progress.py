"""Progress as real models print it: the lines of a tqdm bar."""

import time
from collections.abc import Callable

from rotoscope_sandbox.models import Task

__all__ = ["TqdmProgress"]

_CELLS = 10
_LINES = 20
_QUIET_SECONDS = 0.4


class TqdmProgress:
    """Counts steps and logs ` 40%|████      | 48/120 [00:01<00:02, 31.2it/s]`; never a smaller number than before.

    It speaks at the first and the last step, at every twentieth of the way, and whenever it was silent for 0.4 s,
    so that a cancel is heard soon however slow the steps are.
    """

    def __init__(self, task: Task, total: int, clock: Callable[[], float] = time.perf_counter) -> None:
        self._task = task
        self._total = max(1, total)
        self._clock = clock
        self._started_at = self._logged_at = clock()
        self._done_steps = 0
        self._logged_steps = -1
        self._log_line()

    def advance(self) -> None:
        """One more is done; raises `Stopped` when the work should end."""
        # A file may hold more frames than it said.
        self._done_steps = min(self._done_steps + 1, self._total)
        grown = self._done_steps * _LINES // self._total > max(self._logged_steps, 0) * _LINES // self._total
        if self._done_steps > self._logged_steps and (grown or self._clock() - self._logged_at >= _QUIET_SECONDS):
            self._log_line()

    def finish(self) -> None:
        """Everything is done, even if there was less to do than was said."""
        self._done_steps = self._total
        if self._logged_steps != self._done_steps:
            self._log_line()

    def _log_line(self) -> None:
        self._logged_at, self._logged_steps = self._clock(), self._done_steps
        seconds = self._logged_at - self._started_at
        left, speed = "?", "?"
        if self._done_steps and seconds > 0:
            left, speed = (
                _clock_face(seconds * (self._total / self._done_steps - 1)),
                f"{self._done_steps / seconds:.2f}",
            )
        share = self._done_steps / self._total
        bar = "█" * int(share * _CELLS)
        times = f"[{_clock_face(seconds)}<{left}, {speed:>5}it/s]"
        self._task.log(f"{int(100 * share):3}%|{bar:<{_CELLS}}| {self._done_steps}/{self._total} {times}")


def _clock_face(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes:02}:{rest:02}"
