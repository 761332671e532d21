"""What a server that others reach needs of the studio beside calls: its files, whether it is well, and its end."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio.to_thread

from rotoscope.media.vault import enter_in_thread
from rotoscope.store.load import OpenJobs
from rotoscope.store.money import start_of_day
from rotoscope.store.reservations import DailySpend
from rotoscope.studio.studio import Studio

__all__ = ["Load", "check_storage", "end_waits", "open_file", "read_load"]


@dataclass(frozen=True, slots=True)
class Load:
    """What the ledger says of all principals together: jobs that have not ended, and today's money (UTC)."""

    jobs: Sequence[OpenJobs]
    spending: Sequence[DailySpend]


async def read_load(studio: Studio) -> Load:
    """Read it now.

    Raises:
        StorageFailed: the ledger does not answer.
    """
    ledger = studio.context.ledger
    today = start_of_day(studio.context.clock())
    return Load(await ledger.open_jobs_of_all_principals(), await ledger.spending_of_all_principals(today))


@asynccontextmanager
async def open_file(studio: Studio, sha256: str) -> AsyncIterator[Path | None]:
    """A local path of a stored file for the time of the block, for whoever has its signed address; None: not here."""
    async with enter_in_thread(studio.context.vault.open(sha256)) as path:
        yield path


async def check_storage(studio: Studio) -> None:
    """Ask the ledger and the vault for something small.

    Raises:
        StorageFailed: one of them does not answer.
    """
    await studio.context.ledger.jobs("", None, 1)
    await anyio.to_thread.run_sync(studio.context.vault.read_id)


def end_waits(studio: Studio) -> None:
    """Let every call that waits for a job go on with the job as it is: the process is ending."""
    studio.context.notifier.end_waits()
