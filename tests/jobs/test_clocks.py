"""The wall clock may be set while jobs run: it decides nothing in a process, and little between two."""

import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from calls import StudioOpener, segment_arguments, start_job

from rotoscope.settings import Settings
from rotoscope.store.records import Job
from rotoscope.store.timing import Intervals
from rotoscope.studio.studio import Studio

pytestmark = pytest.mark.anyio
# A lease that no busy machine lets run out, and a beat that comes soon after the clock was set.
QUICK = Intervals(lease=60.0, heartbeat=0.2, poll=0.02, change_poll=0.02)


class Clock:
    """The real wall clock, which somebody may set."""

    def __init__(self) -> None:
        self.set_by = 0.0

    def __call__(self) -> float:
        return time.time() + self.set_by


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
    opened: StudioOpener, settings: Settings, provider: Any, photo: Path, asked_more: Any, seconds: float
) -> None:
    clock, finished = Clock(), provider.states
    provider.states = [{"status": "processing"}]
    async with opened(settings, provider, intervals=QUICK, clock=clock) as studio:
        job = await start_job(studio, segment_arguments(photo, "a"))
        await asked_more(3)
        before = await studio.job(job.id, "local")
        clock.set_by = seconds
        await asked_more(30)
        after = await studio.job(job.id, "local")
        provider.states = finished
        with anyio.fail_after(180):
            ended = await studio.wait(job, 60)
    assert (after.fence, after.owner) == (before.fence, before.owner)
    assert (ended.state, provider.posts) == ("succeeded", 1)
    assert not any(path.endswith("/cancel") for path in provider.asked)


@pytest.mark.parametrize("looks", [0, 3])
async def test_after_a_clock_is_set_ahead_every_owner_may_renew_before_its_lease_counts_as_expired(
    opened: StudioOpener, settings: Settings, provider: Any, photo: Path, asked_more: Any, until: Any, looks: int
) -> None:
    """Two processes of one machine see the same jump; the one that looks first must not take what is driven.

    That holds too when the second one has only just started, and has not looked yet.
    """
    clock = Clock()
    provider.states = [{"status": "processing"}]
    async with opened(settings, provider, intervals=QUICK, clock=clock) as first:
        job = await start_job(first, segment_arguments(photo, "a"))
        await asked_more(3)
        before = await first.job(job.id, "local")
        async with opened(settings, provider, intervals=QUICK, clock=clock):
            await asked_more(looks)
            clock.set_by = 3600.0

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
