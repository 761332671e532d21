"""The machine: drives one job through its stages. Each stage's result and its advance are committed together.

    prepare -> submit -> watch -> fetch -> finish -> done

Every stage may be repeated after a crash, except `submit`: there the intent row is the guard, and an intent that
stands without a prediction is never posted again.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping

from rotoscope.errors import RotoscopeError, StorageFailed, SubmitUnsure
from rotoscope.jobs.beside import unless
from rotoscope.jobs.collect import fetch, finish
from rotoscope.jobs.dispatcher import Grip
from rotoscope.jobs.job import Job, Patch, Stage, problem_of
from rotoscope.jobs.ledger import LostLease
from rotoscope.jobs.rooms import Rooms
from rotoscope.jobs.submit import prepare, submit
from rotoscope.jobs.watch import Stopped, watch

__all__ = ["drive"]

_UNPAID = frozenset({"prepare", "submit"})
_PATIENCE_SECONDS, _PAUSE_SECONDS = 600.0, 10.0
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
        while not job.final:
            job = await rooms.advance(job, await _worked(rooms, job, grip))
    except LostLease:
        _log.info("job %s is driven by another process now", job.id)


async def _worked(rooms: Rooms, job: Job, grip: Grip) -> Patch:
    try:
        await _due(rooms, job, grip)
        return await _insisted(rooms, job, grip)
    except LostLease:
        raise
    except Stopped:
        return Patch(state="cancelled", message="Cancelled before anything was sent.", data={"charged": False})
    except SubmitUnsure as error:
        return Patch(state="needs_review", error=problem_of(error), message=error.message)
    except RotoscopeError as error:
        return _failed(job, problem_of(error))
    except Exception as error:  # noqa: BLE001 - the edge of a background task: a bug must end the job, not the server
        _log.exception("job %s failed in %s", job.id, job.stage)
        words = f"rotoscope failed in {job.stage}: {type(error).__name__}."
        return _failed(job, {"code": "internal", "message": words, "hint": ""})


def _failed(job: Job, problem: Mapping[str, str]) -> Patch:
    """What fails before its paying request, or because the provider refused that, has cost nothing."""
    free = {"charged": False} if job.stage in _UNPAID else {}
    return Patch(state="failed", error=problem, message=problem["message"], data=free)


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
    waited = 0.0
    while True:
        try:
            return await _STEPS[job.stage](rooms, job, grip)
        except StorageFailed:
            if job.stage in _UNPAID or waited >= _PATIENCE_SECONDS:
                raise
        await rooms.sleep(_PAUSE_SECONDS)
        waited += _PAUSE_SECONDS
