"""The machine: drives one job through its stages. Each stage's result and its advance are committed together.

    prepare -> submit -> watch -> fetch -> finish -> done

Every stage may be repeated after a crash, except `submit`: there the intent row is the guard, and an intent that
stands without a prediction is never posted again.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping

import anyio

from rotoscope.errors import RotoscopeError, StorageFailed, SubmitUnsure
from rotoscope.jobs.collect import fetch, finish
from rotoscope.jobs.job import Job, Patch, Stage, problem_of
from rotoscope.jobs.ledger import LostLease
from rotoscope.jobs.rooms import Rooms
from rotoscope.jobs.submit import prepare, submit
from rotoscope.jobs.watch import Stopped, watch

__all__ = ["drive"]

_LEASE_SECONDS = 15.0
_UNPAID = frozenset({"prepare", "submit"})
_PATIENCE_SECONDS, _PAUSE_SECONDS = 600.0, 10.0
_log = logging.getLogger(__name__)

Step = Callable[[Rooms, Job, anyio.Event], Awaitable[Patch]]
_STEPS: Mapping[Stage, Step] = {
    "prepare": prepare,
    "submit": submit,
    "watch": watch,
    "fetch": fetch,
    "finish": finish,
}


async def drive(rooms: Rooms, job_id: str, stop: anyio.Event) -> None:
    """Drive a job to its end, if nobody else does.

    Args:
        rooms: what the stages work with.
        job_id: the job.
        stop: set when the job is to be cancelled.
    """
    job = await rooms.ledger.claim(job_id, rooms.owner, _LEASE_SECONDS)
    rooms.feed.changed(job_id)
    try:
        while job is not None and not job.final:
            job = await _step(rooms, job, stop)
    except LostLease:
        _log.info("job %s is driven by another process now", job_id)


async def _step(rooms: Rooms, job: Job, stop: anyio.Event) -> Job:
    """One stage and its commit. A cut-off while money moves would lose the answer, so `submit` is not cut off."""
    with anyio.CancelScope(shield=job.stage == "submit"):
        patch = await _worked(rooms, job, stop)
        job = await rooms.advance(job, patch)
    return job  # noqa: RET504 - a cancel scope may swallow what is inside it, as mypy sees it


async def _insisted(rooms: Rooms, job: Job, stop: anyio.Event) -> Patch:
    """Work a stage. Once the run is paid for, a disk that is full or locked is waited out: stages may be repeated."""
    waited = 0.0
    while True:
        try:
            return await _STEPS[job.stage](rooms, job, stop)
        except StorageFailed:
            if job.stage in _UNPAID or waited >= _PATIENCE_SECONDS:
                raise
        await rooms.sleep(_PAUSE_SECONDS)
        waited += _PAUSE_SECONDS


async def _worked(rooms: Rooms, job: Job, stop: anyio.Event) -> Patch:
    try:
        return await _insisted(rooms, job, stop)
    except LostLease:
        raise
    except Stopped:
        return Patch(state="cancelled", message="Cancelled before anything was sent.", data={"charged": False})
    except SubmitUnsure as error:
        return Patch(state="needs_review", error=problem_of(error), message=error.message)
    except RotoscopeError as error:
        return Patch(state="failed", error=problem_of(error), message=error.message)
    except Exception as error:  # noqa: BLE001 - the edge of a background task: a bug must end the job, not the server
        _log.exception("job %s failed in %s", job.id, job.stage)
        bug = {"code": "internal", "message": f"rotoscope failed in {job.stage}: {type(error).__name__}.", "hint": ""}
        return Patch(state="failed", error=bug, message=bug["message"])
