"""What the tests of the store may ask for: a database, which is a parameter, and a studio with a scripted provider."""

from collections.abc import Iterator
from typing import Any

import pytest
from portable_sql import compile_for_postgresql, constructs_of_sqlite
from postgresql import postgresql, postgresql_cluster, postgresql_url
from scripted_provider import opened, provider, studio, until
from sqlalchemy import Connection, event
from sqlalchemy.dialects.sqlite import Insert as SqliteInsert
from sqlalchemy.engine import Engine
from sqlalchemy.sql.elements import ClauseElement
from store_database import database

__all__ = [
    "database",
    "opened",
    "portable_statements",
    "postgresql",
    "postgresql_cluster",
    "postgresql_url",
    "provider",
    "studio",
    "until",
]

_checked: dict[int, Any] = {}  # the statements that were checked, by identity; they are kept so that it stays theirs


@pytest.fixture(autouse=True)
def portable_statements() -> Iterator[None]:
    """Fails a test that issues a statement which PostgreSQL could not run.

    An insert that looks for a conflict is the database's own; `test_portability.py` compiles those for each table.
    """
    faults: list[str] = []

    def check(connection: Connection, statement: Any, *_: Any) -> None:
        if connection.dialect.name != "sqlite":  # the other one says by itself what it cannot run
            return
        if not isinstance(statement, ClauseElement) or id(statement) in _checked:
            return
        _checked[id(statement)] = statement
        found = constructs_of_sqlite(statement)
        if not isinstance(statement, SqliteInsert):
            compile_for_postgresql(statement)
        if found:
            faults.append(f"{sorted(found)} in {statement}")

    event.listen(Engine, "before_execute", check)
    yield
    event.remove(Engine, "before_execute", check)
    assert not faults
