"""What is said to the client: in order, by a thread of its own, so that a client that does not read holds up nothing.

A write to a pipe that nobody reads takes for ever and cannot be cut off. So nobody but this thread writes, and it dies
with the process. What waits to be written is bounded: who is `is_full` must not be given more, which is for its user to
heed before it reads on.
"""

import os
import threading
from collections import deque
from collections.abc import Callable

__all__ = ["Writer"]

_MAX_UNWRITTEN_BYTES = 16 * 1024 * 1024  # a client may well send some hundred requests before it reads


class Writer:
    """Whole lines for a file descriptor.

    Args:
        sink: the descriptor.
        most_bytes: with how many bytes unwritten it is full.
    """

    def __init__(self, sink: int, most_bytes: int = _MAX_UNWRITTEN_BYTES) -> None:
        self._sink = sink
        self._max_bytes = most_bytes
        self._lines: deque[bytes] = deque()
        self._bytes = 0
        self._error: OSError | None = None
        self._condition = threading.Condition()
        self._listener: Callable[[], None] = _ignore_change
        self._thread = threading.Thread(target=self._run, name="stdout", daemon=True)

    @property
    def is_full(self) -> bool:
        """Whether so much is unwritten that nothing should be added. Nobody waits for a client that is gone."""
        return self._bytes >= self._max_bytes and self._error is None

    @property
    def is_broken(self) -> bool:
        """Whether the client takes nothing any more."""
        return self._error is not None

    def set_listener(self, listener: Callable[[], None]) -> None:
        """Call a function, in the writing thread, when something was written or the client is gone; now, if it is
        gone.
        """
        with self._condition:
            self._listener = listener
        if self.is_broken:
            listener()

    def put(self, line: bytes) -> None:
        """Have a line written. Never waits.

        Raises:
            OSError: the client is gone.
        """
        with self._condition:
            if self._error is not None:
                raise self._error
            if not self._thread.is_alive():
                self._thread.start()
            self._lines.append(line)
            self._bytes += len(line)
            self._condition.notify_all()

    def wait_for_space(self, seconds: float) -> bool:
        """Wait in this thread until there is space, at most this many seconds; returns whether there is."""
        with self._condition:
            return self._condition.wait_for(lambda: not self.is_full, seconds)

    def drain(self, seconds: float) -> bool:
        """Wait in this thread until all is written or the client is gone, at most some seconds; whether it is so."""
        with self._condition:
            return self._condition.wait_for(lambda: not self._bytes or self.is_broken, seconds)

    def _run(self) -> None:
        while self._error is None:
            with self._condition:
                self._condition.wait_for(lambda: self._lines)
                line = self._lines.popleft()
            broken = self._write(line)
            with self._condition:
                self._bytes -= len(line)
                if broken is not None:
                    self._error, self._bytes = broken, 0
                    self._lines.clear()
                self._condition.notify_all()
                tell = self._listener
            tell()

    def _write(self, line: bytes) -> OSError | None:
        rest = memoryview(line)
        try:
            while rest:
                rest = rest[os.write(self._sink, rest) :]
        except OSError as error:
            return error
        return None


def _ignore_change() -> None:
    """Nobody listens."""
