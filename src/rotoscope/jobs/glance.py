"""A glance at the ledger that loads nothing: whether a process that just starts has anything to take up."""

import sqlite3
from contextlib import closing
from urllib.parse import urlsplit

__all__ = ["has_open_jobs"]


def has_open_jobs(database_url: str) -> bool:
    """Whether the ledger holds jobs that have not ended. One that cannot be read now, or is none of ours, has none.

    Args:
        database_url: as SQLAlchemy writes it; other databases than SQLite are not looked into.
    """
    parts = urlsplit(database_url)
    if parts.scheme != "sqlite" or not parts.path.strip("/"):
        return False
    file = parts.path.removeprefix("/")
    try:
        with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=1.0)) as ledger:
            query = "SELECT EXISTS (SELECT 1 FROM jobs WHERE state IN ('queued', 'running'))"
            return bool(ledger.execute(query).fetchone()[0])
    except sqlite3.Error:
        return False
