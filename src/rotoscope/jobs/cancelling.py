"""The wish that a run ends: somebody has asked for it, or the run takes longer than its model ever should.

It stays a wish until the provider says that the run has ended. Whatever is answered, or not, the run is watched to its
end, and the provider is told again; nothing here ends a job.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

import anyio

from rotoscope.jobs.concurrency import run_with_background
from rotoscope.jobs.context import JobContext
from rotoscope.jobs.run_times import Stopwatch
from rotoscope.providers.runner import CancelOutcome, Runner
from rotoscope.providers.states import Final, Ticket
from rotoscope.store.records import Job, Patch

__all__ = ["RunCanceller"]

_FIRST_LOOK_SECONDS = 30.0  # a run that is taken up after its deadline is asked about before it is told to stop
_LONGEST_RETRY_PAUSE = 60.0  # seconds between two tries to have the wish taken
_REPEAT_PAUSE, _LONGEST_REPEAT_PAUSE = 60.0, 300.0  # seconds; a wish that was taken may still be forgotten
_SOONEST_POLL, _SOONEST_POLL_PART = (
    0.25,
    0.1,
)  # seconds, and of the time since it was told: so soon is the run asked about again
_OVERDUE_PART = 0.02  # of the time since its deadline; an overdue run is asked about this rarely


@dataclass(slots=True)
class RunCanceller:
    """The wish for one run.

    Attributes:
        runner: speaks to the provider; it records nothing.
        stop: set when somebody asks for the cancel.
        stopwatch: for how long the run was watched.
        poll_now: has the run asked about at once.
        end_event: set when the answer to a cancel tells the run's end, which is then `final`.
        is_overdue: whether the deadline has passed while nobody had asked for a cancel.
        requested_at: when the provider was told first, and when it took the wish; seconds of the monotonic clock.
        accepted: whether it has taken the wish.
    """

    context: JobContext
    job: Job
    runner: Runner
    ticket: Ticket
    stop: anyio.Event
    stopwatch: Stopwatch
    poll_now: Callable[[], None]
    end_event: anyio.Event = field(default_factory=anyio.Event)
    final: Final | None = None
    is_overdue: bool = False
    requested_at: float | None = None
    accepted: bool = False

    @property
    def deadline(self) -> float:
        """Seconds after which a run of this model is told to stop."""
        return self.context.manifest(self.job).timing.deadline_seconds

    @property
    def message(self) -> str | None:
        """What is known of the wish, for a person; None while there is none."""
        provider = self.context.provider(self.job)
        if self.stop.is_set() and provider.can_cancel:
            return f"A cancel was asked for; {provider.title} has not confirmed it yet: the run goes on there."
        if self.stop.is_set():
            return f"{provider.title} cannot stop a run: it goes on, and its result is kept."
        if not self.is_overdue:
            return None
        words = f"The run at {provider.title} takes longer than {self.deadline:g} seconds"
        if provider.can_cancel:
            return f"{words}; a stop was asked for, and {provider.title} has not confirmed it yet."
        return f"{words} and cannot be stopped; its result is waited for."

    def next_pause(self, planned: float) -> float:
        """The seconds until the next question: few when the end was just wished for, more for a run that is overdue."""
        planned = max(planned, min(_OVERDUE_PART * (self.stopwatch.seconds - self.deadline), _LONGEST_REPEAT_PAUSE))
        if self.requested_at is None:
            return planned
        return min(planned, max(_SOONEST_POLL, _SOONEST_POLL_PART * (anyio.current_time() - self.requested_at)))

    async def run(self) -> None:
        """Wait for the wish, then pursue it; until cancelled, or until an answer tells the end."""
        # What was wrong when the job was given back is wrong until the provider answers.
        known = self.job.error if self.stop.is_set() else None
        with anyio.move_on_after(max(self.deadline - self.stopwatch.seconds, min(self.deadline, _FIRST_LOOK_SECONDS))):
            await self.stop.wait()
        self.is_overdue = not self.stop.is_set()
        await run_with_background(self._cancel_until_ended, partial(self._report_request, known))

    async def _cancel_until_ended(self) -> None:
        if not self.context.provider(self.job).can_cancel:
            await anyio.sleep_forever()
        pause, taken_pause = 0.0, _REPEAT_PAUSE
        while True:
            told = await self.runner.cancel(self.ticket)
            if self._handle_reply(told):
                return
            if told.accepted:
                # In time that passes, whatever a test's sleep does: it is only in case that the wish was forgotten.
                await anyio.sleep(taken_pause)
                taken_pause = min(2 * taken_pause, _LONGEST_REPEAT_PAUSE)
                continue
            pause = (
                self.context.intervals.key_refusal_pause
                if told.key_refused
                else min(max(2 * pause, 1.0), _LONGEST_RETRY_PAUSE)
            )
            await self.context.sleep(pause)

    def _handle_reply(self, reply: CancelOutcome) -> bool:
        if self.requested_at is None or (reply.accepted and not self.accepted):
            self.requested_at, self.accepted = anyio.current_time(), reply.accepted
            self.poll_now()
        if reply.final is not None:
            self.final = reply.final
            self.end_event.set()
        return reply.final is not None

    async def _report_request(self, known: Mapping[str, str] | None) -> None:
        """Who looks at the job reads of the wish, and of the person's beside the deadline's."""
        if self.is_overdue:
            await self._write_message()
            await self.stop.wait()
        await self._write_message(known)

    async def _write_message(self, known: Mapping[str, str] | None = None) -> None:
        provider = self.context.provider(self.job)
        stays_at = provider.title if self.stop.is_set() and not provider.can_cancel else None
        patch = Patch(uncancellable_at=stays_at, error=known, message=self.message, event="progress")
        await self.context.advance(self.job, patch)
