"""How a ledger in SQLite is. Nothing of it is changed and nothing is made: one that is not there is only reported."""

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from sqlalchemy import Connection, Engine, create_engine
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import StaticPool

from rotoscope.store.health import Integrity, LedgerHealth, count_jobs, newer_schema_fault
from rotoscope.store.schema import SCHEMA_VERSION
from rotoscope.store.sqlite import SqliteBackend, database_file

__all__ = ["read_sqlite_health"]

_WAIT_SECONDS = 1.0  # for other programs' locks
_STEPS_BETWEEN_LOOKS = 20_000  # of SQLite's machine, between two looks at the clock


def read_sqlite_health(
    database: Path | str,
    check_seconds: float,
    clock: Callable[[], float] = time.time,
    monotonic: Callable[[], float] = time.monotonic,
) -> LedgerHealth:
    """Look at a ledger. It blocks: for a second for other programs' locks, and for the check.

    Args:
        database: a file, or a URL as SQLAlchemy writes it.
        check_seconds: how long the check of its pages may take.
        clock: Unix seconds.
        monotonic: seconds that always go on.

    Returns:
        What was found; a ledger that cannot be read is a `fault` in it.
    """
    file = database_file(database)
    if file is None:
        return LedgerHealth("the memory of each process", "SQLite", exists=False)
    health = LedgerHealth(str(file), "SQLite")
    try:
        if not file.exists():
            return replace(health, exists=False)
        with _open_file(file) as connection:
            return _look_into_file(connection, health, monotonic() + check_seconds, clock(), monotonic)
    except (SQLAlchemyError, sqlite3.Error, OSError) as error:
        failure = SqliteBackend(file).storage_error(error)
        integrity: Integrity = "damaged" if "is damaged" in failure.message else "unchecked"
        return replace(health, integrity=integrity, fault=failure.message, hint=failure.hint)


@contextmanager
def _open_file(file: Path) -> Iterator[Connection]:
    """A connection that only reads, and makes no file."""

    def connect() -> sqlite3.Connection:
        return sqlite3.connect(
            f"{file.absolute().as_uri()}?mode=ro", uri=True, timeout=_WAIT_SECONDS, check_same_thread=False
        )

    engine: Engine = create_engine("sqlite://", creator=connect, poolclass=StaticPool)
    try:
        with engine.connect() as connection:
            yield connection
    finally:
        engine.dispose()


def _look_into_file(
    connection: Connection, health: LedgerHealth, until: float, now: float, monotonic: Callable[[], float]
) -> LedgerHealth:
    schema = int(connection.exec_driver_sql("PRAGMA user_version").scalar_one())
    health = replace(health, schema=schema)
    if schema > SCHEMA_VERSION:
        return replace(health, fault=newer_schema_fault(schema), hint="Upgrade rotoscope, or set another ledger.")
    integrity, damage = _check_pages(connection, until, monotonic)
    health = replace(health, integrity=integrity, damage=damage)
    # An older one has not all the columns; the next start brings it to this version.
    return count_jobs(connection, health, now) if schema == SCHEMA_VERSION and integrity != "damaged" else health


def _check_pages(connection: Connection, until: float, monotonic: Callable[[], float]) -> tuple[Integrity, str]:
    """SQLite's own quick check, which is broken off when its time is over."""
    driver = connection.connection.driver_connection
    assert isinstance(driver, sqlite3.Connection)
    driver.set_progress_handler(lambda: int(monotonic() >= until), _STEPS_BETWEEN_LOOKS)
    try:
        found = str(driver.execute("PRAGMA quick_check(1)").fetchone()[0])
    except sqlite3.OperationalError as error:
        if error.sqlite_errorname != "SQLITE_INTERRUPT":
            raise
        return "unfinished", ""
    finally:
        driver.set_progress_handler(None, 0)
    return ("whole", "") if found == "ok" else ("damaged", found.partition("\n")[0])
