"""Every question of the ledger is answered by an index: asked of SQLite itself, for what the engine really asks."""

import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import anyio
import pytest
from sqlalchemy import event
from sqlalchemy.engine import Engine

from rotoscope.contracts.arguments import CancelJob, GetJob, ListJobs, SegmentImage
from rotoscope.contracts.results import JobResult
from rotoscope.jobs.job import Opening
from rotoscope.settings import Settings
from rotoscope.studio import Studio

pytestmark = pytest.mark.anyio
Open = Callable[..., AbstractAsyncContextManager[Studio]]
Replicate = Any  # the scripted provider of conftest
GROWING = (
    "jobs",
    "submissions",
    "outputs",
    "job_events",
    "runs",
    "reservations",
    "artifacts",
    "job_inputs",
    "durations",
)


@pytest.fixture
def questions() -> Iterator[dict[str, Any]]:
    """Every statement that is issued meanwhile, with one set of its parameters."""
    asked: dict[str, Any] = {}

    def hear(_: Any, __: Any, statement: str, parameters: Any, ___: Any, many: bool) -> None:
        asked.setdefault(statement, parameters[0] if many else parameters)

    event.listen(Engine, "before_cursor_execute", hear)
    yield asked
    event.remove(Engine, "before_cursor_execute", hear)


async def use_everything(studio: Studio, provider: Replicate, photo: Path) -> None:
    """A set of calls, as tools and the command line make them."""

    async def asked(words: str) -> JobResult:
        arguments = SegmentImage(image=str(photo), instruction=words)
        result = await studio.perform("segment_image", arguments, "local", 20)
        assert isinstance(result, JobResult)
        return result

    result = await asked("one")
    await studio.delivered(result)
    await asked("one")
    provider.created = (500, b"oops")
    doubtful = await asked("two")
    assert doubtful.status == "needs_review"
    await studio.rooms.ledger.resolve(doubtful.job_id, "local", None)
    provider.created, provider.states = (201, {"status": "starting"}), [{"status": "processing"}]
    opening = await studio.start("segment_image", SegmentImage(image=str(photo), instruction="three"), "local")
    assert isinstance(opening, Opening)
    await provider.on_ask.wait()
    await studio.quote("segment_image", SegmentImage(image=str(photo), instruction="four"), "local")
    for arguments in (
        ListJobs(),
        ListJobs(status="failed"),
        GetJob(job_id=result.job_id),
        CancelJob(job_id=opening.job.id),
    ):
        await studio.perform("list_jobs", arguments, "local", 5)
    ledger, leases = studio.rooms.ledger, studio.dispatcher._leases
    await ledger.spending(0.0)
    await ledger.others_runs("replicate", ["p1"], opening.job.id)
    await studio.quotes.give("key", 2.0)
    await studio.quotes.take("key", 2.0)
    await leases.open_jobs()
    await leases.beat(frozenset({opening.job.id}))
    await leases.claim_some()
    await leases.changed_since(0)
    await leases.cancels()
    await studio.retention.tend()
    await studio.retention.sweep()


async def test_every_question_of_the_ledger_is_answered_by_an_index(
    opened: Open, settings: Settings, provider: Replicate, photo: Path, questions: dict[str, Any]
) -> None:
    now = [1_000_000_000.0]
    with anyio.fail_after(60):
        async with opened(settings, provider, clock=lambda: now[0]) as studio:
            await use_everything(studio, provider, photo)
            now[0] += 31 * 86_400.0
            swept = await studio.retention.sweep()
    assert swept.jobs, "the statements that remove are asked about too"
    assert len(questions) > 50
    with contextlib.closing(sqlite3.connect(settings.home / "ledger.sqlite3")) as ledger:
        read_whole = {
            (statement, step)
            for statement, parameters in questions.items()
            if statement.lstrip().upper().startswith(("SELECT", "UPDATE", "DELETE", "INSERT"))
            for *_, step in ledger.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)
            if any(step.startswith(f"SCAN {table}") for table in GROWING)
        }
    assert not read_whole, "\n\n".join(f"{step}:\n{statement}" for statement, step in sorted(read_whole))
