"""The stage that follows a prediction: what it says becomes progress, and its end becomes the next stage."""

import contextlib
import re
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

import anyio

from rotoscope.contracts.characters import modest
from rotoscope.errors import ProviderError, Refused, StorageFailed, Timeout
from rotoscope.jobs.cancelling import Stopping
from rotoscope.jobs.concurrency import beside, unless
from rotoscope.jobs.context import Rooms
from rotoscope.jobs.dispatcher import Grip
from rotoscope.jobs.progress import live
from rotoscope.jobs.result import run_data
from rotoscope.jobs.run_times import Stopwatch, life, number, trail_of
from rotoscope.providers.dialects.failures import NEXT_STEPS
from rotoscope.providers.http.messages import Json
from rotoscope.providers.polling import Seat
from rotoscope.providers.runner import Runner, Trail
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
    ticket_from_json,
    ticket_to_json,
)
from rotoscope.store.records import Job, Patch, problem_of

__all__ = ["Stopped", "patch_of", "watch"]

_METRICS, _METRIC_LENGTH = 100, 1_000  # values, characters of each
_FEW_RUNS = 3  # a guess, and what fewer runs have taken, says too little of when a run ends
_UNWATCHED_SECONDS = 30.0  # a run that nobody watched for longer tells nothing of how long runs take


class Stopped(Exception):
    """The job is to be cancelled."""


async def watch(rooms: Rooms, job: Job, grip: Grip) -> Patch:
    """Follow the prediction until it is final. A deadline and a cancel are wishes: the provider's word is the end.

    Where the provider tells of changes by a stream, each of them wakes us early; what is true is always asked.

    Raises:
        SubmitUnsure: the provider has never known the prediction.
        Timeout: nothing was heard of it until its result is surely gone.
    """
    known = job.data["ticket"]
    ticket = ticket_from_json(known if isinstance(known, dict) else {})
    with rooms.seat(job, ticket) as seat:
        try:
            return await _watched(rooms, job, grip, seat)
        except Refused as error:
            grip.refused = True
            return _given_back(rooms, job, error)
        except Timeout as error:
            raise _out_of_sight(rooms, job, error) from error


async def _watched(rooms: Rooms, job: Job, grip: Grip, seat: Seat) -> Patch:
    wake, watched, trail, ticket = _Wake(rooms.sleep), Stopwatch.of(job), trail_of(job), seat.ticket
    seat.woken = wake.hear
    asking = rooms.runner(job, _nothing, rooms.sleep)
    stopping = Stopping(rooms, job, asking, ticket, grip.stop, watched, wake.hear)
    notes = _Notes(rooms, job, stopping, trail, number(job.data.get("working_at")))
    runner = rooms.runner(job, notes.record, wake.nap, notes.missed)
    expected = _usual(job)

    def rest(state: Open) -> float:
        # Waiting in a queue or for a machine takes as long as it takes: what is known is how long the work takes.
        at_work = watched.seconds - notes.working_at if notes.working_at is not None else None
        known = (watched.seconds, None) if at_work is None else (at_work, expected)
        return stopping.pause(seat.pause(*known, state))

    def lasts(silent: float) -> bool:
        # It may have ended at any time since it was heard of last, but hardly later than its deadline.
        return silent < max(stopping.deadline - (watched.seconds - silent), 0.0) + life(rooms, job)

    async def follow() -> Final:
        return await runner.follow(Waiting(ticket), rest, trail, lasts)

    final = await _beside_all(
        partial(_ended, follow, stopping),
        stopping.run,
        notes.keep,
        partial(_listened, rooms, job, runner, ticket, wake),
    )
    if isinstance(final, Succeeded):
        await _remembered(rooms, job, watched, notes.working_at or 0.0)
    return _patch_of_end(rooms, job, stopping, final)


async def _ended(follow: Callable[[], Awaitable[Final]], stopping: Stopping) -> Final:
    """The end of the run: as the questions tell it, or an answer to a cancel."""
    try:
        return await unless(stopping.ended, follow, Stopped())
    except Stopped:
        assert stopping.final is not None
        return stopping.final


async def _beside_all(
    work: Callable[[], Awaitable[Final]], *backgrounds: Callable[[], Coroutine[Any, Any, None]]
) -> Final:
    for background in backgrounds:
        work = partial(beside, work, background)
    return await work()


def _patch_of_end(rooms: Rooms, job: Job, stopping: Stopping, final: Final) -> Patch:
    asked = job.cancel_requested or stopping.stop.is_set()
    if not isinstance(final, Canceled) or asked or not stopping.overdue:
        return patch_of(rooms, replace(job, cancel_requested=asked), final)
    # Nobody asked for it: it took too long, and was stopped by our word or by the limit that the request has named.
    title = rooms.provider(job).title
    error = Timeout(
        f"{title} did not finish within {stopping.deadline:g} seconds, and the run has stopped there.",
        hint="Try again later, or ask for less." + (f" {_charge_words(final.charged).capitalize()}."),
    )
    return Patch(state="failed", error=problem_of(error), message=error.message, data={"charged": final.charged})


def _out_of_sight(rooms: Rooms, job: Job, error: Timeout) -> Timeout:
    title = rooms.provider(job).title
    return Timeout(
        f"{title} could not be asked about the run until its result was surely gone there.",
        hint=f"Whether it was charged is shown at {title}; rotoscope jobs resume {job.id} asks about it again.",
        said=error.said,
    )


def _given_back(rooms: Rooms, job: Job, error: Refused) -> Patch:
    """The prediction is paid for: whoever holds a key that is accepted takes it up; this process leaves it alone."""
    title = rooms.provider(job).title
    words = f"{title} does not accept the key of this process any more; the run may go on there, and is not given up."
    hint = (
        "A process with a key of the same account takes it up at once; this one asks again every "
        f"{rooms.tempo.refused_pause:g} seconds. Set a good key and start the server again."
    )
    return Patch(state="queued", error={**problem_of(error), "hint": hint}, message=words, event="progress")


def _usual(job: Job) -> float | None:
    """How many seconds such a run works; None while too little is known to ask seldom before and after it."""
    runs = number(job.data.get("known_runs"))
    return number(job.data.get("expected_seconds")) if runs is None or runs >= _FEW_RUNS else None


async def _remembered(rooms: Rooms, job: Job, watched: Stopwatch, waited: float) -> None:
    """What a run took is worth knowing, where it was watched throughout; but no run may fail for it.

    The seconds that it was seen to wait before its work began are no part of it: the next run may not have to wait.
    """
    accepted = number(job.data.get("accepted_at"))
    if watched.before or accepted is None or abs(rooms.clock() - accepted - watched.seconds) > _UNWATCHED_SECONDS:
        return
    with contextlib.suppress(StorageFailed):
        await rooms.ledger.note_seconds(job, str(job.data.get("workload") or ""), watched.seconds - waited)


async def _listened(rooms: Rooms, job: Job, runner: Runner, ticket: Ticket, wake: "_Wake") -> None:
    """A stream that breaks costs nothing: the schedule goes on without it."""
    stream = runner.dialect.listen(ticket)
    if stream is not None:
        with contextlib.suppress(ProviderError):
            await rooms.wire.listen(job.provider, stream, wake.told)


async def _nothing(_: Prediction) -> None:
    """What an answer to a cancel tells is written with the end of the run."""


def patch_of(rooms: Rooms, job: Job, state: Prediction) -> Patch:
    """What a new state of the prediction changes in the job."""
    title = rooms.provider(job).title
    match state:
        case Succeeded(ticket=ticket, output=output, metrics=metrics):
            measured = _measured(rooms.dialects[job.provider].measures, metrics)
            modestly = cast("Json", modest(dict(metrics), _METRICS, _METRIC_LENGTH))
            known: dict[str, Json] = {"metrics": modestly, "measured": measured, "ready_at": rooms.clock()}
            known |= run_data(ticket)
            # A blob was replaced by its artifact:// link before it came here.
            result = None if isinstance(output, Blob) else output
            message = f"{title} has finished; fetching the result."
            return Patch(stage="fetch", data={**known, "output": result}, message=message, progress=0.95)
        case Failed(ticket=ticket, code=code, message=message, said=said, charged=charged):
            said_too = {"said": said[:2000]} if said else {}
            hint = NEXT_STEPS.get(code, NEXT_STEPS["prediction_failed"])
            if code == "output_expired":
                hint = _where_it_was(rooms, job)
            problem = {"code": code, "message": message, "hint": hint, **said_too}
            return Patch(state="failed", error=problem, message=message, data={"charged": charged, **run_data(ticket)})
        case Canceled(ticket=ticket, charged=charged):
            words = _cancel_words(title, charged)
            ours = {"code": "provider_cancelled", "message": words, "hint": "Call the tool again to run it anew."}
            error = None if job.cancel_requested else ours
            return Patch(state="cancelled", message=words, error=error, data={"charged": charged, **run_data(ticket)})
        case Waiting(ticket=ticket) | Working(ticket=ticket) | Ready(ticket=ticket):
            now = rooms.clock()
            accepted: dict[str, Json] = {"ticket": ticket_to_json(ticket), "accepted_at": now}
            accepted |= {"watched": 0.0, "watched_at": now, "working_at": None if isinstance(state, Waiting) else 0.0}
            accepted |= run_data(ticket)
            return Patch(stage="watch", data=accepted, message=_words(title, state), progress=max(job.progress, 0.02))


def _where_it_was(rooms: Rooms, job: Job) -> str:
    """What to do about a result that the provider no longer has."""
    provider = rooms.provider(job)
    seconds = provider.large_answer_seconds
    briefly = f"{provider.title} keeps a large answer for {seconds / 60:g} minutes only. " if seconds else ""
    asking = f"rotoscope jobs resume {job.id} asks for it again."
    return f"{briefly}Whether it was charged is shown at {provider.title}; {asking}"


@dataclass(slots=True)
class _Notes:
    """Writes what is heard of a run, and for how long it was watched: the next process goes on from there.

    Attributes:
        working_at: after how many watched seconds it was first seen at work; None while it waits.
    """

    rooms: Rooms
    latest: Job
    stopping: Stopping
    trail: Trail
    working_at: float | None = None
    stale_since: float | None = None

    async def record(self, state: Prediction) -> None:
        """A state was told."""
        if self.working_at is None and isinstance(state, Working):
            self.working_at = self.stopping.watched.seconds
        if is_final(state):
            return
        # What was shown until now is a floor: the model's own word must not make the bar go back.
        shown = live(self.latest, self.rooms.clock()).progress
        before = self.latest.data.get("said")
        said = state.progress if isinstance(state, Working) and state.progress is not None else before
        message = self.stopping.words or _words(self.rooms.provider(self.latest).title, state)
        self.stale_since = None
        await self._note({"said": said}, message, shown)

    async def missed(self, error: ProviderError) -> None:
        """Questions are not answered."""
        if isinstance(error, Refused):
            return  # what is known of the key stays told until it is accepted, or the job is given back
        title = self.rooms.provider(self.latest).title
        unheard = f"{title} does not answer just now; the run may go on there, and is asked about again."
        self.stale_since = self.stale_since or self.rooms.clock()
        await self._note({}, self.stopping.words or unheard)

    async def keep(self) -> None:
        """Write now and then for how long the run was watched; until cancelled."""
        while True:
            await anyio.sleep(self.stopping.watched.pause)
            await self._note({})

    async def _note(self, data: Mapping[str, Json], message: str | None = None, progress: float | None = None) -> None:
        known: dict[str, Json] = {"seen": self.trail.seen, "silent": self.trail.silent, "stale_since": self.stale_since}
        known["working_at"] = self.working_at
        known |= {"watched": self.stopping.watched.seconds, "watched_at": self.rooms.clock(), **data}
        patch = Patch(data=known, progress=progress, message=message, event="progress")
        self.latest = await self.rooms.advance(self.latest, patch)


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


def _measured(measures: Mapping[str, str], metrics: Mapping[str, Json]) -> dict[str, Json]:
    """What the provider has measured of what a price may count, by the unit of the price."""
    told = ((unit, metrics.get(name)) for unit, name in measures.items())
    return {unit: amount for unit, amount in told if isinstance(amount, int | float)}


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
    return f"Cancelled at {title}: {_charge_words(charged)}."


def _charge_words(charged: bool | None) -> str:
    known = {None: "whether it is charged is not known", True: "the time that it ran is charged", False: "not charged"}
    return known[charged]
