"""Work that is given up when its time is over: a disk or a host that hangs must not keep a person waiting.

Each piece runs in a thread of its own that ends with the process, because a thread that hangs in the system cannot be
ended otherwise.
"""

import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

__all__ = ["BoundedWork", "Unknown"]

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Unknown:
    """There is no answer, and why; `is_fault` where that is a defect of ours."""

    why: str
    is_fault: bool = False


class BoundedWork(Generic[Answer]):
    """A piece of work that has begun.

    Args:
        work: takes nothing; called in another thread at once.
        monotonic: seconds that always go on.
    """

    def __init__(self, work: Callable[[], Answer], monotonic: Callable[[], float] = time.monotonic) -> None:
        self._work = work
        self._monotonic = monotonic
        self._begun = monotonic()
        self._answer: list[Answer | Unknown] = []
        self._thread = threading.Thread(target=self._run, name="a check", daemon=True)
        self._thread.start()

    def wait(self, seconds: float) -> Answer | Unknown:
        """Its answer; `Unknown` where it failed, or was not done so many seconds after it began."""
        self._thread.join(max(0.0, self._begun + seconds - self._monotonic()))
        return self._answer[0] if self._answer else Unknown(f"it took longer than {seconds:g} seconds")

    def _run(self) -> None:
        try:
            self._answer.append(self._work())
        except Exception as error:  # noqa: BLE001 - one check that fails must not hide what the others found
            place = traceback.extract_tb(error.__traceback__)[-1]
            why = f"{type(error).__name__} at {place.filename.rpartition('/')[2]}:{place.lineno}"
            self._answer.append(Unknown(f"the check itself failed ({why})", is_fault=True))
