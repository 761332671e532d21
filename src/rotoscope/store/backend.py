"""The seam between the store and a database: what each database must answer in its own way.

All other modules of this folder speak SQLAlchemy Core that SQLite and PostgreSQL run alike. What differs stands in one
module a database (`sqlite.py`), behind `Backend`; and what SQL spells differently has one name here:

- `insert_or_ignore` and `upsert`: `INSERT ... ON CONFLICT`, which both databases have and SQLAlchemy keeps in its
  dialects;
- `UtcDay`: the day of a moment. It is rendered here as PostgreSQL spells it, and in `sqlite.py` as SQLite does.

An `INSERT ... ON CONFLICT` is safe between processes because the database looks and writes in one step, under the lock
of the unique key: of two that insert the same key at once, one inserts and the other finds the row.
"""

from functools import cache
from importlib import import_module
from typing import Protocol, cast

from sqlalchemy import Connection, Engine, Insert, String, Table
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from rotoscope.errors import StorageFailed

__all__ = ["Backend", "LedgerBinding", "LockTimeout", "UtcDay", "insert_or_ignore", "upsert"]


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


class Backend(Protocol):
    """One database, as `Database` needs it. Every method but `storage_error` is called in a thread that may block."""

    @property
    def name(self) -> str:
        """What messages call it: its file, or its URL without a password."""

    @property
    def shares_connection(self) -> bool:
        """Whether reads must use the connection of the writes, because nothing else sees what it wrote."""

    @property
    def error_types(self) -> tuple[type[Exception], ...]:
        """What a statement may raise: SQLAlchemy's errors, and those of the driver where it is called directly."""

    def open_engine(self, seconds: float, binding: LedgerBinding | None, *, read_only: bool) -> Engine:
        """Connect, and bring the tables to this version.

        Its transactions follow the execution options of their connection: `writes` (whether it takes the right to write
        at its beginning: a transaction that reads and then writes must not be overtaken in between), `durable` (whether
        the commit waits for the disk), `wait` (for how many seconds a lock is waited for).

        Args:
            seconds: how long other processes are waited for.
            binding: what must hold between the ledger and the place that it is used from.
            read_only: whether the connection may not write afterwards.

        Raises:
            StorageFailed: a newer version has written it, or it does not belong here.
        """

    def check_identity(self) -> None:
        """Check that the ledger is still the one that was opened first.

        Raises:
            StorageFailed: it is not: another process would not see what is written now, and would pay again.
        """

    def change_counter(self, connection: Connection) -> int:
        """A number that differs from the last one when another connection has committed a write meanwhile."""

    def storage_error(self, error: Exception) -> StorageFailed:
        """What has happened, and what a person can do about it.

        Args:
            error: of SQLAlchemy, the driver or the operating system; or `LockTimeout`.
        """


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
