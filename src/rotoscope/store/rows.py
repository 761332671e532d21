"""Rows of the ledger, read and written inside somebody's transaction.

Which kept files stand for which job, read and written inside somebody's transaction.
"""

from collections.abc import Mapping

from sqlalchemy import Connection, Row, bindparam, insert, select
from sqlalchemy.dialects.sqlite import insert as insert_or_merge

from rotoscope.errors import UnknownJob
from rotoscope.providers.http.messages import Json
from rotoscope.store.job_data import JobChanges, JobData
from rotoscope.store.job_json import error_from_json, read_job_data, write_job_data
from rotoscope.store.records import Artifact, Job, Output
from rotoscope.store.schema import artifacts, job_events, jobs, outputs

__all__ = [
    "JOB_COLUMNS",
    "job_from_row",
    "merge_job_data",
    "output_from_row",
    "read_job",
    "read_outputs",
    "write_event",
    "write_output",
]

JOB_COLUMNS = [*(jobs.c[name] for name in Job.__slots__), jobs.c.data]

# Statements that every job runs many times are worded once: wording one costs more than running it.
_JOB_BY_ID = select(*JOB_COLUMNS).where(jobs.c.id == bindparam("job_id"))
_JOB_OF_PRINCIPAL = _JOB_BY_ID.where(jobs.c.principal == bindparam("theirs"))
_DATA_OF_JOB = select(jobs.c.data).where(jobs.c.id == bindparam("job_id"))
_INSERT_EVENT = insert(job_events)


def read_job(connection: Connection, job_id: str, principal: str | None = None) -> Job:
    """A job; with a principal, only if it is theirs.

    Raises:
        UnknownJob: there is none; a foreign one is answered alike.
    """
    query = _JOB_BY_ID if principal is None else _JOB_OF_PRINCIPAL
    row = connection.execute(query, {"job_id": job_id, "theirs": principal}).first()
    if row is None:
        raise UnknownJob("There is no such job.", hint="Call list_jobs to see the jobs there are.")
    return job_from_row(row)


def job_from_row(row: Row[tuple[object, ...]]) -> Job:
    """A row of `JOB_COLUMNS` as a job."""
    columns = dict(row._mapping)  # noqa: SLF001 - the documented way to name a row's columns
    data, error = read_job_data(columns.pop("data")), error_from_json(columns.pop("error"))
    return Job(**columns, error=error, **{name: getattr(data, name) for name in JobData.__slots__})


def merge_job_data(connection: Connection, job_id: str, changes: JobChanges) -> dict[str, Json]:
    """The JSON of a job's data with some changes: what the caller writes in this same transaction.

    It is read here, not taken from a `Job` that was read before: others may have written other keys meanwhile.
    """
    stands = connection.execute(_DATA_OF_JOB, {"job_id": job_id}).scalar_one_or_none()
    return {**(stands or {}), **write_job_data(changes)}


def output_from_row(row: Row[tuple[object, ...]]) -> Output:
    """A row of outputs joined with their artifacts as an output."""
    found = row._mapping  # noqa: SLF001 - the documented way to name a row's columns
    artifact = Artifact(found["sha256"], found["content_type"], found["size"], found["facts"])
    return Output(found["role"], found["n"], artifact, found["source_url"], found["source_expires_at"])


def write_event(connection: Connection, job_id: str, at: float, kind: str, data: Mapping[str, Json]) -> None:
    """Write an event of a job: its history, and what other processes hear of."""
    connection.execute(_INSERT_EVENT, {"job_id": job_id, "at": at, "type": kind, "data": dict(data)})


# Worded once: wording a statement costs more than running it.
_OUTPUTS_OF_JOB = (
    select(outputs, artifacts.c.content_type, artifacts.c.size, artifacts.c.facts)
    .select_from(outputs.join(artifacts, outputs.c.sha256 == artifacts.c.sha256))
    .where(outputs.c.job_id == bindparam("of"))
    .order_by(outputs.c.role, outputs.c.n)
)
_ARTIFACT_INSERT, _OUTPUT_INSERT = insert_or_merge(artifacts), insert_or_merge(outputs)
_ADD_ARTIFACT = _ARTIFACT_INSERT.on_conflict_do_nothing()
_ADD_ARTIFACT_FACTS = _ARTIFACT_INSERT.on_conflict_do_update(
    index_elements=["sha256"], set_={"facts": _ARTIFACT_INSERT.excluded.facts}
)
_UPSERT_OUTPUT = _OUTPUT_INSERT.on_conflict_do_update(
    index_elements=["job_id", "role", "n"],
    set_={name: _OUTPUT_INSERT.excluded[name] for name in ("sha256", "source_url", "source_expires_at")},
)


def read_outputs(connection: Connection, job_id: str) -> list[Output]:
    """The files of a job, by role and number."""
    return [output_from_row(row) for row in connection.execute(_OUTPUTS_OF_JOB, {"of": job_id})]


def write_output(connection: Connection, job_id: str, output: Output, now: float) -> None:
    """Write that a kept file is a job's output."""
    kept = output.artifact
    row: dict[str, object] = {"sha256": kept.sha256, "content_type": kept.content_type, "size": kept.size}
    row["facts"] = dict(kept.facts)
    row["created_at"] = now
    # The same content may come first as a raw file and later as a measured one: what is known is kept.
    connection.execute(_ADD_ARTIFACT_FACTS if kept.facts else _ADD_ARTIFACT, row)
    found = {
        "sha256": kept.sha256,
        "source_url": output.source_url,
        "source_expires_at": output.source_expires_at,
    }
    connection.execute(_UPSERT_OUTPUT, {"job_id": job_id, "role": output.role, "n": output.n, **found})
