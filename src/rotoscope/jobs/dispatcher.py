"""The dispatcher: decides when and where a job is driven. Here: in this process, under leases on a shared ledger."""

import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import anyio
import anyio.abc

from rotoscope.errors import RotoscopeError, StorageFailed
from rotoscope.jobs.notifier import JobNotifier
from rotoscope.store.leases import Leases
from rotoscope.store.records import Job
from rotoscope.store.timing import Intervals

__all__ = ["Dispatcher", "LeaseGuard"]

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class LeaseGuard:
    """What a driver holds of its job.

    Attributes:
        stop: set when the job is to be cancelled.
        safe_until: the moment (seconds of the monotonic clock) at which the lease has surely not run out yet.
        cancel_scope: ends the driver when the job is no longer this process's.
        key_refused: set by the driver when the provider did not accept our key: the job is left to others for a while.
    """

    safe_until: float
    stop: anyio.Event = field(default_factory=anyio.Event)
    cancel_scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    started_at: float = 0.0
    key_refused: bool = False

    @property
    def is_held(self) -> bool:
        """Whether the lease has surely not run out: a process that was stopped for a while must ask before it pays."""
        return anyio.current_time() < self.safe_until


RunJob = Callable[[Job, LeaseGuard], Awaitable[None]]


class Dispatcher:
    """Drives jobs in a task group that outlives every request, and takes over those that nobody drives.

    Args:
        tasks: the task group; it belongs to the process, so a client that goes away stops nothing.
        run_job: drives a claimed job to its end.
        leases: which jobs are this process's.
        notifier: is told of what other processes change.
        intervals: how often to look.
        review: looks for what became of jobs that nobody drives because a person must decide.
    """

    def __init__(
        self,
        tasks: anyio.abc.TaskGroup,
        run_job: RunJob,
        leases: Leases,
        notifier: JobNotifier,
        intervals: Intervals,
        review: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._tasks = tasks
        self._run_job = run_job
        self._leases = leases
        self._notifier = notifier
        self._intervals = intervals
        self._review = review
        self._is_reviewing = False
        self._guards: dict[str, LeaseGuard] = {}
        self._change = anyio.Event()  # a job was taken, or has ended
        self._last_read = (-1, -1)  # what the database's version was, and the last event that was read
        self._clock_difference: float | None = None  # how far the wall clock is from the monotonic one
        self._clock_trust_at = 0.0

    def start(self, job_id: str) -> None:
        """Begin to drive a new job, if its provider has room; otherwise its turn comes."""
        self._tasks.start_soon(self._claim, job_id)

    async def request_takeover(self, job_id: str) -> float | None:
        """Take a job over, if nobody drives it and its provider has room; it may take a moment.

        Returns:
            For how many seconds it has been driven here; None when it is not, and will not be.
        """
        grip = self._guards.get(job_id)
        if grip is not None:
            return anyio.current_time() - grip.started_at
        if not await self._leases.can_claim(job_id):
            return None
        self._change.set()  # `run` takes it: what is claimed must not hang on a request that may go away
        return 0.0

    def stop(self, job_id: str) -> None:
        """Tell the driver of a job, if it is here, that the job is to be cancelled."""
        if job_id in self._guards:
            self._guards[job_id].stop.set()
        else:
            # It may be on its way here at this very moment: its claim was written before the wish, and read before it.
            self._last_read = (-1, self._last_read[1])

    async def run(self) -> None:
        """Beat, look and listen, until cancelled."""
        beat_at = look_at = listen_at = review_at = anyio.current_time()
        while True:
            now = anyio.current_time()
            if now >= beat_at:
                beat_at = now + self._intervals.heartbeat
                await self._run_once(self._renew_leases)
            if now >= look_at:
                look_at = now + self._intervals.poll
                await self._run_once(self._take_over)
            if now >= review_at:
                review_at = now + self._intervals.poll
                self._start_review()
            if now >= listen_at:
                # Every job stirs this loop several times: what others write is worth a question only now and then.
                listen_at = now + self._intervals.change_poll
                await self._run_once(self._read_changes)
            with anyio.move_on_after(
                self._intervals.change_poll if self._guards or self._notifier.has_waiters else self._intervals.poll
            ):
                await self._change.wait()
                # Room for another one, or a first job, for which cancels must be listened for at another pace.
                self._change, look_at = anyio.Event(), now

    def _start_review(self) -> None:
        """Beside everything else: a look asks a provider, which may take its time."""
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
        """Since when nobody drives a job and why; None where somebody does, or it is too early to say."""
        return None if job.id in self._guards else await self._leases.idle_reason(job)

    async def idle_jobs(self) -> Sequence[tuple[Job, str]]:
        """The oldest jobs that nobody drives, each with why."""
        return await self._leases.idle_jobs()

    async def release_leases(self) -> None:
        """Give every lease back, so that the next process takes over at once. Nothing may be driven any more."""
        with anyio.CancelScope(shield=True), anyio.move_on_after(self._intervals.heartbeat):
            await self._run_once(self._leases.release_all)

    async def _run_once(self, work: Callable[[], Awaitable[None]]) -> None:
        """A ledger that cannot be used for a moment ends nothing: the next round tries again."""
        try:
            await work()
        except StorageFailed as error:
            _log.warning("%s %s", error.message, error.hint)

    async def _claim(self, job_id: str) -> None:
        begun = anyio.current_time()
        with contextlib.suppress(StorageFailed):  # it stays queued, and `run` finds it
            job = await self._leases.claim(job_id)
            if job is not None:
                self._start_claimed_job(job, begun)

    async def _take_over(self) -> None:
        begun = anyio.current_time()
        trusted = self._can_trust_clock(begun)
        for job in await self._leases.claim_several(frozenset(self._guards), only_queued=not trusted):
            self._start_claimed_job(job, begun)

    def _can_trust_clock(self, now: float) -> bool:
        """Leases are written by the wall clock. When it was set, or the machine slept, every owner may beat first."""
        apart = self._leases.clock() - now
        if (
            self._clock_difference is not None
            and abs(apart - self._clock_difference) > self._intervals.lease - self._intervals.heartbeat
        ):
            self._clock_trust_at = now + self._intervals.lease
        self._clock_difference = apart
        return now >= self._clock_trust_at

    def _start_claimed_job(self, job: Job, started_at: float) -> None:
        former = self._guards.get(job.id)
        if former is not None:
            former.cancel_scope.cancel()  # the lease had run out under it; its fence is an old one now
        grip = LeaseGuard(started_at + self._intervals.lease, started_at=started_at)
        if job.cancel_requested:
            grip.stop.set()
        self._guards[job.id] = grip
        self._change.set()
        self._notifier.notify_change(job.id, final=False)
        self._tasks.start_soon(self._run, job, grip)

    async def _run(self, job: Job, lease: LeaseGuard) -> None:
        try:
            with lease.cancel_scope:
                await self._run_job(job, lease)
        except RotoscopeError as error:
            # It stays in the ledger as it is, and is taken up again when the lease has run out.
            _log.error("job %s is not driven any more: %s %s", job.id, error.code, error.message)
        finally:
            if lease.key_refused:
                self._leases.exclude_job(job.id)
            if self._guards.get(job.id) is lease:
                del self._guards[job.id]
            self._change.set()

    async def _renew_leases(self) -> None:
        begun, known = anyio.current_time(), dict(self._guards)
        heard = await self._leases.renew(frozenset(known))
        for job_id, grip in known.items():
            if job_id not in heard.job_ids:
                # Taken over, or ended: either way its driver here has nothing left to do.
                grip.cancel_scope.cancel()
                continue
            grip.safe_until = begun + self._intervals.lease
            if job_id in heard.cancel_requests:
                grip.stop.set()

    async def _read_changes(self) -> None:
        """Hear what other processes have changed, and what they ask to cancel."""
        version, seq = await self._leases.database.change_counter(), self._last_read[1]
        if version == self._last_read[0] and seq >= 0:
            return
        seq, changed = await self._leases.changes_since(seq)
        self._last_read = (version, seq)
        for job_id in changed:
            self._notifier.notify_change(job_id)
        if self._guards:
            for job_id in await self._leases.cancel_requests():
                self.stop(job_id)
