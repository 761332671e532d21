"""The results that steps of a new chain would use again: their files are put back, or the step is run again."""

from dataclasses import replace

import anyio

from rotoscope.jobs.context import JobContext
from rotoscope.jobs.restoring import restore_files
from rotoscope.jobs.stages.finish import find_missing_outputs
from rotoscope.store.records import NewJob

__all__ = ["check_step_files"]

_RESTORING_SECONDS = 30.0  # for what the provider may still have; after that the step is run again


async def check_step_files(context: JobContext, new: NewJob) -> NewJob:
    """The job, with those steps joining no ended job whose result there would have lost its files for good."""
    steps = list(new.steps)
    for n, found in enumerate(await context.ledger.joined_steps(new)):
        if found is None or found.state != "succeeded":
            continue
        with anyio.move_on_after(_RESTORING_SECONDS):
            await restore_files(context, found)
        if await find_missing_outputs(context, await context.ledger.outputs(found.id, found.principal)):
            steps[n] = replace(steps[n], joins_ended=False)
    return replace(new, steps=tuple(steps))
