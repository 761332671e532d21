"""The feed: wakes those in this process who wait for a job to change."""

from collections.abc import Callable

import anyio

__all__ = ["JobNotifier"]


class JobNotifier:
    """One event a job, replaced at each change. It says that something changed, never what: read the ledger.

    Take the event before you read the ledger, then wait for it: a change in between is not lost.
    """

    def __init__(self) -> None:
        self._events: dict[str, anyio.Event] = {}
        self._ends: dict[str, anyio.Event] = {}
        self._listeners: dict[object, Callable[[str], None]] = {}

    @property
    def has_waiters(self) -> bool:
        """Whether anybody waits for anything."""
        return bool(self._events or self._ends)

    def next_change(self, job_id: str) -> anyio.Event:
        """The event that is set when the job changes next."""
        return self._events.setdefault(job_id, anyio.Event())

    def end_event(self, job_id: str) -> anyio.Event:
        """The event that is set when the job may have become final: for who does not care how it gets there."""
        return self._ends.setdefault(job_id, anyio.Event())

    def subscribe(self, listener: Callable[[str], None]) -> Callable[[], None]:
        """Have the id of every job that changes told; calling what is returned ends it.

        The listener neither waits nor raises. An id may come more often than its job changes.
        """
        token = object()
        self._listeners[token] = listener

        def unsubscribe() -> None:
            self._listeners.pop(token, None)

        return unsubscribe

    def notify_change(self, job_id: str, *, final: bool = True) -> None:
        """Wake everybody who waits for this job; those who wait for its end only if it is `final`, or may be."""
        for events in (self._events, self._ends) if final else (self._events,):
            event = events.pop(job_id, None)
            if event is not None:
                event.set()
        for listener in list(self._listeners.values()):
            listener(job_id)
