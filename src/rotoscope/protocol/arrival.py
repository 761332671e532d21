"""When a request came in: a client counts from then, also while the server was still being loaded.

Whoever reads the lines of a session says so. The SDK serves each message in a copy of its reader's context, so what
is said here is known where the request is served, and to no other.
"""

import time
from contextvars import ContextVar

__all__ = ["arrival_time", "set_arrival_time"]

_ARRIVAL_TIME: ContextVar[float | None] = ContextVar("arrival", default=None)


def set_arrival_time(at: float) -> None:
    """What is read next came in at that moment, in seconds of `time.monotonic`."""
    _ARRIVAL_TIME.set(at)


def arrival_time() -> float:
    """When the request that is served here came in, in seconds of `time.monotonic`; now, where nobody has said so."""
    at = _ARRIVAL_TIME.get()
    return time.monotonic() if at is None else at
