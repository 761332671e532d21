"""The stage that follows a prediction to its end: what the provider says becomes progress, and its end the next stage.

Only the provider ends a run. A cancel and a deadline are requests to it (`stages.watch_cancel`); until it has answered
that the run is over, the run is watched, because what it does there may be charged and its result is paid for.
"""

import contextlib
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial

import anyio

from rotoscope.errors import ProviderError, Refused, Timeout
from rotoscope.jobs.concurrency import run_with_background
from rotoscope.jobs.context import JobContext, LeaseGuard
from rotoscope.jobs.outputs import retention_seconds
from rotoscope.jobs.progress import estimate_progress
from rotoscope.jobs.stages.watch_cancel import RunCanceller, Stopwatch
from rotoscope.jobs.transitions import charge_phrase, known_log_tail, patch_of, prediction_message
from rotoscope.jobs.webhooks import wake_on_webhooks
from rotoscope.providers.polling import PollSlot
from rotoscope.providers.runner import PollHistory, Runner
from rotoscope.providers.states import (
    Canceled,
    Final,
    Open,
    Prediction,
    Succeeded,
    Ticket,
    Waiting,
    Working,
    is_final,
)
from rotoscope.providers.webhooks import WebhookSender
from rotoscope.store.job_data import WatchState
from rotoscope.store.records import Job, Patch, error_record

__all__ = ["watch"]

_MIN_KNOWN_RUNS = 3  # a guess, and what fewer runs have taken, says too little of when a run ends
_NOTES_PER_SECOND = 10.0  # for how long runs were watched, over all runs that are followed at a provider
_MAX_UNWATCHED_SECONDS = 30.0  # a run that was not watched for longer does not show how long runs take


async def watch(context: JobContext, job: Job, lease: LeaseGuard) -> Patch:
    """Follow the prediction until it is final.

    Where the provider announces changes by a stream, or the end by a webhook, each of them only makes the next poll
    come sooner: the state is always read by a poll.

    Returns:
        What the end changes in the job; or, where the provider does not accept our key any more, that the job is queued
        again for a process whose key is accepted.

    Raises:
        SubmitUnsure: the provider has never known the prediction.
        Timeout: the provider could not be asked until the result is certainly gone there.
    """
    if job.accepted is None:
        raise LookupError(job.id)  # a fault of ours: tried again, then a person is asked
    ticket = job.accepted.ticket
    with context.poll_slot(job, ticket) as seat:
        try:
            return await _follow_to_end(context, job, lease, seat)
        except Refused as error:
            lease.key_refused = True
            return _patch_to_requeue(context, job, error)
        except Timeout as error:
            raise _result_gone_error(context, job, error) from error


async def _follow_to_end(context: JobContext, job: Job, lease: LeaseGuard, slot: PollSlot) -> Patch:
    wake, stopwatch, ticket = _StatusWake(context.sleep), Stopwatch.from_job(job), slot.ticket
    history = PollHistory(was_found=job.watch.was_found, silent_seconds=job.watch.silent_seconds)
    slot.wake, slot.awaits_webhook = wake.wake_up, context.webhooks_for(job) is not None
    cancel_runner = context.runner(job, _ignore_cancel_state, context.sleep)
    canceller = RunCanceller(context, job, cancel_runner, ticket, lease.stop, stopwatch, wake.wake_up)
    recorder = _RunRecorder(context, job, slot, canceller, history, job.watch.working_at)
    runner = context.runner(job, recorder.record, wake.sleep, recorder.record_missed_poll)
    expected = _usual_seconds(job)

    def next_pause(state: Open) -> float:
        # A wait in a queue or for a machine takes as long as it takes: what is known is how long the work takes.
        at_work = stopwatch.seconds - recorder.working_at if recorder.working_at is not None else None
        known = (stopwatch.seconds, None) if at_work is None else (at_work, expected)
        return canceller.next_pause(slot.next_pause(*known, state))

    def can_have_result(silent: float) -> bool:
        # The run may have ended at any time since the last answer, but hardly later than its deadline.
        return silent < max(canceller.deadline - (stopwatch.seconds - silent), 0.0) + retention_seconds(context, job)

    async def follow() -> Final:
        return await runner.follow(Waiting(ticket), next_pause, history, can_have_result)

    # One task group for all of them: thousands of jobs wait here at once.
    final = await run_with_background(
        partial(_wait_for_end, follow, canceller),
        canceller.run,
        recorder.record_periodically,
        partial(_listen_to_stream, context, job, runner, ticket, wake),
        partial(_listen_for_webhooks, context, job, slot),
    )
    patch = _patch_of_end(context, job, canceller, final)
    if not isinstance(final, Succeeded):
        return patch
    return replace(patch, run_seconds=_run_seconds(context, job, stopwatch, recorder.working_at or 0.0))


async def _wait_for_end(follow: Callable[[], Awaitable[Final]], canceller: RunCanceller) -> Final:
    """The end of the run, from a poll or from the answer to a cancel request."""
    with canceller.polling:
        return await follow()
    assert canceller.final is not None
    return canceller.final


def _patch_of_end(context: JobContext, job: Job, canceller: RunCanceller, final: Final) -> Patch:
    asked = job.cancel_requested or canceller.stop.is_set()
    if not isinstance(final, Canceled) or asked or not canceller.is_overdue:
        return patch_of(context, replace(job, cancel_requested=asked), final)
    # No user asked for it: it took too long, and was stopped by our request or by the limit that the submit has named.
    title = context.provider(job).title
    error = Timeout(
        f"{title} did not finish within {canceller.deadline:g} seconds, and the run has stopped there.",
        hint="Try again later, or ask for less." + (f" {charge_phrase(final.charged).capitalize()}."),
    )
    ended = patch_of(context, job, final)
    return replace(ended, state="failed", error=error_record(error), message=error.message)


def _result_gone_error(context: JobContext, job: Job, error: Timeout) -> Timeout:
    title = context.provider(job).title
    return Timeout(
        f"{title} could not be asked about the run until its result was surely gone there.",
        hint=f"Whether it was charged is shown at {title}; rotoscope jobs resume {job.id} asks about it again.",
        provider_message=error.provider_message,
    )


def _patch_to_requeue(context: JobContext, job: Job, error: Refused) -> Patch:
    """The prediction is paid for: a process whose key is accepted goes on with it, and this one leaves it alone."""
    title = context.provider(job).title
    message = f"{title} does not accept the key of this process any more; the run may go on there, and is not given up."
    hint = (
        "A process with a key of the same account takes it up at once; this one asks again every "
        f"{context.intervals.key_refusal_pause:g} seconds. Set a good key and start the server again."
    )
    return Patch(state="queued", error=replace(error_record(error), hint=hint), message=message, event="progress")


def _usual_seconds(job: Job) -> float | None:
    """How many seconds such a run usually works; None while too few runs are known to plan polls by that."""
    runs = job.plan.known_runs
    return job.plan.expected_seconds if runs is None or runs >= _MIN_KNOWN_RUNS else None


def _run_seconds(context: JobContext, job: Job, stopwatch: Stopwatch, waiting_seconds: float) -> float | None:
    """How long a run has worked; None where it was not watched throughout.

    The seconds that it waited before its work began are not counted: the next run may not have to wait.
    """
    accepted = job.accepted.at if job.accepted is not None else None
    if (
        stopwatch.earlier_seconds
        or accepted is None
        or abs(context.clock() - accepted - stopwatch.seconds) > _MAX_UNWATCHED_SECONDS
    ):
        return None
    return stopwatch.seconds - waiting_seconds


async def _listen_to_stream(context: JobContext, job: Job, runner: Runner, ticket: Ticket, wake: "_StatusWake") -> None:
    """Wake the polls by the provider's stream; a stream that breaks is not opened again, and polling goes on."""
    stream = runner.dialect.listen(ticket)
    if stream is not None:
        with contextlib.suppress(ProviderError):
            await context.listen(job, stream, wake.handle_event)


async def _listen_for_webhooks(context: JobContext, job: Job, slot: PollSlot) -> None:
    """Wake the polls when a webhook of the run comes, or has come before the run was watched."""
    webhooks, sender = context.webhooks_for(job), context.dialects[job.provider]
    if webhooks is None or not isinstance(sender, WebhookSender):
        return
    await webhooks.keys.find_keys(job.provider, sender, context.send)  # before one comes, which should not wait for it
    await wake_on_webhooks(webhooks, context.notifier, job.id, slot.take_webhook)


async def _ignore_cancel_state(_: Prediction) -> None:
    """The state in the answer to a cancel request is written with the end of the run."""


@dataclass(slots=True)
class _RunRecorder:
    """Writes what is seen of a run, and for how long it was watched, so that the next process goes on from there.

    Attributes:
        latest: the job as this recorder has written it last.
        slot: its place among the runs that are followed here.
        history: how the provider has answered until now.
        working_at: after how many watched seconds the run was first seen at work; None while it waits.
        stale_since: since when the provider does not answer, in Unix seconds; None while it does.
    """

    context: JobContext
    latest: Job
    slot: PollSlot
    canceller: RunCanceller
    history: PollHistory
    working_at: float | None = None
    stale_since: float | None = None

    async def record(self, state: Prediction) -> None:
        """Write a state that a poll has read, unless it is final: the end of a run is the next stage's patch."""
        if self.working_at is None and isinstance(state, Working):
            self.working_at = self.canceller.stopwatch.seconds
        if is_final(state):
            return
        # What was shown until now is a floor: what the model's logs say must not make progress go back.
        shown = estimate_progress(self.latest, self.context.clock()).progress
        before = self.latest.watch.model_progress
        logged = state.progress if isinstance(state, Working) and state.progress is not None else before
        message = self.canceller.message or prediction_message(self.context.provider(self.latest).title, state)
        self.stale_since = None
        await self._write_progress(message, shown, logged, known_log_tail(state))

    async def record_missed_poll(self, error: ProviderError) -> None:
        """Write that the provider does not answer."""
        if isinstance(error, Refused):
            return  # the message about the key stays until the key is accepted, or the job is given back
        title = self.context.provider(self.latest).title
        message = f"{title} does not answer just now; the run may go on there, and is asked about again."
        self.stale_since = self.stale_since or self.context.clock()
        await self._write_progress(self.canceller.message or message)

    async def record_periodically(self) -> None:
        """Write from time to time for how long the run was watched; until cancelled."""
        while True:
            # All runs that are followed here write together so often, at most: a write costs more than a question.
            least = max(self.context.intervals.watch_note, len(self.slot.pacer.slots) / _NOTES_PER_SECOND)
            await anyio.sleep(self.canceller.stopwatch.note_interval(least))
            await self._write_progress()

    async def _write_progress(
        self,
        message: str | None = None,
        progress: float | None = None,
        model_progress: float | None = None,
        log_tail: tuple[str, ...] | None = None,
    ) -> None:
        known = self.latest.watch.model_progress if model_progress is None else model_progress
        watch = WatchState(
            seconds=self.canceller.stopwatch.seconds,
            noted_at=self.context.clock(),
            working_at=self.working_at,
            model_progress=known,
            was_found=self.history.was_found,
            silent_seconds=self.history.silent_seconds,
            stale_since=self.stale_since,
        )
        patch = Patch(watch=watch, progress=progress, message=message, log_tail=log_tail, event="progress")
        self.latest = await self.context.advance(self.latest, patch)


class _StatusWake:
    """Sleeps that end early when the provider's stream or list shows a change."""

    def __init__(self, sleep: Callable[[float], Awaitable[None]]) -> None:
        self._sleep = sleep
        self._sleeping: anyio.CancelScope | None = None
        self._is_due = False
        self._status = ""

    def handle_event(self, event: str) -> None:
        """Take an event of the stream. Only another status is worth a poll, a line of the logs is not."""
        found = re.search(r'"status"\s*:\s*"(\w+)"', event)
        status = found[1] if found else self._status
        if status != self._status:
            self._status = status
            self.wake_up()

    def wake_up(self) -> None:
        """End the present sleep, or the next one, at once."""
        self._is_due = True
        if self._sleeping is not None:
            self._sleeping.cancel()

    async def sleep(self, seconds: float) -> None:
        """Sleep some seconds, or until there is something to poll for."""
        # A scope and no second task: thousands of jobs sleep here at once.
        with anyio.CancelScope() as self._sleeping:
            if not self._is_due:
                await self._sleep(seconds)
        self._sleeping, self._is_due = None, False
