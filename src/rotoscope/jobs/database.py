"""The database behind the ledger: one connection in one thread, short transactions, and what each version added."""

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import anyio
import anyio.to_thread
from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import StaticPool

from rotoscope.errors import StorageFailed
from rotoscope.jobs.tables import SCHEMA_VERSION
from rotoscope.jobs.upgrades import upgrade

__all__ = ["BUSY_SECONDS", "Database"]

BUSY_SECONDS = 30.0
"""How long a transaction waits for another process's to end."""

_CORRUPT = frozenset({"SQLITE_CORRUPT", "SQLITE_NOTADB"})

Answer = TypeVar("Answer")


class Database:
    """Every transaction is short and runs in the one thread that may use the connection.

    Args:
        place: a file, or a URL as SQLAlchemy writes it; SQLite in WAL mode.
        busy_seconds: how long a transaction waits for another process's to end.
    """

    def __init__(self, place: Path | str, busy_seconds: float = BUSY_SECONDS) -> None:
        self._place = place
        self._busy_seconds = busy_seconds
        self._engine: Engine | None = None
        self._one_thread = anyio.CapacityLimiter(1)

    async def aclose(self) -> None:
        """Close the database."""
        if self._engine is not None:
            await anyio.to_thread.run_sync(self._engine.dispose, limiter=self._one_thread)

    async def transact(
        self, work: Callable[[Connection], Answer], *, writes: bool = True, durable: bool = False
    ) -> Answer:
        """Do some work in one transaction; `durable` brings it to the disk before this returns.

        Raises:
            StorageFailed: it could not be read or written; nothing of it was.
        """

        def run() -> Answer:
            options = {"writes": writes, "durable": durable}
            with self._opened().connect().execution_options(**options) as connection, connection.begin():
                return work(connection)

        return await self._translated(run)

    async def version(self) -> int:
        """A number that is another one once another process has written; this one's own writes do not count."""

        def run() -> int:
            with self._opened().connect() as connection:
                found = connection.connection.driver_connection
                assert isinstance(found, sqlite3.Connection)
                return int(found.execute("PRAGMA data_version").fetchone()[0])

        return await self._translated(run)

    async def _translated(self, run: Callable[[], Answer]) -> Answer:
        try:
            return await anyio.to_thread.run_sync(run, limiter=self._one_thread)
        except (SQLAlchemyError, sqlite3.Error, OSError) as error:
            raise _storage_failed(error, _url_of(self._place).database or str(self._place)) from error

    def _opened(self) -> Engine:
        if self._engine is None:
            self._engine = _open_engine(_url_of(self._place), self._busy_seconds)
        return self._engine


def _storage_failed(error: Exception, file: str) -> StorageFailed:
    cause = getattr(error, "orig", None) or error
    name = getattr(cause, "sqlite_errorname", "")
    if name in _CORRUPT:
        return StorageFailed(
            f"The ledger {file} is damaged, so nothing is begun.",
            hint="Restore it from a copy, or move it away to begin a new one; results in the vault stay.",
        )
    if name.startswith("SQLITE_BUSY"):
        return StorageFailed(
            "The ledger is locked by another program.", hint=f"See which one has {file} open, then try again."
        )
    if name == "SQLITE_FULL" or name.startswith("SQLITE_IOERR"):
        return StorageFailed("The ledger cannot be written: the disk is full or broken.", hint=f"Make room for {file}.")
    return StorageFailed(
        "The ledger could not be read or written.",
        hint=f"Check that {file} and its folder are writable and have space.",
    )


def _url_of(place: Path | str) -> URL:
    """A file's name is never read as a URL, in which ?, # and % would mean something."""
    return URL.create("sqlite", database=str(place)) if isinstance(place, Path) else make_url(place)


def _open_engine(url: URL, busy_seconds: float) -> Engine:
    """Open the database, bring it to this version, and refuse one that a newer version has written."""
    file = url.database
    if file and file != ":memory:":
        Path(file).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        Path(file).touch(mode=0o600)
    arguments = {"check_same_thread": False, "timeout": busy_seconds}
    engine = create_engine(url, poolclass=StaticPool, connect_args=arguments)
    event.listen(engine, "connect", _on_connect)
    event.listen(engine, "begin", _on_begin)
    try:
        _bring_to_this_version(engine)
    except BaseException:
        engine.dispose()  # it is tried again and again: each try would leave an open file behind
        raise
    return engine


def _bring_to_this_version(engine: Engine) -> None:
    with engine.begin() as connection:
        found = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
        if found > SCHEMA_VERSION:
            raise StorageFailed(
                f"The ledger was written by a newer rotoscope (schema {found}; this one knows {SCHEMA_VERSION}).",
                hint="Upgrade rotoscope, or set ROTOSCOPE_HOME to another folder.",
            )
        if found < SCHEMA_VERSION:
            upgrade(connection, found)


def _on_connect(connection: sqlite3.Connection, _: object) -> None:
    connection.isolation_level = None  # we begin transactions ourselves, see _on_begin
    connection.execute("PRAGMA journal_mode = WAL")


def _on_begin(connection: Connection) -> None:
    options, driver = connection.get_execution_options(), connection.connection.driver_connection
    assert isinstance(driver, sqlite3.Connection)
    # FULL: an intent to pay that a power cut takes back would allow a second payment.
    # Both go straight to the driver: SQLAlchemy's way to it would cost as much as the shortest transactions.
    driver.execute(f"PRAGMA synchronous = {'FULL' if options.get('durable') else 'NORMAL'}")
    # Taking the write lock at once is what makes read-then-write transactions of several processes safe.
    driver.execute("BEGIN IMMEDIATE" if options.get("writes", True) else "BEGIN")
