"""The ledger for those who only read it: without a studio, so that nothing is driven and nothing delivered."""

import time
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from rotoscope.composition.parts import make_private_folder
from rotoscope.settings import Settings

if TYPE_CHECKING:
    from rotoscope.store.database import Database
    from rotoscope.store.ledger_reads import LedgerReads

__all__ = ["open_ledger_reads"]


def open_ledger_reads(settings: Settings, closing: AsyncExitStack) -> "tuple[LedgerReads, Database]":
    """The reads of the ledger, and the database that tells when it changes.

    Args:
        settings: where it is.
        closing: gets what must be closed at the end.

    Raises:
        InvalidInput: others may write in the home folder.
        StorageFailed: the folder cannot be made, or no such database can keep a ledger.
    """
    from rotoscope.store.database import Database
    from rotoscope.store.ledger_reads import LedgerReads

    make_private_folder(settings.home)
    database = Database(settings.database)  # without its vault: no job is written through it
    closing.push_async_callback(database.aclose)
    return LedgerReads(database, time.time), database
