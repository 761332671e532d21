"""PostgreSQL under the ledger: how it is opened and refused, what a lost connection means, and how changes arrive."""

import builtins
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest
from calls import SECONDS, StudioOpener, Until, perform, segment_arguments
from lossy import Lossy
from postgresql import GUARDED_PASSWORD, GUARDED_USER, Cluster, PostgresqlServer
from postgresql_proxy import open_proxy
from psycopg import sql
from scripted_provider import ScriptedProvider
from sqlalchemy import make_url, text
from store_database import StoreDatabase, hold_lock

from rotoscope.errors import StorageFailed
from rotoscope.jobs.concurrency import JobNotifier
from rotoscope.jobs.dispatcher import Dispatcher
from rotoscope.media.vault import FolderVault
from rotoscope.settings import read_settings
from rotoscope.store.backend import Announcement
from rotoscope.store.database import Database
from rotoscope.store.job_data import JobPlan
from rotoscope.store.leases import JobDriver, Leases
from rotoscope.store.ledger import Ledger
from rotoscope.store.records import NewJob, Patch
from rotoscope.store.rows import write_event
from rotoscope.store.schema import SCHEMA_VERSION, job_events, metadata
from rotoscope.store.timing import Intervals
from rotoscope.store.vault_mark import VaultBinding
from rotoscope.store.write_locks import WriteLock

pytestmark = [pytest.mark.anyio, pytest.mark.postgresql]
NEW = NewJob("segment_image", "m", "replicate", "local", False, {}, JobPlan())
QUICK = Intervals(lease=0.6, heartbeat=0.2, poll=0.05, change_poll=0.05, post_grace=0.2)
DRIVER = JobDriver("me", frozenset({"replicate"}), frozenset({"m"}))


def clock() -> float:
    return 1_000_000.0


@pytest.fixture
def ledger_url(postgresql: PostgresqlServer) -> Any:
    with postgresql.new_ledger() as url:
        yield url


async def open_job(database: Database, principal: str = "local") -> str:
    new = NewJob("segment_image", "m", "replicate", principal, False, {}, JobPlan())
    return (await Ledger(database, clock).open(new)).job.id


# --- opening


async def test_a_new_database_gets_every_table_and_index_and_says_its_version(postgresql_url: str) -> None:
    await open_job(Database(postgresql_url))
    store = StoreDatabase(postgresql_url)
    assert store.execute("SELECT value FROM properties WHERE name = 'schema'") == [(str(SCHEMA_VERSION),)]
    found = {name for (name,) in store.execute("SELECT indexname FROM pg_indexes WHERE schemaname = 'public'")}
    assert {index.name for table in metadata.sorted_tables for index in table.indexes} <= found


async def test_many_processes_may_open_a_new_database_in_one_moment(postgresql_url: str) -> None:
    opened: list[str] = []

    async def open_one(number: int) -> None:
        opened.append(await open_job(Database(postgresql_url), f"principal {number}"))

    with anyio.fail_after(SECONDS):
        async with anyio.create_task_group() as tasks:
            for number in range(6):
                tasks.start_soon(open_one, number)
    assert StoreDatabase(postgresql_url).execute("SELECT count(*) FROM jobs") == [(len(set(opened)),)] == [(6,)]


async def test_an_older_ledger_is_brought_to_this_version_and_keeps_its_jobs(ledger_url: str) -> None:
    store = StoreDatabase(ledger_url)
    job_id = await open_job(Database(ledger_url))
    store.execute(
        "DROP TABLE people",
        "ALTER TABLE jobs DROP COLUMN account",
        "DROP INDEX jobs_by_end",
        "UPDATE properties SET value = '5' WHERE name = 'schema'",
    )
    job = await Ledger(Database(ledger_url), clock).job(job_id, "local")
    assert (job.id, job.account) == (job_id, None)
    assert store.execute("SELECT count(*) FROM people") == [(0,)]
    assert store.execute("SELECT value FROM properties WHERE name = 'schema'") == [(str(SCHEMA_VERSION),)]
    assert store.execute("SELECT count(*) FROM pg_indexes WHERE indexname = 'jobs_by_end'") == [(1,)]


async def test_a_ledger_of_a_newer_version_is_refused_and_left_as_it_is(ledger_url: str) -> None:
    store = StoreDatabase(ledger_url)
    store.execute(f"UPDATE properties SET value = '{SCHEMA_VERSION + 1}' WHERE name = 'schema'")
    with pytest.raises(StorageFailed, match="newer rotoscope") as caught:
        await open_job(Database(ledger_url))
    assert "another database" in caught.value.hint
    assert store.execute("SELECT count(*) FROM jobs") == [(0,)]


async def test_a_ledger_belongs_to_the_first_results_folder_that_uses_it(ledger_url: str, tmp_path: Path) -> None:
    def home(name: str) -> Database:
        (tmp_path / name).mkdir(exist_ok=True)
        return Database(ledger_url, binding=VaultBinding(FolderVault(tmp_path / name), is_in_home=False))

    for _ in range(2):
        await open_job(home("one"))
    with pytest.raises(StorageFailed, match="belongs to another results folder"):
        await open_job(home("two"))


async def test_two_ledgers_in_schemas_of_one_database_do_not_wait_for_each_other(postgresql_url: str) -> None:
    store = StoreDatabase(postgresql_url)
    store.execute("CREATE SCHEMA one", "CREATE SCHEMA two")
    first, second = (Database(f"{postgresql_url}?options=-csearch_path%3D{name}") for name in ("one", "two"))
    await open_job(first)
    with anyio.fail_after(SECONDS):
        async with hold_lock(first):
            await open_job(second)
    assert store.execute("SELECT count(*) FROM one.jobs") == store.execute("SELECT count(*) FROM two.jobs") == [(1,)]


# --- what cannot be used


def url_with(url: str, **parts: Any) -> str:
    return make_url(url).set(**parts).render_as_string(hide_password=False)


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "password": ({"username": GUARDED_USER, "password": "hunter2"}, "does not accept the user or the password"),
    "no password": ({"username": GUARDED_USER}, "does not accept the user or the password"),
    "user": ({"username": "nobody-here"}, "does not know the user"),
    "database": ({"database": "nothing-here"}, "has no database of this name"),
    "no database": ({"database": ""}, "no database on it"),
    "port": ({"port": 1, "password": "hunter2"}, "cannot be reached"),
    "host": ({"host": "nothing.invalid", "password": "hunter2"}, "cannot be reached"),
    "option": ({"query": {"nonsense": "1"}}, "holds an option that PostgreSQL does not know"),
    "TLS": ({"query": {"sslmode": "require"}}, "do not agree about TLS"),
}


@pytest.mark.parametrize("what", WRONG)
async def test_a_database_that_cannot_be_used_is_refused_in_one_sentence_without_its_password(
    postgresql: PostgresqlServer, what: str
) -> None:
    if what in ("password", "no password", "TLS") and not isinstance(postgresql, Cluster):
        pytest.skip("how this server lets users in is not the tests' business")
    parts, sentence = WRONG[what]
    url = url_with(postgresql.url.render_as_string(hide_password=False), **parts)
    with pytest.raises(StorageFailed, match=sentence) as caught:
        await Database(url).change_counter()
    said = f"{caught.value.message} {caught.value.hint}"
    assert "hunter2" not in said
    assert "\n" not in said
    assert caught.value.hint


async def test_a_user_who_may_make_no_tables_is_given_the_reason(
    postgresql_cluster: Cluster,
) -> None:
    url = url_with(
        postgresql_cluster.url.render_as_string(hide_password=False), username=GUARDED_USER, password=GUARDED_PASSWORD
    )
    with pytest.raises(StorageFailed, match="may not write"):
        await Database(url).change_counter()
    with pytest.raises(StorageFailed, match="may not write"):  # a second try says the same
        await Database(url).change_counter()


async def test_a_database_that_keeps_no_unicode_is_refused(postgresql: PostgresqlServer) -> None:
    with postgresql.connect() as connection:
        connection.execute("CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    try:
        with pytest.raises(StorageFailed, match="LATIN1"):
            await Database(url_with(postgresql.url.render_as_string(hide_password=False), database="latin")).transact(
                lambda _: None
            )
    finally:
        postgresql.execute(sql.SQL("DROP DATABASE latin WITH (FORCE)"))


def test_without_its_driver_the_package_to_install_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    importing = builtins.__import__

    def refuse(name: str, *given: Any, **named: Any) -> Any:
        if name.partition(".")[0] == "psycopg":
            raise ImportError(name)
        return importing(name, *given, **named)

    for name in [one for one in sys.modules if one.startswith("rotoscope.store.postgresql")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(StorageFailed, match="driver") as caught:
        Database("postgresql+psycopg://me@127.0.0.1/x")
    assert "rotoscope[server]" in caught.value.hint


async def test_a_message_with_characters_that_postgresql_has_not_is_kept_without_them(ledger_url: str) -> None:
    database = Database(ledger_url)
    ledger = Ledger(database, clock)
    job = await Leases(database, clock, DRIVER, Intervals()).claim(await open_job(database))
    assert job is not None
    await ledger.advance(job, Patch(message="a\0b", event="progress"))
    assert (await ledger.job(job.id, "local")).message == "a\N{REPLACEMENT CHARACTER}b"


@pytest.mark.parametrize("durable", [True, False])
async def test_only_what_guards_money_waits_for_the_disk(ledger_url: str, durable: bool) -> None:
    show = text("SHOW synchronous_commit")
    database = Database(ledger_url)
    found = await database.transact(lambda c: c.execute(show).scalar_one(), durable=durable)
    assert found == ("on" if durable else "off")
    assert await database.transact(lambda c: c.execute(show).scalar_one(), durable=not durable) != found


async def test_what_only_reads_sees_one_moment_and_can_write_nothing(ledger_url: str) -> None:
    database, other = Database(ledger_url), StoreDatabase(ledger_url)

    def read(connection: Any) -> list[int]:
        def count() -> int:
            return len(connection.execute(job_events.select()).all())

        before = count()
        other.execute("DELETE FROM job_events")
        return [before, count()]

    await open_job(database)
    assert await database.transact(read, writes=False) == [1, 1]
    with pytest.raises(StorageFailed, match="may not write"):
        await database.transact(lambda c: c.execute(job_events.delete()), writes=False)


# --- connections that are lost


async def test_the_first_call_after_a_restart_works_although_every_kept_connection_is_dead(
    postgresql_cluster: Cluster,
) -> None:
    with postgresql_cluster.new_database() as url:
        database = Database(url)
        async with anyio.create_task_group() as tasks:  # as many connections as there may be
            for number in range(12):
                tasks.start_soon(open_job, database, f"principal {number}")
        await database.change_counter()
        await anyio.to_thread.run_sync(postgresql_cluster.stop)
        with pytest.raises(StorageFailed, match=r"cannot be reached|ended the connection"):
            await open_job(database)
        await anyio.to_thread.run_sync(postgresql_cluster.start)
        await open_job(database)
        assert len(await Ledger(database, clock).jobs("local", None, 10)) == 1
        await database.change_counter()
        await database.aclose()


async def test_what_is_written_when_the_connection_breaks_before_the_commit_is_not_there(ledger_url: str) -> None:
    database = Database(ledger_url)

    def write(connection: Any) -> None:
        pid = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
        connection.execute(job_events.delete())
        StoreDatabase(ledger_url).execute(f"SELECT pg_terminate_backend({pid})")
        connection.execute(job_events.select())

    await open_job(database)
    with pytest.raises(StorageFailed, match="ended the connection"):
        await database.transact(write)
    assert await database.transact(lambda c: len(c.execute(job_events.select()).all()), writes=False) == 1


async def test_a_statement_that_fails_and_is_passed_over_commits_nothing(ledger_url: str) -> None:
    """PostgreSQL answers such a commit with a rollback, and no error."""
    database = Database(ledger_url)

    def write(connection: Any) -> None:
        connection.execute(job_events.delete())
        with pytest.raises(Exception, match="nothing"):
            connection.execute(text("SELECT * FROM nothing"))

    await open_job(database)
    with pytest.raises(StorageFailed, match="could not be written"):
        await database.transact(write)
    assert await database.transact(lambda c: len(c.execute(job_events.select()).all()), writes=False) == 1


@pytest.mark.slow
async def test_an_intent_whose_commit_was_not_confirmed_is_never_paid_for(
    opened: StudioOpener, provider: ScriptedProvider, ledger_url: str, tmp_path: Path, photo: Path
) -> None:
    """It may stand, and it does. Nobody knows by then whether its request went out, so the run is looked for."""
    lossy = Lossy("replicate", bytes(provider.files["/out.png"]))
    lossy.lists = "none"
    with open_proxy(ledger_url) as proxy:
        settings = read_settings({"ROTOSCOPE_HOME": str(tmp_path / "rotoscope"), "ROTOSCOPE_DATABASE_URL": proxy.url})
        async with opened(settings, lossy, intervals=QUICK) as studio:
            proxy.lose_commit_after = b"INSERT INTO submissions"
            result = await perform(studio, segment_arguments(photo))
            intent = await studio.context.ledger.submission(result.job_id, "local")
    assert (proxy.lost, lossy.posts) == (1, 0)
    assert result.status == "needs_review"
    assert intent is not None
    assert intent.prediction_id is None


# --- changes


class Audience:
    def __init__(self) -> None:
        self.states: list[bool] = []
        self.changes: set[Announcement] = set()
        self.has_news = anyio.Event()

    def set_listening(self, is_listening: bool, /) -> None:
        self.states.append(is_listening)
        self._wake()

    def hear(self, changes: frozenset[Announcement], /) -> None:
        self.changes |= changes
        self._wake()

    def _wake(self) -> None:
        self.has_news.set()

    async def until(self, is_true: Callable[[], bool]) -> None:
        with anyio.fail_after(SECONDS):
            while not is_true():
                await self.has_news.wait()
                self.has_news = anyio.Event()


async def test_what_any_process_writes_is_announced_with_who_wrote_it(ledger_url: str) -> None:
    here, there, audience = Database(ledger_url), Database(ledger_url), Audience()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(here.listen, audience)
        await audience.until(lambda: audience.states == [True])
        own, foreign = await open_job(here), await open_job(there)
        await audience.until(lambda: len(audience.changes) == 2)
        tasks.cancel_scope.cancel()
    assert audience.changes == {Announcement(own, is_own=True), Announcement(foreign, is_own=False)}


async def test_who_listens_begins_again_when_the_connection_is_lost_and_is_given_to_know_that(ledger_url: str) -> None:
    database, audience = Database(ledger_url), Audience()
    others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query ~ '^LISTEN'"
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(database.listen, audience)
        await audience.until(lambda: audience.states == [True])
        StoreDatabase(ledger_url).execute(f"{others} AND datname = current_database()")
        await audience.until(lambda: audience.states == [True, False, True])
        job_id = await open_job(database)
        await audience.until(lambda: bool(audience.changes))
        tasks.cancel_scope.cancel()
    assert {change.job_id for change in audience.changes} == {job_id}


async def is_true(value: bool) -> bool:
    return value


async def is_running(ledger: Ledger, job_id: str) -> bool:
    return (await ledger.job(job_id, "local")).state == "running"


async def test_who_waits_for_a_job_is_woken_by_another_process_long_before_the_next_poll(
    ledger_url: str, until: Until
) -> None:
    """And a cancel is noticed: no interval of this process passes within the test."""
    rests = Intervals(lease=3e4, heartbeat=1e4, poll=1e4, change_poll=1e4, announced_poll=1e4)
    here, there = Database(ledger_url), Ledger(Database(ledger_url), clock)
    notifier, leases, stopped = JobNotifier(), Leases(here, clock, DRIVER, rests), anyio.Event()

    async def drive(_: Any, guard: Any) -> None:
        await guard.stop.wait()
        stopped.set()

    with anyio.fail_after(SECONDS):
        async with anyio.create_task_group() as tasks:
            dispatcher = Dispatcher(tasks, drive, leases, notifier, rests)
            job_id = await open_job(here)
            tasks.start_soon(dispatcher.run)
            await until(lambda: is_true(dispatcher._is_listening))
            dispatcher.start(job_id)
            await until(lambda: is_running(there, job_id))
            change = notifier.next_change(job_id)
            await there.request_cancel(job_id, "local")
            await change.wait()
            await stopped.wait()
            tasks.cancel_scope.cancel()


async def test_an_event_that_becomes_visible_after_one_with_a_higher_number_is_read(ledger_url: str) -> None:
    database = Database(ledger_url)
    leases = Leases(Database(ledger_url), clock, DRIVER, Intervals())
    slow, quick = [await open_job(database) for _ in range(2)]
    cursor, _ = await leases.changes_since(None)

    def write_slowly(connection: Any) -> None:
        write_event(connection, slow, 1.0, "progress", {})
        written.set()
        assert may_end.wait(SECONDS)

    written, may_end = threading.Event(), threading.Event()
    with anyio.fail_after(SECONDS):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(partial(database.transact, write_slowly, lock=WriteLock(slow)))
            await anyio.to_thread.run_sync(written.wait)
            await database.transact(lambda c: write_event(c, quick, 1.0, "progress", {}), lock=WriteLock(quick))
            cursor, changed = await leases.changes_since(cursor)
            assert changed == {quick}
            may_end.set()
    cursor, changed = await leases.changes_since(cursor)
    assert changed == {slow}
    assert await leases.changes_since(cursor) == (cursor, frozenset())
