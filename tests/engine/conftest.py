"""Processes on PostgreSQL with keys, and a sandbox that counts what they pay."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fault_fixtures import callers, media, scene
from fault_scene import FaultScene
from postgresql import Cluster, postgresql, postgresql_cluster

from rotoscope_sandbox import build_sandbox
from rotoscope_sandbox.serving import serve_in_thread

__all__ = ["callers", "media", "postgresql", "postgresql_cluster", "scene"]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every scene of these tests is on PostgreSQL."""
    if "scene" in metafunc.fixturenames:
        metafunc.parametrize("scene", ["postgresql"], indirect=True)


@pytest.fixture
def unsteady(tmp_path: Path, media: Path, postgresql_cluster: Cluster) -> Iterator[FaultScene]:
    """On a PostgreSQL of the test's own, which it may stop."""
    app = build_sandbox(tmp_path / "sandbox", pace=0.0)
    with serve_in_thread(app) as url, postgresql_cluster.new_database() as database:
        yield FaultScene(app, url, tmp_path, {"ROTOSCOPE_ROOTS": f"{media}", "ROTOSCOPE_DATABASE_URL": database})
