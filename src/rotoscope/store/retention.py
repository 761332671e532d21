"""Retention: jobs that have ended, were delivered and are old are removed, and files that no job needs.

A wall clock that jumps ahead makes everything old at once. So each check of the clock is kept in the ledger. When the
clock has gone on by more than it may have since the last check, age is counted up to that last check, for one day.
After a long absence that only delays removal by a day: what is due goes after a later check.
"""

import json
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import astuple, dataclass
from functools import partial

import anyio
import anyio.to_thread
from sqlalchemy import Connection, func, select

from rotoscope.errors import StorageFailed
from rotoscope.media.vault import Vault
from rotoscope.store.access_sweep import sweep_access
from rotoscope.store.backend import upsert
from rotoscope.store.database import Database
from rotoscope.store.questions import remove_old_questions
from rotoscope.store.records import ENDED_STATES
from rotoscope.store.removal import (
    AgeLimit,
    files_in_use,
    find_old_jobs,
    find_old_runs,
    forget_files,
    removal_batches,
    remove_files,
    remove_jobs,
    remove_runs,
)
from rotoscope.store.schema import job_events, properties
from rotoscope.store.upload_removal import (
    KEEP_UNUSED_SECONDS,
    UPLOADS_AT_ONCE,
    find_expired_uploads,
    find_unused_uploads,
    forget_upload,
    is_file_used,
    keep_upload,
    remove_expired_uploads,
)
from rotoscope.store.uploads import lock_uploads
from rotoscope.store.webhook_log import find_old_webhooks, remove_webhooks
from rotoscope.store.write_locks import ACCESS, WriteLock, name_files

__all__ = [
    "ClockCheck",
    "Retention",
    "SweepResult",
    "check_clock",
    "newest_event_at",
    "read_clock_check",
    "write_clock_check",
]

_DAY, _HOUR = 86_400.0, 3600.0  # seconds
_PROPERTY_NAME = "retention"
_READ_CHECK = select(properties.c.value).where(properties.c.name == _PROPERTY_NAME)
_NEWEST_EVENT_AT = select(job_events.c.at).where(
    job_events.c.seq == select(func.max(job_events.c.seq)).scalar_subquery()
)


@dataclass(frozen=True, slots=True)
class ClockCheck:
    """One check of the clock, in Unix seconds.

    Attributes:
        clock_time: when that was.
        safe_now: as of when what is old may be removed.
        jump_at: when the clock had jumped; None when it had not, or a day has passed since.
    """

    clock_time: float
    safe_now: float
    jump_at: float | None = None


def check_clock(last: ClockCheck | None, now: float, max_step: float) -> ClockCheck:
    """The next look.

    Args:
        last: the last one; None before the first.
        now: what the clock says.
        max_step: by how many seconds it may have gone on without a doubt.
    """
    if last is None or now < last.clock_time - _HOUR:
        return ClockCheck(now, now)  # a clock that is behind removes nothing too early
    if now - last.clock_time > max_step:
        return ClockCheck(now, last.clock_time, now)
    if last.jump_at is not None and now - last.jump_at < _DAY:
        return ClockCheck(now, last.safe_now, last.jump_at)
    return ClockCheck(now, now)


def read_clock_check(connection: Connection) -> tuple[ClockCheck | None, bool]:
    """The last look, and whether it stands in the ledger: before anybody has looked, the newest event stands for it."""
    known = connection.execute(_READ_CHECK).scalar_one_or_none()
    if known is not None:
        return ClockCheck(*json.loads(known)), True
    newest = newest_event_at(connection)
    return (None if newest is None else ClockCheck(newest, newest)), False


def write_clock_check(connection: Connection, check: ClockCheck) -> None:
    """Remember a look."""
    row = {"name": _PROPERTY_NAME, "value": json.dumps(astuple(check))}
    connection.execute(upsert(connection, properties, "value"), row)


def newest_event_at(connection: Connection) -> float | None:
    """When the newest event of the ledger was written; None for an empty one."""
    return connection.execute(_NEWEST_EVENT_AT).scalar_one_or_none()


_SWEEP_INTERVAL, _FIRST_SWEEP_AFTER = _HOUR, 30.0
_FILE_GRACE = _HOUR  # seconds in which a job that just kept a file writes that it needs it
_UNDELIVERED_FACTOR = 4
_RUN_LIFE = 90 * _DAY  # how long a provider's list may show a run
_WEBHOOK_LIFE = 7 * _DAY  # no provider sends one again after some hours, and none that is older is taken
_BRIEF_MAX_JOBS, _BRIEF_MAX_PAGES = 20, 5
_FILES_PER_READ, _FILES_PER_REMOVAL = 200, 20  # at once
_ALL_PAGES = 1_000  # of uploads
_WHOLE_VAULT = ("",)
_PARTS_OF_VAULT = tuple(f"{number:02x}" for number in range(256))  # of a store, whose files are too many for one list
_PAUSE_SECONDS = 0.01  # between two transactions, so that whoever waits gets its turn
_BEFORE_FIRST = (-1e18, "")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SweepResult:
    """How many jobs and files were removed."""

    jobs: int
    files: int


@dataclass(frozen=True, slots=True)
class Retention:
    """Removes finished jobs and the files that no job needs any more.

    A job goes when it has ended, its end was delivered, and both are longer ago than the limit. One whose end was never
    asked for goes after four times the limit. A file goes when it is older than the limit too, is no output of any job
    that is left, and no job that is left was given it; one that was uploaded and that no job took goes after a week.
    What was spent, and how long runs took, is kept; which runs were ours is kept for as long as a provider's list may
    show them.

    What it finds by itself is judged as of a moment that the clock has not jumped to just now (see `check_clock`).

    Attributes:
        seconds: the limit.
    """

    database: Database
    vault: Vault
    clock: Callable[[], float]
    seconds: float

    async def run(self) -> None:
        """Tidy at the start, for many a process lives for one call only; sweep now and then, until cancelled."""
        await self._log_storage_failure(self.sweep_briefly)
        await anyio.sleep(_FIRST_SWEEP_AFTER)
        while True:
            await self._log_storage_failure(self.sweep_when_sure)
            await anyio.sleep(_SWEEP_INTERVAL)

    async def sweep(self) -> SweepResult:
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
        return await self._sweep_as_of(now)

    async def sweep_when_sure(self) -> SweepResult:
        """Remove what is due for sure.

        Raises:
            StorageFailed: the ledger could not be written.
        """
        return await self._sweep_as_of(await self._safe_now())

    async def sweep_briefly(self) -> SweepResult:
        """Remove a little of what is due for sure: what takes no longer than a call bears.

        Raises:
            StorageFailed: the ledger could not be written.
        """
        sure = await self._safe_now()
        bound = self._age_limit(sure)
        jobs, had = await self._remove_jobs(bound, _BRIEF_MAX_JOBS)
        # The files of one folder in 256 are looked at as well: what no job ever had goes in the end.
        strays = await anyio.to_thread.run_sync(
            self.vault.hashes_older_than, self._file_cutoff(sure), f"{int(self.clock()) % 256:02x}"
        )
        files = list(dict.fromkeys([*had, *strays[:_FILES_PER_READ]]))
        removed = await self._remove_files(files, self._file_cutoff(sure))
        return SweepResult(jobs, removed + await self._remove_uploads(sure, most_pages=1))

    async def _log_storage_failure(self, work: Callable[[], Awaitable[SweepResult]]) -> None:
        try:
            await work()
        except StorageFailed as error:
            _log.warning("old jobs were not removed: %s", error.message)

    async def _safe_now(self) -> float:
        """As of when what is old may be removed without being asked."""
        now, most = self.clock(), max(_DAY, self.seconds / 2)
        last, stands = await self.database.transact(read_clock_check, writes=False)
        look = check_clock(last, now, most)
        if last is None or not stands or look.jump_at != last.jump_at or not 0 <= now - last.clock_time < _HOUR:
            await self.database.transact(lambda connection: write_clock_check(connection, look))
        return look.safe_now

    def _age_limit(self, now: float) -> AgeLimit:
        return AgeLimit(now - self.seconds, now - _UNDELIVERED_FACTOR * self.seconds)

    def _file_cutoff(self, now: float) -> float:
        return min(now - self.seconds, self.clock() - _FILE_GRACE)

    async def _sweep_as_of(self, now: float) -> SweepResult:
        jobs, _ = await self._remove_jobs(self._age_limit(now))
        files = await self._remove_uploads(now)
        for prefix in _WHOLE_VAULT if self.vault.is_local else _PARTS_OF_VAULT:
            old = await anyio.to_thread.run_sync(self.vault.hashes_older_than, self._file_cutoff(now), prefix)
            files += await self._remove_files(old, self._file_cutoff(now))
        while runs := await self.database.transact(lambda c: find_old_runs(c, now - _RUN_LIFE), writes=False):
            await self.database.transact(partial(remove_runs, found=runs))
            await anyio.sleep(_PAUSE_SECONDS)
        while old_hooks := await self.database.transact(
            lambda c: find_old_webhooks(c, now - _WEBHOOK_LIFE), writes=False
        ):
            await self.database.transact(partial(remove_webhooks, found=old_hooks))
            await anyio.sleep(_PAUSE_SECONDS)
        await self.database.transact(partial(remove_old_questions, now=now))
        await self.database.transact(partial(sweep_access, now=now), lock=ACCESS)
        return SweepResult(jobs, files)

    async def _remove_jobs(self, bound: AgeLimit, most: int | None = None) -> tuple[int, Sequence[str]]:
        """How many jobs were removed, and the files of those where only so many are wanted."""
        removed, files = 0, list[str]()
        for state in sorted(ENDED_STATES):
            after: tuple[float, str] | None = _BEFORE_FIRST
            pages = 0
            while after is not None and (most is None or (removed < most and pages < _BRIEF_MAX_PAGES)):
                pages += 1
                page = await self.database.transact(
                    partial(find_old_jobs, state=state, bound=bound, after=after), writes=False
                )
                due = page.due if most is None else page.due[: most - removed]
                for batch in removal_batches(due):
                    count, had = await self.database.transact(partial(remove_jobs, job_ids=batch, bound=bound))
                    removed += count
                    if most is not None:
                        files += had
                    await anyio.sleep(_PAUSE_SECONDS)
                after = page.last
        return removed, files

    async def _remove_files(self, files: Sequence[str], before: float) -> int:
        """Remove those of some files (hashes) that no job needs; how many there were."""
        removed = 0
        for start in range(0, len(files), _FILES_PER_READ):
            some = files[start : start + _FILES_PER_READ]
            kept = await self.database.transact(partial(files_in_use, files=some), writes=False)
            spare = [sha256 for sha256 in some if sha256 not in kept]
            for first in range(0, len(spare), _FILES_PER_REMOVAL):
                batch = spare[first : first + _FILES_PER_REMOVAL]
                removed += await self._remove_unused(batch, before)
                await anyio.sleep(_PAUSE_SECONDS)
        return removed

    async def _remove_uploads(self, now: float, most_pages: int = _ALL_PAGES) -> int:
        """Remove tickets that expired and uploads that no job took; how many files there were of these."""
        for _ in range(most_pages):
            expired = await self.database.transact(partial(find_expired_uploads, now=now), writes=False)
            if not expired:
                break
            removal = partial(remove_expired_uploads, tickets=expired, now=now)
            for part in await self.database.transact(removal, lock=lock_uploads(*expired)):
                await anyio.to_thread.run_sync(self.vault.delete, part, self.clock() + _DAY)
        removed = 0
        for _ in range(most_pages):
            unused = await self.database.transact(partial(find_unused_uploads, now=now), writes=False)
            for ticket, sha256 in unused:
                removed += await self._remove_upload(ticket, sha256, now)
                await anyio.sleep(_PAUSE_SECONDS)
            if len(unused) < UPLOADS_AT_ONCE:
                break
        return removed

    async def _remove_upload(self, ticket: str, sha256: str, now: float) -> bool:
        """Forget an old upload; its file goes too unless somebody else has it. Whether the file went.

        A job that is opened meanwhile has renewed the file before, so that the vault does not remove it.
        """
        looking = partial(is_file_used, ticket_hash=ticket, sha256=sha256)
        removed, stays = False, False
        if not await self.database.transact(looking, writes=False):
            removed = await anyio.to_thread.run_sync(self.vault.delete, sha256, now - KEEP_UNUSED_SECONDS)
            stays = not removed and await anyio.to_thread.run_sync(self.vault.address, sha256) is not None
        change = partial(keep_upload, now=now) if stays else forget_upload
        await self.database.transact(partial(change, ticket_hash=ticket), lock=lock_uploads(ticket))
        return removed

    async def _remove_unused(self, files: Sequence[str], before: float) -> int:
        """Remove a few files that no job needed just now; how many were removed.

        A disk is as quick as the ledger, so that is one transaction. A store is not, and nobody may wait for it: a job
        that is opened meanwhile had its files put or renewed before, so that the vault does not remove them.
        """
        if self.vault.is_local:
            # Only who needs these very files waits.
            lock = WriteLock(names=name_files(files))
            removal = partial(remove_files, vault=self.vault, files=files, before=before)
            return await self.database.transact(removal, lock=lock)

        def delete_old_files() -> list[str]:
            return [sha256 for sha256 in files if self.vault.delete(sha256, before)]

        gone = await anyio.to_thread.run_sync(delete_old_files)
        return await self.database.transact(partial(forget_files, files=gone)) if gone else 0
