"""The dispatcher: decides when and where a job is driven. Here: in this process, under leases on a shared ledger."""

import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import anyio
import anyio.abc

from rotoscope.errors import RotoscopeError, StorageFailed
from rotoscope.jobs.notifier import Feed
from rotoscope.store.leases import Leases
from rotoscope.store.records import Job
from rotoscope.store.timing import Tempo

__all__ = ["Dispatcher", "Grip"]

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Grip:
    """What a driver holds of its job.

    Attributes:
        stop: set when the job is to be cancelled.
        until: the moment (seconds of the monotonic clock) at which the lease has surely not run out yet.
        scope: ends the driver when the job is no longer this process's.
        refused: set by the driver when the provider did not accept our key: the job is left to others for a while.
    """

    until: float
    stop: anyio.Event = field(default_factory=anyio.Event)
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    begun: float = 0.0
    refused: bool = False

    @property
    def holds(self) -> bool:
        """Whether the lease has surely not run out: a process that was stopped for a while must ask before it pays."""
        return anyio.current_time() < self.until


Drive = Callable[[Job, Grip], Awaitable[None]]


class Dispatcher:
    """Drives jobs in a task group that outlives every request, and takes over those that nobody drives.

    Args:
        tasks: the task group; it belongs to the process, so a client that goes away stops nothing.
        drive: drives a claimed job to its end.
        leases: which jobs are this process's.
        feed: is told of what other processes change.
        tempo: how often to look.
        review: looks for what became of jobs that nobody drives because a person must decide.
    """

    def __init__(
        self,
        tasks: anyio.abc.TaskGroup,
        drive: Drive,
        leases: Leases,
        feed: Feed,
        tempo: Tempo,
        review: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._tasks = tasks
        self._drive = drive
        self._leases = leases
        self._feed = feed
        self._tempo = tempo
        self._review = review
        self._reviewing = False
        self._grips: dict[str, Grip] = {}
        self._stirred = anyio.Event()  # a job was taken, or has ended
        self._heard = (-1, -1)  # what the database's version was, and the last event that was read
        self._apart: float | None = None  # how far the wall clock is from the monotonic one
        self._trust_at = 0.0

    def start(self, job_id: str) -> None:
        """Begin to drive a new job, if its provider has room; otherwise its turn comes."""
        self._tasks.start_soon(self._claim, job_id)

    async def comes_to_drive(self, job_id: str) -> float | None:
        """Take a job over, if nobody drives it and its provider has room; it may take a moment.

        Returns:
            For how many seconds it has been driven here; None when it is not, and will not be.
        """
        grip = self._grips.get(job_id)
        if grip is not None:
            return anyio.current_time() - grip.begun
        if not await self._leases.is_free(job_id):
            return None
        self._stirred.set()  # `run` takes it: what is claimed must not hang on a request that may go away
        return 0.0

    def stop(self, job_id: str) -> None:
        """Tell the driver of a job, if it is here, that the job is to be cancelled."""
        if job_id in self._grips:
            self._grips[job_id].stop.set()
        else:
            # It may be on its way here at this very moment: its claim was written before the wish, and read before it.
            self._heard = (-1, self._heard[1])

    async def run(self) -> None:
        """Beat, look and listen, until cancelled."""
        beat_at = look_at = listen_at = review_at = anyio.current_time()
        while True:
            now = anyio.current_time()
            if now >= beat_at:
                beat_at = now + self._tempo.beat
                await self._tried(self._beat)
            if now >= look_at:
                look_at = now + self._tempo.look
                await self._tried(self._take_over)
            if now >= review_at:
                review_at = now + self._tempo.look
                self._look_at_reviews()
            if now >= listen_at:
                # Every job stirs this loop several times: what others write is worth a question only now and then.
                listen_at = now + self._tempo.glance
                await self._tried(self._listen)
            with anyio.move_on_after(self._tempo.glance if self._grips or self._feed.waited_for else self._tempo.look):
                await self._stirred.wait()
                # Room for another one, or a first job, for which cancels must be listened for at another pace.
                self._stirred, look_at = anyio.Event(), now

    def _look_at_reviews(self) -> None:
        """Beside everything else: a look asks a provider, which may take its time."""
        if self._review is not None and not self._reviewing:
            self._reviewing = True
            self._tasks.start_soon(self._reviewed, self._review)

    async def _reviewed(self, review: Callable[[], Awaitable[None]]) -> None:
        try:
            await self._tried(review)
        finally:
            self._reviewing = False

    async def open_jobs(self) -> Sequence[str]:
        """The ids of the jobs that have not ended and that this process could drive."""
        return await self._leases.open_jobs()

    async def why_idle(self, job: Job) -> str | None:
        """Since when nobody drives a job and why; None where somebody does, or it is too early to say."""
        return None if job.id in self._grips else await self._leases.why_idle(job)

    async def left_open(self) -> Sequence[tuple[Job, str]]:
        """The oldest jobs that nobody drives, each with why."""
        return await self._leases.left_open()

    async def give_back(self) -> None:
        """Give every lease back, so that the next process takes over at once. Nothing may be driven any more."""
        with anyio.CancelScope(shield=True), anyio.move_on_after(self._tempo.beat):
            await self._tried(self._leases.give_back)

    async def _tried(self, work: Callable[[], Awaitable[None]]) -> None:
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
                self._take(job, begun)

    async def _take_over(self) -> None:
        begun = anyio.current_time()
        trusted = self._trusts_the_clock(begun)
        for job in await self._leases.claim_some(frozenset(self._grips), only_queued=not trusted):
            self._take(job, begun)

    def _trusts_the_clock(self, now: float) -> bool:
        """Leases are written by the wall clock. When it was set, or the machine slept, every owner may beat first."""
        apart = self._leases.clock() - now
        if self._apart is not None and abs(apart - self._apart) > self._tempo.lease - self._tempo.beat:
            self._trust_at = now + self._tempo.lease
        self._apart = apart
        return now >= self._trust_at

    def _take(self, job: Job, begun: float) -> None:
        former = self._grips.get(job.id)
        if former is not None:
            former.scope.cancel()  # the lease had run out under it; its fence is an old one now
        grip = Grip(begun + self._tempo.lease, begun=begun)
        if job.cancel_requested:
            grip.stop.set()
        self._grips[job.id] = grip
        self._stirred.set()
        self._feed.changed(job.id, final=False)
        self._tasks.start_soon(self._run, job, grip)

    async def _run(self, job: Job, grip: Grip) -> None:
        try:
            with grip.scope:
                await self._drive(job, grip)
        except RotoscopeError as error:
            # It stays in the ledger as it is, and is taken up again when the lease has run out.
            _log.error("job %s is not driven any more: %s %s", job.id, error.code, error.message)
        finally:
            if grip.refused:
                self._leases.refuse(job.id)
            if self._grips.get(job.id) is grip:
                del self._grips[job.id]
            self._stirred.set()

    async def _beat(self) -> None:
        begun, known = anyio.current_time(), dict(self._grips)
        heard = await self._leases.beat(frozenset(known))
        for job_id, grip in known.items():
            if job_id not in heard.held:
                # Taken over, or ended: either way its driver here has nothing left to do.
                grip.scope.cancel()
                continue
            grip.until = begun + self._tempo.lease
            if job_id in heard.cancels:
                grip.stop.set()

    async def _listen(self) -> None:
        """Hear what other processes have changed, and what they ask to cancel."""
        version, seq = await self._leases.database.version(), self._heard[1]
        if version == self._heard[0] and seq >= 0:
            return
        seq, changed = await self._leases.changed_since(seq)
        self._heard = (version, seq)
        for job_id in changed:
            self._feed.changed(job_id)
        if self._grips:
            for job_id in await self._leases.cancels():
                self.stop(job_id)
