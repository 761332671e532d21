"""Processes that are killed at any moment: every job is paid for once at most, and none is lost."""

import os
import random
import signal
from typing import Any

import anyio
import pytest

pytestmark = pytest.mark.anyio
Town = Any  # of conftest
KILLS = int(os.environ.get("ROTOSCOPE_SOAK_KILLS", "50"))
SEED = int(os.environ.get("ROTOSCOPE_SOAK_SEED", "7"))


def asked(town: Town, words: str) -> tuple[str, dict[str, Any]]:
    return "segment_image", {"image": str(town.picture), "instruction": words}


async def test_three_processes_that_are_killed_again_and_again_pay_once_for_each_job_and_lose_none(
    town: Town,
) -> None:
    chance, opened = random.Random(SEED), 0
    homes: list[int] = []
    for _ in range(KILLS):
        while len(homes) < 3:
            number = chance.randint(1, 2)
            homes.append(town.raise_one([asked(town, f"job {opened + one}") for one in range(number)]))
            opened += number
        await anyio.sleep(chance.uniform(0.05, 0.7))
        town.kill(homes.pop(chance.randrange(3)))
    town.raise_one()
    await anyio.sleep(1.0)  # the last ones that were raised have opened what they were asked to
    jobs = len(town.rows("SELECT id FROM jobs"))
    states, bought = await town.settled(jobs, seconds=120.0), town.bought()
    assert set(states) <= {"succeeded", "needs_review"}
    assert jobs >= KILLS / 2
    assert max(bought.values()) == 1
    # A review is needed only where the process died between its intent and the provider's acceptance.
    assert sum(bought.values()) == states["succeeded"]
    reasons = town.rows("SELECT DISTINCT json_extract(error, '$.code') FROM jobs WHERE state = 'needs_review'")
    assert reasons in ([], [("submit_unknown",)])
    assert town.whole()


async def test_an_owner_that_was_stopped_and_wakes_after_its_lease_loses_and_pays_nothing(town: Town) -> None:
    """It is stopped right after it has written its intent; another process takes over."""
    stopped = town.raise_one([asked(town, "the one")], how="SIGSTOP", after="commit_intent")
    with anyio.fail_after(20):
        while not town.rows("SELECT 1 FROM submissions"):  # noqa: ASYNC110 - it happens in another process
            await anyio.sleep(0.05)
    town.raise_one()
    await anyio.sleep(2.5)  # longer than the lease
    assert town.rows("SELECT owner FROM jobs WHERE state = 'running' OR state = 'needs_review'")
    os.kill(stopped, signal.SIGCONT)
    await town.settled(1)
    with anyio.fail_after(20):
        while town.states()["succeeded"] != 1:  # noqa: ASYNC110 - it happens in another process
            await anyio.sleep(0.1)
    assert town.bought() == {"the one": 1}
    assert town.app.state.counters.posts.total() == 1
    claims = town.rows("SELECT count(DISTINCT json_extract(data, '$.owner')) FROM job_events WHERE type = 'claimed'")
    assert claims == [(2,)]


WAYS = {
    "replicate": {"instruction": "the ball"},
    "fal": {"box": {"left": 20, "top": 10, "right": 44, "bottom": 34}},
    "segmind": {"points": [{"x": 32, "y": 22}], "model": "sam-v2-image"},
}
STEPS = 40


@pytest.mark.parametrize("way", WAYS)
async def test_a_process_that_is_killed_at_any_step_pays_once_at_most_and_the_next_one_finishes(
    town: Town, way: str
) -> None:
    """Before and after each of its transactions, requests and downloads; each step with a ledger of its own."""
    towns = [town.elsewhere(f"step{at}") for at in range(1, STEPS + 1)]
    request = ("segment_image", {"image": str(town.picture), **WAYS[way]})
    pids = [one.raise_one([request], at=at) for at, one in enumerate(towns, start=1)]
    with anyio.fail_after(60):
        for one, pid in zip(towns, pids, strict=True):
            while lives(pid) and not one.states()["succeeded"]:  # noqa: ASYNC110 - it happens in another process
                await anyio.sleep(0.05)
            one.kill(pid)
    bought_before = town.bought().total()
    finishers = [one.raise_one() for one in towns]
    ends = [await one.settled(0, seconds=90) for one in towns]
    for pid in finishers:
        town.kill(pid)
    found = [state for states in ends for state in states.elements()]
    assert set(found) <= {"succeeded", "needs_review"}
    # A job that was killed before it was written does not exist, and nobody was told that it does.
    assert len(found) >= STEPS - 10
    assert found.count("succeeded") >= len(found) - 6
    assert bought_before <= town.bought().total()
    assert town.bought().total() == found.count("succeeded")
    reviews = [one for one, states in zip(towns, ends, strict=True) if states["needs_review"]]
    assert all(one.rows("SELECT prediction_id FROM submissions") == [(None,)] for one in reviews)


def lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
