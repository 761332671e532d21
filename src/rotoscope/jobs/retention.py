"""Retention: what has ended, was told and is old goes; what somebody still has to hear of, or a job needs, stays."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import anyio
import anyio.to_thread
from sqlalchemy import Connection, String, cast, delete, func, select

from rotoscope.errors import StorageFailed
from rotoscope.jobs.database import Database
from rotoscope.jobs.job import ENDED
from rotoscope.jobs.tables import artifacts, job_events, jobs, outputs, submissions
from rotoscope.media.vault import Vault

__all__ = ["Retention", "Swept"]

_EVERY_SECONDS = 3600.0
_AFTER_START_SECONDS = 30.0
_CLAIMED_WITHIN = 3600.0  # seconds in which a job that just kept a file writes that it needs it
_BATCH = 200  # jobs in one transaction: it must stay short
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Swept:
    """How many jobs and files were removed."""

    jobs: int
    files: int


@dataclass(frozen=True, slots=True)
class Retention:
    """Removes finished jobs and the files that no job needs any more.

    A job goes when it has ended, its end was told, and both are longer ago than the limit. A file goes when it is
    older than the limit too, is no output of any job that is left, and no job that is left was given it. What was
    spent, and how long runs took, is kept.

    Attributes:
        seconds: the limit.
    """

    database: Database
    vault: Vault
    clock: Callable[[], float]
    seconds: float

    async def run(self) -> None:
        """Sweep now and then, until cancelled."""
        await anyio.sleep(_AFTER_START_SECONDS)
        while True:
            try:
                await self.sweep()
            except StorageFailed as error:
                _log.warning("old jobs were not removed: %s", error.message)
            await anyio.sleep(_EVERY_SECONDS)

    async def sweep(self) -> Swept:
        """Remove what is due.

        Raises:
            StorageFailed: the ledger could not be written.
        """
        before, removed = self.clock() - self.seconds, 0
        while count := await self.database.transact(lambda connection: _remove_jobs(connection, before)):
            removed += count
        files = 0
        unclaimed = min(before, self.clock() - _CLAIMED_WITHIN)
        for path in await anyio.to_thread.run_sync(self.vault.older_than, unclaimed):
            if not await self._is_needed(path):
                files += await anyio.to_thread.run_sync(self.vault.remove, path, unclaimed)
        return Swept(removed, files)

    async def _is_needed(self, path: Path) -> bool:
        sha256 = path.name.partition(".")[0]
        is_output = select(outputs.c.sha256).where(outputs.c.sha256 == sha256).exists()
        was_given = select(jobs.c.id).where(func.instr(cast(jobs.c.data, String), sha256) > 0).exists()

        def read(connection: Connection) -> bool:
            needed = connection.execute(select(is_output | was_given)).scalar_one()
            if not needed:
                connection.execute(delete(artifacts).where(artifacts.c.sha256 == sha256))
            return bool(needed)

        return await self.database.transact(read)


def _remove_jobs(connection: Connection, before: float) -> int:
    due = (jobs.c.state.in_(ENDED), jobs.c.finished_at < before, jobs.c.delivered_at < before)
    gone = list(connection.execute(select(jobs.c.id).where(*due).limit(_BATCH)).scalars())
    for table in (outputs, job_events, submissions):
        connection.execute(delete(table).where(table.c.job_id.in_(gone)))
    connection.execute(delete(jobs).where(jobs.c.id.in_(gone)))
    return len(gone)
