"""Asking the provider to cancel a run, because a user has asked for it or its deadline has passed; and the run's clock.

A cancel request does not end a job. The run is watched until the provider says that it is over, whatever the answer to
the request was; meanwhile the request is sent again. One that cannot cancel is not asked.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import anyio

from rotoscope.jobs.concurrency import run_with_background
from rotoscope.jobs.context import JobContext
from rotoscope.providers.runner import CancelOutcome, Runner
from rotoscope.providers.states import Final, Ticket
from rotoscope.store.job_data import ErrorRecord
from rotoscope.store.records import Job, Patch

__all__ = ["RunCanceller", "Stopwatch"]

_SOONEST_POLL = 0.25  # seconds after a cancel request until the run is polled
_SOONEST_POLL_PART = 0.1  # of the time since the request: from then on it is polled so often
_OVERDUE_PART = 0.02  # of the time since its deadline: an overdue run is polled this rarely
_NOTE_PART = 0.2  # of the time watched: at most so much of it is lost when the process is killed


@dataclass(slots=True)
class Stopwatch:
    """Counts the seconds for which a run was watched, by this process and those before it.

    A wall clock may be set, and another host has another one. So what decides about a run counts seconds of the
    monotonic clock, adds them up in the ledger, and leaves out the time in which no process watched.
    """

    earlier_seconds: float
    started_at: float

    @classmethod
    def from_job(cls, job: Job) -> "Stopwatch":
        """Go on from what the ledger holds of the processes before."""
        return cls(max(job.watch.seconds or 0.0, 0.0), anyio.current_time())

    @property
    def seconds(self) -> float:
        """The seconds for which the run was watched."""
        return self.earlier_seconds + anyio.current_time() - self.started_at

    def note_interval(self, least: float) -> float:
        """Seconds until they are worth a write to the ledger; never fewer than `least`."""
        return max(least, _NOTE_PART * self.seconds)


@dataclass(slots=True)
class RunCanceller:
    """Has one run cancelled, if that is asked for or its deadline passes.

    Attributes:
        runner: speaks to the provider; it records nothing.
        stop: set when a user asks for the cancel.
        stopwatch: for how long the run was watched.
        poll_now: has the run polled at once.
        polling: the polls of the run; cancelled when the answer to a cancel request shows that it has ended, which is
            then in `final`.
        is_overdue: whether the deadline has passed while no user had asked for a cancel.
        requested_at: when the request was sent first, and later when it was accepted; seconds of the monotonic clock.
        accepted: whether the provider has accepted the request.
    """

    context: JobContext
    job: Job
    runner: Runner
    ticket: Ticket
    stop: anyio.Event
    stopwatch: Stopwatch
    poll_now: Callable[[], None]
    polling: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    final: Final | None = None
    is_overdue: bool = False
    requested_at: float | None = None
    accepted: bool = False

    @property
    def deadline(self) -> float:
        """Seconds after which a run of this model is to be cancelled."""
        return self.context.manifest(self.job).timing.deadline_seconds

    @property
    def message(self) -> str | None:
        """What the user reads about the request; None while there is none."""
        provider = self.context.provider(self.job)
        if self.stop.is_set() and provider.can_cancel:
            return f"A cancel was asked for; {provider.title} has not confirmed it yet: the run goes on there."
        if self.stop.is_set():
            return f"{provider.title} cannot stop a run: it goes on, and its result is kept."
        if not self.is_overdue:
            return None
        takes_long = f"The run at {provider.title} takes longer than {self.deadline:g} seconds"
        if provider.can_cancel:
            return f"{takes_long}; a stop was asked for, and {provider.title} has not confirmed it yet."
        return f"{takes_long} and cannot be stopped; its result is waited for."

    def next_pause(self, planned: float) -> float:
        """Seconds until the next poll: fewer than planned after a cancel request, more for a run that is overdue."""
        overdue_seconds = self.stopwatch.seconds - self.deadline
        planned = max(planned, min(_OVERDUE_PART * overdue_seconds, self.context.intervals.longest_cancel_repeat))
        if self.requested_at is None:
            return planned
        return min(planned, max(_SOONEST_POLL, _SOONEST_POLL_PART * (anyio.current_time() - self.requested_at)))

    async def run(self) -> None:
        """Wait for a reason to cancel, then send cancel requests until an answer shows the end or this is stopped."""
        # What was wrong when the job was given back is wrong until the provider answers.
        known = self.job.error if self.stop.is_set() else None
        first_check = self.context.intervals.overdue_check
        with anyio.move_on_after(max(self.deadline - self.stopwatch.seconds, min(self.deadline, first_check))):
            await self.stop.wait()
        self.is_overdue = not self.stop.is_set()
        await run_with_background(self._cancel_until_ended, partial(self._report_request, known))

    async def _cancel_until_ended(self) -> None:
        if not self.context.provider(self.job).can_cancel:
            await anyio.sleep_forever()
        spans = self.context.intervals
        pause, repeat_pause = 0.0, spans.cancel_repeat
        while True:
            outcome = await self.runner.cancel(self.ticket)
            if self._handle_outcome(outcome):
                return
            if outcome.accepted:
                # Real time, whatever a test's sleep does: this is only for a provider that forgets what it accepted.
                await anyio.sleep(repeat_pause)
                repeat_pause = min(2 * repeat_pause, spans.longest_cancel_repeat)
                continue
            next_try = min(max(2 * pause, 1.0), spans.longest_cancel_pause)
            pause = spans.key_refusal_pause if outcome.key_refused else next_try
            await self.context.sleep(pause)

    def _handle_outcome(self, outcome: CancelOutcome) -> bool:
        """Have the run polled when the request is first sent, and when it is accepted; whether the run has ended."""
        if self.requested_at is None or (outcome.accepted and not self.accepted):
            self.requested_at, self.accepted = anyio.current_time(), outcome.accepted
            self.poll_now()
        if outcome.final is not None:
            self.final = outcome.final
            self.polling.cancel()
        return outcome.final is not None

    async def _report_request(self, known: ErrorRecord | None) -> None:
        """Write into the job that a cancel was requested: by the deadline, and then perhaps by the user too."""
        if self.is_overdue:
            await self._write_message()
            await self.stop.wait()
        await self._write_message(known)

    async def _write_message(self, known: ErrorRecord | None = None) -> None:
        provider = self.context.provider(self.job)
        stays_at = provider.title if self.stop.is_set() and not provider.can_cancel else None
        patch = Patch(uncancellable_at=stays_at, error=known, message=self.message, event="progress")
        await self.context.advance(self.job, patch)
