"""The file under the ledger: older and newer ones, several at once, full, locked, read-only and damaged ones."""

import asyncio
import contextlib
import json
import os
import shutil
import sqlite3
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest
from calls import StudioOpener, Until, segment_arguments
from scripted_provider import ScriptedProvider
from sqlalchemy import Connection, Engine

import rotoscope.store.database
import rotoscope.store.fencing
import rotoscope.store.ledger
import rotoscope.store.openings
import rotoscope.store.overrides
import rotoscope.store.rows
import rotoscope.store.sqlite
from rotoscope.contracts.arguments import GetJob, SegmentImage
from rotoscope.contracts.results import JobResult
from rotoscope.errors import StorageFailed
from rotoscope.settings import Settings, read_settings
from rotoscope.store.backend import report_statements
from rotoscope.store.database import Database
from rotoscope.store.job_data import JobPlan
from rotoscope.store.leases import JobDriver, Leases
from rotoscope.store.ledger import Ledger
from rotoscope.store.quotes import Quotes
from rotoscope.store.records import NewJob, OpenResult, Patch
from rotoscope.store.schema import SCHEMA_VERSION
from rotoscope.store.timing import Intervals
from rotoscope.studio.studio import Studio

pytestmark = pytest.mark.anyio
SCHEMA_1 = (Path(__file__).parent / "fixtures" / "ledger_schema_1.sql").read_text(encoding="utf-8")
SCHEMA_3 = (Path(__file__).parent / "fixtures" / "ledger_schema_3.sql").read_text(encoding="utf-8")
NEW = NewJob("segment_image", "m", "replicate", "local", False, {}, JobPlan())


async def performed(studio: Studio, arguments: SegmentImage) -> JobResult:
    with anyio.fail_after(180):
        result = await studio.perform("segment_image", arguments, "local", 60)
    assert isinstance(result, JobResult)
    return result


async def pragma(studio: Studio, words: str) -> Any:
    """Read or set something of the connection with which a studio writes."""

    database = studio.context.ledger._database
    if database._writer.engine is None:
        await database.transact(lambda _: None)
    assert database._writer.engine is not None
    with database._writer.engine.connect() as connection:
        driver = connection.connection.driver_connection
        assert isinstance(driver, sqlite3.Connection)
        found = driver.execute(f"PRAGMA {words}").fetchone()
        return found[0] if found else None


def rows(file: Path, query: str) -> list[tuple[Any, ...]]:
    with contextlib.closing(sqlite3.connect(file)) as ledger:
        return ledger.execute(query).fetchall()


def is_sound(file: Path) -> bool:
    return rows(file, "PRAGMA integrity_check") == [("ok",)]


# --- versions


@pytest.fixture
async def old_home(
    opened: StudioOpener, settings: Settings, provider: ScriptedProvider, photo: Path, until: Until
) -> tuple[Path, dict[str, str]]:
    """A home whose ledger has schema 1, with one finished job, one that a dead process drove and one that waits."""
    file, ids, finished = settings.home / "ledger.sqlite3", {}, provider.states
    async with opened(settings, provider) as studio:
        ids["finished"] = (await performed(studio, segment_arguments(photo, "one"))).job_id
        provider.states = [{"status": "processing"}]
        for name in ("running", "queued"):
            opening = await studio.start(await studio.plan("segment_image", segment_arguments(photo, name), "local"))
            assert isinstance(opening, OpenResult)
            ids[name] = opening.job.id

        async def watched() -> bool:
            return (await studio.job(ids["running"], "local")).stage == "watch"

        await until(watched)
    provider.states = finished
    tables = {name: table(file, name) for name in ("jobs", "submissions", "artifacts", "outputs", "job_events")}
    for part in file.parent.glob("ledger.sqlite3*"):
        part.unlink()
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as old:
        old.executescript(SCHEMA_1)
        for name, records in tables.items():
            known = {row[1] for row in old.execute(f"PRAGMA table_info({name})")}
            for record in ({column: one[column] for column in one if column in known} for one in records):
                columns, marks = ", ".join(record), ", ".join("?" * len(record))
                old.execute(f"INSERT INTO {name} ({columns}) VALUES ({marks})", list(record.values()))
        old.execute("DELETE FROM submissions WHERE job_id = ?", [ids["queued"]])
        old.execute("UPDATE jobs SET needs_key = NULL, idempotency_key = NULL, owner = NULL, lease_until = NULL")
        dead = "state = 'running', owner = 'gone:1', lease_until = 5.0"
        old.execute(f"UPDATE jobs SET {dead} WHERE id = ?", [ids["running"]])
        old.execute("UPDATE jobs SET state = 'queued', stage = 'prepare' WHERE id = ?", [ids["queued"]])
        for job_id, data in old.execute("SELECT id, data FROM jobs").fetchall():
            plan = {name: value for name, value in json.loads(data).items() if name not in ("drawn", "price")}
            old.execute("UPDATE jobs SET data = ? WHERE id = ?", [json.dumps(plan), job_id])
    return file, ids


def table(file: Path, name: str) -> list[dict[str, Any]]:
    with contextlib.closing(sqlite3.connect(file)) as ledger:
        ledger.row_factory = sqlite3.Row
        return [dict(row) for row in ledger.execute(f"SELECT * FROM {name}")]


async def test_a_ledger_of_the_first_schema_is_upgraded_and_its_jobs_are_read_listed_and_driven(
    opened: StudioOpener, settings: Settings, provider: ScriptedProvider, old_home: tuple[Path, dict[str, str]]
) -> None:
    file, ids = old_home
    posts = provider.posts
    async with opened(settings, provider) as studio:
        listed = await studio.list("local", None, 10)
        found = await studio.perform("get_job", GetJob(job_id=ids["finished"]), "local", 60)
        with anyio.fail_after(180):
            for name in ("running", "queued"):
                job = await studio.wait(await studio.job(ids[name], "local"), 60)
                assert job.state == "succeeded", (name, job.error)
    assert {job.job_id for job in listed.jobs} == set(ids.values())
    assert isinstance(found, JobResult)
    assert found.status == "succeeded"
    assert found.model_dump()["masks"]
    assert provider.posts == posts + 1, "the running one was paid for already"
    assert rows(file, "PRAGMA user_version") == [(SCHEMA_VERSION,)]
    assert is_sound(file)


async def test_an_older_ledgers_rehearsals_go_to_no_provider_after_the_upgrade(
    old_home: tuple[Path, dict[str, str]],
) -> None:
    file, _ = old_home
    await Database(f"sqlite:///{file}").change_counter()
    assert rows(file, "SELECT DISTINCT needs_key FROM jobs") == [("sandbox",)]


@pytest.mark.parametrize("old", [True, False], ids=["schema 1", "no file"])
async def test_several_processes_that_open_a_ledger_at_once_all_find_it_upgraded(tmp_path: Path, old: bool) -> None:
    file = tmp_path / "ledger.sqlite3"
    if old:
        with contextlib.closing(sqlite3.connect(file)) as first:
            first.executescript(SCHEMA_1)
    ledgers = [Ledger(Database(f"sqlite:///{file}"), lambda: 1.0) for _ in range(6)]
    with anyio.fail_after(180):
        async with anyio.create_task_group() as tasks:
            for ledger in ledgers:
                tasks.start_soon(ledger.open, NEW)
    assert rows(file, "SELECT count(*) FROM jobs") == [(6,)]
    assert rows(file, "PRAGMA user_version") == [(SCHEMA_VERSION,)]
    assert is_sound(file)


@pytest.mark.parametrize("version", [2, 3])
async def test_a_ledger_of_the_second_or_third_schema_gets_what_was_added_since(tmp_path: Path, version: int) -> None:
    file = tmp_path / "ledger.sqlite3"
    with contextlib.closing(sqlite3.connect(file)) as old:
        old.executescript(SCHEMA_3)
        if version < 3:  # the third added this and nothing else
            old.executescript("DROP TABLE quotes; PRAGMA user_version = 2")
    database = Database(file)
    await Quotes(database, lambda: 1.0, 600.0).record_quote("local", "key", 2.0)
    done, watched, doubted, queued, cancelled = (f"{number:032x}" for number in range(1, 6))
    assert rows(file, "SELECT prediction_id, job_id FROM runs ORDER BY at") == [("run-a", done), ("run-b", watched)]
    given = rows(file, "SELECT job_id, sha256 FROM job_inputs ORDER BY job_id, sha256")
    every = zip("abcde", (done, watched, doubted, queued, cancelled), strict=True)
    assert given == [(one, sha256) for letter, one in every for sha256 in (letter * 64, "f" * 64)]
    sent = dict(rows(file, "SELECT job_id, sent_at IS NOT NULL FROM reservations"))
    assert sent == {done: 1, watched: 1, doubted: 1, queued: 0, cancelled: 1}
    ledger = Ledger(database, lambda: 1_700_000_100.0)
    assert {job.id for job in await ledger.jobs("local", None, 10)} == {done, watched, doubted, queued, cancelled}
    assert await ledger.runs_of_other_jobs("replicate", ["run-a", "run-b"], watched) == {"run-a"}
    assert rows(file, "SELECT price, at FROM quotes") == [(2_000_000, 1.0)]
    assert rows(file, "PRAGMA user_version") == [(SCHEMA_VERSION,)]
    await Database(tmp_path / "new.sqlite3").change_counter()
    assert indexes(file) == indexes(tmp_path / "new.sqlite3")
    assert is_sound(file)
    await database.aclose()


async def test_a_ledger_of_the_fourth_schema_gets_estimates_and_charges_from_what_was_held_and_counted(
    tmp_path: Path,
) -> None:
    file = tmp_path / "ledger.sqlite3"
    with contextlib.closing(sqlite3.connect(file)) as old:
        old.executescript(SCHEMA_3)
    database = Database(file)
    await database.change_counter()
    await database.aclose()
    with contextlib.closing(sqlite3.connect(file)) as old:  # the fifth added these two columns and nothing else
        for column in ("estimate", "charged"):
            old.execute(f"ALTER TABLE reservations DROP COLUMN {column}")
        old.execute("UPDATE reservations SET reserved = 700, committed = 500 WHERE settled_at IS NOT NULL")
        old.execute("UPDATE reservations SET reserved = 700, committed = NULL WHERE settled_at IS NULL")
        old.execute("PRAGMA user_version = 4")
        old.commit()
    database = Database(file)
    await database.change_counter()
    found = set(rows(file, "SELECT settled_at IS NOT NULL, estimate, charged FROM reservations"))
    assert found == {(1, 700, 500), (0, 700, None)}
    assert rows(file, "PRAGMA user_version") == [(SCHEMA_VERSION,)]
    assert is_sound(file)
    await database.aclose()


def indexes(file: Path) -> set[str]:
    return {row[0] for row in rows(file, "SELECT sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL")}


async def test_a_newer_ledger_is_refused_with_its_version_and_stays_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "ledger.sqlite3"
    with contextlib.closing(sqlite3.connect(file)) as newer:
        newer.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    with pytest.raises(StorageFailed) as caught:
        await Ledger(Database(f"sqlite:///{file}"), lambda: 1.0).open(NEW)
    assert f"schema {SCHEMA_VERSION + 1}" in caught.value.message
    assert f"knows {SCHEMA_VERSION}" in caught.value.message
    assert rows(file, "SELECT count(*) FROM sqlite_master") == [(0,)]


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts open files as Linux shows them")
async def test_a_ledger_that_is_refused_again_and_again_leaves_no_file_open(tmp_path: Path) -> None:
    """A server that stays up looks several times a second."""
    file = tmp_path / "ledger.sqlite3"
    with contextlib.closing(sqlite3.connect(file)) as newer:
        newer.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    database = Database(f"sqlite:///{file}")
    for _ in range(30):
        with pytest.raises(StorageFailed):
            await database.change_counter()
    held = [link for link in map(linked, Path("/proc/self/fd").iterdir()) if link.startswith(str(file))]
    assert held == []


def linked(descriptor: Path) -> str:
    with contextlib.suppress(OSError):
        return str(descriptor.readlink())
    return ""


# --- disks


async def test_a_full_disk_refuses_before_anything_is_sent(
    studio: Studio, provider: ScriptedProvider, photo: Path
) -> None:
    first = await performed(studio, segment_arguments(photo, "one"))
    file, sent = Path(studio.context.vault.location).parent / "ledger.sqlite3", len(provider.asked)
    await pragma(studio, f"max_page_count = {await pragma(studio, 'page_count')}")
    with contextlib.suppress(StorageFailed):
        while True:  # until the pages that there are hold no more
            await studio.context.ledger.open(replace(NEW, args={"n": "x" * 2000}))
    with pytest.raises(StorageFailed) as caught:
        await studio.start(await studio.plan("segment_image", segment_arguments(photo, "two " * 400), "local"))
    assert caught.value.code == "storage"
    assert "full" in caught.value.message
    assert len(provider.asked) == sent
    assert is_sound(file)
    await pragma(studio, "max_page_count = 1000000")
    assert (await performed(studio, segment_arguments(photo, "two"))).status == "succeeded"
    assert first.status == "succeeded"


async def test_a_read_only_ledger_refuses_before_anything_is_sent(
    studio: Studio, settings: Settings, provider: ScriptedProvider, photo: Path
) -> None:
    await studio.list("local", None, 1)
    await pragma(studio, "query_only = ON")
    with pytest.raises(StorageFailed) as caught:
        await studio.start(await studio.plan("segment_image", segment_arguments(photo), "local"))
    assert caught.value.code == "storage"
    assert "ledger.sqlite3" in caught.value.hint
    assert provider.asked == []
    await pragma(studio, "query_only = OFF")
    assert rows(settings.home / "ledger.sqlite3", "SELECT count(*) FROM jobs") == [(0,)]
    assert is_sound(settings.home / "ledger.sqlite3")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write every file")
async def test_a_ledger_file_that_may_not_be_written_is_reported(tmp_path: Path) -> None:
    file = tmp_path / "ledger.sqlite3"
    file.touch(mode=0o400)
    with pytest.raises(StorageFailed):
        await Ledger(Database(f"sqlite:///{file}"), lambda: 1.0).open(NEW)


async def test_a_result_that_was_paid_for_is_reported_although_nothing_can_be_written(
    studio: Studio, provider: ScriptedProvider, photo: Path
) -> None:
    opening = await studio.start(await studio.plan("segment_image", segment_arguments(photo), "local"))
    assert isinstance(opening, OpenResult)
    with anyio.fail_after(180):
        await studio.wait(opening.job, 60)
    await pragma(studio, "query_only = ON")
    found = await studio.perform("get_job", GetJob(job_id=opening.job.id), "local", 60)
    await pragma(studio, "query_only = OFF")
    assert isinstance(found, JobResult)
    assert found.status == "succeeded"


async def test_a_locked_ledger_refuses_before_anything_is_sent_and_works_again_afterwards(
    studio: Studio, settings: Settings, provider: ScriptedProvider, photo: Path
) -> None:
    await studio.list("local", None, 1)
    file = settings.home / "ledger.sqlite3"
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StorageFailed) as caught:
            await studio.start(await studio.plan("segment_image", segment_arguments(photo), "local"))
        other.execute("ROLLBACK")
    assert caught.value.code == "storage"
    assert "locked" in caught.value.message
    assert provider.asked == []
    assert (await performed(studio, segment_arguments(photo))).status == "succeeded"
    assert is_sound(file)


async def test_a_ledger_that_is_locked_when_it_is_opened_is_reported_and_opened_later(tmp_path: Path) -> None:
    file = tmp_path / "ledger.sqlite3"
    ledger = Ledger(Database(f"sqlite:///{file}", busy_seconds=0.05), lambda: 1.0)
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("PRAGMA journal_mode = WAL")
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StorageFailed, match="locked"):
            await ledger.open(NEW)
        other.execute("ROLLBACK")
    await ledger.open(NEW)


async def test_a_damaged_ledger_is_named_and_nothing_is_begun(
    opened: StudioOpener, settings: Settings, provider: ScriptedProvider, photo: Path
) -> None:
    file = settings.home / "ledger.sqlite3"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"this is no database, but it is long enough to look like a page" * 200)
    before = file.read_bytes()
    async with opened(settings, provider) as studio:
        with pytest.raises(StorageFailed) as caught:
            await studio.start(await studio.plan("segment_image", segment_arguments(photo), "local"))
    assert str(file) in caught.value.message
    assert "damaged" in caught.value.message
    assert provider.asked == []
    assert file.read_bytes() == before


# --- other programs that have it open


@contextlib.contextmanager
def write_locked(file: Path, words: str = "BEGIN IMMEDIATE") -> Iterator[None]:
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute(words)
        yield
        other.execute("ROLLBACK")


async def test_a_write_that_waits_for_another_program_holds_up_no_read(tmp_path: Path) -> None:
    file = tmp_path / "ledger.sqlite3"
    database = Database(file)
    ledger = Ledger(database, lambda: 1.0)
    job, done = (await ledger.open(NEW)).job, anyio.Event()

    async def write() -> None:
        await database.transact(lambda _: None)
        done.set()

    with anyio.fail_after(180):
        async with anyio.create_task_group() as tasks:
            with write_locked(file):
                tasks.start_soon(write)
                for _ in range(20):
                    assert await ledger.job(job.id, "local") == job
                    assert len(await ledger.jobs("local", None, 10)) == 1
                    await database.change_counter()
                assert not done.is_set()
            await done.wait()


async def test_a_call_is_refused_in_its_clients_time_while_another_program_writes_and_has_not_happened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also behind a write that is more patient: none of them could come through."""
    monkeypatch.setattr(rotoscope.store.ledger, "QUICK_SECONDS", 0.2)
    file = tmp_path / "ledger.sqlite3"
    database = Database(file)
    ledger = Ledger(database, lambda: 1.0)
    job, refused = (await ledger.open(NEW)).job, []

    async def call(work: Callable[[], Awaitable[object]]) -> None:
        with pytest.raises(StorageFailed, match="locked by another program; nothing was begun"):
            await work()
        refused.append(work)

    with anyio.fail_after(180):
        async with anyio.create_task_group() as tasks:
            with write_locked(file):
                tasks.start_soon(database.transact, lambda _: None)
                async with anyio.create_task_group() as calls:
                    for _ in range(10):
                        calls.start_soon(call, lambda: ledger.open(NEW))
                    calls.start_soon(call, lambda: ledger.request_cancel(job.id, "local"))
                assert len(refused) == 11
    assert rows(file, "SELECT id, state FROM jobs") == [(job.id, "queued")]
    assert not (await ledger.open(NEW)).is_joined


async def test_many_that_wait_for_each_other_and_not_for_another_program_all_come_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Time goes on by a tenth of a second with each that comes through, so that all take far longer than one may wait;
    a machine that stands still for a moment is no reason to give up."""
    monkeypatch.setattr(rotoscope.store.ledger, "QUICK_SECONDS", 1.0)
    file = tmp_path / "ledger.sqlite3"
    database, now = Database(file), [0.0]
    transact = database.transact

    def transact_and_tick(work: Callable[[Connection], Any], **more: Any) -> Awaitable[Any]:
        def tick(connection: Connection) -> Any:
            now[0] += 0.1
            return work(connection)

        return transact(tick, **more)

    monkeypatch.setattr(database, "transact", transact_and_tick)
    monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: now[0])
    monkeypatch.setattr(rotoscope.store.database, "monotonic", lambda: now[0])
    ledger = Ledger(database, lambda: 1.0)
    with anyio.fail_after(180):
        async with anyio.create_task_group() as tasks:
            for _ in range(500):
                tasks.start_soon(ledger.open, NEW)
    assert rows(file, "SELECT count(*) FROM jobs") == [(500,)]


async def test_an_event_loop_that_stood_still_is_no_lock_of_another_program(tmp_path: Path) -> None:
    """What came first has ended in its thread meanwhile, and only the loop has not noticed."""
    database = Database(tmp_path / "ledger.sqlite3")
    begun, let_end, ended = threading.Event(), threading.Event(), threading.Event()

    def work(_: Connection) -> None:
        begun.set()
        assert let_end.wait(60)
        ended.set()

    with anyio.fail_after(180):
        await database.transact(lambda _: None)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(database.transact, work)
            await anyio.to_thread.run_sync(begun.wait)
            tasks.start_soon(partial(database.transact, lambda _: None, max_wait_seconds=0.3))
            await anyio.wait_all_tasks_blocked()
            let_end.set()
            assert ended.wait(60)
            # The loop stands still for longer than the second one may wait.
            time.sleep(2.0)  # noqa: ASYNC251  that it stands still is what is tried


async def test_an_opening_that_is_slow_is_no_lock_of_another_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each statement of it comes through, and together they take longer than those behind it may wait."""
    statements: list[object] = []
    pause, patience = 0.03, 2.0

    @contextlib.contextmanager
    def report_slowly(engine: Engine, note_progress: Callable[[], None]) -> Iterator[None]:
        def note() -> None:
            statements.append(None)
            time.sleep(pause)  # as on a machine that is busy
            note_progress()

        with report_statements(engine, note):
            yield

    monkeypatch.setattr(rotoscope.store.sqlite, "report_statements", report_slowly)
    database = Database(tmp_path / "ledger.sqlite3")
    with anyio.fail_after(180):
        async with anyio.create_task_group() as tasks:
            for writes in (True, False, True, False):
                work = partial(database.transact, lambda _: None, writes=writes, max_wait_seconds=patience)
                tasks.start_soon(work)
    assert len(statements) * pause > patience


async def test_a_ledger_with_a_rollback_journal_and_a_reader_goes_on_without_the_switch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rotoscope.store.sqlite, "_WAL_SWITCH_SECONDS", 0.05)
    file = tmp_path / "ledger.sqlite3"
    first = Database(file)
    job = (await Ledger(first, lambda: 1.0).open(NEW)).job
    await first.aclose()
    assert rows(file, "PRAGMA journal_mode = DELETE") == [("delete",)]
    ledger = Ledger(Database(file, busy_seconds=0.1), lambda: 1.0)
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN")
        other.execute("SELECT * FROM jobs").fetchall()
        assert await ledger.job(job.id, "local") == job
        with pytest.raises(StorageFailed, match="locked"):
            await ledger.open(NEW)  # such a journal lets nobody write while somebody reads
        other.execute("ROLLBACK")
    assert rows(file, "SELECT count(*) FROM jobs") == [(1,)], "what timed out has not happened"
    await ledger.open(NEW)
    assert rows(file, "SELECT count(*) FROM jobs") == [(2,)]


async def test_a_ledger_with_a_rollback_journal_that_nobody_reads_is_switched(tmp_path: Path) -> None:
    file = tmp_path / "ledger.sqlite3"
    database = Database(file)
    await database.change_counter()
    await database.aclose()
    rows(file, "PRAGMA journal_mode = DELETE")
    await Database(file).change_counter()
    assert rows(file, "PRAGMA journal_mode") == [("wal",)]


@pytest.mark.parametrize("mode", ["DELETE", "WAL"])
async def test_a_newer_ledger_is_refused_before_anything_of_it_is_changed(tmp_path: Path, mode: str) -> None:
    file = tmp_path / "ledger.sqlite3"
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as newer:
        newer.execute(f"PRAGMA journal_mode = {mode}")
        newer.execute("CREATE TABLE jobs (id)")
        newer.execute("PRAGMA user_version = 99")
    before = file.read_bytes()
    with pytest.raises(StorageFailed, match="schema 99"):
        await Database(file).change_counter()
    assert file.read_bytes() == before


async def test_what_only_reads_cannot_write(tmp_path: Path) -> None:
    database = Database(tmp_path / "ledger.sqlite3")
    with pytest.raises(StorageFailed):
        await database.transact(lambda c: c.exec_driver_sql("DELETE FROM jobs"), writes=False)


@pytest.mark.parametrize("place", ["postgresql://host/name", "nonsense", "sqlite+what:///x"])
async def test_a_place_that_is_none_is_reported_and_leaves_no_file_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StorageFailed):
        await Database(place).change_counter()
    assert list(tmp_path.iterdir()) == []


async def test_a_ledger_in_memory_is_one_for_what_writes_and_what_reads() -> None:
    ledger = Ledger(Database("sqlite://"), lambda: 1.0)
    job = (await ledger.open(NEW)).job
    assert await ledger.job(job.id, "local") == job


async def test_what_guards_money_is_on_the_disk_when_it_is_acknowledged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """WAL with synchronous=FULL for the intent and the provider's id; the rest may be done again after a power cut."""
    levels: dict[str, int] = {}
    write_event = rotoscope.store.rows.write_event

    def write_and_note(connection: Connection, job_id: str, at: float, kind: str, data: Any) -> None:
        write_event(connection, job_id, at, kind, data)
        levels[kind] = int(connection.exec_driver_sql("PRAGMA synchronous").scalar_one())

    for module in (rotoscope.store.fencing, rotoscope.store.overrides, rotoscope.store.openings):
        monkeypatch.setattr(module, "write_event", write_and_note)
    database = Database(tmp_path / "ledger.sqlite3")
    ledger, driver = Ledger(database, lambda: 1.0), JobDriver("me", frozenset({"replicate"}), frozenset({"m"}))
    job = await Leases(database, lambda: 1.0, driver, Intervals()).claim((await ledger.open(NEW)).job.id)
    assert job is not None
    await ledger.commit_intent(job, "digest")
    await ledger.write_prediction_id(job.id, "local", "p1")
    await ledger.advance(job, Patch(progress=0.5, event="progress"))
    assert levels == {"opened": 1, "intended": 2, "submitted": 2, "progress": 1}
    assert rows(tmp_path / "ledger.sqlite3", "PRAGMA journal_mode") == [("wal",)]


async def test_a_file_that_is_no_database_is_reported_as_a_storage_failure(tmp_path: Path) -> None:
    file = tmp_path / "ledger.sqlite3"
    file.write_bytes(b"this is no database, but it is long enough to look at" * 100)
    with pytest.raises(StorageFailed):
        await Ledger(Database(file), lambda: 1.0).open(NEW)


# --- where it lies, and what belongs to it


@pytest.mark.parametrize("replaced", [False, True], ids=["removed", "replaced"])
async def test_nothing_is_sent_once_the_ledgers_file_is_another(
    studio: Studio, settings: Settings, provider: ScriptedProvider, photo: Path, until: Until, replaced: bool
) -> None:
    file = settings.home / "ledger.sqlite3"
    assert (await performed(studio, segment_arguments(photo, "one"))).status == "succeeded"
    asked = len(provider.asked)
    for part in file.parent.glob("ledger.sqlite3*"):
        part.rename(part.with_name(f"old-{part.name}"))
    if replaced:
        await Ledger(Database(file), lambda: 1.0).open(NEW)
    with pytest.raises(StorageFailed, match="removed or replaced"):
        await studio.start(await studio.plan("segment_image", segment_arguments(photo, "two"), "local"))
    assert (provider.posts, len(provider.asked)) == (1, asked)


async def test_a_job_that_is_on_its_way_is_not_sent_once_the_ledgers_file_is_another(tmp_path: Path) -> None:
    file = tmp_path / "ledger.sqlite3"
    database = Database(file)
    ledger = Ledger(database, lambda: 1.0)
    holder = JobDriver("me", frozenset({"replicate"}), frozenset({"m"}))
    job = await Leases(database, lambda: 1.0, holder, Intervals()).claim((await ledger.open(NEW)).job.id)
    assert job is not None
    assert await ledger.submission(job.id, "local") is None
    file.rename(tmp_path / "old")
    with pytest.raises(StorageFailed, match="removed or replaced"):
        await ledger.commit_intent(job, "digest")
    assert await ledger.submission(job.id, "local") is None


def home_at(folder: Path, url: str | None = None) -> Settings:
    return read_settings({"ROTOSCOPE_HOME": str(folder), **({"ROTOSCOPE_DATABASE_URL": url} if url else {})})


async def opening_of(opened: StudioOpener, provider: ScriptedProvider, settings: Settings) -> None:
    refusal: StorageFailed | None = None
    async with opened(settings, provider) as studio:
        try:
            await studio.list("local", None, 1)
        except StorageFailed as error:
            refusal = error  # raised inside a task group it would come out wrapped
    if refusal is not None:
        raise refusal


async def test_a_ledger_is_refused_to_a_second_home(
    opened: StudioOpener, provider: ScriptedProvider, tmp_path: Path
) -> None:
    first = home_at(tmp_path / "one")
    await opening_of(opened, provider, first)
    second = home_at(tmp_path / "two", f"sqlite:///{first.home}/ledger.sqlite3")
    with pytest.raises(StorageFailed, match="belongs to another results folder"):
        await opening_of(opened, provider, second)
    await opening_of(opened, provider, first)


async def test_a_ledger_outside_belongs_to_the_first_home_that_uses_it(
    opened: StudioOpener, provider: ScriptedProvider, tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path}/shared.sqlite3"
    for _ in range(2):
        await opening_of(opened, provider, home_at(tmp_path / "one", url))
    with pytest.raises(StorageFailed, match="belongs to another results folder"):
        await opening_of(opened, provider, home_at(tmp_path / "two", url))
    (tmp_path / "one").rename(tmp_path / "moved")
    await opening_of(opened, provider, home_at(tmp_path / "moved", url))


async def test_a_home_that_is_moved_or_whose_results_were_emptied_goes_on(
    opened: StudioOpener, provider: ScriptedProvider, tmp_path: Path
) -> None:
    await opening_of(opened, provider, home_at(tmp_path / "one"))
    (mark,) = rows(tmp_path / "one" / "ledger.sqlite3", "SELECT value FROM properties WHERE name = 'vault'")
    (tmp_path / "one").rename(tmp_path / "two")
    await opening_of(opened, provider, home_at(tmp_path / "two"))
    shutil.rmtree(tmp_path / "two" / "vault")
    await opening_of(opened, provider, home_at(tmp_path / "two"))
    assert (tmp_path / "two" / "vault" / ".id").read_text() == mark[0]


async def test_a_ledger_of_a_former_version_gets_its_mark(
    opened: StudioOpener, provider: ScriptedProvider, tmp_path: Path
) -> None:
    settings = home_at(tmp_path / "one")
    settings.home.mkdir()
    with contextlib.closing(sqlite3.connect(settings.home / "ledger.sqlite3")) as old:
        old.executescript(SCHEMA_1)
    await opening_of(opened, provider, settings)
    (mark,) = rows(settings.home / "ledger.sqlite3", "SELECT value FROM properties WHERE name = 'vault'")
    assert (settings.home / "vault" / ".id").read_text() == mark[0]
