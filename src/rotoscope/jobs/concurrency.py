"""Doing one thing beside another, with the errors of the one coming out as they are."""

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import anyio

__all__ = ["cancel_on", "run_with_background"]

Answer = TypeVar("Answer")


async def run_with_background(
    work: Callable[[], Awaitable[Answer]], background: Callable[[], Coroutine[Any, Any, None]]
) -> Answer:
    """Do work while something else goes on, which ends with it; if that fails, the work is dropped.

    A task group would wrap what either raises in a group; here it comes out as it was raised.
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
        tasks.start_soon(catch_error, background)
        await catch_error(collect_answer)
        tasks.cancel_scope.cancel()
    if errors:
        raise errors[0]
    return answers[0]


async def cancel_on(stop: anyio.Event, work: Callable[[], Awaitable[Answer]], error: Exception) -> Answer:
    """Do work, but drop it as soon as an event is set.

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
