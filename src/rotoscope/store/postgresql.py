"""PostgreSQL: how a ledger's database is opened, brought to this version, locked and watched for changes.

Several transactions may write at once. What one of them decides about, no other may change meanwhile: that is kept by
locks that are taken at its beginning (see `write_locks` for what they are and for their order). Each statement sees
what was committed before it (READ COMMITTED): so once the locks are held, what is read is what stands. A transaction
that only reads sees one moment (REPEATABLE READ), as in SQLite.

A transaction begins with one message that holds its settings and its locks. Nothing was done before that has succeeded,
so where it fails because the connection was dead, it is sent once more on another one. Whatever fails later is not
repeated: the caller must know.

The version of the tables stands in `properties`, written in the transaction that makes them. The trigger by which other
processes learn of changes is made with them.
"""

import hashlib
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg.abc import Buffer
from psycopg.pq import TransactionStatus
from psycopg.types.string import StrDumperUnknown
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from rotoscope.errors import StorageFailed
from rotoscope.store.backend import (
    LOCKED_JOB,
    ChangeListener,
    LedgerBinding,
    TransactionTerms,
    report_statements,
    upsert,
)
from rotoscope.store.postgresql_errors import name_database, translate_error
from rotoscope.store.postgresql_listener import open_listener
from rotoscope.store.schema import SCHEMA_VERSION, properties
from rotoscope.store.upgrades import upgrade
from rotoscope.store.write_locks import WriteLock

__all__ = ["PostgresqlBackend"]

_MAX_WRITERS, _MAX_READERS = 8, 4  # connections of one process
_OLDEST_SERVER = 130_000  # as PostgreSQL numbers its versions: 13
_VERSION_PROPERTY = "schema"
# Seconds. A process that stops in the middle of a transaction, or a statement that does not end, must not keep the
# others from the ledger for longer than they are patient.
_IDLE_SECONDS, _STATEMENT_SECONDS, _LOOK_SECONDS = 20, 30, 2.5
# Of libpq: how long a connection takes at most, and after how much silence a peer is taken for gone.
_CONNECTION_ARGUMENTS: dict[str, object] = {
    "application_name": "rotoscope",
    "connect_timeout": 3,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,  # milliseconds
}
_SESSION_WORDS = (
    f"SET idle_in_transaction_session_timeout = '{_IDLE_SECONDS}s'; SET statement_timeout = '{_STATEMENT_SECONDS}s'; "
    f"SET lock_timeout = '{_LOOK_SECONDS}s'"  # for what runs without a transaction
)
_LOOK = """
    SELECT current_setting('server_version_num')::int, current_setting('server_encoding'), pg_is_in_recovery(),
           current_schema(), to_regclass('properties') IS NOT NULL
"""
_HAS_TABLES = "SELECT to_regclass('properties') IS NOT NULL"
_LOCKED_COLUMNS = 2  # of the statement that locks a job's row
_JOB_ID = re.compile(r"[0-9A-Za-z_-]{1,64}")
_READ_VERSION = f"SELECT value FROM properties WHERE name = '{_VERSION_PROPERTY}'"  # noqa: S608 - our own word
_COUNT_ENDED_TRANSACTIONS = "SELECT hashtextextended(pg_current_snapshot()::text, 0)"
# An intent is left out, for nobody waits for it: commits that notify are made one after another, and its commit waits
# for the disk.
_MAKE_TRIGGER = """
    CREATE OR REPLACE FUNCTION rotoscope_notify_event() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        PERFORM pg_notify('rotoscope_' || md5(TG_TABLE_SCHEMA), NEW.job_id);
        RETURN NULL;
    END $$;
    DROP TRIGGER IF EXISTS notify_event ON job_events;
    CREATE TRIGGER notify_event AFTER INSERT ON job_events FOR EACH ROW
        WHEN (NEW.type <> 'intended') EXECUTE FUNCTION rotoscope_notify_event();
"""

Row = tuple[Any, ...]


class PostgresqlBackend:
    """A ledger in PostgreSQL.

    Args:
        place: a URL as SQLAlchemy writes it.

    Raises:
        StorageFailed: the URL names no database.
    """

    def __init__(self, place: str) -> None:
        self._url = make_url(place).set(drivername="postgresql+psycopg")
        self._schema = ""
        self._own_connections: set[int] = set()  # as the server numbers them
        if not self._url.database:
            raise StorageFailed(
                "ROTOSCOPE_DATABASE_URL names a server of PostgreSQL, but no database on it.",
                hint="Write the database's name at its end: postgresql+psycopg://USER:PASSWORD@HOST/NAME.",
            )

    @property
    def name(self) -> str:
        """The database and its server; no user and no password."""
        return name_database(self._url)

    @property
    def shares_connection(self) -> bool:
        """Every connection sees what was committed."""
        return False

    @property
    def max_writers(self) -> int:
        """Enough to keep a processor busy while commits wait for the disk."""
        return _MAX_WRITERS

    @property
    def max_readers(self) -> int:
        """A read takes about a millisecond."""
        return _MAX_READERS

    @property
    def announces_changes(self) -> bool:
        """The trigger does, by NOTIFY."""
        return True

    @property
    def numbers_in_order(self) -> bool:
        """Several transactions write at once, and each takes its number before it commits."""
        return False

    @property
    def error_types(self) -> tuple[type[Exception], ...]:
        """SQLAlchemy's errors and the driver's."""
        return (SQLAlchemyError, psycopg.Error)

    def open_engine(
        self, seconds: float, binding: LedgerBinding | None, *, read_only: bool, note_progress: Callable[[], None]
    ) -> Engine:
        """See `Backend`. The engine has as many connections as transactions may run at once."""
        engine = create_engine(
            self._url,
            connect_args=self._connection_arguments(),
            pool_size=_MAX_READERS if read_only else _MAX_WRITERS,
            max_overflow=0,
            pool_timeout=seconds,
            pool_use_lifo=True,
            use_native_hstore=False,
            client_encoding="utf8",
        )
        event.listen(engine, "connect", self._on_connect)
        try:
            with report_statements(engine, note_progress):
                self._upgrade_schema(engine, seconds)
                if binding is not None:
                    self._bind_if_needed(engine, binding, seconds)
        except BaseException:
            engine.dispose()  # opening is tried again and again: each try would leave connections behind
            raise
        return engine

    @contextmanager
    def begin(self, engine: Engine, terms: TransactionTerms) -> Iterator[Connection]:
        """See `Backend`."""
        if terms.is_one_look and not terms.writes:
            with _connect_and_run(engine, "") as (connection, _):
                yield connection
            return
        with _connect_and_run(engine, self._opening_words(terms)) as (connection, row), connection.begin():
            connection.info[LOCKED_JOB] = row if len(row) == _LOCKED_COLUMNS else None
            yield connection
            # A commit after a failed statement would be a rollback that says nothing.
            if _driver(connection).info.transaction_status == TransactionStatus.INERROR:
                raise StorageFailed("The ledger could not be written.", hint="Try again.")

    def check_identity(self) -> None:
        """A name leads to one database: when that is dropped its connections end, and another one has no tables."""

    def change_counter(self, engine: Engine) -> int:
        """A hash of which transactions have ended."""
        with _connect_and_run(engine, _COUNT_ENDED_TRANSACTIONS) as (_, row):
            return int(row[0])

    def open_listener(self) -> ChangeListener:
        """See `Backend`. A connection of its own: the others are busy, or end with their pool."""
        plain = self._url.set(drivername="postgresql", query={})
        options = {**{name: str(value) for name, value in self._url.query.items()}, **self._connection_arguments()}
        return open_listener(plain.render_as_string(hide_password=False), options, self._own_connections)

    def storage_error(self, error: Exception) -> StorageFailed:
        """See `Backend`; the server's code names what has happened."""
        return translate_error(error, self._url)

    def _on_connect(self, driver: "psycopg.Connection[Row]", _: object) -> None:
        driver.adapters.register_dumper(str, _TextDumper)
        _run_words(driver, _SESSION_WORDS)
        self._own_connections.add(driver.info.backend_pid)

    def _connection_arguments(self) -> dict[str, object]:
        given = {name: value for name, value in _CONNECTION_ARGUMENTS.items() if name not in self._url.query}
        return {**given, "autocommit": True}  # transactions begin in `begin`

    def _opening_words(self, terms: TransactionTerms) -> str:
        """What a transaction begins with, in one message."""
        wait = f"SET LOCAL lock_timeout = {max(1, int(terms.wait * 1000))}"
        if not terms.writes:
            return f"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; {wait}"
        # A commit that waits for the disk takes all earlier ones along.
        durable = f"SET LOCAL synchronous_commit = {'on' if terms.durable else 'off'}"
        return "; ".join(["BEGIN", wait, durable, *self._locking_words(terms.lock)])

    def _locking_words(self, lock: WriteLock) -> Iterator[str]:
        """The statements that take a lock, in the order that is everybody's; each waits until it is held."""
        ledger = self._lock_key("")
        if lock.is_whole_ledger:
            yield f"SELECT pg_advisory_xact_lock({ledger})"
            return
        yield f"SELECT pg_advisory_xact_lock_shared({ledger})"
        shared = {self._lock_key(name): "_shared" for name in lock.shared_names}
        for key, kind in sorted({**shared, **dict.fromkeys(map(self._lock_key, lock.names), "")}.items()):
            yield f"SELECT pg_advisory_xact_lock{kind}({key})"
        if lock.job_id is not None and _JOB_ID.fullmatch(lock.job_id):  # no job has another id
            yield f"SELECT id, data FROM jobs WHERE id = '{lock.job_id}' FOR NO KEY UPDATE"  # noqa: S608 - letters

    def _lock_key(self, name: str) -> int:
        """The number under which something is locked. Ledgers in other schemas of the database lock for themselves.

        Two names with one number would only wait for each other.
        """
        digest = hashlib.sha256(f"rotoscope\0{self._schema}\0{name}".encode()).digest()
        return int.from_bytes(digest[:8], "big", signed=True)

    def _upgrade_schema(self, engine: Engine, seconds: float) -> None:
        with _connect_and_run(engine, _LOOK) as (connection, row):
            version, encoding, is_copy, schema, has_tables = row
            _check_server(version, encoding, schema, is_copy=is_copy)
            self._schema = schema
            if has_tables and _check_schema_version(connection) == SCHEMA_VERSION:
                return
        with self.begin(engine, TransactionTerms(seconds, durable=True)) as connection:
            # Again, now that nobody else writes: another process may have upgraded it meanwhile.
            found = _check_schema_version(connection) if _run_words(_driver(connection), _HAS_TABLES)[0] else 0
            if found < SCHEMA_VERSION:
                upgrade(connection, found)
                _run_words(_driver(connection), _MAKE_TRIGGER)
                written = {"name": _VERSION_PROPERTY, "value": str(SCHEMA_VERSION)}
                connection.execute(upsert(connection, properties, "value"), written)

    def _bind_if_needed(self, engine: Engine, binding: LedgerBinding, seconds: float) -> None:
        with self.begin(engine, TransactionTerms(seconds, writes=False)) as connection:
            if binding.is_bound(connection):
                return
        with self.begin(engine, TransactionTerms(seconds, durable=True)) as connection:
            binding.bind(connection)


class _TextDumper(StrDumperUnknown):
    """PostgreSQL keeps no NUL in a text; providers' messages may hold one."""

    def dump(self, obj: str) -> Buffer | None:
        return super().dump(obj.replace("\0", "\N{REPLACEMENT CHARACTER}"))


def _check_server(version: int, encoding: str, schema: str | None, *, is_copy: bool) -> None:
    if version < _OLDEST_SERVER:
        raise StorageFailed(
            f"PostgreSQL {version // 10_000} is too old for the ledger.", hint="Use PostgreSQL 13 or later."
        )
    if encoding != "UTF8":
        raise StorageFailed(
            f"The database keeps texts as {encoding}, so the ledger cannot be kept in it.",
            hint="Make one with ENCODING 'UTF8'.",
        )
    if is_copy:
        raise StorageFailed(
            "The database is a copy that can only be read, so nothing is begun.",
            hint="Set ROTOSCOPE_DATABASE_URL to the primary server.",
        )
    if schema is None:
        raise StorageFailed(
            "The database has no schema in which this user could keep the ledger.",
            hint="Make one, or set search_path for this user.",
        )


def _check_schema_version(connection: Connection) -> int:
    row = _run_words(_driver(connection), _READ_VERSION)
    found = int(row[0]) if row else 0
    if found > SCHEMA_VERSION:
        raise StorageFailed(
            f"The ledger was written by a newer rotoscope (schema {found}; this one knows {SCHEMA_VERSION}).",
            hint="Upgrade rotoscope, or set ROTOSCOPE_DATABASE_URL to another database.",
        )
    return found


@contextmanager
def _connect_and_run(engine: Engine, words: str) -> Iterator[tuple[Connection, Row]]:
    """A connection on which some statements without parameters were run, in one message; and the last one's row.

    After the server was started again every connection that was kept is dead, which shows only now: at the latest by
    the end that it has sent. Such a one is dropped, and the next is tried: there are fewer than there are tries, and
    after them comes a new one.
    """
    for left in reversed(range(_MAX_WRITERS + 1)):
        with engine.connect() as connection:
            driver = _driver(connection)
            try:
                row = _run_words(driver, words) if words else _read_end(driver)
            except psycopg.OperationalError as error:
                if not (driver.broken or driver.closed) or not left:
                    raise
                connection.invalidate(error)
                continue
            yield connection, row
            return


def _read_end(driver: "psycopg.Connection[Row]") -> Row:
    """Raise where the server has ended an idle connection: its last words are read, then the end. It sends nothing.

    Raises:
        psycopg.OperationalError: it has.
    """
    driver.pgconn.consume_input()
    driver.pgconn.consume_input()
    return ()


def _run_words(driver: "psycopg.Connection[Row]", words: str) -> Row:
    """Run some statements without parameters; the first row of the last one, or an empty one."""
    with driver.cursor() as cursor:
        cursor.execute(words.encode(), prepare=False)
        while cursor.nextset():
            pass
        return (cursor.fetchone() or ()) if cursor.description else ()


def _driver(connection: Connection) -> "psycopg.Connection[Row]":
    driver = connection.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)
    return driver
