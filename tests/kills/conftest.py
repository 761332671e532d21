"""Processes that can be killed, a sandbox that counts what they pay, and a ledger that all of them share."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest
from PIL import Image, ImageDraw
from postgresql import PostgresqlServer, postgresql
from shared_ledger import SharedLedger

from rotoscope_sandbox import build_sandbox
from rotoscope_sandbox.serving import serve_in_thread

__all__ = ["postgresql"]

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
def shared(request: pytest.FixtureRequest, tmp_path: Path, spawner: subprocess.Popen[str]) -> Iterator[SharedLedger]:
    """Its parameter is the database of the ledger: `sqlite`, which is the default, or `postgresql`."""
    picture = Image.new("RGB", (64, 48), (60, 120, 70))
    ImageDraw.Draw(picture).ellipse((20, 10, 44, 34), fill=(200, 60, 50))
    picture.save(tmp_path / "picture.png")
    app = build_sandbox(tmp_path / "sandbox", pace=0.2)
    with serve_in_thread(app) as url, ExitStack() as databases:
        make = None
        if getattr(request, "param", "sqlite") == "postgresql":
            server: PostgresqlServer = request.getfixturevalue("postgresql")
            make = partial(_make_database, server, databases)
        found = SharedLedger(app, url, tmp_path, spawner, tmp_path / "picture.png", make)
        yield found
        for pid in list(found.alive):
            found.kill(pid)


def _make_database(server: PostgresqlServer, databases: ExitStack) -> str:
    return databases.enter_context(server.new_database())
