"""Processes that are killed at any moment: every job is paid for once at most, and none is lost."""

import os
import random
import signal
from collections.abc import Iterator
from typing import Any

import anyio
import pytest
from ledger_rows import parse_json
from shared_ledger import SharedLedger
from soak import IS_SOAK

pytestmark = pytest.mark.anyio
KILLS = int(os.environ.get("ROTOSCOPE_SOAK_KILLS", "50"))
# `make test` takes a part of what is tried on PostgreSQL, `make soak` all of it.
KILLS_ON = {"sqlite": KILLS, "postgresql": KILLS if IS_SOAK else 16}
SEED = int(os.environ.get("ROTOSCOPE_SOAK_SEED", "7"))


both = pytest.mark.parametrize(
    "shared", ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)], indirect=True
)


def asked(shared: SharedLedger, words: str) -> tuple[str, dict[str, Any]]:
    return "segment_image", {"image": str(shared.picture), "instruction": words}


@both
async def test_three_processes_that_are_killed_again_and_again_pay_once_for_each_job_and_lose_none(
    shared: SharedLedger,
) -> None:
    chance, opened, kills = random.Random(SEED), 0, KILLS_ON[shared.kind]
    homes: list[int] = []
    for number_of_kill in range(kills):
        while len(homes) < 3:
            number = chance.randint(1, 2)
            homes.append(shared.start_process([asked(shared, f"job {opened + one}") for one in range(number)]))
            opened += number
        await anyio.sleep(chance.uniform(0.05, 0.7))
        # However slowly processes start on a busy machine, every second one comes to a job before it is killed.
        await opened_jobs(shared, number_of_kill // 2)
        shared.kill(homes.pop(chance.randrange(3)))
    await opened_jobs(shared, kills // 2)
    for pid in homes:
        shared.kill(pid)  # so that nobody opens a job any more
    shared.start_process()
    jobs = len(shared.rows("SELECT id FROM jobs"))
    states, bought = await shared.settled(jobs, seconds=120.0), shared.bought()
    assert set(states) <= {"succeeded", "needs_review"}
    assert jobs >= kills / 2
    assert max(bought.values()) == 1
    # A review is needed only where the process died between its intent and the provider's acceptance.
    assert sum(bought.values()) == states["succeeded"]
    reviews = shared.rows("SELECT error FROM jobs WHERE state = 'needs_review'")
    assert {parse_json(error)["code"] for (error,) in reviews} <= {"submit_unknown"}
    assert shared.whole()


async def opened_jobs(shared: SharedLedger, least: int) -> None:
    with anyio.fail_after(120):
        while len(shared.rows("SELECT id FROM jobs")) < least:  # noqa: ASYNC110 - it happens in another process
            await anyio.sleep(0.05)


@both
async def test_an_owner_that_was_stopped_and_wakes_after_its_lease_loses_and_pays_nothing(shared: SharedLedger) -> None:
    """It is stopped right after it has written its intent; another process takes over."""
    stopped = shared.start_process([asked(shared, "the one")], how="SIGSTOP", after="commit_intent")
    with anyio.fail_after(120):
        while not shared.rows("SELECT 1 FROM submissions"):  # noqa: ASYNC110 - it happens in another process
            await anyio.sleep(0.05)
    shared.start_process()
    await anyio.sleep(2.5)  # longer than the lease
    assert shared.rows("SELECT owner FROM jobs WHERE state = 'running' OR state = 'needs_review'")
    os.kill(stopped, signal.SIGCONT)
    await shared.settled(1)
    with anyio.fail_after(120):
        while shared.states()["succeeded"] != 1:  # noqa: ASYNC110 - it happens in another process
            await anyio.sleep(0.1)
    assert shared.bought() == {"the one": 1}
    assert shared.app.state.counters.posts.total() == 1
    claims = shared.rows("SELECT data FROM job_events WHERE type = 'claimed'")
    assert len({parse_json(data)["owner"] for (data,) in claims}) == 2


@both
async def test_processes_that_are_killed_in_submit_and_in_watch_leave_their_jobs_to_the_others(
    shared: SharedLedger,
) -> None:
    """Two that open jobs and two that only drive; whoever drives is found in the ledger, as the engine may choose."""
    shared.app.state.faults.add("hang;times=1")
    shared.app.state.faults.add("slow-run;seconds=3")
    shared.start_process([asked(shared, "the first")])
    for _ in range(2):
        shared.start_process()
    with anyio.fail_after(120):
        while not shared.bought():  # noqa: ASYNC110 - it happens in another process
            await anyio.sleep(0.02)
    shared.kill(await owner_of(shared, "stage = 'submit'"))
    shared.start_process([asked(shared, "the second")])
    shared.kill(await owner_of(shared, "stage = 'watch'"))
    states = await shared.settled(2)
    assert states == {"succeeded": 2}
    assert shared.bought() == {"the first": 1, "the second": 1}
    assert shared.app.state.counters.posts.total() == 2


async def owner_of(shared: SharedLedger, condition: str) -> int:
    """The process that drives the first job of some kind, once there is one."""
    query = f"SELECT owner FROM jobs WHERE state = 'running' AND {condition}"
    with anyio.fail_after(120):
        while not (found := shared.rows(query)):  # noqa: ASYNC110 - it happens in another process
            await anyio.sleep(0.02)
    return int(found[0][0].split(":")[1])


def batches(every: list[tuple[int, SharedLedger]]) -> Iterator[list[tuple[int, SharedLedger]]]:
    for begin in range(0, len(every), AT_ONCE):
        yield every[begin : begin + AT_ONCE]


WAYS: dict[str, dict[str, Any]] = {
    "replicate": {"instruction": "the ball"},
    "fal": {"box": {"left": 20, "top": 10, "right": 44, "bottom": 34}},
    "segmind": {"points": [{"x": 32, "y": 22}], "model": "sam-v2-image"},
}
STEPS = 40
AT_ONCE = 8  # processes: forty that start together take longer than a provider's reply may


@pytest.mark.parametrize(
    ("shared", "way"),
    [
        *(pytest.param("sqlite", way) for way in WAYS),
        *(
            pytest.param("postgresql", way, marks=pytest.mark.postgresql)
            for way in (WAYS if IS_SOAK else ["replicate"])
        ),
    ],
    indirect=["shared"],
)
async def test_a_process_that_is_killed_at_any_step_pays_once_at_most_and_the_next_one_finishes(
    shared: SharedLedger, way: str
) -> None:
    """Before and after each of its transactions, requests and downloads; each step with a ledger of its own."""
    steps = range(1, STEPS + 1, 5 if shared.kind == "postgresql" and not IS_SOAK else 1)
    ledgers = [shared.elsewhere(f"step{at}") for at in steps]
    request = ("segment_image", {"image": str(shared.picture), **WAYS[way]})
    groups = list(batches(list(zip(steps, ledgers, strict=True))))
    for group in groups:
        pids = [one.start_process([request], at=at) for at, one in group]
        with anyio.fail_after(120):
            for (_, one), pid in zip(group, pids, strict=True):
                while lives(pid) and not one.states()["succeeded"]:  # noqa: ASYNC110 - it happens in another process
                    await anyio.sleep(0.05)
                one.kill(pid)
    bought_before = shared.bought().total()
    ends = []
    for group in groups:
        finishers = [one.start_process() for _, one in group]
        ends += [await one.settled(0, seconds=90) for _, one in group]
        for pid in finishers:
            shared.kill(pid)
    found = [state for states in ends for state in states.elements()]
    assert set(found) <= {"succeeded", "needs_review"}
    # A job that was killed before it was written does not exist, and nobody was given its id. What else a process does
    # at its start takes steps as well.
    assert len(found) >= len(steps) / 2
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
