"""What tests have worker processes do: good work, and work that must be ended."""

import ctypes
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

from rotoscope.errors import InvalidInput
from rotoscope.workers.limits import request_cpu_seconds

__all__ = [
    "Trap", "add", "allocate", "end_itself", "know_environment", "list_descriptors", "loaded", "refuse", "spin",
    "spin_after_asking", "stumble", "take_over", "wait_at",
]  # fmt: skip


def add(one: int, other: int) -> int:
    return one + other


def allocate(size: int) -> int:
    return len(bytearray(size))


def spin() -> None:
    while True:
        pass


def spin_after_asking(seconds: float) -> None:
    request_cpu_seconds(seconds)
    spin()


def wait_at(gate: Path) -> bytes:
    """Wait until somebody opens the FIFO for writing, in a call of the system that nothing interrupts."""
    return gate.read_bytes()


def end_itself(number: int) -> None:
    os.kill(os.getpid(), number)
    ctypes.pythonapi.PyGILState_Check()


def refuse() -> None:
    raise InvalidInput("It is a drawing.", hint="Give a photo.", code="unsupported")


def stumble() -> None:
    raise KeyError("a bug")


@dataclass
class Trap:
    """A value that runs a command where it is unpickled without care."""

    mark: str

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (self.mark,)


def take_over(mark: str) -> Trap:
    return Trap(mark)


def know_environment() -> tuple[list[str], bool]:
    """The names in the worker's environment, and whether it ignores what asks it to end."""
    return sorted(os.environ), signal.getsignal(signal.SIGTERM) == signal.SIG_IGN


def list_descriptors() -> list[str]:
    """What the worker has open."""
    found = []
    for name in Path("/proc/self/fd").iterdir():
        try:
            found.append(str(name.readlink()))
        except OSError:
            continue
    return found


def loaded(modules: tuple[str, ...]) -> list[str]:
    return [name for name in modules if name in sys.modules]
