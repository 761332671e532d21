"""How patient a client is that nobody knows, learned from how it bears what it is made to wait. Pure; clocks come in.

A wait that was borne lets the next be longer, in steps; one that was cut off takes that back. A wait was borne when the
client comes again after it was answered. It was cut off when the client cancels it, when it asks for the same while the
answer is still to come, or when it asks for the very same again although the answer told it another number of seconds.
"""

import math
from collections import OrderedDict
from dataclasses import dataclass, field

__all__ = ["Hold", "Patience"]

_STEPS = (3.5, 8.0, 20.0, 45.0)  # seconds
_SILENT = 8.0  # seconds; a wait that a client which gives up in silence is not held to
_SHORTER = 0.25  # seconds by which a wait of a step may fall short of it
_AGAIN = 4  # waits that must be borne after one that was cut off, before a longer one is tried again; doubled each time
_REMEMBERED = 64  # jobs and requests whose last wait is known


@dataclass(slots=True)
class Hold:
    """One call while it is open, and what became of it. Times are seconds of one monotonic clock.

    Attributes:
        begun: when the request came in.
        budget: how long it may stay open.
        wanted: how many seconds it asked to wait; None where it could not say.
        told: how many seconds its answer told the client to ask for; None where it told none.
        ended: when it was answered or cut off; None while it is open.
    """

    begun: float
    budget: float
    wanted: float | None = None
    told: float | None = None
    ended: float | None = None
    judged: bool = False

    def lasted(self, now: float) -> float:
        """For how many seconds it was open, or is by now."""
        return (now if self.ended is None else self.ended) - self.begun


@dataclass(slots=True)
class Patience:
    """What one client was seen to bear in this session.

    Attributes:
        first: how long its first paying call may stay open, in seconds.
        first_asking: the same for its first question after a job, which costs nothing when it is cut off.
    """

    first: float
    first_asking: float
    _borne: float = field(default=0.0, init=False)
    _cut_at: float = field(default=math.inf, init=False)
    _since_cut: int = field(default=0, init=False)
    _needed: int = field(default=_AGAIN, init=False)
    _holds: OrderedDict[str, Hold] = field(default_factory=OrderedDict, init=False)

    @property
    def paying(self) -> float:
        """How long a call that may pay may stay open: no longer than what was borne already."""
        borne = [step for step in _STEPS if step <= self._borne + _SHORTER and self._bears(step)]
        return max([self.first, *borne[-1:]])

    @property
    def asking(self) -> float:
        """How long a question after a job may stay open: a step more than what was borne, which is how one learns."""
        return self._next(self._borne)

    def asking_after(self, hold: Hold, now: float) -> float:
        """How long the next question may stay open if this call is borne until now."""
        return self._next(max(self._borne, hold.lasted(now)))

    def begin(self, about: str, now: float, budget: float, wanted: float | None = None) -> Hold:
        """A call is held open from now on."""
        hold = Hold(now, budget, wanted)
        self._remember(about, hold)
        return hold

    def hear(self, about: str, now: float, wanted: float | None = None) -> None:
        """A request has come in: it tells what became of the last call about the same job, or of the same request."""
        former = self._holds.get(about)
        if former is None or former.judged:
            return
        former.judged = True
        if former.ended is None or _asks_the_same(former, wanted):
            self._cut_in_silence()
        else:
            self._bear(former.lasted(now))

    def answer(self, hold: Hold, now: float, told: float | None, about: str) -> None:
        """A call is answered, and its answer names a job: what is asked about that job shows that it was heard."""
        hold.ended, hold.told = now, told
        self._remember(about, hold)

    def dismiss(self, hold: Hold, now: float) -> None:
        """A call was refused, or answered by a question: that says nothing of patience."""
        hold.ended, hold.judged = now, True

    def cancel(self, hold: Hold, now: float) -> None:
        """The client gave a call up."""
        if hold.ended is None:
            hold.ended = now
            if not hold.judged:
                hold.judged = True
                self._cut(hold, hold.lasted(now))

    def _next(self, borne: float) -> float:
        longer = [step for step in _STEPS if step > borne + _SHORTER and self._bears(step)]
        known = [step for step in _STEPS if step <= borne + _SHORTER and self._bears(step)]
        if borne <= 0.0:
            return self.first_asking
        return max(self.first_asking, longer[0] if longer else known[-1] if known else 0.0)

    def _bears(self, step: float) -> bool:
        return step + _SHORTER < self._cut_at

    def _bear(self, seconds: float) -> None:
        self._borne = max(self._borne, seconds)
        self._since_cut += 1
        if self._cut_at < math.inf and self._since_cut >= self._needed:
            self._cut_at, self._needed = math.inf, 2 * self._needed

    def _cut(self, hold: Hold, seconds: float) -> None:
        """A wait was too long after so many seconds; one that was cut off very early says only: not so long."""
        self._cut_at = min(self._cut_at, seconds if seconds > self.first_asking else hold.budget)
        self._borne, self._since_cut = min(self._borne, self._cut_at), 0

    def _cut_in_silence(self) -> None:
        """It gave up some time before, without a word: what seemed to be borne until now may not have been."""
        self._cut_at, self._borne = min(self._cut_at, _SILENT), min(self._borne, self.first)
        self._since_cut = 0

    def _remember(self, about: str, hold: Hold) -> None:
        self._holds[about] = hold
        self._holds.move_to_end(about)
        while len(self._holds) > _REMEMBERED:
            self._holds.popitem(last=False)


def _asks_the_same(former: Hold, wanted: float | None) -> bool:
    """Whether a request is the former one once more, which its answer, had it been heard, would have changed."""
    if former.told is None:
        return False
    if former.wanted is None:
        return wanted is None  # it was told to ask after its job
    return wanted == former.wanted <= former.budget and former.told > former.wanted
