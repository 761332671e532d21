"""One run at a provider in Replicate's shape, as a script has it, and the simulated processes that follow it.

Time is simulated (see `simulated`), so an outage of hours, or a week of patience, costs nothing.
"""

import hashlib
import io
import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import anyio
from PIL import Image
from simulated import Process, Seams, Time, no_threads

from rotoscope.contracts.results import JobResult
from rotoscope.jobs.progress import estimate_progress
from rotoscope.jobs.result import job_result
from rotoscope.models.catalog import Catalog, load_catalog, manifest_folder
from rotoscope.providers.dialects import DIALECTS
from rotoscope.providers.http.client import Download
from rotoscope.providers.http.messages import HttpCall, Reply
from rotoscope.providers.states import Call
from rotoscope.store.job_data import JobPlan
from rotoscope.store.records import FINAL_STATES, Job, NewJob
from rotoscope.store.timing import Intervals

__all__ = ["OUT", "Provider", "Scene", "mask", "reply", "staged"]

MODEL, VERSION = "bytedance/sa2va-4b-image", "ccf8e58352ce5b2a6cbf5cb68b947ca3bc62009ce66e82071eeae14555414411"
OUT = "https://replicate.delivery/mask.png"
Answer = Reply | Exception | None
"""What a script has in the place of the provider's own answer; None leaves that."""


@cache
def shipped() -> Catalog:
    return load_catalog(manifest_folder(), Path("/nowhere"))


@cache
def mask() -> bytes:
    out = io.BytesIO()
    Image.new("L", (8, 8), 255).save(out, "PNG")
    return out.getvalue()


def reply(status: int, body: Any = None) -> Reply:
    """An answer with JSON, or with the bytes of a page."""
    return Reply(status, {}, body if isinstance(body, bytes) else json.dumps(body or {}).encode())


def nothing(_: float) -> Answer:
    """The script says nothing of it."""
    return None


@dataclass
class Provider:
    """Runs what it is asked to; the script may put another answer, or an error, in the place of its own.

    Attributes:
        ends: seconds after which a run ends by itself.
        stops: whether a run stops when a cancel has been taken.
        on_ask, on_cancel, on_fetch: the script: what is answered at a moment, in seconds since the simulation began.
    """

    time: Time
    ends: float = 20.0
    word: str = "succeeded"
    stops: bool = True
    address: str = OUT
    on_ask: Callable[[float], Answer] = nothing
    on_cancel: Callable[[float], Answer] = nothing
    on_fetch: Callable[[float], Answer] = nothing
    asked: list[tuple[float, str]] = field(default_factory=list)
    posts: int = 0
    begun: float = 0.0
    stopped: bool = False

    def times_of(self, kind: str) -> list[float]:
        """When it was asked something: `ask`, `cancel` or `fetch`."""
        return [at for at, what in self.asked if what == kind]

    @property
    def run(self) -> dict[str, Any]:
        """The prediction as it is now."""
        over = self.time.now >= self.begun + self.ends
        status = "canceled" if self.stopped else self.word if over else "processing"
        output = {"img": self.address, "response": "Sure, [SEG]."} if status == "succeeded" else None
        return {"id": "p1", "model": MODEL, "version": VERSION, "status": status, "logs": "", "output": output}

    def answered(self, kind: str, script: Callable[[float], Answer], usual: Callable[[], Reply]) -> Reply:
        self.asked.append((self.time.now, kind))
        scripted = script(self.time.now)
        if isinstance(scripted, Exception):
            raise scripted
        return scripted or usual()

    def posted(self) -> Reply:
        self.posts, self.begun = self.posts + 1, self.time.now
        return reply(201, self.run)

    def cancelled(self) -> Reply:
        self.stopped = self.stops and self.run["status"] == "processing"
        return reply(200, self.run)


class _Wire:
    def __init__(self, provider: Provider, seams: Seams, key: dict[str, bool]) -> None:
        self.provider, self.seams, self.key = provider, seams, key

    async def aclose(self) -> None:
        """There is nothing to close."""

    def longest(self, call: HttpCall) -> float:
        return 35.0

    async def send(
        self, provider: str, call: HttpCall, guard: Any = None, *, pays: bool = False, key: str | None = None
    ) -> Reply:
        self.seams.cross("before sending")
        await anyio.sleep(0.05)
        if not self.key["good"]:
            return self.provider.answered("refused", nothing, lambda: reply(401, {"detail": "Unauthenticated"}))
        if call.method == "POST" and call.url.endswith("/predictions"):
            return self.provider.posted()
        if call.method == "POST":
            return self.provider.answered("cancel", self.provider.on_cancel, self.provider.cancelled)
        if "?" in call.url:
            return reply(200, {"results": []})
        return self.provider.answered("ask", self.provider.on_ask, lambda: reply(200, self.provider.run))

    async def download(self, provider: str, url: str, into: Path, limit: int) -> Download:
        self.seams.cross("before fetching")
        await anyio.sleep(0.05)
        content = self.provider.answered("fetch", self.provider.on_fetch, lambda: Reply(200, {}, mask())).body
        into.write_bytes(content)
        return Download(hashlib.sha256(content).hexdigest(), len(content), "image/png")


@dataclass
class Scene:
    """A job, the provider of its run, and the processes that drive it."""

    time: Time
    folder: Path
    provider: Provider
    tempo: Intervals = field(default_factory=lambda: Intervals(poll=5.0, change_poll=5.0))
    started: int = 0

    def process(self, wall: Callable[[], float] | None = None, key: dict[str, bool] | None = None) -> Process:
        """Start one; with a wall clock of its own, or a key that may be `good` or not."""
        held = {"good": True} if key is None else key
        self.started += 1
        dialects = {"replicate": DIALECTS["replicate"]({"api": "https://api.replicate.com"})}
        begun = Process(
            self.time, f"process {self.started}", self.folder, shipped(), dialects,
            lambda seams: _Wire(self.provider, seams, held), frozenset({"sandbox"}), self.tempo,
        )  # fmt: skip
        if wall is not None:
            object.__setattr__(begun.context, "clock", wall)
            begun.context.ledger._clock = wall
        return begun

    def begin(self, process: Process) -> str:
        """Open the job; its id."""
        given = {"image": "https://pictures.invalid/a.png", "instruction": "it"}
        call = Call("replicate", MODEL, given, VERSION, "version")
        plan = JobPlan(call=call, estimate_usd=0.1, expected_seconds=5.0, label="x")
        new = NewJob("segment_image", MODEL, "replicate", "local", True, {"overlay": False}, plan, None, 0.1)

        async def ask() -> str:
            opening = await process.context.ledger.open(new, starter=process.name)
            process.dispatcher.start(opening.job.id)
            return opening.job.id

        job_id = process.call(ask)
        assert job_id is not None
        return job_id

    def cancel(self, process: Process, job_id: str) -> None:
        """Ask for a cancel."""

        async def ask() -> None:
            await process.context.ledger.request_cancel(job_id, "local")
            process.dispatcher.stop(job_id)

        process.call(ask)

    def job(self, process: Process, job_id: str) -> Job:
        """The job as the ledger has it."""
        found = process.call(lambda: process.context.ledger.job(job_id, "local"))
        assert found is not None
        return found

    def result(self, process: Process, job_id: str) -> JobResult:
        """What a tool would answer."""
        job = self.job(process, job_id)
        outputs = process.call(lambda: process.context.ledger.outputs(job_id, "local"))
        assert outputs is not None
        now = process.context.clock()
        return job_result(estimate_progress(job, now), outputs, process.context.vault, now)

    def run(self, process: Process, job_id: str, seconds: float) -> Job:
        """Let time pass, at most so much, until the job has ended; the job then.

        The ledger is looked into at every moment, as another program would: a process that is asked so often would take
        longer than everything else.
        """
        with closing(sqlite3.connect(self.folder / "ledger.sqlite3")) as ledger:
            state = "SELECT state FROM jobs WHERE id = ?"
            self.time.run(seconds, lambda: ledger.execute(state, (job_id,)).fetchone()[0] in FINAL_STATES)
        return self.job(process, job_id)


@contextmanager
def staged(folder: Path) -> Iterator[Scene]:
    """A scene on an empty ledger."""
    folder.mkdir(parents=True, exist_ok=True)
    time = Time()
    with no_threads():
        try:
            yield Scene(time, folder, Provider(time))
        finally:
            time.close()
