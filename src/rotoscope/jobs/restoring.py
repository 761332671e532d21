"""Files of a finished result that have gone from the results folder are fetched, or made, once more."""

import logging

from rotoscope.errors import OutputLost, RotoscopeError
from rotoscope.jobs.context import JobContext
from rotoscope.jobs.joined_parts import describe_joined_output, join_again
from rotoscope.jobs.outputs import read_job_output
from rotoscope.jobs.stages.fetch import fetch_again
from rotoscope.jobs.stages.finish import find_missing_outputs, finish_in_worker
from rotoscope.jobs.stages.finish_masks import FinishResult
from rotoscope.store.job_data import MeasuredResult
from rotoscope.store.records import Job

__all__ = ["restore_files"]

_log = logging.getLogger(__name__)


async def restore_files(context: JobContext, job: Job) -> None:
    """Restore the files of a result that are no longer in the vault: fetch them again, or make them again.

    The job itself does not change. What cannot be restored now stays away, and the result warns of it by name.
    """
    if job.state != "succeeded":
        return
    try:
        outputs = await context.ledger.outputs(job.id, job.principal)
        if not await find_missing_outputs(context, outputs):
            return
        raw = [output for output in outputs if output.role == "raw"]
        if await find_missing_outputs(context, raw):
            raw = list(await (join_again if job.plan.parts else fetch_again)(context, job))
        found = describe_joined_output(job) if job.plan.parts else read_job_output(context, job)
        finished = await finish_in_worker(context, job, found, raw)
        if _is_other_film(job, finished):
            raise OutputLost("The film was made of files of which some are gone.")
        await context.ledger.restore_outputs(job.id, job.principal, [*raw, *finished.outputs])
    except RotoscopeError as error:
        _log.info("files of job %s are gone and cannot be put back now: %s", job.id, error.message)


def _is_other_film(job: Job, finished: FinishResult) -> bool:
    """Whether an edit was made of fewer files than before, so that its film is not the one that the result tells of."""
    before, now = ((one or MeasuredResult()).changes or {} for one in (job.result, finished.result))
    return any(before.get(name) != now.get(name) for name in ("outside_restored", "sound") if before)
