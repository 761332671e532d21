"""Many runs at one provider: its list shows their ends, but nothing depends on that it does, or is right."""

import itertools
import json
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs

import anyio
import pytest
from calls import StudioOpener, Until
from scripted_provider import OUTPUT_URL
from sqlalchemy import Connection, update

from rotoscope.providers.states import Call, Ticket
from rotoscope.settings import Settings
from rotoscope.store.job_data import AcceptedRun, JobChanges, JobPlan
from rotoscope.store.records import NewJob
from rotoscope.store.rows import merge_job_data
from rotoscope.store.schema import jobs
from rotoscope.store.timing import Intervals
from rotoscope.studio.studio import Studio

pytestmark = pytest.mark.anyio
QUICK = Intervals(poll=0.02, change_poll=0.02, list_walk=0.02)
MODEL = "bytedance/sa2va-4b-image"
MANY, FEW = 25, 5
EXPECTED = 100.0  # seconds; so long ago they were accepted, and each would be asked about once a second


class Lister:
    """Replicate with a list: what a run is, and what the list shows of it, are distinguished."""

    def __init__(self, mask: bytes) -> None:
        self.mask = mask
        self.ended: set[str] = set()
        self.shown: Callable[[list[dict[str, Any]]], Any] = lambda rows: rows
        self.names: list[str] = []
        self.asked: Counter[str] = Counter()
        self.lists: list[dict[str, list[str]]] = []
        self.page = 100
        self.list_status = 200

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass
        path, status = scope["path"], 200
        if path == "/out.png":
            body = self.mask
        elif path == "/v1/predictions":
            self.lists.append(parse_qs(scope["query_string"].decode()))
            status, body = self.list_status, json.dumps(self.listed(self.lists[-1])).encode()
        else:
            name = path.split("/")[3]
            self.asked[name] += 1
            body = json.dumps(self.run(name, ended=name in self.ended)).encode()
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": body})

    def run(self, name: str, *, ended: bool) -> dict[str, Any]:
        output = {"img": OUTPUT_URL, "response": "Sure, [SEG]."} if ended else None
        known: dict[str, Any] = {
            "id": name,
            "model": MODEL,
            "version": "v",
            "logs": "",
            "error": None,
            "metrics": {},
            "urls": {},
        }
        return {**known, "status": "succeeded" if ended else "processing", "output": output}

    def listed(self, query: dict[str, list[str]]) -> Any:
        begin = int(query.get("cursor", ["0"])[0])
        names = self.names[begin : begin + self.page]
        more = begin + self.page < len(self.names)
        following = f"https://sandbox.invalid/v1/predictions?cursor={begin + self.page}" if more else None
        return {"results": self.shown([self.run(name, ended=True) for name in names]), "next": following}


@pytest.fixture
def lister(provider: Any) -> Lister:
    return Lister(provider.files["/out.png"])


async def taken_up(studio: Studio, lister: Lister, many: int) -> list[str]:
    """Jobs whose runs were accepted a while ago; the list shows the newest first."""
    call = Call("replicate", MODEL, {"image": "https://x.invalid/a.png", "instruction": "x"}, "v", "version")
    ids = []
    accepted_runs: dict[str, AcceptedRun] = {}
    for number in range(many):
        name = f"p{number:025d}"
        lister.names.insert(0, name)
        ticket = Ticket(name, MODEL)
        accepted = time.time() - EXPECTED
        planned = JobPlan(call=call, expected_seconds=EXPECTED)
        # Nobody drives a job of a model that is not known: they all become this one's at once.
        new = NewJob("segment_image", "later", "replicate", "local", True, {"overlay": False}, planned)
        ids.append((await studio.context.ledger.open(new)).job.id)
        accepted_runs[ids[-1]] = AcceptedRun(ticket, accepted)

    def accept(connection: Connection) -> None:
        for job_id, run in accepted_runs.items():
            data = merge_job_data(connection, job_id, JobChanges(accepted=run))
            connection.execute(update(jobs).where(jobs.c.id == job_id).values(stage="watch", model=MODEL, data=data))

    await studio.context.ledger._database.transact(accept)
    return ids


@pytest.fixture
def watched(
    opened: StudioOpener, settings: Settings, lister: Lister
) -> Callable[..., AbstractAsyncContextManager[Studio]]:
    return lambda: opened(settings, lister, intervals=QUICK, sleep=anyio.sleep)


async def wait_for_all(studio: Studio, ids: list[str]) -> list[str]:
    with anyio.fail_after(180):
        return [(await studio.wait(await studio.job(one, "local"), 60)).state for one in ids]


async def test_a_list_shows_many_ends_without_a_poll_for_each(watched: Any, lister: Lister) -> None:
    """Asked by itself, no run has ended: only the list can have shown it."""
    async with watched() as studio:
        ids = await taken_up(studio, lister, MANY)
        assert set(await wait_for_all(studio, ids)) == {"succeeded"}


async def test_a_row_that_is_no_whole_status_only_causes_a_poll(watched: Any, lister: Lister) -> None:
    lister.shown = lambda rows: [{"id": row["id"], "status": row["status"]} for row in rows]
    async with watched() as studio:
        ids = await taken_up(studio, lister, MANY)
        lister.ended = set(lister.names)
        assert set(await wait_for_all(studio, ids)) == {"succeeded"}
    assert min(lister.asked[name] for name in lister.names) >= 1


async def test_a_list_that_says_failed_is_not_believed(watched: Any, lister: Lister, until: Until) -> None:
    lister.shown = lambda rows: [{**row, "status": "failed", "output": None} for row in rows]
    async with watched() as studio:
        ids = await taken_up(studio, lister, MANY)

        async def walked_often() -> bool:
            return len(lister.lists) >= 1 and min(lister.asked[name] for name in lister.names) >= 2

        await until(walked_often)
        states = [(await studio.job(one, "local")).state for one in ids]
        lister.ended = set(lister.names)
        assert set(await wait_for_all(studio, ids)) == {"succeeded"}
    assert set(states) == {"running"}


def nothing(_: list[dict[str, Any]]) -> Any:
    return []


def oddities(rows: list[dict[str, Any]]) -> Any:
    return [None, 7, [], {"id": 9}, {"id": rows[0]["id"] if rows else "x", "status": ["succeeded"]}]


@pytest.mark.parametrize("status", [200, 401, 403, 404, 429, 500])
@pytest.mark.parametrize("shown", [nothing, oddities, lambda _: 7, lambda _: None])
async def test_a_list_that_is_empty_malformed_or_refused_stops_no_polls(
    watched: Any, lister: Lister, status: int, shown: Any
) -> None:
    lister.shown, lister.list_status = shown, status
    async with watched() as studio:
        ids = await taken_up(studio, lister, MANY)
        lister.ended = set(lister.names)
        assert set(await wait_for_all(studio, ids)) == {"succeeded"}


async def test_few_runs_are_not_looked_for_in_a_list(watched: Any, lister: Lister) -> None:
    async with watched() as studio:
        ids = await taken_up(studio, lister, FEW)
        lister.ended = set(lister.names)
        assert set(await wait_for_all(studio, ids)) == {"succeeded"}
    assert not lister.lists


async def test_a_walk_goes_back_to_the_oldest_run_and_ends_when_all_were_seen(
    watched: Any, lister: Lister, until: Until
) -> None:
    lister.page = 10
    lister.shown = lambda rows: [{**row, "status": "processing", "output": None} for row in rows]
    async with watched() as studio:
        await taken_up(studio, lister, MANY)
        lister.names += [f"older{number}" for number in range(500)]

        async def walked_thrice() -> bool:
            return sum("created_after" in query for query in lister.lists) >= 3

        await until(walked_thrice)
    begun = [n for n, query in enumerate(lister.lists) if "created_after" in query]
    assert {after - before for before, after in itertools.pairwise(begun)} == {3}
    (since,) = lister.lists[0]["created_after"]
    back = datetime.now(UTC).timestamp() - datetime.fromisoformat(since).timestamp()
    assert EXPECTED <= back <= EXPECTED + 120


async def test_a_list_without_end_stops_no_polls(watched: Any, lister: Lister, until: Until) -> None:
    lister.page = 1
    lister.shown = nothing
    async with watched() as studio:
        ids = await taken_up(studio, lister, MANY)
        lister.names += [f"older{number}" for number in range(10_000)]
        lister.ended = set(lister.names)
        assert set(await wait_for_all(studio, ids)) == {"succeeded"}
