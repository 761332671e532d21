"""A process that drives jobs and serves nobody."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import anyio

from rotoscope import signals
from rotoscope.composition.driving import Driving
from rotoscope.composition.stdio import stdio_roots
from rotoscope.composition.studio import open_studio
from rotoscope.errors import RotoscopeError
from rotoscope.settings import Settings, user_home, working_folder

if TYPE_CHECKING:
    from rotoscope.store.leases import JobDriver

__all__ = ["run_worker"]


async def run_worker(
    settings: Settings, driving: Driving, announce: "Callable[[JobDriver], None]", asked_to_end: anyio.Event
) -> None:
    """Drive jobs until the process is asked to end; then give them back at once.

    A paying request that is out is finished first, as everywhere: its answer is what was paid for.

    Args:
        settings: the operator's decisions.
        driving: which jobs, and how many.
        announce: called once the ledger is open, with what this process can drive.
        asked_to_end: set when the process is to end.

    Raises:
        InvalidInput: a setting cannot be used.
        StorageFailed: the ledger cannot be opened.
    """
    roots = stdio_roots(settings, working_folder(), user_home())
    refusal: RotoscopeError | None = None
    async with signals.closing_stack() as closing, anyio.create_task_group() as tasks:
        try:
            studio = open_studio(settings, roots, tasks, closing, takes_webhooks=True, driving=driving)
            await studio.dispatcher.open_jobs()  # whoever starts it is to see at once that the ledger cannot be read
            studio.start_background(tasks)
            announce(studio.review.holder)
            await asked_to_end.wait()
        except RotoscopeError as error:
            refusal = error  # raised inside a task group it would come out wrapped
        tasks.cancel_scope.cancel()
    if refusal is not None:
        raise refusal
