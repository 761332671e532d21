"""Jobs on PostgreSQL: the engine gives each to a process that can drive it, under the leases and fences of SQLite."""

import signal
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import anyio
import pytest
from fault_scene import DEADLINE_SECONDS, Caller, FaultScene
from ledger_rows import parse_json
from postgresql import Cluster
from sqlalchemy import Connection, text

from rotoscope.composition.driving import Driving
from rotoscope.contracts.arguments import parse_arguments
from rotoscope.contracts.results import JobResult
from rotoscope.contracts.tools import TOOLS
from rotoscope.store.job_queue import add_entries
from rotoscope.studio.studio import Studio

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.postgresql,
]
SERVES_ONLY = Driving(most_jobs=0)


def asking(caller: Caller, words: str) -> Caller:
    """The same call with other words, so that it is another job."""
    return replace(caller, arguments={**caller.arguments, "instruction": words})


async def opened(scene: FaultScene, studio: Studio, caller: Caller) -> str:
    """The id of a job that nobody waits for."""
    return (await scene.call(studio, caller, wait=0.0)).job_id


async def ended(studio: Studio, job_id: str) -> JobResult:
    with anyio.fail_after(DEADLINE_SECONDS):
        job = await studio.wait(await studio.job(job_id, "local"), DEADLINE_SECONDS)
    return await studio.result(job)


def entries(scene: FaultScene) -> Sequence[tuple[Any, ...]]:
    return scene.rows("SELECT status::text, args ->> 'job_id' FROM procrastinate_jobs ORDER BY id")


def claims(scene: FaultScene) -> list[tuple[str, str]]:
    """Which job was claimed by whom, in that order."""
    found = scene.rows("SELECT job_id, data FROM job_events WHERE type = 'claimed' ORDER BY seq")
    return [(job_id, parse_json(data)["owner"]) for job_id, data in found]


def owner(studio: Studio) -> str:
    return studio.review.holder.owner


async def until(scene: FaultScene, query: str, *rows: tuple[Any, ...]) -> None:
    with anyio.fail_after(DEADLINE_SECONDS):
        while list(scene.rows(query)) != list(rows):  # noqa: ASYNC110 - another process writes it
            await anyio.sleep(0.02)


async def test_a_job_is_given_by_the_engine_and_leaves_nothing_in_its_queue(
    scene: FaultScene, callers: dict[str, Caller]
) -> None:
    async with scene.studio() as studio:
        result = await scene.call(studio, callers["replicate"])
        await until(scene, "SELECT count(*) FROM procrastinate_jobs", (0,))
    assert result.status == "succeeded", result.error
    assert (scene.posts, scene.accepted) == (1, 1)
    assert claims(scene) == [(result.job_id, owner(studio))]
    assert scene.rows("SELECT count(*) FROM procrastinate_workers") == [(0,)]


async def test_a_job_of_a_server_that_drives_none_is_driven_by_a_worker_and_its_caller_gets_the_result(
    scene: FaultScene, callers: dict[str, Caller]
) -> None:
    async with scene.studio(SERVES_ONLY) as server, scene.studio() as worker:
        result = await scene.call(server, callers["fal"])
    assert result.status == "succeeded", result.error
    assert claims(scene) == [(result.job_id, owner(worker))]


async def test_a_process_that_drives_as_many_jobs_as_it_may_leaves_the_next_one_to_another(
    scene: FaultScene, callers: dict[str, Caller]
) -> None:
    scene.app.state.faults.add("never-ends")
    async with scene.studio(Driving(most_jobs=1)) as busy:
        held = await opened(scene, busy, callers["replicate"])
        await until(scene, "SELECT job_id FROM job_events WHERE type = 'claimed'", (held,))
        async with scene.studio() as idle:
            other = await opened(scene, busy, asking(callers["replicate"], "another ball"))
            await until(scene, "SELECT count(*) FROM job_events WHERE type = 'claimed'", (2,))
            assert claims(scene) == [(held, owner(busy)), (other, owner(idle))]


async def test_each_job_is_given_to_a_process_that_drives_its_provider_and_to_no_other(
    scene: FaultScene, callers: dict[str, Caller]
) -> None:
    async with (
        scene.studio(SERVES_ONLY) as server,
        scene.studio(Driving(providers=frozenset({"fal"}))) as fal,
        scene.studio(Driving(providers=frozenset({"replicate"}))) as replicate,
    ):
        jobs = {name: (await scene.call(server, callers[name])).job_id for name in ("fal", "replicate")}
    assert dict(claims(scene)) == {jobs["fal"]: owner(fal), jobs["replicate"]: owner(replicate)}
    assert scene.posts == 2


async def test_a_job_of_a_model_that_one_process_alone_knows_reaches_it(
    scene: FaultScene, callers: dict[str, Caller]
) -> None:
    """Its entry comes to the other one first, which moves it to the queue of the model."""
    async with scene.studio(SERVES_ONLY) as server, scene.studio(home="elsewhere"):
        job_id = await opened(scene, server, callers["gateway"])
        await until(scene, "SELECT count(*) FROM procrastinate_jobs WHERE queue_name LIKE 'rotoscope.model.%'", (1,))
        async with scene.studio() as knows:
            result = await ended(server, job_id)
    assert result.status == "succeeded", result.error
    assert claims(scene) == [(job_id, owner(knows))]


async def test_no_more_jobs_run_at_a_provider_than_it_takes_and_those_that_wait_leave_the_queue_alone(
    scene: FaultScene, callers: dict[str, Caller]
) -> None:
    scene.more["ROTOSCOPE_AT_ONCE"] = "1"
    async with scene.studio(SERVES_ONLY) as server:
        ids = [await opened(scene, server, asking(callers["replicate"], f"ball {one}")) for one in range(4)]
        async with scene.studio(), scene.studio():
            results = [await ended(server, job_id) for job_id in ids]
    assert [result.status for result in results] == ["succeeded"] * 4
    assert scene.posts == 4
    events = scene.rows("SELECT job_id, type, data FROM job_events WHERE type IN ('claimed', 'changed') ORDER BY seq")
    running: set[str] = set()
    for job_id, kind, data in events:
        if kind == "claimed":
            running.add(job_id)
        elif parse_json(data).get("state") == "succeeded":
            running.remove(job_id)
        assert len(running) <= 1


async def test_a_job_that_nobody_can_drive_keeps_no_other_from_its_provider(
    scene: FaultScene, callers: dict[str, Caller]
) -> None:
    """It was opened with the key of an account that no process holds any more."""
    scene.more |= {"ROTOSCOPE_AT_ONCE": "1", "REPLICATE_API_TOKEN": "r8_canary_of_another_account"}
    async with scene.studio(SERVES_ONLY) as former:
        stranded = await opened(scene, former, callers["replicate"])
    del scene.more["REPLICATE_API_TOKEN"]
    async with scene.studio(SERVES_ONLY) as server:
        ids = [await opened(scene, server, asking(callers["replicate"], f"ball {one}")) for one in range(3)]
        async with scene.studio():
            results = [await ended(server, job_id) for job_id in ids]
        scene.rows("UPDATE jobs SET updated_at = updated_at - 60 RETURNING id")
        left = await scene.call(server, Caller("replicate", "get_job", {"job_id": stranded}))
    assert [result.status for result in results] == ["succeeded"] * 3
    assert left.status == "queued"
    assert "or its model is not known there" in left.message
    assert entries(scene) == [("todo", stranded)]


async def test_a_process_that_ends_gives_its_jobs_back_and_another_goes_on_with_the_same_run(
    scene: FaultScene, callers: dict[str, Caller]
) -> None:
    scene.app.state.faults.add("slow-run;seconds=2")
    async with scene.studio(SERVES_ONLY) as server:
        async with scene.studio() as first:
            job_id = await opened(scene, server, callers["replicate"])
            await until(scene, "SELECT stage FROM jobs", ("watch",))
        assert scene.rows("SELECT state, owner FROM jobs") == [("queued", None)]
        assert entries(scene) == [("todo", job_id)]
        async with scene.studio() as second:
            result = await ended(server, job_id)
    assert result.status == "succeeded", result.error
    assert [who for _, who in claims(scene)] == [owner(first), owner(second)]
    assert (scene.posts, scene.accepted) == (1, 1)


async def test_a_cancel_of_a_process_that_drives_none_reaches_the_one_that_drives_the_job(
    scene: FaultScene, callers: dict[str, Caller]
) -> None:
    scene.app.state.faults.add("never-ends")
    async with scene.studio(SERVES_ONLY) as server, scene.studio():
        job_id = await opened(scene, server, callers["replicate"])
        await until(scene, "SELECT stage FROM jobs", ("watch",))
        await server.cancel(job_id, "local")
        result = await ended(server, job_id)
    assert result.status == "cancelled"
    assert (scene.posts, scene.cancels) == (1, 1)


async def test_a_job_without_an_entry_gets_one(scene: FaultScene, callers: dict[str, Caller]) -> None:
    async with scene.studio(SERVES_ONLY) as server:
        job_id = await opened(scene, server, callers["replicate"])
        scene.rows("DELETE FROM procrastinate_jobs RETURNING id")
        async with scene.studio():
            result = await ended(server, job_id)
    assert result.status == "succeeded", result.error


async def test_a_job_that_is_put_into_the_queue_twice_is_there_once_and_spoils_no_other_writing(
    scene: FaultScene, callers: dict[str, Caller]
) -> None:
    """As where one process puts an entry back while another one fills the queue."""
    async with scene.studio(SERVES_ONLY) as studio:
        job = await studio.job(await opened(scene, studio, callers["replicate"]), "local")
        other = await studio.job(await opened(scene, studio, asking(callers["replicate"], "the other")), "local")
        database = studio.context.ledger._database  # two writers meet in it, which no call brings about

        def write(connection: Connection) -> None:
            connection.execute(
                text("DELETE FROM procrastinate_jobs WHERE args ->> 'job_id' = :other"), {"other": other.id}
            )
            add_entries(connection, [job, other])

        await database.transact(write)
        queued = [("todo", job.id), ("todo", other.id)]
        assert sorted(entries(scene)) == sorted(queued)


async def test_an_entry_that_a_living_process_has_left_behind_keeps_no_job_from_being_driven(
    scene: FaultScene, callers: dict[str, Caller]
) -> None:
    """As when the database went away in the moment in which its end was to be written."""
    async with scene.studio(SERVES_ONLY) as server:
        job_id = await opened(scene, server, callers["replicate"])
        scene.rows("INSERT INTO procrastinate_workers (last_heartbeat) VALUES (now() + interval '1 hour') RETURNING id")
        scene.rows(
            "UPDATE procrastinate_jobs SET status = 'doing', worker_id = (SELECT max(id) FROM procrastinate_workers) "
            "RETURNING id"
        )
        async with scene.studio():
            result = await ended(server, job_id)
        await until(scene, "SELECT count(*) FROM procrastinate_jobs", (0,))
    assert result.status == "succeeded", result.error
    assert scene.posts == 1


async def test_an_entry_of_a_worker_that_says_nothing_any_more_is_put_back(
    scene: FaultScene, callers: dict[str, Caller]
) -> None:
    async with scene.studio(SERVES_ONLY) as server:
        job_id = await opened(scene, server, callers["replicate"])
        scene.rows("INSERT INTO procrastinate_workers (last_heartbeat) VALUES (now() - interval '1 hour') RETURNING id")
        scene.rows(
            "UPDATE procrastinate_jobs SET status = 'doing', worker_id = (SELECT max(id) FROM procrastinate_workers) "
            "RETURNING id"
        )
        async with scene.studio():
            result = await ended(server, job_id)
    assert result.status == "succeeded", result.error


async def test_a_job_that_was_given_twice_is_driven_once(scene: FaultScene, callers: dict[str, Caller]) -> None:
    async with scene.studio() as one, scene.studio() as other:
        job_id = await opened(scene, one, callers["replicate"])
        async with anyio.create_task_group() as giving:
            for studio in (one, other, one, other):
                giving.start_soon(studio.dispatcher.drive, job_id)
        result = await ended(one, job_id)
    assert result.status == "succeeded", result.error
    assert len(claims(scene)) == 1
    assert scene.posts == 1


async def test_a_question_about_a_job_that_nobody_drives_has_it_driven(
    scene: FaultScene, callers: dict[str, Caller]
) -> None:
    async with scene.studio(SERVES_ONLY) as server:
        job_id = await opened(scene, server, callers["replicate"])
        assert await server.dispatcher.request_takeover(job_id) is None
    async with scene.studio() as asked:
        arguments = parse_arguments(TOOLS["get_job"].arguments, {"job_id": job_id, "wait_seconds": 15})
        result = await asked.perform("get_job", arguments, "local", DEADLINE_SECONDS)
    assert isinstance(result, JobResult)
    assert result.status == "succeeded", result.error


async def test_processes_that_open_an_empty_database_at_once_make_the_tables_once(scene: FaultScene) -> None:
    async with scene.studio() as one, scene.studio() as two, scene.studio() as three:
        async with anyio.create_task_group() as opening:
            for studio in (one, two, three):
                opening.start_soon(studio.dispatcher.open_jobs)
        assert await one.dispatcher.open_jobs() == []
    ((version,),) = scene.rows("SELECT value FROM properties WHERE name = 'queue'")
    assert version.endswith(".sql")


@pytest.mark.parametrize("how", ["SIGINT", "SIGQUIT"])
async def test_jobs_go_on_when_postgresql_is_started_again_and_none_is_paid_twice(
    unsteady: FaultScene, callers: dict[str, Caller], postgresql_cluster: Cluster, how: str
) -> None:
    unsteady.app.state.faults.add("slow-run;seconds=4")
    async with unsteady.studio() as one, unsteady.studio() as two:
        ids = [await opened(unsteady, one, asking(callers["replicate"], f"ball {number}")) for number in range(4)]
        await until(unsteady, "SELECT count(*) FROM jobs WHERE stage = 'watch'", (4,))
        await anyio.to_thread.run_sync(postgresql_cluster.stop, signal.Signals[how])
        await anyio.to_thread.run_sync(postgresql_cluster.start)
        with anyio.fail_after(180):
            results = [await ended(two, job_id) for job_id in ids]
            late = await unsteady.call(two, asking(callers["replicate"], "a last ball"))
    assert [result.status for result in (*results, late)] == ["succeeded"] * 5
    assert (unsteady.posts, unsteady.accepted) == (5, 5)
