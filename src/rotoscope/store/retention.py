"""May what is old by the wall clock be removed? A clock that jumps makes everything old at once, so it is slept over.

Every look is remembered in the ledger. Where the clock has gone on by more than it may have since the last one, what is
old is judged as of that last one, for a day. Who was away for long loses nothing by that either: what is due is
removed a look later. Pure but for the row that it keeps.

Retention: what has ended, was told and is old goes; what somebody still has to hear of, or a job needs, stays.
"""

import json
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import astuple, dataclass
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread
from sqlalchemy import Connection, func, select
from sqlalchemy.dialects.sqlite import insert as insert_or_merge

from rotoscope.errors import StorageFailed
from rotoscope.media.vault import Vault
from rotoscope.store.database import Database
from rotoscope.store.records import ENDED
from rotoscope.store.removal import (
    Bound,
    find_old_jobs,
    find_old_runs,
    in_batches,
    needed,
    remove_files,
    remove_jobs,
    remove_runs,
)
from rotoscope.store.schema import job_events, properties

__all__ = ["Look", "Retention", "Swept", "look_again", "newest_event_at", "read_look", "write_look"]

_DAY, _HOUR = 86_400.0, 3600.0  # seconds
_NAME = "retention"
_LOOK = select(properties.c.value).where(properties.c.name == _NAME)
_INSERT = insert_or_merge(properties)
_REMEMBER = _INSERT.on_conflict_do_update(index_elements=["name"], set_={"value": _INSERT.excluded.value})
_NEWEST = select(job_events.c.at).where(job_events.c.seq == select(func.max(job_events.c.seq)).scalar_subquery())


@dataclass(frozen=True, slots=True)
class Look:
    """What is known of the clock since somebody looked, in Unix seconds.

    Attributes:
        seen: when that was.
        sure: as of when what is old may be removed.
        doubted: when the clock had jumped; None when it had not, or a day has passed since.
    """

    seen: float
    sure: float
    doubted: float | None = None


def look_again(last: Look | None, now: float, most: float) -> Look:
    """The next look.

    Args:
        last: the last one; None where nobody has looked yet.
        now: what the clock says.
        most: by how many seconds it may have gone on without a doubt.
    """
    if last is None or now < last.seen - _HOUR:
        return Look(now, now)  # a clock that is behind removes nothing too early
    if now - last.seen > most:
        return Look(now, last.seen, now)
    if last.doubted is not None and now - last.doubted < _DAY:
        return Look(now, last.sure, last.doubted)
    return Look(now, now)


def read_look(connection: Connection) -> tuple[Look | None, bool]:
    """The last look, and whether it stands in the ledger: before anybody has looked, the newest event stands for it."""
    known = connection.execute(_LOOK).scalar_one_or_none()
    if known is not None:
        return Look(*json.loads(known)), True
    newest = newest_event_at(connection)
    return (None if newest is None else Look(newest, newest)), False


def write_look(connection: Connection, look: Look) -> None:
    """Remember a look."""
    connection.execute(_REMEMBER, {"name": _NAME, "value": json.dumps(astuple(look))})


def newest_event_at(connection: Connection) -> float | None:
    """When the newest event of the ledger was written; None for an empty one."""
    return connection.execute(_NEWEST).scalar_one_or_none()


_EVERY_SECONDS, _AFTER_START_SECONDS = _HOUR, 30.0
_CLAIMED_WITHIN = _HOUR  # seconds in which a job that just kept a file writes that it needs it
_UNTOLD_TIMES = 4
_RUNS_SECONDS = 90 * _DAY  # how long a provider's list may show a run
_FEW_JOBS, _FEW_PAGES = 20, 5
_FILES_READ, _FILES_REMOVED = 200, 20  # at once
_PAUSE_SECONDS = 0.01  # between two transactions, so that whoever waits gets its turn
_FIRST = (-1e18, 0)
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Swept:
    """How many jobs and files were removed."""

    jobs: int
    files: int


@dataclass(frozen=True, slots=True)
class Retention:
    """Removes finished jobs and the files that no job needs any more.

    A job goes when it has ended, its end was told, and both are longer ago than the limit. One whose end nobody ever
    asked for goes after four times the limit. A file goes when it is older than the limit too, is no output of any job
    that is left, and no job that is left was given it. What was spent, and how long runs took, is kept; which runs were
    ours is kept for as long as a provider's list may show them.

    What it finds by itself is judged as of a moment that the clock has not jumped to just now (`jobs.second_look`).

    Attributes:
        seconds: the limit.
    """

    database: Database
    vault: Vault
    clock: Callable[[], float]
    seconds: float

    async def run(self) -> None:
        """Tidy at the start, for many a process lives for one call only; sweep now and then, until cancelled."""
        await self._tried(self.tidy)
        await anyio.sleep(_AFTER_START_SECONDS)
        while True:
            await self._tried(self.tend)
            await anyio.sleep(_EVERY_SECONDS)

    async def sweep(self) -> Swept:
        """Remove what is due by the clock, because a person wants it now.

        Raises:
            StorageFailed: the ledger could not be written, or the clock cannot be right.
        """
        now = self.clock()
        newest = await self.database.transact(newest_event_at, writes=False)
        if newest is not None and now - newest > max(2 * self.seconds, _DAY):
            days = (now - newest) / _DAY
            raise StorageFailed(
                f"Nothing has happened in the ledger for {days:.0f} days, or the clock is wrong; nothing was removed.",
                hint="Check the clock. If it is right, what is old goes by itself on a later day of use.",
            )
        return await self._swept(now)

    async def tend(self) -> Swept:
        """Remove what is due for sure.

        Raises:
            StorageFailed: the ledger could not be written.
        """
        return await self._swept(await self._sure())

    async def tidy(self) -> Swept:
        """Remove a little of what is due for sure: what takes no longer than a call bears.

        Raises:
            StorageFailed: the ledger could not be written.
        """
        sure = await self._sure()
        bound = self._bound(sure)
        jobs, had = await self._remove_jobs(bound, _FEW_JOBS)
        found = [self.vault.find(sha256) for sha256 in had]
        # The files of one folder in 256 are looked at as well: what no job ever had goes in the end.
        strays = await anyio.to_thread.run_sync(
            self.vault.older_than, self._unclaimed(sure), f"{int(self.clock()) % 256:02x}"
        )
        paths = dict.fromkeys([*(path for path in found if path is not None), *strays[:_FILES_READ]])
        return Swept(jobs, await self._remove_files(list(paths), self._unclaimed(sure)))

    async def _tried(self, work: Callable[[], Awaitable[Swept]]) -> None:
        try:
            await work()
        except StorageFailed as error:
            _log.warning("old jobs were not removed: %s", error.message)

    async def _sure(self) -> float:
        """As of when what is old may be removed without being asked."""
        now, most = self.clock(), max(_DAY, self.seconds / 2)
        last, stands = await self.database.transact(read_look, writes=False)
        look = look_again(last, now, most)
        if last is None or not stands or look.doubted != last.doubted or not 0 <= now - last.seen < _HOUR:
            await self.database.transact(lambda connection: write_look(connection, look))
        return look.sure

    def _bound(self, now: float) -> Bound:
        return Bound(now - self.seconds, now - _UNTOLD_TIMES * self.seconds)

    def _unclaimed(self, now: float) -> float:
        return min(now - self.seconds, self.clock() - _CLAIMED_WITHIN)

    async def _swept(self, now: float) -> Swept:
        jobs, _ = await self._remove_jobs(self._bound(now))
        paths = await anyio.to_thread.run_sync(self.vault.older_than, self._unclaimed(now))
        files = await self._remove_files(paths, self._unclaimed(now))
        while runs := await self.database.transact(lambda c: find_old_runs(c, now - _RUNS_SECONDS), writes=False):
            await self.database.transact(partial(remove_runs, found=runs))
            await anyio.sleep(_PAUSE_SECONDS)
        return Swept(jobs, files)

    async def _remove_jobs(self, bound: Bound, most: int | None = None) -> tuple[int, Sequence[str]]:
        """How many jobs were removed, and the files of those where only so many are wanted."""
        removed, files = 0, list[str]()
        for state in sorted(ENDED):
            after: tuple[float, int] | None = _FIRST
            pages = 0
            while after is not None and (most is None or (removed < most and pages < _FEW_PAGES)):
                pages += 1
                page = await self.database.transact(
                    partial(find_old_jobs, state=state, bound=bound, after=after), writes=False
                )
                due = page.due if most is None else page.due[: most - removed]
                for batch in in_batches(due):
                    count, had = await self.database.transact(partial(remove_jobs, job_ids=batch, bound=bound))
                    removed += count
                    if most is not None:
                        files += had
                    await anyio.sleep(_PAUSE_SECONDS)
                after = page.last
        return removed, files

    async def _remove_files(self, paths: Sequence[Path], before: float) -> int:
        removed = 0
        for start in range(0, len(paths), _FILES_READ):
            some = paths[start : start + _FILES_READ]
            names = [path.name.partition(".")[0] for path in some]
            kept = await self.database.transact(partial(needed, files=names), writes=False)
            spare = [path for path, name in zip(some, names, strict=True) if name not in kept]
            for first in range(0, len(spare), _FILES_REMOVED):
                batch = spare[first : first + _FILES_REMOVED]
                removed += await self.database.transact(
                    partial(remove_files, vault=self.vault, paths=batch, before=before)
                )
                await anyio.sleep(_PAUSE_SECONDS)
        return removed
