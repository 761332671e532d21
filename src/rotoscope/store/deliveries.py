"""Whether the end of a job has reached the caller who made the request; inside the caller's transaction.

A client that has given up does not say so: an answer that leaves too late goes out like any other. So after a late
answer equal requests get the same end again, for some minutes, until an answer was in time, or a request names the job
or one of its files, which shows that its end has arrived.
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
"""For how long equal requests get an end again that was delivered too late: a person may have to ask for it."""

_SET_DELIVERED_AT = update(jobs).where(jobs.c.id == bindparam("one")).values(delivered_at=bindparam("now"))
_SET_DATA = update(jobs).where(jobs.c.id == bindparam("one")).values(data=bindparam("known", type_=jobs.c.data.type))
_SET_DATA_AND_REDELIVERY_TIME = _SET_DATA.values(told_again_at=bindparam("now"))
# Their rows are locked, in the order in which all lock the rows of several jobs.
_RECENT_DELIVERIES = (
    select(*JOB_COLUMNS)
    .where(
        jobs.c.principal == bindparam("whose"),
        jobs.c.state.in_(ENDED_STATES),
        jobs.c.finished_at > bindparam("since"),
        jobs.c.delivered_at.is_not(None),
        or_(
            jobs.c.id.in_(bindparam("ids", expanding=True)),
            jobs.c.id.in_(select(outputs.c.job_id).where(outputs.c.sha256.in_(bindparam("files", expanding=True)))),
        ),
    )
    .order_by(jobs.c.id)
    .with_for_update(key_share=True)
)


def has_late_delivery(job: Job, now: float) -> bool:
    """Whether its end was delivered so late that it may not have arrived, and nothing has shown since that it has."""
    until = job.redelivery.until
    return until is not None and now <= until <= now + LATE_REDELIVERY_SECONDS


def record_delivery(connection: Connection, job_id: str, principal: str, now: float, *, late: bool) -> None:
    """Write that the end of a principal's job was delivered: when for the first time, and whether lately in time.

    Raises:
        UnknownJob: the principal has no such job.
    """
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
    """Write that a principal uses results of their jobs: these have arrived, and an equal request means a new run.

    Only jobs that ended a short while ago matter, and of very many names the first hundred of each kind are looked up.
    """
    terms = {
        "whose": principal,
        "since": now - LATE_REDELIVERY_SECONDS,
        "ids": _first_hundred(job_ids),
        "files": _first_hundred(files),
    }
    for job in map(job_from_row, connection.execute(_RECENT_DELIVERIES, terms).all()):
        if job.told_again_at is None or job.redelivery.until is not None:
            known = merge_job_data(connection, job.id, JobChanges(redelivery=Redelivery()))
            connection.execute(_SET_DATA_AND_REDELIVERY_TIME, {"one": job.id, "known": known, "now": now})


def _first_hundred(names: Collection[str]) -> list[str]:
    return sorted(names)[:100]
