"""A job's own overhead on SQLite: without MCP, pixels and the provider's time.

A wire in this process answers at once, and the result is a picture that is kept but not measured; the pauses of the
schedule, which wait for a provider, are skipped. What is left is opening, claiming, five stages and their ledger.
"""

import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, TypeVarTuple, cast

import anyio
import anyio.abc
from figures import arguments, headline

from rotoscope.composition import open_studio, stdio_roots
from rotoscope.jobs.lifecycle import run_job
from rotoscope.jobs.stages.finish_masks import FinishResult
from rotoscope.providers.http.client import Download, Wire
from rotoscope.providers.http.messages import HttpCall, Reply
from rotoscope.providers.polling import PollSlot
from rotoscope.providers.states import Call
from rotoscope.settings import read_settings
from rotoscope.store.database import Database
from rotoscope.store.job_data import JobPlan, MeasuredResult
from rotoscope.store.records import NewJob
from rotoscope.studio.studio import Studio
from rotoscope.workers.limits import WorkLimits

WARM = 10
HOLD_MS = 10
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
        self, provider: str, call: HttpCall, before_send: Callable[[], None] | None = None, *, pays: bool = False
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
    return NewJob("segment_image", MODEL, "replicate", "bench", True, {"overlay": False}, plan)


async def one(studio: Studio) -> float:
    begun = time.perf_counter()
    opening = await studio.context.ledger.open(new_job(), studio.caps, studio.owner)
    studio.dispatcher.start(opening.job.id)
    job = await studio.wait(opening.job, 30)
    assert job.state == "succeeded", job.error
    return time.perf_counter() - begun


def counted(counts: dict[str, int]) -> None:
    transacting = Database.transact

    async def transact(self: Database, work: Any, **how: Any) -> Any:
        counts["durable" if how.get("durable") else "writing" if how.get("writes", True) else "reading"] += 1
        return await transacting(self, work, **how)

    Database.transact = transact  # type: ignore[method-assign]  # a benchmark counts


async def main(jobs: int) -> None:
    counts = dict.fromkeys(("reading", "writing", "durable"), 0)
    counted(counts)
    PollSlot.next_pause = lambda *_: 0.0  # type: ignore[method-assign]  # a benchmark waits for nobody
    with tempfile.TemporaryDirectory() as home:
        settings = read_settings({"ROTOSCOPE_HOME": f"{home}/r", "ROTOSCOPE_SANDBOX": "always"})
        async with AsyncExitStack() as closing, anyio.create_task_group() as tasks:
            studio = open_studio(settings, stdio_roots(settings, Path(home), Path(home)), tasks, closing)
            context = replace(studio.context, wire=cast("Wire", InstantWire()), sleep=at_once, decoders=NoDecoders())
            studio = replace(studio, context=context)
            studio.dispatcher._run_job = partial(run_job, context)  # noqa: SLF001 - the real one, on the instant wire
            studio.start_background(tasks)
            for _ in range(WARM):
                await one(studio)
            counts.update(dict.fromkeys(counts, 0))
            before = time.process_time()
            spent = [await one(studio) for _ in range(jobs)]
            worked = (time.process_time() - before) / jobs
            tasks.cancel_scope.cancel()
    tell(spent, worked, counts)


def tell(spent: list[float], worked: float, counts: dict[str, int]) -> None:
    print(headline(f"own overhead of a job, {len(spent)} jobs one after the other"))
    each = ", ".join(f"{number / len(spent):.1f} {kind}" for kind, number in counts.items())
    p95 = sorted(spent)[int(0.95 * len(spent))]
    median = statistics.median(spent)
    print(f"  open to succeeded {median * 1000:6.1f} ms median, {p95 * 1000:.1f} p95 (to hold: {HOLD_MS} median)")
    print(f"  processor time    {worked * 1000:6.1f} ms a job")
    print(f"  transactions      {each}")


if __name__ == "__main__":
    asyncio.run(main(int(arguments(__doc__, jobs=(200, 2, "how many jobs"))["jobs"])))
