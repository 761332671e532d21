"""Several processes on one ledger file, each opening, claiming and advancing jobs as fast as it can: locks, waits."""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Sequence
from pathlib import Path
from typing import TypeVar

import anyio
from figures import arguments, headline, percentile

from rotoscope.errors import StorageFailed
from rotoscope.store.database import Database
from rotoscope.store.job_data import JobPlan, SubmitEffort
from rotoscope.store.leases import JobDriver, Leases
from rotoscope.store.ledger import Ledger
from rotoscope.store.records import NewJob, Patch, Stage
from rotoscope.store.timing import Intervals

NEW = NewJob("segment_image", "m", "replicate", "bench", False, {}, JobPlan(seed=1))
Answer = TypeVar("Answer")
HAMMER = "--hammer"
STAGES: Sequence[Stage] = ("submit", "watch", "fetch", "finish")


class Hammer:
    """Times each transaction."""

    def __init__(self, file: Path, number: int) -> None:
        database = Database(f"sqlite:///{file}")
        holder = JobDriver(f"process {number}", frozenset({"replicate"}), frozenset({"m"}))
        self.ledger, self.leases = Ledger(database, time.time), Leases(database, time.time, holder, Intervals())
        self.took: list[float] = []
        self.errors = 0

    async def timed(self, work: Awaitable[Answer]) -> Answer | None:
        begun = time.perf_counter()
        try:
            return await work
        except StorageFailed:
            self.errors += 1
            return None
        finally:
            self.took.append(time.perf_counter() - begun)

    async def one_job(self) -> None:
        opening = await self.timed(self.ledger.open(NEW, starter=self.leases.driver.owner))
        job = None if opening is None else await self.timed(self.leases.claim(opening.job.id))
        if job is None:
            return
        await self.timed(self.ledger.commit_intent(job, "digest"))
        await self.timed(self.ledger.write_prediction_id(job.id, "local", "p"))
        for stage in STAGES:
            job = (await self.timed(self.ledger.advance(job, Patch(stage=stage, submit_effort=SubmitEffort(1))))) or job
        await self.timed(self.leases.renew(frozenset({job.id})))
        await self.timed(self.ledger.advance(job, Patch(stage="done", state="succeeded", progress=1.0)))


async def hammer(file: Path, number: int, seconds: float) -> None:
    one = Hammer(file, number)
    end, finished = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        await one.one_job()
        finished += 1
    print(json.dumps({"jobs": finished, "errors": one.errors, "took": one.took}))


def main(processes: int, seconds: float) -> None:
    print(headline(f"{processes} processes on one ledger for {seconds:g} s"))
    with tempfile.TemporaryDirectory() as home:
        file = Path(home) / "ledger.sqlite3"
        command = [sys.executable, __file__, HAMMER, str(file), str(seconds)]
        started = [
            subprocess.Popen([*command, str(number)], stdout=subprocess.PIPE, text=True) for number in range(processes)
        ]
        reports = [json.loads(one.communicate()[0]) for one in started]
    took = sorted(second for one in reports for second in one["took"])
    errors, finished = sum(one["errors"] for one in reports), sum(one["jobs"] for one in reports)
    print(f"  {finished} jobs, {len(took)} transactions; lock errors {errors} (to hold: 0)")
    p99 = percentile(took, 0.99)
    print(
        f"  a transaction takes {took[len(took) // 2] * 1000:.1f} ms median, {p99 * 1000:.0f} p99, "
        f"{took[-1] * 1000:.0f} at most"
    )


if __name__ == "__main__":
    if sys.argv[1:2] == [HAMMER]:
        anyio.run(hammer, Path(sys.argv[2]), int(sys.argv[4]), float(sys.argv[3]))
    else:
        given = arguments(
            __doc__,
            processes=(8, 2, "how many processes"),
            seconds=(6.0, 0.5, "how long they work"),
        )
        main(int(given["processes"]), given["seconds"])
