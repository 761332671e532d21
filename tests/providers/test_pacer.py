"""The pacer: many runs at one provider share what it may be asked, and none of them waits for the others."""

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

from rotoscope.providers.http.messages import HttpCall, Reply
from rotoscope.providers.http.outgoing import MAX_REQUESTS_PER_SECOND, RateLimiter
from rotoscope.providers.polling import Pacer, PollSlot
from rotoscope.providers.recent import RunRow
from rotoscope.providers.states import Open, Ready, Ticket, Waiting


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Run:
    """A run that ends after some seconds, and how long it is expected to take."""

    ends: float
    expected: float | None
    began: float = 0.0
    questions: int = 0
    told_at: float | None = None


@dataclass
class Follower:
    """Asks about runs as the pacer says, on a clock of its own; nothing else takes time."""

    clock: Clock = field(default_factory=Clock)
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
        seat = leaving.enter_context(self.pacer.join(ticket, HttpCall("GET", f"https://x/{name}"), 0.0))
        self.runs[name] = (run, seat, leaving)
        self.nap(name)
        return seat

    def nap(self, name: str) -> None:
        run, seat, _ = self.runs[name]
        pause = seat.next_pause(self.clock.now - run.began, run.expected, Waiting(seat.ticket))
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
                run.told_at = self.clock.now
                leaving.close()
            else:
                self.nap(name)
            each_step()
        self.clock.now = max(self.clock.now, end)


def most_in_a_second(moments: Sequence[float]) -> int:
    ordered = sorted(moments)
    return max(sum(at <= other < at + 1 for other in ordered[n : n + 200]) for n, at in enumerate(ordered))


@given(st.lists(st.floats(0, 3), min_size=1, max_size=200))
def test_the_limit_holds_in_every_second_whatever_is_asked(gaps: list[float]) -> None:
    clock = Clock()
    limiter, turns = RateLimiter(clock), list[float]()
    for gap in gaps:
        clock.now += gap / 10
        turns.append(clock.now + limiter.reserve_turn())
    assert most_in_a_second(turns) <= MAX_REQUESTS_PER_SECOND


@pytest.mark.anyio
async def test_the_limit_holds_for_those_who_wake_late_and_together() -> None:
    clock, turns, late = Clock(), list[float](), itertools.cycle((0.0, 0.4, 0.0, 0.01))
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


def test_who_asks_rarely_never_waits_for_a_turn() -> None:
    clock = Clock()
    limiter = RateLimiter(clock)
    for _ in range(100):
        assert limiter.reserve_turn() == 0.0
        clock.now += 1 / 30


def test_what_cannot_wait_is_counted() -> None:
    limiter = RateLimiter(Clock())
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
    assert short.told_at is not None
    assert short.told_at - short.began <= 1.25
    assert len(follower.asked_at) / 20 <= MAX_REQUESTS_PER_SECOND


def test_jobs_that_are_taken_up_together_do_not_ask_together() -> None:
    follower = Follower()
    for _ in range(64):
        follower.join(Run(1e9, 600.0, began=-100.0))
    follower.go(20)
    assert most_in_a_second(follower.asked_at) <= 20
    assert all(run.questions for run, _, _ in follower.runs.values())


@pytest.mark.parametrize("many", [1, 30, 300, 2000])
def test_together_they_keep_the_limit_and_each_is_asked_about(many: int) -> None:
    chance, follower = random.Random(many), Follower()
    for _ in range(many):
        follower.join(Run(1e9, 60.0, began=-60 * chance.uniform(0.5, 1.2)))
    follower.go(400)
    assert most_in_a_second(follower.asked_at) <= MAX_REQUESTS_PER_SECOND
    assert min(run.questions for run, _, _ in follower.runs.values()) >= 1


def crowd(follower: Follower, many: int = 200) -> list[PollSlot]:
    """Runs that together want more than may be asked."""
    return [follower.join(Run(1e9, 600.0, began=-600.0)) for _ in range(many)]


def test_what_a_list_shows_is_asked_about_rarely_but_is_asked_about() -> None:
    follower = Follower()
    seats = crowd(follower)

    def shown() -> None:
        for seat in seats:
            seat.update_from_list(RunRow(seat.ticket.id, has_ended=False), follower.clock.now + 10)

    shown()
    follower.go(30, shown)
    follower.asked_at.clear()
    for run, _, _ in follower.runs.values():
        run.questions = 0
    follower.go(100, shown)
    assert len(follower.asked_at) / 100 <= 12
    assert min(run.questions for run, _, _ in follower.runs.values()) >= 1


def test_what_no_list_shows_keeps_its_pace_beside_those_that_one_shows() -> None:
    follower = Follower()
    seats = crowd(follower)
    hidden = follower.join(Run(1e9, 600.0, began=-600.0))

    def shown() -> None:
        for seat in seats:
            seat.update_from_list(RunRow(seat.ticket.id, has_ended=False), follower.clock.now + 10)

    shown()
    follower.go(60, shown)
    run = follower.runs[hidden.ticket.id][0]
    run.questions = 0
    follower.go(20, shown)
    assert run.questions >= 10


def test_an_end_in_a_list_wakes_once_and_a_row_that_is_the_answer_is_told_once() -> None:
    woken: list[int] = []
    pacer = Pacer(Clock())
    question = HttpCall("GET", "https://x/p1")
    with pacer.join(Ticket("p1", "m"), question, 0.0) as seat:
        seat.wake = lambda: woken.append(1)
        for _ in range(3):
            seat.update_from_list(RunRow("p1", has_ended=True, status_reply=Reply(200)), 10.0)
        assert len(woken) == 1
        assert pacer.take_status_reply(HttpCall("POST", question.url)) is None
        assert pacer.take_status_reply(question) == Reply(200)
        assert pacer.take_status_reply(question) is None
    assert pacer.take_status_reply(question) is None


def test_a_result_that_is_ready_is_asked_for_at_once_but_only_once_without_waiting() -> None:
    pacer, ticket = Pacer(Clock()), Ticket("p1", "m")
    states: list[Open] = [Waiting(ticket), Ready(ticket), Ready(ticket)]
    with pacer.join(ticket, HttpCall("GET", "https://x/p1"), 0.0) as seat:
        pauses = [seat.next_pause(10.0, 10.0, state) for state in states]
    assert pauses[1] == 0.0
    assert pauses[0] > 0.0
    assert pauses[2] > 0.0


def test_a_list_is_worth_a_walk_where_many_want_much_or_sleep_because_they_were_shown() -> None:
    follower = Follower()
    assert not follower.pacer.slots_by_list(lambda _: "list")
    few = [follower.join(Run(1e9, 1.0, began=-1.0)) for _ in range(15)]
    assert not follower.pacer.slots_by_list(lambda _: "list")
    many = crowd(follower)
    assert not follower.pacer.slots_by_list(lambda _: None)
    (wanted,) = follower.pacer.slots_by_list(lambda _: "list")
    assert set(wanted) == {*few, *many}


def test_many_that_want_little_need_no_list() -> None:
    follower = Follower()
    for _ in range(30):
        follower.join(Run(1e9, 600.0, began=-300.0))
    assert not follower.pacer.slots_by_list(lambda _: "list")
