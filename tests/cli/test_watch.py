"""`rotoscope jobs watch`: what it shows of jobs in a terminal and in a pipe, when it ends, and whom it notifies."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import anyio
import pytest
from calls import BOX
from postgresql import postgresql, postgresql_cluster
from rich.console import Console
from store_database import StoreDatabase, database

from rotoscope.cli.watch.command import make_notifier, watch_jobs
from rotoscope.cli.watch.following import Changes, Watch, follow_jobs, read_jobs
from rotoscope.cli.watch.notice import Notice, find_notice_command, send_notice
from rotoscope.cli.watch.table import LineView, TableView, describe_cost, job_table
from rotoscope.contracts.status import Status
from rotoscope.errors import StorageFailed, UnknownJob
from rotoscope.settings import Settings
from rotoscope.store.database import Database
from rotoscope.store.job_data import Charge, JobPlan
from rotoscope.store.ledger import Ledger
from rotoscope.store.records import Job, NewJob

__all__ = ["database", "postgresql", "postgresql_cluster"]

NEW = NewJob("generate_video", "m", "replicate", "local", True, {}, JobPlan(expected_seconds=60.0), needs_key="k")
NOW = 1_795_737_600.0
JOB = Job(
    id="a" * 32, tool="generate_video", model="bytedance/seedance-2.0", provider="replicate", principal="local",
    sandbox=False, state="running", stage="watch", args={}, progress=0.4, message="Running at Replicate.", error=None,
    cancel_requested=False, owner=None, fence=1, created_at=NOW - 20, updated_at=NOW, finished_at=None,
    lease_until=NOW + 10, plan=JobPlan(expected_seconds=60.0, estimate_usd=0.9),
)  # fmt: skip


class RecordingView:
    """Keeps the states of every look in which they had changed."""

    def __init__(self) -> None:
        self.seen: list[list[str]] = []
        self.next = anyio.Event()

    def show(self, jobs: Sequence[Job], _: float) -> None:
        states: list[str] = [job.state for job in jobs]
        if not self.seen or self.seen[-1] != states:
            self.seen.append(states)
        self.next.set()
        self.next = anyio.Event()


async def ignore(_: Job) -> None:
    """Nobody wants to know."""


# --- following


@pytest.mark.anyio
async def test_a_watch_sees_what_another_process_writes_and_ends_with_the_last_job(database: StoreDatabase) -> None:
    other, mine = database.connect(), database.connect()
    ledger, reads = Ledger(other, time.time), Ledger(mine, time.time)
    first, second = [(await ledger.open(replace(NEW, request_key=key))).job.id for key in "ab"]
    view, ended, changes = RecordingView(), list[str](), Changes(mine)

    async def note(job: Job) -> None:
        ended.append(job.id)

    async def write() -> None:
        await view.next.wait()
        await ledger.request_cancel(first, "local")
        while ended != [first]:
            await view.next.wait()
        await ledger.request_cancel(second, "local")

    with anyio.fail_after(180):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(write)
            if mine.announces_changes:
                tasks.start_soon(mine.listen, changes)
            known = await follow_jobs(Watch("local"), reads, changes, view, time.time, note)
            tasks.cancel_scope.cancel()
    assert ended == [first, second]
    assert {job.state for job in known.values()} == {"cancelled"}
    assert view.seen[0] == ["queued", "queued"]
    assert view.seen[-1] == ["cancelled", "cancelled"]


class StubReads:
    """A ledger whose answers are given: each call takes the next."""

    def __init__(self, *states: Job | Exception) -> None:
        self.states = list(states)
        self.reads = 0

    async def jobs(self, *_: object) -> Sequence[Job]:
        return [await self.job("", "")]

    async def job(self, *_: object) -> Job:
        self.reads += 1
        found = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        if isinstance(found, Exception):
            raise found
        return found


class StubLedger:
    """A counter that moves as often as it is said."""

    announces_changes = False

    def __init__(self, *counts: int) -> None:
        self.counts = list(counts)

    async def change_counter(self) -> int:
        return self.counts.pop(0) if len(self.counts) > 1 else self.counts[0]


@pytest.mark.anyio
async def test_nothing_is_read_while_nothing_was_written() -> None:
    changes = Changes(StubLedger(7))
    assert await changes.wait(0.01)
    assert not await changes.wait(0.01)
    changes.hear(frozenset())
    assert await changes.wait(0.01)


@pytest.mark.anyio
async def test_a_ledger_that_is_away_for_a_moment_is_waited_for() -> None:
    done = replace(JOB, state="succeeded")
    reads = StubReads(JOB, StorageFailed("locked"), done)
    view = RecordingView()
    with anyio.fail_after(120):
        known = await follow_jobs(
            Watch("local", (JOB.id,)), reads, Changes(StubLedger(1, 2, 3, 4)), view, lambda: NOW, ignore
        )
    assert [job.state for job in known.values()] == ["succeeded"]


@pytest.mark.anyio
async def test_a_job_that_was_removed_meanwhile_is_shown_no_longer() -> None:
    reads = StubReads(UnknownJob("gone"))
    assert await read_jobs(Watch("local", (JOB.id,)), reads, {JOB.id: JOB}) == {}
    with pytest.raises(UnknownJob):
        await read_jobs(Watch("local", (JOB.id,)), reads, {})


# --- the table and the lines


def test_the_live_table_shows_each_job_with_its_progress_time_cost_and_message() -> None:
    console = Console(force_terminal=True, width=170, record=True, file=io.StringIO(), color_system=None)
    failed = replace(JOB, id="b" * 32, state="failed", finished_at=NOW, message="The model [red]failed[/red]\x1b[2J.")
    with TableView(console) as view:
        view.show((JOB, failed), NOW)
        view.show((replace(JOB, state="succeeded", finished_at=NOW + 5, charge=Charge(True, 0.85)), failed), NOW + 9)
    text = console.export_text()
    assert "a" * 32 in text
    assert "20 s / 60 s" in text
    assert "about 0.90 USD" in text
    assert "0.85 USD" in text
    assert "succeeded" in text
    assert "25 s" in text
    assert "[red]failed[/red]" in text
    assert "\x1b[2J" not in text


def test_a_narrow_terminal_gets_short_ids_and_many_jobs_a_last_line() -> None:
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(job_table([replace(JOB, id=f"{n:032x}") for n in range(40)], NOW, 80))
    text = console.export_text()
    assert "a" * 32 not in text
    assert "and 10 older ones" in text


def test_a_pipe_gets_one_line_for_each_change() -> None:
    out = io.StringIO()
    view = LineView(out)
    view.show((JOB,), NOW)
    view.show((JOB,), NOW + 1)
    view.show((replace(JOB, state="needs_review", message="Look\nat it."),), NOW + 2)
    lines = out.getvalue().splitlines()
    assert len(lines) == 2
    assert lines[0].startswith(f"{'a' * 32} generate_video running ")
    assert lines[1].endswith("Look at it.")


def test_a_job_that_nobody_drives_says_so() -> None:
    out = io.StringIO()
    LineView(out).show((replace(JOB, lease_until=NOW - 100),), NOW)
    assert "rotoscope jobs drive" in out.getvalue()


def test_a_cost_that_is_not_known_is_not_called_nothing() -> None:
    assert describe_cost(replace(JOB, plan=JobPlan())) == "not known"
    assert describe_cost(replace(JOB, sandbox=True)) == "nothing (sandbox)"


# --- the command


@pytest.mark.anyio
@pytest.mark.parametrize(("state", "code"), [("succeeded", 0), ("failed", 1), ("cancelled", 1), ("needs_review", 3)])
async def test_the_exit_code_says_how_the_jobs_ended(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, state: Status, code: int
) -> None:
    stub = StubReads(replace(JOB, state=state, finished_at=NOW))
    monkeypatch.setattr("rotoscope.composition.reading.open_ledger_reads", lambda *_: (stub, StubLedger(1)))
    console = Console(file=io.StringIO(), force_terminal=True, width=120)
    with anyio.fail_after(120):
        assert await watch_jobs(settings, Watch("local", (JOB.id,)), ignore, console) == code


@pytest.fixture
def env(tmp_path: Path, home: Path) -> dict[str, str]:
    own = {"HOME": str(home), "ROTOSCOPE_HOME": str(tmp_path / "rotoscope"), "PYTHONWARNINGS": "error"}
    return {"PATH": os.environ["PATH"], "ROTOSCOPE_SANDBOX_WEIGHTS": str(tmp_path / "none.onnx"), **own}


def run(env: dict[str, str], home: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "rotoscope", *arguments]
    return subprocess.run(command, env=env, cwd=home, capture_output=True, text=True, timeout=60, check=False)


def test_where_no_job_is_open_it_says_so_and_ends_at_once(env: dict[str, str], home: Path) -> None:
    done = run(env, home, "jobs", "watch")
    assert (done.returncode, done.stdout) == (0, "")
    assert "nothing to watch" in done.stderr


def test_a_job_that_is_none_is_bad_input(env: dict[str, str], home: Path) -> None:
    done = run(env, home, "jobs", "watch", "0" * 32)
    assert done.returncode == 2
    assert "no such job" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_finished_job_is_one_line_and_watching_delivers_nothing(env: dict[str, str], home: Path, photo: Path) -> None:
    called = run(env, home, "call", "segment_image", "--json", json.dumps({"image": photo.name, "box": BOX}))
    job_id = json.loads(called.stdout)["job_id"]
    done = run(env, home, "jobs", "watch", f"job://{job_id}")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [f"{job_id} segment_image succeeded 100% nothing (sandbox); Done."]


@pytest.mark.skipif(sys.platform == "win32", reason="there is no such signal")
def test_an_interrupt_ends_the_watch_and_not_the_job(env: dict[str, str], home: Path, tmp_path: Path) -> None:
    file = tmp_path / "rotoscope" / "ledger.sqlite3"
    assert run(env, home, "jobs", "watch").returncode == 0  # makes the ledger

    async def open_job() -> str:
        ledger = Database(file)
        job = (await Ledger(ledger, time.time).open(NEW)).job
        await ledger.aclose()
        return job.id

    job_id = anyio.run(open_job)
    command = [sys.executable, "-m", "rotoscope", "jobs", "watch"]
    with subprocess.Popen(
        command, env=env, cwd=home, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as watching:
        assert watching.stdout is not None
        assert job_id in watching.stdout.readline()
        watching.send_signal(signal.SIGINT)
        _, words = watching.communicate(timeout=60)
    assert watching.returncode == 130
    assert "Traceback" not in words
    assert "queued" in run(env, home, "jobs", "list").stdout


# --- notifications


def only(*names: str) -> Callable[[str], str | None]:
    return lambda name: f"/bin/{name}" if name in names else None


def test_each_system_has_its_command_and_texts_are_arguments_or_environment() -> None:
    notice = Notice("title", "text; $(reboot)")
    linux = find_notice_command("linux", notice, only("notify-send"))
    assert linux is not None
    assert linux.arguments == ("/bin/notify-send", "--app-name=rotoscope", "--", "title", "text; $(reboot)")
    macos = find_notice_command("darwin", notice, only("osascript"))
    assert macos is not None
    assert macos.arguments[-2:] == ("title", "text; $(reboot)")
    windows = find_notice_command("win32", notice, only("powershell.exe"))
    assert windows is not None
    assert not any("reboot" in one for one in windows.arguments)
    assert windows.more_environment["NOTICE_TEXT"] == "text; $(reboot)"


@pytest.mark.parametrize("platform", ["linux", "darwin", "win32"])
def test_where_there_is_no_program_there_is_no_command(platform: str) -> None:
    assert find_notice_command(platform, Notice("", ""), only()) is None


def test_a_notice_is_short_plain_text() -> None:
    notice = Notice.clean("--help", "<b>a</b> & b\n\x1b[31mc" + "x" * 1000)
    assert notice.title == "help"
    assert notice.text.startswith("b a /b and b c")
    assert len(notice.text) <= 240
    assert "\x1b" not in notice.text


@pytest.fixture
def desktop(tmp_path: Path) -> Path:
    """A folder with a `notify-send` that writes down its arguments, one a line."""
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "notify-send"
    program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >> {tmp_path / "shown"}\n')
    program.chmod(0o755)
    return folder


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="it is the command of Linux")
def test_the_command_is_run_without_a_shell(desktop: Path, tmp_path: Path) -> None:
    command = find_notice_command("linux", Notice("done", "$(touch no) 'it'"), lambda _: str(desktop / "notify-send"))
    assert command is not None
    assert send_notice(command, {"PATH": os.environ["PATH"]})
    assert (tmp_path / "shown").read_text().splitlines() == ["--app-name=rotoscope", "--", "done", "$(touch no) 'it'"]
    broken = replace(command, arguments=(str(tmp_path / "nothing"),))
    assert not send_notice(broken, {})


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="it is the command of Linux")
def test_only_the_end_of_a_long_job_notifies(desktop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{desktop}{os.pathsep}{os.environ['PATH']}")
    notify = make_notifier("linux", dict(os.environ))
    anyio.run(notify, replace(JOB, state="succeeded", finished_at=JOB.created_at + 5))
    assert not (tmp_path / "shown").exists()
    anyio.run(notify, replace(JOB, state="needs_review", finished_at=JOB.created_at + 90))
    assert (tmp_path / "shown").read_text().splitlines()[2] == "generate_video: needs review"


def test_a_system_without_notifications_says_so_once(env: dict[str, str], home: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    done = run({**env, "PATH": str(tmp_path / "empty")}, home, "jobs", "watch", "--notify")
    assert done.returncode == 0
    assert done.stderr.count("no command for desktop notifications") == 1
