"""Checks that a statement of SQLAlchemy's is one that PostgreSQL can run, without a PostgreSQL."""

from sqlalchemy.dialects.postgresql.base import PGDialect
from sqlalchemy.sql.elements import ClauseElement, ColumnClause, TextClause
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.sql.visitors import iterate

__all__ = ["POSTGRESQL", "compile_for_postgresql", "constructs_of_sqlite"]

POSTGRESQL = PGDialect()  # type: ignore[no-untyped-call]  # SQLAlchemy left its constructor without types
# What both databases have under the same name, and what the store renders for each of them.
_FUNCTIONS = {"coalesce", "count", "lower", "max", "min", "sum", "utc_day"}


def compile_for_postgresql(statement: ClauseElement) -> str:
    """The text of a statement as PostgreSQL would get it.

    Raises:
        CompileError: it holds a construct that PostgreSQL's dialect does not know.
    """
    return str(statement.compile(dialect=POSTGRESQL))


def constructs_of_sqlite(statement: ClauseElement) -> set[str]:
    """What compiles for PostgreSQL although it may not have it: functions by their names, and raw SQL by its text."""
    found = set[str]()
    for element in iterate(statement):
        if isinstance(element, FunctionElement) and getattr(element, "name", "") not in _FUNCTIONS:
            found.add(str(getattr(element, "name", "")))
        if isinstance(element, TextClause) or (isinstance(element, ColumnClause) and element.is_literal):
            found.add(str(element))
    found.discard("*")  # of count(*)
    return found
