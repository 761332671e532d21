"""Several that write at once: what must hold all the same, on each database; and who need not wait for whom."""

import random
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

import anyio
import pytest
from calls import SECONDS
from postgresql import PostgresqlServer
from store_database import StoreDatabase, hold_lock

from rotoscope.errors import InvalidInput, OverBudget, StorageFailed, UnknownJob
from rotoscope.media.vault import FolderVault
from rotoscope.store.database import Database
from rotoscope.store.job_data import JobPlan
from rotoscope.store.leases import JobDriver, Leases
from rotoscope.store.ledger import Ledger, LostLease
from rotoscope.store.money import Caps, ResendPolicy, Settlement
from rotoscope.store.quotes import Quotes
from rotoscope.store.records import Artifact, Job, NewJob, OpenResult, Output, Patch
from rotoscope.store.retention import Retention
from rotoscope.store.run_limits import RunLimits
from rotoscope.store.timing import Intervals
from rotoscope.store.write_locks import WriteLock, name_spending

pytestmark = pytest.mark.anyio
TEMPO = Intervals()
Work = Callable[[], Coroutine[Any, Any, object]]
FILES = ["a" * 64, "b" * 64, "c" * 64]
CALLS = 5  # of a client whose turn does not come


def clock() -> float:
    return 1_000_000.0


def new_job(principal: str = "local", key: str | None = None, usd: float | None = None) -> NewJob:
    return NewJob("segment_image", "m", "replicate", principal, False, {}, JobPlan(), key, usd)


@pytest.fixture
async def processes(database: StoreDatabase) -> list[Database]:
    """Four processes on one ledger, each with connections of its own."""
    opened = [database.connect() for _ in range(4)]
    for one in opened:
        await one.change_counter()
    return opened


@pytest.fixture
def ledger_url(postgresql: PostgresqlServer) -> Iterator[str]:
    with postgresql.new_ledger() as url:
        yield url


async def run_at_once(works: Sequence[Work]) -> None:
    with anyio.fail_after(SECONDS):
        async with anyio.create_task_group() as tasks:
            for work in works:
                tasks.start_soon(work)


def leases_of(database: Database, owner: str, limits: RunLimits | None = None) -> Leases:
    driver = JobDriver(owner, frozenset({"replicate"}), frozenset({"m"}), limits or RunLimits())
    return Leases(database, clock, driver, TEMPO)


async def claimed(database: Database, owner: str = "me", **new: Any) -> Job:
    job = await leases_of(database, owner).claim((await Ledger(database, clock).open(new_job(**new))).job.id)
    assert job is not None
    return job


# --- what must hold


async def test_equal_requests_in_one_moment_open_one_job(processes: list[Database], database: StoreDatabase) -> None:
    found: list[OpenResult] = []

    async def open_one(process: Database) -> None:
        found.append(await Ledger(process, clock).open(new_job(key="same")))

    await run_at_once([partial(open_one, process) for process in processes * 5])
    assert len({one.job.id for one in found}) == 1
    assert [one.is_joined for one in found].count(False) == 1
    assert database.execute("SELECT count(*) FROM jobs") == [(1,)]


@pytest.mark.parametrize("of_all", [False, True], ids=["one principal", "all principals"])
async def test_a_cap_holds_however_many_open_jobs_in_one_moment(
    processes: list[Database], database: StoreDatabase, of_all: bool
) -> None:
    caps = Caps(per_day=None if of_all else 1.0, per_day_for_all=1.0 if of_all else None)
    refused = Counter[str]()

    async def open_one(process: Database, number: int) -> None:
        principal = f"principal {number % 7}" if of_all else "local"
        for _ in range(CALLS):
            try:
                await Ledger(process, clock).open(new_job(principal, usd=0.1), caps)
            except OverBudget:
                refused["budget"] += 1
            except StorageFailed:
                continue  # a busy machine: its turn did not come in the time that a client waits, who calls again
            return

    count = 1000 if database.is_postgresql else 40
    await run_at_once([partial(open_one, processes[number % 4], number) for number in range(count)])
    assert database.execute("SELECT count(*), sum(reserved) FROM reservations") == [(10, 1_000_000)]
    assert refused["budget"] == count - 10


async def test_a_cap_holds_while_runs_are_sent_and_sent_again(
    processes: list[Database], database: StoreDatabase
) -> None:
    """A run that is just being sent is in one of the two sums, never in none."""
    caps, policy = Caps(per_day=1.0), ResendPolicy(below_usd=1.0, per_day=1.0)
    jobs = [await claimed(processes[0], usd=0.1) for _ in range(6)]

    async def send(process: Database, job: Job) -> None:
        ledger = Ledger(process, clock)
        for _ in range(5):
            intent = await ledger.commit_intent(job, "digest")
            assert intent is not None
            await ledger.withdraw_intent(intent)
        intent = await ledger.commit_intent(job, "digest")
        assert intent is not None
        await ledger.allow_resend(job, intent, Patch(event="progress"), 0.1, policy)

    async def open_some(process: Database) -> None:
        for _ in range(10):
            with suppress(OverBudget):
                await Ledger(process, clock).open(new_job(usd=0.1), caps)

    sending = [partial(send, processes[number % 4], job) for number, job in enumerate(jobs)]
    await run_at_once([*sending, *(partial(open_some, process) for process in processes)])
    assert database.execute("SELECT sum(reserved) FROM reservations") == [(1_000_000,)]


async def test_a_providers_limit_holds_however_many_claim_in_one_moment(
    processes: list[Database], database: StoreDatabase
) -> None:
    ledger, taken = Ledger(processes[0], clock), list[Job]()
    opened = [(await ledger.open(new_job())).job.id for _ in range(12)]

    async def claim(process: Database, owner: str, first: int) -> None:
        leases = leases_of(process, owner, RunLimits({"replicate": 5}))
        for job_id in opened[first:] + opened[:first]:  # each begins with another one
            job = await leases.claim(job_id)
            taken.extend([job] if job is not None else [])
        taken.extend(await leases.claim_several())

    await run_at_once([partial(claim, process, f"p{number}", 3 * number) for number, process in enumerate(processes)])
    assert len(taken) == len({job.id for job in taken}) == 5
    assert database.execute("SELECT count(*) FROM jobs WHERE state = 'running' AND fence = 1") == [(5,)]


async def test_a_job_that_ends_in_the_moment_in_which_its_lease_is_over_is_not_driven_again(
    processes: list[Database], database: StoreDatabase
) -> None:
    """Whoever looks for it sees it running; before it is taken it has ended."""
    late = 1_000_000.0 + TEMPO.lease + 1
    driver = JobDriver("other", frozenset({"replicate"}), frozenset({"m"}))
    other = Leases(processes[1], lambda: late, driver, TEMPO)
    for _ in range(10):
        job = await claimed(processes[0])
        ended = partial(Ledger(processes[0], clock).advance, job, Patch(state="succeeded", stage="done"))

        async def end(write: Work = ended) -> None:
            with suppress(LostLease):
                await write()

        await run_at_once([end, other.claim_several, partial(other.claim, job.id)])
    rows = database.execute("SELECT state, stage, fence FROM jobs")
    assert {(state, fence) for state, stage, fence in rows} <= {("succeeded", 1), ("running", 2)}
    assert all(stage == ("done" if state == "succeeded" else "prepare") for state, stage, _ in rows)


async def test_of_jobs_with_one_token_in_one_moment_one_writes_it(
    processes: list[Database], database: StoreDatabase
) -> None:
    jobs = [await claimed(processes[0]) for _ in range(8)]
    intend = [
        partial(Ledger(processes[number % 4], clock).commit_intent, job, "digest", "token")
        for number, job in enumerate(jobs)
    ]
    await run_at_once(intend)
    assert database.execute("SELECT count(*), count(token) FROM submissions") == [(8, 1)]


async def test_a_run_that_several_jobs_claim_in_one_moment_belongs_to_one(
    processes: list[Database], database: StoreDatabase
) -> None:
    jobs, ours = [await claimed(processes[0]) for _ in range(8)], list[bool]()
    for job in jobs:
        await Ledger(processes[0], clock).commit_intent(job, "digest")

    async def claim(process: Database, job: Job) -> None:
        ours.append(await Ledger(process, clock).write_prediction_id(job.id, "local", "p1"))

    await run_at_once([partial(claim, processes[number % 4], job) for number, job in enumerate(jobs)])
    assert sorted(ours) == [False] * 7 + [True]
    assert database.execute("SELECT count(prediction_id) FROM submissions") == [(1,)]


async def test_a_quote_that_several_use_in_one_moment_covers_one_run(processes: list[Database]) -> None:
    await Quotes(processes[0], clock, 600).record_quote("local", "key", 1.0)
    covered: list[bool] = []

    async def use(process: Database) -> None:
        covered.append(await Quotes(process, clock, 600).consume_quote("local", "key", 1.0))

    await run_at_once([partial(use, process) for process in processes * 3])
    assert covered.count(True) == 1


async def test_everything_at_once_ends_without_a_lock_that_is_waited_for_in_vain(
    processes: list[Database], database: StoreDatabase, tmp_path: Any
) -> None:
    """Every kind of write, on a few jobs with files in common, in an order that nobody has chosen."""
    lots = random.Random(5)
    jobs = [await claimed(processes[number % 4], f"p{number % 4}", usd=0.01) for number in range(6)]
    vault = FolderVault(tmp_path)

    def outputs() -> tuple[Output, ...]:
        kept = lots.sample(FILES, 2)
        return tuple(
            Output("mask", n, Artifact(sha256, "image/png", 1, {"width": lots.random()}))
            for n, sha256 in enumerate(kept)
        )

    def works(process: Database, number: int) -> list[Work]:
        ledger, job = Ledger(process, clock), lots.choice(jobs)
        leases = leases_of(process, f"p{number % 4}")
        settled = Patch(event="progress", settlement=Settlement(1, 0.1))
        return [
            partial(ledger.open, replace(new_job(usd=0.01), inputs=tuple(FILES[:2])), Caps(per_day=1e6)),
            partial(ledger.open, new_job("other", "same"), Caps(per_day_for_all=1e6)),
            partial(ledger.advance, job, Patch(event="progress", outputs=outputs())),
            partial(ledger.advance, job, settled),
            partial(ledger.restore_outputs, job.id, "local", outputs()),
            partial(ledger.commit_intent, job, "digest", lots.choice("xy")),
            partial(ledger.write_prediction_id, job.id, "local", lots.choice("pq")),
            partial(ledger.mark_used, "local", [one.id for one in lots.sample(jobs, 4)], lots.sample(FILES, 2)),
            partial(ledger.mark_delivered, job.id, "local", late=lots.random() < 0.5),
            partial(ledger.request_cancel, lots.choice(jobs[:2]).id, "local"),
            partial(ledger.advance, job, Patch(event="progress", run_seconds=lots.random())),
            partial(ledger.resume, job.id, "local"),
            partial(leases.renew, frozenset(one.id for one in jobs)),
            leases.claim_several,
            leases.release_all,
            partial(Quotes(process, clock, 600).record_quote, "local", "k", 1.0),
            Retention(process, vault, lambda: 9e9, 1.0).sweep_briefly,
        ]

    async def run_one(work: Work) -> None:
        with suppress(LostLease, InvalidInput, UnknownJob):
            await work()

    rounds = 12 if database.is_postgresql else 2
    all_works = [work for number in range(rounds) for process in processes for work in works(process, number)]
    lots.shuffle(all_works)
    await run_at_once([partial(run_one, work) for work in all_works])


# --- who waits for whom


@pytest.mark.postgresql
async def test_writes_about_different_jobs_and_principals_wait_for_nobody(ledger_url: str) -> None:
    here, there = Database(ledger_url), Database(ledger_url)
    first, second = await claimed(here), await claimed(here)
    ledger = Ledger(there, clock)
    held = WriteLock(first.id, names=name_spending("local", of_all=False))
    with anyio.fail_after(SECONDS):
        async with hold_lock(here, held):
            await ledger.advance(second, Patch(progress=0.5, event="progress"))
            await ledger.open(new_job("somebody else"))
            await ledger.mark_delivered(second.id, "local")
            assert (await ledger.job(first.id, "local")).id == first.id, "what only reads waits for nothing"


@pytest.mark.postgresql
@pytest.mark.parametrize("held", ["job", "principal", "ledger"])
async def test_a_write_about_the_same_thing_waits_and_gives_up_in_the_time_that_a_client_waits(
    ledger_url: str, held: str
) -> None:
    here, there = Database(ledger_url), Database(ledger_url, busy_seconds=0.2)
    job = await claimed(here)
    lock = {
        "job": WriteLock(job.id),
        "principal": WriteLock(names=name_spending("local", of_all=False)),
        "ledger": WriteLock(is_whole_ledger=True),
    }[held]
    ledger = Ledger(there, clock)
    write = partial(ledger.request_cancel, job.id, "local") if held == "job" else partial(ledger.open, new_job())
    async with hold_lock(here, lock):
        with pytest.raises(StorageFailed, match="locked by another program"):
            await write()
    await write()


@pytest.mark.postgresql
async def test_who_has_the_whole_ledger_waits_until_all_others_have_ended(ledger_url: str) -> None:
    here, there = Database(ledger_url), Database(ledger_url, busy_seconds=0.2)
    async with hold_lock(here, WriteLock(names=frozenset({"anything"}))):
        with pytest.raises(StorageFailed, match="locked by another program"):
            await there.transact(lambda _: None)
    await there.transact(lambda _: None)
