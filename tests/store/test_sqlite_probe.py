"""Where the ledger is: in the home whatever its name, or where the operator's URL says; and the glance looks there."""

import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import pytest

from rotoscope.settings import read_settings
from rotoscope.store.database import Database
from rotoscope.store.job_data import JobPlan
from rotoscope.store.ledger import Ledger
from rotoscope.store.records import NewJob
from rotoscope.store.sqlite_probe import has_open_jobs

pytestmark = pytest.mark.anyio
NEW = NewJob("segment_image", "m", "replicate", "local", False, {}, JobPlan())


async def opened_job(place: Path | str) -> None:
    database = Database(place)
    await Ledger(database, lambda: 1.0).open(NEW)
    await database.aclose()


def open_jobs_in(file: Path) -> int:
    with closing(sqlite3.connect(file)) as ledger:
        return int(ledger.execute("SELECT count(*) FROM jobs WHERE state = 'queued'").fetchone()[0])


@pytest.mark.parametrize("name", ["plain", "My Files", "a#1", "what?", "50%41", "100%", "ü", "a?mode=memory"])
async def test_the_ledger_is_in_its_home_whatever_the_home_is_called_and_the_glance_sees_it(
    tmp_path: Path, name: str
) -> None:
    settings = read_settings({"ROTOSCOPE_HOME": str(tmp_path / name)})
    assert not has_open_jobs(settings.database)
    await opened_job(settings.database)
    assert has_open_jobs(settings.database)
    assert open_jobs_in(tmp_path / name / "ledger.sqlite3") == 1
    assert [one.name for one in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("words", ["sqlite:///{folder}/own.sqlite3", "sqlite:///{folder}/own.sqlite3?timeout=9"])
async def test_a_url_that_the_operator_set_says_where_the_ledger_is(tmp_path: Path, words: str) -> None:
    url = words.format(folder=tmp_path)
    settings = read_settings({"ROTOSCOPE_HOME": str(tmp_path / "home"), "ROTOSCOPE_DATABASE_URL": url})
    assert settings.database == url
    await opened_job(settings.database)
    assert has_open_jobs(settings.database)
    assert open_jobs_in(tmp_path / "own.sqlite3") == 1


async def test_the_glance_sees_the_ledger_of_a_url_with_escapes(tmp_path: Path) -> None:
    url = f"sqlite:///{quote(str(tmp_path / 'my ledger#1.sqlite3'))}"
    await opened_job(url)
    assert has_open_jobs(url)


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "postgresql://host/name", "nonsense", ""])
def test_what_is_no_file_of_sqlite_is_not_looked_into(url: str) -> None:
    assert not has_open_jobs(url)


@pytest.mark.parametrize(
    ("state", "lease", "wanted"),
    [
        ("queued", None, True),
        ("running", 1_000.5, False),
        ("running", 1_014.0, False),
        ("running", 999.0, True),
        ("running", None, True),
        ("running", 4_600.0, True),
        ("needs_review", None, False),
        ("succeeded", None, False),
    ],
    ids=["waits", "just driven", "driven", "left", "without a lease", "a wrong clock's lease", "in doubt", "ended"],
)
async def test_only_a_job_that_nobody_drives_is_something_to_take_up(
    tmp_path: Path, state: str, lease: float | None, wanted: bool
) -> None:
    file = tmp_path / "ledger.sqlite3"
    await opened_job(file)
    with closing(sqlite3.connect(file, isolation_level=None)) as ledger:
        ledger.execute("UPDATE jobs SET state = ?, lease_until = ?", [state, lease])
    assert has_open_jobs(file, lambda: 1_000.0) is wanted


async def test_a_glance_does_not_wait_for_who_writes(tmp_path: Path) -> None:
    file = tmp_path / "ledger.sqlite3"
    await opened_job(file)
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        assert has_open_jobs(file)
