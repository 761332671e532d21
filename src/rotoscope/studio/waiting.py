"""Waiting for a job as long as its caller has time, also while another process drives it; notes on joins and cancels.

A job that no process drives is taken over by the process that is asked about it.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import anyio

from rotoscope.contracts.results import JobResult, Status
from rotoscope.jobs.context import JobContext
from rotoscope.jobs.dispatcher import Dispatcher
from rotoscope.jobs.progress import combine_progress, estimate_progress
from rotoscope.jobs.review import Review
from rotoscope.store.records import ENDED_STATES, FINAL_STATES, Job, OpenResult

__all__ = ["JobCallback", "JobWaiter", "add_cancel_note", "add_join_note"]


def add_join_note(result: JobResult, opening: OpenResult) -> JobResult:
    """A result with the note that its request has joined a job that was open already."""
    note = "An equal request had opened this job before; nothing was sent or paid again."
    if opening.is_redelivery:
        note = (
            "An equal request was answered with this result before, perhaps too late to be heard, so it is told once "
            "more: nothing was sent or paid. The next equal request after this answer is a new run; one that is "
            "changed, such as by another seed, is one at once."
        )
    return _add_warning(result, note)


def add_cancel_note(result: JobResult, before: Job) -> JobResult:
    """A result with a note on what the cancel did, by the state of the job before it."""
    if before.state == "needs_review":
        return _add_warning(result, "It waits for a person's review: nothing was cancelled.")
    if before.is_final:
        return _add_warning(result, "It had ended before: nothing was cancelled.")
    if result.status in ("queued", "running", "needs_review"):
        return _add_warning(
            result, "A cancel was asked for, and is not confirmed yet; get_job says what becomes of it."
        )
    return result if result.status == "cancelled" else _add_warning(result, "It ended before it could be cancelled.")


def _add_warning(result: JobResult, text: str) -> JobResult:
    return result.model_copy(update={"warnings": [*result.warnings, text]})


_REVIEW_SECONDS = 2.0  # for one search of a job in review, which asks the provider for its list
_TAKEOVER_SECONDS = 1.5  # in which a job that was taken over is asked about once, wherever the provider is
_RECHECK_SECONDS = 1.0
_OPEN_STATES: tuple[Status, ...] = (
    "queued",
    "running",
)  # a job that is shown as one of them may be stored as the other
_MAX_TAKEOVERS = 20  # jobs of a list that are taken over for it

JobCallback = Callable[[Job], Awaitable[None]]
"""Called with a job at each of its changes."""


@dataclass(frozen=True, slots=True)
class JobWaiter:
    """Waits for jobs, and has those driven that no process drives."""

    context: JobContext
    dispatcher: Dispatcher
    review: Review

    async def wait(
        self, job: Job, seconds: float, on_change: JobCallback | None = None, until: frozenset[Status] = FINAL_STATES
    ) -> Job:
        """Wait for a job to be in one of some states, at most some seconds; `on_change` is called at every
        change before that.

        Args:
            job: the job, as it was lately.
            seconds: how long.
            on_change: called at each of its changes.
            until: the states to wait for; by default those in which no process drives it.
        """
        if seconds <= 0 and not job.is_final:
            return job  # it was read just now
        feed, ledger = self.context.notifier, self.context.ledger
        awaited = feed.next_change if on_change is not None else feed.end_event
        with anyio.move_on_after(seconds):
            while job.state not in until and not feed.is_ending:
                change = awaited(job.id)
                job = await ledger.job(job.id, job.principal)
                if job.state in until:
                    break
                if on_change is not None:
                    await on_change(await self.current_job(job))
                # The clock moves its progress, and another process may drive it, whose changes set no event here.
                with anyio.move_on_after(_RECHECK_SECONDS):
                    await change.wait()
        if job.is_final:
            # Nothing changes any more: the event that was taken last must not stay behind.
            feed.notify_change(job.id)
        return job

    async def current_job(self, job: Job) -> Job:
        """The job with its progress estimated for now, or with the reason why no process drives it."""
        now = self.context.clock()
        shown = estimate_progress(job, now, await self.dispatcher.idle_reason(job))
        if job.is_final or not job.plan.awaited_jobs:
            return shown
        awaited = await self.context.ledger.awaited_jobs(job)
        return combine_progress(shown, [await self.current_job(one.job) for one in awaited])

    async def refresh_job(self, job: Job, seconds: float, budget: float, on_change: JobCallback | None = None) -> Job:
        """A job for a caller who polls it: searched for at its provider if in review, driven if no process did.

        Some clients start a process for each call: it would end before it had taken the job over, and a job that is
        only polled would never go on. So this waits a little for a job that was taken over just now.

        Args:
            job: the job, as it was lately.
            seconds: how long its end is waited for.
            budget: how long the whole may take, in seconds.
            on_change: called at each of its changes.
        """
        deadline = anyio.current_time() + budget
        if job.state == "needs_review":
            job = await self._recheck_review(job, budget)
        elif not job.is_final:
            driven = await self._take_over(job, budget)
            if driven is not None:
                seconds = max(seconds, _TAKEOVER_SECONDS - driven)
        return await self.wait(
            job, min(seconds, max(0.0, deadline - anyio.current_time())), on_change, until=ENDED_STATES
        )

    async def stop(self, job: Job) -> None:
        """Tell the drivers of a job that is to be cancelled, and of its steps that are, as far as they are here."""
        steps = [one.job for one in await self.context.ledger.awaited_jobs(job) if one.job.cancel_requested]
        for one in (job, *steps):
            self.dispatcher.stop(one.id)
            self.context.notifier.notify_change(one.id)

    async def _take_over(self, job: Job, budget: float) -> float | None:
        """Have a job driven, or what it waits for; for how many seconds one of them has been driven here, if any is."""
        driven = await self.dispatcher.request_takeover(job.id)
        if driven is not None or job.stage != "gather":
            return driven
        for one in await self.context.ledger.awaited_jobs(job):
            if one.job.state == "needs_review":
                await self._recheck_review(one.job, budget)
            elif not one.job.is_final and driven is None:
                driven = await self._take_over(one.job, budget)
        return driven

    async def newest_jobs(self, principal: str, status: Status | None, limit: int, seconds: float) -> Sequence[Job]:
        """The newest jobs of a principal, newest first; those that no process drives are driven for some seconds.

        Args:
            principal: whose.
            status: as it is shown; None: any.
            limit: how many of each state that may be shown so.
            seconds: how long the whole may take.
        """
        found = await self._read_newest(principal, status, limit)
        return (
            await self._read_newest(principal, status, limit) if await self._drive_idle_jobs(found, seconds) else found
        )

    async def _read_newest(self, principal: str, status: Status | None, limit: int) -> Sequence[Job]:
        states = None if status is None else _OPEN_STATES if status in _OPEN_STATES else (status,)
        return await self.context.ledger.jobs(principal, states, limit)

    async def _drive_idle_jobs(self, jobs: Sequence[Job], seconds: float) -> bool:
        """Have those of some jobs driven that no process drives, for some seconds; whether any may have changed."""
        taken: list[tuple[Job, float]] = []
        for job in [one for one in jobs if not one.is_final][:_MAX_TAKEOVERS] if seconds > 0 else ():
            driven = await self.dispatcher.request_takeover(job.id)
            if driven is not None and driven < _TAKEOVER_SECONDS:
                taken.append((job, min(_TAKEOVER_SECONDS - driven, seconds)))
        async with anyio.create_task_group() as tasks:
            for job, left in taken:
                tasks.start_soon(self.wait, job, left)
        return bool(taken)

    async def _recheck_review(self, job: Job, seconds: float) -> Job:
        """Search a job in review at its provider, for at most some seconds."""
        with anyio.move_on_after(min(seconds, _REVIEW_SECONDS)):
            await self.review.look_at(job)
        job = await self.context.ledger.job(job.id, job.principal)
        if job.state == "queued":
            self.dispatcher.take_up(job.id)  # its run was found
        return job
