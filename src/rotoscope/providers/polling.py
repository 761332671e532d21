"""When to poll a run next. Pure: the clock is an argument.

`poll_pause` answers for one run alone, from the elapsed and the expected time. A `Pacer` answers for all runs that this
process follows at one provider: it stretches their pauses so that together they keep the provider's rate limit, and
polls a run rarely while the provider's list of runs shows that it has not ended.
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
    "poll_pause_after_webhook",
    "poll_pause_before_webhook",
    "stretch_factor",
]

MIN_PAUSE = 0.05
"""Seconds until the first poll of a new run, at least: a fast model has its result by then."""

MAX_PAUSE = 15.0
"""Seconds between two polls of a run, at most, unless many runs share the rate limit: a run can always fail early."""

_MIN_RUNNING_PAUSE = 0.1  # seconds between two polls of a run that is under way, at least
_GROWTH = 0.35  # early in a run, the pause as a share of the elapsed time
_MIN_EARLY_POLLS = 12  # polls in the expected length of a run, at least, while its end is unlikely
_POLLS_NEAR_END = 75  # polls in the expected length of a run, near its expected end; the pauses stay within:
_MAX_NEAR_PAUSE = 1.0  # seconds
_OVERDUE_GROWTH = 0.03  # the pause as a share of the time since a run should have ended
_UNKNOWN_GROWTH = 0.12  # the pause as a share of the elapsed time, where no expected length is known, up to:
_UNKNOWN_MAX_PAUSE = 0.95  # seconds; beyond that the pause is this share of the elapsed time:
_UNKNOWN_LATE_GROWTH = 0.03
_EARLY, _LATE = 0.8, 1.3  # in expected lengths of a run: its end is likely between these
_WEBHOOK_FACTOR = 2.0  # while a webhook is on its way, pauses are so many times longer, and at least:
_WEBHOOK_SHARE = 0.03  # of the elapsed time
_MIN_PAUSE_AFTER_WEBHOOK = 0.25  # seconds


def poll_pause(elapsed: float, expected: float | None) -> float:
    """Seconds to wait before the next poll of a run, if it were the only one.

    Args:
        elapsed: seconds since the provider accepted the prediction.
        expected: seconds that such a run usually takes, or None when nothing is known.

    Polls are sparse while the end is unlikely, dense where it is likely, and grow rarer again when a run takes longer
    than usual. A run of 30 s is polled some 40 times and its end is seen within half a second, one of 177 s some 80
    times and within a second. Where nothing is known, a run of 30 s is polled at most 60 times and its end is seen
    within a second; later the pauses are 3 % of the elapsed time.
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


def poll_pause_before_webhook(elapsed: float, expected: float | None) -> float:
    """Seconds to wait before the next poll of a run whose webhook is on its way: twice as many as without one.

    Where the webhook never comes, the end is seen with a lag of at most twice that without webhooks or 3 % of the run's
    length, whichever is longer, and never more than `MAX_PAUSE`. A run of 30 s is polled some 20 times, one of 177 s
    some 30 times.
    """
    pause = max(_WEBHOOK_FACTOR * poll_pause(elapsed, expected), _WEBHOOK_SHARE * max(elapsed, 0.0))
    return min(pause, MAX_PAUSE)


def poll_pause_after_webhook(since: float) -> float:
    """Seconds to wait before the next poll, at most, of a run whose webhook came some seconds ago.

    The webhook itself ended the pause before. Where the poll then shows the run at work all the same, what answers it
    lags behind, so it is repeated soon, and ever more rarely: some ten times in a minute.
    """
    return max(_MIN_PAUSE_AFTER_WEBHOOK, max(since, 0.0) / 2)


def stretch_factor(pauses: Iterable[float], per_second: float) -> float:
    """The factor for every pause that keeps all polls together within a rate, in polls a second; at least 1.

    It is the same for all: a short run that needs ten polls a second keeps its share beside long ones that need few.
    """
    return max(1.0, sum(1 / seconds for seconds in pauses) / per_second)


def _clamp_pause(seconds: float, elapsed: float) -> float:
    """Keep a pause within its limits. Early in a run the lower limit is smaller, so that a fast run is seen to end."""
    floor = min(max(MIN_PAUSE, elapsed / 2), _MIN_RUNNING_PAUSE)
    return min(max(seconds, floor), MAX_PAUSE)


_TARGET_PER_SECOND = 32.0  # polls a second that the pauses aim at; closer to `MAX_REQUESTS_PER_SECOND` a queue grows
_MIN_RUNS_FOR_LIST = 20  # with more runs than this, reading the provider's list may be cheaper than polling each
_BUSY_PER_SECOND = 20.0  # polls a second; while all runs together need fewer, no list is read
_SHORT_PAUSE = 0.2  # seconds; a run with shorter pauses would learn of its end too late from a list
_LISTED_RUN_PAUSE = 30.0  # seconds between polls of a run that the list shows, at least: a list can be wrong
_LISTED_RUNS_PER_SECOND = 10.0  # polls a second of all such runs together
_WALK_REST_FACTOR = 2.0  # the time until the next walk through a list, in durations of the last one, at least
_MAX_PAGES_PER_SECOND = 8.0  # pages of lists, at most
_GOLDEN_RATIO = 0.618034  # multiples of it, modulo 1, spread evenly: each new one falls into the widest gap


@dataclass(slots=True, eq=False)
class PollSlot:
    """One run that this process follows.

    Attributes:
        ticket: the run.
        question: the request that polls it until it has ended.
        accepted_at: when the provider accepted it, in Unix seconds.
        phase: 0 to 1; the share of its first pause after which a run that is taken up late is polled first.
        wake: called when the list shows that it has ended.
        own_pause: the seconds of the pause that it would make alone; None before the first.
        is_ready: whether its result was found ready and the poll without a pause was made.
        is_end_known: whether a list has shown that it has ended.
        is_slowed: whether its pause is longer because the list shows it.
        listed_until: until when the list is taken to show it, by the pacer's clock.
        status_reply: the row of the list that is the reply to the next poll.
        awaits_webhook: whether the provider was given an address to call at its end.
        webhook_at: when such a call came, by the pacer's clock; None before.
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
    awaits_webhook: bool = False
    webhook_at: float | None = None

    def next_pause(self, elapsed: float, expected: float | None, state: Open) -> float:
        """Seconds until the next poll, beside all other runs; 0 for the first poll of a result that is ready."""
        first, self.own_pause = self.own_pause is None, self._pause_alone(elapsed, expected)
        if isinstance(state, Ready) and not self.is_ready:
            self.is_ready = True  # it has ended and the result can be fetched: once without a pause
            return 0.0
        # Old runs that are taken up together would be polled in the same moment; a new one is polled without delay.
        return self.pacer.pause_beside_others(self) * (self.phase if first and elapsed > self.own_pause else 1.0)

    def take_webhook(self) -> None:
        """A webhook about the run has come: it has probably ended."""
        self.webhook_at = self.pacer.clock()
        if self.wake is not None:
            self.wake()

    def _pause_alone(self, elapsed: float, expected: float | None) -> float:
        """Seconds until the next poll, if it were the only run."""
        if self.webhook_at is not None:
            return min(poll_pause(elapsed, expected), poll_pause_after_webhook(self.pacer.clock() - self.webhook_at))
        return poll_pause_before_webhook(elapsed, expected) if self.awaits_webhook else poll_pause(elapsed, expected)

    def is_listed(self, now: float) -> bool:
        """Whether the list shows the run, and soon enough for a run with its pauses."""
        return self.listed_until > now and (self.own_pause or _SHORT_PAUSE) > _SHORT_PAUSE

    def update_from_list(self, row: RunRow, until: float) -> bool:
        """Take over what the list shows of the run, valid until a time of the pacer's clock.

        An end wakes the follower once only, so that a list that is wrong cannot make it poll for ever.

        Returns:
            Whether the list shows the end for the first time.
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

    Pauses are stretched so that together they keep the target rate. A run that a list shows is polled rarely; one that
    no list shows is polled as if there were no list.

    Attributes:
        clock: seconds of a clock that never goes back.
        slots: the runs, by the URL that polls them.
        pages_per_second: how many pages of lists are requested a second at present.
    """

    clock: Callable[[], float]
    slots: dict[str, PollSlot] = field(default_factory=dict)
    pages_per_second: float = 0.0
    _join_count: int = 0

    @contextmanager
    def join(self, ticket: Ticket, question: HttpCall, accepted_at: float) -> Iterator[PollSlot]:
        """Follow a run: its slot gives the pauses until the context ends."""
        self._join_count += 1
        slot = PollSlot(ticket, question, accepted_at, (self._join_count * _GOLDEN_RATIO) % 1.0, self)
        self.slots[question.url] = slot
        try:
            yield slot
        finally:
            if self.slots.get(question.url) is slot:
                del self.slots[question.url]

    @property
    def is_busy(self) -> bool:
        """Whether so many runs are followed, and polled so often, that reading a list is worth it."""
        return (
            len(self.slots) > _MIN_RUNS_FOR_LIST
            and sum(1 / one.own_pause for one in self.slots.values() if one.own_pause) > _BUSY_PER_SECOND
        )

    def pause_beside_others(self, slot: PollSlot) -> float:
        """The pause of one slot beside all others, in seconds."""
        now, is_busy = self.clock(), self.is_busy
        # Only while many runs compete are listed ones slowed down; each of them then counts with its longer pause.
        shown = [one for one in self.slots.values() if is_busy and one.is_listed(now)]
        seldom = max(_LISTED_RUN_PAUSE, len(shown) / _LISTED_RUNS_PER_SECOND)
        slot.is_slowed = is_busy and slot.is_listed(now)
        others = [
            one.own_pause for one in self.slots.values() if one.own_pause and not (is_busy and one.is_listed(now))
        ]
        factor = stretch_factor([*others, *(seldom for _ in shown)], _TARGET_PER_SECOND - self.pages_per_second)
        return factor * (max(seldom, slot.own_pause or 0.0) if slot.is_slowed else slot.own_pause or seldom)

    def take_status_reply(self, call: HttpCall) -> Reply | None:
        """The reply to this poll that a list has given already; returned once, then None."""
        slot = self.slots.get(call.url) if call.method == "GET" else None
        if slot is None or slot.status_reply is None:
            return None
        found, slot.status_reply = slot.status_reply, None
        return found

    def slots_by_list(self, list_of: Callable[[str], str | None]) -> Sequence[Sequence[PollSlot]]:
        """The runs by list, for each list that is worth reading now.

        That is a list with many runs, or with a run whose polls are rare because the list has shown it.

        Args:
            list_of: the name of the list that shows the runs of an endpoint; None where there is none.
        """
        names = {endpoint: list_of(endpoint) for endpoint in {slot.ticket.endpoint for slot in self.slots.values()}}
        groups: dict[str, list[PollSlot]] = {}
        for slot in self.slots.values():
            if (name := names[slot.ticket.endpoint]) is not None and not slot.is_end_known:
                groups.setdefault(name, []).append(slot)
        is_busy = self.is_busy
        return [
            group
            for group in groups.values()
            if (is_busy and len(group) > _MIN_RUNS_FOR_LIST) or any(slot.is_slowed for slot in group)
        ]

    def walk_interval(self, pages: int, took: float, shortest: float) -> float:
        """Seconds from one walk through a list to the next.

        A page repeats the input of every run, which may be large, so a walk that took long is repeated more rarely.

        Args:
            pages: how many pages the walk has read.
            took: how many seconds it has taken.
            shortest: the least seconds between two walks.
        """
        seconds = max(shortest, pages / _MAX_PAGES_PER_SECOND, _WALK_REST_FACTOR * took)
        self.pages_per_second = pages / seconds
        return seconds


@dataclass(slots=True)
class ProviderPacers:
    """The pacers of all providers, in this process.

    Attributes:
        clock: seconds of a clock that never goes back.
    """

    clock: Callable[[], float]
    by_provider: dict[str, Pacer] = field(default_factory=dict)

    def for_provider(self, provider: str) -> Pacer:
        """The pacer of a provider."""
        return self.by_provider.setdefault(provider, Pacer(self.clock))
