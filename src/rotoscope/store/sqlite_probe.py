"""Whether a ledger in SQLite holds work, without SQLAlchemy: an idle server asks again and again, and must stay small.

The driver of the standard library answers in some milliseconds, where the imports of the store take half a second.
"""

import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from urllib.parse import unquote

__all__ = ["has_open_jobs"]

# Each half is answered by an index. A lease that lies further ahead than any is, was written by a clock that was wrong.
_OPEN_JOBS_QUERY = """
    SELECT EXISTS (SELECT 1 FROM jobs WHERE state = 'queued')
        OR EXISTS (SELECT 1 FROM jobs WHERE state = 'running'
            AND (lease_until IS NULL OR lease_until < :now OR lease_until > :now + :longest))
"""
_LONGEST_LEASE = 60.0  # seconds
_WAIT_SECONDS = 0.25  # seconds; an idle server looks again and again


def has_open_jobs(database: Path | str, clock: Callable[[], float] = time.time) -> bool:
    """Whether the ledger holds jobs that no process drives: they wait, or their driver's lease is over.

    One that cannot be read now, or is none of ours, has none.

    Args:
        database: a file, or a URL as SQLAlchemy writes it; other databases than SQLite are not looked into.
        clock: the time in Unix seconds.
    """
    return any(_has_open_jobs(file, clock()) for file in _database_files(database))


def _database_files(database: Path | str) -> set[Path]:
    """Where the ledger may be: the versions of SQLAlchemy differ in whether they decode the file of a URL."""
    if isinstance(database, Path):
        return {database}
    scheme, _, place = database.partition(":///")
    file = place.partition("?")[0]
    return {Path(file), Path(unquote(file))} if scheme == "sqlite" and file else set()


def _has_open_jobs(file: Path, now: float) -> bool:
    try:
        with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True, timeout=_WAIT_SECONDS)) as ledger:
            return bool(ledger.execute(_OPEN_JOBS_QUERY, {"now": now, "longest": _LONGEST_LEASE}).fetchone()[0])
    except sqlite3.Error:
        return False
