"""Hears which jobs change, where the database announces that by itself; begins again when the connection is lost."""

import logging
from collections.abc import Callable
from typing import Protocol

import anyio
import anyio.to_thread

from rotoscope.store.backend import Announcement, ChangeListener

__all__ = ["ChangeAudience", "listen_for_changes"]

_PAUSES = (0.1, 0.5, 1.0, 2.0)  # seconds before the next try to connect; the last one is repeated
_log = logging.getLogger(__name__)


class ChangeAudience(Protocol):
    """Who wants to know of changes. Neither method may wait or raise."""

    def set_listening(self, is_listening: bool, /) -> None:
        """From now on every change is passed on, or none is. What changed before that must be read."""

    def hear(self, changes: frozenset[Announcement], /) -> None:
        """Some jobs have changed."""


async def listen_for_changes(
    connect: Callable[[], ChangeListener], failures: tuple[type[Exception], ...], audience: ChangeAudience
) -> None:
    """Listen until cancelled.

    Args:
        connect: begins to listen; it may block.
        failures: what it and the reading of announcements may raise when the database is away.
        audience: who wants to know.
    """
    tries = 0
    while True:
        try:
            listener = await anyio.to_thread.run_sync(connect)
        except failures as error:
            _log.debug("the changes of the ledger cannot be listened for: %s", error)
            await anyio.sleep(_PAUSES[min(tries, len(_PAUSES) - 1)])
            tries += 1
            continue
        tries = 0
        audience.set_listening(True)
        try:
            await _pass_on(listener, audience)
        except failures as error:
            _log.info("the connection that hears of the ledger's changes was lost, and is made again: %s", error)
        finally:
            audience.set_listening(False)
            listener.close()


async def _pass_on(listener: ChangeListener, audience: ChangeAudience) -> None:
    while True:
        changes = listener.read()
        if changes:
            audience.hear(changes)
        await anyio.wait_readable(listener.fileno())
