"""The end of a server process, in order: nothing new begins, what is under way is answered, streams are closed."""

from collections.abc import Callable

__all__ = ["Drain"]


class Drain:
    """Says when the process is ending, and calls those that have something to end."""

    def __init__(self) -> None:
        self._is_draining = False
        self._on_begin: list[Callable[[], None]] = []

    @property
    def is_draining(self) -> bool:
        """Whether the process was asked to end."""
        return self._is_draining

    def on_begin(self, call: Callable[[], None]) -> None:
        """Call a function when the process is asked to end; it neither waits nor raises."""
        self._on_begin.append(call)

    def begin(self) -> None:
        """The process was asked to end."""
        if not self._is_draining:
            self._is_draining = True
            for call in self._on_begin:
                call()
