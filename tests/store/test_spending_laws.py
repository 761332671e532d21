"""The law of spending, for every order of calls, answers, crashes and days: no cap is passed, and nothing unpriced is
sent without a yes.

The model beside the ledger knows what the provider has charged for each request, which is never above what the run can
cost at most, and on which day. `HYPOTHESIS_PROFILE=soak` tries many more.
"""

import atexit
import os
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from postgresql import PostgresqlServer
from store_database import StoreDatabase

from rotoscope.errors import OverBudget
from rotoscope.store.database import Database
from rotoscope.store.job_data import ErrorRecord, JobPlan, SubmitEffort
from rotoscope.store.leases import JobDriver, Leases
from rotoscope.store.ledger import Ledger
from rotoscope.store.money import ANY_PRICE, Caps, ResendPolicy, RunCost, UnitPrice, settlement
from rotoscope.store.records import Job, NewJob, Patch, Submission
from rotoscope.store.schema import metadata
from rotoscope.store.timing import Intervals

SOAK = os.environ.get("HYPOTHESIS_PROFILE") == "soak"
PER_CALL, PER_DAY, ASK_ABOVE = 1_000_000, 2_000_000, 300_000  # millionths of a US dollar
PER_DAY_FOR_ALL = 2_900_000
MIDNIGHT, DAY = 1_767_225_600.0, 86_400.0
PRINCIPALS = ("local", "local", "local", "other")
Answer = TypeVar("Answer")


@cache
def database() -> StoreDatabase:
    """One ledger for all examples, in memory where there is such a place; each begins with empty tables."""
    folder = Path(tempfile.mkdtemp(prefix="spending-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
    atexit.register(shutil.rmtree, folder)
    return StoreDatabase(f"sqlite:///{folder / 'ledger.sqlite3'}")


@dataclass
class Known:
    """A job as the world knows it; amounts in millionths.

    Attributes:
        asked_on: the day on which it was asked for.
        charges: of each request that was sent: the day, and what the provider has charged.
    """

    job: Job
    estimate: int | None
    at_most: int
    has_consent: bool
    asked_on: int
    intent: Submission | None = None
    is_over: bool = False
    charges: list[tuple[int, int]] = field(default_factory=list)


priced = st.tuples(st.sampled_from([0, 100_000, 300_000, 600_000]), st.sampled_from([0, 100_000, 400_000, 900_000]))
amounts = st.one_of(st.none(), priced, priced, priced)
shares = st.sampled_from([0.0, 0.3, 1.0, 1.0])
sending = st.sampled_from([None, 0.3, 1.0, 1.0, 1.0])  # None: it waits


class Spending(RuleBasedStateMachine):
    """Calls are made, sent, answered, lost, sent again and ended; processes die; days pass and clocks are set back."""

    def __init__(self) -> None:
        super().__init__()
        self.base: Database | None = None
        self.portal = start_blocking_portal()
        self.loop: BlockingPortal = self.portal.__enter__()
        self.now = MIDNIGHT + 3600
        self.known: dict[str, Known] = {}

    @initialize()
    def begin(self) -> None:
        self.connect()
        self.place().execute(*(f"DELETE FROM {table.name}" for table in reversed(metadata.sorted_tables)))

    def place(self) -> StoreDatabase:
        """Where the ledger is."""
        return database()

    def connect(self) -> None:
        if self.base is not None:
            self.run(self.base.aclose)
        self.base = base = self.place().connect()
        self.ledger = Ledger(base, lambda: self.now)
        driver = JobDriver("me", frozenset({"replicate"}), frozenset({"m"}))
        self.leases = Leases(base, lambda: self.now, driver, Intervals())
        self.run(lambda: self.ledger.spending_of_all_principals(0))

    def run(self, work: Callable[[], Coroutine[Any, Any, Answer]]) -> Answer:
        answer: Answer = self.loop.call(work)
        return answer

    def teardown(self) -> None:
        if self.base is not None:
            self.run(self.base.aclose)
        self.portal.__exit__(None, None, None)

    @property
    def day(self) -> int:
        return int(self.now // DAY)

    # What happens.

    @rule(
        prices=st.lists(amounts, min_size=3, max_size=6),
        who=st.sampled_from(PRINCIPALS),
        yes=st.sampled_from([True, True, False]),
        share=sending,
    )
    def somebody_calls(self, prices: list[tuple[int, int] | None], who: str, yes: bool, share: float | None) -> None:
        for price in prices:
            self.call(price, who, yes, share)

    def call(self, price: tuple[int, int] | None, who: str, yes: bool, share: float | None) -> None:
        """One call of a tool; with a share it is sent at once."""
        estimate, at_most = (None, 700_000) if price is None else (price[0], price[0] + price[1])
        agreed = (ANY_PRICE if estimate is None else estimate / 1e6) if yes else ASK_ABOVE / 1e6
        caps = Caps(PER_CALL / 1e6, PER_DAY / 1e6, "ask", agreed, PER_DAY_FOR_ALL / 1e6)
        usd, most = (None, None) if estimate is None else (estimate / 1e6, at_most / 1e6)
        plan = JobPlan(price=UnitPrice("run_second", 0.001), estimate_usd=usd, at_most_usd=most)
        new = NewJob("segment_image", "m", "replicate", who, False, {}, plan, None, usd, at_most_usd=most)
        try:
            job = self.run(lambda: self.ledger.open(new, caps)).job
        except OverBudget:
            return
        self.known[job.id] = Known(job, estimate, at_most, yes, self.day)
        if share is not None:
            self.send(job.id, share)

    def unsent(self) -> list[str]:
        return [key for key, one in self.known.items() if one.intent is None and not one.is_over]

    def sent(self) -> list[str]:
        return [key for key, one in self.known.items() if one.intent is not None and not one.is_over]

    @precondition(lambda self: self.unsent())
    @rule(data=st.data(), share=shares)
    def a_request_is_sent(self, data: st.DataObject, share: float) -> None:
        self.send(data.draw(st.sampled_from(self.unsent())), share)

    def send(self, job_id: str, share: float) -> None:
        """Send a paying request; the provider charges this share of what it can cost at most."""
        one = self.known[job_id]
        claimed = self.run(lambda: self.leases.claim(one.job.id))
        if claimed is None:
            return
        one.job = claimed
        one.intent = self.run(lambda: self.ledger.commit_intent(claimed, "digest"))
        # Where the clock was set back since it was asked for, nobody can know which of the two days it was.
        one.charges.append((max(self.day, one.asked_on), int(one.at_most * share)))

    @precondition(lambda self: self.sent())
    @rule(data=st.data())
    def a_request_was_surely_not_accepted(self, data: st.DataObject) -> None:
        one = self.known[data.draw(st.sampled_from(self.sent()))]
        intent = one.intent
        assert intent is not None
        self.run(lambda: self.ledger.withdraw_intent(intent))
        one.intent, one.charges = None, one.charges[:-1]

    @precondition(lambda self: self.sent())
    @rule(data=st.data())
    def a_lost_request_may_be_sent_once_more(self, data: st.DataObject) -> None:
        one = self.known[data.draw(st.sampled_from(self.sent()))]
        intent, job = one.intent, one.job
        if intent is None or one.estimate is None or job.submit_effort.was_resent:
            return
        again = Patch(submit_effort=SubmitEffort(was_resent=True), event="sent again")
        policy = ResendPolicy(1.0, PER_DAY / 1e6, PER_DAY_FOR_ALL / 1e6)
        if self.run(lambda: self.ledger.allow_resend(job, intent, again, one.at_most / 1e6, policy)):
            one.intent = None
            one.job = self.run(lambda: self.ledger.job(job.id, job.principal))

    @precondition(lambda self: self.sent())
    @rule(data=st.data(), how=st.sampled_from(["measured", "not known", "refused", "charged, not measured"]))
    def a_run_ends(self, data: st.DataObject, how: str) -> None:
        one = self.known[data.draw(st.sampled_from(self.sent()))]
        cost = sum(usd for _, usd in one.charges)
        was_resent = len(one.charges) > 1
        if how == "refused" and (cost or was_resent):
            how = "not known"
        seconds = {"run_second": one.charges[-1][1] / 1e6 / 0.001} if how == "measured" else {}
        estimate, at_most = one.job.plan.estimate_usd, one.job.plan.at_most_usd
        is_charged = {"measured": True, "refused": False, "charged, not measured": True}.get(how)
        run = RunCost(one.job.plan.price, estimate, at_most, is_charged, measured=seconds, was_resent=was_resent)
        ending = settlement("failed", run)
        patch = Patch(state="failed", error=ErrorRecord("x", "y"), settlement=ending)
        self.run(lambda: self.ledger.advance(one.job, patch))
        one.is_over = True

    @precondition(lambda self: self.unsent())
    @rule(data=st.data())
    def somebody_cancels(self, data: st.DataObject) -> None:
        one = self.known[data.draw(st.sampled_from(self.unsent()))]
        if one.charges:
            return
        ended = self.run(lambda: self.ledger.request_cancel(one.job.id, one.job.principal))
        one.is_over = ended.is_final

    @rule(hours=st.sampled_from([1, 12, 24, 36, -12, -24]))
    def the_clock_moves(self, hours: int) -> None:
        self.now += hours * 3600

    @rule()
    def the_process_dies(self) -> None:
        self.connect()

    # What holds.

    @invariant()
    def no_cap_is_passed(self) -> None:
        spent: dict[tuple[str, int], int] = defaultdict(int)
        for one in self.known.values():
            assert one.estimate is not None or one.has_consent, "a run of unknown price without a yes"
            assert one.estimate is None or one.estimate <= ASK_ABOVE or one.has_consent, "a dear run without a yes"
            for day, usd in one.charges:
                assert one.estimate is None or usd <= PER_CALL, "a run above the cap of a call"
                spent[one.job.principal, day] += usd if one.estimate is not None else 0
        for (who, day), usd in spent.items():
            assert usd <= PER_DAY, f"{who} spent {usd} on day {day}"
        for day in {day for _, day in spent}:
            together = sum(usd for (_, when), usd in spent.items() if when == day)
            assert together <= PER_DAY_FOR_ALL, f"all together spent {together} on day {day}"


TestSpending = Spending.TestCase
TestSpending.settings = settings(
    max_examples=2_000 if SOAK else 40,
    stateful_step_count=60 if SOAK else 40,
    suppress_health_check=list(HealthCheck),
    deadline=None,
)


class SpendingOnPostgresql(Spending):
    """The same, with the ledger in PostgreSQL."""

    url: ClassVar[str] = ""

    def place(self) -> StoreDatabase:
        return StoreDatabase(self.url)


@pytest.fixture
def ledger_on_postgresql(postgresql: PostgresqlServer) -> Iterator[None]:
    with postgresql.new_ledger() as url:
        SpendingOnPostgresql.url = url
        yield


TestSpendingOnPostgresql = pytest.mark.postgresql(
    pytest.mark.usefixtures("ledger_on_postgresql")(SpendingOnPostgresql.TestCase)
)
TestSpendingOnPostgresql.settings = settings(
    max_examples=500 if SOAK else 10,
    stateful_step_count=60 if SOAK else 40,
    suppress_health_check=list(HealthCheck),
    deadline=None,
)
