"""What a piece of work in a worker process may cost, and how the worker sets these limits for itself.

Memory is counted as address space over a baseline: what the process has once its libraries are loaded. On Linux the
kernel refuses more, which stops even a decoder in C. macOS and Windows do not limit address space; there the limit of
processor time (macOS) and the wall limit in the parent process remain.
"""

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

if sys.platform != "win32":
    import resource

__all__ = ["MAX_LEFTOVER_BYTES", "Meter", "WorkLimits", "install_meter", "limit_process", "request_cpu_seconds"]

MAX_LEFTOVER_BYTES = 64_000_000
"""Bytes: a worker that holds so much more than its baseline after its work is not used again."""
_FILE_BYTES = 1 << 30  # bytes of any file that a worker writes
_PAGE = 4096  # bytes of the pages that /proc/self/statm counts
_STATM = Path("/proc/self/statm")


@dataclass(frozen=True, slots=True)
class WorkLimits:
    """What one piece of work may cost.

    Attributes:
        memory_bytes: bytes of address space over the baseline.
        cpu_seconds: seconds of processor time, all threads together.
        wall_seconds: seconds from the request to the answer, with the start of the process and the imports.
        max_cpu_seconds: seconds of processor time that the work may ask for, once it knows that it has much to do.
        modules: the libraries that it uses; they belong to the baseline.
    """

    memory_bytes: int
    cpu_seconds: int
    wall_seconds: float
    max_cpu_seconds: int
    modules: tuple[str, ...]


class Meter:
    """Sets the limits of this process for each piece of work.

    Args:
        report_seconds: reports to the parent process how many seconds of processor time the work was given in place of
            the usual.
    """

    def __init__(self, report_seconds: Callable[[int], None]) -> None:
        self._report_seconds = report_seconds
        self._modules: set[str] = set()
        self._baseline: int | None = None
        self._limits: WorkLimits | None = None

    def load_modules(self, modules: Sequence[str]) -> None:
        """Import libraries, which grows the baseline."""
        before = _address_space()
        found = set(modules) - self._modules
        for name in found:
            import_module(name)
        self._modules |= found
        if self._baseline is not None:
            self._baseline += _address_space() - before

    def begin_work(self, limits: WorkLimits) -> None:
        """Set the limits for a piece of work. Passing the limit of processor time ends the process."""
        self.load_modules(limits.modules)
        self._limits = limits
        if self._baseline is None:
            self._baseline = _address_space()
        if _STATM.exists():
            _limit_memory(self._baseline + limits.memory_bytes)
        _limit_cpu(limits.cpu_seconds)

    def extend_seconds(self, seconds: int) -> None:
        """Let the work take so much processor time from now on, as far as its limits allow."""
        if self._limits is None:
            return
        seconds = min(max(seconds, self._limits.cpu_seconds), self._limits.max_cpu_seconds)
        _limit_cpu(seconds)
        self._report_seconds(seconds)

    def end_work(self) -> bool:
        """Lift the limits after the work; whether the process should not be used again."""
        self._limits = None
        if _STATM.exists():
            _limit_memory(None)
        _limit_cpu(None)
        return _address_space() - (self._baseline or 0) > MAX_LEFTOVER_BYTES


_meter: Meter | None = None


def request_cpu_seconds(seconds: float) -> None:
    """Ask for more processor time, from now on, for work that is known to be large. Outside a worker it does nothing.

    Args:
        seconds: on one core of an ordinary machine; `WorkLimits.max_cpu_seconds` is given at most.
    """
    if _meter is not None:
        _meter.extend_seconds(int(seconds) + 1)


def install_meter(meter: Meter) -> None:
    """Make this the meter of the process, for `request_cpu_seconds`."""
    global _meter  # noqa: PLW0603 - a process has one set of limits, and work that asks for more does not know its meter
    _meter = meter


def _address_space() -> int:
    """Bytes of address space; 0 on systems that do not report it."""
    try:
        return int(_STATM.read_bytes().split()[0]) * _PAGE
    except OSError:
        return 0


def _limit_memory(most: int | None) -> None:
    if sys.platform != "win32":
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (_soft_limit(most, hard), hard))


def _limit_cpu(seconds: int | None) -> None:
    if sys.platform != "win32":
        _, hard = resource.getrlimit(resource.RLIMIT_CPU)
        # The kernel counts whole seconds; rounded down, so that it is never more than the limit.
        most = None if seconds is None else int(time.process_time()) + seconds
        resource.setrlimit(resource.RLIMIT_CPU, (_soft_limit(most, hard), hard))


def limit_process() -> None:
    """Set the limits of a worker's whole life: no core file, which would hold what it read, and no endless file."""
    if sys.platform != "win32":
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (_soft_limit(_FILE_BYTES, hard), hard))


def _soft_limit(most: int | None, hard: int) -> int:
    if sys.platform == "win32" or most is None:
        return hard
    return most if hard == resource.RLIM_INFINITY else min(most, hard)
