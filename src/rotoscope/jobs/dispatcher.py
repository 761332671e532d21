"""The dispatcher decides when and where a job is driven: here in this process, under leases on a shared ledger.

A lease is time in the ledger until which no other process claims the job. This process renews all of its leases at each
heartbeat, reads with the same statement which of its jobs are to be cancelled, and ends the drivers of those that are
no longer its own. It claims jobs that are queued, and jobs whose owner has let the lease run out.

Which of them it claims is its own choice where the ledger is a file: the jobs that it has opened, and once in a while
the oldest of the others. With an engine (`jobs.engine`), which spreads the jobs over the processes of several hosts, it
is the engine's: this process claims what the engine gives it. The lease, the fence and the stages are the same.
"""

import contextlib
import logging
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import anyio
import anyio.abc

from rotoscope.errors import RotoscopeError, StorageFailed
from rotoscope.jobs.concurrency import JobNotifier
from rotoscope.jobs.context import LeaseGuard
from rotoscope.jobs.engine import Drive, JobEngine
from rotoscope.store.backend import Announcement
from rotoscope.store.change_cursor import ChangeCursor
from rotoscope.store.lease_predicate import MAX_CLAIMS
from rotoscope.store.leases import Leases
from rotoscope.store.records import Job
from rotoscope.store.timing import Intervals

__all__ = ["Dispatcher"]

_log = logging.getLogger(__name__)


RunJob = Callable[[Job, LeaseGuard], Awaitable[None]]


class Dispatcher:
    """Drives jobs in a task group that outlives every request, and claims those that no process drives.

    Args:
        tasks: the task group; it belongs to the process, so a client that goes away stops nothing.
        run_job: drives a claimed job to its end.
        leases: which jobs are this process's.
        notifier: wakes those that wait, also for what other processes change.
        intervals: how often to look.
        review: looks for the runs of jobs that wait for a review.
        engine: gives this process the jobs that it is to claim; None: it looks for them itself.
        most_jobs: how many jobs it drives at once; None: any number, 0: none, it leaves all to other processes.
    """

    def __init__(
        self,
        tasks: anyio.abc.TaskGroup,
        run_job: RunJob,
        leases: Leases,
        notifier: JobNotifier,
        intervals: Intervals,
        review: Callable[[], Awaitable[None]] | None = None,
        engine: JobEngine | None = None,
        most_jobs: int | None = None,
    ) -> None:
        self._tasks = tasks
        self._run_job = run_job
        self._leases = leases
        self._notifier = notifier
        self._intervals = intervals
        self._review = review
        self._engine = engine
        self._most_jobs = most_jobs
        self._is_reviewing = False
        self._guards: dict[str, LeaseGuard] = {}
        self._change = anyio.Event()  # a job was taken, or has ended
        self._must_look = True  # whether such a change is a reason to look for idle jobs
        # What the database's version was, and which events were read.
        self._last_read: tuple[int, ChangeCursor | None] = (-1, None)
        self._is_listening = False  # whether the database announces changes just now
        self._must_read = False
        # How far the wall clock is from the monotonic one: from the start on, for it may be set before the first look.
        # Not by the event loop's clock: this may be made in a thread.
        self._clock_difference = leases.clock() - time.monotonic()
        self._clock_trust_at = 0.0

    @property
    def drives(self) -> bool:
        """Whether this process drives jobs at all."""
        return self._most_jobs != 0

    def start(self, job_id: str) -> None:
        """Begin to drive a new job, if its provider takes one more run now; otherwise it is claimed later.

        An engine was given the job by the transaction that has opened it.
        """
        if self._engine is None and self._has_place:
            self._tasks.start_soon(self._claim, job_id)

    def take_up(self, job_id: str) -> None:
        """Have a job driven on that was put back."""
        if self._engine is None:
            self.start(job_id)
        else:
            self._look_now()

    async def drive(self, job_id: str) -> Drive:
        """Claim a job that an engine gives, and wait until it is not driven here any more.

        The driver belongs to this process and not to the caller: it goes on when the caller is cancelled.
        """
        turn = _Turn()
        self._tasks.start_soon(self._take_turn, job_id, turn)
        await turn.ended.wait()
        return turn.drive

    async def request_takeover(self, job_id: str) -> float | None:
        """Have a job claimed, if no process drives it and its provider takes one more run; it may take a moment.

        Returns:
            For how many seconds it has been driven here; None when it is not, and will not be.
        """
        guard = self._guards.get(job_id)
        if guard is not None:
            return anyio.current_time() - guard.started_at
        if not self.drives or not await self._leases.can_claim(job_id):
            return None
        self._look_now()  # `run` claims it: a driver must not be a child of a request, which may be cancelled
        return 0.0

    def stop(self, job_id: str) -> None:
        """Tell the driver of a job, if it is here, that the job is to be cancelled."""
        if job_id in self._guards:
            self._guards[job_id].stop.set()
        else:
            # It may be claimed at this very moment, by a statement that ran before the cancel was written: read again.
            self._last_read = (-1, self._last_read[1])

    async def run(self) -> None:
        """Renew leases, claim jobs and read what other processes have changed, until cancelled."""
        if self._leases.database.announces_changes:
            self._tasks.start_soon(self._leases.database.listen, self)
        if self._engine is not None and self.drives:
            self._tasks.start_soon(self._engine.run, self.drive)
        listen_at = anyio.current_time()
        beat_at = look_at = review_at = listen_at if self.drives else math.inf
        while True:
            now = anyio.current_time()
            if now >= beat_at:
                beat_at = now + self._intervals.heartbeat
                await self._run_once(self._renew_leases)
            if now >= look_at:
                look_at = now + self._intervals.poll
                await self._run_once(self._look_for_jobs)
            if now >= review_at:
                review_at = now + self._intervals.poll
                self._start_review()
            if now >= listen_at or self._must_read:
                # Every job wakes this loop several times; what others write is read only once in a while.
                self._must_read = False
                listen_at = now + self._change_pause
                await self._run_once(self._read_changes)
            is_busy = bool(self._guards) or self._notifier.has_waiters
            with anyio.move_on_after(
                min(self._change_pause, self._intervals.poll) if is_busy else self._intervals.poll
            ):
                await self._change.wait()
                # One more run may be possible now, or there is a first job, whose cancel must be noticed soon.
                self._change = anyio.Event()
                if self._must_look and self.drives:
                    look_at = now

    @property
    def _change_pause(self) -> float:
        return self._intervals.announced_poll if self._is_listening else self._intervals.change_poll

    def set_listening(self, is_listening: bool, /) -> None:
        """See `ChangeAudience`: what was announced while nobody listened is read now."""
        self._is_listening = is_listening
        self._last_read = (-1, self._last_read[1])
        self._must_read = True
        self._change.set()

    def hear(self, changes: frozenset[Announcement], /) -> None:
        """See `ChangeAudience`: wake those that wait for the jobs; another process may want one of ours cancelled.

        What this process has written itself, it has passed on already.
        """
        foreign = {change.job_id for change in changes if not change.is_own}
        for job_id in foreign:
            self._notifier.notify_change(job_id)
        if not foreign.isdisjoint(self._guards):
            self._tasks.start_soon(self._run_once, self._stop_cancelled)

    def _start_review(self) -> None:
        """Review in a task of its own, because a provider may be slow to answer; never two at once."""
        if self._review is not None and not self._is_reviewing:
            self._is_reviewing = True
            self._tasks.start_soon(self._run_review, self._review)

    async def _run_review(self, review: Callable[[], Awaitable[None]]) -> None:
        try:
            await self._run_once(review)
        finally:
            self._is_reviewing = False

    async def open_jobs(self) -> Sequence[str]:
        """The ids of the jobs that have not ended and that this process could drive."""
        return await self._leases.open_jobs()

    async def idle_reason(self, job: Job) -> str | None:
        """Since when no process drives a job and why, as a sentence; None where one does, or it is too early to say."""
        return None if job.id in self._guards else await self._leases.idle_reason(job)

    async def idle_jobs(self) -> Sequence[tuple[Job, str]]:
        """The oldest jobs that no process drives, each with why, as a sentence."""
        return await self._leases.idle_jobs()

    async def release_leases(self) -> None:
        """Give every lease back, so that the next process takes over at once. Nothing may be driven any more."""
        with anyio.CancelScope(shield=True), anyio.move_on_after(self._intervals.heartbeat):
            await self._run_once(self._leases.release_all)
            if self._engine is not None:
                await self._run_once(self._refill)

    async def _run_once(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do one part of a round; a ledger that cannot be used now is only logged, for the next round tries again."""
        try:
            await work()
        except StorageFailed as error:
            _log.warning("%s %s", error.message, error.hint)

    @property
    def _has_place(self) -> bool:
        return self._most_jobs is None or len(self._guards) < self._most_jobs

    def _look_now(self) -> None:
        self._must_look = True
        self._change.set()

    async def _claim(self, job_id: str) -> None:
        begun = anyio.current_time()
        with contextlib.suppress(StorageFailed):  # it stays queued, and `run` finds it
            job = await self._leases.claim(job_id)
            if job is not None:
                self._start_claimed_job(job, begun)

    async def _take_turn(self, job_id: str, turn: "_Turn") -> None:
        begun = anyio.current_time()
        try:
            job = await self._leases.claim(job_id)
            if job is not None:
                await self._start_claimed_job(job, begun).ended.wait()
            elif await self._leases.is_left_to_others(job_id):
                turn.drive = Drive.LEFT_TO_OTHERS
            else:
                self._must_look = True  # there may have been no place for it, and the next end makes one
        except StorageFailed as error:
            _log.warning("job %s is not claimed now: %s", job_id, error.message)
            turn.drive = Drive.PUT_OFF
        finally:
            turn.ended.set()

    async def _look_for_jobs(self) -> None:
        await (self._take_over() if self._engine is None else self._refill())

    async def _refill(self) -> None:
        if self._engine is not None:
            # While nothing waits for a place, the end of a job is no reason to look again.
            self._must_look = False
            if await self._engine.refill():
                self._must_look = True

    async def _take_over(self) -> None:
        begun = anyio.current_time()
        trusted = self._can_trust_clock()
        most = MAX_CLAIMS if self._most_jobs is None else min(MAX_CLAIMS, self._most_jobs - len(self._guards))
        if most <= 0:
            return
        for job in await self._leases.claim_several(frozenset(self._guards), only_queued=not trusted, most=most):
            self._start_claimed_job(job, begun)

    def _can_trust_clock(self) -> bool:
        """Whether leases of others may be judged by the wall clock, by which they were written.

        When it was set, or the machine slept, leases look older than they are. Then every owner is given the time to
        renew before any job is taken from it.
        """
        now = time.monotonic()
        apart = self._leases.clock() - now
        if abs(apart - self._clock_difference) > self._intervals.lease - self._intervals.heartbeat:
            self._clock_trust_at = now + self._intervals.lease
        self._clock_difference = apart
        return now >= self._clock_trust_at

    def _start_claimed_job(self, job: Job, started_at: float) -> LeaseGuard:
        former = self._guards.get(job.id)
        if former is not None:
            former.cancel_scope.cancel()  # its lease had run out; under its old fence it cannot write any more
        guard = LeaseGuard(started_at + self._intervals.lease, started_at=started_at)
        if job.cancel_requested:
            guard.stop.set()
        self._guards[job.id] = guard
        self._change.set()
        self._notifier.notify_change(job.id, final=False)
        self._tasks.start_soon(self._run, job, guard)
        return guard

    async def _run(self, job: Job, lease: LeaseGuard) -> None:
        try:
            with lease.cancel_scope:
                await self._run_job(job, lease)
        except RotoscopeError as error:
            # It stays in the ledger as it is, and is claimed again when the lease has run out.
            _log.error("job %s is not driven any more: %s %s", job.id, error.code, error.message)
        finally:
            if lease.key_refused:
                self._leases.exclude_job(job.id)
            if self._guards.get(job.id) is lease:
                del self._guards[job.id]
            lease.ended.set()
            self._change.set()

    async def _renew_leases(self) -> None:
        begun, known = anyio.current_time(), dict(self._guards)
        heartbeat = await self._leases.renew(frozenset(known))
        for job_id, guard in known.items():
            if job_id not in heartbeat.job_ids:
                # Claimed by another process, or ended: either way its driver here has nothing left to do.
                guard.cancel_scope.cancel()
                continue
            # From before the statement ran: the ledger counts the lease from a moment that is later, never earlier.
            guard.safe_until = begun + self._intervals.lease
            if job_id in heartbeat.cancel_requests:
                guard.stop.set()

    async def _read_changes(self) -> None:
        """Wake those that wait for what other processes have changed, and stop what they ask to cancel."""
        version, cursor = await self._leases.database.change_counter(), self._last_read[1]
        if version == self._last_read[0] and cursor is not None:
            return
        cursor, changed = await self._leases.changes_since(cursor)
        self._last_read = (version, cursor)
        for job_id in changed:
            self._notifier.notify_change(job_id)
        if self._guards:
            await self._stop_cancelled()

    async def _stop_cancelled(self) -> None:
        for job_id in await self._leases.cancel_requests():
            self.stop(job_id)


@dataclass(slots=True)
class _Turn:
    """One job that an engine gives: what became of it, once `ended` is set."""

    ended: anyio.Event = field(default_factory=anyio.Event)
    drive: Drive = Drive.OVER
