"""How long a client waits that has no row in `clients.toml`, learned from what it does. Pure; clocks come in.

A wait that the client tolerated lets the next be longer, in steps; one that it cut off takes that back. It tolerated a
wait when it comes again after the answer. It cut the wait off when it cancels the call, when it asks for the same while
the answer is still to come, or when it asks for the very same again although the answer advised another number of
seconds.
"""

import math
from collections import OrderedDict
from dataclasses import dataclass, field

__all__ = ["CallWait", "WaitLearner"]

_STEPS = (3.5, 8.0, 20.0, 45.0)  # seconds
_SILENT_CUTOFF = 8.0  # seconds; a longer wait is not tried with a client that gives up without a cancel
_STEP_TOLERANCE = 0.25  # seconds by which a wait of a step may fall short of it
_WAITS_BEFORE_RETRY = (
    4  # waits that must be tolerated after one that was cut off, before a longer one is tried again; doubled each time
)
_MAX_CALLS = 64  # jobs and requests whose last wait is known


@dataclass(slots=True)
class CallWait:
    """One call while it is open, and what became of it. Times are seconds of one monotonic clock.

    Attributes:
        started_at: when the request came in.
        budget: how long it may stay open.
        requested_seconds: how many seconds it asked to wait; None where it could not say.
        advised_seconds: for how many seconds its answer advised the client to ask; None where it gave no advice.
        ended_at: when it was answered or cut off; None while it is open.
    """

    started_at: float
    budget: float
    requested_seconds: float | None = None
    advised_seconds: float | None = None
    ended_at: float | None = None
    is_judged: bool = False

    def duration_at(self, now: float) -> float:
        """For how many seconds it was open, or is by now."""
        return (now if self.ended_at is None else self.ended_at) - self.started_at


@dataclass(slots=True)
class WaitLearner:
    """What one client has tolerated in this session.

    Attributes:
        first_paying_seconds: how long its first paying call may stay open, in seconds.
        first_polling_seconds: the same for its first question after a job, which costs nothing when it is cut off.
    """

    first_paying_seconds: float
    first_polling_seconds: float
    _tolerated_seconds: float = field(default=0.0, init=False)
    _cutoff_seconds: float = field(default=math.inf, init=False)
    _waits_since_cutoff: int = field(default=0, init=False)
    _waits_needed: int = field(default=_WAITS_BEFORE_RETRY, init=False)
    _calls: OrderedDict[str, CallWait] = field(default_factory=OrderedDict, init=False)

    @property
    def paying_seconds(self) -> float:
        """How long a call that may pay may stay open: no longer than what was tolerated already."""
        tolerated = [
            step for step in _STEPS if step <= self._tolerated_seconds + _STEP_TOLERANCE and self._can_try(step)
        ]
        return max([self.first_paying_seconds, *tolerated[-1:]])

    @property
    def polling_seconds(self) -> float:
        """How long a `get_job` may stay open: a step more than what was tolerated, which is how more is learned."""
        return self._next_step(self._tolerated_seconds)

    def polling_seconds_after(self, call: CallWait, now: float) -> float:
        """How long the next `get_job` may stay open if this call is tolerated until now."""
        return self._next_step(max(self._tolerated_seconds, call.duration_at(now)))

    def begin(self, subject: str, now: float, budget: float, requested_seconds: float | None = None) -> CallWait:
        """A call is held open from now on."""
        hold = CallWait(now, budget, requested_seconds)
        self._store_call(subject, hold)
        return hold

    def observe_request(self, subject: str, now: float, requested_seconds: float | None = None) -> None:
        """Learn from a request what became of the last call about the same job, or of the same request."""
        former = self._calls.get(subject)
        if former is None or former.is_judged:
            return
        former.is_judged = True
        if former.ended_at is None or _is_repeated_request(former, requested_seconds):
            self._record_silent_cutoff()
        else:
            self._record_tolerated(former.duration_at(now))

    def record_answer(self, call: CallWait, now: float, advised_seconds: float | None, subject: str) -> None:
        """A call is answered with a job: a later request about that job shows that the answer arrived."""
        call.ended_at, call.advised_seconds = now, advised_seconds
        self._store_call(subject, call)

    def record_dismissal(self, call: CallWait, now: float) -> None:
        """A call was refused, or answered by a question: nothing is learned from how long it took."""
        call.ended_at, call.is_judged = now, True

    def record_cancel(self, call: CallWait, now: float) -> None:
        """The client has cancelled a call."""
        if call.ended_at is None:
            call.ended_at = now
            if not call.is_judged:
                call.is_judged = True
                self._record_cutoff(call, call.duration_at(now))

    def _next_step(self, tolerated: float) -> float:
        longer = [step for step in _STEPS if step > tolerated + _STEP_TOLERANCE and self._can_try(step)]
        known = [step for step in _STEPS if step <= tolerated + _STEP_TOLERANCE and self._can_try(step)]
        if tolerated <= 0.0:
            return self.first_polling_seconds
        return max(self.first_polling_seconds, longer[0] if longer else known[-1] if known else 0.0)

    def _can_try(self, step: float) -> bool:
        return step + _STEP_TOLERANCE < self._cutoff_seconds

    def _record_tolerated(self, seconds: float) -> None:
        self._tolerated_seconds = max(self._tolerated_seconds, seconds)
        self._waits_since_cutoff += 1
        if self._cutoff_seconds < math.inf and self._waits_since_cutoff >= self._waits_needed:
            self._cutoff_seconds, self._waits_needed = math.inf, 2 * self._waits_needed

    def _record_cutoff(self, call: CallWait, seconds: float) -> None:
        """A wait was cut off after so many seconds; a very early cut shows only that its budget was too long."""
        self._cutoff_seconds = min(
            self._cutoff_seconds, seconds if seconds > self.first_polling_seconds else call.budget
        )
        self._tolerated_seconds, self._waits_since_cutoff = min(self._tolerated_seconds, self._cutoff_seconds), 0

    def _record_silent_cutoff(self) -> None:
        """The client gave up at an unknown moment: what it seemed to tolerate until now it may not have."""
        self._cutoff_seconds, self._tolerated_seconds = (
            min(self._cutoff_seconds, _SILENT_CUTOFF),
            min(self._tolerated_seconds, self.first_paying_seconds),
        )
        self._waits_since_cutoff = 0

    def _store_call(self, subject: str, call: CallWait) -> None:
        self._calls[subject] = call
        self._calls.move_to_end(subject)
        while len(self._calls) > _MAX_CALLS:
            self._calls.popitem(last=False)


def _is_repeated_request(previous: CallWait, requested_seconds: float | None) -> bool:
    """Whether a request repeats the previous one unchanged, although the answer to that asked for a change."""
    if previous.advised_seconds is None:
        return False
    if previous.requested_seconds is None:
        return requested_seconds is None  # its answer asked for a get_job
    return (
        requested_seconds == previous.requested_seconds <= previous.budget
        and previous.advised_seconds > previous.requested_seconds
    )
