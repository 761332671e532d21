"""The stage that follows a prediction: what it says becomes progress, and its end becomes the next stage."""

from collections.abc import Awaitable, Callable

import anyio

from rotoscope.errors import Timeout
from rotoscope.jobs.job import Job, Patch, problem_of
from rotoscope.jobs.progress import fraction
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
    Waiting,
    Working,
    is_final,
    ticket_from_json,
    ticket_to_json,
)
from rotoscope.wire.messages import Json

__all__ = ["Stopped", "patch_of", "watch"]

_STOP_SECONDS = 20.0


class Stopped(Exception):
    """The job is to be cancelled."""


async def watch(rooms: Rooms, job: Job, stop: anyio.Event) -> Patch:
    """Follow the prediction until it is final, the deadline has passed, or somebody cancels."""
    ticket = job.data["ticket"]
    accepted = _number(job.data.get("accepted_at")) or rooms.clock()
    expected = _number(job.data.get("expected_seconds"))
    deadline = rooms.manifest(job).timing.deadline_seconds
    state: Open = Waiting(ticket_from_json(ticket if isinstance(ticket, dict) else {}))
    runner = rooms.runner(job, _recorder(rooms, job, accepted, expected), _napper(stop))
    try:
        with anyio.move_on_after(max(0.0, accepted + deadline - rooms.clock())):
            final = await runner.follow(state, lambda _: pause(rooms.clock() - accepted, expected))
            return patch_of(rooms, job, final)
    except Stopped:
        return await _stopped(rooms, job, runner, state)
    return await _overdue(rooms, job, runner, state, deadline)


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


def _recorder(
    rooms: Rooms, job: Job, accepted: float, expected: float | None
) -> Callable[[Prediction], Awaitable[None]]:
    told = job.progress

    async def record(state: Prediction) -> None:
        nonlocal told
        if is_final(state):
            return
        said = state.progress if isinstance(state, Working) else None
        told = fraction(said, rooms.clock() - accepted, expected, told)
        message = _words(rooms.provider(job).title, state)
        await rooms.advance(job, Patch(progress=told, message=message, event="progress"))

    return record


def _napper(stop: anyio.Event) -> Callable[[float], Awaitable[None]]:
    async def nap(seconds: float) -> None:
        with anyio.move_on_after(seconds):
            await stop.wait()
        if stop.is_set():
            raise Stopped

    return nap


async def _stopped(rooms: Rooms, job: Job, runner: Runner, state: Open) -> Patch:
    """Tell the provider, then look once more: it may have finished, and then the result is ours."""
    told, seen = await _told_to_stop(runner, state)
    if is_final(seen):
        return patch_of(rooms, job, seen)
    title = rooms.provider(job).title
    if told:
        return Patch(state="cancelled", message=_cancel_words(title, None), data={"charged": None})
    words = f"Cancelled here, but {title} could not be told to stop: it will finish and may charge for it."
    return Patch(state="cancelled", message=words, data={"charged": None})


async def _overdue(rooms: Rooms, job: Job, runner: Runner, state: Open, deadline: float) -> Patch:
    """The ticket is never thrown away: one cancel, one last look, and a result that is there is collected."""
    _, seen = await _told_to_stop(runner, state)
    if isinstance(seen, Succeeded):
        return patch_of(rooms, job, seen)
    error = Timeout(
        f"{rooms.provider(job).title} did not finish within {deadline:g} seconds and was told to stop.",
        hint="Try again later; whether it was charged is shown at the provider.",
    )
    return Patch(state="failed", error=problem_of(error), message=error.message)


async def _told_to_stop(runner: Runner, state: Open) -> tuple[bool, Prediction]:
    with anyio.move_on_after(_STOP_SECONDS, shield=True):
        told = await runner.cancel(state.ticket)
        seen = await runner.look(state)
        if isinstance(seen, Ready):
            seen = await runner.look(seen)
        return told, seen
    return False, state


def _words(title: str, state: Prediction) -> str:
    match state:
        case Waiting(position=position) if position:
            return f"Waiting at {title}, {position} ahead."
        case Waiting():
            return f"Waiting at {title}."
        case Working(progress=progress) if progress is not None:
            return f"Running at {title}, {progress:.0%}."
        case Working():
            return f"Running at {title}."
        case _:
            return f"{title} has finished; fetching the result."


def _cancel_words(title: str, charged: bool | None) -> str:
    known = {None: "whether it is charged is not known", True: "the time that it ran is charged", False: "not charged"}
    return f"Cancelled at {title}: {known[charged]}."


def _number(value: Json | None) -> float | None:
    return float(value) if isinstance(value, int | float) else None
