"""The queue of the engine that spreads jobs over processes: Procrastinate's own tables, beside those of the ledger.

An entry of the queue says no more than "try to claim this job". The ledger decides who drives it: an entry that is
missing, late or there twice costs some time and never money. So an entry is

- written with its job, in one transaction;
- deleted by the process that took it, once the job is not driven there any more, or cannot be claimed;
- written again by `JobQueue.refill` for every job that could be driven and has none, whatever has become of the former
  one: the job was put back, its driver died, or there was no place for it before.

A queue is named by the key that its jobs need, and by the account that must be charged: a process listens to the queues
of its own keys, so it is hardly ever given a job that it must leave to others. It is where it does not know the job's
model, which another process does; then the entry goes to the queue of that model.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.resources import files

import psycopg
from procrastinate.exceptions import AlreadyEnqueued
from procrastinate.jobs import Job as QueueEntry
from procrastinate.manager import JobManager
from procrastinate.schema import SchemaManager
from procrastinate.sync_psycopg_connector import SyncPsycopgConnector
from sqlalchemy import (
    ColumnElement,
    Connection,
    and_,
    bindparam,
    column,
    delete,
    exists,
    func,
    literal_column,
    or_,
    select,
    table,
    text,
)

from rotoscope.models.catalog import OWN_KEY_MARK
from rotoscope.store.backend import LedgerBinding, upsert
from rotoscope.store.database import Database
from rotoscope.store.lease_predicate import IS_IDLE, MAX_CLAIMS
from rotoscope.store.leases import JobDriver
from rotoscope.store.records import UNPAID_STAGES, Job
from rotoscope.store.rows import JOB_COLUMNS, job_from_row, read_job_of_any_principal
from rotoscope.store.run_limits import RunLimits, RunningJobs, count_running
from rotoscope.store.schema import jobs, properties
from rotoscope.store.timing import Intervals
from rotoscope.store.write_locks import WriteLock

__all__ = ["DRIVE_TASK", "JobQueue", "QueueTables", "add_entries", "queues_of_driver"]

DRIVE_TASK = "rotoscope.drive"
"""The name of the one task that there is; its only argument is `job_id`."""

_MAX_PROVIDER_CHARS, _DIGEST_CHARS = 16, 12  # the name of a channel is a queue's with 23 more, and 63 at most
_QUEUE_LOCK = WriteLock(names=frozenset({"job queue"}))
_PROPERTY = "queue"  # the newest of Procrastinate's migrations that the tables have
_READ_PROPERTY = select(properties.c.value).where(properties.c.name == _PROPERTY)
_HAS_TABLES = text("SELECT to_regclass('procrastinate_jobs') IS NOT NULL")

_entries = table("procrastinate_jobs", column("lock"), column("queueing_lock"), column("status"))
_IS_WAITING = and_(_entries.c.queueing_lock == jobs.c.id, _entries.c.status == literal_column("'todo'"))
_IS_TAKEN = and_(_entries.c.lock == jobs.c.id, _entries.c.status == literal_column("'doing'"))
# Whoever takes an entry claims its job within moments. One that was taken long ago and whose job nobody drives was left
# behind by a process that could not write its end.
_IS_LEFT_BEHIND = func.coalesce(jobs.c.lease_until, jobs.c.updated_at) < bindparam("left_before")
_HAS_NO_ENTRY = and_(
    ~exists().where(_IS_WAITING).correlate(jobs), or_(~exists().where(_IS_TAKEN).correlate(jobs), _IS_LEFT_BEHIND)
)
_MISSING = select(*JOB_COLUMNS).where(IS_IDLE, _HAS_NO_ENTRY).order_by(jobs.c.created_at, jobs.c.id).limit(MAX_CLAIMS)
_WAITING_COUNTS = (
    select(jobs.c.provider, jobs.c.sandbox, jobs.c.needs_key, jobs.c.account, jobs.c.principal, func.count())
    .where(_IS_WAITING)
    .group_by(jobs.c.provider, jobs.c.sandbox, jobs.c.needs_key, jobs.c.account, jobs.c.principal)
)
_DELETE_TAKEN = delete(_entries).where(
    _entries.c.lock.in_(bindparam("ids", expanding=True)), _entries.c.status == literal_column("'doing'")
)

_manager = JobManager(SyncPsycopgConnector())  # it only writes in connections that are given to it


@dataclass(frozen=True, slots=True)
class QueueTables:
    """Makes Procrastinate's tables where they are missing, and brings them to the version that is installed.

    Attributes:
        after: what must hold before that.
    """

    after: LedgerBinding

    def is_bound(self, connection: Connection) -> bool:
        """Whether the tables are there, as this version needs them."""
        return self.after.is_bound(connection) and _applied_migration(connection) >= _migrations()[-1]

    def bind(self, connection: Connection) -> None:
        """Make or change the tables; what is written is never taken back, so a newer version's are left."""
        self.after.bind(connection)
        known, newest = _applied_migration(connection), _migrations()[-1]
        if known >= newest:
            return
        driver = _driver(connection)
        if not connection.execute(_HAS_TABLES).scalar_one():
            driver.execute(SchemaManager.get_schema(), prepare=False)
        for name in _migrations() if known else ():  # tables that another program has made are taken as they are
            if name > known:
                driver.execute(_read_migration(name), prepare=False)
        connection.execute(upsert(connection, properties, "value"), {"name": _PROPERTY, "value": newest})


def _migrations() -> Sequence[str]:
    """Their names, which begin with their version, the oldest first."""
    return sorted(one.name for one in files("procrastinate.sql.migrations").iterdir() if one.name.endswith(".sql"))


def _read_migration(name: str) -> bytes:
    return (files("procrastinate.sql.migrations") / name).read_bytes()


def _applied_migration(connection: Connection) -> str:
    return connection.execute(_READ_PROPERTY).scalar_one_or_none() or ""


def add_entries(connection: Connection, found: Iterable[Job]) -> None:
    """Write the entries of jobs that have none, in the transaction that writes them.

    A job that has got one in this very moment needs no other: a worker of another process may put one back.
    """
    entries = [
        QueueEntry(
            id=None, queue=_queue_of_job(job), lock=job.id, queueing_lock=job.id, task_name=DRIVE_TASK,
            task_kwargs={"job_id": job.id},
        )
        for job in found
    ]  # fmt: skip
    if not entries:
        return
    try:
        with connection.begin_nested():
            _manager.batch_defer_jobs(entries, connection=_driver(connection))
    except AlreadyEnqueued:
        for entry in entries:
            with suppress(AlreadyEnqueued), connection.begin_nested():
                _manager.batch_defer_jobs([entry], connection=_driver(connection))


def queues_of_driver(driver: JobDriver) -> Sequence[str]:
    """The queues of the jobs that a process can drive."""
    by_key = {_queue_name(key, account) for key in driver.keys for account in ("", *driver.accounts)}
    return sorted(by_key | {_queue_of_model(model) for model in driver.models})


def _queue_of_job(job: Job) -> str:
    """From the watch stage on any key of the host will do; principals' own are looked up (see `lease_predicate`)."""
    key = job.needs_key or job.provider
    needs_account = job.stage in UNPAID_STAGES and not key.endswith(OWN_KEY_MARK)
    return _queue_name(key, (job.account or "") if needs_account else "")


def _queue_of_model(model: str) -> str:
    return f"rotoscope.model.{hashlib.sha256(model.encode()).hexdigest()[:_DIGEST_CHARS]}"


def _queue_name(key: str, account: str) -> str:
    """A name that any provider's name may be part of, and that is never too long."""
    readable = re.sub(r"[^a-z0-9-]", "-", key.partition("@")[0].lower())[:_MAX_PROVIDER_CHARS]
    digest = hashlib.sha256(f"{key}\0{account}".encode()).hexdigest()
    return f"rotoscope.{readable}.{digest[:_DIGEST_CHARS]}"


@dataclass(frozen=True, slots=True)
class JobQueue:
    """Fills the queue with the jobs that could be driven now, for all processes.

    Attributes:
        limits: how many jobs may run at once; those that do not fit are left out until one of the others has ended.
    """

    database: Database
    clock: Callable[[], float]
    limits: RunLimits
    intervals: Intervals

    async def refill(self) -> int:
        """Write entries for jobs that nobody drives, that could go on, and that have none; the oldest first.

        Returns:
            How many were written.

        Raises:
            StorageFailed: the ledger cannot be used now.
        """
        # A look costs no lock; most of them find nothing.
        if not await self.database.transact(self._find_missing, writes=False):
            return 0
        return await self.database.transact(self._write_missing, lock=_QUEUE_LOCK)

    async def find_other_queue(self, job_id: str, queue: str) -> str:
        """Where the entry of a job goes when the process that took it cannot drive it.

        Args:
            job_id: the job.
            queue: where it was taken from: of the two queues that it may be in, it goes to the other one.

        Raises:
            UnknownJob: there is no such job.
            StorageFailed: the ledger cannot be used now.
        """
        job = await self.database.transact(lambda c: read_job_of_any_principal(c, job_id), writes=False)
        by_key, by_model = _queue_of_job(job), _queue_of_model(job.model)
        return by_model if queue == by_key else by_key

    def _find_missing(self, connection: Connection) -> bool:
        terms = self._terms()
        counted = count_running(connection, self.limits, terms)
        left_out = (*counted.exclude_full(), *_exclude_waiting(connection, counted))
        return connection.execute(_MISSING.where(*left_out).limit(1), terms).first() is not None

    def _write_missing(self, connection: Connection) -> int:
        terms, written = self._terms(), 0
        counted = count_running(connection, self.limits, terms)
        waiting = tuple(_exclude_waiting(connection, counted))
        while True:
            left_out = (*counted.exclude_full(), *waiting)
            found = [job_from_row(row) for row in connection.execute(_MISSING.where(*left_out), terms)]
            fitting = counted.take_fitting(found)
            if fitting:
                connection.execute(_DELETE_TAKEN, {"ids": [job.id for job in fitting]})
                add_entries(connection, fitting)
            written += len(fitting)
            # What fills up in this round must not hide the jobs of others.
            if len(found) < MAX_CLAIMS or len(fitting) == len(found):
                return written

    def _terms(self) -> dict[str, float]:
        now, tempo = self.clock(), self.intervals
        return {
            "now": now,
            "farthest_lease": now + 2 * tempo.lease - tempo.heartbeat,
            "farthest_pause": now + tempo.longest_pause,
            "left_before": now - tempo.lease,
        }


def _exclude_waiting(connection: Connection, counted: RunningJobs) -> Iterator[ColumnElement[bool]]:
    """Conditions that leave out the jobs for which entries wait already, as many as there are places.

    They are counted by key and account: entries that nobody can take must not keep those from the queue that somebody
    could.
    """
    limits = counted.limits
    by_provider: Counter[tuple[str, bool, str | None, str | None]] = Counter()
    by_principal: Counter[tuple[str, str | None, str | None]] = Counter()
    for provider, sandbox, key, account, principal, count in connection.execute(_WAITING_COUNTS):
        by_provider[provider, sandbox, key, account] += count
        by_principal[principal, key, account] += count
    for (provider, sandbox, key, account), count in by_provider.items():
        most = limits.by_provider.get(provider)
        if most is not None and counted.by_provider[provider, sandbox] + count >= most:
            yield or_(jobs.c.needs_key.is_distinct_from(key), jobs.c.account.is_distinct_from(account))
    for (principal, key, account), count in by_principal.items():
        most = limits.per_principal
        if most is not None and counted.by_principal[principal] + count >= most:
            others = (jobs.c.needs_key.is_distinct_from(key), jobs.c.account.is_distinct_from(account))
            yield or_(jobs.c.principal != principal, *others)


def _driver(connection: Connection) -> "psycopg.Connection[tuple[object, ...]]":
    driver = connection.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)
    return driver
