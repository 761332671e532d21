"""The laws of the job machine, for every order of events: kills, stops, lost replies, cancels, a locked ledger.

Several simulated processes share one ledger and one provider; hypothesis decides what happens when. After every step
the ledger is held against the world, which knows what was paid. `HYPOTHESIS_PROFILE=soak` tries many more.
"""

import atexit
import json
import os
import shutil
import sqlite3
import tempfile
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import anyio
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from PIL import Image
from simulated import EPOCH, Process, Seams, Time, no_threads

from rotoscope.errors import OutputLost, OverBudget, ReplyLost, StorageFailed, Unreachable
from rotoscope.jobs.budget import Caps
from rotoscope.jobs.calls import call_to_json
from rotoscope.jobs.job import ENDED, FINAL, NewJob
from rotoscope.jobs.tempo import Tempo
from rotoscope.models.catalog import Catalog, load_catalog, manifest_folder
from rotoscope.predictions.dialects import Replicate
from rotoscope.predictions.states import Call
from rotoscope.wire.client import Downloaded
from rotoscope.wire.messages import HttpCall, Reply

SOAK = os.environ.get("HYPOTHESIS_PROFILE") == "soak"
MODEL, VERSION = "bytedance/sa2va-4b-image", "ccf8e58352ce5b2a6cbf5cb68b947ca3bc62009ce66e82071eeae14555414411"
ESTIMATE, CAP = 100_000, 1_000_000  # millionths of a US dollar
TEMPO = Tempo(look=2.0, glance=1.0)
ACCEPTED = ("fine", "lost after", "cut off", "hangs", "slow", "late uplink", "500 after")
UNACCEPTED = ("lost before", "500 before", "unreachable", "busy", "busy for long", "refused")
ENDS = {"rate_limited", "provider_unreachable", "invalid_input", "prediction_failed", "storage", "auth", "timeout",
        "provider_cancelled", "download_failed", "output_expired"}  # fmt: skip


@cache
def shipped() -> Catalog:
    return load_catalog(manifest_folder(), Path("/nowhere"))


@cache
def mask() -> Path:
    place = Path(tempfile.mkdtemp()) / "mask.png"
    Image.new("L", (8, 8), 255).save(place)
    return place


@cache
def folder() -> Path:
    """Where all examples have their ledger and vault: in memory, where there is such a place; no disk is tested."""
    place = Path(tempfile.mkdtemp(prefix="laws-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
    atexit.register(shutil.rmtree, place)
    return place


@dataclass
class Run:
    """A prediction at the provider: paid for since it was created."""

    id: str
    token: str
    input: dict[str, Any]
    created: float
    begins: float
    ends: float
    word: str
    listed: bool
    stopped: float | None = None

    def status(self, now: float) -> str:
        if self.stopped is not None:
            return "aborted" if self.stopped < self.begins else "canceled"
        return "starting" if now < self.begins else "processing" if now < self.ends else self.word

    def body(self, now: float) -> dict[str, Any]:
        status = self.status(now)
        output = {"img": "https://replicate.delivery/mask.png", "response": "Sure, [SEG]."}
        done = int(100 * min(max((now - self.begins) / (self.ends - self.begins), 0), 1))
        known = {"id": self.id, "model": MODEL, "version": VERSION, "status": status, "input": self.input}
        said = {"logs": f" {done}%|##| {done}/100" if status == "processing" else "", "error": None}
        return {**known, **said, "output": output if status == "succeeded" else None}


@dataclass
class Plan:
    """What the world has in store for one request: a fault for each time it is sent, then for each question."""

    sends: list[str]
    asks: list[str]
    word: str
    waits: float
    lasts: float
    listed: bool


@dataclass
class World:
    """A provider in Replicate's shape, and what it was paid for."""

    time: Time
    plans: dict[str, Plan] = field(default_factory=dict)
    runs: dict[str, Run] = field(default_factory=dict)
    locked_until: float = 0.0

    def trouble(self) -> None:
        if self.time.now < self.locked_until:
            raise StorageFailed("The ledger is locked by another program.", hint="Wait.")

    def accept(self, given: dict[str, Any], plan: Plan, later: float) -> Run:
        name, now = f"p{len(self.runs)}", self.time.now + later
        token = given["instruction"]
        run = Run(name, token, given, now, now + plan.waits, now + plan.waits + plan.lasts, plan.word, plan.listed)
        self.runs[name] = run
        return run

    def paid(self, token: str) -> list[Run]:
        return [run for run in self.runs.values() if run.token == token]


class SimulatedWire:
    """The wire of one process into the world."""

    def __init__(self, world: World, seams: Seams) -> None:
        self.world, self.seams = world, seams

    async def aclose(self) -> None:
        """There is nothing to close."""

    def longest(self, call: HttpCall) -> float:
        return 35.0

    async def send(self, provider: str, call: HttpCall, guard: Any = None, *, pays: bool = False) -> Reply:
        self.seams.cross("before sending")
        await anyio.sleep(0.05)
        if call.method == "POST" and call.url.endswith("/predictions"):
            answer = await self.submitted(call, guard)
        elif call.method == "POST":
            answer = await self.cancelled(call.url.split("/")[-2])
        elif "?" in call.url:
            answer = self.listed()
        else:
            answer = await self.asked(call.url.rpartition("/")[2])
        await anyio.sleep(0.05)
        self.seams.cross("after the reply")
        return answer

    async def submitted(self, call: HttpCall, guard: Any) -> Reply:
        body: Any = call.json
        plan = self.world.plans[body["input"]["instruction"]]
        fault = plan.sends.pop(0) if plan.sends else "fine"
        guard()
        if self.seams.dead:
            raise BaseException("a dead process sends nothing")  # noqa: TRY002 - it cannot happen
        if fault == "unreachable":
            raise Unreachable("Nobody there.", hint="")
        if fault in UNACCEPTED:
            return await self.unaccepted(fault)
        run = self.world.accept(body["input"], plan, 2.0 if fault == "late uplink" else 0.0)
        self.seams.cross("after acceptance")
        await anyio.sleep({"slow": 25.0, "hangs": 35.0}.get(fault, 0.1))
        if fault in ("lost after", "hangs"):
            raise ReplyLost("The reply did not come back.", hint="")
        if fault == "500 after":
            return reply(500, {})
        return reply(201, {"status": "starting"} if fault == "cut off" else run.body(run.created))

    async def unaccepted(self, fault: str) -> Reply:
        await anyio.sleep(0.1)
        if fault == "lost before":
            raise ReplyLost("The reply did not come back.", hint="")
        if fault == "500 before":
            return reply(500, {})
        if fault == "refused":
            return reply(422, {"detail": "no"})
        return reply(429, {"detail": "throttled"}, {"retry-after": "86400" if "long" in fault else "2"})

    async def asked(self, name: str) -> Reply:
        run = self.world.runs.get(name)
        if run is None or self.world.time.now < run.created:
            return reply(404, {})
        plan = self.world.plans[run.token]
        fault = plan.asks.pop(0) if plan.asks else "fine"
        if fault == "lost":
            await anyio.sleep(10)
            raise ReplyLost("The reply did not come back.", hint="")
        return reply(200 if fault == "fine" else int(fault), run.body(self.world.time.now) if fault == "fine" else {})

    async def cancelled(self, name: str) -> Reply:
        run = self.world.runs[name]
        if run.status(self.world.time.now) in ("starting", "processing"):
            run.stopped = self.world.time.now
        return reply(200, run.body(self.world.time.now))

    def listed(self) -> Reply:
        now = self.world.time.now
        return reply(200, {"results": [r.body(now) for r in self.world.runs.values() if r.listed and r.created <= now]})

    async def download(self, provider: str, url: str, into: Path, limit: int) -> Downloaded:
        self.seams.cross("before fetching")
        await anyio.sleep(0.2)
        if self.seams.dead:
            raise OutputLost("Never.", hint="")
        shutil.copy(mask(), into)
        self.seams.cross("after fetching")
        return Downloaded(_hash(into), into.stat().st_size, "image/png")


def _hash(path: Path) -> str:
    import hashlib

    return hashlib.sha256(path.read_bytes()).hexdigest()


def reply(status: int, body: dict[str, Any], headers: dict[str, str] | None = None) -> Reply:
    return Reply(status, headers or {}, json.dumps(body).encode())


def new_job(token: str, key: str | None) -> NewJob:
    given = {"image": f"https://pictures.invalid/{token}.png", "instruction": token}
    call = Call("replicate", MODEL, given, VERSION, "version")
    data = {"call": call_to_json(call), "drawn": [], "estimate_usd": 0.1, "expected_seconds": 5.0, "label": "x"}
    where = ("segment_image", MODEL, "replicate", "local", True)
    return NewJob(*where, {"overlay": False}, data, key, 0.1)


@dataclass
class Seen:
    """What was seen of a job last."""

    token: str
    key: str | None
    state: str = "queued"
    progress: float = 0.0
    cancel_asked: bool = False
    told: bool = False


faults = st.lists(st.sampled_from(ACCEPTED + UNACCEPTED), max_size=3)
asks = st.lists(st.sampled_from(["fine", "500", "429", "401", "404", "lost"]), max_size=5)
fates = st.tuples(st.sampled_from(["lives", "dies", "stops"]), st.integers(1, 20))
seconds = st.sampled_from([0.1, 1.0, 3.0, 10.0, 16.0, 40.0, 130.0])


@st.composite
def plans(draw: Any) -> Plan:
    waits, lasts = draw(st.sampled_from([0.0, 1.0, 4.0])), draw(st.sampled_from([0.5, 5.0, 40.0]))
    word = draw(st.sampled_from(["succeeded", "succeeded", "succeeded", "failed"]))
    return Plan(draw(faults), draw(asks), word, waits, lasts, draw(st.sampled_from([True, True, True, False])))


class Laws(RuleBasedStateMachine):
    """Processes come and go; jobs are asked for, cancelled, told and resolved; time passes."""

    def __init__(self) -> None:
        super().__init__()
        self.time = Time()
        self.world = World(self.time)
        self.folder = folder()
        self.threads = no_threads()
        self.threads.__enter__()
        self.seen: dict[str, Seen] = {}
        self.asked = self.started = 0

    @initialize()
    def begin(self) -> None:
        self.process_starts()
        self.time.run(0.1)
        self.reader = sqlite3.connect(self.folder / "ledger.sqlite3", isolation_level=None)
        self.reader.row_factory = sqlite3.Row
        for table in ("outputs", "artifacts", "submissions", "job_events", "reservations", "durations", "jobs"):
            self.reader.execute(f"DELETE FROM {table}")

    # What happens.

    @property
    def living(self) -> list[Process]:
        return [one for one in self.time.processes if not (one.seams.dead or one.ended)]

    @property
    def going(self) -> list[Process]:
        return [one for one in self.living if one.goes]

    @precondition(lambda self: len(self.living) < 3)
    @rule()
    def process_starts(self) -> None:
        self.started += 1
        catalog, dialects = shipped(), {"replicate": Replicate({"api": "https://api.replicate.com"})}
        Process(
            self.time, f"process {self.started}", self.folder, catalog, dialects,
            lambda seams: SimulatedWire(self.world, seams), frozenset({"sandbox"}), TEMPO, self.world.trouble,
        )  # fmt: skip

    @precondition(lambda self: self.going)
    @rule(data=st.data(), key=st.sampled_from([None, "a", "b"]), plan=plans(), fate=fates)
    def somebody_asks(self, data: st.DataObject, key: str | None, plan: Plan, fate: tuple[str, int]) -> None:
        process = data.draw(st.sampled_from(self.going), "process")
        self.asked += 1
        token, before = f"thing {self.asked}", self.rows()
        self.world.plans[token] = plan
        full = self.counted() + ESTIMATE > CAP
        twins = [job_id for job_id in self.seen if self.joinable(before[job_id], key)]

        async def ask() -> tuple[str, bool] | None:
            try:
                opening = await process.rooms.ledger.open(new_job(token, key), Caps(per_day=CAP / 1e6), process.name)
            except (OverBudget, StorageFailed) as error:
                locked = isinstance(error, StorageFailed)
                assert locked == (self.time.now < self.world.locked_until)
                assert locked or (full and not twins), "refused with money left"
                return None
            process.dispatcher.start(opening.job.id)
            return opening.job.id, opening.joined

        stop_at, process.seams.stop_at = process.seams.stop_at, None  # the model needs to know when it was opened
        opened = process.call(ask)
        process.seams.stop_at = stop_at
        # The process went on with its other jobs meanwhile: what ended in between is a twin no more.
        after = self.rows()
        twins = [job_id for job_id in twins if self.joinable(after[job_id], key)] or (
            twins if opened is not None and opened[1] else []
        )
        # Left to chance, few processes would be hit in the moments that matter.
        if fate[0] == "dies":
            process.seams.kill_at = len(process.seams.crossed) + fate[1]
        elif fate[0] == "stops":
            process.seams.stop_at = len(process.seams.crossed) + fate[1]
        for job_id, row in self.rows().items():  # the one who asked may have been killed before it was told
            if job_id not in self.seen:
                assert not full, "opened over the cap"
                assert not twins, "opened beside its twin"
                assert row["idempotency_key"] == key
                assert row["state"] in ("queued", "running"), "or taken already, while its opening was being written"
                self.seen[job_id] = Seen(token, key)
        if opened is not None and opened[1]:
            assert opened[0] in twins

    def joinable(self, row: Any, key: str | None) -> bool:
        seen = self.seen[row["id"]]
        if key is None or seen.key != key:
            return False
        open_or_untold = row["state"] not in FINAL or row["delivered_at"] is None
        return row["state"] == "needs_review" or (not row["cancel_requested"] and open_or_untold)

    @precondition(lambda self: self.going and self.seen)
    @rule(data=st.data())
    def somebody_cancels(self, data: st.DataObject) -> None:
        process, job_id = self.drawn(data)

        async def cancel() -> None:
            try:
                await process.rooms.ledger.request_cancel(job_id, "local")
            except StorageFailed:
                return
            process.dispatcher.stop(job_id)

        process.call(cancel)

    @precondition(lambda self: self.going and self.seen)
    @rule(data=st.data())
    def an_end_is_told(self, data: st.DataObject) -> None:
        process, job_id = self.drawn(data)

        async def tell() -> None:
            try:
                await process.rooms.ledger.delivered(job_id)
            except StorageFailed:
                return

        process.call(tell)

    @precondition(lambda self: self.going and any(one.state == "needs_review" for one in self.seen.values()))
    @rule(data=st.data())
    def a_person_looks_and_decides(self, data: st.DataObject) -> None:
        waiting = [job_id for job_id, row in self.rows().items() if row["state"] == "needs_review"]
        process = data.draw(st.sampled_from(self.going), "process")
        job_id = data.draw(st.sampled_from(waiting), "job") if waiting else None
        # A person looks when it is over: nobody's request is on its way any more.
        if job_id is None or self.time.now - (self.intents()[job_id]["intent_at"] - EPOCH) < 120:
            return
        paid = self.world.paid(self.seen[job_id].token)

        async def resolve() -> None:
            try:
                await process.rooms.ledger.resolve(job_id, None, paid[0].id if paid else None)
            except StorageFailed:
                return

        process.call(resolve)

    def drawn(self, data: st.DataObject) -> tuple[Process, str]:
        ids = sorted(self.seen, key=lambda one: self.seen[one].token)
        return data.draw(st.sampled_from(self.going), "process"), data.draw(st.sampled_from(ids), "job")

    @precondition(lambda self: self.living)
    @rule(data=st.data())
    def a_process_is_killed(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from(self.living), "process").kill()

    @precondition(lambda self: self.going)
    @rule(data=st.data(), crossings=st.integers(1, 12))
    def a_process_will_be_killed(self, data: st.DataObject, crossings: int) -> None:
        seams = data.draw(st.sampled_from(self.going), "process").seams
        seams.kill_at = len(seams.crossed) + crossings

    @precondition(lambda self: self.going)
    @rule(data=st.data())
    def a_process_is_stopped(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from(self.going), "process").seams.stopped = True

    @precondition(lambda self: any(one.seams.stopped for one in self.living))
    @rule(data=st.data())
    def a_stopped_process_wakes(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from([one for one in self.living if one.seams.stopped]), "process").seams.stopped = False

    @precondition(lambda self: self.going)
    @rule(data=st.data())
    def a_process_ends(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from(self.going), "process").end()
        self.time.run(0.1)

    @precondition(lambda self: self.going)
    @rule(data=st.data(), turns=st.integers(1, 20))
    def one_process_is_faster(self, data: st.DataObject, turns: int) -> None:
        data.draw(st.sampled_from(self.going), "process").turn(turns)

    @rule(seconds=st.sampled_from([0.5, 5.0, 20.0]))
    def the_ledger_is_locked_for_a_while(self, seconds: float) -> None:
        self.world.locked_until = self.time.now + seconds

    @rule(span=seconds)
    def time_passes(self, span: float) -> None:
        self.time.run(span)

    # What holds.

    def rows(self) -> dict[str, sqlite3.Row]:
        joined = "SELECT jobs.*, reserved, committed, settled_at FROM jobs JOIN reservations ON job_id = id"
        return {row["id"]: row for row in self.reader.execute(joined)}

    def intents(self) -> dict[str, sqlite3.Row]:
        return {row["job_id"]: row for row in self.reader.execute("SELECT * FROM submissions")}

    def counted(self) -> int:
        """What counts against the cap, by the ledger's own columns."""
        return sum(row["committed"] if row["settled_at"] else row["reserved"] for row in self.rows().values())

    @invariant()
    def laws_hold(self) -> None:
        rows, intents = self.rows(), self.intents()
        assert set(rows) == set(self.seen), "a job is lost"
        for process in self.time.processes:
            assert not process.broken
        for job_id, seen in self.seen.items():
            self.job_is_lawful(rows[job_id], seen)
            self.money_is_lawful(rows[job_id], intents.get(job_id), self.world.paid(seen.token))

    def job_is_lawful(self, row: sqlite3.Row, seen: Seen) -> None:
        assert seen.state not in ENDED or row["state"] == seen.state, f"{seen.state} became {row['state']}"
        assert row["progress"] >= seen.progress, "progress went back"
        error = json.loads(row["error"]) if row["error"] else None
        if row["state"] == "failed":
            assert error is not None
            assert error["code"] in ENDS | {"provider_error"}, error
        if row["state"] == "needs_review":
            assert error is not None
            assert error["code"] == "submit_unknown"
        seen.state, seen.progress = row["state"], row["progress"]

    def money_is_lawful(self, row: sqlite3.Row, intent: sqlite3.Row | None, paid: list[Run]) -> None:
        assert len(paid) <= 1, "paid twice"
        assert row["reserved"] == ESTIMATE
        assert (row["settled_at"] is not None) == (row["state"] in ENDED), "held after the end, or free before it"
        if paid:
            assert intent is not None, "paid without an intent"
            known = intent["prediction_id"] == paid[0].id
            assert known or row["state"] not in ENDED, "a paid prediction that nobody knows"
        if row["state"] in ENDED:
            charged = bool(paid) and paid[0].status(self.time.now) != "aborted"
            assert row["committed"] >= (ESTIMATE if charged else 0), "counted for less than it cost"
            assert paid or row["committed"] == 0, "counted although nothing was bought"

    def teardown(self) -> None:
        """One healthy process brings every job to an end that can be explained."""
        try:
            if self.started:
                self.everything_ends()
        finally:
            self.time.close()
            self.reader.close()
            self.threads.__exit__(None, None, None)

    def everything_ends(self) -> None:
        for process in self.living:
            process.kill()
        self.world.locked_until = 0.0
        self.process_starts()

        def over() -> bool:
            return all(row["state"] in FINAL for row in self.rows().values())

        for _ in range(40):
            self.time.run(30)
            if over():
                break
        self.laws_hold()
        self.time.close()
        rows = self.rows()
        stuck = {row["id"]: (row["state"], row["stage"], row["message"]) for row in rows.values()}
        assert over(), stuck
        for job_id, seen in self.seen.items():
            paid = self.world.paid(seen.token)
            if rows[job_id]["state"] == "needs_review":
                assert not paid or not paid[0].listed, "a review of what the provider's list shows"


TestLaws = Laws.TestCase
TestLaws.settings = settings(
    max_examples=10_000 if SOAK else 100,
    stateful_step_count=60 if SOAK else 30,
    suppress_health_check=list(HealthCheck),
)
