"""When to ask next. Pure functions of what is known.

The pacer: how often all the runs that are followed at one provider, in this process, are asked about together.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from rotoscope.providers.http.messages import HttpCall, Reply
from rotoscope.providers.recent import RunRow
from rotoscope.providers.states import Open, Ready, Ticket

__all__ = [
    "Pacer",
    "PollSlot",
    "ProviderPacers",
    "poll_pause",
    "stretch_factor",
]

MIN_PAUSE = 0.05
"""Seconds; how soon a new run is asked about for the first time. A fast model has its result by then."""

MAX_PAUSE = 15.0
"""Seconds between two questions, at most, unless many runs share what a provider takes: a run can always fail early."""

_MIN_RUNNING_PAUSE = 0.1  # seconds; a run of one second is asked about this often once it is under way
_GROWTH = 0.35  # pauses in the length of what has passed, while nothing is known or the end is unlikely
_POLLS_NEAR_END = (
    75  # near its expected end, a run is asked about this many times in its own length, but not more often than:
)
_MAX_NEAR_PAUSE = 1.0  # seconds
_MIN_EARLY_POLLS = 12  # while its end is unlikely, at least this many times in its own length
_UNKNOWN_GROWTH, _UNKNOWN_LATE_GROWTH = (
    0.12,
    0.03,
)  # pauses in what has passed, while nothing is known: before and after they reach
_UNKNOWN_MAX_PAUSE = 0.95  # seconds
_OVERDUE_GROWTH = 0.03  # pauses in what has passed since a run should have ended
_EARLY, _LATE = 0.8, 1.3  # in lengths of the expected run: where its end is likely


def poll_pause(elapsed: float, expected: float | None) -> float:
    """Seconds to wait before the next question about a run, if it were the only one.

    Args:
        elapsed: seconds since the provider accepted the prediction.
        expected: seconds that such a run usually takes, or None when nothing is known.

    Questions are sparse while the end is unlikely, dense where it is likely, and grow rarer again when a run takes
    longer than usual. A run of 30 s is asked about some 40 times and its end is seen within half a second, one of
    177 s some 80 times and within a second. While nothing is known, a run of 30 s is asked about at most 60 times and
    its end is seen within a second; later the pauses are 3 % of what has passed.
    """
    now = max(elapsed, 0.0)
    if not expected:
        return _clamp_pause(min(_UNKNOWN_GROWTH * now, max(_UNKNOWN_MAX_PAUSE, _UNKNOWN_LATE_GROWTH * now)), now)
    near = min(max(expected / _POLLS_NEAR_END, _MIN_RUNNING_PAUSE), _MAX_NEAR_PAUSE)
    if now < _EARLY * expected:
        growing = min(_GROWTH * now, expected / _MIN_EARLY_POLLS)
        return _clamp_pause(min(growing, max(near, _EARLY * expected - now)), now)
    if now < _LATE * expected:
        return _clamp_pause(near, now)
    return _clamp_pause(_OVERDUE_GROWTH * (now - _LATE * expected) + near, now)


def stretch_factor(pauses: Iterable[float], per_second: float) -> float:
    """By what every pause is multiplied so that together no more is asked than this many times a second; at least 1.

    All by the same: a short run that needs ten questions a second keeps its share beside long ones that need few.
    """
    return max(1.0, sum(1 / seconds for seconds in pauses) / per_second)


def _clamp_pause(seconds: float, elapsed: float) -> float:
    """Not closer than at the beginning, when a run that is over at once shall not wait for its first question."""
    floor = min(max(MIN_PAUSE, elapsed / 2), _MIN_RUNNING_PAUSE)
    return min(max(seconds, floor), MAX_PAUSE)


_TARGET_PER_SECOND = (
    32.0  # questions a second that the pauses aim at: closer to the limit, a queue would grow before it
)
_MIN_RUNS_FOR_LIST = 20  # runs; more of them than these may be looked for in the provider's list
_BUSY_PER_SECOND = 20.0  # questions a second; while all want less than these together, no list is needed
_SHORT_PAUSE = 0.2  # seconds; who wants to ask this often is told too late by a list, and asks on
_LISTED_RUN_PAUSE = 30.0  # seconds between questions about a run that the list shows, at least: a list can be wrong
_LISTED_RUNS_PER_SECOND = 10.0  # questions about such runs, together
_WALK_REST_FACTOR = 2.0  # as a walk took is waited for the next one, at least
_MAX_PAGES_PER_SECOND = 8.0  # of lists, at most
_GOLDEN_RATIO = 0.618034  # the golden ratio: however many have come, the next one falls into the widest gap


@dataclass(slots=True, eq=False)
class PollSlot:
    """One run that is followed here.

    Attributes:
        ticket: the run.
        question: what is asked about it until it has ended.
        accepted_at: when it was accepted, in Unix seconds.
        phase: where between now and the end of its first pause its first question falls, if it has run for a while.
        wake: called when the list says that it has ended.
        own_pause: the seconds of the pause that it would make alone.
        is_slowed: whether it sleeps longer because the list shows it.
        listed_until: until when the list is thought to show it, by the pacer's clock.
        answer: what the list answers in the place of the next question.
    """

    ticket: Ticket
    question: HttpCall
    accepted_at: float
    phase: float
    pacer: "Pacer"
    wake: Callable[[], None] | None = None
    own_pause: float | None = None
    listed_until: float = 0.0
    is_ready: bool = False
    is_end_known: bool = False
    is_slowed: bool = False
    status_reply: Reply | None = None

    def next_pause(self, elapsed: float, expected: float | None, state: Open) -> float:
        """Seconds until the next question; see `schedule.pause`."""
        first, self.own_pause = self.own_pause is None, poll_pause(elapsed, expected)
        if isinstance(state, Ready) and not self.is_ready:
            self.is_ready = True  # it has ended: the result is there to be asked for, once without waiting
            return 0.0
        # Many that are taken up together would ask in the same moment; a new one asks as soon as it may.
        return self.pacer.shared_pause(self) * (self.phase if first and elapsed > self.own_pause else 1.0)

    def is_listed(self, now: float) -> bool:
        """Whether the list tells of its end soon enough."""
        return self.listed_until > now and (self.own_pause or _SHORT_PAUSE) > _SHORT_PAUSE

    def update_from_list(self, row: RunRow, until: float) -> bool:
        """Hear what the list shows of the run; whether that was its end, and news.

        An end wakes once: a list that is wrong makes nobody ask for ever.
        """
        if not row.has_ended:
            self.listed_until = until
            return False
        news, self.is_end_known, self.listed_until = not self.is_end_known, True, 0.0
        if news:
            self.status_reply = row.status_reply
            if self.wake is not None:
                self.wake()
        return news


@dataclass(slots=True, eq=False)
class Pacer:
    """All runs that are followed at one provider.

    Pauses are stretched so that together they keep the goal; what a list shows is asked about rarely by itself, and
    what no list shows as if there were none.

    Attributes:
        clock: seconds of a clock that never goes back.
        pages_per_second: what the walks through its lists ask at present.
    """

    clock: Callable[[], float]
    slots: dict[str, PollSlot] = field(default_factory=dict)
    pages_per_second: float = 0.0
    _join_count: int = 0

    @contextmanager
    def join(self, ticket: Ticket, question: HttpCall, accepted_at: float) -> Iterator[PollSlot]:
        """Follow a run; its pauses are the seat's until the context ends."""
        self._join_count += 1
        seat = PollSlot(ticket, question, accepted_at, (self._join_count * _GOLDEN_RATIO) % 1.0, self)
        self.slots[question.url] = seat
        try:
            yield seat
        finally:
            if self.slots.get(question.url) is seat:
                del self.slots[question.url]

    @property
    def is_busy(self) -> bool:
        """Whether so many are followed that it is worth to look for them in a list."""
        return (
            len(self.slots) > _MIN_RUNS_FOR_LIST
            and sum(1 / one.own_pause for one in self.slots.values() if one.own_pause) > _BUSY_PER_SECOND
        )

    def shared_pause(self, slot: PollSlot) -> float:
        """The pause that a seat makes beside all others."""
        now, crowded = self.clock(), self.is_busy
        shown = [one for one in self.slots.values() if crowded and one.is_listed(now)]
        seldom = max(_LISTED_RUN_PAUSE, len(shown) / _LISTED_RUNS_PER_SECOND)
        slot.is_slowed = crowded and slot.is_listed(now)
        others = [
            one.own_pause for one in self.slots.values() if one.own_pause and not (crowded and one.is_listed(now))
        ]
        factor = stretch_factor([*others, *(seldom for _ in shown)], _TARGET_PER_SECOND - self.pages_per_second)
        return factor * (max(seldom, slot.own_pause or 0.0) if slot.is_slowed else slot.own_pause or seldom)

    def take_status_reply(self, call: HttpCall) -> Reply | None:
        """What a list has answered already in the place of this question; it is told once."""
        seat = self.slots.get(call.url) if call.method == "GET" else None
        if seat is None or seat.status_reply is None:
            return None
        found, seat.status_reply = seat.status_reply, None
        return found

    def slots_by_list(self, list_of: Callable[[str], str | None]) -> Sequence[Sequence[PollSlot]]:
        """The runs, by list, whose list is worth a walk now: there are many, or one sleeps because it was shown there.

        Args:
            list_of: names the list that shows the runs of an endpoint; None where there is none.
        """
        names = {endpoint: list_of(endpoint) for endpoint in {seat.ticket.endpoint for seat in self.slots.values()}}
        groups: dict[str, list[PollSlot]] = {}
        for seat in self.slots.values():
            if (name := names[seat.ticket.endpoint]) is not None and not seat.is_end_known:
                groups.setdefault(name, []).append(seat)
        crowded = self.is_busy
        return [
            seats
            for seats in groups.values()
            if (crowded and len(seats) > _MIN_RUNS_FOR_LIST) or any(seat.is_slowed for seat in seats)
        ]

    def walk_interval(self, pages: int, took: float, shortest: float) -> float:
        """Seconds from one walk, of so many pages and seconds, to the next one.

        A page repeats what every run was given, which may be large: one that takes long is asked for more rarely.
        """
        seconds = max(shortest, pages / _MAX_PAGES_PER_SECOND, _WALK_REST_FACTOR * took)
        self.pages_per_second = pages / seconds
        return seconds


@dataclass(slots=True)
class ProviderPacers:
    """The pacer of each provider, in this process.

    Attributes:
        clock: seconds of a clock that never goes back.
    """

    clock: Callable[[], float]
    by_provider: dict[str, Pacer] = field(default_factory=dict)

    def for_provider(self, provider: str) -> Pacer:
        """A provider's."""
        return self.by_provider.setdefault(provider, Pacer(self.clock))
