"""`rotoscope worker`: it drives what others have opened, ends in order when it is asked to, and says what is wrong."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import anyio
import pytest
from held_provider import Held
from ledger_rows import read_rows
from postgresql import PostgresqlServer, postgresql

from rotoscope.cli.commands import run_command
from rotoscope.composition import open_studio, stdio_roots
from rotoscope.composition.driving import Driving
from rotoscope.contracts.arguments import SegmentImage
from rotoscope.settings import read_settings
from rotoscope_sandbox import build_sandbox
from rotoscope_sandbox.serving import serve_in_thread

__all__ = ["postgresql"]

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there are no such signals there")
SECONDS = 180
Begin = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def provider(tmp_path: Path) -> Iterator[tuple[Held, str]]:
    held = Held(build_sandbox(tmp_path / "sandbox", pace=0))
    held.let.set()
    with serve_in_thread(held, 0) as url:  # type: ignore[arg-type] # any ASGI app is served
        yield held, url
        held.let.set()


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)])
def env(request: pytest.FixtureRequest, tmp_path: Path, home: Path, provider: tuple[Held, str]) -> Iterator[Any]:
    kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    keys = {"REPLICATE_API_TOKEN": "r8_canary", "REPLICATE_BASE_URL": provider[1], "ROTOSCOPE_SANDBOX": "never"}
    place = {"HOME": str(home), "ROTOSCOPE_HOME": str(tmp_path / "rotoscope"), "PYTHONWARNINGS": "error"}
    found = {**kept, **keys, **place}
    if request.param == "sqlite":
        yield found
        return
    server: PostgresqlServer = request.getfixturevalue("postgresql")
    with server.new_ledger() as url:
        yield {**found, "ROTOSCOPE_DATABASE_URL": url}


@pytest.fixture
def begin(env: dict[str, str], home: Path) -> Iterator[Begin]:
    begun: list[subprocess.Popen[str]] = []

    def command(*arguments: str) -> "subprocess.Popen[str]":
        words = [sys.executable, "-m", "rotoscope", "worker", *arguments]
        begun.append(subprocess.Popen(words, env=env, cwd=home, stderr=subprocess.PIPE, text=True))
        return begun[-1]

    yield command
    for process in begun:
        process.kill()
        process.communicate()


def open_job(env: dict[str, str], photo: Path) -> None:
    """Open a job as a server that drives none."""

    async def run() -> None:
        settings = read_settings(env)
        async with AsyncExitStack() as closing, anyio.create_task_group() as tasks:
            roots = stdio_roots(settings, photo.parent, photo.parent)
            studio = open_studio(settings, roots, tasks, closing, driving=Driving(most_jobs=0))
            asked = SegmentImage(image=str(photo), instruction="the suit", model="bytedance/sa2va-4b-image")
            await studio.start(await studio.plan("segment_image", asked, "local"))
            tasks.cancel_scope.cancel()

    anyio.run(run)


def jobs(env: dict[str, str]) -> Any:
    place = env.get("ROTOSCOPE_DATABASE_URL", Path(env["ROTOSCOPE_HOME"]) / "ledger.sqlite3")
    return read_rows(place, "SELECT state, stage, owner FROM jobs")


def wait_for(env: dict[str, str], state: str) -> None:
    async def look() -> None:
        with anyio.fail_after(SECONDS):
            while [row[0] for row in jobs(env)] != [state]:  # noqa: ASYNC110 - it happens in another process
                await anyio.sleep(0.05)

    anyio.run(look)


def end(process: "subprocess.Popen[str]") -> str:
    """Ask a worker to end; what it has said."""
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, said
    return said


def test_it_drives_what_a_server_has_opened_and_says_what_it_drives(
    env: dict[str, str], begin: Begin, photo: Path, provider: tuple[Held, str]
) -> None:
    open_job(env, photo)
    worker = begin("--concurrency", "2")
    wait_for(env, "succeeded")
    said = end(worker)
    assert "rotoscope: driving jobs of replicate, 2 at once; the ledger is " in said
    assert "given back" in said
    assert provider[0].app.state.counters.posts.total() == 1


def test_asked_to_end_it_finishes_the_paying_request_and_gives_the_job_back(
    env: dict[str, str], begin: Begin, photo: Path, provider: tuple[Held, str]
) -> None:
    held, _ = provider
    held.let.clear()
    open_job(env, photo)
    first = begin()
    assert held.accepted.wait(SECONDS)
    first.send_signal(signal.SIGTERM)
    with pytest.raises(subprocess.TimeoutExpired):
        first.wait(0.4)
    held.let.set()
    _, said = first.communicate(timeout=SECONDS)
    assert first.returncode == 0, said
    assert jobs(env) == [("queued", "watch", None)]
    second = begin()
    wait_for(env, "succeeded")
    end(second)
    assert held.app.state.counters.posts.total() == 1


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["--concurrency", "0"], "--concurrency is less than 1."),
        (["--providers", "fal"], "There is no key for fal here. Name some of: replicate."),
        (["--providers", ","], "--providers names none."),
    ],
)
def test_what_cannot_be_driven_is_refused_in_one_sentence(
    settings_in_environment: None, capfd: pytest.CaptureFixture[str], given: list[str], words: str
) -> None:
    assert run_command(["worker", *given]) == 2
    assert words in capfd.readouterr().err


def test_a_database_that_cannot_be_reached_ends_it_with_one_sentence(
    settings_in_environment: None, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROTOSCOPE_DATABASE_URL", "postgresql+psycopg://somebody:canary@127.0.0.1:9/none")
    assert run_command(["worker"]) == 1
    said = capfd.readouterr().err
    assert "PostgreSQL (none at 127.0.0.1:9) cannot be reached" in said
    assert "canary" not in said


@pytest.fixture
def settings_in_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [one for one in os.environ if one.startswith("ROTOSCOPE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("ROTOSCOPE_HOME", str(tmp_path / "rotoscope"))
    monkeypatch.setenv("ROTOSCOPE_SANDBOX", "never")
    monkeypatch.setenv("REPLICATE_API_TOKEN", "r8_canary")


def test_a_session_over_stdio_leaves_its_jobs_to_nobody(capfd: pytest.CaptureFixture[str]) -> None:
    assert run_command(["serve", "--no-drive"]) == 2
    assert "--no-drive is for a server over HTTP." in capfd.readouterr().err
