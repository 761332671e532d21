"""A database for a test of the store: which one is a parameter of the test."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from rotoscope.store.database import Database

__all__ = ["StoreDatabase", "database"]


@dataclass(frozen=True)
class StoreDatabase:
    """A database that a test has for itself: several processes may connect to it, and another program may look."""

    url: str

    def connect(self) -> Database:
        """One more process that works on it."""
        return Database(self.url)

    def execute(self, *statements: str) -> Sequence[Any]:
        """What another program does: some statements in one transaction. The rows of the last one."""
        engine = create_engine(self.url, poolclass=NullPool)
        with engine.begin() as connection:
            found = [connection.exec_driver_sql(statement) for statement in statements][-1]
            return [tuple(row) for row in found] if found.returns_rows else []


@pytest.fixture(params=["sqlite", "sqlite-without-wal"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> StoreDatabase:
    """Every database that the store runs on: another one is one more value.

    Without WAL is SQLite on a disk that has no shared memory, as over some networks: it locks by a file beside its own,
    keeps a rollback journal, and a process reads and writes by one connection.
    """
    folder = tmp_path / "home"
    folder.mkdir(exist_ok=True)
    if request.param == "sqlite":
        return StoreDatabase(f"sqlite:///{folder / 'ledger.sqlite3'}")
    return StoreDatabase(f"sqlite:///file:{folder / 'ledger.sqlite3'}?vfs=unix-dotfile&uri=true")
