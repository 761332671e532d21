"""The feed: wakes those in this process who wait for a job to change."""

from collections.abc import Callable

import anyio

__all__ = ["Feed"]


class Feed:
    """One event a job, replaced at each change. It says that something changed, never what: read the ledger.

    Take the event before you read the ledger, then wait for it: a change in between is not lost.
    """

    def __init__(self) -> None:
        self._events: dict[str, anyio.Event] = {}
        self._listeners: dict[object, Callable[[str], None]] = {}

    @property
    def waited_for(self) -> bool:
        """Whether anybody waits for anything."""
        return bool(self._events)

    def next_change(self, job_id: str) -> anyio.Event:
        """The event that is set when the job changes next."""
        return self._events.setdefault(job_id, anyio.Event())

    def changed(self, job_id: str) -> None:
        """Wake everybody who waits for this job."""
        event = self._events.pop(job_id, None)
        if event is not None:
            event.set()
        for listener in list(self._listeners.values()):
            listener(job_id)

    def hear(self, listener: Callable[[str], None]) -> Callable[[], None]:
        """Have the id of every job that changes told; calling what is returned ends it.

        The listener neither waits nor raises. An id may come more often than its job changes.
        """
        token = object()
        self._listeners[token] = listener

        def forget() -> None:
            self._listeners.pop(token, None)

        return forget
