"""The wish that a run ends: somebody has asked for it, or the run takes longer than its model ever should.

It stays a wish until the provider says that the run has ended. Whatever is answered, or not, the run is watched to its
end, and the provider is told again; nothing here ends a job.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

import anyio

from rotoscope.jobs.concurrency import beside
from rotoscope.jobs.context import Rooms
from rotoscope.jobs.run_times import Stopwatch
from rotoscope.providers.http.messages import Json
from rotoscope.providers.runner import Runner, Told
from rotoscope.providers.states import Final, Ticket
from rotoscope.store.records import Job, Patch

__all__ = ["Stopping"]

_FIRST_LOOK_SECONDS = 30.0  # a run that is taken up after its deadline is asked about before it is told to stop
_LONGEST_PAUSE = 60.0  # seconds between two tries to have the wish taken
_TAKEN_PAUSE, _LONGEST_TAKEN_PAUSE = 60.0, 300.0  # seconds; a wish that was taken may still be forgotten
_EAGER, _EAGER_PART = 0.25, 0.1  # seconds, and of the time since it was told: so soon is the run asked about again
_OVERDUE_PART = 0.02  # of the time since its deadline; an overdue run is asked about this rarely


@dataclass(slots=True)
class Stopping:
    """The wish for one run.

    Attributes:
        runner: speaks to the provider; it records nothing.
        stop: set when somebody asks for the cancel.
        watched: for how long the run was watched.
        hurry: has the run asked about at once.
        ended: set when the answer to a cancel tells the run's end, which is then `final`.
        overdue: whether the deadline has passed while nobody had asked for a cancel.
        told_at: when the provider was told first, and when it took the wish; seconds of the monotonic clock.
        taken: whether it has taken the wish.
    """

    rooms: Rooms
    job: Job
    runner: Runner
    ticket: Ticket
    stop: anyio.Event
    watched: Stopwatch
    hurry: Callable[[], None]
    ended: anyio.Event = field(default_factory=anyio.Event)
    final: Final | None = None
    overdue: bool = False
    told_at: float | None = None
    taken: bool = False

    @property
    def deadline(self) -> float:
        """Seconds after which a run of this model is told to stop."""
        return self.rooms.manifest(self.job).timing.deadline_seconds

    @property
    def words(self) -> str | None:
        """What is known of the wish, for a person; None while there is none."""
        provider = self.rooms.provider(self.job)
        if self.stop.is_set() and provider.can_cancel:
            return f"A cancel was asked for; {provider.title} has not confirmed it yet: the run goes on there."
        if self.stop.is_set():
            return f"{provider.title} cannot stop a run: it goes on, and its result is kept."
        if not self.overdue:
            return None
        words = f"The run at {provider.title} takes longer than {self.deadline:g} seconds"
        if provider.can_cancel:
            return f"{words}; a stop was asked for, and {provider.title} has not confirmed it yet."
        return f"{words} and cannot be stopped; its result is waited for."

    def pause(self, planned: float) -> float:
        """The seconds until the next question: few when the end was just wished for, more for a run that is overdue."""
        planned = max(planned, min(_OVERDUE_PART * (self.watched.seconds - self.deadline), _LONGEST_TAKEN_PAUSE))
        if self.told_at is None:
            return planned
        return min(planned, max(_EAGER, _EAGER_PART * (anyio.current_time() - self.told_at)))

    async def run(self) -> None:
        """Wait for the wish, then pursue it; until cancelled, or until an answer tells the end."""
        # What was wrong when the job was given back is wrong until the provider answers.
        known = self.job.error if self.stop.is_set() else None
        with anyio.move_on_after(max(self.deadline - self.watched.seconds, min(self.deadline, _FIRST_LOOK_SECONDS))):
            await self.stop.wait()
        self.overdue = not self.stop.is_set()
        await beside(self._pursued, partial(self._told, known))

    async def _pursued(self) -> None:
        if not self.rooms.provider(self.job).can_cancel:
            await anyio.sleep_forever()
        pause, taken_pause = 0.0, _TAKEN_PAUSE
        while True:
            told = await self.runner.cancel(self.ticket)
            if self._heard(told):
                return
            if told.taken:
                # In time that passes, whatever a test's sleep does: it is only in case that the wish was forgotten.
                await anyio.sleep(taken_pause)
                taken_pause = min(2 * taken_pause, _LONGEST_TAKEN_PAUSE)
                continue
            pause = self.rooms.tempo.refused_pause if told.refused else min(max(2 * pause, 1.0), _LONGEST_PAUSE)
            await self.rooms.sleep(pause)

    def _heard(self, told: Told) -> bool:
        if self.told_at is None or (told.taken and not self.taken):
            self.told_at, self.taken = anyio.current_time(), told.taken
            self.hurry()
        if told.final is not None:
            self.final = told.final
            self.ended.set()
        return told.final is not None

    async def _told(self, known: Mapping[str, str] | None) -> None:
        """Who looks at the job reads of the wish, and of the person's beside the deadline's."""
        if self.overdue:
            await self._note()
            await self.stop.wait()
        await self._note(known)

    async def _note(self, known: Mapping[str, str] | None = None) -> None:
        provider = self.rooms.provider(self.job)
        data: dict[str, Json] = {}
        if self.stop.is_set() and not provider.can_cancel:
            data["uncancellable"] = provider.title
        await self.rooms.advance(self.job, Patch(data=data, error=known, message=self.words, event="progress"))
