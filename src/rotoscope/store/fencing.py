"""The fenced write: how the process that drives a job writes what a stage found; inside the caller's transaction.

Each claim of a job raises its fence by one. A driver writes only where the row still names it as the owner, under the
fence that it claimed with, and the job still runs. So a process that was stopped, whose lease another one took, changes
nothing when it wakes up: its statement finds no row, and it learns that it lost the job.
"""

from functools import cache

from sqlalchemy import Connection, Update, bindparam, update

from rotoscope.store.job_json import write_job_data
from rotoscope.store.records import ENDED_STATES, FINAL_STATES, Job, Patch
from rotoscope.store.reservations import settle_reservation
from rotoscope.store.rows import JOB_COLUMNS, job_from_row, merge_job_data, write_event
from rotoscope.store.schema import job_events, jobs

__all__ = ["LostLease", "write_fenced"]

# Statements that every job runs are built once: building one costs more than running it.
_DELETE_PROGRESS_EVENTS = job_events.delete().where(
    job_events.c.job_id == bindparam("of"), job_events.c.type == "progress"
)


class LostLease(Exception):
    """Another process drives this job now, or it has ended: stop without a word."""


def write_fenced(connection: Connection, job: Job, patch: Patch, now: float) -> Job:
    """Write what a stage found, with an event, as the owner of the job and under its fence.

    Args:
        connection: the transaction.
        job: the job as it was claimed or last written: its owner and fence are the proof.
        patch: what changes.
        now: Unix seconds, read inside the transaction: it may have waited long for the lock.

    Returns:
        The job as it is now.

    Raises:
        LostLease: the job is no longer this owner's, or no longer runs.
    """
    given = {name: getattr(patch, name) for name in ("stage", "state", "progress", "message")}
    values: dict[str, object] = {name: value for name, value in given.items() if value is not None}
    if write_job_data(patch):
        values["data"] = merge_job_data(connection, job.id, patch)
    if patch.state in FINAL_STATES:
        values |= {"finished_at": now, "lease_until": None}
    if patch.state == "queued":  # given back: any process that can, drives it
        values |= {"owner": None, "lease_until": None}
    values |= {"error": patch.error, "next_at": patch.next_at, "updated_at": now}
    ours = {"job_id": job.id, "by": job.owner, "under": job.fence}
    given_new = {f"new_{name}": value for name, value in values.items()}
    written = connection.execute(_update_under_fence(tuple(values)), ours | given_new).first()
    if written is None:
        raise LostLease(job.id)
    if patch.settlement is not None:
        settle_reservation(connection, job.id, patch.settlement, now)
    write_event(connection, job.id, now, patch.event, {name: v for name, v in given.items() if v is not None})
    # Only after the event of the end is written: other processes read on from the newest event, so that must stay.
    if patch.state in ENDED_STATES:
        connection.execute(_DELETE_PROGRESS_EVENTS, {"of": job.id})
    return job_from_row(written)


@cache
def _update_under_fence(names: tuple[str, ...]) -> Update:
    """The statement that writes some columns of a job, if it runs under this owner and fence."""
    ours = (jobs.c.id == bindparam("job_id"), jobs.c.owner == bindparam("by"), jobs.c.fence == bindparam("under"))
    values = {name: bindparam(f"new_{name}", type_=jobs.c[name].type) for name in names}
    return update(jobs).where(*ours, jobs.c.state == "running").values(values).returning(*JOB_COLUMNS)
