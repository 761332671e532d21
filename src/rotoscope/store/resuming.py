"""Take up a job that has ended without its result although it was paid for; inside the caller's transaction.

It needs the ticket: with it the provider is asked once more, and its answer is the end as ever. It costs nothing and
sends nothing that pays. Taken up are jobs
1. that failed for want of time, room, a connection or a good program: not those whose run has failed;
2. that were cancelled while it was not known what became of the run, as an older version did;
3. that wait for a person's review and have a ticket.
"""

from collections.abc import Callable
from dataclasses import replace

from sqlalchemy import Connection, bindparam, select, update

from rotoscope.errors import InvalidInput
from rotoscope.store.intents import read_submission
from rotoscope.store.job_data import Charge, FetchEffort, JobChanges
from rotoscope.store.records import Job, Stage
from rotoscope.store.reservations import reopen_reservation
from rotoscope.store.rows import JOB_COLUMNS, job_from_row, merge_job_data, read_job, write_event
from rotoscope.store.schema import jobs

__all__ = ["resume_internal_failures", "resume_job"]

_INTERNAL_CODES = frozenset({"internal", "storage"})
"""Codes of ends for which a new start of a process may be the cure."""

_RESUMABLE_CODES = _INTERNAL_CODES | {
    "timeout", "download_failed", "output_expired", "output_blocked", "not_media", "too_large", "provider_error"
}  # fmt: skip
_MIN_AGE_SECONDS = 30.0  # several processes that start in a row do not each try what has just stumbled
_MAX_JOBS = 64  # jobs of one start: the transaction must stay short
_UNFINISHED_JOBS = (
    select(*JOB_COLUMNS)
    .where(jobs.c.state.in_(("failed", "needs_review")), jobs.c.stage.in_(("watch", "fetch", "finish")))
    .where(jobs.c.finished_at < bindparam("before"))
    .order_by(jobs.c.finished_at.desc())
    .limit(_MAX_JOBS)
)
_REQUEUE_JOB = (
    update(jobs)
    .where(jobs.c.id == bindparam("of"))
    .values(state="queued", stage=bindparam("from_stage"), data=bindparam("known", type_=jobs.c.data.type))
    .values(owner=None, lease_until=None, error=None, next_at=None, finished_at=None, delivered_at=None)
    .values(cancel_requested=False, message="Taken up again.", updated_at=bindparam("now"))
)


def resume_job(connection: Connection, job: Job, now: float) -> Job:
    """Take a job up again.

    Raises:
        InvalidInput: there is nothing to take up; says why.
    """
    if job.state in ("queued", "running"):
        raise InvalidInput(f"The job has not ended: it is {job.state}.", hint=f"See rotoscope jobs show {job.id}.")
    if job.state == "succeeded":
        raise InvalidInput("The job has succeeded: its result is here.", hint=f"See rotoscope jobs show {job.id}.")
    stage = _resume_stage(connection, job)
    if stage is None:
        raise InvalidInput(
            "Nothing is known at the provider to take up: no prediction of this job was ever told.",
            hint=f"See rotoscope jobs show {job.id}.",
        )
    if not _can_have_result(job):
        raise InvalidInput(
            f"The provider's word on this run is known, and it has no result: {job.message}",
            hint="Call the tool again to run it anew.",
        )
    return _requeue(connection, job, stage, now)


def resume_internal_failures(connection: Connection, result_life: Callable[[Job], float], now: float) -> list[str]:
    """Take up what ended by a fault of ours, or for want of room, after it was paid for; the ids.

    Args:
        connection: the transaction.
        result_life: for how many seconds after its end the result of a job may still be there.
        now: Unix seconds.
    """
    rows = connection.execute(_UNFINISHED_JOBS, {"before": now - _MIN_AGE_SECONDS}).all()
    taken = []
    for job in map(job_from_row, rows):
        ended = job.finished_at or job.updated_at
        if job.error_code in _INTERNAL_CODES and job.accepted is not None and now - ended < result_life(job):
            _requeue(connection, job, job.stage, now)
            taken.append(job.id)
    return taken


def _resume_stage(connection: Connection, job: Job) -> Stage | None:
    """Where to go on; None where the provider named no prediction.

    Addresses of an output may work after the provider has forgotten the run, so they are tried first.
    """
    if job.accepted is not None:
        return "fetch" if job.provider_output is not None and job.provider_output.output is not None else "watch"
    intent = read_submission(connection, job.id)
    return "submit" if intent is not None and intent.prediction_id is not None else None


def _can_have_result(job: Job) -> bool:
    if job.state == "failed":
        return job.error_code in _RESUMABLE_CODES and job.charge.is_charged is not False
    return job.state == "needs_review" or job.charge.is_charged is None


def _requeue(connection: Connection, job: Job, stage: Stage, now: float) -> Job:
    # What was counted before the end counts no more: neither the retries nor the silence may end the job again at once.
    changes = JobChanges(
        watch=replace(job.watch, seconds=0.0, noted_at=now, silent_seconds=0.0),
        fetch_effort=FetchEffort(),
        charge=Charge(),
        stage_retries=0,
    )
    known = merge_job_data(connection, job.id, changes)
    connection.execute(_REQUEUE_JOB, {"of": job.id, "from_stage": stage, "known": known, "now": now})
    reopen_reservation(connection, job.id)
    write_event(connection, job.id, now, "resumed", {"from": job.state})
    return read_job(connection, job.id, job.principal)
