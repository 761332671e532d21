"""A database for a test of the store: which one is a parameter of the test."""

import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest
from calls import SECONDS
from postgresql import PostgresqlServer
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from rotoscope.store.database import Database
from rotoscope.store.write_locks import WHOLE_LEDGER, WriteLock

__all__ = ["POSTGRESQL_PARAM", "StoreDatabase", "database", "hold_lock"]


@dataclass(frozen=True)
class StoreDatabase:
    """A database that a test has for itself: several processes may connect to it, and another program may look."""

    url: str

    def connect(self) -> Database:
        """One more process that works on it."""
        return Database(self.url)

    @property
    def is_postgresql(self) -> bool:
        """Whether it is one in which several may write at once."""
        return self.url.startswith("postgresql")

    def execute(self, *statements: str) -> Sequence[Any]:
        """What another program does: some statements in one transaction. The rows of the last one."""
        engine = create_engine(self.url, poolclass=NullPool)
        with engine.begin() as connection:
            found = [connection.exec_driver_sql(statement) for statement in statements][-1]
            return [tuple(row) for row in found] if found.returns_rows else []


@asynccontextmanager
async def hold_lock(database: Database, lock: WriteLock = WHOLE_LEDGER) -> AsyncIterator[None]:
    """A transaction that has its lock, and does nothing, until the end of the block."""
    is_held, may_end = threading.Event(), threading.Event()

    def work(_: object) -> None:
        is_held.set()
        assert may_end.wait(SECONDS)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(partial(database.transact, work, lock=lock))
        await anyio.to_thread.run_sync(is_held.wait)
        try:
            yield
        finally:
            may_end.set()


POSTGRESQL_PARAM = pytest.param("postgresql", marks=pytest.mark.postgresql)


@pytest.fixture(params=["sqlite", "sqlite-without-wal", POSTGRESQL_PARAM])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[StoreDatabase]:
    """Every database that the store runs on: another one is one more value.

    Without WAL is SQLite on a disk that has no shared memory, as over some networks: it locks by a file beside its own,
    keeps a rollback journal, and a process reads and writes by one connection.
    """
    if request.param == "postgresql":
        server: PostgresqlServer = request.getfixturevalue("postgresql")
        with server.new_ledger() as url:
            yield StoreDatabase(url)
        return
    folder = tmp_path / "home"
    folder.mkdir(exist_ok=True)
    if request.param == "sqlite":
        yield StoreDatabase(f"sqlite:///{folder / 'ledger.sqlite3'}")
    else:
        yield StoreDatabase(f"sqlite:///file:{folder / 'ledger.sqlite3'}?vfs=unix-dotfile&uri=true")
