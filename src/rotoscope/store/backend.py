"""The seam between the store and a database: what each database must answer in its own way.

All other modules of this folder speak SQLAlchemy Core that SQLite and PostgreSQL run alike. What differs stands in one
module a database (`sqlite.py`), behind `Backend`; and what SQL spells differently has one name here:

- `insert_or_ignore` and `upsert`: `INSERT ... ON CONFLICT`, which both databases have and SQLAlchemy keeps in its
  dialects;
- `UtcDay`: the day of a moment. It is rendered here as PostgreSQL spells it, and in `sqlite.py` as SQLite does.

An `INSERT ... ON CONFLICT` is safe between processes because the database looks and writes in one step, under the lock
of the unique key: of two that insert the same key at once, one inserts and the other finds the row.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Protocol, cast

from sqlalchemy import Connection, Engine, Insert, String, Table, event
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from rotoscope.errors import StorageFailed
from rotoscope.store.write_locks import WHOLE_LEDGER, WriteLock

__all__ = [
    "LOCKED_JOB",
    "Announcement",
    "Backend",
    "ChangeListener",
    "LedgerBinding",
    "LockTimeout",
    "TransactionTerms",
    "UtcDay",
    "insert_or_ignore",
    "report_statements",
    "upsert",
]


class LockTimeout(Exception):
    """The transactions of this process that come first still wait for another program's lock."""


class LedgerBinding(Protocol):
    """What must hold between a ledger and the place that it is used from."""

    def is_bound(self, connection: Connection) -> bool:
        """Whether it holds; this only reads."""

    def bind(self, connection: Connection) -> None:
        """Make it hold, inside a transaction.

        Raises:
            StorageFailed: it cannot.
        """


LOCKED_JOB = "rotoscope: locked job"
"""Under which `Connection.info` may hold the id and the data of the job whose row the transaction has locked, as they
were then; whoever takes them out need not read them again."""


@dataclass(frozen=True, slots=True)
class TransactionTerms:
    """How a transaction runs.

    Attributes:
        wait: for how many seconds a lock is waited for.
        writes: whether it takes the right to write at its beginning: a transaction that reads and then writes must not
            be overtaken in between.
        durable: whether the commit waits for the disk.
        lock: what others may not decide about meanwhile; a database that lets one write at a time needs it not.
        is_one_look: whether it reads by one statement, which sees one moment by itself.
    """

    wait: float
    writes: bool = True
    durable: bool = False
    lock: WriteLock = WHOLE_LEDGER
    is_one_look: bool = False


@dataclass(frozen=True, slots=True)
class Announcement:
    """The database says that a job has changed; `is_own` when it was this process that wrote."""

    job_id: str
    is_own: bool


class ChangeListener(Protocol):
    """A connection on which the database announces changes."""

    def fileno(self) -> int:
        """What becomes readable when there is something to read."""

    def read(self) -> frozenset[Announcement]:
        """What was announced; it never waits.

        Raises:
            Exception: one of `Backend.error_types`, when the connection is lost.
        """

    def close(self) -> None:
        """Listen no more."""


class Backend(Protocol):
    """One database, as `Database` needs it. Every method but `storage_error` is called in a thread that may block."""

    @property
    def name(self) -> str:
        """What messages call it: its file, or its URL without a password."""

    @property
    def shares_connection(self) -> bool:
        """Whether reads must use the connection of the writes, because nothing else sees what it wrote."""

    @property
    def max_writers(self) -> int:
        """How many transactions of one process may write at once."""

    @property
    def max_readers(self) -> int:
        """How many transactions of one process may read at once, beside those that write."""

    @property
    def announces_changes(self) -> bool:
        """Whether it tells by itself of changes, see `open_listener`; else it must be asked."""

    @property
    def numbers_in_order(self) -> bool:
        """Whether no event becomes visible after one with a higher number."""

    @property
    def error_types(self) -> tuple[type[Exception], ...]:
        """What a statement may raise: SQLAlchemy's errors, and those of the driver where it is called directly."""

    def open_engine(
        self, seconds: float, binding: LedgerBinding | None, *, read_only: bool, note_progress: Callable[[], None]
    ) -> Engine:
        """Connect, and bring the tables to this version.

        Args:
            seconds: how long other processes are waited for.
            binding: what must hold between the ledger and the place that it is used from.
            read_only: whether the connection may not write afterwards.
            note_progress: called while the opening goes on, after each of its statements.

        Raises:
            StorageFailed: a newer version has written it, or it does not belong here.
        """

    def begin(self, engine: Engine, terms: TransactionTerms) -> AbstractContextManager[Connection]:
        """A transaction: it is committed at the end of the block, and taken back where that raises."""

    def check_identity(self) -> None:
        """Check that the ledger is still the one that was opened first.

        Raises:
            StorageFailed: it is not: another process would not see what is written now, and would pay again.
        """

    def change_counter(self, engine: Engine) -> int:
        """A number that differs from the last one when another connection has committed a write meanwhile."""

    def open_listener(self) -> ChangeListener:
        """Begin to listen for changes; only where `announces_changes`."""

    def storage_error(self, error: Exception) -> StorageFailed:
        """What has happened, and what a person can do about it.

        Args:
            error: of SQLAlchemy, the driver or the operating system; or `LockTimeout`.
        """


@contextmanager
def report_statements(engine: Engine, note_progress: Callable[[], None]) -> Iterator[None]:
    """Say so after each statement that an engine runs meanwhile."""

    def note(*_: object) -> None:
        note_progress()

    event.listen(engine, "after_cursor_execute", note)
    try:
        yield
    finally:
        event.remove(engine, "after_cursor_execute", note)


class UtcDay(FunctionElement[str]):
    """The day (UTC) of a moment in Unix seconds, as `2026-11-27`."""

    name = "utc_day"
    type = String()
    inherit_cache = True


@compiles(UtcDay)
def _render_utc_day(element: UtcDay, compiler: SQLCompiler, **options: object) -> str:
    return f"to_char(to_timestamp({compiler.process(element.clauses, **options)}) AT TIME ZONE 'UTC', 'YYYY-MM-DD')"


def insert_or_ignore(connection: Connection, table: Table) -> Insert:
    """A statement that inserts rows, but leaves a row with the same key as it is."""
    return _insert_on_conflict(connection.dialect.name, table, ())


def upsert(connection: Connection, table: Table, *columns: str) -> Insert:
    """A statement that inserts rows; of a row with the same primary key it overwrites some columns."""
    return _insert_on_conflict(connection.dialect.name, table, columns)


@cache
def _insert_on_conflict(dialect: str, table: Table, columns: tuple[str, ...]) -> Insert:
    # Each of SQLAlchemy's dialects that has ON CONFLICT offers it under the same names.
    insertion = import_module(f"sqlalchemy.dialects.{dialect}").insert(table)
    if not columns:
        return cast("Insert", insertion.on_conflict_do_nothing())
    new = {name: insertion.excluded[name] for name in columns}
    return cast("Insert", insertion.on_conflict_do_update(index_elements=list(table.primary_key.columns), set_=new))
