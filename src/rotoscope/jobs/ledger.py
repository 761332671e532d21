"""The ledger: jobs, intents, events and outputs, in one SQL database that several processes may share."""

import secrets
import sqlite3
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import anyio
import anyio.to_thread
from sqlalchemy import Connection, Engine, Row, Select, create_engine, event, insert, select, update
from sqlalchemy.dialects.sqlite import insert as insert_or_merge
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import StaticPool

from rotoscope.contracts.results import Status
from rotoscope.errors import StorageFailed, UnknownJob
from rotoscope.jobs.job import Artifact, Job, NewJob, Output, Patch, Submission
from rotoscope.jobs.tables import (
    SCHEMA_VERSION,
    artifacts,
    durations,
    job_events,
    jobs,
    metadata,
    outputs,
    submissions,
)
from rotoscope.wire.messages import Json

__all__ = ["Ledger", "LostLease"]

_BUSY_MILLISECONDS = 30_000
_RUNS_REMEMBERED = 9
_COLUMNS = [jobs.c[name] for name in Job.__slots__]

Answer = TypeVar("Answer")


class LostLease(Exception):
    """Somebody else drives this job now: stop in silence."""


class Ledger:
    """Every write is one short transaction in the one thread that writes; every stage's write is fenced.

    What guards money, the intent and the provider's id, is on the disk when its write returns. Everything else may be
    lost in a power cut, and is then done again: a stage that is repeated does no harm.

    Args:
        url: as SQLAlchemy writes it; SQLite in WAL mode.
        clock: the time in Unix seconds.
    """

    def __init__(self, url: str, clock: Callable[[], float]) -> None:
        self._url = url
        self._clock = clock
        self._engine: Engine | None = None
        self._one_writer = anyio.CapacityLimiter(1)

    async def aclose(self) -> None:
        """Close the database."""
        if self._engine is not None:
            await anyio.to_thread.run_sync(self._engine.dispose, limiter=self._one_writer)

    async def open(self, new: NewJob) -> Job:
        """Write a new job, queued at its first stage."""
        now = self._clock()
        values = {name: getattr(new, name) for name in NewJob.__slots__}
        row = {
            **values,
            "id": secrets.token_hex(16),
            "state": "queued",
            "stage": "prepare",
            "needs_key": None if new.sandbox else new.provider,
            "created_at": now,
            "updated_at": now,
        }

        def write(connection: Connection) -> Job:
            connection.execute(insert(jobs).values(row))
            self._note(connection, str(row["id"]), "opened", {})
            return _read(connection, str(row["id"]))

        return await self._transact(write)

    async def job(self, job_id: str, principal: str | None = None) -> Job:
        """A job by its id; with a principal, only if it is theirs.

        Raises:
            UnknownJob: there is none; a foreign one is answered alike.
        """
        return await self._transact(lambda connection: _read(connection, job_id, principal), writes=False)

    async def jobs(self, principal: str | None, state: Status | None, limit: int) -> Sequence[Job]:
        """The newest jobs, newest first."""
        query: Select[tuple[object, ...]] = select(*_COLUMNS).order_by(jobs.c.created_at.desc(), jobs.c.id).limit(limit)
        if principal is not None:
            query = query.where(jobs.c.principal == principal)
        if state is not None:
            query = query.where(jobs.c.state == state)
        return await self._transact(lambda connection: [_job(row) for row in connection.execute(query)], writes=False)

    async def claim(self, job_id: str, owner: str, lease_seconds: float) -> Job | None:
        """Take a queued job to drive it; None when somebody else has it."""
        now = self._clock()
        taking = (
            update(jobs)
            .where(jobs.c.id == job_id, jobs.c.state == "queued")
            .values(
                state="running", owner=owner, fence=jobs.c.fence + 1, lease_until=now + lease_seconds, updated_at=now
            )
        )

        def write(connection: Connection) -> Job | None:
            if connection.execute(taking).rowcount != 1:
                return None
            self._note(connection, job_id, "claimed", {"owner": owner})
            return _read(connection, job_id)

        return await self._transact(write)

    async def advance(self, job: Job, patch: Patch) -> Job:
        """Write what a stage found and the stage that comes next, together.

        Raises:
            LostLease: the job is no longer ours, or already final.
        """

        def write(connection: Connection) -> Job:
            self._write_fenced(connection, job, patch)
            for output in patch.outputs:
                self._write_output(connection, job.id, output)
            return _read(connection, job.id)

        return await self._transact(write)

    async def intend(self, job: Job, request_sha256: str) -> Submission:
        """Commit the intent to pay, before the paying request. An intent that stands is given back, not renewed.

        Raises:
            LostLease: the job is no longer ours.
        """
        now = self._clock()
        nonce = secrets.token_hex(8)

        def write(connection: Connection) -> Submission:
            self._write_fenced(connection, job, Patch(event="intended"))
            stands = connection.execute(select(submissions).where(submissions.c.job_id == job.id)).first()
            if stands is not None:
                return Submission(job.id, stands.nonce, stands.intent_at, stands.prediction_id, fresh=False)
            row = {"job_id": job.id, "nonce": nonce, "request_sha256": request_sha256}
            connection.execute(insert(submissions).values(row | {"provider": job.provider, "intent_at": now}))
            return Submission(job.id, nonce, now, None, fresh=True)

        return await self._transact(write, durable=True)

    async def withdraw(self, job: Job) -> None:
        """Delete an intent whose request was proven not to be accepted.

        Raises:
            LostLease: the job is no longer ours, and so neither is the intent.
        """

        def write(connection: Connection) -> None:
            self._write_fenced(connection, job, Patch(data={"charged": False}, event="withdrawn"))
            still_open = (submissions.c.job_id == job.id) & submissions.c.prediction_id.is_(None)
            connection.execute(submissions.delete().where(still_open))

        await self._transact(write)

    async def note_prediction(self, job_id: str, prediction_id: str) -> None:
        """Write the provider's id. Not fenced, on purpose: a late id is precious."""
        noted = {"prediction_id": prediction_id, "confirmed_at": self._clock()}
        writing = update(submissions).where(submissions.c.job_id == job_id).values(noted)

        def write(connection: Connection) -> None:
            connection.execute(writing)
            self._note(connection, job_id, "submitted", {"prediction_id": prediction_id})

        await self._transact(write, durable=True)

    async def request_cancel(self, job_id: str, principal: str | None) -> Job:
        """Ask for a job to be cancelled; a queued one is cancelled at once, a final one stays as it is."""
        now = self._clock()

        def write(connection: Connection) -> Job:
            job = _read(connection, job_id, principal)
            if job.final:
                return job
            values: dict[str, object] = {"cancel_requested": True, "updated_at": now}
            if job.state == "queued":
                values |= {"state": "cancelled", "finished_at": now, "message": "Cancelled before anything was sent."}
            connection.execute(update(jobs).where(jobs.c.id == job_id).values(values))
            self._note(connection, job_id, "cancel_requested", {})
            return _read(connection, job_id)

        return await self._transact(write)

    async def cancels(self, job_ids: frozenset[str]) -> frozenset[str]:
        """Those of some jobs that somebody has asked to cancel."""
        query = select(jobs.c.id).where(jobs.c.id.in_(job_ids), jobs.c.cancel_requested)
        return await self._transact(lambda connection: frozenset(connection.execute(query).scalars()), writes=False)

    async def note_seconds(self, job: Job, workload: str, seconds: float) -> None:
        """Remember how long a run took at the provider."""
        row = {"job_id": job.id, "model": job.model, "provider": job.provider, "sandbox": job.sandbox}
        row |= {"workload": workload, "seconds": seconds, "at": self._clock()}
        await self._transact(lambda c: c.execute(insert_or_merge(durations).values(row).on_conflict_do_nothing()))

    async def usual_seconds(self, model: str, provider: str, workload: str, *, sandbox: bool) -> float | None:
        """The median of the latest runs of the same workload, or None when there were none."""
        same = (durations.c.model == model, durations.c.provider == provider, durations.c.workload == workload)
        query = select(durations.c.seconds).where(*same, durations.c.sandbox == sandbox)
        query = query.order_by(durations.c.at.desc()).limit(_RUNS_REMEMBERED)
        found = await self._transact(lambda connection: list(connection.execute(query).scalars()), writes=False)
        return statistics.median(found) if found else None

    async def outputs(self, job_id: str) -> Sequence[Output]:
        """The files of a job, by role and number."""
        joined = outputs.join(artifacts, outputs.c.sha256 == artifacts.c.sha256)
        query = select(outputs, artifacts.c.content_type, artifacts.c.size, artifacts.c.facts).select_from(joined)
        query = query.where(outputs.c.job_id == job_id).order_by(outputs.c.role, outputs.c.n)
        return await self._transact(
            lambda connection: [_output(row) for row in connection.execute(query)], writes=False
        )

    def _write_fenced(self, connection: Connection, job: Job, patch: Patch) -> None:
        now = self._clock()
        given = {name: getattr(patch, name) for name in ("stage", "state", "progress", "message", "error")}
        values = {name: value for name, value in given.items() if value is not None}
        if patch.data:
            values["data"] = {**_read(connection, job.id).data, **patch.data}
        if patch.state in ("succeeded", "failed", "cancelled", "needs_review"):
            values |= {"finished_at": now, "lease_until": None}
        ours = (jobs.c.id == job.id) & (jobs.c.owner == job.owner) & (jobs.c.fence == job.fence)
        writing = update(jobs).where(ours, jobs.c.state == "running").values(**values, updated_at=now)
        if connection.execute(writing).rowcount != 1:
            raise LostLease(job.id)
        told: dict[str, Json] = {name: value for name, value in given.items() if value is not None and name != "error"}
        self._note(connection, job.id, patch.event, told)

    def _write_output(self, connection: Connection, job_id: str, output: Output) -> None:
        kept = output.artifact
        row = {"sha256": kept.sha256, "content_type": kept.content_type, "size": kept.size, "facts": dict(kept.facts)}
        adding = insert_or_merge(artifacts).values(**row, created_at=self._clock())
        # The same content may come first as a raw file and later as a measured one: what is known is kept.
        if kept.facts:
            connection.execute(adding.on_conflict_do_update(index_elements=["sha256"], set_={"facts": row["facts"]}))
        else:
            connection.execute(adding.on_conflict_do_nothing())
        place = {"job_id": job_id, "role": output.role, "n": output.n}
        found = {
            "sha256": kept.sha256,
            "source_url": output.source_url,
            "source_expires_at": output.source_expires_at,
        }
        placing = insert_or_merge(outputs).values(**place, **found)
        connection.execute(placing.on_conflict_do_update(index_elements=list(place), set_=found))

    def _note(self, connection: Connection, job_id: str, kind: str, data: Mapping[str, Json]) -> None:
        row = {"job_id": job_id, "at": self._clock(), "type": kind, "data": dict(data)}
        connection.execute(insert(job_events).values(row))

    async def _transact(
        self, work: Callable[[Connection], Answer], *, writes: bool = True, durable: bool = False
    ) -> Answer:
        def run() -> Answer:
            if self._engine is None:
                self._engine = _open_engine(self._url)
            with (
                self._engine.connect().execution_options(writes=writes, durable=durable) as connection,
                connection.begin(),
            ):
                return work(connection)

        try:
            return await anyio.to_thread.run_sync(run, limiter=self._one_writer)
        except (SQLAlchemyError, OSError) as error:
            raise StorageFailed(
                "The ledger could not be read or written.",
                hint="Check that its folder (ROTOSCOPE_HOME) is writable and has space.",
            ) from error


def _open_engine(url: str) -> Engine:
    """Open the database, make what is missing, and refuse one that a newer version has written."""
    file = make_url(url).database
    if file and file != ":memory:":
        Path(file).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        Path(file).touch(mode=0o600)
    engine = create_engine(url, poolclass=StaticPool, connect_args={"check_same_thread": False})
    event.listen(engine, "connect", _on_connect)
    event.listen(engine, "begin", _on_begin)
    with engine.begin() as connection:
        found = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
        if found > SCHEMA_VERSION:
            raise StorageFailed(
                f"The ledger was written by a newer rotoscope (schema {found}; this one knows {SCHEMA_VERSION}).",
                hint="Upgrade rotoscope, or set ROTOSCOPE_HOME to another folder.",
            )
        if found < SCHEMA_VERSION:
            metadata.create_all(connection)
            connection.exec_driver_sql(f"PRAGMA user_version = {SCHEMA_VERSION}")
    return engine


def _on_connect(connection: sqlite3.Connection, _: object) -> None:
    connection.isolation_level = None  # we begin transactions ourselves, see _on_begin
    for pragma in (f"busy_timeout = {_BUSY_MILLISECONDS}", "journal_mode = WAL"):
        connection.execute(f"PRAGMA {pragma}")


def _on_begin(connection: Connection) -> None:
    options = connection.get_execution_options()
    # FULL: an intent to pay that a power cut takes back would allow a second payment.
    connection.exec_driver_sql(f"PRAGMA synchronous = {'FULL' if options.get('durable') else 'NORMAL'}")
    # Taking the write lock at once is what makes read-then-write transactions of several processes safe.
    connection.exec_driver_sql("BEGIN IMMEDIATE" if options.get("writes", True) else "BEGIN")


def _read(connection: Connection, job_id: str, principal: str | None = None) -> Job:
    query = select(*_COLUMNS).where(jobs.c.id == job_id)
    if principal is not None:
        query = query.where(jobs.c.principal == principal)
    row = connection.execute(query).first()
    if row is None:
        raise UnknownJob("There is no such job.", hint="Call list_jobs to see the jobs there are.")
    return _job(row)


def _job(row: Row[tuple[object, ...]]) -> Job:
    return Job(**row._mapping)  # noqa: SLF001 - the documented way to name a row's columns


def _output(row: Row[tuple[object, ...]]) -> Output:
    found = row._mapping  # noqa: SLF001 - the documented way to name a row's columns
    artifact = Artifact(found["sha256"], found["content_type"], found["size"], found["facts"])
    return Output(found["role"], found["n"], artifact, found["source_url"], found["source_expires_at"])
