"""The world outside of the simulated processes: one account at a provider in Replicate's shape, and what it was paid.

Its clock is the true one. Its list may be late, broken off, odd or closed; its cancels may not be taken; people make
runs of their own there that look like ours.
"""

import hashlib
import json
import shutil
import tempfile
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import formatdate
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import anyio
from PIL import Image
from simulated import EPOCH, Seams, Time

from rotoscope.errors import OutputLost, ReplyLost, StorageFailed, Unreachable
from rotoscope.providers.http.client import Download
from rotoscope.providers.http.messages import HttpCall, Reply

__all__ = ["ACCEPTED", "MODEL", "UNACCEPTED", "VERSION", "Plan", "Run", "SimulatedWire", "World", "mark_of"]

MODEL, VERSION = "bytedance/sa2va-4b-image", "ccf8e58352ce5b2a6cbf5cb68b947ca3bc62009ce66e82071eeae14555414411"
ACCEPTED = ("fine", "lost after", "cut off", "hangs", "slow", "late uplink", "500 after")
UNACCEPTED = ("lost before", "500 before", "unreachable", "busy", "busy for long", "refused")


@cache
def mask() -> Path:
    place = Path(tempfile.mkdtemp()) / "mask.png"
    Image.new("L", (8, 8), 255).save(place)
    return place


def mark_of(job_id: str) -> str:
    """What only this job's request holds."""
    return f"rs-{hashlib.sha256(job_id.encode()).hexdigest()[:16]}"


@dataclass
class Plan:
    """What the world has in store for one job: a fault for each time it is sent, for each question, for each cancel.

    Attributes:
        listed: after how many seconds its run is in the list; None: never.
    """

    sends: list[str] = field(default_factory=list)
    asks: list[str] = field(default_factory=list)
    cancels: list[str] = field(default_factory=list)
    word: str = "succeeded"
    waits: float = 1.0
    lasts: float = 5.0
    listed: float | None = 0.0


@dataclass
class Run:
    """A prediction at the provider: paid for since it was created. `mark` is None for somebody else's."""

    id: str
    mark: str | None
    input: dict[str, Any]
    created: float
    plan: Plan
    stopped: float | None = None

    @property
    def begins(self) -> float:
        return self.created + self.plan.waits

    @property
    def ends(self) -> float:
        return self.begins + self.plan.lasts

    def status(self, now: float) -> str:
        if self.stopped is not None:
            return "aborted" if self.stopped < self.begins else "canceled"
        return "starting" if now < self.begins else "processing" if now < self.ends else self.plan.word

    def body(self, now: float) -> dict[str, Any]:
        status = self.status(now)
        output = {"img": "https://replicate.delivery/mask.png", "response": "Sure, [SEG]."}
        done = int(100 * min(max((now - self.begins) / (self.ends - self.begins), 0), 1))
        known = {"id": self.id, "model": MODEL, "version": VERSION, "status": status, "input": self.input}
        created = datetime.fromtimestamp(EPOCH + self.created, UTC).isoformat()
        said = {"logs": f" {done}%|##| {done}/100" if status == "processing" else "", "error": None}
        return {**known, **said, "created_at": created, "output": output if status == "succeeded" else None}

    def is_listed(self, now: float) -> bool:
        return self.plan.listed is not None and self.created + self.plan.listed <= now


@dataclass
class World:
    """A provider in Replicate's shape, and what it was paid for."""

    time: Time
    plans: dict[str, Plan] = field(default_factory=dict)
    runs: dict[str, Run] = field(default_factory=dict)
    sent_at: dict[str, float] = field(default_factory=dict)
    lists: list[str] = field(default_factory=list)
    locked_until: float = 0.0

    def trouble(self) -> None:
        if self.time.now < self.locked_until:
            raise StorageFailed("The ledger is locked by another program.", hint="Wait.")

    def accept(self, given: dict[str, Any], mark: str | None, plan: Plan, later: float = 0.0) -> Run:
        run = Run(f"p{len(self.runs)}", mark, given, self.time.now + later, plan)
        self.runs[run.id] = run
        return run

    def paid(self, job_id: str) -> list[Run]:
        """The runs that a job's request has made."""
        return [run for run in self.runs.values() if run.mark == mark_of(job_id)]

    def strangers(self) -> list[Run]:
        return [run for run in self.runs.values() if run.mark is None]


class SimulatedWire:
    """The wire of one process into the world."""

    def __init__(self, world: World, seams: Seams) -> None:
        self.world, self.seams = world, seams

    async def aclose(self) -> None:
        """There is nothing to close."""

    def longest(self, call: HttpCall) -> float:
        return 35.0

    async def send(
        self, provider: str, call: HttpCall, guard: Any = None, *, pays: bool = False, key: str | None = None
    ) -> Reply:
        self.seams.cross("before sending")
        await anyio.sleep(0.05)
        if pays:
            answer = await self.submitted(call, guard)
        elif call.method == "POST":
            answer = await self.cancelled(call.url.split("/")[-2])
        elif "?" in call.url:
            answer = self.listed(parse_qs(urlsplit(call.url).query))
        else:
            answer = await self.asked(call.url.rpartition("/")[2])
        await anyio.sleep(0.05)
        self.seams.cross("after the reply")
        return answer

    def reply(self, status: int, body: Any, headers: dict[str, str] | None = None) -> Reply:
        now = {"date": formatdate(EPOCH + self.world.time.now, usegmt=True)}
        return Reply(status, {**now, **(headers or {})}, json.dumps(body).encode())

    async def submitted(self, call: HttpCall, guard: Any) -> Reply:
        body: Any = call.json
        mark = str(body["input"]["image"]).partition("#")[2]
        plan = self.world.plans.setdefault(mark, Plan())
        fault = plan.sends.pop(0) if plan.sends else "fine"
        guard()
        if self.seams.dead:
            raise BaseException("a dead process sends nothing")  # noqa: TRY002 - it cannot happen
        self.world.sent_at[mark] = self.world.time.now
        if fault == "unreachable":
            raise Unreachable("Nobody there.", hint="")
        if fault in UNACCEPTED:
            return await self.unaccepted(fault)
        run = self.world.accept(body["input"], mark, plan, 2.0 if fault == "late uplink" else 0.0)
        self.seams.cross("after acceptance")
        await anyio.sleep({"slow": 25.0, "hangs": 35.0}.get(fault, 0.1))
        if fault in ("lost after", "hangs"):
            raise ReplyLost("The reply did not come back.", hint="")
        if fault == "500 after":
            return self.reply(500, {})
        return self.reply(201, {"status": "starting"} if fault == "cut off" else run.body(run.created))

    async def unaccepted(self, fault: str) -> Reply:
        await anyio.sleep(0.1)
        if fault == "lost before":
            raise ReplyLost("The reply did not come back.", hint="")
        if fault == "500 before":
            return self.reply(500, {})
        if fault == "refused":
            return self.reply(422, {"detail": "no"})
        return self.reply(429, {"detail": "throttled"}, {"retry-after": "86400" if "long" in fault else "2"})

    async def asked(self, name: str) -> Reply:
        run = self.world.runs.get(name)
        if run is None or self.world.time.now < run.created:
            return self.reply(404, {})
        fault = run.plan.asks.pop(0) if run.plan.asks else "fine"
        if fault == "lost":
            await anyio.sleep(10)
            raise ReplyLost("The reply did not come back.", hint="")
        return self.reply(200, run.body(self.world.time.now)) if fault == "fine" else self.reply(int(fault), {})

    async def cancelled(self, name: str) -> Reply:
        run, now = self.world.runs[name], self.world.time.now
        fault = run.plan.cancels.pop(0) if run.plan.cancels else "fine"
        if fault not in ("fine", "forgotten"):
            return self.reply(int(fault), {})
        if fault == "fine" and run.status(now) in ("starting", "processing"):
            run.stopped = now
        return self.reply(200, run.body(now))

    def listed(self, asked: dict[str, list[str]]) -> Reply:
        fault = self.world.lists.pop(0) if self.world.lists else "fine"
        if "page" in asked or fault == "503":
            return self.reply(503, {})
        if fault == "html":
            return Reply(200, {"content-type": "text/html"}, b"<html>Sign in</html>")
        now, since = self.world.time.now, datetime.fromisoformat(asked["created_after"][0]).timestamp() - EPOCH
        shown = [run for run in self.world.runs.values() if run.is_listed(now) and run.created >= since]
        rows: list[Any] = [run.body(now) for run in reversed(shown)]
        if fault == "odd":
            rows.insert(0, "?")
        half = fault == "half" and len(rows) > 1
        following = "https://api.replicate.com/v1/predictions?page=2" if half else None
        return self.reply(200, {"results": rows[: len(rows) // 2] if half else rows, "next": following})

    async def download(self, provider: str, url: str, into: Path, limit: int) -> Download:
        self.seams.cross("before fetching")
        await anyio.sleep(0.2)
        if self.seams.dead:
            raise OutputLost("Never.", hint="")
        shutil.copy(mask(), into)
        self.seams.cross("after fetching")
        return Download(hashlib.sha256(into.read_bytes()).hexdigest(), into.stat().st_size, "image/png")
