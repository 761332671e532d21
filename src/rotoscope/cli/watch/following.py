"""Follows jobs in the ledger: reads them again when something was written, and says when all have ended."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

import anyio

from rotoscope.contracts.status import Status
from rotoscope.errors import StorageFailed, UnknownJob
from rotoscope.store.backend import Announcement
from rotoscope.store.records import Job

__all__ = ["Changes", "ChangingLedger", "JobReads", "JobView", "Watch", "follow_jobs", "have_all_ended", "read_jobs"]

_OPEN: tuple[Status, ...] = ("queued", "running")
_MOST_JOBS = 100  # of each state, the newest
_TICK_SECONDS = 1.0  # between two looks at the clock, which moves elapsed times
_AWAY_SECONDS = 30.0  # for which a ledger that cannot be read is waited for
_POLL_SECONDS, _NET_SECONDS = 0.5, 2.0  # between two looks at the counter; where the database announces writes


class JobReads(Protocol):
    """What is read of a ledger; `store.ledger_reads.LedgerReads` has it."""

    async def job(self, job_id: str, principal: str) -> Job: ...

    async def jobs(self, principal: str, states: Sequence[Status] | None, limit: int) -> Sequence[Job]: ...


class ChangingLedger(Protocol):
    """What tells of changes in a ledger; `store.database.Database` has it."""

    async def change_counter(self) -> int: ...

    @property
    def announces_changes(self) -> bool: ...


class JobView(Protocol):
    """Where the jobs are shown."""

    def show(self, jobs: Sequence[Job], now: float) -> None:
        """Show the jobs as they are at this moment."""


@dataclass(frozen=True, slots=True)
class Watch:
    """What is watched.

    Attributes:
        principal: whose jobs.
        job_ids: those that were named; empty: all that are open, with those that are opened meanwhile.
        goes_on: whether it goes on when all have ended.
    """

    principal: str
    job_ids: tuple[str, ...] = ()
    goes_on: bool = False


@dataclass(slots=True)
class Changes:
    """Waits for something to be written to a ledger. Where the database announces that, it is the audience."""

    ledger: ChangingLedger
    _counter: int | None = None
    _announced: anyio.Event = field(default_factory=anyio.Event)

    def set_listening(self, _: bool, /) -> None:
        """What changed while nobody listened must be read."""
        self._announced.set()

    def hear(self, _: frozenset[Announcement], /) -> None:
        """Some jobs have changed."""
        self._announced.set()

    async def wait(self, seconds: float) -> bool:
        """Whether something was written since the last time; it waits for that for some seconds.

        Raises:
            StorageFailed: the ledger cannot be asked.
        """
        pause = _NET_SECONDS if self.ledger.announces_changes else _POLL_SECONDS
        with anyio.move_on_after(seconds):
            while True:
                was_announced, former = self._announced.is_set(), self._counter
                if was_announced:
                    self._announced = anyio.Event()
                self._counter = await self.ledger.change_counter()
                if was_announced or self._counter != former:
                    return True
                with anyio.move_on_after(pause):
                    await self._announced.wait()
        return False


async def follow_jobs(
    watch: Watch,
    reads: JobReads,
    changes: Changes,
    view: JobView,
    clock: Callable[[], float],
    on_end: Callable[[Job], Awaitable[None]],
) -> Mapping[str, Job]:
    """Show jobs until all have ended; the jobs as they were last, by their ids.

    Args:
        watch: which ones.
        reads: of the ledger.
        changes: of the ledger.
        view: where they are shown, at each change and about once a second.
        clock: Unix seconds.
        on_end: called with each job that ends while it is watched.

    Raises:
        UnknownJob: the principal has no such job.
        StorageFailed: the ledger could not be read for half a minute.
    """
    known: dict[str, Job] = {}
    is_first, away_since = True, None
    while True:
        try:
            if await changes.wait(_TICK_SECONDS) or is_first:
                former, known = known, await read_jobs(watch, reads, known)
                for job in _just_ended(former, known):
                    await on_end(job)
                is_first = False
            away_since = None
        except StorageFailed:
            away_since = away_since or anyio.current_time()
            if anyio.current_time() - away_since > _AWAY_SECONDS or is_first:
                raise
            await anyio.sleep(_TICK_SECONDS)
        view.show(tuple(known.values()), clock())
        if have_all_ended(known) and not watch.goes_on:
            return known


def have_all_ended(known: Mapping[str, Job]) -> bool:
    """Whether no process has anything left to do for any of some jobs."""
    return all(job.is_final for job in known.values())


async def read_jobs(watch: Watch, reads: JobReads, known: Mapping[str, Job]) -> dict[str, Job]:
    """The watched jobs as they are now, the oldest first. What has ended stays; what was removed meanwhile goes.

    Raises:
        UnknownJob: a job that was named is none of the principal's.
    """
    found = {} if watch.job_ids else {job.id: job for job in await reads.jobs(watch.principal, _OPEN, _MOST_JOBS)}
    for job_id in [*watch.job_ids, *known]:
        if job_id in found:
            continue
        former = known.get(job_id)
        if former is not None and former.is_final:
            found[job_id] = former
        elif former is None:
            found[job_id] = await reads.job(job_id, watch.principal)
        else:
            with suppress(UnknownJob):
                found[job_id] = await reads.job(job_id, watch.principal)
    return dict(sorted(found.items(), key=lambda item: (item[1].created_at, item[0])))


def _just_ended(former: Mapping[str, Job], known: Mapping[str, Job]) -> Sequence[Job]:
    return [job for job in known.values() if job.is_final and job.id in former and not former[job.id].is_final]
