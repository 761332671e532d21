"""Waiting for one thing beside another: two tasks side by side, an event that ends a task, and who waits for a job."""

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import anyio

__all__ = ["JobNotifier", "cancel_on", "run_with_background"]

Answer = TypeVar("Answer")
_MOST_FOLLOWED = 1_000  # jobs; the oldest are forgotten first, and their followers are then only looked at


async def run_with_background(
    work: Callable[[], Awaitable[Answer]], *backgrounds: Callable[[], Coroutine[Any, Any, None]]
) -> Answer:
    """Run work, and background tasks that are cancelled when the work ends; if one of them fails, the work does too.

    A task group would wrap an exception of either in an exception group; here it is raised as it is.
    """
    answers: list[Answer] = []
    errors: list[Exception] = []

    async def catch_error(action: Callable[[], Awaitable[None]]) -> None:
        try:
            await action()
        except Exception as error:  # noqa: BLE001 - raised again below, unwrapped
            errors.append(error)
            tasks.cancel_scope.cancel()

    async def collect_answer() -> None:
        answers.append(await work())

    async with anyio.create_task_group() as tasks:
        for background in backgrounds:
            tasks.start_soon(catch_error, background)
        await catch_error(collect_answer)
        tasks.cancel_scope.cancel()
    if errors:
        raise errors[0]
    return answers[0]


async def cancel_on(stop: anyio.Event, work: Callable[[], Awaitable[Answer]], error: Exception) -> Answer:
    """Run work, and cancel it as soon as an event is set.

    Raises:
        error: the event came first.
    """
    scope = anyio.CancelScope()

    async def cancel_when_set() -> None:
        await stop.wait()
        scope.cancel()

    async def run_in_scope() -> Answer:
        with scope:
            return await work()
        raise error

    return await run_with_background(run_in_scope, cancel_when_set)


class JobNotifier:
    """Wakes those in this process that wait for a job to change. It never says what has changed: read the ledger.

    There is one event a job, replaced at each change. Take the event before you read the ledger, then wait for it: so
    a change between the two is not lost.
    """

    def __init__(self) -> None:
        self._events: dict[str, anyio.Event] = {}
        self._ends: dict[str, anyio.Event] = {}
        self._listeners: dict[object, Callable[[str], None]] = {}
        self._followers: OrderedDict[str, str] = OrderedDict()
        self._is_ending = False

    @property
    def is_ending(self) -> bool:
        """Whether nobody is to wait any more, because the process ends."""
        return self._is_ending

    def end_waits(self) -> None:
        """Wake everybody that waits, for good."""
        self._is_ending = True
        for event in (*self._events.values(), *self._ends.values()):
            event.set()

    @property
    def has_waiters(self) -> bool:
        """Whether anybody waits for a job."""
        return bool(self._events or self._ends)

    def next_change(self, job_id: str) -> anyio.Event:
        """The event that is set at the next change of a job."""
        return self._events.setdefault(job_id, anyio.Event())

    def end_event(self, job_id: str) -> anyio.Event:
        """The event that is set when a job may have become final; changes before that do not set it."""
        return self._ends.setdefault(job_id, anyio.Event())

    def subscribe(self, listener: Callable[[str], None]) -> Callable[[], None]:
        """Call a listener with the id of every job that changes; what is returned ends the subscription.

        The listener must neither wait nor raise. An id may come more often than its job changes.
        """
        token = object()
        self._listeners[token] = listener

        def unsubscribe() -> None:
            self._listeners.pop(token, None)

        return unsubscribe

    def follow(self, job_id: str, follower_id: str) -> None:
        """From now on each change of a job counts as one of another job, which shows it as a step."""
        if job_id != follower_id:
            self._followers[job_id] = follower_id
        if len(self._followers) > _MOST_FOLLOWED:
            self._followers.popitem(last=False)

    def notify_change(self, job_id: str, *, final: bool = True) -> None:
        """Wake everybody that waits for a change of this job, and with `final` also those that wait for its end."""
        for events in (self._events, self._ends) if final else (self._events,):
            event = events.pop(job_id, None)
            if event is not None:
                event.set()
        for listener in list(self._listeners.values()):
            listener(job_id)
        if job_id in self._followers:
            self.notify_change(self._followers[job_id], final=False)
