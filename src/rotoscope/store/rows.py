"""Jobs, events and outputs as rows of the ledger, read and written inside the caller's transaction."""

from collections.abc import Mapping, Sequence
from functools import cache

from sqlalchemy import CompoundSelect, Connection, Row, Select, bindparam, insert, select, union, union_all

from rotoscope.contracts.status import Status
from rotoscope.errors import UnknownJob
from rotoscope.providers.http.messages import Json
from rotoscope.store.access_schema import upload_parts, upload_tickets
from rotoscope.store.backend import LOCKED_JOB, insert_or_ignore, upsert
from rotoscope.store.job_data import JobChanges, JobData
from rotoscope.store.job_json import error_from_json, read_job_data, write_job_data
from rotoscope.store.records import Artifact, Job, Output
from rotoscope.store.schema import artifacts, job_events, job_inputs, jobs, outputs

__all__ = [
    "JOB_COLUMNS",
    "can_read_artifact",
    "has_job",
    "job_from_row",
    "merge_job_data",
    "newest_jobs",
    "output_from_row",
    "read_job",
    "read_job_of_any_principal",
    "read_outputs",
    "write_event",
    "write_outputs",
]

JOB_COLUMNS = [*(jobs.c[name] for name in Job.__slots__), jobs.c.data]

# Statements that every job runs many times are built once: building one costs more than running it.
_JOB_BY_ID = select(*JOB_COLUMNS).where(jobs.c.id == bindparam("job_id"))
_JOB_OF_PRINCIPAL = _JOB_BY_ID.where(jobs.c.principal == bindparam("theirs"))
_ID_OF_PRINCIPAL = select(jobs.c.id).where(jobs.c.id == bindparam("job_id"), jobs.c.principal == bindparam("theirs"))
_DATA_OF_JOB = select(jobs.c.data).where(jobs.c.id == bindparam("job_id"))
_INSERT_EVENT = insert(job_events)


def read_job(connection: Connection, job_id: str, principal: str) -> Job:
    """A job of a principal.

    Raises:
        UnknownJob: there is none with this id, or it is another principal's: nothing tells the two apart, for it is one
            query by both.
    """
    return _job_or_unknown(connection.execute(_JOB_OF_PRINCIPAL, {"job_id": job_id, "theirs": principal}).first())


def has_job(connection: Connection, job_id: str, principal: str) -> bool:
    """Whether a principal has a job with this id."""
    return connection.execute(_ID_OF_PRINCIPAL, {"job_id": job_id, "theirs": principal}).first() is not None


def read_job_of_any_principal(connection: Connection, job_id: str) -> Job:
    """A job, whosever it is: for what acts for the process itself.

    Raises:
        UnknownJob: there is none.
    """
    return _job_or_unknown(connection.execute(_JOB_BY_ID, {"job_id": job_id}).first())


def _job_or_unknown(row: Row[tuple[object, ...]] | None) -> Job:
    if row is None:
        raise UnknownJob("There is no such job.", hint="Call list_jobs to see the jobs there are.")
    return job_from_row(row)


def newest_jobs(connection: Connection, principal: str, states: Sequence[Status] | None, limit: int) -> list[Job]:
    """The newest jobs of a principal, newest first: so many in each of some states; None: in any state.

    One statement, so that a job which changes its state meanwhile is found once, not twice or never.
    """
    terms = {"whose": principal, "most": limit, **{f"state_{n}": state for n, state in enumerate(states or ())}}
    rows = connection.execute(_newest_jobs_query(None if states is None else len(states)), terms)
    return sorted((job_from_row(row) for row in rows), key=lambda job: (-job.created_at, job.id))


@cache
def _newest_jobs_query(states: int | None) -> Select[tuple[object, ...]] | CompoundSelect[tuple[object, ...]]:
    """A limited select for each state, as an index has them in order; not one for all: a state with many jobs would
    hide the jobs of another.
    """
    whose = select(*JOB_COLUMNS).where(jobs.c.principal == bindparam("whose"))
    if states is None:
        return _newest(whose)
    parts = [_newest(whose.where(jobs.c.state == bindparam(f"state_{n}"))) for n in range(states)]
    return union_all(*(select(part.subquery()) for part in parts)) if states > 1 else parts[0]


def _newest(query: Select[tuple[object, ...]]) -> Select[tuple[object, ...]]:
    return query.order_by(jobs.c.created_at.desc(), jobs.c.id).limit(bindparam("most"))


def job_from_row(row: Row[tuple[object, ...]]) -> Job:
    """A row of `JOB_COLUMNS` as a job."""
    found = row._mapping  # noqa: SLF001 - the documented way to name a row's columns
    columns = {column.name: found[column.name] for column in JOB_COLUMNS}
    data, error = read_job_data(columns.pop("data")), error_from_json(columns.pop("error"))
    return Job(**columns, error=error, **{name: getattr(data, name) for name in JobData.__slots__})


def merge_job_data(connection: Connection, job_id: str, changes: JobChanges) -> dict[str, Json]:
    """The JSON of a job's data with some changes: what the caller writes in this same transaction.

    It is read here, not taken from a `Job` that was read before: others may have written other keys meanwhile. Where
    the database has given it with the lock of the job's row, it is taken once: after that it may have been written.
    """
    locked_id, stands = connection.info.pop(LOCKED_JOB, None) or (None, None)
    if locked_id != job_id:
        stands = connection.execute(_DATA_OF_JOB, {"job_id": job_id}).scalar_one_or_none()
    return {**(stands or {}), **write_job_data(changes)}


def output_from_row(row: Row[tuple[object, ...]]) -> Output:
    """A row of outputs joined with their artifacts as an output."""
    found = row._mapping  # noqa: SLF001 - the documented way to name a row's columns
    artifact = Artifact(found["sha256"], found["content_type"], found["size"], found["facts"])
    return Output(found["role"], found["n"], artifact, found["source_url"], found["source_expires_at"])


def write_event(connection: Connection, job_id: str, at: float, kind: str, data: Mapping[str, Json]) -> None:
    """Write an event of a job: its history, and by what other processes learn of the change."""
    connection.execute(_INSERT_EVENT, {"job_id": job_id, "at": at, "type": kind, "data": dict(data)})


_OUTPUTS_OF_JOB = (
    select(outputs, artifacts.c.content_type, artifacts.c.size, artifacts.c.facts)
    .select_from(
        outputs.join(artifacts, outputs.c.sha256 == artifacts.c.sha256).join(jobs, outputs.c.job_id == jobs.c.id)
    )
    .where(outputs.c.job_id == bindparam("of"), jobs.c.principal == bindparam("theirs"))
    .order_by(outputs.c.role, outputs.c.n)
)

_USES_OF_ARTIFACT = union(
    select(outputs.c.job_id).where(outputs.c.sha256 == bindparam("content")),
    select(job_inputs.c.job_id).where(job_inputs.c.sha256 == bindparam("content")),
)
_PRINCIPALS_OF_ARTIFACT = union(
    select(jobs.c.principal).where(jobs.c.id.in_(_USES_OF_ARTIFACT)),
    select(upload_tickets.c.principal).where(upload_tickets.c.sha256 == bindparam("content")),
    select(upload_parts.c.ticket).where(upload_parts.c.sha256 == bindparam("content")),  # it is nobody's yet
)


def read_outputs(connection: Connection, job_id: str, principal: str) -> list[Output]:
    """The files of a principal's job, by role and number; none where there is no such job."""
    return [output_from_row(row) for row in connection.execute(_OUTPUTS_OF_JOB, {"of": job_id, "theirs": principal})]


def can_read_artifact(connection: Connection, sha256: str, principal: str) -> bool:
    """Whether a job of the principal's has made a kept file or was given it, or the principal has uploaded it; or none
    of all principals has.
    """
    principals = set(connection.execute(_PRINCIPALS_OF_ARTIFACT, {"content": sha256}).scalars())
    return not principals or principal in principals


def write_outputs(connection: Connection, job_id: str, found: Sequence[Output], now: float) -> None:
    """Write that kept files are a job's outputs.

    Jobs may have files in common, so all write them in one order: else two could wait for each other's.
    """
    for output in sorted(found, key=lambda one: one.artifact.sha256):
        _write_output(connection, job_id, output, now)


def _write_output(connection: Connection, job_id: str, output: Output, now: float) -> None:
    kept = output.artifact
    row: dict[str, object] = {"sha256": kept.sha256, "content_type": kept.content_type, "size": kept.size}
    row["facts"] = dict(kept.facts)
    row["created_at"] = now
    # The same content may come first as a raw file and later as a measured one: what is known is kept.
    connection.execute(
        upsert(connection, artifacts, "facts") if kept.facts else insert_or_ignore(connection, artifacts), row
    )
    found = {
        "sha256": kept.sha256,
        "source_url": output.source_url,
        "source_expires_at": output.source_expires_at,
    }
    connection.execute(
        upsert(connection, outputs, *found), {"job_id": job_id, "role": output.role, "n": output.n, **found}
    )
