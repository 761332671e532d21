"""The store asks nothing of its database that the other could not answer, but for what stands in its own modules.

What it issues while its tests run is checked by the fixture `portable_statements` of `conftest.py`, in every test.
"""

import ast
import importlib
import pkgutil
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from portable_sql import POSTGRESQL, compile_for_postgresql, constructs_of_sqlite
from sqlalchemy import Connection, Table, func, literal_column, select
from sqlalchemy.dialects import sqlite
from sqlalchemy.schema import CreateIndex, CreateTable
from sqlalchemy.sql.base import Executable
from sqlalchemy.sql.elements import ClauseElement

import rotoscope.store
from rotoscope.store.backend import UtcDay, insert_or_ignore, upsert
from rotoscope.store.lease_predicate import CLAIMABLE_OTHERS_LOCKED
from rotoscope.store.schema import jobs, metadata

FOLDER = Path(rotoscope.store.__file__).parent
OF_SQLITE = {"sqlite_health.py", "sqlite.py", "sqlite_probe.py"}
OF_POSTGRESQL = {
    "postgresql_health.py",
    "postgresql.py",
    "postgresql_errors.py",
    "postgresql_listener.py",
    "job_queue.py",
}
POSTGRESQL_WORDS = ("PG_", "NOTIFY", "SYNCHRONOUS_COMMIT", "DIALECTS.POSTGRESQL", "LOCK_TIMEOUT", "TO_REGCLASS")
SQLITE_WORDS = ("PRAGMA", "STRFTIME", "ROWID", "OR IGNORE", "OR REPLACE", "UNIXEPOCH", "SQLITE_", "DIALECTS.SQLITE")


def statements_of_modules() -> dict[str, ClauseElement]:
    """The statements that the store's modules build when they are imported, by where they stand."""
    found: dict[str, ClauseElement] = {}
    for module in pkgutil.iter_modules([str(FOLDER)]):
        if f"{module.name}.py" in OF_POSTGRESQL:
            continue
        for name, value in vars(importlib.import_module(f"rotoscope.store.{module.name}")).items():
            for n, one in enumerate(value if isinstance(value, list | tuple) else [value]):
                if isinstance(one, ClauseElement) and isinstance(one, Executable):
                    found[f"{module.name}.{name}[{n}]"] = one
    return found


STATEMENTS = statements_of_modules()


def test_the_statements_of_the_modules_are_found() -> None:
    assert len(STATEMENTS) > 50


@pytest.mark.parametrize("where", STATEMENTS)
def test_a_statement_of_a_module_compiles_for_postgresql_and_names_nothing_of_sqlite(where: str) -> None:
    assert compile_for_postgresql(STATEMENTS[where])
    assert not constructs_of_sqlite(STATEMENTS[where])


@pytest.mark.parametrize("table", metadata.sorted_tables, ids=lambda table: table.name)
def test_a_table_with_its_indexes_and_upserts_compiles_for_postgresql(table: Table) -> None:
    assert compile_for_postgresql(CreateTable(table))
    assert all(compile_for_postgresql(CreateIndex(index)) for index in table.indexes)
    connected = cast("Connection", SimpleNamespace(dialect=POSTGRESQL))
    others = [column.name for column in table.columns if not column.primary_key]
    assert "ON CONFLICT DO NOTHING" in compile_for_postgresql(insert_or_ignore(connected, table))
    if others:
        assert "DO UPDATE SET" in compile_for_postgresql(upsert(connected, table, *others))


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.py")), ids=lambda path: path.name)
def test_the_words_of_each_database_stand_in_its_own_modules(path: Path) -> None:
    words = [] if path.name in OF_SQLITE | OF_POSTGRESQL else [*SQLITE_WORDS, *POSTGRESQL_WORDS]
    tree = ast.parse(path.read_text(encoding="utf-8"))
    documents = {ast.get_docstring(node, clean=False) for node in ast.walk(tree)
                 if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)}  # fmt: skip
    texts = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert "sqlite3" not in imported or path.name in OF_SQLITE
    assert "psycopg" not in imported or path.name in OF_POSTGRESQL
    assert not {word for word in words for text in (texts - documents) | imported if word in text.upper()}


def test_what_only_postgresql_needs_costs_sqlite_nothing() -> None:
    """Rows are locked only where others may write meanwhile."""
    text = compile_for_postgresql(CLAIMABLE_OTHERS_LOCKED)
    assert text.endswith("FOR NO KEY UPDATE SKIP LOCKED")
    assert "FOR" not in str(CLAIMABLE_OTHERS_LOCKED.compile(dialect=sqlite.dialect()))


def test_what_only_sqlite_has_is_found_in_a_statement() -> None:
    day = func.strftime("%Y-%m-%d", jobs.c.created_at, "unixepoch")
    assert constructs_of_sqlite(select(day)) == {"strftime"}
    assert constructs_of_sqlite(select(jobs.c.id).where(literal_column("jobs.rowid") > 1)) == {"jobs.rowid"}


def test_the_day_of_a_moment_is_rendered_for_each_database() -> None:
    query = select(UtcDay(jobs.c.created_at))
    assert "to_char(to_timestamp(jobs.created_at) AT TIME ZONE 'UTC'" in compile_for_postgresql(query)
    assert "strftime('%Y-%m-%d', jobs.created_at, 'unixepoch')" in str(query.compile(dialect=sqlite.dialect()))
