"""Rows of the ledger, read and written inside somebody's transaction."""

from collections.abc import Mapping

from sqlalchemy import Connection, Row, bindparam, insert, select

from rotoscope.errors import UnknownJob
from rotoscope.jobs.job import Artifact, Job, Output
from rotoscope.jobs.tables import job_events, jobs
from rotoscope.wire.messages import Json

__all__ = ["JOB_COLUMNS", "job_of", "note", "output_of", "read_job"]

JOB_COLUMNS = [jobs.c[name] for name in Job.__slots__]

# Statements that every job runs many times are worded once: wording one costs more than running it.
_JOB = select(*JOB_COLUMNS).where(jobs.c.id == bindparam("job_id"))
_THEIR_JOB = _JOB.where(jobs.c.principal == bindparam("theirs"))
_EVENT = insert(job_events)


def read_job(connection: Connection, job_id: str, principal: str | None = None) -> Job:
    """A job; with a principal, only if it is theirs.

    Raises:
        UnknownJob: there is none; a foreign one is answered alike.
    """
    query = _JOB if principal is None else _THEIR_JOB
    row = connection.execute(query, {"job_id": job_id, "theirs": principal}).first()
    if row is None:
        raise UnknownJob("There is no such job.", hint="Call list_jobs to see the jobs there are.")
    return job_of(row)


def job_of(row: Row[tuple[object, ...]]) -> Job:
    """A row of `JOB_COLUMNS` as a job."""
    return Job(**row._mapping)  # noqa: SLF001 - the documented way to name a row's columns


def output_of(row: Row[tuple[object, ...]]) -> Output:
    """A row of outputs joined with their artifacts as an output."""
    found = row._mapping  # noqa: SLF001 - the documented way to name a row's columns
    artifact = Artifact(found["sha256"], found["content_type"], found["size"], found["facts"])
    return Output(found["role"], found["n"], artifact, found["source_url"], found["source_expires_at"])


def note(connection: Connection, job_id: str, at: float, kind: str, data: Mapping[str, Json]) -> None:
    """Write an event of a job: its history, and what other processes hear of."""
    connection.execute(_EVENT, {"job_id": job_id, "at": at, "type": kind, "data": dict(data)})
