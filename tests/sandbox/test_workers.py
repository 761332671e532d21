"""Predictions outlive the process that accepted them, and nobody computes in vain."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from anyio import to_thread

from rotoscope_sandbox import build_sandbox, models
from rotoscope_sandbox.models import EngineTask, Model, Stopped
from rotoscope_sandbox.predictions import AcceptedRequest, Outcome
from rotoscope_sandbox.store import Store
from rotoscope_sandbox.weights import Weights
from rotoscope_sandbox.workers import WorkerPool

pytestmark = pytest.mark.anyio

VERSION = "ccf8e58352ce5b2a6cbf5cb68b947ca3bc62009ce66e82071eeae14555414411"


def request_of(id_: str, given: Mapping[str, Any] | None = None) -> AcceptedRequest:
    return AcceptedRequest(id_ * 26, "replicate", "test/engine", "v", dict(given or {}), 1000.0, 0, 0, 0)


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Callable[[models.Compute], None]:
    """Puts one model with a given computation into the registry."""

    def installed(compute: models.Compute) -> None:
        model = Model("replicate", "test/engine", {}, compute, version="v")
        monkeypatch.setattr(models, "all_models", lambda: (model,))

    return installed


def run_briefly(script: str) -> str:
    """What a process of its own prints before it dies."""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 9, run.stderr
    return run.stdout.strip()


async def test_a_prediction_whose_process_died_is_computed_by_the_process_that_is_asked(
    folder: Path, scene: Any, ask: Callable[..., Any], tmp_path: Path
) -> None:
    """The first process accepts, says the id and dies at once, in the middle of the work."""
    picture = tmp_path / "scene.txt"
    picture.write_text(scene.uri)
    script = f"""
import asyncio, os, sys, httpx
from pathlib import Path
from rotoscope_sandbox import build_sandbox
async def main():
    app = build_sandbox(Path({str(folder)!r}), pace=0)
    given = {{"image": Path({str(picture)!r}).read_text(), "instruction": "x"}}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="https://sandbox.invalid") as client:
        reply = await client.post("/v1/predictions", json={{"version": {VERSION!r}, "input": given}},
                                  headers={{"authorization": "Bearer x"}})
        print(reply.json()["id"], flush=True)
        os._exit(9)
asyncio.run(main())
"""
    id_ = await to_thread.run_sync(run_briefly, script)
    progress = folder / "predictions" / id_ / "progress.json"
    (folder / "predictions" / id_ / "outcome.json").unlink(missing_ok=True)
    os.utime(progress, (0, 0))
    async with ask(build_sandbox(folder, pace=0), "replicate") as client:
        assert (await client.get(f"/v1/predictions/{id_}")).json()["status"] == "succeeded"


async def test_a_prediction_that_another_living_process_computes_is_left_to_it(
    folder: Path, engine: Callable[[models.Compute], None], ask: Callable[..., Any]
) -> None:
    engine(lambda _: {"done": True})
    store = Store(folder)
    store.add(request_of("a"))
    store.progress("a" * 26, 1000.0, ["half way"])
    app = build_sandbox(folder, pace=0)
    async with ask(app, "replicate") as client:
        prediction = (await client.get(f"/v1/predictions/{'a' * 26}")).json()
        assert (prediction["status"], prediction["logs"]) == ("processing", "half way")
        os.utime(folder / "predictions" / ("a" * 26) / "progress.json", (0, 0))
        assert (await client.get(f"/v1/predictions/{'a' * 26}")).json()["status"] == "succeeded"


def test_log_lines_can_be_read_while_the_engine_works(folder: Path, engine: Callable[[models.Compute], None]) -> None:
    has_started, go = threading.Event(), threading.Event()

    def compute(task: EngineTask) -> dict[str, Any]:
        task.log("step 1 of 2")
        has_started.set()
        assert go.wait(60)
        return {}

    engine(compute)
    store = Store(folder)
    pool = WorkerPool(store, lambda: 1000.0, Weights(None))
    store.add(request_of("b"))
    pool.take(request_of("b"))
    assert has_started.wait(60)
    half = store.get("b" * 26)
    assert half is not None
    assert (half.logs, half.outcome) == (("step 1 of 2",), None)
    go.set()
    pool.wait("b" * 26, 10)


def test_an_engine_is_stopped_by_a_cancel_at_its_next_log_line(
    folder: Path, engine: Callable[[models.Compute], None]
) -> None:
    ready, go = threading.Event(), threading.Event()
    cancels: list[bool] = []

    def compute(task: EngineTask) -> dict[str, Any]:
        ready.set()
        assert go.wait(60)
        try:
            task.log("next step")
        except Stopped:
            cancels.append(True)
            raise
        return {}

    engine(compute)
    store = Store(folder)
    pool = WorkerPool(store, lambda: 1000.0, Weights(None))
    store.add(request_of("c"))
    pool.take(request_of("c"))
    assert ready.wait(60)
    store.cancel("c" * 26, 1000.0)
    go.set()
    pool.wait("c" * 26, 10)
    found = store.get("c" * 26)
    assert found is not None
    assert (cancels, found.outcome, found.canceled) == ([True], None, 1000.0)


def test_a_crash_of_an_engine_is_a_failed_prediction(folder: Path, engine: Callable[[models.Compute], None]) -> None:
    def compute(_: EngineTask) -> dict[str, Any]:
        raise ZeroDivisionError("by nothing")

    engine(compute)
    store = Store(folder)
    pool = WorkerPool(store, lambda: 1000.0, Weights(None))
    store.add(request_of("d"))
    pool.take(request_of("d"))
    pool.wait("d" * 26, 10)
    found = store.get("d" * 26)
    assert found is not None
    assert found.outcome is not None
    assert found.outcome.failure is not None
    assert found.outcome.failure.message == "ZeroDivisionError: by nothing"


def test_those_behind_the_busy_threads_wait_in_order_and_are_dropped_when_the_pool_stops(
    folder: Path, engine: Callable[[models.Compute], None]
) -> None:
    ready, go = threading.Event(), threading.Event()

    def compute(task: EngineTask) -> dict[str, Any]:
        ready.set()
        assert go.wait(60)
        task.log("on")
        return {}

    engine(compute)
    store = Store(folder)
    pool = WorkerPool(store, lambda: 1000.0, Weights(None), threads=1)
    for name in "efg":
        store.add(request_of(name))
        pool.take(request_of(name))
    assert ready.wait(60)
    assert [pool.count_ahead(name * 26) for name in "efg"] == [0, 0, 1]
    assert store.is_attended("g" * 26)
    go.set()
    pool.stop()
    assert not store.is_attended("g" * 26)


def test_what_was_final_stays_as_it_was(folder: Path) -> None:
    store = Store(folder)
    store.add(request_of("h"))
    store.finish("h" * 26, Outcome(1001.0, output={"first": True}))
    store.finish("h" * 26, Outcome(1002.0, output={"first": False}))
    found = store.get("h" * 26)
    assert found is not None
    assert found.outcome is not None
    assert found.outcome.output == {"first": True}


def test_what_is_a_day_old_is_cleared_when_a_sandbox_starts(folder: Path) -> None:
    store = Store(folder)
    for name in "ij":
        store.add(request_of(name))
    os.utime(folder / "predictions" / ("i" * 26), (0, 0))
    assert [one.request.id for one in Store(folder).newest_first()] == ["j" * 26]


@pytest.mark.parametrize(
    "path", ["/outputs/..%2f..%2fx/a.png", "/outputs/{id}/order.json", "/files/..%2forder", "/files/x"]
)
async def test_only_outputs_and_uploads_are_served(folder: Path, path: str, ask: Callable[..., Any]) -> None:
    store = Store(folder)
    store.add(request_of("k"))
    async with ask(build_sandbox(folder, pace=0)) as client:
        assert (await client.get(path.format(id="k" * 26))).status_code == 404
