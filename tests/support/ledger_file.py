"""The ledger's file as another program sees it: opened, changed, and closed again."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

__all__ = ["ledger_file"]


@contextmanager
def ledger_file(path: Path | str) -> Iterator[sqlite3.Connection]:
    """A connection whose changes are committed at the end; `sqlite3`'s own context leaves it open."""
    with closing(sqlite3.connect(path)) as connection, connection:
        yield connection
