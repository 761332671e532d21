"""When to ask next. Pure functions of what is known.

The pacer: how often all the runs that are followed at one provider, in this process, are asked about together.
"""

from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from rotoscope.providers.http.messages import HttpCall, Reply
from rotoscope.providers.recent import Row
from rotoscope.providers.states import Open, Ready, Ticket

__all__ = ["AT_MOST", "Limiter", "Pacer", "Pacers", "Seat", "pause", "stretch"]

SHORTEST = 0.05
"""Seconds; how soon a new run is asked about for the first time. A fast model has its result by then."""

LONGEST = 15.0
"""Seconds between two questions, at most, unless many runs share what a provider takes: a run can always fail early."""

_CLOSEST = 0.1  # seconds; a run of one second is asked about this often once it is under way
_GROWTH = 0.35  # pauses in the length of what has passed, while nothing is known or the end is unlikely
_PARTS = 75  # near its expected end, a run is asked about this many times in its own length, but not more often than:
_DENSEST = 1.0  # seconds
_SPARSEST = 12  # while its end is unlikely, at least this many times in its own length
_UNKNOWN, _UNKNOWN_LATE = 0.12, 0.03  # pauses in what has passed, while nothing is known: before and after they reach
_UNKNOWN_LONGEST = 0.95  # seconds
_OVERDUE = 0.03  # pauses in what has passed since a run should have ended
_EARLY, _LATE = 0.8, 1.3  # in lengths of the expected run: where its end is likely


def pause(elapsed: float, expected: float | None) -> float:
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
        return _between(min(_UNKNOWN * now, max(_UNKNOWN_LONGEST, _UNKNOWN_LATE * now)), now)
    near = min(max(expected / _PARTS, _CLOSEST), _DENSEST)
    if now < _EARLY * expected:
        growing = min(_GROWTH * now, expected / _SPARSEST)
        return _between(min(growing, max(near, _EARLY * expected - now)), now)
    if now < _LATE * expected:
        return _between(near, now)
    return _between(_OVERDUE * (now - _LATE * expected) + near, now)


def stretch(pauses: Iterable[float], a_second: float) -> float:
    """By what every pause is multiplied so that together no more is asked than this many times a second; at least 1.

    All by the same: a short run that needs ten questions a second keeps its share beside long ones that need few.
    """
    return max(1.0, sum(1 / seconds for seconds in pauses) / a_second)


def _between(seconds: float, elapsed: float) -> float:
    """Not closer than at the beginning, when a run that is over at once shall not wait for its first question."""
    floor = min(max(SHORTEST, elapsed / 2), _CLOSEST)
    return min(max(seconds, floor), LONGEST)


AT_MOST = 40.0
"""Questions a second to one provider, of all kinds. Replicate takes 50 a second (its "Rate limits")."""

_BURST = 4.0  # questions that may follow each other at once, within `AT_MOST`
_GOAL = 32.0  # questions a second that the pauses aim at: closer to the limit, a queue would grow before it
_MANY = 20  # runs; more of them than these may be looked for in the provider's list
_BUSY = 20.0  # questions a second; while all want less than these together, no list is needed
_BRISK = 0.2  # seconds; who wants to ask this often is told too late by a list, and asks on
_SHOWN_PAUSE = 30.0  # seconds between questions about a run that the list shows, at least: a list can be wrong
_SHOWN_A_SECOND = 10.0  # questions about such runs, together
_TIMES_AS_LONG = 2.0  # as a walk took is waited for the next one, at least
_PAGES_A_SECOND = 8.0  # of lists, at most
_SPREAD = 0.618034  # the golden ratio: however many have come, the next one falls into the widest gap


class Limiter:
    """A token bucket: no more than `AT_MOST` in any second, first come, first served.

    Args:
        clock: seconds of a clock that never goes back.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._apart = 1 / (AT_MOST - _BURST)
        self._next_at = 0.0
        self._taken = deque((-1.0,) * int(AT_MOST), int(AT_MOST))

    async def turn(self, sleep: Callable[[float], Awaitable[None]]) -> None:
        """Wait for the next turn that nobody else has. Where there is no need to wait, nobody else gets to run."""
        seconds = self.reserve()
        if seconds > 0:
            await sleep(seconds)
        # Who sleeps may wake late, and then together with others.
        if (late := self._taken[0] + 1 - self._clock()) > 0:
            await sleep(late)
        self._taken.append(self._clock())

    def reserve(self) -> float:
        """Take the next turn; in how many seconds it comes."""
        now = self._clock()
        turn = max(self._next_at - (_BURST - 1) * self._apart, now)
        self._next_at = max(self._next_at, now) + self._apart
        return turn - now

    def count(self) -> None:
        """Count what cannot wait; others then wait for longer."""
        self.reserve()
        self._taken.append(self._clock())


@dataclass(slots=True, eq=False)
class Seat:
    """One run that is followed here.

    Attributes:
        ticket: the run.
        question: what is asked about it until it has ended.
        since: when it was accepted, in Unix seconds.
        phase: where between now and the end of its first pause its first question falls, if it has run for a while.
        woken: called when the list says that it has ended.
        wants: the seconds of the pause that it would make alone.
        leans: whether it sleeps longer because the list shows it.
        shown_until: until when the list is thought to show it, by the pacer's clock.
        answer: what the list answers in the place of the next question.
    """

    ticket: Ticket
    question: HttpCall
    since: float
    phase: float
    pacer: "Pacer"
    woken: Callable[[], None] | None = None
    wants: float | None = None
    shown_until: float = 0.0
    ready: bool = False
    told: bool = False
    leans: bool = False
    answer: Reply | None = None

    def pause(self, elapsed: float, expected: float | None, state: Open) -> float:
        """Seconds until the next question; see `schedule.pause`."""
        first, self.wants = self.wants is None, pause(elapsed, expected)
        if isinstance(state, Ready) and not self.ready:
            self.ready = True  # it has ended: the result is there to be asked for, once without waiting
            return 0.0
        # Many that are taken up together would ask in the same moment; a new one asks as soon as it may.
        return self.pacer.stretched(self) * (self.phase if first and elapsed > self.wants else 1.0)

    def is_shown(self, now: float) -> bool:
        """Whether the list tells of its end soon enough."""
        return self.shown_until > now and (self.wants or _BRISK) > _BRISK

    def hear(self, row: Row, until: float) -> bool:
        """Hear what the list shows of the run; whether that was its end, and news.

        An end wakes once: a list that is wrong makes nobody ask for ever.
        """
        if not row.ended:
            self.shown_until = until
            return False
        news, self.told, self.shown_until = not self.told, True, 0.0
        if news:
            self.answer = row.answer
            if self.woken is not None:
                self.woken()
        return news


@dataclass(slots=True, eq=False)
class Pacer:
    """All runs that are followed at one provider.

    Pauses are stretched so that together they keep the goal; what a list shows is asked about rarely by itself, and
    what no list shows as if there were none.

    Attributes:
        clock: seconds of a clock that never goes back.
        pages_a_second: what the walks through its lists ask at present.
    """

    clock: Callable[[], float]
    limiter: Limiter = field(init=False)
    seats: dict[str, Seat] = field(default_factory=dict)
    pages_a_second: float = 0.0
    _joined: int = 0

    def __post_init__(self) -> None:
        self.limiter = Limiter(self.clock)

    @contextmanager
    def join(self, ticket: Ticket, question: HttpCall, since: float) -> Iterator[Seat]:
        """Follow a run; its pauses are the seat's until the context ends."""
        self._joined += 1
        seat = Seat(ticket, question, since, (self._joined * _SPREAD) % 1.0, self)
        self.seats[question.url] = seat
        try:
            yield seat
        finally:
            if self.seats.get(question.url) is seat:
                del self.seats[question.url]

    @property
    def crowded(self) -> bool:
        """Whether so many are followed that it is worth to look for them in a list."""
        return len(self.seats) > _MANY and sum(1 / one.wants for one in self.seats.values() if one.wants) > _BUSY

    def stretched(self, seat: Seat) -> float:
        """The pause that a seat makes beside all others."""
        now, crowded = self.clock(), self.crowded
        shown = [one for one in self.seats.values() if crowded and one.is_shown(now)]
        seldom = max(_SHOWN_PAUSE, len(shown) / _SHOWN_A_SECOND)
        seat.leans = crowded and seat.is_shown(now)
        others = [one.wants for one in self.seats.values() if one.wants and not (crowded and one.is_shown(now))]
        factor = stretch([*others, *(seldom for _ in shown)], _GOAL - self.pages_a_second)
        return factor * (max(seldom, seat.wants or 0.0) if seat.leans else seat.wants or seldom)

    def answer(self, call: HttpCall) -> Reply | None:
        """What a list has answered already in the place of this question; it is told once."""
        seat = self.seats.get(call.url) if call.method == "GET" else None
        if seat is None or seat.answer is None:
            return None
        found, seat.answer = seat.answer, None
        return found

    def lists_wanted(self, list_of: Callable[[str], str | None]) -> Sequence[Sequence[Seat]]:
        """The runs, by list, whose list is worth a walk now: there are many, or one sleeps because it was shown there.

        Args:
            list_of: names the list that shows the runs of an endpoint; None where there is none.
        """
        names = {endpoint: list_of(endpoint) for endpoint in {seat.ticket.endpoint for seat in self.seats.values()}}
        groups: dict[str, list[Seat]] = {}
        for seat in self.seats.values():
            if (name := names[seat.ticket.endpoint]) is not None and not seat.told:
                groups.setdefault(name, []).append(seat)
        crowded = self.crowded
        return [
            seats for seats in groups.values() if (crowded and len(seats) > _MANY) or any(seat.leans for seat in seats)
        ]

    def between_walks(self, pages: int, took: float, shortest: float) -> float:
        """Seconds from one walk, of so many pages and seconds, to the next one.

        A page repeats what every run was given, which may be large: one that takes long is asked for more rarely.
        """
        seconds = max(shortest, pages / _PAGES_A_SECOND, _TIMES_AS_LONG * took)
        self.pages_a_second = pages / seconds
        return seconds


@dataclass(slots=True)
class Pacers:
    """The pacer of each provider, in this process.

    Attributes:
        clock: seconds of a clock that never goes back.
    """

    clock: Callable[[], float]
    known: dict[str, Pacer] = field(default_factory=dict)

    def of(self, provider: str) -> Pacer:
        """A provider's."""
        return self.known.setdefault(provider, Pacer(self.clock))
