"""What retention reads and removes, in statements that an index answers and transactions that are over at once.

Everything that may take long is looked for in reads; what is found is looked at once more, a few rows at a time, in
the transaction that removes it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sqlalchemy import (
    BindParameter,
    Connection,
    Float,
    String,
    and_,
    bindparam,
    delete,
    exists,
    func,
    or_,
    select,
    tuple_,
)

from rotoscope.media.vault import Vault
from rotoscope.store.access_schema import upload_parts, upload_tickets, webhooks
from rotoscope.store.records import ENDED_STATES
from rotoscope.store.schema import artifacts, job_events, job_inputs, job_waits, jobs, outputs, runs, submissions

__all__ = [
    "AgeLimit",
    "OldJobsPage",
    "files_in_use",
    "find_old_jobs",
    "find_old_runs",
    "forget_files",
    "removal_batches",
    "remove_files",
    "remove_jobs",
    "remove_runs",
]

_PAGE_SIZE = 200  # rows of a read
_JOBS_AT_ONCE, _EVENTS_AT_ONCE = 20, 500  # of one transaction, so that it holds the lock for some milliseconds
_IDS: BindParameter[object] = bindparam("ids", expanding=True)
_FILES: BindParameter[object] = bindparam("files", expanding=True)

_IS_DELIVERED = jobs.c.delivered_at < bindparam("before")
_IS_UNDELIVERED = and_(jobs.c.delivered_at.is_(None), jobs.c.finished_at < bindparam("untold_before"))
# It goes after the jobs that took its outputs: as long as these are shown, so are their steps.
_IS_AWAITED = exists().where(job_waits.c.on_job_id == jobs.c.id).correlate(jobs)
_OLD_JOBS = (
    select(
        jobs.c.id,
        jobs.c.finished_at,
        or_(_IS_DELIVERED, _IS_UNDELIVERED),
        select(func.count()).where(job_events.c.job_id == jobs.c.id).scalar_subquery(),
    )
    .where(jobs.c.state == bindparam("ended"), jobs.c.finished_at < bindparam("before"), ~_IS_AWAITED)
    .where(
        tuple_(jobs.c.finished_at, jobs.c.id)
        > tuple_(bindparam("after", type_=Float), bindparam("after_id", type_=String))
    )
    .order_by(jobs.c.finished_at, jobs.c.id)
    .limit(_PAGE_SIZE)
)
# Asked as columns: as terms, SQLite might answer them by the index of what has ended, and read all of that.
_IS_STILL_OLD = select(
    jobs.c.id,
    and_(
        jobs.c.state.in_(ENDED_STATES),
        jobs.c.finished_at < bindparam("before"),
        or_(_IS_DELIVERED, _IS_UNDELIVERED),
        ~_IS_AWAITED,
    ),
).where(jobs.c.id.in_(_IDS))
# UNION would sort, and to have what it sorts in order SQLite would read the whole of an index.
_FILES_OF_JOBS = (
    select(outputs.c.sha256)
    .where(outputs.c.job_id.in_(_IDS))
    .union_all(select(job_inputs.c.sha256).where(job_inputs.c.job_id.in_(_IDS)))
)
_DELETE_JOBS = [
    delete(table).where(table.c.job_id.in_(_IDS))
    for table in (outputs, job_inputs, job_waits, job_events, submissions, webhooks)
]
_DELETE_JOBS.append(delete(jobs).where(jobs.c.id.in_(_IDS)))
_FILES_IN_USE = (
    select(outputs.c.sha256)
    .where(outputs.c.sha256.in_(_FILES))
    .union_all(
        select(job_inputs.c.sha256).where(job_inputs.c.sha256.in_(_FILES)),
        select(upload_tickets.c.sha256).where(upload_tickets.c.sha256.in_(_FILES)),
        select(upload_parts.c.sha256).where(upload_parts.c.sha256.in_(_FILES)),
    )
)
_DELETE_ARTIFACTS = delete(artifacts).where(artifacts.c.sha256.in_(_FILES))
_OLD_RUNS = (
    select(runs.c.provider, runs.c.prediction_id)
    .where(runs.c.at < bindparam("before"), runs.c.at >= bindparam("after"))
    .where(~select(jobs.c.id).where(jobs.c.id == runs.c.job_id).exists())
    .order_by(runs.c.at)
    .limit(_PAGE_SIZE)
)
_REMOVE_RUN = delete(runs).where(
    runs.c.provider == bindparam("at_provider"), runs.c.prediction_id == bindparam("named")
)


@dataclass(frozen=True, slots=True)
class AgeLimit:
    """What is old, in Unix seconds: ended and delivered before the one, or ended before the other, not delivered."""

    before: float
    undelivered_before: float

    @property
    def bind_values(self) -> dict[str, object]:
        """The limit under the names that the statements bind."""
        return {"before": self.before, "untold_before": self.undelivered_before}


@dataclass(frozen=True, slots=True)
class OldJobsPage:
    """A page of the jobs that ended long ago: those that are due, with how many events each has, and where it ends."""

    due: Sequence[tuple[str, int]]
    last: tuple[float, str] | None


def find_old_jobs(connection: Connection, state: str, bound: AgeLimit, after: tuple[float, str]) -> OldJobsPage:
    """The next page of the jobs with a state, by the moment at which they ended and their id.

    Args:
        connection: the transaction.
        state: the state.
        bound: what is old.
        after: where the page before ended.
    """
    terms = {**bound.bind_values, "ended": state, "after": after[0], "after_id": after[1]}
    rows = connection.execute(_OLD_JOBS, terms).all()
    due = [(job_id, events) for job_id, _, is_due, events in rows if is_due]
    return OldJobsPage(due, (rows[-1][1], rows[-1][0]) if len(rows) == _PAGE_SIZE else None)


def removal_batches(due: Sequence[tuple[str, int]]) -> Iterator[list[str]]:
    """Jobs that are removed in one transaction: few, and with few events together."""
    batch: list[str] = []
    rows = 0
    for job_id, events in due:
        if batch and (len(batch) == _JOBS_AT_ONCE or rows + events > _EVENTS_AT_ONCE):
            yield batch
            batch, rows = [], 0
        batch.append(job_id)
        rows += events
    if batch:
        yield batch


def remove_jobs(connection: Connection, job_ids: Sequence[str], bound: AgeLimit) -> tuple[int, Sequence[str]]:
    """Remove those of some jobs that are old still; how many there were, and the files that they had or were given."""
    rows = connection.execute(_IS_STILL_OLD, {**bound.bind_values, "ids": job_ids})
    gone = [job_id for job_id, is_due in rows if is_due]
    if not gone:
        return 0, ()
    files = list(connection.execute(_FILES_OF_JOBS, {"ids": gone}).scalars())
    for removal in _DELETE_JOBS:
        connection.execute(removal, {"ids": gone})
    return len(gone), files


def files_in_use(connection: Connection, files: Sequence[str]) -> frozenset[str]:
    """Those of some files that a job has, or was given, or that were uploaded and are kept for that."""
    return frozenset(connection.execute(_FILES_IN_USE, {"files": files}).scalars())


def remove_files(connection: Connection, vault: Vault, files: Sequence[str], before: float) -> int:
    """Remove those of some files (hashes) that no job needs. Meanwhile nobody can open a job that does."""
    kept = files_in_use(connection, files)
    gone = [sha256 for sha256 in files if sha256 not in kept and vault.delete(sha256, before)]
    return forget_files(connection, gone)


def forget_files(connection: Connection, files: Sequence[str]) -> int:
    """Forget some files that were removed, given by their hashes; how many there were."""
    if files:
        connection.execute(_DELETE_ARTIFACTS, {"files": files})
    return len(files)


def find_old_runs(connection: Connection, before: float) -> Sequence[tuple[str, str]]:
    """Some of the runs from before a moment whose jobs are gone, as provider and prediction id."""
    rows = connection.execute(_OLD_RUNS, {"before": before, "after": 0.0})
    return [(provider, prediction_id) for provider, prediction_id in rows]


def remove_runs(connection: Connection, found: Sequence[tuple[str, str]]) -> None:
    """Forget some runs, given as provider and prediction id."""
    connection.execute(_REMOVE_RUN, [{"at_provider": provider, "named": named} for provider, named in found])
