"""Retention: what is old, ended and told goes; what somebody still has to hear of, or a job needs, stays."""

import hashlib
import os
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from rotoscope.jobs.budget import Settlement
from rotoscope.jobs.database import Database
from rotoscope.jobs.job import Artifact, Job, NewJob, Output, Patch
from rotoscope.jobs.leases import Holder, Leases
from rotoscope.jobs.ledger import Ledger
from rotoscope.jobs.retention import Retention, Swept
from rotoscope.jobs.tempo import Tempo
from rotoscope.media.vault import Kept, Vault
from rotoscope.settings import read_settings

pytestmark = pytest.mark.anyio
DAY = 86_400.0
LIMIT = 30 * DAY
NOTHING = Swept(0, 0)


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000_000.0

    def __call__(self) -> float:
        return self.now


class House:
    """A ledger and a vault under one clock, with what a test does to them."""

    def __init__(self, folder: Path) -> None:
        self.clock = Clock()
        self.file = folder / "ledger.sqlite3"
        self.database = Database(f"sqlite:///{self.file}")
        self.ledger = Ledger(self.database, self.clock)
        self.vault = Vault(folder / "vault")
        self.holder = Holder("me", frozenset({"replicate"}), frozenset({"m"}))

    def sweeper(self, seconds: float = LIMIT) -> Retention:
        return Retention(self.database, self.vault, self.clock, seconds)

    def keep(self, content: bytes) -> Kept:
        """Keep a file, now by the clock."""
        kept = self.vault.keep(content, "image/png")
        os.utime(kept.path, (self.clock.now, self.clock.now))
        return kept

    async def job(self, outputs: tuple[Kept, ...] = (), state: Any = "succeeded", **data: Any) -> Job:
        """A job in a state, with outputs; None leaves it running."""
        opening = await self.ledger.open(NewJob("segment_image", "m", "replicate", "local", False, {}, data, None, 0.5))
        job = await Leases(self.database, self.clock, self.holder, Tempo()).claim(opening.job.id)
        assert job is not None
        files = tuple(
            Output("raw", n, Artifact(one.sha256, one.content_type, one.size)) for n, one in enumerate(outputs)
        )
        return await self.ledger.advance(job, Patch(state=state, outputs=files, settlement=Settlement(500_000, 0.5)))

    async def told(self, outputs: tuple[Kept, ...] = (), state: Any = "succeeded", **data: Any) -> Job:
        job = await self.job(outputs, state, **data)
        await self.ledger.delivered(job.id)
        return job

    def count(self, table: str) -> int:
        with sqlite3.connect(self.file) as ledger:
            (count,) = ledger.execute(f"SELECT count(*) FROM {table}").fetchone()
        return int(count)


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


@pytest.mark.parametrize("state", ["succeeded", "failed", "cancelled"])
async def test_an_old_job_that_was_told_goes_with_its_files(house: House, state: str) -> None:
    kept = house.keep(b"one")
    await house.told((kept,), state)
    house.clock.now += LIMIT
    assert await house.sweeper().sweep() == NOTHING
    house.clock.now += 1
    assert await house.sweeper().sweep() == Swept(1, 1)
    assert not kept.path.exists()
    assert [house.count(table) for table in ("jobs", "outputs", "artifacts", "job_events", "submissions")] == [0] * 5


async def test_what_was_spent_stays_in_the_account(house: House) -> None:
    await house.told()
    house.clock.now += 2 * LIMIT
    await house.sweeper().sweep()
    (spent,) = await house.ledger.spending(0)
    assert (spent.runs, spent.charged) == (1, 0.5)


async def test_a_job_that_nobody_was_told_of_stays_however_old(house: House) -> None:
    kept = house.keep(b"one")
    job = await house.job((kept,))
    house.clock.now += 100 * LIMIT
    assert await house.sweeper().sweep() == NOTHING
    assert (await house.ledger.outputs(job.id))[0].artifact.sha256 == kept.sha256
    assert kept.path.exists()


async def test_a_job_that_was_told_just_now_stays_a_while_longer(house: House) -> None:
    job = await house.job((house.keep(b"one"),))
    house.clock.now += 100 * LIMIT
    await house.ledger.delivered(job.id)
    assert await house.sweeper().sweep() == NOTHING
    house.clock.now += LIMIT + 1
    assert await house.sweeper().sweep() == Swept(1, 1)


async def test_a_job_in_doubt_stays_although_its_doubt_was_told(house: House) -> None:
    await house.told((house.keep(b"one"),), "needs_review")
    house.clock.now += 100 * LIMIT
    assert await house.sweeper().sweep() == NOTHING


async def test_a_file_that_another_job_has_too_stays_with_that_one(house: House) -> None:
    shared, own = house.keep(b"shared"), house.keep(b"own")
    await house.told((shared, own))
    house.clock.now += LIMIT + 1
    await house.told((shared,))
    assert await house.sweeper().sweep() == Swept(1, 1)
    assert (shared.path.exists(), own.path.exists()) == (True, False)
    assert house.count("artifacts") == 1


async def test_a_file_that_an_open_job_was_given_stays(house: House) -> None:
    given = house.keep(b"given")
    await house.told((given,))
    await house.job(state=None, call={"input": {"image": given.uri}}, picture=given.uri)
    house.clock.now += LIMIT + 1
    assert await house.sweeper().sweep() == Swept(1, 0)
    assert given.path.exists()


async def test_a_file_that_no_job_ever_had_goes(house: House) -> None:
    kept = house.keep(b"of a dry run")
    house.clock.now += LIMIT + 1
    assert await house.sweeper().sweep() == Swept(0, 1)
    assert not kept.path.exists()


async def test_a_file_that_was_kept_again_meanwhile_stays(house: House) -> None:
    """A new job may be about to write that it needs it."""
    kept = house.keep(b"one")
    await house.told((kept,))
    house.clock.now += LIMIT + 1
    finding = house.vault.older_than

    class Racing(Vault):
        def older_than(self, before: float) -> list[Path]:
            found = finding(before)
            house.keep(b"one")
            return found

    racing = Retention(house.database, Racing(house.vault.folder), house.clock, LIMIT)
    assert await racing.sweep() == Swept(1, 0)
    assert kept.path.read_bytes() == b"one"


async def test_however_short_the_limit_a_file_is_left_to_the_job_that_is_about_to_claim_it(house: House) -> None:
    """A result is kept first and written to the ledger afterwards, with the others of its job."""
    kept = house.keep(b"on its way")
    await house.job(state=None)
    house.clock.now += 600
    assert await house.sweeper(seconds=0.0).sweep() == NOTHING
    assert kept.path.exists()


async def test_more_jobs_than_one_transaction_takes_go_all(house: House) -> None:
    job = await house.told()
    with sqlite3.connect(house.file) as ledger:
        columns = [row[1] for row in ledger.execute("PRAGMA table_info(jobs)")]
        others = ", ".join("? || id" if name == "id" else name for name in columns)
        for number in range(450):
            ledger.execute(f"INSERT INTO jobs SELECT {others} FROM jobs WHERE id = ?", [f"{number} ", job.id])
    house.clock.now += LIMIT + 1
    assert (await house.sweeper().sweep()).jobs == 451


async def test_the_limit_is_the_operators(tmp_path: Path) -> None:
    home = {"ROTOSCOPE_HOME": str(tmp_path)}
    assert read_settings(home).retention_days == 30
    assert read_settings({**home, "ROTOSCOPE_RETENTION_DAYS": "0.5"}).retention_days == 0.5


def test_the_vault_keeps_a_file_under_the_hash_that_jobs_are_searched_for(house: House) -> None:
    kept = house.keep(b"one")
    assert kept.path.name.partition(".")[0] == hashlib.sha256(b"one").hexdigest()
