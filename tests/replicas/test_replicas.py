"""Servers and workers on one PostgreSQL and one object store: a random one is killed again and again."""

import hashlib
import os
import random
import signal
from collections import Counter
from contextlib import suppress
from typing import Any

import anyio
import httpx2
import pytest
from fleet import Caller, Fleet, Member
from postgresql import Cluster

pytestmark = pytest.mark.anyio
JOBS = int(os.environ.get("ROTOSCOPE_SOAK_REPLICA_JOBS", "24"))
SEED = int(os.environ.get("ROTOSCOPE_SOAK_SEED", "11"))
KILL_SECONDS = 1.0


def asked(fleet: Fleet, number: int) -> dict[str, Any]:
    picture = fleet.folder / "pictures" / "ball.png"
    return {"image": str(picture), "instruction": f"ball {number}", "model": "bytedance/sa2va-4b-image"}


async def begin(caller: Caller, number: int, jobs: dict[int, str]) -> None:
    with anyio.fail_after(240.0):
        while not jobs.get(number):  # there is no id yet while its media are checked: then it is to be called again
            jobs[number] = (await caller.call("segment_image", asked(caller.fleet, number)))["job_id"]


async def wait_for_ends(caller: Caller, ids: list[str], seconds: float) -> dict[str, dict[str, Any]]:
    """The results of jobs, once all have ended."""
    ends: dict[str, dict[str, Any]] = {}
    with anyio.fail_after(seconds):
        while len(ends) < len(ids):
            for job_id in (one for one in ids if one not in ends):
                found = await caller.call("get_job", {"job_id": job_id, "wait_seconds": 1})
                if found["status"] not in ("queued", "running"):
                    ends[job_id] = found
    return ends


async def kill_at_random(fleet: Fleet, chance: random.Random, stop: anyio.Event) -> int:
    """Kill a process every second and start it again; how many were killed.

    On a busy machine a server needs longer than a second to start. One of them is there at any time: else no call could
    ever be answered.
    """
    killed = 0
    while not stop.is_set():
        await anyio.sleep(KILL_SECONDS)
        member = chance.choice(fleet.members)
        await wait_for_one_of([one for one in fleet.servers if one is not member])
        fleet.signal(member, signal.SIGKILL)
        fleet.start(member)
        killed += 1
    return killed


async def wait_for_one_of(servers: list[Member]) -> None:
    """Wait until one of them answers."""
    async with httpx2.AsyncClient(timeout=30.0) as http:
        with anyio.fail_after(120.0):
            while True:
                for server in servers:
                    with suppress(httpx2.HTTPError):
                        if (await http.get(f"{server.url}/healthz")).status_code == 200:
                            return
                await anyio.sleep(0.05)


async def check_files(fleet: Fleet, results: dict[str, dict[str, Any]]) -> None:
    """Every file of every result is at its address, as it was made."""
    async with httpx2.AsyncClient(timeout=30.0) as http:
        for result in results.values():
            for file in (*(mask["media"] for mask in result["masks"]), result["overlay"], result["coco"]):
                reply = await http.get(file["url"])
                assert reply.status_code == 200, (file, reply.text[:200])
                assert hashlib.sha256(reply.content).hexdigest() == file["sha256"]


async def run_all(fleet: Fleet, jobs: int, disturb: Any) -> tuple[dict[str, dict[str, Any]], int]:
    """Open so many jobs at any server while something is disturbed, and wait for the end of all."""
    chance = random.Random(SEED)
    caller, ids, stop = Caller(fleet, chance), dict[int, str](), anyio.Event()
    disturbances: list[int] = []

    async def disturb_until_stopped() -> None:
        disturbances.append(await disturb(fleet, chance, stop))

    async with anyio.create_task_group() as disturbing:
        disturbing.start_soon(disturb_until_stopped)
        async with anyio.create_task_group() as calling:
            for number in range(jobs):
                calling.start_soon(begin, caller, number, ids)
                await anyio.sleep(0.1)
        stop.set()
    assert len(set(ids.values())) == jobs
    results = await wait_for_ends(caller, sorted(ids.values()), seconds=240.0)
    return results, disturbances[0]


@pytest.fixture
async def pair(fleet: Fleet) -> Fleet:
    for _ in range(2):
        fleet.add_server()
        fleet.add_worker()
    return fleet


async def test_a_random_process_is_killed_every_second_and_every_job_is_paid_once_and_kept(pair: Fleet) -> None:
    results, killed = await run_all(pair, JOBS, kill_at_random)
    assert killed >= JOBS * 0.1 / KILL_SECONDS - 2
    assert Counter(one["status"] for one in results.values()) == {"succeeded": JOBS}
    assert Counter(pair.bought().values()) == {1: JOBS}
    await check_files(pair, results)


async def test_postgresql_is_restarted_twice_and_every_job_is_paid_once_and_kept(pair: Fleet, cluster: Cluster) -> None:
    async def restart_twice(_: Fleet, __: random.Random, ___: anyio.Event) -> int:
        for how in (signal.SIGINT, signal.SIGQUIT):
            await anyio.sleep(1.5)
            await anyio.to_thread.run_sync(cluster.stop, how)
            await anyio.to_thread.run_sync(cluster.start)
        return 2

    jobs = JOBS // 2
    results, _ = await run_all(pair, jobs, restart_twice)
    assert Counter(one["status"] for one in results.values()) == {"succeeded": jobs}
    assert Counter(pair.bought().values()) == {1: jobs}
    await check_files(pair, results)
