"""Processes that are killed at any moment: every job is paid for once at most, and none is lost."""

import os
import random
import signal
from typing import Any

import anyio
import pytest
from shared_ledger import SharedLedger

pytestmark = pytest.mark.anyio
KILLS = int(os.environ.get("ROTOSCOPE_SOAK_KILLS", "50"))
SEED = int(os.environ.get("ROTOSCOPE_SOAK_SEED", "7"))


def asked(shared: SharedLedger, words: str) -> tuple[str, dict[str, Any]]:
    return "segment_image", {"image": str(shared.picture), "instruction": words}


async def test_three_processes_that_are_killed_again_and_again_pay_once_for_each_job_and_lose_none(
    shared: SharedLedger,
) -> None:
    chance, opened = random.Random(SEED), 0
    homes: list[int] = []
    for _ in range(KILLS):
        while len(homes) < 3:
            number = chance.randint(1, 2)
            homes.append(shared.start_process([asked(shared, f"job {opened + one}") for one in range(number)]))
            opened += number
        await anyio.sleep(chance.uniform(0.05, 0.7))
        shared.kill(homes.pop(chance.randrange(3)))
    shared.start_process()
    await anyio.sleep(1.0)  # the last processes have opened what they were asked to
    jobs = len(shared.rows("SELECT id FROM jobs"))
    states, bought = await shared.settled(jobs, seconds=120.0), shared.bought()
    assert set(states) <= {"succeeded", "needs_review"}
    assert jobs >= KILLS / 2
    assert max(bought.values()) == 1
    # A review is needed only where the process died between its intent and the provider's acceptance.
    assert sum(bought.values()) == states["succeeded"]
    reasons = shared.rows("SELECT DISTINCT json_extract(error, '$.code') FROM jobs WHERE state = 'needs_review'")
    assert reasons in ([], [("submit_unknown",)])
    assert shared.whole()


async def test_an_owner_that_was_stopped_and_wakes_after_its_lease_loses_and_pays_nothing(shared: SharedLedger) -> None:
    """It is stopped right after it has written its intent; another process takes over."""
    stopped = shared.start_process([asked(shared, "the one")], how="SIGSTOP", after="commit_intent")
    with anyio.fail_after(60):
        while not shared.rows("SELECT 1 FROM submissions"):  # noqa: ASYNC110 - it happens in another process
            await anyio.sleep(0.05)
    shared.start_process()
    await anyio.sleep(2.5)  # longer than the lease
    assert shared.rows("SELECT owner FROM jobs WHERE state = 'running' OR state = 'needs_review'")
    os.kill(stopped, signal.SIGCONT)
    await shared.settled(1)
    with anyio.fail_after(60):
        while shared.states()["succeeded"] != 1:  # noqa: ASYNC110 - it happens in another process
            await anyio.sleep(0.1)
    assert shared.bought() == {"the one": 1}
    assert shared.app.state.counters.posts.total() == 1
    claims = shared.rows("SELECT count(DISTINCT json_extract(data, '$.owner')) FROM job_events WHERE type = 'claimed'")
    assert claims == [(2,)]


WAYS: dict[str, dict[str, Any]] = {
    "replicate": {"instruction": "the ball"},
    "fal": {"box": {"left": 20, "top": 10, "right": 44, "bottom": 34}},
    "segmind": {"points": [{"x": 32, "y": 22}], "model": "sam-v2-image"},
}
STEPS = 40


@pytest.mark.parametrize("way", WAYS)
async def test_a_process_that_is_killed_at_any_step_pays_once_at_most_and_the_next_one_finishes(
    shared: SharedLedger, way: str
) -> None:
    """Before and after each of its transactions, requests and downloads; each step with a ledger of its own."""
    ledgers = [shared.elsewhere(f"step{at}") for at in range(1, STEPS + 1)]
    request = ("segment_image", {"image": str(shared.picture), **WAYS[way]})
    pids = [one.start_process([request], at=at) for at, one in enumerate(ledgers, start=1)]
    with anyio.fail_after(60):
        for one, pid in zip(ledgers, pids, strict=True):
            while lives(pid) and not one.states()["succeeded"]:  # noqa: ASYNC110 - it happens in another process
                await anyio.sleep(0.05)
            one.kill(pid)
    bought_before = shared.bought().total()
    finishers = [one.start_process() for one in ledgers]
    ends = [await one.settled(0, seconds=90) for one in ledgers]
    for pid in finishers:
        shared.kill(pid)
    found = [state for states in ends for state in states.elements()]
    assert set(found) <= {"succeeded", "needs_review"}
    # A job that was killed before it was written does not exist, and nobody was given its id.
    assert len(found) >= STEPS - 10
    assert found.count("succeeded") >= len(found) - 6
    assert bought_before <= shared.bought().total()
    assert shared.bought().total() == found.count("succeeded")
    reviews = [one for one, states in zip(ledgers, ends, strict=True) if states["needs_review"]]
    assert all(one.rows("SELECT prediction_id FROM submissions") == [(None,)] for one in reviews)


def lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
