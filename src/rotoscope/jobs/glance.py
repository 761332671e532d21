"""A glance at the ledger that loads nothing: whether a process that just starts has anything to take up."""

import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import unquote

__all__ = ["has_open_jobs"]


def has_open_jobs(database: Path | str) -> bool:
    """Whether the ledger holds jobs that have not ended. One that cannot be read now, or is none of ours, has none.

    Args:
        database: a file, or a URL as SQLAlchemy writes it; other databases than SQLite are not looked into.
    """
    return any(map(_holds_open_jobs, _files(database)))


def _files(database: Path | str) -> set[Path]:
    """Where the ledger may be: the versions of SQLAlchemy differ in whether they decode the file of a URL."""
    if isinstance(database, Path):
        return {database}
    scheme, _, place = database.partition(":///")
    file = place.partition("?")[0]
    return {Path(file), Path(unquote(file))} if scheme == "sqlite" and file else set()


def _holds_open_jobs(file: Path) -> bool:
    try:
        with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True, timeout=1.0)) as ledger:
            query = "SELECT EXISTS (SELECT 1 FROM jobs WHERE state IN ('queued', 'running'))"
            return bool(ledger.execute(query).fetchone()[0])
    except sqlite3.Error:
        return False
