"""The ledger: what is written together, what is fenced, and what another version or a broken disk may not do."""

import anyio
import pytest
from intents import intent_of
from sqlalchemy import Engine, event
from store_database import StoreDatabase

from rotoscope.errors import UnknownJob
from rotoscope.providers.states import Ticket
from rotoscope.store.job_data import AcceptedRun, ErrorRecord, JobPlan
from rotoscope.store.leases import JobDriver, Leases
from rotoscope.store.ledger import Ledger, LostLease
from rotoscope.store.records import Artifact, Job, NewJob, Output, Patch
from rotoscope.store.timing import Intervals

pytestmark = pytest.mark.anyio
ACCEPTED = AcceptedRun(Ticket("p1", "m"), 5.0)
NEW = NewJob("segment_image", "m", "replicate", "local", False, {"image": "a.png"}, JobPlan(seed=5))


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def ledger(database: StoreDatabase) -> Ledger:
    return ledger_of(database)


def ledger_of(database: StoreDatabase) -> Ledger:
    return Ledger(database.connect(), Clock())


async def opened(ledger: Ledger) -> Job:
    return (await ledger.open(NEW)).job


def leases_of(ledger: Ledger, owner: str = "me") -> Leases:
    return Leases(ledger._database, Clock(), JobDriver(owner, frozenset({"replicate"}), frozenset({"m"})), Intervals())


async def claimed(ledger: Ledger, owner: str = "me") -> Job:
    job = await leases_of(ledger, owner).claim((await opened(ledger)).id)
    assert job is not None
    return job


async def test_a_new_job_waits_in_its_first_stage(ledger: Ledger) -> None:
    job = await opened(ledger)
    assert (job.state, job.stage, job.plan, job.created_at) == ("queued", "prepare", JobPlan(seed=5), Clock.now)
    assert len(job.id) == 32
    assert await ledger.job(job.id, "local") == job


async def test_an_unknown_and_a_foreign_job_are_answered_alike(ledger: Ledger) -> None:
    job = await opened(ledger)
    errors = []
    for job_id in (job.id, "f" * 32):
        with pytest.raises(UnknownJob) as caught:
            await ledger.job(job_id, "somebody else")
        errors.append((caught.value.message, caught.value.hint))
    assert errors[0] == errors[1]


async def test_only_one_of_many_claims_a_job(database: StoreDatabase) -> None:
    ledgers = [ledger_of(database) for _ in range(4)]
    job = await opened(ledgers[0])
    got: list[Job | None] = []

    async def claim(number: int) -> None:
        got.append(await leases_of(ledgers[number], f"owner {number}").claim(job.id))

    async with anyio.create_task_group() as tasks:
        for number in range(4):
            tasks.start_soon(claim, number)
    assert sum(one is not None for one in got) == 1


async def test_a_stage_and_its_result_are_written_together(ledger: Ledger) -> None:
    job = await claimed(ledger)
    output = Output("mask", 0, Artifact("a" * 64, "image/png", 10, {"width": 3}), "https://x", 5.0)
    patch = Patch(stage="watch", accepted=ACCEPTED, progress=0.5, message="on", outputs=(output,))
    job = await ledger.advance(job, patch)
    assert (job.stage, job.plan.seed, job.accepted, job.progress, job.message) == ("watch", 5, ACCEPTED, 0.5, "on")
    assert await ledger.outputs(job.id, "local") == [output]


async def test_writing_the_same_output_again_replaces_it(ledger: Ledger) -> None:
    job = await claimed(ledger)
    for sha256 in ("a" * 64, "b" * 64):
        await ledger.advance(job, Patch(outputs=(Output("mask", 0, Artifact(sha256, "image/png", 1)),)))
    assert [output.artifact.sha256 for output in await ledger.outputs(job.id, "local")] == ["b" * 64]


async def test_an_owner_with_an_old_fence_writes_nothing(ledger: Ledger, database: StoreDatabase) -> None:
    job = await claimed(ledger)
    database.execute("UPDATE jobs SET owner = 'other', fence = fence + 1")
    with pytest.raises(LostLease):
        await ledger.advance(job, Patch(stage="done", state="succeeded", stage_retries=3))
    assert (await ledger.job(job.id, "local")).stage_retries == 0


async def test_a_final_job_is_not_changed_any_more(ledger: Ledger) -> None:
    job = await claimed(ledger)
    done = await ledger.advance(job, Patch(state="failed", error=ErrorRecord("x", "y")))
    assert done.finished_at == Clock.now
    with pytest.raises(LostLease):
        await ledger.advance(done, Patch(state="succeeded"))


async def test_an_intent_is_written_once_and_then_only_read(ledger: Ledger) -> None:
    job = await claimed(ledger)
    first, second = await intent_of(ledger, job), await intent_of(ledger, job)
    assert (first.is_new, second.is_new) == (True, False)
    assert first.nonce == second.nonce


async def test_the_providers_id_is_written_even_by_a_late_owner(ledger: Ledger, database: StoreDatabase) -> None:
    job = await claimed(ledger)
    await ledger.commit_intent(job, "digest")
    database.execute("UPDATE jobs SET owner = 'other', fence = fence + 1")
    await ledger.write_prediction_id(job.id, "local", "p1")
    assert database.execute("SELECT prediction_id FROM submissions") == [("p1",)]


async def test_an_intent_with_a_prediction_is_never_taken_back(ledger: Ledger) -> None:
    job = await claimed(ledger)
    intent = await intent_of(ledger, job)
    await ledger.write_prediction_id(job.id, "local", "p1")
    await ledger.withdraw_intent(intent)
    assert (await intent_of(ledger, job)).prediction_id == "p1"


async def test_an_intent_that_was_refused_can_be_taken_back(ledger: Ledger) -> None:
    job = await claimed(ledger)
    await ledger.withdraw_intent(await intent_of(ledger, job))
    assert (await intent_of(ledger, job)).is_new


async def test_cancelling_a_queued_job_ends_it_and_a_running_one_is_flagged(ledger: Ledger) -> None:
    queued = await ledger.request_cancel((await opened(ledger)).id, "local")
    running = await ledger.request_cancel((await claimed(ledger)).id, "local")
    assert (queued.state, running.state) == ("cancelled", "running")
    assert await leases_of(ledger).cancel_requests() == {running.id}


async def test_cancelling_twice_or_too_late_changes_nothing(ledger: Ledger) -> None:
    job = await opened(ledger)
    once = await ledger.request_cancel(job.id, "local")
    assert await ledger.request_cancel(job.id, "local") == once


async def test_jobs_are_listed_newest_first_by_state_and_principal(ledger: Ledger) -> None:
    ids = []
    for number in range(3):
        Clock.now += number
        ids.append((await opened(ledger)).id)
    await leases_of(ledger).claim(ids[0])
    assert [job.id for job in await ledger.jobs("local", None, 10)] == ids[::-1]
    assert [job.id for job in await ledger.jobs("local", ["running"], 10)] == ids[:1]
    assert await ledger.jobs("somebody else", None, 10) == []
    assert len(await ledger.jobs("local", None, 2)) == 2


async def test_jobs_of_several_states_are_read_in_one_statement_so_many_of_each(
    ledger: Ledger,
) -> None:
    ids = []
    for number in range(4):
        Clock.now += number
        ids.append((await opened(ledger)).id)
    for job_id in ids[:2]:
        await leases_of(ledger).claim(job_id)
    statements: list[str] = []

    def note(*args: object) -> None:
        statements.append(str(args[2]))

    event.listen(Engine, "before_cursor_execute", note)
    found = await ledger.jobs("local", ["queued", "running"], 1)
    event.remove(Engine, "before_cursor_execute", note)
    assert [job.id for job in found] == [ids[3], ids[1]]
    assert len([one for one in statements if "FROM jobs" in one]) == 1, "a job that changes between two is found twice"


async def test_every_change_leaves_an_event(ledger: Ledger, database: StoreDatabase) -> None:
    job = await claimed(ledger)
    await ledger.advance(job, Patch(progress=0.5, event="progress"))
    events = database.execute("SELECT type FROM job_events ORDER BY seq")
    assert events == [("opened",), ("claimed",), ("progress",)]
