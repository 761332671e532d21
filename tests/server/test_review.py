"""A job that waits for a person's review has not ended: its task stays open, and its listeners get the rest."""

import json
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from calls import BOX, ServerBuilder
from client import ClientOpener
from mcp import Client
from mcp.server.mcpserver import MCPServer
from mcp.shared.exceptions import MCPDeprecationWarning

from rotoscope.server.lazy_studio import LazyStudio
from rotoscope.settings import Settings
from rotoscope_sandbox import Sandbox

pytestmark = pytest.mark.anyio


class Doubts:
    """Puts the one job of a ledger in doubt, as after a lost reply, and says what became of it as a person does."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.prediction = ""

    def _write(self, *statements: str) -> None:
        with closing(sqlite3.connect(self._file, timeout=30, isolation_level=None)) as ledger:
            for statement in statements:
                ledger.execute(statement)

    def begin(self) -> None:
        with closing(sqlite3.connect(self._file, timeout=30)) as ledger:
            ((self.prediction,),) = ledger.execute("SELECT prediction_id FROM submissions").fetchall()
        error = json.dumps(
            {"code": "submit_unknown", "message": "Nobody knows.", "hint": "Run rotoscope jobs resolve."}
        )
        self._write(
            f"UPDATE jobs SET state='needs_review', stage='submit', owner=NULL, lease_until=NULL, error='{error}',"
            " finished_at=5, delivered_at=NULL, updated_at=updated_at+1",
            "UPDATE submissions SET prediction_id=NULL",
            "INSERT INTO job_events (job_id, at, type, data) SELECT id, 5, 'changed', '{}' FROM jobs",
        )

    def end(self) -> None:
        self._write(
            f"UPDATE submissions SET prediction_id='{self.prediction}', confirmed_at=5",
            "UPDATE jobs SET state='queued', error=NULL, finished_at=NULL, next_at=NULL, updated_at=updated_at+1",
            "INSERT INTO job_events (job_id, at, type, data) SELECT id, 6, 'resolved', '{}' FROM jobs",
        )

    def reported(self) -> bool:
        with closing(sqlite3.connect(self._file, timeout=30)) as ledger:
            ((at,),) = ledger.execute("SELECT delivered_at FROM jobs").fetchall()
        return at is not None


@pytest.fixture
def impatient(settings: Settings, sandbox: Sandbox, serve: ServerBuilder) -> MCPServer[LazyStudio]:
    return serve(replace(settings, inline_seconds=0.0), sandbox)


@pytest.fixture
def doubts(settings: Settings, sandbox: Sandbox) -> Doubts:
    sandbox.state.faults.add("poll-error", on="list", times="forever")  # the provider's list tells nothing
    return Doubts(settings.home / "ledger.sqlite3")


@pytest.fixture
def asked(photo: Path) -> dict[str, Any]:
    return {"image": str(photo), "box": BOX}


async def in_review(wire: Any, asked: dict[str, Any], doubts: Doubts) -> str:
    """A job of this session, in review."""
    job = str((await wire.call("segment_image", **asked))["taskId"])
    with anyio.fail_after(180):
        while True:
            listed = (await wire.call("list_jobs", tasks=False))["structuredContent"]["jobs"]
            if listed[0]["status"] == "succeeded":
                break
            await anyio.lowlevel.checkpoint()
    doubts.begin()
    return job


async def test_the_task_of_a_job_in_review_works_on_with_words_and_completes_once_it_was_resolved(
    impatient: MCPServer[LazyStudio], speak: ClientOpener, asked: dict[str, Any], doubts: Doubts
) -> None:
    async with speak(impatient) as wire:
        job = await in_review(wire, asked, doubts)
        task = (await wire.ask("tasks/get", taskId=job))["result"]
        assert (task["status"], task["pollIntervalMs"]) == ("working", 30_000)
        assert "rotoscope jobs resolve" in task["statusMessage"]
        assert not doubts.reported()
        doubts.end()
        done = await wire.finished(job)
    assert done["status"] == "completed"
    assert done["result"]["structuredContent"]["status"] == "succeeded"
    assert doubts.reported()


async def test_a_listener_of_a_task_is_notified_of_the_review_and_of_the_end(
    impatient: MCPServer[LazyStudio], speak: ClientOpener, asked: dict[str, Any], doubts: Doubts
) -> None:
    async with speak(impatient) as wire:
        job = await in_review(wire, asked, doubts)
        await wire.post("subscriptions/listen", notifications={"taskIds": [job]})
        statuses: list[str] = []
        while not statuses or statuses[-1] != "completed":
            message = await wire.read()
            if message.get("method") == "notifications/tasks":
                statuses.append(message["params"]["status"])
                if statuses == ["working"]:
                    doubts.end()
    assert set(statuses[:-1]) == {"working"}


@pytest.mark.filterwarnings(f"ignore::{MCPDeprecationWarning.__module__}.{MCPDeprecationWarning.__name__}")
async def test_a_subscriber_gets_what_comes_of_a_review(
    impatient: MCPServer[LazyStudio], speak: ClientOpener, asked: dict[str, Any], doubts: Doubts
) -> None:
    received: list[str] = []

    async def note(message: Any) -> None:
        received.append(str(getattr(message, "method", "")))

    async with speak(impatient) as wire:
        job = await in_review(wire, asked, doubts)
    async with Client(impatient, mode="legacy", message_handler=note) as client:
        await client.subscribe_resource(f"job://{job}")
        with anyio.fail_after(180):
            while not received:  # noqa: ASYNC110 - it comes through the client
                await anyio.sleep(0.01)
            before = len(received)
            doubts.end()
            while len(received) < before + 2:  # noqa: ASYNC110 - it comes through the client
                await anyio.sleep(0.01)


async def test_who_asks_for_a_job_in_review_waits_on_and_gets_what_came_of_it(
    server: MCPServer[LazyStudio], speak: ClientOpener, asked: dict[str, Any], doubts: Doubts, impatient: Any
) -> None:
    async with speak(impatient) as wire:
        job = await in_review(wire, asked, doubts)
    async with speak(server) as wire:
        now = (await wire.call("get_job", job_id=job))["structuredContent"]
        assert (now["status"], now["error"]["code"]) == ("needs_review", "submit_unknown")
        number = await wire.post("tools/call", name="get_job", arguments={"job_id": job, "wait_seconds": 20})
        await wire.call("list_jobs")
        doubts.end()
        while (message := await wire.read()).get("id") != number:
            pass
    assert message["result"]["structuredContent"]["status"] == "succeeded"


async def test_an_equal_request_answers_at_once_with_the_review(
    server: MCPServer[LazyStudio],
    sandbox: Sandbox,
    speak: ClientOpener,
    asked: dict[str, Any],
    doubts: Doubts,
    impatient: Any,
) -> None:
    async with speak(impatient) as wire:
        job = await in_review(wire, asked, doubts)
    async with speak(server) as wire:
        again = await wire.call("segment_image", **asked)
    found = again["structuredContent"]
    assert (again["isError"], found["status"], found["job_id"]) == (True, "needs_review", job)
    assert "rotoscope jobs resolve" in found["next_step"]
    assert len(sandbox.state.accepted) == 1
    assert not doubts.reported()
