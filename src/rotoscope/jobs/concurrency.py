"""Doing one thing beside another, with the errors of the one coming out as they are."""

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import anyio

__all__ = ["beside", "unless"]

Answer = TypeVar("Answer")


async def beside(work: Callable[[], Awaitable[Answer]], background: Callable[[], Coroutine[Any, Any, None]]) -> Answer:
    """Do work while something else goes on, which ends with it; if that fails, the work is dropped.

    A task group would wrap what either raises in a group; here it comes out as it was raised.
    """
    answers: list[Answer] = []
    errors: list[Exception] = []

    async def kept(doing: Callable[[], Awaitable[None]]) -> None:
        try:
            await doing()
        except Exception as error:  # noqa: BLE001 - raised again below, unwrapped
            errors.append(error)
            tasks.cancel_scope.cancel()

    async def worked() -> None:
        answers.append(await work())

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(kept, background)
        await kept(worked)
        tasks.cancel_scope.cancel()
    if errors:
        raise errors[0]
    return answers[0]


async def unless(stop: anyio.Event, work: Callable[[], Awaitable[Answer]], stopped: Exception) -> Answer:
    """Do work, but drop it as soon as an event is set.

    Raises:
        stopped: the event came first.
    """
    scope = anyio.CancelScope()

    async def cut() -> None:
        await stop.wait()
        scope.cancel()

    async def guarded() -> Answer:
        with scope:
            return await work()
        raise stopped

    return await beside(guarded, cut)
