"""Which webhooks were taken is in the ledger, for every process: each once, and for as long as it may come again."""

from pathlib import Path

import anyio
import pytest
from set_clock import Clock
from store_database import StoreDatabase

from rotoscope.media.vault import FolderVault
from rotoscope.store.job_data import JobPlan
from rotoscope.store.leases import JobDriver, Leases
from rotoscope.store.ledger import Ledger
from rotoscope.store.records import Job, NewJob, Patch, Submission
from rotoscope.store.retention import Retention
from rotoscope.store.timing import Intervals
from rotoscope.store.webhook_log import WebhookLog

pytestmark = pytest.mark.anyio
DAY = 86_400.0


class Scene:
    """A ledger of two processes, with jobs that have an intent to pay."""

    def __init__(self, database: StoreDatabase) -> None:
        self.clock = Clock()
        self.execute = database.execute
        self.database, self.other = database.connect(), database.connect()
        self.ledger = Ledger(self.database, self.clock)
        self.log, self.log_elsewhere = WebhookLog(self.database, self.clock), WebhookLog(self.other, self.clock)
        self.leases = Leases(
            self.database, self.clock, JobDriver("me", frozenset({"replicate"}), frozenset({"m"})), Intervals()
        )

    async def paid(self) -> tuple[Job, Submission]:
        opening = await self.ledger.open(NewJob("segment_image", "m", "replicate", "local", False, {}, JobPlan()))
        job = await self.leases.claim(opening.job.id)
        assert job is not None
        intent = await self.ledger.commit_intent(job, "digest")
        assert intent is not None
        return job, intent


@pytest.fixture
def scene(database: StoreDatabase) -> Scene:
    return Scene(database)


async def test_a_webhook_is_an_event_of_its_job_that_other_processes_read(scene: Scene) -> None:
    job, intent = await scene.paid()
    elsewhere = Leases(scene.other, scene.clock, scene.leases.driver, Intervals())
    seq, _ = await elsewhere.changes_since(None)
    assert await scene.log.record("replicate", intent.nonce, "msg_1", "p1") == job.id
    _, changed = await elsewhere.changes_since(seq)
    assert changed == {job.id}
    assert await scene.log_elsewhere.count(job.id) == 1
    assert await scene.log_elsewhere.runs_named(job.id) == ("p1",)


async def test_of_two_processes_that_receive_the_same_delivery_at_once_one_takes_it(scene: Scene) -> None:
    job, intent = await scene.paid()
    taken: list[str | None] = []

    async def receive(log: WebhookLog) -> None:
        taken.append(await log.record("replicate", intent.nonce, "msg_1", "p1"))

    async with anyio.create_task_group() as both:
        both.start_soon(receive, scene.log)
        both.start_soon(receive, scene.log_elsewhere)
    assert sorted(taken, key=lambda one: one is None) == [job.id, None]
    assert await scene.log.count(job.id) == 1


async def test_nothing_is_kept_of_what_is_for_no_intent_or_about_another_run(scene: Scene) -> None:
    job, intent = await scene.paid()
    assert await scene.log.record("replicate", "0" * 16, "msg_1", "p1") is None
    assert await scene.log.record("fal", intent.nonce, "msg_1", "p1") is None
    await scene.ledger.write_prediction_id(job.id, "local", "p1")
    assert await scene.log.record("replicate", intent.nonce, "msg_1", "p2") is None
    assert await scene.log.count(job.id) == 0
    assert await scene.log.record("replicate", intent.nonce, "msg_1", "p1") == job.id
    assert await scene.log.record("replicate", intent.nonce, "msg_2", None) == job.id


async def test_a_job_in_review_is_looked_at_soon(scene: Scene) -> None:
    job, intent = await scene.paid()
    later = scene.clock.now + 600
    reviewed = await scene.ledger.advance(job, Patch(state="needs_review", stage="submit", next_at=later))
    assert reviewed.next_at == later
    await scene.log.record("replicate", intent.nonce, "msg_1", "p1")
    found = await scene.ledger.job(job.id, "local")
    assert (found.state, found.next_at) == ("needs_review", None)


async def test_a_job_that_runs_keeps_its_pause_and_its_fence(scene: Scene) -> None:
    job, intent = await scene.paid()
    waiting = await scene.ledger.advance(job, Patch(next_at=scene.clock.now + 60))
    await scene.log.record("replicate", intent.nonce, "msg_1", "p1")
    found = await scene.ledger.job(job.id, "local")
    assert (found.next_at, found.fence, found.owner) == (waiting.next_at, job.fence, job.owner)
    await scene.ledger.advance(waiting, Patch(state="succeeded"))


async def test_webhooks_are_forgotten_after_a_week_and_with_their_job(scene: Scene, tmp_path: Path) -> None:
    first, intent = await scene.paid()
    for number in range(3):
        await scene.log.record("replicate", intent.nonce, f"msg_{number}", "p1")
    retention = Retention(scene.database, FolderVault(tmp_path / "vault"), scene.clock, 30 * DAY)
    scene.clock.now += 6 * DAY
    second, intent = await scene.paid()
    await scene.log.record("replicate", intent.nonce, "msg_new", "p2")
    await retention.sweep()
    assert await scene.log.count(first.id) == 3
    scene.clock.now += 2 * DAY
    await retention.sweep()
    assert (await scene.log.count(first.id), await scene.log.count(second.id)) == (0, 1)
    await scene.ledger.advance(second, Patch(state="succeeded"))
    await scene.ledger.mark_delivered(second.id, "local")
    brief = Retention(scene.database, FolderVault(tmp_path / "vault"), scene.clock, 0.5 * DAY)
    scene.clock.now += DAY
    await brief.sweep()
    assert scene.execute("SELECT count(*) FROM webhooks") == [(0,)]
