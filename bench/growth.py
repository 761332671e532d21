"""What a call costs beside ledgers of few and of many finished jobs, side by side in one run.

Each ledger is filled with copies of one job that was really run, row by row through the tables themselves, so that the
copies are what this version writes. Then every call is made in turn beside each ledger, and the medians are printed
with their ratio to the smallest ledger's.
"""

import gc
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any

import anyio
import anyio.abc
from figures import arguments, headline
from sqlalchemy import Connection, Table, insert, select

from rotoscope.composition import open_studio, stdio_roots
from rotoscope.contracts.arguments import BoxArgument, GetJob, ListJobs, SegmentImage
from rotoscope.contracts.results import JobResult
from rotoscope.models.access import SANDBOX_URL
from rotoscope.settings import read_settings
from rotoscope.store.job_data import JobPlan
from rotoscope.store.records import NewJob
from rotoscope.store.schema import jobs, metadata
from rotoscope.studio.studio import Studio
from rotoscope_sandbox import build_sandbox

AT_ONCE = 1000  # copies in one transaction
SPACING = 60.0  # seconds between two copies
WHO = "bench"
ITS_OWN = {"id", "job_id", "idempotency_key", "prediction_id", "token", "nonce"}  # no two jobs share these


@dataclass
class Beside:
    """A studio beside a ledger of so many finished jobs."""

    size: int
    studio: Studio
    photo: str
    known: str = ""
    calls: int = 0

    async def segment(self) -> None:
        self.calls += 1
        box = BoxArgument(left=1, top=1, right=300, bottom=200 + self.calls)  # equal requests would be one job
        given = SegmentImage(image=self.photo, box=box, overlay=False)
        result = await self.studio.perform("segment_image", given, WHO, 60)
        assert isinstance(result, JobResult)
        assert result.status == "succeeded", result.error
        await self.studio.mark_delivered(result, WHO)
        self.known = result.job_id or ""

    async def get_job(self) -> None:
        await self.studio.perform("get_job", GetJob(job_id=self.known, wait_seconds=0), WHO, 0)

    async def list_rare(self) -> None:
        await self.studio.perform("list_jobs", ListJobs(status="failed"), WHO, 0)

    async def open_job(self) -> None:
        self.calls += 1
        new = NewJob("segment_image", "m", "replicate", WHO, True, {}, JobPlan(), f"key {self.calls}")
        await self.studio.context.ledger.open(new)


def copies(table: Table, row: dict[str, Any], numbers: Sequence[int]) -> Iterator[dict[str, Any]]:
    """Copies of a row, each of a job of its own, as far apart as people's calls are."""
    own_number = table.autoincrement_column
    for number in numbers:
        copy = {name: value for name, value in row.items() if own_number is None or name != own_number.name}
        for name, value in copy.items():
            if name in ITS_OWN and isinstance(value, str):
                copy[name] = f"{value}-{number}"
            elif isinstance(value, float) and (name == "at" or name.endswith(("_at", "_until"))):
                copy[name] = value - SPACING * number
        yield copy


def fill(connection: Connection, job_id: str, numbers: Sequence[int]) -> None:
    for table in metadata.sorted_tables:
        of = table.columns.get("id" if table is jobs else "job_id")
        if of is not None:
            rows = connection.execute(select(table).where(of == job_id)).mappings()
            found = [copy for row in rows.all() for copy in copies(table, dict(row), numbers)]
            if found:
                connection.execute(insert(table), found)


async def filled(beside: Beside) -> None:
    await beside.segment()
    database = beside.studio.context.ledger._database  # noqa: SLF001 - the quick way to a large ledger
    for begin in range(1, beside.size, AT_ONCE):
        numbers = range(begin, min(begin + AT_ONCE, beside.size))
        await database.transact(partial(fill, job_id=beside.known, numbers=numbers))


async def timed(call: Callable[[], Awaitable[None]]) -> float:
    begun = time.perf_counter()
    await call()
    return time.perf_counter() - begun


async def measure(ledgers: Sequence[Beside], rounds: int) -> dict[str, list[float]]:
    """The median of each call beside each ledger, in seconds."""
    medians = {}
    for name in ("segment", "get_job", "list_rare", "open_job"):
        took: list[list[float]] = [[] for _ in ledgers]
        for number in range(rounds + 1):
            for one, kept in zip(ledgers, took, strict=True):
                seconds = await timed(getattr(one, name))
                kept.extend([seconds] if number else [])  # the first time is not counted: it warms up
        medians[name] = [statistics.median(kept) for kept in took]
    return medians


def tell(ledgers: Sequence[Beside], medians: dict[str, list[float]]) -> None:
    names = {
        "segment": "segment_image, whole call",
        "get_job": "get_job",
        "list_rare": "list_jobs, a rare status",
        "open_job": "opening a job",
    }
    print(f"  {'finished jobs':26}" + "".join(f"{one.size:>20,}" for one in ledgers))
    for name, found in medians.items():
        cells = (f"{median * 1000:8.2f} ms {median / found[0]:5.2f} x" for median in found)
        print(f"  {names[name]:26}" + "".join(f"{cell:>20}" for cell in cells) + "  (to hold: 1.20 x)")


async def opened(home: Path, size: int, tasks: anyio.abc.TaskGroup, closing: AsyncExitStack) -> Beside:
    settings = read_settings({"ROTOSCOPE_HOME": f"{home}/{size}", "ROTOSCOPE_SANDBOX": "always"})
    # No waiting is pretended: a change of our own would vanish in it.
    sandbox = build_sandbox(home / f"sandbox-{size}", pace=0, public_url=SANDBOX_URL)
    studio = open_studio(settings, stdio_roots(settings, home, home), tasks, closing, sandbox)
    beside = Beside(size, studio, f"{home}/photo.jpg")
    begun = time.perf_counter()
    await filled(beside)
    ledger = sum(file.stat().st_size for file in (home / str(size)).glob("ledger*"))
    print(f"  {size:>7,} jobs filled in {time.perf_counter() - begun:.0f} s, {ledger / 1e6:.0f} MB")
    return beside


async def main(largest: int, rounds: int) -> None:
    sizes = sorted({1, *(size for size in (1000, 10_000) if size < largest), largest})
    print(headline(f"calls beside ledgers of up to {largest:,} finished jobs, {rounds} rounds"))
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        (home / "photo.jpg").write_bytes(files("rotoscope").joinpath("assets", "astronaut.jpg").read_bytes())
        async with AsyncExitStack() as closing, anyio.create_task_group() as tasks:
            ledgers = [await opened(home, size, tasks, closing) for size in sizes]
            gc.collect()
            tell(ledgers, await measure(ledgers, rounds))
            tasks.cancel_scope.cancel()


if __name__ == "__main__":
    asked = arguments(
        __doc__,
        jobs=(100_000, 50, "the largest ledger's finished jobs"),
        rounds=(9, 1, "how often each call is made beside each ledger"),
    )
    anyio.run(main, int(asked["jobs"]), int(asked["rounds"]))
