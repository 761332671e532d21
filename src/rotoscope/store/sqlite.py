"""The file under the ledger: how it is opened, brought to this version, and known again.

A ledger is looked at before anything of it is changed: one that a newer version has written is refused as it is. WAL is
what lets reads go on beside a write. It is set where it is not set yet, and that is waited for: several processes may
open a new ledger in one moment. In a ledger that is in use the switch needs a moment without readers; where there is
none, work goes on without it.
"""

import contextlib
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.pool import StaticPool

from rotoscope.errors import StorageFailed
from rotoscope.store.schema import SCHEMA_VERSION
from rotoscope.store.upgrades import upgrade

__all__ = ["FileIdentity", "LedgerBinding", "database_file", "file_identity", "open_engine", "sqlalchemy_url"]

FileIdentity = tuple[int, int]
"""What tells a file from another one of the same name: its device and inode."""

_WAL_SWITCH_SECONDS, _WAL_SWITCH_PAUSE = 0.5, 0.02
_WAL_BYTES = 16 * 1024 * 1024  # to which the journal is cut back after it was larger


class LedgerBinding(Protocol):
    """What must hold between a ledger and the place that it is used from."""

    def is_bound(self, connection: Connection) -> bool:
        """Whether it holds; this only reads."""

    def bind(self, connection: Connection) -> None:
        """Make it hold, inside a transaction.

        Raises:
            StorageFailed: it cannot.
        """


def sqlalchemy_url(place: Path | str) -> URL:
    """A file's name is never read as a URL, in which ?, # and % would mean something."""
    return URL.create("sqlite", database=str(place)) if isinstance(place, Path) else make_url(place)


def database_file(place: Path | str) -> Path | None:
    """The file of a ledger; None where it is in memory, is named in SQLite's own way, or is none of SQLite's."""
    if isinstance(place, Path):
        return place
    try:
        url = make_url(place)
    except ArgumentError:
        return None
    name = url.database if url.get_backend_name() == "sqlite" else None
    return Path(name) if name and name != ":memory:" and not name.startswith("file:") else None


def file_identity(file: Path | None) -> FileIdentity | None:
    """What tells a file from another one of the same name; None where there is none."""
    if file is None:
        return None
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def open_engine(place: Path | str, seconds: float, binding: LedgerBinding | None, *, read_only: bool) -> Engine:
    """Open a database and bring it to this version.

    Args:
        place: a file, or a URL as SQLAlchemy writes it.
        seconds: how long other processes are waited for.
        binding: what must hold between it and the place that it is used from.
        read_only: whether its connection may not write afterwards.

    Raises:
        StorageFailed: a newer version has written it, or it does not belong here.
    """
    url, file = sqlalchemy_url(place), database_file(place)
    if url.get_backend_name() != "sqlite":
        raise StorageFailed(
            "The ledger can only be kept in SQLite.", hint="Set ROTOSCOPE_DATABASE_URL to sqlite:///FILE, or leave it."
        )
    arguments = {"check_same_thread": False, "timeout": seconds}
    engine = create_engine(url, poolclass=StaticPool, connect_args=arguments)
    if file is not None:
        _check_file_version(file, seconds)
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        file.touch(mode=0o600)
    event.listen(engine, "connect", _on_connect)
    event.listen(engine, "begin", _on_begin)
    try:
        _upgrade_schema(engine, seconds)
        if binding is not None:
            _bind_if_needed(engine, binding, seconds)
        if read_only:
            _run_on_driver(engine, lambda driver: driver.execute("PRAGMA query_only = ON"))
    except BaseException:
        engine.dispose()  # it is tried again and again: each try would leave an open file behind
        raise
    return engine


def _check_file_version(file: Path, seconds: float) -> None:
    """Refuse a newer ledger before its file is opened for writing: that alone may change it."""
    with (
        contextlib.suppress(sqlite3.OperationalError, FileNotFoundError),  # the opening itself tells what is wrong
        contextlib.closing(
            sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True, timeout=seconds)
        ) as looking,
    ):
        _check_schema_version(looking)


def _check_schema_version(driver: sqlite3.Connection) -> int:
    found = int(driver.execute("PRAGMA user_version").fetchone()[0])
    if found > SCHEMA_VERSION:
        raise StorageFailed(
            f"The ledger was written by a newer rotoscope (schema {found}; this one knows {SCHEMA_VERSION}).",
            hint="Upgrade rotoscope, or set ROTOSCOPE_HOME to another folder.",
        )
    return found


def _upgrade_schema(engine: Engine, seconds: float) -> None:
    found = _run_on_driver(engine, _check_schema_version)
    # Nobody works in a ledger that is new or to be upgraded: its switch is waited for like its upgrade.
    _run_on_driver(
        engine, lambda driver: _switch_to_wal(driver, min(_WAL_SWITCH_SECONDS, seconds) if found else seconds)
    )
    if found == SCHEMA_VERSION:
        return
    with _writer_engine(engine, seconds).begin() as connection:
        found = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
        if found < SCHEMA_VERSION:
            upgrade(connection, found)


def _switch_to_wal(driver: sqlite3.Connection, seconds: float) -> None:
    """Two that switch at once are told "locked" at once, whatever time-out they have: so the waiting is done here.

    Raises:
        sqlite3.OperationalError: it is a new ledger, and others kept it locked.
    """
    until = time.monotonic() + seconds
    while driver.execute("PRAGMA journal_mode").fetchone()[0] not in ("wal", "memory"):
        driver.execute(f"PRAGMA busy_timeout = {int(_WAL_SWITCH_PAUSE * 1000)}")
        try:
            driver.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if not error.sqlite_errorname.startswith("SQLITE_BUSY"):
                raise
            if time.monotonic() >= until:
                return
            time.sleep(_WAL_SWITCH_PAUSE)
        else:
            return  # where it cannot be had at all, on a network's disk, the answer names another mode


def _bind_if_needed(engine: Engine, binding: LedgerBinding, seconds: float) -> None:
    with engine.connect().execution_options(writes=False, wait=seconds) as connection, connection.begin():
        if binding.is_bound(connection):
            return
    with _writer_engine(engine, seconds).begin() as connection:
        binding.bind(connection)


def _writer_engine(engine: Engine, seconds: float) -> Engine:
    return engine.execution_options(wait=seconds)


def _run_on_driver(engine: Engine, work: Callable[[sqlite3.Connection], object]) -> object:
    """Do something with the driver's own connection, outside of any transaction."""
    with engine.connect() as connection:
        driver = connection.connection.driver_connection
        assert isinstance(driver, sqlite3.Connection)
        return work(driver)


def _on_connect(connection: sqlite3.Connection, _: object) -> None:
    connection.isolation_level = None  # we begin transactions ourselves, see _on_begin
    connection.execute(f"PRAGMA journal_size_limit = {_WAL_BYTES}")
    connection.execute("PRAGMA fullfsync = ON")  # for macOS, where fsync does not wait for the drive (see media.disk)


def _on_begin(connection: Connection) -> None:
    options, driver = connection.get_execution_options(), connection.connection.driver_connection
    assert isinstance(driver, sqlite3.Connection)
    # FULL: an intent to pay that a power cut takes back would allow a second payment.
    # All go straight to the driver: SQLAlchemy's way to it would cost as much as the shortest transactions.
    driver.execute(f"PRAGMA synchronous = {'FULL' if options.get('durable') else 'NORMAL'}")
    driver.execute(f"PRAGMA busy_timeout = {int(options.get('wait', 0) * 1000)}")
    # Taking the write lock at once is what makes read-then-write transactions of several processes safe.
    driver.execute("BEGIN IMMEDIATE" if options.get("writes", True) else "BEGIN")
