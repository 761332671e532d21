"""Two servers and two workers on one PostgreSQL and one object store, and a sandbox that counts what they pay."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fleet import Fleet
from object_store import ObjectServer, object_server, running_server
from PIL import Image, ImageDraw
from postgresql import Cluster, find_binaries, start_cluster

from rotoscope_sandbox import build_sandbox
from rotoscope_sandbox.serving import serve_in_thread

__all__ = ["object_server", "running_server"]

SPAWNER = Path(__file__).with_name("spawner.py")


@pytest.fixture(scope="session")
def spawner() -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, str(SPAWNER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=dict(os.environ)
    ) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A PostgreSQL of these tests' own, because they stop it."""
    binaries = find_binaries()
    if binaries is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("There is no PostgreSQL here: install it.")
    with start_cluster(binaries) as found:
        yield found


@pytest.fixture
def fleet(
    tmp_path: Path, spawner: subprocess.Popen[str], cluster: Cluster, object_server: ObjectServer
) -> Iterator[Fleet]:
    (tmp_path / "pictures").mkdir()
    picture = Image.new("RGB", (64, 48), (60, 120, 70))
    ImageDraw.Draw(picture).ellipse((20, 10, 44, 34), fill=(200, 60, 50))
    picture.save(tmp_path / "pictures" / "ball.png")
    app = build_sandbox(tmp_path / "sandbox", pace=0.2)
    with serve_in_thread(app) as url, cluster.new_database() as database:
        found = Fleet(spawner, app, url, database, object_server, object_server.make_bucket(), tmp_path)
        yield found
        found.stop_all()
        found.show_logs()
