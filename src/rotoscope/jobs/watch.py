"""The stage that follows a prediction: what it says becomes progress, and its end becomes the next stage."""

import contextlib
import re
from collections.abc import Awaitable, Callable

import anyio

from rotoscope.errors import ProviderError, StorageFailed, Timeout
from rotoscope.jobs.beside import beside
from rotoscope.jobs.job import Job, Patch, problem_of
from rotoscope.jobs.progress import live
from rotoscope.jobs.rooms import Rooms
from rotoscope.predictions.runner import Runner
from rotoscope.predictions.schedule import pause
from rotoscope.predictions.states import (
    Blob,
    Canceled,
    Failed,
    Open,
    Prediction,
    Ready,
    Succeeded,
    Ticket,
    Waiting,
    Working,
    is_final,
    ticket_from_json,
    ticket_to_json,
)
from rotoscope.wire.messages import HttpCall, Json

__all__ = ["Stopped", "patch_of", "watch"]

_STOP_SECONDS = 30.0
_LAST_WORD_SECONDS, _LAST_WORD_PAUSE = 10.0, 0.25


class Stopped(Exception):
    """The job is to be cancelled."""


async def watch(rooms: Rooms, job: Job, stop: anyio.Event) -> Patch:
    """Follow the prediction until it is final, the deadline has passed, or somebody cancels.

    Where the provider tells of changes by a stream, each of them wakes us early; what is true is always asked.
    """
    known = job.data["ticket"]
    ticket = ticket_from_json(known if isinstance(known, dict) else {})
    wake = _Wake(stop)
    runner = rooms.runner(job, _recorder(rooms, job), wake.nap)
    stream = runner.dialect.listen(ticket)
    if stream is None:
        return await _followed(rooms, job, runner, ticket)
    return await beside(lambda: _followed(rooms, job, runner, ticket), lambda: _listened(rooms, job, stream, wake))


async def _followed(rooms: Rooms, job: Job, runner: Runner, ticket: Ticket) -> Patch:
    accepted = _number(job.data.get("accepted_at")) or rooms.clock()
    expected = _number(job.data.get("expected_seconds"))
    deadline = rooms.manifest(job).timing.deadline_seconds
    state: Open = Waiting(ticket)
    try:
        with anyio.move_on_after(max(0.0, accepted + deadline - rooms.clock())):
            final = await runner.follow(state, lambda _: pause(rooms.clock() - accepted, expected))
            if isinstance(final, Succeeded):
                await _remembered(rooms, job, rooms.clock() - accepted)
            return patch_of(rooms, job, final)
    except Stopped:
        return await _stopped(rooms, job, runner, state)
    return await _overdue(rooms, job, runner, state, deadline)


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
            known: dict[str, Json] = {"metrics": dict(metrics), "ready_at": rooms.clock()}
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
            return Patch(state="cancelled", message=_cancel_words(title, charged), data={"charged": charged})
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
        patch = Patch(data={"said": said}, progress=shown, message=message, event="progress")
        latest = await rooms.advance(latest, patch)

    return record


class _Wake:
    """Sleeps that end early: when the provider tells of a change, or when the job is to be cancelled."""

    def __init__(self, stop: anyio.Event) -> None:
        self._stop = stop
        self._change = anyio.Event()
        self._status = ""

    def told(self, event: str) -> None:
        """Hear an event of the stream; only another status is worth a question, a line of the logs is not."""
        found = re.search(r'"status"\s*:\s*"(\w+)"', event)
        status = found[1] if found else self._status
        if status != self._status:
            self._status = status
            self._change.set()

    async def nap(self, seconds: float) -> None:
        """Sleep.

        Raises:
            Stopped: the job is to be cancelled.
        """
        change = self._change
        with anyio.move_on_after(seconds):
            async with anyio.create_task_group() as tasks:
                for event in (self._stop, change):
                    tasks.start_soon(self._first, event, tasks.cancel_scope)
        if self._change.is_set():
            self._change = anyio.Event()
        if self._stop.is_set():
            raise Stopped

    @staticmethod
    async def _first(event: anyio.Event, scope: anyio.CancelScope) -> None:
        await event.wait()
        scope.cancel()


async def _stopped(rooms: Rooms, job: Job, runner: Runner, state: Open) -> Patch:
    """Tell the provider, then wait for its last word: it may have finished, and then the result is ours."""
    told, seen = await _told_to_stop(rooms, job, runner, state)
    if is_final(seen):
        return patch_of(rooms, job, seen)
    title = rooms.provider(job).title
    if told:
        return Patch(state="cancelled", message=_cancel_words(title, None), data={"charged": None})
    words = f"Cancelled here, but {title} could not be told to stop: it will finish and may charge for it."
    return Patch(state="cancelled", message=words, data={"charged": None})


async def _overdue(rooms: Rooms, job: Job, runner: Runner, state: Open, deadline: float) -> Patch:
    """The ticket is never thrown away: one cancel, one last look, and a result that is there is collected."""
    _, seen = await _told_to_stop(rooms, job, runner, state)
    if isinstance(seen, Succeeded):
        return patch_of(rooms, job, seen)
    error = Timeout(
        f"{rooms.provider(job).title} did not finish within {deadline:g} seconds and was told to stop.",
        hint="Try again later; whether it was charged is shown at the provider.",
    )
    return Patch(state="failed", error=problem_of(error), message=error.message)


async def _told_to_stop(rooms: Rooms, job: Job, runner: Runner, state: Open) -> tuple[bool, Prediction]:
    """Whether the provider was told, and the last that was seen: many only note the wish and stop, or not, later."""

    async def record(_: Prediction) -> None:
        """The job's own words stay: it is being cancelled."""

    patient = rooms.runner(job, record, rooms.sleep)
    with anyio.move_on_after(_STOP_SECONDS, shield=True):
        told = rooms.provider(job).can_cancel and await runner.cancel(state.ticket)
        if told:
            with anyio.move_on_after(_LAST_WORD_SECONDS):
                return told, await patient.follow(state, lambda _: _LAST_WORD_PAUSE)
        seen = await patient.look(state)
        return told, await patient.look(seen) if isinstance(seen, Ready) else seen
    return False, state


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
