"""Jobs that wait for others, in the ledger's own words and in every database."""

import pytest
from store_database import StoreDatabase

from rotoscope.store.job_data import ErrorRecord, JobPlan
from rotoscope.store.leases import JobDriver, Leases
from rotoscope.store.ledger import Ledger
from rotoscope.store.records import NewJob, OpenResult, Patch
from rotoscope.store.timing import Intervals

pytestmark = pytest.mark.anyio
WHO = "local"


class Scene:
    def __init__(self, database: StoreDatabase) -> None:
        base = database.connect()
        self.queued: list[str] = []
        self.ledger = Ledger(base, lambda: 1_000_000.0, enqueue=lambda _, job: self.queued.append(job.id))
        driver = JobDriver("me", frozenset({"replicate"}), frozenset({"m"}))
        self.leases = Leases(base, lambda: 1_000_000.0, driver, Intervals())

    async def open_chain(self, key: str = "edit") -> OpenResult:
        step = NewJob("segment_video", "m", "replicate", WHO, False, {}, JobPlan(), "find", 0.1)
        plan = JobPlan(awaited_jobs=1)
        edit = NewJob("edit_video_with_mask", "m", "replicate", WHO, False, {}, plan, key, 0.2, steps=(step,))
        return await self.ledger.open(edit)


@pytest.fixture
def scene(database: StoreDatabase) -> Scene:
    return Scene(database)


async def test_nobody_takes_a_job_before_what_it_waits_for_has_ended_and_then_it_is_queued(scene: Scene) -> None:
    opening = await scene.open_chain()
    (step,) = opening.startable
    assert scene.queued == [step.id]
    assert [job.id for job in await scene.leases.claim_several()] == [step.id]
    assert await scene.leases.claim(opening.job.id) is None
    driven = await scene.ledger.job(step.id, WHO)
    await scene.ledger.advance(driven, Patch(state="failed", error=ErrorRecord("x", "y")))
    assert scene.queued == [step.id, opening.job.id]
    assert await scene.leases.claim(opening.job.id) is not None


async def test_a_shared_step_is_cancelled_with_the_last_job_that_waits_for_it(scene: Scene) -> None:
    first, second = await scene.open_chain(), await scene.open_chain("another edit")
    (step,) = first.startable
    assert second.startable == ()
    await scene.ledger.request_cancel(first.job.id, WHO)
    assert (await scene.ledger.job(step.id, WHO)).state == "queued"
    await scene.ledger.request_cancel(second.job.id, WHO)
    states = [(await scene.ledger.job(one, WHO)).state for one in (first.job.id, second.job.id, step.id)]
    assert states == ["cancelled"] * 3
