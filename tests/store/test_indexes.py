"""Every question of the ledger is answered by an index: asked of SQLite itself, for what the engine really asks."""

import contextlib
import sqlite3
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest
from calls import StudioOpener, segment_arguments
from scripted_provider import ScriptedProvider
from sqlalchemy import event
from sqlalchemy.engine import Engine

from rotoscope.contracts.arguments import CancelJob, GetJob, ListJobs
from rotoscope.contracts.results import JobResult
from rotoscope.errors import UserMistake
from rotoscope.media.vault import FolderVault
from rotoscope.settings import Settings
from rotoscope.store.change_cursor import ChangeCursor
from rotoscope.store.database import Database
from rotoscope.store.job_data import JobPlan
from rotoscope.store.leases import JobDriver, Leases
from rotoscope.store.ledger import Ledger
from rotoscope.store.money import Caps, Settlement
from rotoscope.store.records import Artifact, Job, NewJob, OpenResult, Output, Patch
from rotoscope.store.retention import Retention
from rotoscope.store.timing import Intervals
from rotoscope.store.webhook_log import WebhookLog
from rotoscope.studio.studio import Studio

pytestmark = pytest.mark.anyio
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
    "upload_tickets",
    "upload_parts",
    "webhooks",
)


@pytest.fixture
def questions() -> Iterator[dict[str, Any]]:
    """Every statement that is issued meanwhile, with one set of its parameters."""
    asked: dict[str, Any] = {}

    def note(_: Any, __: Any, statement: str, parameters: Any, ___: Any, many: bool) -> None:
        asked.setdefault(statement, parameters[0] if many else parameters)

    event.listen(Engine, "before_cursor_execute", note)
    yield asked
    event.remove(Engine, "before_cursor_execute", note)


async def use_everything(studio: Studio, provider: ScriptedProvider, photo: Path) -> None:
    """A set of calls, as tools and the command line make them."""

    async def asked(words: str) -> JobResult:
        arguments = segment_arguments(photo, words)
        result = await studio.perform("segment_image", arguments, "local", 60)
        assert isinstance(result, JobResult)
        return result

    result = await asked("one")
    await studio.mark_delivered(result, "local")
    await asked("one")
    provider.created = (500, b"oops")
    doubtful = await asked("two")
    assert doubtful.status == "needs_review"
    await studio.context.ledger.resolve_review(doubtful.job_id, "local", None)
    provider.created, provider.states = (201, {"status": "starting"}), [{"status": "processing"}]
    opening = await studio.start(await studio.plan("segment_image", segment_arguments(photo, "three"), "local"))
    assert isinstance(opening, OpenResult)
    await provider.on_ask.wait()
    await studio.find_open_job(await studio.plan("segment_image", segment_arguments(photo, "four"), "local"))
    for arguments in (
        ListJobs(),
        ListJobs(status="failed"),
        GetJob(job_id=result.job_id),
        CancelJob(job_id=opening.job.id),
    ):
        await studio.perform("list_jobs", arguments, "local", 60)
    ledger, leases = studio.context.ledger, studio.dispatcher._leases
    await ledger.spending_of_all_principals(0.0)
    await ledger.runs_of_other_jobs("replicate", ["p1"], opening.job.id)
    await studio.record_quote("local", "key", 2.0)
    await studio.consume_quote("local", "key", 2.0)
    await leases.open_jobs()
    await leases.idle_jobs()
    await leases.renew(frozenset({opening.job.id}))
    await leases.claim_several()
    await leases.changes_since(ChangeCursor(0))
    await leases.cancel_requests()
    await upload_everything(studio, photo)
    log = WebhookLog(leases.database, leases.clock)
    intent = await ledger.submission(opening.job.id, "local")
    assert intent is not None
    assert await log.record("replicate", intent.nonce, "msg_1", intent.prediction_id) == opening.job.id
    await log.count(opening.job.id)
    await log.runs_named(opening.job.id)
    await studio.retention.sweep_when_sure()
    await studio.retention.sweep()


async def upload_everything(studio: Studio, photo: Path) -> None:
    """A file that comes whole, and one that comes in two parts and is no medium."""
    uploads = studio.uploads
    ticket, upload = await uploads.open("local", "a photo", None)
    async with uploads.scratch() as file:
        file.write_bytes(photo.read_bytes())
        await uploads.take_file(upload, file)
    assert (await uploads.wait(ticket, "local", 0)).sha256 is not None
    _, upload = await uploads.open("local", "", "image")
    for start in (0, 5, 5):
        async with uploads.scratch() as file:
            file.write_bytes(b"12345")
            with contextlib.suppress(UserMistake):
                upload = await uploads.take_part(upload, file, start, 10)
    await uploads.clear(upload)


def copy_ended_jobs(file: Path, count: int) -> None:
    """Many copies of the job that has succeeded, with rows of every kind; all a day old or older."""
    with contextlib.closing(sqlite3.connect(file)) as ledger:
        (job_id,) = ledger.execute("SELECT id FROM jobs WHERE state = 'succeeded'").fetchone()
        tables = ("jobs", "submissions", "job_events", "outputs", "job_inputs", "reservations")
        for table in tables:
            names = [row[1] for row in ledger.execute(f"PRAGMA table_info({table})") if row[1] != "seq"]
            key = "id" if table == "jobs" else "job_id"
            new = {key: f"i || {key}", "token": "NULL", "prediction_id": "i || prediction_id"}
            new |= {name: f"{name} - 90000 - i" for name in names if name == "at" or name.endswith("_at")}
            ledger.execute(
                f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count}) "
                f"INSERT INTO {table} ({', '.join(names)}) SELECT {', '.join(new.get(n, n) for n in names)} "
                f"FROM n, {table} WHERE {table}.{key} = ?",
                [job_id],
            )
        ledger.commit()


async def test_every_question_of_the_ledger_is_answered_by_an_index(
    opened: StudioOpener, settings: Settings, provider: ScriptedProvider, photo: Path, questions: dict[str, Any]
) -> None:
    now = [1_000_000_000.0]
    with anyio.fail_after(180):
        async with opened(settings, provider, clock=lambda: now[0]) as studio:
            await use_everything(studio, provider, photo)
            copy_ended_jobs(settings.home / "ledger.sqlite3", 250)
            now[0] += 31 * 86_400.0
            swept = await studio.retention.sweep()
    assert swept.jobs > 200, "what removes many is asked about too: SQLite plans it differently"
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


class Steps:
    """Counts what SQLite does, in hundreds of the instructions of its machine."""

    def __init__(self, database: Database) -> None:
        self.counted = 0
        for lane in (database._writer, database._reader):
            assert lane.engine is not None
            with lane.engine.connect() as connection:
                driver = connection.connection.driver_connection
                assert isinstance(driver, sqlite3.Connection)
                driver.set_progress_handler(self.count, 100)

    def count(self) -> int:
        self.counted += 1
        return 0

    async def of(self, work: Callable[[], Awaitable[object]]) -> int:
        before = self.counted
        await work()
        return self.counted - before


async def steps_of_calls(folder: Path, finished: int) -> dict[str, int]:
    """How much SQLite does for each call beside some finished jobs, and at most in one write of a sweep."""
    now, file = [1_000_000_000.0], folder / f"{finished}.sqlite3"
    database = Database(file)
    ledger = Ledger(database, lambda: now[0])
    holder = JobDriver("me", frozenset({"replicate"}), frozenset({"m"}))
    leases = Leases(database, lambda: now[0], holder, Intervals())
    new = NewJob("segment_image", "m", "replicate", "local", False, {}, JobPlan(), "key", 0.01, inputs=("a" * 64,))

    async def driven(key: str) -> Job:
        job = await leases.claim((await ledger.open(replace(new, request_key=key), Caps(per_day=5.0))).job.id)
        assert job is not None
        await ledger.commit_intent(job, "digest")
        await ledger.write_prediction_id(job.id, "local", f"run of {key}")
        output = Output("mask", 0, Artifact("b" * 64, "image/png", 1))
        job = await ledger.advance(
            job, Patch(state="succeeded", outputs=(output,), settlement=Settlement(1, 1e-6), run_seconds=1.0)
        )
        await ledger.mark_delivered(job.id, "local")
        return job

    job = await driven("first")
    copy_ended_jobs(file, finished)
    await ledger.job(job.id, "local")  # both connections are open
    steps = Steps(database)
    taken = {
        "a whole job": await steps.of(lambda: driven("second")),
        "what a call would be": await steps.of(
            lambda: ledger.preview_open(replace(new, request_key="x"), Caps(per_day=5.0))
        ),
        "get_job": await steps.of(lambda: ledger.job(job.id, "local")),
        "list_jobs": await steps.of(lambda: ledger.jobs("local", None, 20)),
        "list_jobs of a rare state": await steps.of(lambda: ledger.jobs("local", ["failed"], 20)),
        "spending": await steps.of(lambda: ledger.spending_of_all_principals(now[0] - 60)),
        "usual seconds": await steps.of(lambda: ledger.learned_seconds("m", "replicate", "small", sandbox=False)),
        "a look": await steps.of(leases.claim_several),
        "a beat": await steps.of(lambda: leases.renew(frozenset({job.id}))),
        "whose runs": await steps.of(lambda: ledger.runs_of_other_jobs("replicate", ["a", "b"], job.id)),
    }
    now[0] += 31 * 86_400.0
    worst, transact = [0], database.transact

    async def counted(work: Any, *, writes: bool = True, **more: Any) -> Any:
        before = steps.counted
        answer = await transact(work, writes=writes, **more)
        if writes:
            worst.append(steps.counted - before)
        return answer

    database.transact = counted  # type: ignore[method-assign]
    retention = Retention(database, FolderVault(folder / "vault"), lambda: now[0], 30 * 86_400.0)
    assert (await retention.sweep()).jobs == finished + 2
    return taken | {"a step of a sweep": max(worst)}


async def test_many_finished_jobs_change_no_call_by_more_than_a_fifth(tmp_path: Path) -> None:
    few, many = await steps_of_calls(tmp_path, 100), await steps_of_calls(tmp_path, 3000)
    slower = {name: (few[name], many[name]) for name in few if many[name] > few[name] * 1.2 + 2}
    assert not slower
