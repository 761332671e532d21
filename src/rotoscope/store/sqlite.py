"""SQLite: how a ledger's file is opened, brought to this version, locked, watched for changes, and known again.

A ledger is looked at before anything of it is changed: one that a newer version has written is refused as it is. WAL is
what lets reads go on beside a write. It is set where it is not set yet, and that is waited for: several processes may
open a new ledger in one moment. In a ledger that is in use the switch needs a moment without readers; where there is
none, work goes on without it.
"""

import contextlib
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.pool import StaticPool
from sqlalchemy.sql.compiler import SQLCompiler

from rotoscope.errors import StorageFailed
from rotoscope.store.backend import (
    ChangeListener,
    LedgerBinding,
    LockTimeout,
    TransactionTerms,
    UtcDay,
    report_statements,
)
from rotoscope.store.schema import SCHEMA_VERSION
from rotoscope.store.upgrades import upgrade

__all__ = ["SqliteBackend", "database_file"]

_WAL_SWITCH_SECONDS, _WAL_SWITCH_PAUSE = 0.5, 0.02
_WAL_BYTES = 16 * 1024 * 1024  # to which the journal is cut back after it was larger
_CORRUPT_ERRORS = frozenset({"SQLITE_CORRUPT", "SQLITE_NOTADB"})


@compiles(UtcDay, "sqlite")
def _render_utc_day(element: UtcDay, compiler: SQLCompiler, **options: object) -> str:
    return f"strftime('%Y-%m-%d', {compiler.process(element.clauses, **options)}, 'unixepoch')"


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


class SqliteBackend:
    """A ledger in SQLite: in a file, in memory, or in what SQLite opens under a name of its own (`file:...`).

    Args:
        place: a file, or a URL as SQLAlchemy writes it. A file's name is never read as a URL, in which ?, # and % would
            mean something.
    """

    def __init__(self, place: Path | str) -> None:
        self._url = URL.create("sqlite", database=str(place)) if isinstance(place, Path) else make_url(place)
        self._file = database_file(place)
        self._identity: tuple[int, int] | None = None

    @property
    def name(self) -> str:
        """The file, or the URL where there is none."""
        return str(self._file or self._url.render_as_string(hide_password=True))

    @property
    def shares_connection(self) -> bool:
        """What is in memory belongs to its connection."""
        return self._file is None

    @property
    def max_writers(self) -> int:
        """A file has one writer."""
        return 1

    @property
    def max_readers(self) -> int:
        """One: what is read takes less time than another connection would."""
        return 1

    @property
    def announces_changes(self) -> bool:
        """It must be asked."""
        return False

    @property
    def numbers_in_order(self) -> bool:
        """One transaction writes at a time."""
        return True

    @property
    def error_types(self) -> tuple[type[Exception], ...]:
        """SQLAlchemy's errors and the driver's."""
        return (SQLAlchemyError, sqlite3.Error)

    def open_engine(
        self, seconds: float, binding: LedgerBinding | None, *, read_only: bool, note_progress: Callable[[], None]
    ) -> Engine:
        """See `Backend`. The engine has one connection."""
        arguments = {"check_same_thread": False, "timeout": seconds}
        engine = create_engine(self._url, poolclass=StaticPool, connect_args=arguments)
        if self._file is not None:
            _check_file_version(self._file, seconds)
            self._file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._file.touch(mode=0o600)
        event.listen(engine, "connect", _on_connect)
        event.listen(engine, "begin", _on_begin)
        try:
            with report_statements(engine, note_progress):
                _upgrade_schema(engine, seconds)
                if binding is not None:
                    _bind_if_needed(engine, binding, seconds)
            if read_only:
                _run_on_driver(engine, lambda driver: driver.execute("PRAGMA query_only = ON"))
            self.check_identity()
        except BaseException:
            engine.dispose()  # opening is tried again and again: each try would leave an open file behind
            raise
        return engine

    @contextlib.contextmanager
    def begin(self, engine: Engine, terms: TransactionTerms) -> Iterator[Connection]:
        """See `Backend`. Transactions that write follow one another, whatever they lock."""
        options = {"writes": terms.writes, "durable": terms.durable, "wait": terms.wait}
        with engine.connect().execution_options(**options) as connection, connection.begin():
            yield connection

    def check_identity(self) -> None:
        """Check that the ledger's name still leads to the file that was opened first, by device and inode.

        Nobody else sees what is written into a file that was removed or replaced: a second process would pay again.

        Raises:
            StorageFailed: it does not.
        """
        found = _file_identity(self._file)
        if self._identity is None:
            self._identity = found
        if found != self._identity:
            raise StorageFailed(
                f"The ledger {self._file} was removed or replaced while this process had it open, so nothing is begun.",
                hint="Put it back, or end every rotoscope process and start again.",
            )

    def change_counter(self, engine: Engine) -> int:
        """SQLite's own counter: it differs once another connection has committed, not after this one's own writes."""
        with engine.connect() as connection:
            return int(_driver(connection).execute("PRAGMA data_version").fetchone()[0])

    def open_listener(self) -> ChangeListener:
        """There is nothing to listen to."""
        raise NotImplementedError

    def storage_error(self, error: Exception) -> StorageFailed:
        """See `Backend`; the driver's error names what has happened."""
        cause = getattr(error, "orig", None) or error
        code = getattr(cause, "sqlite_errorname", "")
        if code in _CORRUPT_ERRORS:
            return StorageFailed(
                f"The ledger {self.name} is damaged, so nothing is begun.",
                hint="Restore it from a copy, or move it away to begin a new one; results in the vault stay.",
            )
        if code.startswith("SQLITE_BUSY") or isinstance(error, LockTimeout):
            return StorageFailed(
                "The ledger is locked by another program; nothing was begun.",
                hint=f"See which one has {self.name} open, then try again.",
            )
        if code == "SQLITE_FULL" or code.startswith("SQLITE_IOERR"):
            return StorageFailed(
                "The ledger cannot be written: the disk is full or broken.", hint=f"Make room for {self.name}."
            )
        return StorageFailed(
            "The ledger could not be read or written.",
            hint=f"Check that {self.name} and its folder are writable and have space.",
        )


def _file_identity(file: Path | None) -> tuple[int, int] | None:
    """What tells a file from another one of the same name: its device and inode; None where there is no file."""
    if file is None:
        return None
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


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
        # Again, now under the write lock: another process may have upgraded it meanwhile.
        found = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
        if found < SCHEMA_VERSION:
            upgrade(connection, found)
            connection.exec_driver_sql(f"PRAGMA user_version = {SCHEMA_VERSION}")


def _switch_to_wal(driver: sqlite3.Connection, seconds: float) -> None:
    """Set the journal mode. Of two that switch at once, one gets "locked" at once, whatever its time-out: wait here.

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
        return work(_driver(connection))


def _driver(connection: Connection) -> sqlite3.Connection:
    driver = connection.connection.driver_connection
    assert isinstance(driver, sqlite3.Connection)
    return driver


def _on_connect(connection: sqlite3.Connection, _: object) -> None:
    connection.isolation_level = None  # transactions begin in _on_begin, not where the driver guesses
    connection.execute(f"PRAGMA journal_size_limit = {_WAL_BYTES}")
    connection.execute(
        "PRAGMA fullfsync = ON"
    )  # for macOS, where fsync does not wait for the drive (see `media.storage`)


def _on_begin(connection: Connection) -> None:
    options, driver = connection.get_execution_options(), _driver(connection)
    # FULL: an intent to pay that a power cut takes back would allow a second payment.
    # All go straight to the driver: SQLAlchemy's way to it would cost as much as the shortest transactions.
    driver.execute(f"PRAGMA synchronous = {'FULL' if options.get('durable') else 'NORMAL'}")
    driver.execute(f"PRAGMA busy_timeout = {int(options.get('wait', 0) * 1000)}")
    # IMMEDIATE takes the write lock at once. Otherwise two processes could both read first, and then both decide from
    # what they read: the lock makes transactions that read and then write follow one another.
    driver.execute("BEGIN IMMEDIATE" if options.get("writes", True) else "BEGIN")
