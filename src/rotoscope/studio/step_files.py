"""The results that steps of a new chain would use again: their files are put back, or the step is run again."""

from collections.abc import Sequence
from dataclasses import replace

import anyio

from rotoscope.jobs.context import JobContext
from rotoscope.jobs.restoring import restore_files
from rotoscope.jobs.stages.finish import find_missing_outputs
from rotoscope.store.records import Job, NewJob

__all__ = ["check_step_files", "find_reused_steps"]

_RESTORING_SECONDS = 30.0  # for what the provider may still have; after that the step is run again


async def find_reused_steps(context: JobContext, new: NewJob) -> Sequence[Job | None]:
    """The job whose result each step would use, unpaid; None where the step would be run.

    Nothing is sent to find that out: a result that has lost files counts as one that is paid for again, though the
    provider may still have them.
    """
    return [
        None if found is None or await _has_lost_files(context, found) else found
        for found in await context.ledger.joined_steps(new)
    ]


async def _has_lost_files(context: JobContext, job: Job) -> bool:
    """Whether a job has succeeded of which files are gone."""
    if job.state != "succeeded":
        return False
    return bool(await find_missing_outputs(context, await context.ledger.outputs(job.id, job.principal)))


async def check_step_files(context: JobContext, new: NewJob) -> NewJob:
    """The job, with those steps joining no ended job whose result there would have lost its files for good."""
    steps = list(new.steps)
    for n, found in enumerate(await context.ledger.joined_steps(new)):
        if found is None or found.state != "succeeded":
            continue
        with anyio.move_on_after(_RESTORING_SECONDS):
            await restore_files(context, found)
        if await _has_lost_files(context, found):
            steps[n] = replace(steps[n], joins_ended=False)
    return replace(new, steps=tuple(steps))
