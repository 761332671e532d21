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
from rotoscope.jobs.concurrency import unless
from rotoscope.jobs.context import Rooms
from rotoscope.jobs.dispatcher import Grip
from rotoscope.jobs.stages.fetch import fetch
from rotoscope.jobs.stages.finish import finish
from rotoscope.jobs.stages.reconcile import doubt
from rotoscope.jobs.stages.submit import prepare, submit
from rotoscope.jobs.stages.watch import Stopped, patch_of, watch
from rotoscope.models.request_key import call_from_json
from rotoscope.providers.states import Waiting
from rotoscope.store.ledger import LostLease
from rotoscope.store.records import Job, Patch, Stage, Submission, problem_of

__all__ = ["drive"]

_UNPAID = frozenset({"prepare", "submit"})
_LAST_WORDS = OutputLost | PredictionFailed | Timeout
"""How a run that was paid for may fail. Anything else that is raised after the payment is no word on the run."""

_LONGEST_STORAGE_PAUSE = 60.0  # seconds
_STUMBLES, _LONGEST_STUMBLE_PAUSE = 5, 300.0  # tries in a row before a person is told, and seconds
_LOOK_AGAIN = 60.0  # seconds until a job in review is looked at for the first time
_log = logging.getLogger(__name__)

Step = Callable[[Rooms, Job, Grip], Awaitable[Patch]]
_STEPS: Mapping[Stage, Step] = {
    "prepare": prepare,
    "submit": submit,
    "watch": watch,
    "fetch": fetch,
    "finish": finish,
}


async def drive(rooms: Rooms, job: Job, grip: Grip) -> None:
    """Drive a job that was claimed to its end.

    Args:
        rooms: what the stages work with.
        job: the job, as it was claimed.
        grip: tells when the job is to be cancelled, and whether it is still ours.
    """
    try:
        while job.state == "running":
            job = await rooms.advance(job, await _worked(rooms, job, grip))
    except LostLease:
        _log.info("job %s is driven by another process now", job.id)


async def _worked(rooms: Rooms, job: Job, grip: Grip) -> Patch:
    try:
        await _due(rooms, job, grip)
        patch = await _insisted(rooms, job, grip)
    except LostLease:
        raise
    except Stopped:
        return Patch(state="cancelled", message="Cancelled before anything was sent.", data={"charged": False})
    except Exception as error:  # noqa: BLE001 - the edge of a background task: a bug must not end the server
        return await _judged(rooms, job, error)
    passed = patch.stage not in (None, job.stage)
    return replace(patch, data={**patch.data, "stumbles": 0}) if passed and job.data.get("stumbles") else patch


async def _judged(rooms: Rooms, job: Job, error: Exception) -> Patch:
    """What an error means for the job: it depends on what may have been paid by then."""
    if not isinstance(error, RotoscopeError):
        _log.error("job %s stumbled in %s", job.id, job.stage, exc_info=error)
    if job.stage in _UNPAID:
        return await _judged_before_watch(rooms, job, error)
    if isinstance(error, SubmitUnsure):
        return _for_review(rooms, error)
    if isinstance(error, _LAST_WORDS):
        return Patch(state="failed", error=problem_of(error), message=error.message)
    return _stumbled(rooms, job, error)


async def _judged_before_watch(rooms: Rooms, job: Job, error: Exception) -> Patch:
    """An intent that stands means that money may have moved, whatever was raised; without one nothing was bought."""
    intent = await _intent(rooms, job)
    if intent is not None and intent.prediction_id is not None:
        return _adopted(rooms, job, error, intent.prediction_id)
    if isinstance(error, SubmitUnsure):
        return _for_review(rooms, error)
    if intent is not None:
        return _for_review(rooms, doubt(rooms, job, call_from_json(job.data["call"])))
    if isinstance(error, RotoscopeError):
        problem: Mapping[str, str] = problem_of(error)
    else:
        words = f"rotoscope failed in {job.stage}: {type(error).__name__}; nothing was sent."
        problem = {"code": "internal", "message": words, "hint": "Call the tool again."}
    return Patch(state="failed", error=problem, message=problem["message"], data={"charged": False})


async def _intent(rooms: Rooms, job: Job) -> Submission | None:
    """The intent to pay of a job.

    Raises:
        LostLease: it cannot be read, so nothing is decided: whoever has the job next looks.
    """
    if job.stage == "prepare":
        return None
    try:
        return await rooms.ledger.submission(job.id)
    except StorageFailed as error:
        raise LostLease(job.id) from error


def _adopted(rooms: Rooms, job: Job, error: Exception, prediction_id: str) -> Patch:
    """The reply was read before whatever went wrong: its prediction is watched."""
    try:
        ticket = rooms.dialects[job.provider].ticket(call_from_json(job.data["call"]), prediction_id)
        return patch_of(rooms, job, Waiting(ticket))
    except Exception:  # noqa: BLE001 - as above: what went wrong once may go wrong here too
        _log.exception("job %s cannot be taken up as prediction %s", job.id, prediction_id)
        return _stumbled(rooms, job, error)


def _for_review(rooms: Rooms, error: SubmitUnsure) -> Patch:
    """Nobody can know: a person is told, and the provider is looked at again by and by."""
    problem = problem_of(error)
    return Patch(state="needs_review", error=problem, message=error.message, next_at=rooms.clock() + _LOOK_AGAIN)


def _stumbled(rooms: Rooms, job: Job, error: Exception) -> Patch:
    """Once it is paid for, an error that says nothing of the run ends nothing: the stage is tried again."""
    known = job.data.get("stumbles")
    times = (known if isinstance(known, int) else 0) + 1
    why = error.message if isinstance(error, RotoscopeError) else "That is a fault of rotoscope or of this machine."
    message = f"rotoscope stumbled in {job.stage} ({type(error).__name__}); the run is not lost. {why}"
    hint = f"It is tried again by itself, also when rotoscope starts anew; rotoscope jobs resume {job.id} does so now."
    problem = {"code": "internal", "message": message, "hint": hint}
    if times > _STUMBLES and job.stage != "submit":
        again = rooms.clock() + rooms.tempo.longest_pause
        return Patch(state="needs_review", data={"stumbles": 0}, next_at=again, error=problem, message=message)
    again = rooms.clock() + min(2.0**times, _LONGEST_STUMBLE_PAUSE)
    return Patch(data={"stumbles": times}, next_at=again, error=problem, message=message, event="progress")


async def _due(rooms: Rooms, job: Job, grip: Grip) -> None:
    """Wait until the stage may be tried again.

    Raises:
        Stopped: the job is to be cancelled, and nothing was sent yet.
    """
    seconds = (job.next_at or 0.0) - rooms.clock()
    if seconds <= 0:
        return
    pause = min(seconds, rooms.tempo.longest_retry)
    if grip.stop.is_set() and job.stage not in _UNPAID:
        # The provider was told already, or did not listen: without the pause it would be told in a busy loop.
        await rooms.sleep(pause)
        return
    try:
        await unless(grip.stop, lambda: rooms.sleep(pause), Stopped())
    except Stopped:
        if job.stage in _UNPAID:
            raise


async def _insisted(rooms: Rooms, job: Job, grip: Grip) -> Patch:
    """Work a stage. Once the run is paid for, a disk that is full or locked is waited out: stages may be repeated."""
    pause = 1.0
    while True:
        try:
            return await _STEPS[job.stage](rooms, job, grip)
        except StorageFailed as error:
            if job.stage in _UNPAID:
                raise
            await _tell(rooms, job, error)
        await rooms.sleep(pause)
        pause = min(2 * pause, _LONGEST_STORAGE_PAUSE)


async def _tell(rooms: Rooms, job: Job, error: StorageFailed) -> None:
    """Tell what is waited for, where the ledger itself can be written."""
    message = f"{error.message} The run is not lost: this is tried again until it works."
    with contextlib.suppress(StorageFailed):
        await rooms.advance(job, Patch(error=problem_of(error), message=message, event="progress"))
