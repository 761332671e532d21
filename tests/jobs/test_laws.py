"""The laws of the money path, for every order of events.

Two homes of one account, three processes each at most, a person, and people who make equal runs by hand; kills, stops
and signals at every await; lost replies, late and odd lists, cancels that are not taken, a ledger that is locked, a
wall clock that is set. Hypothesis decides what happens when. After every step both ledgers are held against the world,
which knows what was paid: no sequence pays twice for what was asked once, loses what was paid for, or touches a run
that is not ours. `HYPOTHESIS_PROFILE=soak` tries many more.
"""

import atexit
import json
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import psycopg
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from postgresql import PostgresqlServer
from psycopg.rows import dict_row
from psycopg.types.json import set_json_loads
from simulated import Process, Time, drop_spare_engines, no_threads
from sqlalchemy import make_url
from world import ACCEPTED, MODEL, UNACCEPTED, VERSION, Plan, Run, SimulatedWire, World, mark_of

from rotoscope.errors import OverBudget, RotoscopeError, StorageFailed
from rotoscope.models.catalog import Catalog, load_catalog, manifest_folder
from rotoscope.providers.dialects.replicate import Replicate
from rotoscope.providers.states import Call
from rotoscope.store.job_data import JobPlan
from rotoscope.store.money import Caps
from rotoscope.store.records import ENDED_STATES, NewJob
from rotoscope.store.schema import metadata
from rotoscope.store.timing import REDELIVERY_SECONDS, Intervals

SOAK = os.environ.get("HYPOTHESIS_PROFILE") == "soak"
ESTIMATE, CAP = 100_000, 1_000_000  # millionths of a US dollar
TEMPO = Intervals(poll=2.0, change_poll=1.0)
HOMES = ("a", "b")
CODES = {"rate_limited", "provider_unreachable", "invalid_input", "prediction_failed", "storage", "auth",
         "provider_cancelled", "provider_error", "output_expired"}  # fmt: skip
UNWATCHED = 7200.0 + 900.0  # seconds: as long as the provider's list is looked into, and one pause more


@cache
def shipped() -> Catalog:
    return load_catalog(manifest_folder(), Path("/nowhere"))


@cache
def folder() -> Path:
    """Where all examples have their homes: in memory, where there is such a place; no disk is tested."""
    place = Path(tempfile.mkdtemp(prefix="laws-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
    atexit.register(shutil.rmtree, place)
    for home in HOMES:
        (place / home).mkdir()
    return place


def new_job(subject: str, key: str | None) -> NewJob:
    given = {"image": f"https://pictures.invalid/{subject}.png", "instruction": subject}
    call = Call("replicate", MODEL, given, VERSION, "version")
    plan = JobPlan(call=call, estimate_usd=0.1, expected_seconds=5.0, label="x")
    where = ("segment_image", MODEL, "replicate", "local", True)
    return NewJob(*where, {"overlay": False}, plan, key, 0.1)


Row = Any  # what both drivers give: values by the names of columns
Reader = Any  # a connection of either driver; both have `execute` and `close`


@dataclass
class Seen:
    """What was seen of a job last."""

    home: str
    key: str | None
    asked_at: float
    state: str = "queued"
    progress: float = 0.0


faults = st.lists(st.sampled_from(ACCEPTED + UNACCEPTED), max_size=3)
asks = st.lists(st.sampled_from(["fine", "500", "429", "401", "404", "lost"]), max_size=5)
cancels = st.lists(st.sampled_from(["fine", "503", "404", "409", "401", "forgotten"]), max_size=3)
fates = st.tuples(st.sampled_from(["lives", "dies", "stops", "ends"]), st.integers(1, 20))
seconds = st.sampled_from([0.1, 1.0, 3.0, 10.0, 16.0, 40.0, 130.0])


@st.composite
def plans(draw: Any) -> Plan:
    waits, lasts = draw(st.sampled_from([0.0, 1.0, 4.0])), draw(st.sampled_from([0.5, 5.0, 40.0]))
    word = draw(st.sampled_from(["succeeded", "succeeded", "succeeded", "failed"]))
    listed = draw(st.sampled_from([0.0, 0.0, 20.0, 400.0, None]))
    return Plan(draw(faults), draw(asks), draw(cancels), word, waits, lasts, listed)


class Laws(RuleBasedStateMachine):
    """Processes come and go; jobs are asked for, cancelled, reported and resolved; time passes."""

    def __init__(self) -> None:
        super().__init__()
        self.time = Time()
        self.world = World(self.time)
        self.threads = no_threads()
        self.threads.__enter__()
        self.seen: dict[str, Seen] = {}
        self.homes: dict[Process, str] = {}
        self.readers: dict[str, Reader] = {}
        self.started = 0

    @initialize()
    def begin(self) -> None:
        for home in HOMES:
            self.start(home)
        self.time.run(0.1)
        for home in HOMES:
            self.readers[home] = reader = self.open_reader(home)
            for table in reversed(metadata.sorted_tables):
                own = "WHERE name <> 'schema'" if table.name == "properties" else ""  # the version of the tables
                reader.execute(f"DELETE FROM {table.name} {own}")

    # What happens.

    @property
    def living(self) -> list[Process]:
        return [one for one in self.time.processes if not (one.seams.dead or one.ended)]

    @property
    def going(self) -> list[Process]:
        return [one for one in self.living if one.goes]

    def ledger_url(self, home: str) -> str | None:
        """Where a home's ledger is; None: in a file of its folder."""
        return None

    def open_reader(self, home: str) -> Reader:
        """A connection of the test's own to a home's ledger."""
        reader = sqlite3.connect(folder() / home / "ledger.sqlite3", isolation_level=None)
        reader.row_factory = sqlite3.Row
        return reader

    def start(self, home: str) -> None:
        self.started += 1
        catalog, dialects = shipped(), {"replicate": Replicate({"api": "https://api.replicate.com"})}
        process = Process(
            self.time, f"process {self.started}", folder() / home, catalog, dialects,
            lambda seams: SimulatedWire(self.world, seams), frozenset({"sandbox"}), TEMPO, self.world.trouble,
            url=self.ledger_url(home),
        )  # fmt: skip
        self.homes[process] = home

    @precondition(lambda self: len(self.living) < 4)
    @rule(home=st.sampled_from(["a", "a", "a", "b"]))
    def process_starts(self, home: str) -> None:
        self.start(home)

    @precondition(lambda self: self.going)
    @rule(
        data=st.data(),
        key=st.sampled_from([None, "x", "y"]),
        subject=st.sampled_from(["cat", "dog"]),
        plan=plans(),
        fate=fates,
    )
    def somebody_asks(
        self, data: st.DataObject, key: str | None, subject: str, plan: Plan, fate: tuple[str, int]
    ) -> None:
        process = data.draw(st.sampled_from(self.going), "process")
        home, before = self.homes[process], self.rows()
        full = self.counted(home) + ESTIMATE > CAP
        twins = [job_id for job_id in self.seen if self.is_joinable(before[job_id], home, key)]

        async def ask() -> tuple[str, bool] | None:
            try:
                opening = await process.context.ledger.open(
                    new_job(subject, key), Caps(per_day=CAP / 1e6), process.name
                )
            except (OverBudget, StorageFailed) as error:
                locked = isinstance(error, StorageFailed)
                assert locked == (self.time.now < self.world.locked_until)
                assert locked or (full and not twins), "refused with money left"
                return None
            if not opening.is_joined:
                self.world.plans[mark_of(opening.job.id)] = plan
            if process.goes_on:
                process.dispatcher.start(opening.job.id)
            return opening.job.id, opening.is_joined

        stop_at, process.seams.stop_at = process.seams.stop_at, None  # the model needs to know when it was opened
        opened = process.call(ask)
        process.seams.stop_at = stop_at
        # The process went on with its other jobs meanwhile: what ended in between is a twin no more.
        after = self.rows()
        twins = [job_id for job_id in twins if self.is_joinable(after[job_id], home, key)] or (
            twins if opened is not None and opened[1] else []
        )
        self.meet(process, fate)
        for job_id, row in self.rows().items():  # the one who asked may have been killed before it was delivered
            if job_id not in self.seen:
                assert not full, "opened over the cap"
                assert not twins, "opened beside its twin"
                assert row["idempotency_key"] == key
                assert row["state"] in ("queued", "running"), "or taken already, while its opening was being written"
                self.seen[job_id] = Seen(home, key, self.time.now)
        if opened is not None and opened[1]:
            assert opened[0] in twins

    def meet(self, process: Process, fate: tuple[str, int]) -> None:
        """Left to chance, few processes would be hit in the moments that matter."""
        at = len(process.seams.crossed) + fate[1]
        if fate[0] == "dies":
            process.seams.kill_at = at
        elif fate[0] == "stops":
            process.seams.stop_at = at
        elif fate[0] == "ends":
            process.seams.end_at = at

    def is_joinable(self, row: Any, home: str, key: str | None) -> bool:
        """Whether an equal request must be answered with this job, by the rule as a person would say it."""
        seen = self.seen[row["id"]]
        if key is None or (seen.key, seen.home) != (key, home):
            return False
        if row["state"] not in ENDED_STATES:
            asked_to_end = row["cancel_requested"] and row["state"] != "needs_review"
            return not asked_to_end or row["id"] in self.intents()
        if row["delivered_at"] is None:
            return row["state"] == "succeeded" or not row["cancel_requested"]
        free = json.loads(row["data"]).get("charged") is False
        if free or row["cancel_requested"] or row["told_again_at"] is not None:
            return False
        return bool(0 <= self.time.wall() - row["delivered_at"] <= REDELIVERY_SECONDS)

    @precondition(lambda self: len(self.world.strangers()) < 4)
    @rule(subject=st.sampled_from(["cat", "dog"]), lasts=st.sampled_from([1.0, 60.0]))
    def somebody_makes_an_equal_run_by_hand(self, subject: str, lasts: float) -> None:
        given = {"image": f"https://pictures.invalid/{subject}.png", "instruction": subject}
        self.world.accept(given, None, Plan(lasts=lasts))

    @rule(odd=st.lists(st.sampled_from(["fine", "503", "html", "half", "odd"]), min_size=1, max_size=4))
    def the_list_is_odd_for_a_while(self, odd: list[str]) -> None:
        self.world.lists = odd

    @rule(wrong=st.sampled_from([-3600.0, -40.0, 0.0, 40.0, 3600.0]))
    def somebody_sets_the_clock(self, wrong: float) -> None:
        self.time.wrong = wrong

    @precondition(lambda self: self.going and self.seen)
    @rule(data=st.data())
    def somebody_cancels(self, data: st.DataObject) -> None:
        process, job_id = self.drawn(data)
        if process is None:
            return

        async def cancel() -> None:
            try:
                await process.context.ledger.request_cancel(job_id, "local")
            except StorageFailed:
                return
            process.dispatcher.stop(job_id)

        process.call(cancel)

    @precondition(lambda self: self.going and self.seen)
    @rule(data=st.data())
    def an_end_is_delivered(self, data: st.DataObject) -> None:
        process, job_id = self.drawn(data)
        if process is None:
            return

        async def tell() -> None:
            try:
                await process.context.ledger.mark_delivered(job_id, "local")
            except StorageFailed:
                return

        process.call(tell)

    @precondition(lambda self: self.going and any(one.state == "needs_review" for one in self.seen.values()))
    @rule(data=st.data())
    def a_person_looks_and_decides(self, data: st.DataObject) -> None:
        waiting = sorted(job_id for job_id, row in self.rows().items() if row["state"] == "needs_review")
        waiting.sort(key=lambda job_id: self.seen[job_id].asked_at)
        job_id = data.draw(st.sampled_from(waiting), "job") if waiting else None
        own = [one for one in self.going if job_id is not None and self.homes[one] == self.seen[job_id].home]
        # A person looks when it is over: nobody's request is on its way any more.
        if job_id is None or not own or self.time.now - self.world.sent_at.get(mark_of(job_id), 0.0) < 120:
            return
        process, paid = own[0], self.world.paid(job_id)

        async def resolve() -> None:
            try:
                await process.context.ledger.resolve_review(job_id, "local", paid[0].id if paid else None)
            except RotoscopeError:
                return  # the ledger is locked, or it was found in this very moment

        process.call(resolve)

    def drawn(self, data: st.DataObject) -> tuple[Process | None, str]:
        ids = sorted(self.seen, key=lambda one: (self.seen[one].asked_at, self.seen[one].home))
        job_id = data.draw(st.sampled_from(ids), "job")
        own = [one for one in self.going if self.homes[one] == self.seen[job_id].home]
        return data.draw(st.sampled_from(own), "process") if own else None, job_id

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
    @rule(data=st.data(), crossings=st.integers(1, 12))
    def a_process_will_get_a_signal(self, data: st.DataObject, crossings: int) -> None:
        seams = data.draw(st.sampled_from(self.going), "process").seams
        seams.end_at = len(seams.crossed) + crossings

    @precondition(lambda self: self.going)
    @rule(data=st.data())
    def a_process_is_stopped(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from(self.going), "process").seams.stopped = True

    @precondition(lambda self: any(one.seams.stopped for one in self.living))
    @rule(data=st.data())
    def a_stopped_process_wakes(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from([one for one in self.living if one.seams.stopped]), "process").seams.stopped = False

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

    def rows(self) -> dict[str, Row]:
        joined = """SELECT jobs.*, reserved, committed, settled_at FROM jobs JOIN reservations ON job_id = id
            ORDER BY (SELECT min(seq) FROM job_events WHERE job_events.job_id = jobs.id)"""  # as they were opened
        return {row["id"]: row for reader in self.readers.values() for row in reader.execute(joined)}

    def intents(self) -> dict[str, Row]:
        return {
            row["job_id"]: row
            for reader in self.readers.values()
            for row in reader.execute("SELECT * FROM submissions")
        }

    def counted(self, home: str) -> int:
        """What counts against a home's cap, by the ledger's own columns."""
        own = [row for job_id, row in self.rows().items() if job_id not in self.seen or self.seen[job_id].home == home]
        return sum(row["committed"] if row["settled_at"] else row["reserved"] for row in own)

    @invariant()
    def laws_hold(self) -> None:
        rows, intents = self.rows(), self.intents()
        assert set(rows) == set(self.seen), "a job is lost"
        for process in self.time.processes:
            assert not process.broken
        for job_id, seen in self.seen.items():
            self.job_is_lawful(rows[job_id], seen)
            self.money_is_lawful(rows[job_id], intents.get(job_id), self.world.paid(job_id))
        for run in self.world.strangers():
            assert run.stopped is None, "somebody else's run was stopped"

    def job_is_lawful(self, row: Row, seen: Seen) -> None:
        assert seen.state not in ENDED_STATES or row["state"] == seen.state, f"{seen.state} became {row['state']}"
        assert row["progress"] >= seen.progress, "progress went back"
        error = json.loads(row["error"]) if row["error"] else None
        if row["state"] == "failed":
            assert error is not None
            assert error["code"] in CODES, error
        if row["state"] == "needs_review":
            assert error is not None
            assert error["code"] == "submit_unknown", error
        seen.state, seen.progress = row["state"], row["progress"]

    def money_is_lawful(self, row: Row, intent: Row | None, paid: list[Run]) -> None:
        assert len(paid) <= 1, "paid twice"
        assert row["reserved"] == ESTIMATE
        assert (row["settled_at"] is not None) == (row["state"] in ENDED_STATES), (
            "held after the end, or free before it"
        )
        named = intent["prediction_id"] if intent is not None else None
        assert named is None or self.world.runs[named].mark == mark_of(row["id"]), "a run that is not its own"
        if paid:
            assert intent is not None, "paid without an intent"
            assert named == paid[0].id or row["state"] not in ENDED_STATES, "a paid prediction that nobody knows"
        if row["state"] in ENDED_STATES:
            word = paid[0].status(self.time.now) if paid else "unpaid"
            assert row["committed"] >= (0 if word in ("unpaid", "aborted") else ESTIMATE), "counted for too little"
            assert paid or row["committed"] == 0, "counted although nothing was bought"
            assert word != "succeeded" or row["state"] == "succeeded", f"a paid result was lost: {row['message']}"
            assert word not in ("starting", "processing"), "ended although its run goes on"
            assert row["state"] != "cancelled" or word in ("unpaid", "aborted", "canceled"), "no cancel was confirmed"

    def teardown(self) -> None:
        """One healthy process of each home brings every job to an end that can be explained."""
        try:
            if self.readers:
                self.everything_ends()
        finally:
            self.time.close()
            for reader in self.readers.values():
                reader.close()
            self.threads.__exit__(None, None, None)

    def everything_ends(self) -> None:
        for process in self.living:
            process.kill()
        self.world.locked_until, self.world.lists = 0.0, []
        for home in HOMES:
            self.start(home)

        def over() -> bool:
            """Every job has ended, or waits for a person about a run that no list will ever show."""
            return all(row["state"] in ENDED_STATES or self.is_hopeless(row) for row in self.rows().values())

        for _ in range(60):
            self.time.run(60)
            if over():
                break
        self.laws_hold()
        self.time.close()
        stuck = {row["id"]: (row["state"], row["stage"], row["message"]) for row in self.rows().values()}
        assert over(), {job_id: found for job_id, found in stuck.items() if found[0] not in ENDED_STATES}

    def is_hopeless(self, row: Row) -> bool:
        if row["state"] != "needs_review":
            return False
        paid = self.world.paid(row["id"])
        return not paid or paid[0].plan.listed is None


class LawsOnPostgresql(Laws):
    """The same, with each ledger in a database of PostgreSQL."""

    urls: ClassVar[dict[str, str]] = {}

    def ledger_url(self, home: str) -> str | None:
        return self.urls[home]

    def open_reader(self, home: str) -> Reader:
        plain = make_url(self.urls[home]).set(drivername="postgresql").render_as_string(hide_password=False)
        reader: psycopg.Connection[Any] = psycopg.connect(plain, autocommit=True, row_factory=dict_row)
        set_json_loads(lambda text: text.decode() if isinstance(text, bytes) else text, reader)
        return reader


@pytest.fixture
def ledgers_on_postgresql(postgresql: PostgresqlServer) -> Iterator[None]:
    with postgresql.new_ledger() as first, postgresql.new_ledger() as second:
        LawsOnPostgresql.urls.update(zip(HOMES, (first, second), strict=True))
        yield
        drop_spare_engines()


TestLaws = Laws.TestCase
TestLaws.settings = settings(
    max_examples=3_000 if SOAK else 50,
    stateful_step_count=60 if SOAK else 30,
    suppress_health_check=list(HealthCheck),
)

TestLawsOnPostgresql = pytest.mark.postgresql(
    pytest.mark.usefixtures("ledgers_on_postgresql")(LawsOnPostgresql.TestCase)
)
TestLawsOnPostgresql.settings = settings(
    max_examples=500 if SOAK else 5,
    stateful_step_count=60 if SOAK else 30,
    suppress_health_check=list(HealthCheck),
)
