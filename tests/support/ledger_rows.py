"""What another program finds in a ledger."""

import json
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy import make_url

__all__ = ["parse_json", "read_rows"]


def read_rows(place: Path | str, query: str) -> Sequence[tuple[Any, ...]]:
    """The rows of a query to a file of SQLite, or to a database of PostgreSQL by its URL."""
    if isinstance(place, Path):
        return _read_file(place, query)
    plain = make_url(place).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(plain, autocommit=True) as connection:
        return connection.execute(query.encode()).fetchall()


def _read_file(file: Path, query: str) -> Sequence[tuple[Any, ...]]:
    """None where the process that makes the file has not come to its tables: it names their version last."""
    if not file.exists():
        return []
    with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", timeout=30, uri=True)) as ledger:
        ((version,),) = ledger.execute("PRAGMA user_version")
        return ledger.execute(query).fetchall() if version else []


def parse_json(value: Any) -> Any:
    """What a column of JSON holds: PostgreSQL's driver has parsed it."""
    return json.loads(value) if isinstance(value, str) else value
