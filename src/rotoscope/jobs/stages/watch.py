"""The stage that follows a prediction: what it says becomes progress, and its end becomes the next stage."""

import contextlib
import re
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

import anyio

from rotoscope.contracts.characters import limit_json_value
from rotoscope.errors import ProviderError, Refused, StorageFailed, Timeout
from rotoscope.jobs.cancelling import RunCanceller
from rotoscope.jobs.concurrency import cancel_on, run_with_background
from rotoscope.jobs.context import JobContext
from rotoscope.jobs.dispatcher import LeaseGuard
from rotoscope.jobs.progress import estimate_progress
from rotoscope.jobs.result import run_reference
from rotoscope.jobs.run_times import Stopwatch, poll_history_of, retention_seconds
from rotoscope.providers.dialects.failures import NEXT_STEPS
from rotoscope.providers.http.messages import Json
from rotoscope.providers.polling import PollSlot
from rotoscope.providers.runner import PollHistory, Runner
from rotoscope.providers.states import (
    Blob,
    Canceled,
    Failed,
    Final,
    Open,
    Prediction,
    Ready,
    Succeeded,
    Ticket,
    Waiting,
    Working,
    is_final,
)
from rotoscope.store.job_data import AcceptedRun, Charge, ProviderOutput, WatchState
from rotoscope.store.records import Job, Patch, error_record

__all__ = ["CancelRequested", "patch_of", "watch"]

_MAX_METRICS, _MAX_METRIC_LENGTH = 100, 1_000  # values, characters of each
_MIN_KNOWN_RUNS = 3  # a guess, and what fewer runs have taken, says too little of when a run ends
_MAX_UNWATCHED_SECONDS = 30.0  # a run that nobody watched for longer tells nothing of how long runs take


class CancelRequested(Exception):
    """The job is to be cancelled."""


async def watch(context: JobContext, job: Job, lease: LeaseGuard) -> Patch:
    """Follow the prediction until it is final. A deadline and a cancel are wishes: the provider's word is the end.

    Where the provider tells of changes by a stream, each of them wakes us early; what is true is always asked.

    Raises:
        SubmitUnsure: the provider has never known the prediction.
        Timeout: nothing was heard of it until its result is surely gone.
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
    wake, watched, trail, ticket = (
        _StatusWake(context.sleep),
        Stopwatch.from_job(job),
        poll_history_of(job),
        slot.ticket,
    )
    slot.wake = wake.wake_up
    asking = context.runner(job, _ignore_cancel_state, context.sleep)
    stopping = RunCanceller(context, job, asking, ticket, lease.stop, watched, wake.wake_up)
    notes = _RunRecorder(context, job, stopping, trail, job.watch.working_at)
    runner = context.runner(job, notes.record, wake.sleep, notes.record_missed_poll)
    expected = _usual_seconds(job)

    def next_pause(state: Open) -> float:
        # Waiting in a queue or for a machine takes as long as it takes: what is known is how long the work takes.
        at_work = watched.seconds - notes.working_at if notes.working_at is not None else None
        known = (watched.seconds, None) if at_work is None else (at_work, expected)
        return stopping.next_pause(slot.next_pause(*known, state))

    def can_have_result(silent: float) -> bool:
        # It may have ended at any time since it was heard of last, but hardly later than its deadline.
        return silent < max(stopping.deadline - (watched.seconds - silent), 0.0) + retention_seconds(context, job)

    async def follow() -> Final:
        return await runner.follow(Waiting(ticket), next_pause, trail, can_have_result)

    final = await _run_with_backgrounds(
        partial(_wait_for_end, follow, stopping),
        stopping.run,
        notes.record_periodically,
        partial(_listen_to_stream, context, job, runner, ticket, wake),
    )
    if isinstance(final, Succeeded):
        await _record_run_time(context, job, watched, notes.working_at or 0.0)
    return _patch_of_end(context, job, stopping, final)


async def _wait_for_end(follow: Callable[[], Awaitable[Final]], canceller: RunCanceller) -> Final:
    """The end of the run: as the questions tell it, or an answer to a cancel."""
    try:
        return await cancel_on(canceller.end_event, follow, CancelRequested())
    except CancelRequested:
        assert canceller.final is not None
        return canceller.final


async def _run_with_backgrounds(
    work: Callable[[], Awaitable[Final]], *backgrounds: Callable[[], Coroutine[Any, Any, None]]
) -> Final:
    for background in backgrounds:
        work = partial(run_with_background, work, background)
    return await work()


def _patch_of_end(context: JobContext, job: Job, canceller: RunCanceller, final: Final) -> Patch:
    asked = job.cancel_requested or canceller.stop.is_set()
    if not isinstance(final, Canceled) or asked or not canceller.is_overdue:
        return patch_of(context, replace(job, cancel_requested=asked), final)
    # Nobody asked for it: it took too long, and was stopped by our word or by the limit that the request has named.
    title = context.provider(job).title
    error = Timeout(
        f"{title} did not finish within {canceller.deadline:g} seconds, and the run has stopped there.",
        hint="Try again later, or ask for less." + (f" {_charge_phrase(final.charged).capitalize()}."),
    )
    return Patch(state="failed", error=error_record(error), message=error.message, charge=Charge(final.charged))


def _result_gone_error(context: JobContext, job: Job, error: Timeout) -> Timeout:
    title = context.provider(job).title
    return Timeout(
        f"{title} could not be asked about the run until its result was surely gone there.",
        hint=f"Whether it was charged is shown at {title}; rotoscope jobs resume {job.id} asks about it again.",
        provider_message=error.provider_message,
    )


def _patch_to_requeue(context: JobContext, job: Job, error: Refused) -> Patch:
    """The prediction is paid for: whoever holds a key that is accepted takes it up; this process leaves it alone."""
    title = context.provider(job).title
    words = f"{title} does not accept the key of this process any more; the run may go on there, and is not given up."
    hint = (
        "A process with a key of the same account takes it up at once; this one asks again every "
        f"{context.intervals.key_refusal_pause:g} seconds. Set a good key and start the server again."
    )
    return Patch(state="queued", error={**error_record(error), "hint": hint}, message=words, event="progress")


def _usual_seconds(job: Job) -> float | None:
    """How many seconds such a run works; None while too little is known to ask seldom before and after it."""
    runs = job.plan.known_runs
    return job.plan.expected_seconds if runs is None or runs >= _MIN_KNOWN_RUNS else None


async def _record_run_time(context: JobContext, job: Job, stopwatch: Stopwatch, waiting_seconds: float) -> None:
    """What a run took is worth knowing, where it was watched throughout; but no run may fail for it.

    The seconds that it was seen to wait before its work began are no part of it: the next run may not have to wait.
    """
    accepted = job.accepted.at if job.accepted is not None else None
    if (
        stopwatch.earlier_seconds
        or accepted is None
        or abs(context.clock() - accepted - stopwatch.seconds) > _MAX_UNWATCHED_SECONDS
    ):
        return
    with contextlib.suppress(StorageFailed):
        await context.ledger.record_duration(job, job.plan.workload, stopwatch.seconds - waiting_seconds)


async def _listen_to_stream(context: JobContext, job: Job, runner: Runner, ticket: Ticket, wake: "_StatusWake") -> None:
    """A stream that breaks costs nothing: the schedule goes on without it."""
    stream = runner.dialect.listen(ticket)
    if stream is not None:
        with contextlib.suppress(ProviderError):
            await context.wire.listen(job.provider, stream, wake.handle_event)


async def _ignore_cancel_state(_: Prediction) -> None:
    """What an answer to a cancel tells is written with the end of the run."""


def patch_of(context: JobContext, job: Job, state: Prediction) -> Patch:
    """What a new state of the prediction changes in the job."""
    title = context.provider(job).title
    match state:
        case Succeeded(ticket=ticket, output=output, metrics=metrics):
            measured = _billable_amounts(context.dialects[job.provider].price_metrics, metrics)
            modestly = cast("dict[str, Json]", limit_json_value(dict(metrics), _MAX_METRICS, _MAX_METRIC_LENGTH))
            # A blob was replaced by its artifact:// link before it came here.
            result = None if isinstance(output, Blob) else output
            given = ProviderOutput(result, modestly, measured, context.clock())
            message = f"{title} has finished; fetching the result."
            return Patch(
                stage="fetch", provider_output=given, run=run_reference(ticket), message=message, progress=0.95
            )
        case Failed(ticket=ticket, code=code, message=message, provider_message=said, charged=charged):
            said_too = {"said": said[:2000]} if said else {}
            hint = NEXT_STEPS.get(code, NEXT_STEPS["prediction_failed"])
            if code == "output_expired":
                hint = _hint_for_expired_output(context, job)
            problem = {"code": code, "message": message, "hint": hint, **said_too}
            run, charge = run_reference(ticket), Charge(charged)
            return Patch(state="failed", error=problem, message=message, charge=charge, run=run)
        case Canceled(ticket=ticket, charged=charged):
            words = _cancel_message(title, charged)
            ours = {"code": "provider_cancelled", "message": words, "hint": "Call the tool again to run it anew."}
            error = None if job.cancel_requested else ours
            run, charge = run_reference(ticket), Charge(charged)
            return Patch(state="cancelled", message=words, error=error, charge=charge, run=run)
        case Waiting(ticket=ticket) | Working(ticket=ticket) | Ready(ticket=ticket):
            now, working_at = context.clock(), None if isinstance(state, Waiting) else 0.0
            return Patch(
                stage="watch",
                accepted=AcceptedRun(ticket, now),
                watch=replace(job.watch, seconds=0.0, noted_at=now, working_at=working_at),
                run=run_reference(ticket),
                message=_prediction_message(title, state),
                progress=max(job.progress, 0.02),
            )


def _hint_for_expired_output(context: JobContext, job: Job) -> str:
    """What to do about a result that the provider no longer has."""
    provider = context.provider(job)
    seconds = provider.large_answer_seconds
    briefly = f"{provider.title} keeps a large answer for {seconds / 60:g} minutes only. " if seconds else ""
    asking = f"rotoscope jobs resume {job.id} asks for it again."
    return f"{briefly}Whether it was charged is shown at {provider.title}; {asking}"


@dataclass(slots=True)
class _RunRecorder:
    """Writes what is heard of a run, and for how long it was watched: the next process goes on from there.

    Attributes:
        working_at: after how many watched seconds it was first seen at work; None while it waits.
    """

    context: JobContext
    latest: Job
    canceller: RunCanceller
    history: PollHistory
    working_at: float | None = None
    stale_since: float | None = None

    async def record(self, state: Prediction) -> None:
        """A state was told."""
        if self.working_at is None and isinstance(state, Working):
            self.working_at = self.canceller.stopwatch.seconds
        if is_final(state):
            return
        # What was shown until now is a floor: the model's own word must not make the bar go back.
        shown = estimate_progress(self.latest, self.context.clock()).progress
        before = self.latest.watch.model_progress
        told = state.progress if isinstance(state, Working) and state.progress is not None else before
        message = self.canceller.message or _prediction_message(self.context.provider(self.latest).title, state)
        self.stale_since = None
        await self._write_progress(message, shown, told)

    async def record_missed_poll(self, error: ProviderError) -> None:
        """Questions are not answered."""
        if isinstance(error, Refused):
            return  # what is known of the key stays told until it is accepted, or the job is given back
        title = self.context.provider(self.latest).title
        unheard = f"{title} does not answer just now; the run may go on there, and is asked about again."
        self.stale_since = self.stale_since or self.context.clock()
        await self._write_progress(self.canceller.message or unheard)

    async def record_periodically(self) -> None:
        """Write now and then for how long the run was watched; until cancelled."""
        while True:
            await anyio.sleep(self.canceller.stopwatch.note_interval)
            await self._write_progress()

    async def _write_progress(
        self, message: str | None = None, progress: float | None = None, model_progress: float | None = None
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
        patch = Patch(watch=watch, progress=progress, message=message, event="progress")
        self.latest = await self.context.advance(self.latest, patch)


class _SleepInterrupted(Exception):
    """Something was told while we slept."""


class _StatusWake:
    """Sleeps that end early when the provider tells of a change."""

    def __init__(self, sleep: Callable[[float], Awaitable[None]]) -> None:
        self._sleep = sleep
        self._change = anyio.Event()
        self._status = ""

    def handle_event(self, event: str) -> None:
        """Hear an event of the stream; only another status is worth a question, a line of the logs is not."""
        found = re.search(r'"status"\s*:\s*"(\w+)"', event)
        status = found[1] if found else self._status
        if status != self._status:
            self._status = status
            self._change.set()

    def wake_up(self) -> None:
        """Hear that there is something to ask for."""
        self._change.set()

    async def sleep(self, seconds: float) -> None:
        """Sleep, unless another status was told of."""
        with contextlib.suppress(_SleepInterrupted):
            await cancel_on(self._change, lambda: self._sleep(seconds), _SleepInterrupted())
        if self._change.is_set():
            self._change = anyio.Event()


def _billable_amounts(measures: Mapping[str, str], metrics: Mapping[str, Json]) -> dict[str, float]:
    """What the provider has measured of what a price may count, by the unit of the price."""
    told = ((unit, metrics.get(name)) for unit, name in measures.items())
    return {unit: amount for unit, amount in told if isinstance(amount, int | float) and not isinstance(amount, bool)}


def _prediction_message(title: str, state: Prediction) -> str:
    match state:
        case Waiting(position=position) if position:
            return f"Waiting at {title}, {position} ahead."
        case Waiting():
            return f"Waiting at {title}."
        case Working():
            return f"Running at {title}."
        case _:
            return f"{title} has finished; fetching the result."


def _cancel_message(title: str, charged: bool | None) -> str:
    return f"Cancelled at {title}: {_charge_phrase(charged)}."


def _charge_phrase(charged: bool | None) -> str:
    known = {None: "whether it is charged is not known", True: "the time that it ran is charged", False: "not charged"}
    return known[charged]
