"""When a request came in: a client counts from then, also while the server was still being loaded.

Whoever reads the lines of a session says so. The SDK serves each message in a copy of its reader's context, so what
is said here is known where the request is served, and to no other.
"""

import time
from contextvars import ContextVar

__all__ = ["arrive", "arrived_at"]

_AT: ContextVar[float | None] = ContextVar("arrival", default=None)


def arrive(at: float) -> None:
    """What is read next came in at that moment, in seconds of `time.monotonic`."""
    _AT.set(at)


def arrived_at() -> float:
    """When the request that is served here came in, in seconds of `time.monotonic`; now, where nobody has said so."""
    at = _AT.get()
    return time.monotonic() if at is None else at
