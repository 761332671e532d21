"""Rows of the ledger, read and written inside somebody's transaction.

Which kept files stand for which job, read and written inside somebody's transaction.
"""

from collections.abc import Mapping

from sqlalchemy import Connection, Row, bindparam, insert, select
from sqlalchemy.dialects.sqlite import insert as insert_or_merge

from rotoscope.errors import UnknownJob
from rotoscope.providers.http.messages import Json
from rotoscope.store.records import Artifact, Job, Output
from rotoscope.store.schema import artifacts, job_events, jobs, outputs

__all__ = ["JOB_COLUMNS", "job_of", "note", "output_of", "outputs_of", "read_job", "write_output"]

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


# Worded once: wording a statement costs more than running it.
_OUTPUTS = (
    select(outputs, artifacts.c.content_type, artifacts.c.size, artifacts.c.facts)
    .select_from(outputs.join(artifacts, outputs.c.sha256 == artifacts.c.sha256))
    .where(outputs.c.job_id == bindparam("of"))
    .order_by(outputs.c.role, outputs.c.n)
)
_ARTIFACT, _OUTPUT = insert_or_merge(artifacts), insert_or_merge(outputs)
_KEPT = _ARTIFACT.on_conflict_do_nothing()
_MEASURED = _ARTIFACT.on_conflict_do_update(index_elements=["sha256"], set_={"facts": _ARTIFACT.excluded.facts})
_PLACED = _OUTPUT.on_conflict_do_update(
    index_elements=["job_id", "role", "n"],
    set_={name: _OUTPUT.excluded[name] for name in ("sha256", "source_url", "source_expires_at")},
)


def outputs_of(connection: Connection, job_id: str) -> list[Output]:
    """The files of a job, by role and number."""
    return [output_of(row) for row in connection.execute(_OUTPUTS, {"of": job_id})]


def write_output(connection: Connection, job_id: str, output: Output, now: float) -> None:
    """Write that a kept file is a job's output."""
    kept = output.artifact
    row: dict[str, object] = {"sha256": kept.sha256, "content_type": kept.content_type, "size": kept.size}
    row["facts"] = dict(kept.facts)
    row["created_at"] = now
    # The same content may come first as a raw file and later as a measured one: what is known is kept.
    connection.execute(_MEASURED if kept.facts else _KEPT, row)
    found = {
        "sha256": kept.sha256,
        "source_url": output.source_url,
        "source_expires_at": output.source_expires_at,
    }
    connection.execute(_PLACED, {"job_id": job_id, "role": output.role, "n": output.n, **found})
