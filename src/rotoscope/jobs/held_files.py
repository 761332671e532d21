"""Files that are held on this machine until an object store takes them are brought there by any process that lives."""

import logging

import anyio
import anyio.to_thread

from rotoscope.errors import StorageFailed
from rotoscope.jobs.context import JobContext

__all__ = ["put_held_files"]

_log = logging.getLogger(__name__)


async def put_held_files(context: JobContext) -> None:
    """Look for held files now and then, also for those of a process that has died, until cancelled."""
    if context.vault.is_local:
        return
    pause, left = context.intervals.held_look, 0
    while True:
        before = left
        try:
            left = await anyio.to_thread.run_sync(context.vault.put_all_held)
        except StorageFailed as error:
            _log.warning("files that are held here could not be put: %s", error.message)
        if left and not before:
            _log.warning("files that wait on this host until the object store takes them: %d", left)
        await anyio.sleep(pause)
