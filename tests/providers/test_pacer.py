"""The pacer: many runs at one provider share its rate limit, and none of them waits for the others."""

import heapq
import itertools
import random
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

import anyio
import anyio.lowlevel
import pytest
from hypothesis import given
from hypothesis import strategies as st
from set_clock import Clock

from rotoscope.providers.http.messages import HttpCall, Reply
from rotoscope.providers.http.outgoing import MAX_REQUESTS_PER_SECOND, RateLimiter
from rotoscope.providers.polling import Pacer, PollSlot
from rotoscope.providers.recent import RunRow
from rotoscope.providers.states import Open, Ready, Ticket, Waiting


@dataclass
class Run:
    """A run that ends after some seconds, and how long it is expected to take."""

    ends: float
    expected: float | None
    began: float = 0.0
    questions: int = 0
    noticed_at: float | None = None


@dataclass
class Follower:
    """Polls runs as the pacer says, on a simulated clock on which nothing else takes time."""

    clock: Clock = field(default_factory=lambda: Clock(0.0))
    closing: ExitStack = field(default_factory=ExitStack)
    asked_at: list[float] = field(default_factory=list)
    numbers: "itertools.count[int]" = field(default_factory=itertools.count)

    def __post_init__(self) -> None:
        self.pacer = Pacer(self.clock)
        self.limiter = RateLimiter(self.clock)
        self.due: list[tuple[float, int, str]] = []
        self.runs: dict[str, tuple[Run, PollSlot, ExitStack]] = {}

    def join(self, run: Run) -> PollSlot:
        name, leaving = f"p{next(self.numbers)}", ExitStack()
        ticket = Ticket(name, "m")
        slot = leaving.enter_context(self.pacer.join(ticket, HttpCall("GET", f"https://x/{name}"), 0.0))
        self.runs[name] = (run, slot, leaving)
        self.schedule(name)
        return slot

    def schedule(self, name: str) -> None:
        run, slot, _ = self.runs[name]
        pause = slot.next_pause(self.clock.now - run.began, run.expected, Waiting(slot.ticket))
        heapq.heappush(self.due, (self.clock.now + pause, next(self.numbers), name))

    def go(self, seconds: float, each_step: Callable[[], None] = lambda: None) -> None:
        end = self.clock.now + seconds
        while self.due and self.due[0][0] <= end:
            at, _, name = heapq.heappop(self.due)
            self.clock.now = max(self.clock.now, at)
            self.clock.now += self.limiter.reserve_turn()
            run, _, leaving = self.runs[name]
            self.asked_at.append(self.clock.now)
            run.questions += 1
            if self.clock.now >= run.ends:
                run.noticed_at = self.clock.now
                leaving.close()
            else:
                self.schedule(name)
            each_step()
        self.clock.now = max(self.clock.now, end)


def most_in_a_second(moments: Sequence[float]) -> int:
    ordered = sorted(moments)
    return max(sum(at <= other < at + 1 for other in ordered[n : n + 200]) for n, at in enumerate(ordered))


@given(st.lists(st.floats(0, 3), min_size=1, max_size=200))
def test_the_rate_limit_holds_in_every_second(gaps: list[float]) -> None:
    clock = Clock(0.0)
    limiter, turns = RateLimiter(clock), list[float]()
    for gap in gaps:
        clock.now += gap / 10
        turns.append(clock.now + limiter.reserve_turn())
    assert most_in_a_second(turns) <= MAX_REQUESTS_PER_SECOND


@pytest.mark.anyio
async def test_the_rate_limit_holds_for_tasks_that_wake_late_and_together() -> None:
    clock, turns, late = Clock(0.0), list[float](), itertools.cycle((0.0, 0.4, 0.0, 0.01))
    limiter = RateLimiter(clock)

    async def sleep(seconds: float) -> None:
        await anyio.lowlevel.checkpoint()
        clock.now += seconds + next(late)

    async def asks() -> None:
        await limiter.wait_turn(sleep)
        turns.append(clock.now)

    async with anyio.create_task_group() as tasks:
        for _ in range(200):
            tasks.start_soon(asks)
    assert len(turns) == 200
    assert most_in_a_second(turns) <= MAX_REQUESTS_PER_SECOND


def test_a_slow_rate_of_requests_never_waits_for_a_turn() -> None:
    clock = Clock(0.0)
    limiter = RateLimiter(clock)
    for _ in range(100):
        assert limiter.reserve_turn() == 0.0
        clock.now += 1 / 30


def test_a_request_that_cannot_wait_is_counted() -> None:
    limiter = RateLimiter(Clock(0.0))
    for _ in range(40):
        limiter.count_request()
    assert limiter.reserve_turn() >= 0.9


def test_a_short_run_does_not_wait_for_four_hundred_long_ones() -> None:
    chance, follower = random.Random(1), Follower()
    for _ in range(400):
        follower.join(Run(1e9, 600.0, began=-600 * chance.uniform(0.1, 0.6)))
    follower.go(60)
    follower.asked_at.clear()
    short = Run(follower.clock.now + 1.0, 1.0, began=follower.clock.now)
    follower.join(short)
    follower.go(20)
    assert short.noticed_at is not None
    assert short.noticed_at - short.began <= 1.25
    assert len(follower.asked_at) / 20 <= MAX_REQUESTS_PER_SECOND


def test_runs_that_are_taken_up_together_are_not_polled_together() -> None:
    follower = Follower()
    for _ in range(64):
        follower.join(Run(1e9, 600.0, began=-100.0))
    follower.go(20)
    assert most_in_a_second(follower.asked_at) <= 20
    assert all(run.questions for run, _, _ in follower.runs.values())


@pytest.mark.parametrize("many", [1, 30, *(pytest.param(many, marks=pytest.mark.slow) for many in (300, 2000))])
def test_all_runs_together_keep_the_rate_limit_and_each_is_polled(many: int) -> None:
    chance, follower = random.Random(many), Follower()
    for _ in range(many):
        follower.join(Run(1e9, 60.0, began=-60 * chance.uniform(0.5, 1.2)))
    follower.go(400)
    assert most_in_a_second(follower.asked_at) <= MAX_REQUESTS_PER_SECOND
    assert min(run.questions for run, _, _ in follower.runs.values()) >= 1


def join_many(follower: Follower, many: int = 200) -> list[PollSlot]:
    """Runs that together need more polls than the rate limit allows."""
    return [follower.join(Run(1e9, 600.0, began=-600.0)) for _ in range(many)]


def test_a_run_that_a_list_shows_is_polled_rarely_but_is_polled() -> None:
    follower = Follower()
    slots = join_many(follower)

    def shown() -> None:
        for slot in slots:
            slot.update_from_list(RunRow(slot.ticket.id, has_ended=False), follower.clock.now + 10)

    shown()
    follower.go(30, shown)
    follower.asked_at.clear()
    for run, _, _ in follower.runs.values():
        run.questions = 0
    follower.go(100, shown)
    assert len(follower.asked_at) / 100 <= 12
    assert min(run.questions for run, _, _ in follower.runs.values()) >= 1


def test_a_run_that_no_list_shows_keeps_its_pauses_beside_listed_ones() -> None:
    follower = Follower()
    slots = join_many(follower)
    hidden = follower.join(Run(1e9, 600.0, began=-600.0))

    def shown() -> None:
        for slot in slots:
            slot.update_from_list(RunRow(slot.ticket.id, has_ended=False), follower.clock.now + 10)

    shown()
    follower.go(60, shown)
    run = follower.runs[hidden.ticket.id][0]
    run.questions = 0
    follower.go(20, shown)
    assert run.questions >= 10


def test_an_end_in_a_list_wakes_once_and_its_row_replaces_one_poll() -> None:
    woken: list[int] = []
    pacer = Pacer(Clock(0.0))
    question = HttpCall("GET", "https://x/p1")
    with pacer.join(Ticket("p1", "m"), question, 0.0) as slot:
        slot.wake = lambda: woken.append(1)
        for _ in range(3):
            slot.update_from_list(RunRow("p1", has_ended=True, status_reply=Reply(200)), 10.0)
        assert len(woken) == 1
        assert pacer.take_status_reply(HttpCall("POST", question.url)) is None
        assert pacer.take_status_reply(question) == Reply(200)
        assert pacer.take_status_reply(question) is None
    assert pacer.take_status_reply(question) is None


def test_a_ready_result_is_polled_once_without_a_pause() -> None:
    pacer, ticket = Pacer(Clock(0.0)), Ticket("p1", "m")
    states: list[Open] = [Waiting(ticket), Ready(ticket), Ready(ticket)]
    with pacer.join(ticket, HttpCall("GET", "https://x/p1"), 0.0) as slot:
        pauses = [slot.next_pause(10.0, 10.0, state) for state in states]
    assert pauses[1] == 0.0
    assert pauses[0] > 0.0
    assert pauses[2] > 0.0


def test_a_list_is_read_when_many_runs_need_many_polls_or_a_run_is_slowed_by_the_list() -> None:
    follower = Follower()
    assert not follower.pacer.slots_by_list(lambda _: "list")
    few = [follower.join(Run(1e9, 1.0, began=-1.0)) for _ in range(15)]
    assert not follower.pacer.slots_by_list(lambda _: "list")
    many = join_many(follower)
    assert not follower.pacer.slots_by_list(lambda _: None)
    (wanted,) = follower.pacer.slots_by_list(lambda _: "list")
    assert set(wanted) == {*few, *many}


def test_many_runs_with_few_polls_need_no_list() -> None:
    follower = Follower()
    for _ in range(30):
        follower.join(Run(1e9, 600.0, began=-300.0))
    assert not follower.pacer.slots_by_list(lambda _: "list")
