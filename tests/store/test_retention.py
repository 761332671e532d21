"""Retention: what is old, ended and delivered goes; what somebody still has to receive, or a job needs, stays."""

import hashlib
import os
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from store_database import StoreDatabase

from rotoscope.errors import StorageFailed
from rotoscope.media.vault import FolderVault, StoredFile
from rotoscope.models.estimate import LearnedSeconds
from rotoscope.settings import read_settings
from rotoscope.store.durations import RunKind, record_duration
from rotoscope.store.job_data import JobPlan
from rotoscope.store.leases import JobDriver, Leases
from rotoscope.store.ledger import Ledger
from rotoscope.store.money import Settlement
from rotoscope.store.records import Artifact, Job, NewJob, Output, Patch
from rotoscope.store.retention import Retention, SweepResult
from rotoscope.store.schema import jobs
from rotoscope.store.timing import Intervals
from rotoscope.store.write_locks import WriteLock

pytestmark = pytest.mark.anyio
DAY = 86_400.0
LIMIT = 30 * DAY
NOTHING = SweepResult(0, 0)


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000_000.0

    def __call__(self) -> float:
        return self.now


class House:
    """A ledger and a vault under one clock, with what a test does to them."""

    def __init__(self, folder: Path, database: StoreDatabase) -> None:
        self.clock = Clock()
        self.execute = database.execute
        self.database = database.connect()
        self.ledger = Ledger(self.database, self.clock)
        self.vault = FolderVault(folder / "vault")
        self.holder = JobDriver("me", frozenset({"replicate"}), frozenset({"m"}))

    def sweeper(self, seconds: float = LIMIT) -> Retention:
        return Retention(self.database, self.vault, self.clock, seconds)

    def keep(self, content: bytes) -> StoredFile:
        """Keep a file, now by the clock."""
        kept = self.vault.put_bytes(content, "image/png")
        os.utime(self.path_of(kept), (self.clock.now, self.clock.now))
        return kept

    def path_of(self, kept: StoredFile) -> Path:
        """Where a file lies, or lay before it was removed."""
        return self.vault.folder / kept.sha256[:2] / f"{kept.sha256}.png"

    async def job(
        self, outputs: tuple[StoredFile, ...] = (), state: Any = "succeeded", given: tuple[StoredFile, ...] = ()
    ) -> Job:
        """A job in a state, with outputs, that was given some files; None leaves it running."""
        new = NewJob("segment_image", "m", "replicate", "local", False, {}, JobPlan(), None, 0.5)
        opening = await self.ledger.open(replace(new, inputs=tuple(one.sha256 for one in given)))
        job = await Leases(self.database, self.clock, self.holder, Intervals()).claim(opening.job.id)
        assert job is not None
        files = tuple(
            Output("raw", n, Artifact(one.sha256, one.content_type, one.size)) for n, one in enumerate(outputs)
        )
        return await self.ledger.advance(job, Patch(state=state, outputs=files, settlement=Settlement(500_000, 0.5)))

    async def deliver(self, outputs: tuple[StoredFile, ...] = (), state: Any = "succeeded") -> Job:
        job = await self.job(outputs, state)
        await self.ledger.mark_delivered(job.id, "local")
        return job

    def count(self, table: str) -> int:
        ((count,),) = self.execute(f"SELECT count(*) FROM {table}")
        return int(count)


@pytest.fixture
def house(tmp_path: Path, database: StoreDatabase) -> House:
    return House(tmp_path, database)


@pytest.fixture
def sqlite_house(tmp_path: Path) -> House:
    """For what only SQLite can be asked: how many rows a transaction changed, and how many pages its file has."""
    return House(tmp_path, StoreDatabase(f"sqlite:///{tmp_path / 'ledger.sqlite3'}"))


@pytest.mark.parametrize("state", ["succeeded", "failed", "cancelled"])
async def test_an_old_job_that_was_delivered_goes_with_its_files(house: House, state: str) -> None:
    kept = house.keep(b"one")
    await house.deliver((kept,), state)
    house.clock.now += LIMIT
    assert await house.sweeper().sweep() == NOTHING
    house.clock.now += 1
    assert await house.sweeper().sweep() == SweepResult(1, 1)
    assert not house.path_of(kept).exists()
    assert [house.count(table) for table in ("jobs", "outputs", "artifacts", "job_events", "submissions")] == [0] * 5


async def test_what_was_spent_stays_in_the_account(house: House) -> None:
    await house.deliver()
    house.clock.now += 2 * LIMIT
    await house.sweeper().sweep()
    (spent,) = await house.ledger.spending_of_all_principals(0)
    assert (spent.runs, spent.charged) == (1, 0.5)


async def test_a_job_that_was_not_delivered_stays_four_times_as_long_and_goes_then(house: House) -> None:
    kept = house.keep(b"one")
    job = await house.job((kept,))
    for _ in range(4):
        house.clock.now += LIMIT
        await house.job(state="needs_review")  # something happens
        assert await house.sweeper().sweep() == NOTHING
    assert (await house.ledger.outputs(job.id, "local"))[0].artifact.sha256 == kept.sha256
    house.clock.now += 1
    assert await house.sweeper().sweep() == SweepResult(1, 1)


async def test_a_job_that_was_delivered_just_now_stays_a_while_longer(house: House) -> None:
    job = await house.job((house.keep(b"one"),))
    house.clock.now += 100 * LIMIT
    await house.ledger.mark_delivered(job.id, "local")
    assert await house.sweeper().sweep() == NOTHING
    house.clock.now += LIMIT + 1
    assert await house.sweeper().sweep() == SweepResult(1, 1)


async def test_a_job_in_doubt_stays_although_it_was_delivered(house: House) -> None:
    await house.deliver((house.keep(b"one"),), "needs_review")
    house.clock.now += 100 * LIMIT
    await house.job(state=None)  # something happens
    assert await house.sweeper().sweep() == NOTHING


async def test_a_file_that_another_job_has_too_stays_with_that_one(house: House) -> None:
    shared, own = house.keep(b"shared"), house.keep(b"own")
    await house.deliver((shared, own))
    house.clock.now += LIMIT + 1
    await house.deliver((shared,))
    assert await house.sweeper().sweep() == SweepResult(1, 1)
    assert (house.path_of(shared).exists(), house.path_of(own).exists()) == (True, False)
    assert house.count("artifacts") == 1


async def test_a_file_that_an_open_job_was_given_stays(house: House) -> None:
    given = house.keep(b"given")
    await house.deliver((given,))
    await house.job(state=None, given=(given,))
    house.clock.now += LIMIT + 1
    assert await house.sweeper().sweep() == SweepResult(1, 0)
    assert house.path_of(given).exists()


async def test_a_file_that_no_job_ever_had_goes(house: House) -> None:
    kept = house.keep(b"of a dry run")
    house.clock.now += LIMIT + 1
    assert await house.sweeper().sweep() == SweepResult(0, 1)
    assert not house.path_of(kept).exists()


async def test_a_file_that_was_kept_again_meanwhile_stays(house: House) -> None:
    """A new job may be about to write that it needs it."""
    kept = house.keep(b"one")
    await house.deliver((kept,))
    house.clock.now += LIMIT + 1
    finding = house.vault.hashes_older_than

    class Racing(FolderVault):
        def hashes_older_than(self, before: float, prefix: str = "") -> list[str]:
            found = finding(before, prefix)
            house.keep(b"one")
            return found

    racing = Retention(house.database, Racing(house.vault.folder), house.clock, LIMIT)
    assert await racing.sweep() == SweepResult(1, 0)
    assert house.path_of(kept).read_bytes() == b"one"


async def test_however_short_the_limit_a_file_is_left_to_the_job_that_is_about_to_claim_it(house: House) -> None:
    """A result is kept first and written to the ledger afterwards, with the others of its job."""
    kept = house.keep(b"on its way")
    await house.job(state=None)
    house.clock.now += 600
    assert await house.sweeper(seconds=0.0).sweep() == NOTHING
    assert house.path_of(kept).exists()


async def test_more_jobs_than_one_transaction_takes_go_all(house: House) -> None:
    job = await house.deliver()
    names = [column.name for column in jobs.columns]
    copied = f"INSERT INTO jobs ({', '.join(names)}) SELECT {', '.join(names)} FROM jobs WHERE id = '{job.id}'"
    house.execute(*(copied.replace("SELECT id", f"SELECT '{number} ' || id") for number in range(450)))
    house.clock.now += LIMIT + 1
    assert (await house.sweeper().sweep()).jobs == 451


async def test_the_limit_is_the_operators(tmp_path: Path) -> None:
    home = {"ROTOSCOPE_HOME": str(tmp_path)}
    assert read_settings(home).retention_days == 30
    assert read_settings({**home, "ROTOSCOPE_RETENTION_DAYS": "0.5"}).retention_days == 0.5


def test_the_vault_keeps_a_file_under_the_hash_that_jobs_are_searched_for(house: House) -> None:
    kept = house.keep(b"one")
    assert house.path_of(kept).name.partition(".")[0] == hashlib.sha256(b"one").hexdigest()


# --- clocks that jump


async def looked_every_day(house: House, days: int) -> SweepResult:
    """What goes by itself while the clock goes on and somebody works every day."""
    jobs = files = 0
    for _ in range(days):
        house.clock.now += DAY
        swept = await house.sweeper().sweep_when_sure()
        jobs, files = jobs + swept.jobs, files + swept.files
    return SweepResult(jobs, files)


@pytest.mark.parametrize("days", [31, 400, 30_000])
async def test_a_jump_of_the_clock_removes_nothing(house: House, days: int) -> None:
    kept = house.keep(b"one")
    await house.deliver((kept,))
    assert await house.sweeper().sweep_when_sure() == NOTHING
    house.clock.now += days * DAY
    await house.deliver()  # work goes on under the wrong clock
    for work in (house.sweeper().sweep_when_sure, house.sweeper().sweep_briefly):
        for _ in range(5):
            assert await work() == NOTHING
            house.clock.now += 3600
    house.clock.now -= days * DAY
    assert await house.sweeper().sweep_when_sure() == NOTHING
    assert await looked_every_day(house, 29) == NOTHING
    assert house.path_of(kept).exists()
    assert await looked_every_day(house, 2) == SweepResult(1, 1)


async def test_a_jump_before_anybody_ever_looked_removes_nothing(house: House) -> None:
    await house.deliver((house.keep(b"one"),))
    house.clock.now += 40 * DAY
    assert await house.sweeper().sweep_briefly() == NOTHING
    assert await house.sweeper().sweep_when_sure() == NOTHING


async def test_who_was_away_for_long_has_what_is_old_removed_a_day_later(house: House) -> None:
    kept = house.keep(b"one")
    await house.deliver((kept,))
    house.clock.now += 40 * DAY
    assert await house.sweeper().sweep_when_sure() == NOTHING
    assert await looked_every_day(house, 1) == SweepResult(1, 1)


async def test_a_clock_that_was_far_behind_makes_nothing_old_when_it_is_set_right(house: House) -> None:
    house.clock.now -= 10_000 * DAY
    await house.deliver((house.keep(b"one"),))
    await house.sweeper().sweep_when_sure()
    house.clock.now += 10_000 * DAY
    assert await house.sweeper().sweep_when_sure() == NOTHING


async def test_a_person_removes_at_once_unless_nothing_has_happened_for_too_long(house: House) -> None:
    await house.deliver()
    house.clock.now += LIMIT + 1
    assert await house.sweeper().sweep() == SweepResult(1, 0)
    await house.deliver()
    house.clock.now += 400 * DAY
    with pytest.raises(StorageFailed, match="400 days, or the clock is wrong"):
        await house.sweeper().sweep()
    assert house.count("jobs") == 1


# --- in small steps


async def test_processes_that_live_for_one_call_remove_a_little_each(house: House) -> None:
    for number in range(25):
        await house.deliver((house.keep(b"%d" % number),))
    await looked_every_day(house, 29)
    house.clock.now += 2 * DAY
    first, second = await house.sweeper().sweep_briefly(), await house.sweeper().sweep_briefly()
    assert (first.jobs, second.jobs) == (20, 5)
    assert first.files + second.files == 25
    assert house.count("artifacts") == 0


async def test_a_file_that_no_job_ever_had_goes_also_where_processes_live_for_one_call(house: House) -> None:
    kept = house.keep(b"of a dry run")
    await house.job(state=None)
    house.clock.now += 31 * DAY
    await house.job(state=None)
    for _ in range(256):
        house.clock.now += 1
        await house.sweeper().sweep_briefly()
    assert not house.path_of(kept).exists()


async def test_a_sweep_removes_few_rows_in_one_transaction(
    sqlite_house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others write between its steps: none holds the lock for long."""
    for number in range(60):
        await sqlite_house.deliver((sqlite_house.keep(b"%d" % number),))
    for _ in range(5):
        sqlite_house.execute(
            "INSERT INTO job_events (job_id, at, type, data) SELECT id, 1000000000, 'x', '{}' FROM jobs",
            "INSERT INTO job_events (job_id, at, type, data) SELECT job_id, at, type, data FROM job_events",
        )
    sqlite_house.clock.now += LIMIT + 1
    removed: list[int] = []
    transact = sqlite_house.database.transact

    async def counted(work: Any, *, writes: bool = True, **more: Any) -> Any:
        def counting(connection: Any) -> Any:
            before = connection.connection.driver_connection.total_changes
            found = work(connection)
            removed.append(connection.connection.driver_connection.total_changes - before)
            return found

        return await transact(counting, writes=writes, **more)

    monkeypatch.setattr(sqlite_house.database, "transact", counted)
    assert await sqlite_house.sweeper().sweep() == SweepResult(60, 60)
    assert max(removed) <= 1000
    assert sqlite_house.count("job_events") == 0


async def test_new_jobs_use_the_space_that_old_ones_left(sqlite_house: House) -> None:
    async def filled() -> int:
        for number in range(30):
            await sqlite_house.deliver((sqlite_house.keep(b"%d" % number),))
        return int(sqlite_house.execute("PRAGMA page_count")[0][0])

    before = await filled()
    for _ in range(5):
        sqlite_house.clock.now += LIMIT + 1
        await sqlite_house.sweeper().sweep()
        after = await filled()
    assert after <= before * 1.3


async def test_the_progress_of_a_job_is_kept_while_it_runs_and_what_matters_of_it_afterwards(house: House) -> None:
    opening = await house.ledger.open(NewJob("segment_image", "m", "replicate", "local", False, {}, JobPlan()))
    job = await Leases(house.database, house.clock, house.holder, Intervals()).claim(opening.job.id)
    assert job is not None
    for _ in range(3):
        job = await house.ledger.advance(job, Patch(progress=0.5, event="progress"))
    assert house.count("job_events WHERE type = 'progress'") == 3
    await house.ledger.advance(job, Patch(state="succeeded"))
    left = house.execute("SELECT type FROM job_events ORDER BY seq")
    assert left == [("opened",), ("claimed",), ("changed",)]


async def test_who_listens_is_notified_of_a_new_job_although_a_sweep_removed_the_newest_events(house: House) -> None:
    leases = Leases(house.database, house.clock, house.holder, Intervals())
    await house.deliver()
    await house.deliver()
    received, _ = await leases.changes_since(None)
    house.clock.now += LIMIT + 1
    await house.sweeper().sweep()
    received, _ = await leases.changes_since(received)
    job = await house.job(state=None)
    assert job.id in (await leases.changes_since(received))[1]


# --- what outlives its job


async def test_a_run_stays_known_for_as_long_as_a_provider_may_list_it(house: House) -> None:
    opening = await house.ledger.open(NewJob("segment_image", "m", "replicate", "local", False, {}, JobPlan()))
    job = await Leases(house.database, house.clock, house.holder, Intervals()).claim(opening.job.id)
    assert job is not None
    await house.ledger.commit_intent(job, "digest")
    await house.ledger.write_prediction_id(job.id, "local", "p1")
    await house.ledger.advance(job, Patch(state="succeeded"))
    await house.ledger.mark_delivered(job.id, "local")
    for days, known in ((1, True), (88, True), (2, False)):
        house.clock.now += days * DAY
        await house.job(state=None)
        await house.sweeper(seconds=0.0).sweep()
        assert house.count("jobs WHERE state = 'succeeded'") == 0
        assert ("p1" in await house.ledger.runs_of_other_jobs("replicate", ["p1"], "another job")) is known


async def test_only_the_latest_durations_of_a_kind_are_kept(house: House) -> None:
    kind = RunKind("m", "replicate", "small", sandbox=False)
    for number in range(80):
        house.clock.now += 1
        now, length = house.clock.now, float(number)
        await house.database.transact(
            partial(record_duration, job_id=str(number), kind=kind, seconds=length, now=now), lock=WriteLock()
        )
    assert house.count("durations") <= 51
    learned = await house.ledger.learned_seconds("m", "replicate", "small", sandbox=False)
    assert learned == LearnedSeconds(median=75.0, p99=79.0, runs=50)
