"""HUP, INT and TERM, once and twice, while the paying request is out: what was paid for is known to the ledger."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from itertools import product
from pathlib import Path
from typing import Any

import anyio
import pytest
from held_provider import Held
from ledger_rows import read_rows
from soak import IS_SOAK

from rotoscope.composition import open_studio, stdio_roots
from rotoscope.contracts.arguments import SegmentImage
from rotoscope.settings import read_settings
from rotoscope_sandbox import build_sandbox
from rotoscope_sandbox.serving import serve_in_thread

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there are no such signals there")
SECONDS = 180
CODES = {signal.SIGHUP: 129, signal.SIGINT: 130, signal.SIGTERM: 143}
STILL_SECONDS = 0.4  # a process that was asked to end, and is still there after so long, waits for the reply


@pytest.fixture
def provider(tmp_path: Path) -> Iterator[tuple[Held, str]]:
    held = Held(build_sandbox(tmp_path / "sandbox", pace=0))
    with serve_in_thread(held, 0) as url:  # type: ignore[arg-type] # any ASGI app is served
        yield held, url
        held.let.set()


@pytest.fixture
def env(tmp_path: Path, home: Path, provider: tuple[Held, str]) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    keys = {"REPLICATE_API_TOKEN": "r8_canary", "REPLICATE_BASE_URL": provider[1], "ROTOSCOPE_SANDBOX": "never"}
    keys["ROTOSCOPE_UNPRICED"] = "run"
    # A call whose time is over before its media are checked opens no job: on a busy machine the usual time may not do.
    keys["ROTOSCOPE_INLINE_SECONDS"] = str(SECONDS)
    keys["ROTOSCOPE_SANDBOX_WEIGHTS"] = str(tmp_path / "none.onnx")  # named, so that no test downloads any
    return {**kept, **keys, "HOME": str(home), "ROTOSCOPE_HOME": str(tmp_path / "rotoscope"), "PYTHONWARNINGS": "error"}


def rows(env: dict[str, str], query: str) -> list[tuple[Any, ...]]:
    return list(read_rows(Path(env["ROTOSCOPE_HOME"]) / "ledger.sqlite3", query))


Begin = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def begin(env: dict[str, str], home: Path) -> Iterator[Begin]:
    begun: list[subprocess.Popen[str]] = []

    def command(*arguments: str) -> "subprocess.Popen[str]":
        words, pipe = [sys.executable, "-m", "rotoscope", *arguments], subprocess.PIPE
        begun.append(subprocess.Popen(words, env=env, cwd=home, stdin=pipe, stdout=pipe, stderr=pipe, text=True))
        return begun[-1]

    yield command
    for process in begun:
        process.kill()
        process.communicate()


def calls(begin: Begin, photo: Path) -> "subprocess.Popen[str]":
    return begin("call", "segment_image", "--json", json.dumps({"image": photo.name, "instruction": "the suit"}))


def serves(begin: Begin, photo: Path) -> "subprocess.Popen[str]":
    process = begin("serve")
    assert process.stdin is not None
    hello = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
    asked = {"name": "segment_image", "arguments": {"image": str(photo), "instruction": "the suit"}}
    for message in (
        {"id": 1, "method": "initialize", "params": hello},
        {"method": "notifications/initialized"},
        {"id": 2, "method": "tools/call", "params": asked},
    ):
        process.stdin.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
        process.stdin.flush()
    return process


def is_there(process: "subprocess.Popen[str]") -> bool:
    try:
        process.wait(STILL_SECONDS)
    except subprocess.TimeoutExpired:
        return True
    return False


EVERY_CASE = list(product([calls, serves], CODES, [1, 2]))
PAIRWISE = [one for place, one in enumerate(EVERY_CASE) if place in (0, 3, 4, 7, 8, 11)]
"""Each signal with each command, and each number of times with both."""


@pytest.mark.parametrize(("command", "number", "times"), EVERY_CASE if IS_SOAK else PAIRWISE)
def test_a_signal_while_the_paying_request_is_out_ends_the_process_after_its_reply_was_written(
    begin: Begin,
    env: dict[str, str],
    photo: Path,
    provider: tuple[Held, str],
    command: Callable[..., "subprocess.Popen[str]"],
    number: signal.Signals,
    times: int,
) -> None:
    held, _ = provider
    process = command(begin, photo)
    assert held.accepted.wait(SECONDS)
    for _ in range(times):
        process.send_signal(number)
        assert is_there(process)
    held.let.set()
    _, errors = process.communicate(timeout=SECONDS)
    assert process.returncode == (0 if command is serves and number == signal.SIGTERM else CODES[number])
    assert "Traceback" not in errors
    assert len(held.app.state.accepted) == 1
    ((prediction,),) = rows(env, "SELECT prediction_id FROM submissions")
    assert prediction == held.app.state.accepted[0]
    assert rows(env, "SELECT state IN ('queued', 'succeeded'), lease_until FROM jobs") == [(1, None)]
    assert rows(env, "SELECT count(*) FROM processes") == [(0,)]
    assert begin("jobs", "drive").wait(SECONDS) == 0
    assert rows(env, "SELECT state FROM jobs") == [("succeeded",)]
    assert len(held.app.state.accepted) == 1


@pytest.mark.parametrize("number", CODES)
def test_the_drive_of_what_others_have_left_finishes_its_paying_request_too(
    begin: Begin, env: dict[str, str], photo: Path, provider: tuple[Held, str], number: signal.Signals
) -> None:
    held, _ = provider
    left_behind(env, photo.parent, {"image": str(photo), "instruction": "the suit"})
    process = begin("jobs", "drive")
    assert held.accepted.wait(SECONDS)
    for _ in range(2):
        process.send_signal(number)
        assert is_there(process)
    held.let.set()
    process.communicate(timeout=SECONDS)
    assert process.returncode == CODES[number]
    assert rows(env, "SELECT prediction_id FROM submissions") == [(held.app.state.accepted[0],)]
    assert rows(env, "SELECT lease_until FROM jobs WHERE state != 'needs_review'") == [(None,)]


def left_behind(env: dict[str, str], home: Path, given: dict[str, Any]) -> None:
    """A job that a process has opened and, ending at once, left to whoever comes."""

    async def opened() -> None:
        settings = read_settings(env)
        async with AsyncExitStack() as ending, anyio.create_task_group() as tasks:
            studio = open_studio(settings, stdio_roots(settings, home, home), tasks, ending)
            await studio.start(await studio.plan("segment_image", SegmentImage.model_validate(given), "local"))
            tasks.cancel_scope.cancel()

    anyio.run(opened)


@pytest.mark.parametrize("number", CODES)
def test_a_signal_while_nothing_is_out_ends_a_command_with_its_code_and_without_noise(
    begin: Begin, env: dict[str, str], photo: Path, provider: tuple[Held, str], number: signal.Signals
) -> None:
    """The job was opened and waits for its first look: the person is shown where to find it."""
    held, _ = provider
    held.let.set()
    held.app.state.faults.add("never-ends", times=None)
    process = calls(begin, photo)
    assert held.accepted.wait(SECONDS)
    process.send_signal(number)
    _, errors = process.communicate(timeout=SECONDS)
    assert process.returncode == CODES[number]
    assert "Traceback" not in errors
    assert "rotoscope jobs show" in errors


def test_the_demo_ends_in_order(begin: Begin) -> None:
    process = begin("demo", "--out", "out")
    assert process.stdout is not None
    assert "nothing is paid" in process.stdout.readline()
    assert process.stdout.readline().startswith("the sandbox's masks")
    assert process.stdout.readline().startswith("server ready")
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=SECONDS)
    assert (process.returncode, errors) == (143, "")
