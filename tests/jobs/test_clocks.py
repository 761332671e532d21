"""The wall clock may be set while jobs run: it decides nothing in a process, and little between two."""

import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import anyio
import pytest

from rotoscope.contracts.arguments import SegmentImage
from rotoscope.settings import Settings
from rotoscope.store.records import Job, OpenResult
from rotoscope.store.timing import Intervals
from rotoscope.studio.studio import Studio

pytestmark = pytest.mark.anyio
Open = Callable[..., AbstractAsyncContextManager[Studio]]
QUICK = Intervals(lease=3.0, heartbeat=1.0, poll=0.02, change_poll=0.02)


class Clock:
    """The real wall clock, which somebody may set."""

    def __init__(self) -> None:
        self.set_by = 0.0

    def __call__(self) -> float:
        return time.time() + self.set_by


async def begun(studio: Studio, photo: Path) -> Job:
    opening = await studio.start(
        await studio.plan("segment_image", SegmentImage(image=str(photo), instruction="a"), "local")
    )
    assert isinstance(opening, OpenResult)
    return opening.job


@pytest.fixture
def asked_more(provider: Any, until: Any) -> Callable[[int], Awaitable[None]]:
    """Waits until the provider was asked some more times."""

    async def wait(times: int) -> None:
        enough = len(provider.asked) + times

        async def enough_asked() -> bool:
            return len(provider.asked) >= enough

        await until(enough_asked)

    return wait


@pytest.mark.parametrize("seconds", [3600.0, -600.0])
async def test_a_clock_that_is_set_in_the_middle_of_a_watch_changes_nothing(
    opened: Open, settings: Settings, provider: Any, photo: Path, asked_more: Any, seconds: float
) -> None:
    clock, finished = Clock(), provider.states
    provider.states = [{"status": "processing"}]
    async with opened(settings, provider, intervals=QUICK, clock=clock) as studio:
        job = await begun(studio, photo)
        await asked_more(3)
        before = await studio.job(job.id, "local")
        clock.set_by = seconds
        await asked_more(30)
        after = await studio.job(job.id, "local")
        provider.states = finished
        with anyio.fail_after(10):
            ended = await studio.wait(job, 10)
    assert (after.fence, after.owner) == (before.fence, before.owner)
    assert (ended.state, provider.posts) == ("succeeded", 1)
    assert not any(path.endswith("/cancel") for path in provider.asked)


async def test_a_clock_that_is_set_ahead_lets_every_owner_beat_before_its_lease_counts_as_run_out(
    opened: Open, settings: Settings, provider: Any, photo: Path, asked_more: Any, until: Any
) -> None:
    """Two processes of one machine see the same jump; the one that looks first must not take what is driven."""
    clock = Clock()
    provider.states = [{"status": "processing"}]
    async with (
        opened(settings, provider, intervals=QUICK, clock=clock) as first,
        opened(settings, provider, intervals=QUICK, clock=clock),
    ):
        job = await begun(first, photo)
        await asked_more(3)
        clock.set_by = 3600.0
        before = await first.job(job.id, "local")

        async def beaten() -> bool:
            return await lease_of(first, job) > clock()

        await until(beaten)
        await asked_more(20)
        after = await first.job(job.id, "local")
    assert (after.fence, after.owner) == (before.fence, before.owner)
    assert provider.posts == 1


async def lease_of(studio: Studio, job: Job) -> float:
    query = "SELECT lease_until FROM jobs WHERE id = ?"
    database = studio.context.ledger._database
    return float(await database.transact(lambda c: c.exec_driver_sql(query, (job.id,)).scalar_one(), writes=False))
