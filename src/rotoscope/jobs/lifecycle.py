"""The life of a job: one stage after the other, each with its result and the next stage in one transaction.

    gather -> prepare -> submit (and reconcile, where the reply is lost) -> watch -> fetch -> finish -> done

A job that takes no outputs of other jobs begins at `prepare`; one without files to bring to the provider begins at
`submit`: then its request is known when it is opened.
A process that dies repeats the stage in which it died. Every stage may be repeated but `submit`: there the intent in
the ledger is the guard, and the request of an intent that stands is never sent again.

What an error means depends on what may have been paid when it was raised:

- without an intent nothing was bought: the job has failed, and says that it cost nothing;
- an intent without a run's id: nobody can know, so the job waits for a review;
- the run is known: only what says something of the run ends the job (`_FINAL_ERRORS`). Any other fault is ours or this
  machine's, and the stage is tried again.
"""

import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace

from rotoscope.errors import OutputLost, PredictionFailed, RotoscopeError, StorageFailed, SubmitUnsure, Timeout
from rotoscope.jobs.concurrency import cancel_on
from rotoscope.jobs.context import CancelRequested, JobContext, LeaseGuard
from rotoscope.jobs.stages.fetch import fetch
from rotoscope.jobs.stages.finish import finish
from rotoscope.jobs.stages.gather import gather
from rotoscope.jobs.stages.prepare import prepare
from rotoscope.jobs.stages.reconcile import reconcile
from rotoscope.jobs.stages.submit import submit
from rotoscope.jobs.stages.watch import watch
from rotoscope.jobs.transitions import LostReply, patch_to_follow, unsure_error
from rotoscope.logs import note_job
from rotoscope.store.job_data import Charge, ErrorRecord
from rotoscope.store.ledger import LostLease
from rotoscope.store.records import UNPAID_STAGES, Job, Patch, Stage, error_record

__all__ = ["run_job"]

_FINAL_ERRORS = OutputLost | PredictionFailed | Timeout
"""How a run that was paid for may fail. Anything else that is raised after the payment says nothing of the run."""

_log = logging.getLogger(__name__)


async def _submit_or_reconcile(context: JobContext, job: Job, lease: LeaseGuard) -> Patch:
    outcome = await submit(context, job, lease)
    return await reconcile(context, job, outcome) if isinstance(outcome, LostReply) else outcome


StageFunction = Callable[[JobContext, Job, LeaseGuard], Awaitable[Patch]]
_STAGE_FUNCTIONS: Mapping[Stage, StageFunction] = {
    "gather": gather,
    "prepare": prepare,
    "submit": _submit_or_reconcile,
    "watch": watch,
    "fetch": fetch,
    "finish": finish,
}


async def run_job(context: JobContext, job: Job, lease: LeaseGuard) -> None:
    """Drive a job that was claimed to its end, or until another process has it, which is only logged.

    Args:
        context: what the stages work with.
        job: the job, as it was claimed.
        lease: shows when the job is to be cancelled, and whether it is certainly still ours.

    Raises:
        StorageFailed: the ledger could not be written; the job is claimed again when its lease has run out.
    """
    with note_job(job.id):
        try:
            while job.state == "running":
                with context.tracer.trace_stage(job):
                    patch = await _run_stage(context, job, lease)
                    done, job = job.stage, await context.advance(job, patch)
                _log.info("stage %s is done: %s, %s", done, job.state, job.stage)
            if job.is_final:
                context.tracer.trace_end(job)
        except LostLease:
            _log.info("job %s is driven by another process now", job.id)


async def _run_stage(context: JobContext, job: Job, lease: LeaseGuard) -> Patch:
    try:
        await _wait_until_due(context, job, lease)
        patch = await _run_until_stored(context, job, lease)
    except LostLease:
        raise
    except CancelRequested:
        message = "Cancelled before anything was sent."
        return Patch(state="cancelled", message=message, charge=Charge(is_charged=False))
    except Exception as error:  # noqa: BLE001 - the edge of a background task: a bug must not end the server
        return await _patch_for_error(context, job, error)
    has_advanced = patch.stage not in (None, job.stage)
    return replace(patch, stage_retries=0) if has_advanced and job.stage_retries else patch


async def _patch_for_error(context: JobContext, job: Job, error: Exception) -> Patch:
    """What an error of a stage changes in the job; see above."""
    if not isinstance(error, RotoscopeError):
        _log.error("job %s failed in its stage %s", job.id, job.stage, exc_info=error)
    if job.stage in UNPAID_STAGES:
        return await _patch_for_submit_error(context, job, error)
    if isinstance(error, SubmitUnsure):
        return _patch_for_review(context, error)
    if isinstance(error, _FINAL_ERRORS):
        return Patch(state="failed", error=error_record(error), message=error.message)
    return _patch_to_retry(context, job, error)


async def _patch_for_submit_error(context: JobContext, job: Job, error: Exception) -> Patch:
    """With an intent money may have moved, whatever was raised; without one nothing was bought.

    Raises:
        LostLease: the intent cannot be read, so nothing is decided here.
    """
    intent = await context.read_intent(job) if job.stage == "submit" else None
    if intent is not None and intent.prediction_id is not None:
        return _patch_to_watch(context, job, error, intent.prediction_id)
    if isinstance(error, SubmitUnsure):
        return _patch_for_review(context, error)
    if intent is not None:
        return _patch_for_review(context, unsure_error(context, job))
    if isinstance(error, RotoscopeError):
        problem = error_record(error)
    else:
        message = f"rotoscope failed in {job.stage}: {type(error).__name__}; nothing was sent."
        problem = ErrorRecord("internal", message, "Call the tool again.")
    return Patch(state="failed", error=problem, message=problem.message, charge=Charge(is_charged=False))


def _patch_to_watch(context: JobContext, job: Job, error: Exception, prediction_id: str) -> Patch:
    """The reply was read before whatever went wrong, so the run is known: it is watched."""
    try:
        return patch_to_follow(context, job, job.call, prediction_id)
    except Exception:  # noqa: BLE001 - as above: what went wrong once may go wrong here too
        _log.exception("job %s cannot be resumed as prediction %s", job.id, prediction_id)
        return _patch_to_retry(context, job, error)


def _patch_for_review(context: JobContext, error: SubmitUnsure) -> Patch:
    """Nobody can know: a person is asked, and the provider's list is read again from time to time (`jobs.review`)."""
    first_look = context.clock() + context.intervals.review_pause
    return Patch(state="needs_review", error=error_record(error), message=error.message, next_at=first_look)


def _patch_to_retry(context: JobContext, job: Job, error: Exception) -> Patch:
    """The run is paid for and the error says nothing of it: try again, and after several tries ask a person."""
    times = job.stage_retries + 1
    why = error.message if isinstance(error, RotoscopeError) else "That is a fault of rotoscope or of this machine."
    message = f"rotoscope stumbled in {job.stage} ({type(error).__name__}); the run is not lost. {why}"
    hint = f"It is tried again by itself, also when rotoscope starts anew; rotoscope jobs resume {job.id} does so now."
    problem = ErrorRecord("internal", message, hint)
    if times > context.intervals.max_stage_retries and job.stage != "submit":
        again = context.clock() + context.intervals.longest_pause
        return Patch(state="needs_review", stage_retries=0, next_at=again, error=problem, message=message)
    again = context.clock() + min(2.0**times, context.intervals.longest_stage_pause)
    return Patch(stage_retries=times, next_at=again, error=problem, message=message, event="progress")


async def _wait_until_due(context: JobContext, job: Job, lease: LeaseGuard) -> None:
    """Wait until the stage may be tried again; a cancel of a job whose run is paid for ends the wait early.

    Raises:
        CancelRequested: the job is to be cancelled, and nothing was sent yet.
    """
    seconds = (job.next_at or 0.0) - context.clock()
    if seconds <= 0:
        return
    pause = min(seconds, context.intervals.longest_retry_pause)
    if lease.stop.is_set() and job.stage not in UNPAID_STAGES:
        # The provider was asked to cancel before; without the wait it would be asked again in a busy loop.
        await context.sleep(pause)
        return
    try:
        await cancel_on(lease.stop, lambda: context.sleep(pause), CancelRequested())
    except CancelRequested:
        if job.stage in UNPAID_STAGES:
            raise


async def _run_until_stored(context: JobContext, job: Job, lease: LeaseGuard) -> Patch:
    """Run a stage. Once the run is paid for, it is run again as long as a disk or a ledger takes nothing."""
    pause = 1.0
    while True:
        try:
            return await _STAGE_FUNCTIONS[job.stage](context, job, lease)
        except StorageFailed as error:
            if job.stage in UNPAID_STAGES:
                raise
            await _report_storage_failure(context, job, error)
        await context.sleep(pause)
        pause = min(2 * pause, context.intervals.longest_storage_pause)


async def _report_storage_failure(context: JobContext, job: Job, error: StorageFailed) -> None:
    """Write into the job what is waited for, if the ledger itself can be written."""
    message = f"{error.message} The run is not lost: this is tried again until it works."
    with contextlib.suppress(StorageFailed):
        await context.advance(job, Patch(error=error_record(error), message=message, event="progress"))
