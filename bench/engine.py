"""A job's own overhead on SQLite and on PostgreSQL, in one run: without MCP, pixels and the provider's time.

A wire in this process answers at once, and the result is a picture that is kept but not measured; the pauses of the
schedule, which wait for a provider, are skipped. What is left is opening, claiming, five stages and their ledger; on
PostgreSQL also the way through the engine's queue.

PostgreSQL is the one that `ROTOSCOPE_TEST_DATABASE_URL` names, or a cluster of this run's own; without either, SQLite
is measured alone.
"""

import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, TypeVarTuple, cast

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

import anyio
import anyio.abc
from figures import arguments, headline, percentile
from postgresql import PostgresqlServer, find_binaries, start_cluster
from sqlalchemy import make_url

from rotoscope.composition import open_studio, stdio_roots
from rotoscope.jobs.lifecycle import run_job
from rotoscope.jobs.stages.finish_masks import FinishResult
from rotoscope.providers.http.client import Download, Wire
from rotoscope.providers.http.messages import HttpCall, Reply
from rotoscope.providers.polling import PollSlot
from rotoscope.providers.states import Call
from rotoscope.settings import read_settings
from rotoscope.store.database import Database
from rotoscope.store.job_data import JobPlan, MeasuredResult, PreparedRequest
from rotoscope.store.records import NewJob
from rotoscope.studio.studio import Studio
from rotoscope.workers.limits import WorkLimits

WARM = 10
HOLD_MS = {"SQLite": 10, "PostgreSQL": 20}
MODEL = "bytedance/sa2va-4b-image"
Result = TypeVar("Result")
Given = TypeVarTuple("Given")
PICTURE = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010800000000"
    "3a7e9b550000000a49444154789c63f80f00010101005a4d6ff10000000049454e44ae426082"
)


class InstantWire:
    """Speaks just enough of Replicate's wire."""

    made = 0

    async def send(
        self,
        provider: str,
        call: HttpCall,
        before_send: Callable[[], None] | None = None,
        *,
        pays: bool = False,
        key: str | None = None,
    ) -> Reply:
        if before_send is not None:
            before_send()
            self.made += 1
            return reply(201, {"id": f"p{self.made}", "status": "starting"})
        output = {"img": "https://replicate.delivery/m.png", "response": ""}
        return reply(200, {"id": call.url.rpartition("/")[2], "status": "succeeded", "output": output, "metrics": {}})

    async def download(self, provider: str, url: str, into: Path, limit: int) -> Download:
        into.write_bytes(PICTURE)
        return Download("0" * 64, len(PICTURE), "image/png")

    longest = Wire.max_request_seconds


class NoDecoders:
    """Measures nothing: what a worker costs is no part of a job's own overhead."""

    async def run(self, function: Callable[[*Given], Result], *arguments: *Given, limits: WorkLimits) -> Result:
        return cast("Result", FinishResult(MeasuredResult(masks=()), (), ()))

    def warm(self) -> None:
        """Nothing is to be started."""


async def at_once(_: float) -> None:
    """No turn is waited for, either."""


def reply(status: int, body: dict[str, Any]) -> Reply:
    return Reply(status, {}, json.dumps(body).encode())


def new_job() -> NewJob:
    call = Call("replicate", MODEL, {"image": "https://x.invalid/a.png", "instruction": "x"}, "v", "version")
    plan = JobPlan(call=call, expected_seconds=1.0)
    asked = {"overlay": False}
    return NewJob("segment_image", MODEL, "replicate", "bench", True, asked, plan, request=PreparedRequest(call.input))


async def one(studio: Studio) -> float:
    begun = time.perf_counter()
    opening = await studio.context.ledger.open(new_job(), studio.caps, studio.owner)
    studio.dispatcher.start(opening.job.id)
    job = await studio.wait(opening.job, 30)
    assert job.state == "succeeded", job.error
    return time.perf_counter() - begun


def counted(counts: Counter[str]) -> None:
    transacting = Database.transact

    async def transact(self: Database, work: Any, **how: Any) -> Any:
        counts["durable" if how.get("durable") else "writing" if how.get("writes", True) else "reading"] += 1
        return await transacting(self, work, **how)

    Database.transact = transact  # type: ignore[method-assign]  # a benchmark counts


@dataclass(frozen=True)
class Figures:
    """What was measured on one database.

    Attributes:
        alone: seconds of each job, one after the other.
        worked: seconds of a processor for each of them, in this process.
        rate: jobs a second where all are opened at once.
        transactions: of one job, by their kind.
    """

    alone: list[float]
    worked: float
    rate: float
    transactions: dict[str, float]


async def measure(url: str | None, jobs: int, counts: Counter[str]) -> Figures:
    with tempfile.TemporaryDirectory() as home:
        place = {} if url is None else {"ROTOSCOPE_DATABASE_URL": url}
        settings = read_settings({"ROTOSCOPE_HOME": f"{home}/r", "ROTOSCOPE_SANDBOX": "always", **place})
        async with AsyncExitStack() as closing, anyio.create_task_group() as tasks:
            studio = open_studio(settings, stdio_roots(settings, Path(home), Path(home)), tasks, closing)
            context = replace(studio.context, wire=cast("Wire", InstantWire()), sleep=at_once, decoders=NoDecoders())
            studio = replace(studio, context=context)
            studio.dispatcher._run_job = partial(run_job, context)  # noqa: SLF001 - the real one, on the instant wire
            studio.start_background(tasks)
            for _ in range(WARM):
                await one(studio)
            counts.clear()
            before = time.process_time()
            alone = [await one(studio) for _ in range(jobs)]
            worked = (time.process_time() - before) / jobs
            transactions = {kind: number / jobs for kind, number in counts.items()}
            begun = time.perf_counter()
            async with anyio.create_task_group() as together:
                for _ in range(jobs):
                    together.start_soon(one, studio)
            rate = jobs / (time.perf_counter() - begun)
            tasks.cancel_scope.cancel()
    return Figures(alone, worked, rate, transactions)


@contextmanager
def find_postgresql() -> Iterator[str | None]:
    """The URL of an empty database; None where there is no PostgreSQL."""
    named, binaries = os.environ.get("ROTOSCOPE_TEST_DATABASE_URL"), find_binaries()
    with ExitStack() as closing:
        server = PostgresqlServer(make_url(named)) if named else None
        if server is None and binaries is not None:
            server = closing.enter_context(start_cluster(binaries, is_durable=True))
        yield None if server is None else closing.enter_context(server.new_database())


def main(jobs: int) -> None:
    counts: Counter[str] = Counter()
    counted(counts)
    PollSlot.next_pause = lambda *_: 0.0  # type: ignore[method-assign]  # a benchmark waits for nobody
    found = {"SQLite": asyncio.run(measure(None, jobs, counts))}
    with find_postgresql() as url:
        if url is not None:
            found["PostgreSQL"] = asyncio.run(measure(url, jobs, counts))
    print(headline(f"own overhead of a job, {jobs} jobs"))
    for name, figures in found.items():
        tell(name, figures)


def tell(name: str, found: Figures) -> None:
    median, p95 = statistics.median(found.alone), percentile(found.alone, 0.95)
    each = ", ".join(f"{number:.1f} {kind}" for kind, number in sorted(found.transactions.items()))
    print(f"  {name}: open to succeeded {median * 1000:.1f} ms median, {p95 * 1000:.1f} p95, one after the other")
    print(f"  {name}: (to hold: {HOLD_MS[name]} ms median), {found.worked * 1000:.1f} ms of a processor a job")
    print(f"  {name}: {found.rate:.0f} jobs a second where all are opened at once")
    print(f"  {name}: transactions a job: {each}")


if __name__ == "__main__":
    main(int(arguments(__doc__, jobs=(200, 2, "how many jobs"))["jobs"]))
