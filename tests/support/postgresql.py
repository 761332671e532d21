"""A PostgreSQL for tests: the one that is named, or a cluster of this session's own, on loopback."""

import os
import random
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import psycopg
import pytest
from psycopg import sql
from sqlalchemy import URL, make_url

from rotoscope.store.database import Database
from rotoscope.store.schema import SCHEMA_VERSION, metadata

__all__ = [
    "GUARDED_PASSWORD",
    "GUARDED_USER",
    "Cluster",
    "PostgresqlServer",
    "find_binaries",
    "postgresql",
    "postgresql_cluster",
    "postgresql_url",
    "start_cluster",
]

_BINARIES = Path("/usr/lib/postgresql")
_START_SECONDS = 120
_STOP_SECONDS = 120  # on a busy machine every connection takes its time to end
# What a test loses in a power cut nobody misses.
_SETTINGS = (
    "listen_addresses=127.0.0.1", "unix_socket_directories=", "fsync=off", "full_page_writes=off", "autovacuum=off",
    "max_connections=300", "shared_buffers=64MB", "max_wal_size=2GB", "lc_messages=C",
    "authentication_timeout=10s",  # else a connection that never came to its sign-in holds up a stop for a minute
)  # fmt: skip
_COLUMNS = """
    SELECT relname, attname FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
    WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND attnum > 0 AND NOT attisdropped
    AND relname NOT LIKE 'procrastinate%'
"""
_EMPTY_QUEUE = """
    DO $$ BEGIN IF to_regclass('procrastinate_jobs') IS NOT NULL THEN
        TRUNCATE procrastinate_jobs, procrastinate_workers, procrastinate_events, procrastinate_periodic_defers;
    END IF; END $$
"""
GUARDED_USER, GUARDED_PASSWORD = "guarded", "open-sesame"


@dataclass
class PostgresqlServer:
    """A server of PostgreSQL on which a test may make databases.

    Attributes:
        url: of a database that exists, as a user that may make others.
    """

    url: URL
    _ledgers: list[str] = field(default_factory=list)  # databases with empty tables

    def execute(self, statement: sql.Composed | sql.SQL, database: str | None = None) -> None:
        """Run a statement outside of any transaction."""
        with self.connect(database) as connection:
            connection.execute(statement)

    def connect(self, database: str | None = None) -> "psycopg.Connection[Any]":
        url = self.url if database is None else self.url.set(database=database)
        plain = url.set(drivername="postgresql").render_as_string(hide_password=False)
        return psycopg.connect(plain, autocommit=True)

    @contextmanager
    def new_ledger(self) -> Iterator[str]:
        """The URL of a database for one test that holds the tables of a ledger.

        Tests get it one after another: to empty the tables takes less time than to make a database.
        """
        name = self._ledgers.pop() if self._ledgers else self._make_ledger()
        try:
            yield self._url_of(name)
        finally:
            if self._empty_ledger(name):
                self._ledgers.append(name)
            else:
                self._drop_database(name)

    def drop_ledgers(self) -> None:
        """Drop what `new_ledger` has made."""
        while self._ledgers:
            self._drop_database(self._ledgers.pop())

    def _make_ledger(self) -> str:
        name = f"rotoscope_{secrets.token_hex(6)}"
        self.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        anyio.run(_make_tables, self._url_of(name))
        return name

    def _empty_ledger(self, name: str) -> bool:
        """Empty the tables; False where a test has changed what tables and columns there are."""
        others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()"
        tables = sql.SQL(", ").join(sql.Identifier(table.name) for table in metadata.sorted_tables)
        with self.connect(name) as connection:
            connection.execute(others, [name])
            found = {(table, column) for table, column in connection.execute(_COLUMNS)}
            if found != {(table.name, column.name) for table in metadata.sorted_tables for column in table.columns}:
                return False
            connection.execute(sql.SQL("TRUNCATE {} RESTART IDENTITY").format(tables))
            connection.execute(_EMPTY_QUEUE)
            connection.execute("INSERT INTO properties VALUES ('schema', %s)", [str(SCHEMA_VERSION)])
            return True

    def _drop_database(self, name: str) -> None:
        self.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))

    def _url_of(self, database: str) -> str:
        return self.url.set(drivername="postgresql+psycopg", database=database).render_as_string(hide_password=False)

    @contextmanager
    def new_database(self) -> Iterator[str]:
        """The URL of an empty database for one test; it is dropped afterwards."""
        name = f"rotoscope_{secrets.token_hex(6)}"
        self.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))
        try:
            yield self._url_of(name)
        finally:
            self._drop_database(name)


async def _make_tables(url: str) -> None:
    database = Database(url)
    await database.change_counter()
    await database.aclose()


@dataclass
class Cluster(PostgresqlServer):
    """A server of a test's own, which can be stopped and started again."""

    binaries: Path = Path()
    folder: Path = Path()
    is_durable: bool = False
    _process: "subprocess.Popen[bytes] | None" = None  # none while it is stopped

    def start(self) -> None:
        """Start it and wait until it answers.

        Raises:
            RuntimeError: it does not; with what it has said.
        """
        durable = ("fsync=on", "full_page_writes=on") if self.is_durable else ()
        options = [word for setting in (*_SETTINGS, *durable) for word in ("-c", setting)]
        command = [self.binaries / "postgres", "-D", self.folder / "data", "-p", str(self.url.port), *options]
        with (self.folder / "log").open("ab") as log:
            started: subprocess.Popen[bytes] = subprocess.Popen(
                list(map(str, command)), stdout=log, stderr=log, cwd=self.folder, **_unprivileged()
            )
        self._process = started
        ready = [self.binaries / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.url.port), "-t", "1"]
        for _ in range(_START_SECONDS * 20):
            if subprocess.run(list(map(str, ready)), check=False).returncode == 0:
                return
            if started.poll() is not None:
                break
            _pause(0.05)
        raise RuntimeError((self.folder / "log").read_text()[-2000:])

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop it: by SIGINT it ends every connection, by SIGQUIT it does not even write what it holds."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(_STOP_SECONDS)
            self._process = None


def _pause(seconds: float) -> None:
    """Wait for a process that says nothing while it starts."""
    with socket.socket() as silent:
        silent.settimeout(seconds)
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        try:
            silent.accept()
        except TimeoutError:
            return


def _unprivileged() -> dict[str, Any]:
    """PostgreSQL does not run as root: then it runs as the user that its package has made."""
    return {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}


def find_binaries() -> Path | None:
    """The folder of the newest PostgreSQL of this machine."""
    found = [one.parent for one in _BINARIES.glob("*/bin/initdb")]
    beside = shutil.which("initdb")
    newest = max(found, key=lambda one: int(one.parent.name), default=None)
    return newest or (Path(beside).resolve().parent if beside else None)


@contextmanager
def start_cluster(binaries: Path, *, is_durable: bool = False) -> Iterator[Cluster]:
    """A new cluster on a free port of loopback; it is gone afterwards.

    Args:
        binaries: the folder of its programs.
        is_durable: whether a commit waits for the disk: no test needs it, and what is measured does.
    """
    with tempfile.TemporaryDirectory(prefix="rotoscope-pg-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        if os.geteuid() == 0:
            shutil.chown(folder, "postgres", "postgres")
        command = [binaries / "initdb", "-D", folder / "data", "-U", "postgres", "-E", "UTF8", "--locale=C.UTF-8",
                   "--auth=trust", "--no-sync", "--no-instructions"]  # fmt: skip
        subprocess.run(list(map(str, command)), check=True, capture_output=True, cwd=folder, **_unprivileged())
        guard = f"host all {GUARDED_USER} 127.0.0.1/32 scram-sha-256\n"
        access = folder / "data" / "pg_hba.conf"
        access.write_text(guard + access.read_text())
        port = _find_port()
        url = URL.create("postgresql+psycopg", "postgres", None, "127.0.0.1", port, "postgres")
        cluster = Cluster(url, binaries=binaries, folder=folder, is_durable=is_durable)
        cluster.start()
        try:
            words = sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}")
            cluster.execute(words.format(sql.Identifier(GUARDED_USER), sql.Literal(GUARDED_PASSWORD)))
            yield cluster
        finally:
            cluster.stop(signal.SIGQUIT)


def _find_port() -> int:
    """A free port that no outgoing connection is given: one that is would keep a server that was stopped from its port.

    Clients that try to connect to it meanwhile may even be given it themselves, and be connected to themselves.
    """
    for port in random.SystemRandom().sample(range(20_000, 32_000), 100):
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise RuntimeError("There is no free port below those of outgoing connections.")


def _fail_or_skip(why: str) -> None:
    """Where everything is there, as in CI, a test that cannot run has failed."""
    (pytest.fail if os.environ.get("CI") else pytest.skip)(why)


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgresqlServer]:
    """The server for a session's tests: `ROTOSCOPE_TEST_DATABASE_URL`, or a cluster of its own."""
    named, binaries = os.environ.get("ROTOSCOPE_TEST_DATABASE_URL"), find_binaries()
    if named:
        server = PostgresqlServer(make_url(named))
        yield server
        server.drop_ledgers()
    elif binaries is None:
        _fail_or_skip("There is no PostgreSQL here: install it, or set ROTOSCOPE_TEST_DATABASE_URL.")
    else:
        with start_cluster(binaries) as cluster:
            yield cluster


@pytest.fixture
def postgresql_cluster() -> Iterator[Cluster]:
    """A cluster for one test alone, which it may stop and start again."""
    binaries = find_binaries()
    if binaries is None:
        _fail_or_skip("There is no PostgreSQL here that a test could stop.")
        return
    with start_cluster(binaries) as cluster:
        yield cluster


@pytest.fixture
def postgresql_url(postgresql: PostgresqlServer) -> Iterator[str]:
    """The URL of an empty database for one test."""
    with postgresql.new_database() as url:
        yield url
