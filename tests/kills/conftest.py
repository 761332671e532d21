"""Processes that can be killed, a sandbox that counts what they pay, and a ledger that all of them share."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image, ImageDraw
from shared_ledger import SharedLedger

from rotoscope_sandbox import build_sandbox
from rotoscope_sandbox.serving import serve_in_thread

SPAWNER = Path(__file__).with_name("spawner.py")


@pytest.fixture(scope="session")
def spawner() -> Iterator[subprocess.Popen[str]]:
    environment = {**os.environ, "PYTHONPATH": str(SPAWNER.parents[1] / "support")}
    with subprocess.Popen(
        [sys.executable, str(SPAWNER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()


@pytest.fixture
def shared(tmp_path: Path, spawner: subprocess.Popen[str]) -> Iterator[SharedLedger]:
    picture = Image.new("RGB", (64, 48), (60, 120, 70))
    ImageDraw.Draw(picture).ellipse((20, 10, 44, 34), fill=(200, 60, 50))
    picture.save(tmp_path / "picture.png")
    app = build_sandbox(tmp_path / "sandbox", pace=0.2)
    with serve_in_thread(app) as url:
        found = SharedLedger(app, url, tmp_path, spawner, tmp_path / "picture.png")
        yield found
        for pid in list(found.alive):
            found.kill(pid)
