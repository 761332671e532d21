"""What one look tells of a ledger, in every database: its version, what stands still, and that nothing is changed."""

import sqlite3
import time
from contextlib import closing
from pathlib import Path

import anyio
import pytest
from store_database import StoreDatabase

from rotoscope.store.health import LedgerHealth
from rotoscope.store.job_data import JobPlan
from rotoscope.store.ledger import Ledger
from rotoscope.store.postgresql_health import read_postgresql_health
from rotoscope.store.records import NewJob
from rotoscope.store.schema import SCHEMA_VERSION
from rotoscope.store.sqlite_health import read_sqlite_health

NEW = NewJob("segment_image", "m", "replicate", "local", False, {}, JobPlan())


def look(place: Path | str, at: float | None = None, seconds: float = 5.0) -> LedgerHealth:
    """A look at a ledger at some moment; None: now."""

    def clock() -> float:
        return time.time() if at is None else at

    if isinstance(place, str) and place.startswith("postgresql"):
        return read_postgresql_health(place, clock)
    return read_sqlite_health(place, seconds, clock)


@pytest.fixture
def job_ids(database: StoreDatabase) -> tuple[str, ...]:
    """Two open jobs that no process drives, the oldest first."""
    if "vfs=" in database.url:
        pytest.skip("it has no path that a look can open")

    async def open_jobs() -> tuple[str, ...]:
        ledger = Ledger(database.connect(), time.time)
        return tuple([(await ledger.open(NEW)).job.id for _ in "ab"])

    return anyio.run(open_jobs)


def test_a_look_counts_what_waits_and_what_stands_still(database: StoreDatabase, job_ids: tuple[str, ...]) -> None:
    database.execute(f"UPDATE jobs SET state = 'needs_review' WHERE id = '{job_ids[0]}'")
    now = look(database.url)
    assert (now.fault, now.schema, now.exists) == ("", SCHEMA_VERSION, True)
    assert (now.reviews, now.review_ids, now.open, now.idle) == (1, (job_ids[0],), 1, 0)
    later = look(database.url, time.time() + 60)
    assert (later.idle, later.idle_ids, later.drivers) == (1, (job_ids[1],), 0)
    assert bool(now.server) is database.is_postgresql


def test_a_newer_ledger_is_a_fault_and_its_jobs_are_not_read(database: StoreDatabase, job_ids: tuple[str, ...]) -> None:
    newer = f"UPDATE properties SET value = '{SCHEMA_VERSION + 1}' WHERE name = 'schema'"
    database.execute(newer if database.is_postgresql else f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    found = look(database.url)
    assert "newer rotoscope" in found.fault
    assert found.hint
    assert (found.open, len(job_ids)) == (0, 2)


def test_a_file_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    found = look(tmp_path / "away" / "ledger.sqlite3")
    assert (found.exists, found.fault) == (False, "")
    assert not (tmp_path / "away").exists()


def test_an_older_ledger_is_left_as_it_is(tmp_path: Path) -> None:
    schema = (Path(__file__).parent / "fixtures" / "ledger_schema_1.sql").read_text(encoding="utf-8")
    with closing(sqlite3.connect(tmp_path / "old.sqlite3")) as ledger:
        ledger.executescript(schema)
    before = (tmp_path / "old.sqlite3").read_bytes()
    found = look(tmp_path / "old.sqlite3")
    assert (found.fault, found.schema, found.integrity) == ("", 1, "whole")
    assert (tmp_path / "old.sqlite3").read_bytes() == before


def test_a_check_whose_time_is_over_is_broken_off(tmp_path: Path) -> None:
    file = tmp_path / "large.sqlite3"
    with closing(sqlite3.connect(file, isolation_level=None)) as ledger:
        ledger.execute("CREATE TABLE many (a INTEGER PRIMARY KEY, b TEXT)")
        ledger.execute(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 50000) "
            "INSERT INTO many SELECT i, 'text ' || i FROM n"
        )
    assert look(file, seconds=-1.0).integrity == "unfinished"
    assert look(file, seconds=60.0).integrity == "whole"


def test_an_address_of_a_server_that_cannot_be_read_is_a_fault() -> None:
    assert look("postgresql+psycopg://host:port/name").fault
