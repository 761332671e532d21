"""Jobs that outlive their process, at the command line: driven, resolved, swept, and given back on a signal."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack, closing
from pathlib import Path
from typing import Any

import anyio
import pytest
from calls import BOX
from decoding import InThread

from rotoscope.composition import open_studio, stdio_roots
from rotoscope.contracts.arguments import SegmentImage
from rotoscope.settings import read_settings
from rotoscope.store.records import Job, OpenResult

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def env(tmp_path: Path, home: Path) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "SYSTEMROOT") if name in os.environ}
    return {**kept, "HOME": str(home), "ROTOSCOPE_HOME": str(tmp_path / "rotoscope"), "PYTHONWARNINGS": "error"}


@pytest.fixture
def run(env: dict[str, str], home: Path) -> Run:
    def command(*arguments: str, **more: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "rotoscope", *arguments],
            env={**env, **more},
            cwd=home,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return command


def left_behind(env: dict[str, str], home: Path, photo: Path, number: int = 1, **more: Any) -> list[Job]:
    """Jobs that a process has opened and, ending at once, left to whoever comes."""

    async def opened() -> list[Job]:
        settings = read_settings(env)
        async with AsyncExitStack() as ending, anyio.create_task_group() as tasks:
            studio = open_studio(settings, stdio_roots(settings, home, home), tasks, ending, decoders=InThread())
            jobs = []
            for n in range(number):
                asked = SegmentImage.model_validate({"image": str(photo), "box": {**BOX, "left": n}, **more})
                opening = await studio.start(await studio.plan("segment_image", asked, "local"))
                assert isinstance(opening, OpenResult)
                jobs.append(opening.job)
            tasks.cancel_scope.cancel()
        return jobs

    return anyio.run(opened)


def rows(env: dict[str, str], query: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(Path(env["ROTOSCOPE_HOME"]) / "ledger.sqlite3", isolation_level=None)) as ledger:
        return ledger.execute(query).fetchall()


def test_drive_runs_what_dead_processes_left_and_leaves_its_result_to_be_delivered(
    run: Run, env: dict[str, str], home: Path, photo: Path
) -> None:
    """One was given back; of one its process was killed, so that its lease has to run out first."""
    given_back, killed = left_behind(env, home, photo, 2)
    rows(env, f"UPDATE jobs SET state='running', owner='gone:1', fence=1, lease_until=5 WHERE id='{killed.id}'")
    done = run("jobs", "drive")
    assert done.returncode == 0, done.stderr
    assert set(rows(env, "SELECT id, state, delivered_at FROM jobs")) == {
        (given_back.id, "succeeded", None),
        (killed.id, "succeeded", None),
    }
    assert f"job {killed.id}: succeeded" in done.stderr
    assert run("jobs", "drive").returncode == 0, "nothing is left"


def test_drive_ends_with_1_when_a_job_failed(run: Run, env: dict[str, str], home: Path, photo: Path) -> None:
    """Nobody listens on port 9 of this machine."""
    provider = {"REPLICATE_API_TOKEN": "r8_canary", "REPLICATE_BASE_URL": "http://127.0.0.1:9"}
    left_behind({**env, **provider}, home, photo, box=None, instruction="a")
    done = run("jobs", "drive", **provider)
    assert done.returncode == 1
    assert "could not be reached" in done.stderr


def test_drive_leaves_a_providers_job_alone_when_it_holds_no_key(
    run: Run, env: dict[str, str], home: Path, photo: Path
) -> None:
    provider = {"REPLICATE_API_TOKEN": "r8_canary", "REPLICATE_BASE_URL": "http://127.0.0.1:9"}
    left_behind({**env, **provider}, home, photo, box=None, instruction="a")
    assert run("jobs", "drive").returncode == 0
    assert rows(env, "SELECT state, fence FROM jobs") == [("queued", 0)]


@pytest.fixture
def in_doubt(env: dict[str, str], home: Path, photo: Path) -> Job:
    """A job whose paying request had an unknown outcome."""
    (job,) = left_behind(env, home, photo)
    error = json.dumps({"code": "submit_unknown", "message": "Nobody knows.", "hint": "Look."})
    rows(env, f"UPDATE jobs SET state='needs_review', stage='submit', owner=NULL, error='{error}'")
    rows(
        env,
        "INSERT INTO submissions (job_id, nonce, request_sha256, provider, intent_at) "
        f"VALUES ('{job.id}', 'n', 's', '{job.provider}', 5)",
    )
    return job


def test_a_person_says_that_a_job_was_not_charged_and_its_money_is_free(
    run: Run, env: dict[str, str], in_doubt: Job
) -> None:
    done = run("jobs", "resolve", in_doubt.id, "--not-charged")
    found = json.loads(done.stdout)
    assert done.returncode == 0, done.stderr
    assert (found["status"], found["cost"]["charged_usd"]) == ("failed", 0.0)
    assert rows(env, "SELECT committed FROM reservations") == [(0,)]
    assert rows(env, "SELECT count(*) FROM submissions") == [(0,)]


def test_a_person_names_the_prediction_and_its_result_is_collected(
    run: Run, env: dict[str, str], home: Path, photo: Path
) -> None:
    made = json.loads(run("call", "segment_image", "--json", json.dumps({"image": photo.name, "box": BOX})).stdout)
    ((prediction, nonce),) = rows(env, "SELECT prediction_id, nonce FROM submissions")
    error = json.dumps({"code": "submit_unknown", "message": "Nobody knows.", "hint": "Look."})
    rows(env, f"UPDATE jobs SET state='needs_review', stage='submit', error='{error}'")
    rows(env, "UPDATE submissions SET prediction_id = NULL")
    done = run("jobs", "resolve", made["job_id"], "--charged", prediction)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["status"], found["masks"]) == ("succeeded", made["masks"])
    assert rows(env, "SELECT prediction_id, nonce FROM submissions") == [(prediction, nonce)]


@pytest.mark.parametrize("look", ["show", "cancel", "resolve", "drive"])
def test_a_person_who_looks_tells_nobody_and_the_one_who_asks_again_joins(
    run: Run, env: dict[str, str], home: Path, photo: Path, look: str
) -> None:
    given = json.dumps({"image": photo.name, "box": BOX})
    made = json.loads(run("call", "segment_image", "--json", given).stdout)
    rows(env, "UPDATE jobs SET delivered_at = NULL")
    if look == "resolve":
        ((prediction,),) = rows(env, "SELECT prediction_id FROM submissions")
        rows(env, 'UPDATE jobs SET state=\'needs_review\', stage=\'submit\', error=\'{"code": "c", "message": "m"}\'')
        rows(env, "UPDATE submissions SET prediction_id = NULL")
        done = run("jobs", "resolve", made["job_id"], "--charged", prediction)
    else:
        done = run("jobs", look, *(() if look == "drive" else (made["job_id"],)))
    assert done.returncode == 0, done.stderr
    assert rows(env, "SELECT state, delivered_at FROM jobs") == [("succeeded", None)]
    again = json.loads(run("call", "segment_image", "--json", given).stdout)
    assert again["job_id"] == made["job_id"]
    assert rows(env, "SELECT count(*), count(delivered_at) FROM jobs") == [(1, 1)]


def test_only_a_job_in_doubt_can_be_resolved(run: Run, env: dict[str, str], home: Path, photo: Path) -> None:
    (job,) = left_behind(env, home, photo)
    done = run("jobs", "resolve", job.id, "--not-charged")
    assert done.returncode == 2
    assert "needs no review" in done.stderr
    assert rows(env, "SELECT state FROM jobs") == [("queued",)]


def test_a_person_must_say_one_thing_or_the_other(run: Run, in_doubt: Job) -> None:
    assert run("jobs", "resolve", in_doubt.id).returncode == 2
    assert run("jobs", "resolve", in_doubt.id, "--not-charged", "--charged", "p").returncode == 2


def test_sweep_removes_what_is_older_than_the_operators_limit(
    run: Run, env: dict[str, str], home: Path, photo: Path
) -> None:
    run("call", "segment_image", "--json", json.dumps({"image": photo.name, "box": BOX}))
    rows(env, "UPDATE jobs SET finished_at = finished_at - 90000, delivered_at = delivered_at - 90000")
    assert run("jobs", "sweep").stdout == "removed 0 jobs and 0 files\n"
    vault = Path(env["ROTOSCOPE_HOME"]) / "vault"
    files = [path for path in vault.glob("??/*") if path.is_file()]
    for path in files:
        os.utime(path, (5, 5))
    done = run("jobs", "sweep", ROTOSCOPE_RETENTION_DAYS="1")
    assert done.stdout == f"removed 1 jobs and {len(files)} files\n"
    assert not [path for path in vault.glob("??/*") if path.is_file()]


def test_spending_is_shown_by_day_and_model(run: Run, env: dict[str, str], in_doubt: Job) -> None:
    (spent,) = json.loads(run("jobs", "spend", "--json").stdout)
    assert (spent["model"], spent["runs"], spent["sandbox"]) == (in_doubt.model, 1, True)
    table = run("jobs", "spend").stdout
    assert in_doubt.model in table
    assert "ROTOSCOPE_MAX_USD_PER_DAY" in table


@pytest.mark.skipif(sys.platform == "win32", reason="there is no such signal there")
def test_a_server_that_is_asked_to_end_gives_its_jobs_back_although_its_input_stays_open(
    env: dict[str, str], home: Path
) -> None:
    """A container's or supervisor's SIGTERM: the client has not closed its pipe."""
    command = [sys.executable, "-m", "rotoscope", "serve"]
    hello = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
    call = {"name": "generate_video", "arguments": {"prompt": "a storm", "duration": 12}}
    with subprocess.Popen(
        command,
        env={**env, "ROTOSCOPE_INLINE_SECONDS": "4", "ROTOSCOPE_ASK_ABOVE_USD": "never"},
        cwd=home,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None

        def say(**message: Any) -> None:
            assert server.stdin is not None
            server.stdin.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")
            server.stdin.flush()

        say(id=1, method="initialize", params=hello)
        server.stdout.readline()
        say(method="notifications/initialized")
        say(id=2, method="tools/call", params=call)
        answer = json.loads(server.stdout.readline())
        server.send_signal(signal.SIGTERM)
        try:
            code = server.wait(timeout=60)
        finally:
            server.kill()
    job_id = answer["result"]["structuredContent"]["job_id"]
    assert code == 0
    ((state, owner, lease),) = rows(env, f"SELECT state, owner, lease_until FROM jobs WHERE id = '{job_id}'")
    assert (state in ("queued", "succeeded"), state == "succeeded" or owner is None, lease) == (True, True, None)
    assert rows(env, "SELECT count(*) FROM processes") == [(0,)]


def test_resume_takes_a_paid_job_up_again_and_prints_its_result(
    run: Run, env: dict[str, str], home: Path, photo: Path
) -> None:
    """As an older version left it: the disk was full when its result came."""
    (job,) = left_behind(env, home, photo)
    assert run("jobs", "drive").returncode == 0
    error = json.dumps({"code": "storage", "message": "The disk is full.", "hint": "Make room."})
    rows(env, f"UPDATE jobs SET state='failed', stage='fetch', error='{error}', finished_at=5 WHERE id='{job.id}'")
    rows(env, "DELETE FROM outputs")
    done = run("jobs", "resume", job.id)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert (result["job_id"], result["status"], result["error"]) == (job.id, "succeeded", None)
    assert Path(result["masks"][0]["media"]["path"]).is_file()
    assert rows(env, "SELECT count(*) FROM jobs") == [(1,)]


def test_resume_refuses_in_one_sentence_what_cannot_be_taken_up(
    run: Run, env: dict[str, str], home: Path, photo: Path
) -> None:
    (job,) = left_behind(env, home, photo)
    rows(env, f"UPDATE jobs SET state='failed', error='{json.dumps({'code': 'storage'})}' WHERE id='{job.id}'")
    for job_id, words in ((job.id, "Nothing is known at the provider"), ("none", "There is no such job")):
        done = run("jobs", "resume", job_id)
        assert (done.returncode, done.stdout) == (2, "")
        assert words in done.stderr
