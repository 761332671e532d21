"""Open a job, or join the one that an equal request has opened; inside the caller's transaction.

An equal request joins a job
1. while it is open and may be charged: also when a cancel was asked for, once its intent to pay stands;
2. while it waits for a person's review: it may have been paid for;
3. when it has ended and its end was not delivered; not a cancelled one, whose end was asked for;
4. once more, within a minute of the first delivery, unless the run is known to have cost nothing: a client that gave up
   in silence looks like one that was answered;
5. for some minutes after a late delivery, until one was in time or the result was used (`store.deliveries`).
Everything else is a new job.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, insert, select, update

from rotoscope.store.backend import insert_or_ignore
from rotoscope.store.deliveries import has_late_delivery
from rotoscope.store.intents import read_submission
from rotoscope.store.job_data import JobChanges
from rotoscope.store.job_json import write_job_data
from rotoscope.store.money import Caps
from rotoscope.store.records import ENDED_STATES, Job, NewJob, OpenResult, Stage
from rotoscope.store.reservations import reserve
from rotoscope.store.rows import JOB_COLUMNS, job_from_row, write_event
from rotoscope.store.schema import job_inputs, jobs

__all__ = ["SANDBOX_KEY", "Duplicate", "add_inputs", "find_duplicate", "find_equal_jobs", "join_job", "open_job"]

SANDBOX_KEY = "sandbox"
"""What a process must hold to drive a rehearsal: it goes to the sandbox and nowhere else."""

_MAX_EQUAL_JOBS = 20  # equal jobs that are looked at, the newest first

# Built once: building a statement costs more than running it. The order is that of the index, so that of a million
# jobs only the equal ones are read.
_INSERT_JOB = insert(jobs).returning(*JOB_COLUMNS)
_EQUAL_JOBS = (
    select(*JOB_COLUMNS)
    .where(jobs.c.idempotency_key.in_(bindparam("any_key", expanding=True)), jobs.c.principal == bindparam("whose"))
    .order_by(jobs.c.created_at.desc())
    .limit(_MAX_EQUAL_JOBS)
)
_SET_REDELIVERY_TIME = update(jobs).where(jobs.c.id == bindparam("one")).values(told_again_at=bindparam("now"))


@dataclass(frozen=True, slots=True)
class Duplicate:
    """The job of an equal request; `is_redelivery` when its end went out already, a moment ago."""

    job: Job
    is_redelivery: bool


def find_duplicate(connection: Connection, new: NewJob, now: float, redelivery_seconds: float) -> Duplicate | None:
    """The job that a request joins; None where it is a new one.

    Args:
        connection: the transaction.
        new: what is asked for.
        now: Unix seconds.
        redelivery_seconds: for how many seconds after the first delivery an end is delivered once more.
    """
    for job in find_equal_jobs(connection, new):
        if job.state not in ENDED_STATES:
            is_unwanted = job.cancel_requested and job.state != "needs_review"
            if not is_unwanted or read_submission(connection, job.id) is not None:
                return Duplicate(job, is_redelivery=False)
        elif job.delivered_at is None:
            if job.state == "succeeded" or not job.cancel_requested:
                return Duplicate(job, is_redelivery=False)
        elif _can_redeliver(job, now, redelivery_seconds):
            return Duplicate(job, is_redelivery=True)
    return None


def find_equal_jobs(connection: Connection, new: NewJob) -> Sequence[Job]:
    """The jobs of equal requests of the same principal, the newest first."""
    if new.request_key is None:
        return ()
    rows = connection.execute(
        _EQUAL_JOBS, {"any_key": [new.request_key, *new.other_keys], "whose": new.principal}
    ).all()
    return [job_from_row(row) for row in rows]


def _can_redeliver(job: Job, now: float, redelivery_seconds: float) -> bool:
    delivered_at = job.delivered_at
    if delivered_at is None or job.cancel_requested or job.charge.is_charged is False:
        return False
    if has_late_delivery(job, now):
        return True
    if job.told_again_at is not None:
        return False
    return 0 <= now - delivered_at <= redelivery_seconds


def join_job(connection: Connection, duplicate: Duplicate, now: float) -> OpenResult:
    """Join a job; one whose end was delivered a moment ago is joined once."""
    if duplicate.is_redelivery:
        connection.execute(_SET_REDELIVERY_TIME, {"one": duplicate.job.id, "now": now})
    write_event(connection, duplicate.job.id, now, "joined", {})
    return OpenResult(duplicate.job, is_joined=True, is_redelivery=duplicate.is_redelivery)


def open_job(
    connection: Connection, new: NewJob, job_id: str, caps: Caps, starter: str | None, now: float
) -> OpenResult:
    """Write a new job, queued at its first stage, hold its money, and remember what it was given.

    Raises:
        OverBudget: it would pass a cap.
    """
    reserve(connection, job_id, new, caps, now)
    job = job_from_row(connection.execute(_INSERT_JOB, _new_job_row(new, job_id, starter, now)).one())
    if new.inputs:
        add_inputs(connection, job_id, new.inputs)
    write_event(connection, job_id, now, "opened", {})
    return OpenResult(job, is_joined=False, startable=(job,))


def add_inputs(connection: Connection, job_id: str, hashes: Iterable[str]) -> None:
    """Remember that a job needs some kept files, named by their hashes (hex)."""
    given = [{"job_id": job_id, "sha256": sha256} for sha256 in dict.fromkeys(hashes)]
    connection.execute(insert_or_ignore(connection, job_inputs), given)


def _new_job_row(new: NewJob, job_id: str, starter: str | None, now: float) -> dict[str, object]:
    given = ("tool", "model", "provider", "principal", "sandbox", "args", "account")
    return {
        **{name: getattr(new, name) for name in given},
        "data": write_job_data(JobChanges(plan=new.plan, request=new.request, warnings=new.warnings)),
        "id": job_id,
        "idempotency_key": new.request_key,
        "state": "queued",
        "stage": _first_stage(new),
        "owner": starter,
        "needs_key": new.needs_key or (SANDBOX_KEY if new.sandbox else new.provider),
        "created_at": now,
        "updated_at": now,
    }


def _first_stage(new: NewJob) -> Stage:
    if new.steps or new.waits_for or new.takes_from:
        return "gather"
    return "prepare" if new.request is None else "submit"
