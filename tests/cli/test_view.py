"""`rotoscope view JOB` as a person runs it: an address is printed, the page is served, and Ctrl-C ends it."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx  # noqa: TID251 - a browser without a window
import pytest
from calls import BOX, SECONDS

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C is sent otherwise there")


@pytest.fixture
def env(environment: dict[str, str], home: Path, tmp_path: Path) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    weights = {"ROTOSCOPE_SANDBOX_WEIGHTS": str(tmp_path / "none.onnx")}  # named, so that no test downloads any
    return {**kept, **environment, **weights, "HOME": str(home)}


def run(env: dict[str, str], *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "rotoscope", *arguments]
    return subprocess.run(
        command, env=env, cwd=env["HOME"], capture_output=True, text=True, timeout=SECONDS, check=False
    )


@pytest.fixture
def viewing(env: dict[str, str], photo: Path) -> Iterator["subprocess.Popen[str]"]:
    made = run(env, "call", "segment_image", "--json", json.dumps({"image": str(photo), "box": BOX}))
    command = [sys.executable, "-m", "rotoscope", "view", json.loads(made.stdout)["job_id"], "--no-browser"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=env, cwd=env["HOME"], stdout=pipe, stderr=pipe, text=True) as process:
        guard = threading.Timer(SECONDS, process.kill)
        guard.start()
        try:
            yield process
        finally:
            guard.cancel()
            process.kill()


def test_the_address_is_printed_alone_and_ctrl_c_ends_an_open_page(viewing: "subprocess.Popen[str]") -> None:
    assert viewing.stdout is not None
    url = viewing.stdout.readline().strip()
    assert url.startswith("http://127.0.0.1:")
    with httpx.Client(follow_redirects=True, timeout=SECONDS) as browser:
        page = browser.get(url)
        assert page.status_code == 200
        assert '"mode":"local"' in page.text
        with browser.stream("POST", f"{url.partition('/open/')[0]}/alive"):
            viewing.send_signal(signal.SIGINT)
            rest, said = viewing.communicate(timeout=SECONDS)
    assert (viewing.returncode, rest) == (0, "")
    assert "opens once" in said
    assert "Traceback" not in said


def test_a_job_that_is_not_there_is_named(env: dict[str, str]) -> None:
    done = run(env, "view", "0" * 32, "--no-browser")
    assert (done.returncode, done.stdout) == (2, "")
    assert "There is no such job" in done.stderr
