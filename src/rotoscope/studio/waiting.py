"""What an answer adds to a job's result: what became of the very wish that was answered.

Waiting for a job: as long as the question bears it, through what other processes do to the job meanwhile.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import anyio

from rotoscope.contracts.results import JobResult, Status
from rotoscope.jobs.context import Rooms
from rotoscope.jobs.dispatcher import Dispatcher
from rotoscope.jobs.progress import live
from rotoscope.jobs.review import Review
from rotoscope.store.records import ENDED, FINAL, Job, Opening

__all__ = ["Told", "Waiting", "cancelled", "joined"]


def joined(result: JobResult, begun: Opening) -> JobResult:
    """The answer to a request that had a job already."""
    words = "An equal request had opened this job before; nothing was sent or paid again."
    if begun.told_before:
        words = (
            "An equal request was answered with this result before, perhaps too late to be heard, so it is told once "
            "more: nothing was sent or paid. The next equal request after this answer is a new run; one that is "
            "changed, such as by another seed, is one at once."
        )
    return _noted(result, words)


def cancelled(result: JobResult, before: Job) -> JobResult:
    """The answer to a wish to cancel says what became of the wish."""
    if before.state == "needs_review":
        return _noted(result, "It waits for a person's review: nothing was cancelled.")
    if before.final:
        return _noted(result, "It had ended before: nothing was cancelled.")
    if result.status in ("queued", "running", "needs_review"):
        return _noted(result, "A cancel was asked for, and is not confirmed yet; get_job says what becomes of it.")
    return result if result.status == "cancelled" else _noted(result, "It ended before it could be cancelled.")


def _noted(result: JobResult, words: str) -> JobResult:
    return result.model_copy(update={"warnings": [*result.warnings, words]})


_LOOK_SECONDS = 2.0  # for a look at a job in review, which asks the provider for its list
_FIRST_SECONDS = 1.5  # in which a job that was taken over is asked about once, wherever the provider is
_GLANCE_SECONDS = 1.0
_OPEN: tuple[Status, ...] = ("queued", "running")  # what is shown as the one may be written as the other
_MOST_AT_ONCE = 20  # jobs of a list that are taken over for it

Told = Callable[[Job], Awaitable[None]]
"""Hears of a job that changes."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """Waits for jobs, and brings them on where nobody else does."""

    rooms: Rooms
    dispatcher: Dispatcher
    review: Review

    async def wait(self, job: Job, seconds: float, told: Told | None = None, until: frozenset[Status] = FINAL) -> Job:
        """Wait for a job to be in one of some states, at most some seconds; `told` hears of every change before it is.

        Args:
            job: the job, as it was lately.
            seconds: how long.
            told: hears of its progress.
            until: what is waited for: by default that nobody drives it; who only asks may wait through a review.
        """
        feed, ledger = self.rooms.feed, self.rooms.ledger
        awaited = feed.next_change if told is not None else feed.end
        with anyio.move_on_after(seconds):
            while job.state not in until:
                change = awaited(job.id)
                job = await ledger.job(job.id)
                if job.state in until:
                    break
                if told is not None:
                    await told(await self.live(job))
                # Time passes, and another process may drive it: its changes wake nobody here.
                with anyio.move_on_after(_GLANCE_SECONDS):
                    await change.wait()
        if job.final:
            # Nothing changes any more: the event that was taken last must not stay behind.
            feed.changed(job.id)
        return job

    async def live(self, job: Job) -> Job:
        """The job as it is at this very moment, or why nobody drives it."""
        return live(job, self.rooms.clock(), await self.dispatcher.why_idle(job))

    async def ask_after(self, job: Job, seconds: float, budget: float, told: Told | None = None) -> Job:
        """A job as somebody who asks for it should see it: looked for if in review, driven if nobody did.

        Some clients start a process for each call: it would be gone before it had taken the job over, and a job that
        is only ever asked about would never get on. So a job that was taken over just now is waited for a little.

        Args:
            job: the job, as it was lately.
            seconds: how long its end is waited for.
            budget: how long the whole may take, in seconds.
            told: hears of its progress.
        """
        deadline = anyio.current_time() + budget
        if job.state == "needs_review":
            job = await self._looked_for(job, budget)
        elif not job.final:
            driven = await self.dispatcher.comes_to_drive(job.id)
            if driven is not None:
                seconds = max(seconds, _FIRST_SECONDS - driven)
        return await self.wait(job, min(seconds, max(0.0, deadline - anyio.current_time())), told, until=ENDED)

    async def newest(self, principal: str, status: Status | None, limit: int, seconds: float) -> Sequence[Job]:
        """The newest jobs of a principal, newest first; those that nobody drives are brought on in some seconds.

        Args:
            principal: whose.
            status: as it is shown; None: any.
            limit: how many of each state that may be shown so.
            seconds: how long the whole may take.
        """
        found = await self._read(principal, status, limit)
        return await self._read(principal, status, limit) if await self._bring_on(found, seconds) else found

    async def _read(self, principal: str, status: Status | None, limit: int) -> Sequence[Job]:
        states = _OPEN if status in _OPEN else (status,)
        found = [job for state in states for job in await self.rooms.ledger.jobs(principal, state, limit)]
        return sorted(found, key=lambda job: job.created_at, reverse=True)

    async def _bring_on(self, jobs: Sequence[Job], seconds: float) -> bool:
        """Have those of some jobs that nobody drives driven, and give them a moment; whether any may have changed."""
        taken: list[tuple[Job, float]] = []
        for job in [one for one in jobs if not one.final][:_MOST_AT_ONCE] if seconds > 0 else ():
            driven = await self.dispatcher.comes_to_drive(job.id)
            if driven is not None and driven < _FIRST_SECONDS:
                taken.append((job, min(_FIRST_SECONDS - driven, seconds)))
        async with anyio.create_task_group() as tasks:
            for job, left in taken:
                tasks.start_soon(self.wait, job, left)
        return bool(taken)

    async def _looked_for(self, job: Job, seconds: float) -> Job:
        """A job in review is looked for when somebody asks for it, as long as the question bears it."""
        with anyio.move_on_after(min(seconds, _LOOK_SECONDS)):
            await self.review.look_at(job)
        job = await self.rooms.ledger.job(job.id)
        if job.state == "queued":
            self.dispatcher.start(job.id)  # it was found, so there is no time to lose
        return job
