"""The machine: drives one job through its stages. Each stage's result and its advance are committed together.

    prepare -> submit -> watch -> fetch -> finish -> done

Every stage may be repeated after a crash, except `submit`: there the intent row is the guard, and an intent that
stands without a prediction is never posted again.
"""

import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace

from rotoscope.errors import OutputLost, PredictionFailed, RotoscopeError, StorageFailed, SubmitUnsure, Timeout
from rotoscope.jobs.concurrency import cancel_on
from rotoscope.jobs.context import JobContext
from rotoscope.jobs.dispatcher import LeaseGuard
from rotoscope.jobs.stages.fetch import fetch
from rotoscope.jobs.stages.finish import finish
from rotoscope.jobs.stages.reconcile import unsure_error
from rotoscope.jobs.stages.submit import prepare, submit
from rotoscope.jobs.stages.watch import CancelRequested, patch_of, watch
from rotoscope.providers.states import Waiting
from rotoscope.store.job_data import Charge
from rotoscope.store.ledger import LostLease
from rotoscope.store.records import Job, Patch, Stage, Submission, error_record

__all__ = ["run_job"]

_UNPAID_STAGES = frozenset({"prepare", "submit"})
_FINAL_ERRORS = OutputLost | PredictionFailed | Timeout
"""How a run that was paid for may fail. Anything else that is raised after the payment is no word on the run."""

_LONGEST_STORAGE_PAUSE = 60.0  # seconds
_MAX_STAGE_RETRIES, _LONGEST_STAGE_PAUSE = 5, 300.0  # tries in a row before a person is told, and seconds
_FIRST_REVIEW_PAUSE = 60.0  # seconds until a job in review is looked at for the first time
_log = logging.getLogger(__name__)

StageFunction = Callable[[JobContext, Job, LeaseGuard], Awaitable[Patch]]
_STAGE_FUNCTIONS: Mapping[Stage, StageFunction] = {
    "prepare": prepare,
    "submit": submit,
    "watch": watch,
    "fetch": fetch,
    "finish": finish,
}


async def run_job(context: JobContext, job: Job, lease: LeaseGuard) -> None:
    """Drive a job that was claimed to its end.

    Args:
        context: what the stages work with.
        job: the job, as it was claimed.
        lease: tells when the job is to be cancelled, and whether it is still ours.
    """
    try:
        while job.state == "running":
            job = await context.advance(job, await _run_stage(context, job, lease))
    except LostLease:
        _log.info("job %s is driven by another process now", job.id)


async def _run_stage(context: JobContext, job: Job, lease: LeaseGuard) -> Patch:
    try:
        await _wait_until_due(context, job, lease)
        patch = await _run_until_stored(context, job, lease)
    except LostLease:
        raise
    except CancelRequested:
        return Patch(state="cancelled", message="Cancelled before anything was sent.", charge=Charge(is_charged=False))
    except Exception as error:  # noqa: BLE001 - the edge of a background task: a bug must not end the server
        return await _patch_for_error(context, job, error)
    passed = patch.stage not in (None, job.stage)
    return replace(patch, stage_retries=0) if passed and job.stage_retries else patch


async def _patch_for_error(context: JobContext, job: Job, error: Exception) -> Patch:
    """What an error means for the job: it depends on what may have been paid by then."""
    if not isinstance(error, RotoscopeError):
        _log.error("job %s stumbled in %s", job.id, job.stage, exc_info=error)
    if job.stage in _UNPAID_STAGES:
        return await _patch_for_submit_error(context, job, error)
    if isinstance(error, SubmitUnsure):
        return _patch_for_review(context, error)
    if isinstance(error, _FINAL_ERRORS):
        return Patch(state="failed", error=error_record(error), message=error.message)
    return _patch_to_retry(context, job, error)


async def _patch_for_submit_error(context: JobContext, job: Job, error: Exception) -> Patch:
    """An intent that stands means that money may have moved, whatever was raised; without one nothing was bought."""
    intent = await _read_intent(context, job)
    if intent is not None and intent.prediction_id is not None:
        return _patch_to_watch(context, job, error, intent.prediction_id)
    if isinstance(error, SubmitUnsure):
        return _patch_for_review(context, error)
    if intent is not None:
        return _patch_for_review(context, unsure_error(context, job, job.call))
    if isinstance(error, RotoscopeError):
        problem: Mapping[str, str] = error_record(error)
    else:
        words = f"rotoscope failed in {job.stage}: {type(error).__name__}; nothing was sent."
        problem = {"code": "internal", "message": words, "hint": "Call the tool again."}
    return Patch(state="failed", error=problem, message=problem["message"], charge=Charge(is_charged=False))


async def _read_intent(context: JobContext, job: Job) -> Submission | None:
    """The intent to pay of a job.

    Raises:
        LostLease: it cannot be read, so nothing is decided: whoever has the job next looks.
    """
    if job.stage == "prepare":
        return None
    try:
        return await context.ledger.submission(job.id, job.principal)
    except StorageFailed as error:
        raise LostLease(job.id) from error


def _patch_to_watch(context: JobContext, job: Job, error: Exception, prediction_id: str) -> Patch:
    """The reply was read before whatever went wrong: its prediction is watched."""
    try:
        ticket = context.dialects[job.provider].ticket(job.call, prediction_id)
        return patch_of(context, job, Waiting(ticket))
    except Exception:  # noqa: BLE001 - as above: what went wrong once may go wrong here too
        _log.exception("job %s cannot be taken up as prediction %s", job.id, prediction_id)
        return _patch_to_retry(context, job, error)


def _patch_for_review(context: JobContext, error: SubmitUnsure) -> Patch:
    """Nobody can know: a person is told, and the provider is looked at again by and by."""
    problem = error_record(error)
    return Patch(
        state="needs_review", error=problem, message=error.message, next_at=context.clock() + _FIRST_REVIEW_PAUSE
    )


def _patch_to_retry(context: JobContext, job: Job, error: Exception) -> Patch:
    """Once it is paid for, an error that says nothing of the run ends nothing: the stage is tried again."""
    times = job.stage_retries + 1
    why = error.message if isinstance(error, RotoscopeError) else "That is a fault of rotoscope or of this machine."
    message = f"rotoscope stumbled in {job.stage} ({type(error).__name__}); the run is not lost. {why}"
    hint = f"It is tried again by itself, also when rotoscope starts anew; rotoscope jobs resume {job.id} does so now."
    problem = {"code": "internal", "message": message, "hint": hint}
    if times > _MAX_STAGE_RETRIES and job.stage != "submit":
        again = context.clock() + context.intervals.longest_pause
        return Patch(state="needs_review", stage_retries=0, next_at=again, error=problem, message=message)
    again = context.clock() + min(2.0**times, _LONGEST_STAGE_PAUSE)
    return Patch(stage_retries=times, next_at=again, error=problem, message=message, event="progress")


async def _wait_until_due(context: JobContext, job: Job, lease: LeaseGuard) -> None:
    """Wait until the stage may be tried again.

    Raises:
        Stopped: the job is to be cancelled, and nothing was sent yet.
    """
    seconds = (job.next_at or 0.0) - context.clock()
    if seconds <= 0:
        return
    pause = min(seconds, context.intervals.longest_retry_pause)
    if lease.stop.is_set() and job.stage not in _UNPAID_STAGES:
        # The provider was told already, or did not listen: without the pause it would be told in a busy loop.
        await context.sleep(pause)
        return
    try:
        await cancel_on(lease.stop, lambda: context.sleep(pause), CancelRequested())
    except CancelRequested:
        if job.stage in _UNPAID_STAGES:
            raise


async def _run_until_stored(context: JobContext, job: Job, lease: LeaseGuard) -> Patch:
    """Work a stage. Once the run is paid for, a disk that is full or locked is waited out: stages may be repeated."""
    pause = 1.0
    while True:
        try:
            return await _STAGE_FUNCTIONS[job.stage](context, job, lease)
        except StorageFailed as error:
            if job.stage in _UNPAID_STAGES:
                raise
            await _report_storage_failure(context, job, error)
        await context.sleep(pause)
        pause = min(2 * pause, _LONGEST_STORAGE_PAUSE)


async def _report_storage_failure(context: JobContext, job: Job, error: StorageFailed) -> None:
    """Tell what is waited for, where the ledger itself can be written."""
    message = f"{error.message} The run is not lost: this is tried again until it works."
    with contextlib.suppress(StorageFailed):
        await context.advance(job, Patch(error=error_record(error), message=message, event="progress"))
