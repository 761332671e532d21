"""Whether who asked has heard how a job ended; inside somebody's transaction.

An answer that leaves later than its client waits goes out like any other: nothing tells that nobody listens. So one
that was late is told again to equal requests, for some minutes, until an answer was in time, or somebody uses what came
of the job.
"""

from collections.abc import Collection

from sqlalchemy import Connection, bindparam, or_, select, update

from rotoscope.store.job_data import JobChanges, Redelivery
from rotoscope.store.records import ENDED_STATES, Job
from rotoscope.store.rows import JOB_COLUMNS, job_from_row, merge_job_data, read_job, write_event
from rotoscope.store.schema import jobs, outputs

__all__ = [
    "LATE_REDELIVERY_SECONDS",
    "has_late_delivery",
    "record_delivery",
    "record_use",
]

LATE_REDELIVERY_SECONDS = 600.0
"""For how long an end that was told too late is told again to equal requests: a person may have to ask for it."""

_SET_DELIVERED_AT = update(jobs).where(jobs.c.id == bindparam("one")).values(delivered_at=bindparam("now"))
_SET_DATA = update(jobs).where(jobs.c.id == bindparam("one")).values(data=bindparam("known", type_=jobs.c.data.type))
_SET_DATA_AND_TOLD_AT = _SET_DATA.values(told_again_at=bindparam("now"))
_RECENT_DELIVERIES = select(*JOB_COLUMNS).where(
    jobs.c.principal == bindparam("whose"),
    jobs.c.state.in_(ENDED_STATES),
    jobs.c.finished_at > bindparam("since"),
    jobs.c.delivered_at.is_not(None),
    or_(
        jobs.c.id.in_(bindparam("ids", expanding=True)),
        jobs.c.id.in_(select(outputs.c.job_id).where(outputs.c.sha256.in_(bindparam("files", expanding=True)))),
    ),
)


def has_late_delivery(job: Job, now: float) -> bool:
    """Whether its end was told so late that it may not have been heard, and nothing has shown since that it was."""
    until = job.redelivery.until
    return until is not None and now <= until <= now + LATE_REDELIVERY_SECONDS


def record_delivery(connection: Connection, job_id: str, principal: str, now: float, *, late: bool) -> None:
    """Write that the end of a job was told. The first time counts, and whether the last was in time."""
    job = read_job(connection, job_id, principal)
    if job.state not in ENDED_STATES:
        return
    if job.delivered_at is None:
        connection.execute(_SET_DELIVERED_AT, {"one": job_id, "now": now})
        write_event(connection, job_id, now, "delivered", {})
    if late or job.redelivery.until is not None:
        changes = JobChanges(redelivery=Redelivery(now + LATE_REDELIVERY_SECONDS if late else None))
        connection.execute(_SET_DATA, {"one": job_id, "known": merge_job_data(connection, job_id, changes)})


def record_use(
    connection: Connection, principal: str, job_ids: Collection[str], files: Collection[str], now: float
) -> None:
    """Write that somebody uses what came of jobs: their ends were heard, and an equal request means a new run."""
    terms = {
        "whose": principal,
        "since": now - LATE_REDELIVERY_SECONDS,
        "ids": _first_hundred(job_ids),
        "files": _first_hundred(files),
    }
    for job in map(job_from_row, connection.execute(_RECENT_DELIVERIES, terms).all()):
        if job.told_again_at is None or job.redelivery.until is not None:
            known = merge_job_data(connection, job.id, JobChanges(redelivery=Redelivery()))
            connection.execute(_SET_DATA_AND_TOLD_AT, {"one": job.id, "known": known, "now": now})


def _first_hundred(names: Collection[str]) -> list[str]:
    return sorted(names)[:100]
