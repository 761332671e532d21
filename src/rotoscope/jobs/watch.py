"""The stage that follows a prediction: what it says becomes progress, and its end becomes the next stage."""

import contextlib
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace

import anyio

from rotoscope.errors import ProviderError, Refused, StorageFailed, Timeout
from rotoscope.jobs.beside import beside, unless
from rotoscope.jobs.dispatcher import Grip
from rotoscope.jobs.job import Job, Patch, problem_of
from rotoscope.jobs.progress import live
from rotoscope.jobs.rooms import Rooms
from rotoscope.predictions.pacer import Seat
from rotoscope.predictions.runner import Runner
from rotoscope.predictions.states import (
    Blob,
    Canceled,
    Failed,
    Open,
    Prediction,
    Ready,
    Succeeded,
    Waiting,
    Working,
    is_final,
    ticket_from_json,
    ticket_to_json,
)
from rotoscope.wire.messages import HttpCall, Json

__all__ = ["Stopped", "patch_of", "watch"]

_FIRST_LOOK_SECONDS = 30.0  # a run that is taken up after its deadline is still asked about
_STOP_SECONDS = 30.0
_LAST_WORD_SECONDS, _LAST_WORD_PAUSE = 10.0, 0.25


class Stopped(Exception):
    """The job is to be cancelled."""


async def watch(rooms: Rooms, job: Job, grip: Grip) -> Patch:
    """Follow the prediction until it is final, the deadline has passed, or somebody cancels.

    Where the provider tells of changes by a stream, each of them wakes us early; what is true is always asked.
    """
    known = job.data["ticket"]
    ticket = ticket_from_json(known if isinstance(known, dict) else {})
    with rooms.seat(job, ticket) as seat:
        try:
            return await _watched(rooms, job, grip, seat)
        except Refused as error:
            return _paused(rooms, error)


async def _watched(rooms: Rooms, job: Job, grip: Grip, seat: Seat) -> Patch:
    wake, ticket = _Wake(rooms.sleep), seat.ticket
    seat.woken = wake.hear
    runner = rooms.runner(job, _recorder(rooms, job), wake.nap, _misser(rooms, job))
    stream = runner.dialect.listen(ticket)
    if not rooms.provider(job).can_cancel:
        # A run that goes on is paid for, so its result is waited for.
        never = anyio.Event()
        return await beside(lambda: _followed(rooms, job, runner, seat, never), lambda: _goes_on(rooms, job, grip))
    if stream is None:
        return await _followed(rooms, job, runner, seat, grip.stop)
    return await beside(
        lambda: _followed(rooms, job, runner, seat, grip.stop), lambda: _listened(rooms, job, stream, wake)
    )


async def _goes_on(rooms: Rooms, job: Job, grip: Grip) -> None:
    """Not every provider can stop a run: who asks for that is told."""
    await grip.stop.wait()
    title = rooms.provider(job).title
    message = f"{title} cannot stop a run: it goes on, and its result is kept."
    await rooms.advance(job, Patch(data={"uncancellable": title}, message=message, event="progress"))


async def _followed(rooms: Rooms, job: Job, runner: Runner, seat: Seat, stop: anyio.Event) -> Patch:
    expected = _number(job.data.get("expected_seconds"))
    deadline = rooms.manifest(job).timing.deadline_seconds
    state: Open = Waiting(seat.ticket)
    # The wall clock tells how long it has run already; from here on only the monotonic one counts.
    before = min(max(rooms.clock() - (_number(job.data.get("accepted_at")) or rooms.clock()), 0.0), deadline)
    begun = anyio.current_time() - before

    def rest(state: Open) -> float:
        return seat.pause(anyio.current_time() - begun, expected, state)

    try:
        with anyio.move_on_after(deadline - before or min(deadline, _FIRST_LOOK_SECONDS)):
            final = await unless(stop, lambda: runner.follow(state, rest), Stopped())
            if isinstance(final, Succeeded):
                await _remembered(rooms, job, anyio.current_time() - begun)
            return patch_of(rooms, job, final)
    except Stopped:
        return await _stopped(rooms, job, runner, state)
    return await _overdue(rooms, job, runner, state, deadline)


def _paused(rooms: Rooms, error: Refused) -> Patch:
    """The prediction is paid for and goes on: it is asked about again and again, until the key is accepted."""
    words = "The provider does not accept the key any more; the run goes on there, and is asked about now and then."
    problem = problem_of(error) | {"hint": "Set a key of the same account and start the server again."}
    return Patch(next_at=rooms.clock() + rooms.tempo.refused_pause, error=problem, message=words, event="progress")


async def _remembered(rooms: Rooms, job: Job, seconds: float) -> None:
    """What a run took is worth knowing, but no run may fail for it."""
    with contextlib.suppress(StorageFailed):
        await rooms.ledger.note_seconds(job, str(job.data.get("workload") or ""), seconds)


async def _listened(rooms: Rooms, job: Job, stream: HttpCall, wake: "_Wake") -> None:
    """A stream that breaks costs nothing: the schedule goes on without it."""
    with contextlib.suppress(ProviderError):
        await rooms.wire.listen(job.provider, stream, wake.told)


def patch_of(rooms: Rooms, job: Job, state: Prediction) -> Patch:
    """What a new state of the prediction changes in the job."""
    title = rooms.provider(job).title
    match state:
        case Succeeded(output=output, metrics=metrics):
            measured = _measured(rooms.dialects[job.provider].measures, metrics)
            known: dict[str, Json] = {"metrics": dict(metrics), "measured": measured, "ready_at": rooms.clock()}
            # A blob was replaced by its artifact:// link before it came here.
            result = None if isinstance(output, Blob) else output
            message = f"{title} has finished; fetching the result."
            return Patch(stage="fetch", data={**known, "output": result}, message=message, progress=0.95)
        case Failed(code=code, message=message, said=said, charged=charged):
            said_too = {"said": said[:2000]} if said else {}
            hint = "Change the request, or try another model."
            problem = {"code": code, "message": message, "hint": hint, **said_too}
            return Patch(state="failed", error=problem, message=message, data={"charged": charged})
        case Canceled(charged=charged):
            words = _cancel_words(title, charged)
            ours = {"code": "provider_cancelled", "message": words, "hint": "Call the tool again to run it anew."}
            error = None if job.cancel_requested else ours
            return Patch(state="cancelled", message=words, error=error, data={"charged": charged})
        case Waiting(ticket=ticket) | Working(ticket=ticket) | Ready(ticket=ticket):
            accepted: dict[str, Json] = {"ticket": ticket_to_json(ticket), "accepted_at": rooms.clock()}
            return Patch(stage="watch", data=accepted, message=_words(title, state), progress=max(job.progress, 0.02))


def _recorder(rooms: Rooms, job: Job) -> Callable[[Prediction], Awaitable[None]]:
    latest = job

    async def record(state: Prediction) -> None:
        nonlocal latest
        if is_final(state):
            return
        now = rooms.clock()
        # What was shown until now is a floor: the model's own word must not make the bar go back.
        shown = live(latest, now).progress
        said = state.progress if isinstance(state, Working) and state.progress is not None else latest.data.get("said")
        message = _words(rooms.provider(job).title, state)
        known: dict[str, Json] = {"said": said, "stale_since": None}
        latest = await rooms.advance(latest, Patch(data=known, progress=shown, message=message, event="progress"))

    return record


def _misser(rooms: Rooms, job: Job) -> Callable[[ProviderError], Awaitable[None]]:
    title = rooms.provider(job).title

    async def missed(_: ProviderError) -> None:
        message = f"{title} does not answer just now; the run goes on there, and is asked about again."
        await rooms.advance(job, Patch(data={"stale_since": rooms.clock()}, message=message, event="progress"))

    return missed


class _Woken(Exception):
    """Something was told while we slept."""


class _Wake:
    """Sleeps that end early when the provider tells of a change."""

    def __init__(self, sleep: Callable[[float], Awaitable[None]]) -> None:
        self._sleep = sleep
        self._change = anyio.Event()
        self._status = ""

    def told(self, event: str) -> None:
        """Hear an event of the stream; only another status is worth a question, a line of the logs is not."""
        found = re.search(r'"status"\s*:\s*"(\w+)"', event)
        status = found[1] if found else self._status
        if status != self._status:
            self._status = status
            self._change.set()

    def hear(self) -> None:
        """Hear that there is something to ask for."""
        self._change.set()

    async def nap(self, seconds: float) -> None:
        """Sleep, unless another status was told of."""
        with contextlib.suppress(_Woken):
            await unless(self._change, lambda: self._sleep(seconds), _Woken())
        if self._change.is_set():
            self._change = anyio.Event()


async def _stopped(rooms: Rooms, job: Job, runner: Runner, state: Open) -> Patch:
    """Tell the provider, then wait for its last word: it may have finished, and then the result is ours."""
    told, seen = await _told_to_stop(rooms, job, runner, state)
    cancelled = replace(job, cancel_requested=True)
    if is_final(seen):
        return patch_of(rooms, cancelled, seen)
    title = rooms.provider(job).title
    if told:
        return Patch(state="cancelled", message=_cancel_words(title, None), data={"charged": None})
    words = f"Cancelled here, but {title} could not be told to stop: it will finish and may charge for it."
    return Patch(state="cancelled", message=words, data={"charged": None})


async def _overdue(rooms: Rooms, job: Job, runner: Runner, state: Open, deadline: float) -> Patch:
    """The ticket is never thrown away: one cancel, one last look, and a result that is there is collected.

    Raises:
        Refused: the key is not accepted, so nobody can know what became of the run.
    """
    _, seen = await _told_to_stop(rooms, job, runner, state)
    if isinstance(seen, Succeeded):
        return patch_of(rooms, job, seen)
    error = Timeout(
        f"{rooms.provider(job).title} did not finish within {deadline:g} seconds and was told to stop.",
        hint="Try again later; whether it was charged is shown at the provider.",
    )
    charged = seen.charged if isinstance(seen, Canceled | Failed) else None
    return Patch(state="failed", error=problem_of(error), message=error.message, data={"charged": charged})


async def _told_to_stop(rooms: Rooms, job: Job, runner: Runner, state: Open) -> tuple[bool, Prediction]:
    """Whether the provider was told, and the last that was seen: many only note the wish and stop, or not, later."""

    async def record(_: Prediction) -> None:
        """The job's own words stay: it is being cancelled."""

    patient = rooms.runner(job, record, rooms.sleep)
    with anyio.move_on_after(_STOP_SECONDS, shield=True):
        told = rooms.provider(job).can_cancel and await patient.cancel(state.ticket)
        if told:
            with anyio.move_on_after(_LAST_WORD_SECONDS):
                return told, await patient.follow(state, lambda _: _LAST_WORD_PAUSE)
        seen = await runner.look(state)
        return told, await runner.look(seen) if isinstance(seen, Ready) else seen
    return False, state


def _measured(measures: Mapping[str, str], metrics: Mapping[str, Json]) -> dict[str, Json]:
    """What the provider has measured of what a price may count, by the unit of the price."""
    return {unit: metrics[name] for unit, name in measures.items() if name in metrics}


def _words(title: str, state: Prediction) -> str:
    match state:
        case Waiting(position=position) if position:
            return f"Waiting at {title}, {position} ahead."
        case Waiting():
            return f"Waiting at {title}."
        case Working():
            return f"Running at {title}."
        case _:
            return f"{title} has finished; fetching the result."


def _cancel_words(title: str, charged: bool | None) -> str:
    known = {None: "whether it is charged is not known", True: "the time that it ran is charged", False: "not charged"}
    return f"Cancelled at {title}: {known[charged]}."


def _number(value: Json | None) -> float | None:
    return float(value) if isinstance(value, int | float) else None
