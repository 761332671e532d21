"""Quotes: prices that were shown before anything was spent, so that the same request may follow from any process.

Some clients start a new server process at each call: what only one process knows, they could never refer to.
"""

from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, delete, select

from rotoscope.store.backend import upsert
from rotoscope.store.database import QUICK_SECONDS, Database
from rotoscope.store.money import usd_to_millionths
from rotoscope.store.schema import quotes
from rotoscope.store.write_locks import WriteLock

__all__ = ["Quotes"]

_LOCK = WriteLock(names=frozenset({"quotes"}))


@dataclass(frozen=True, slots=True)
class Quotes:
    """The quotes that hold.

    Attributes:
        database: where they are kept.
        clock: the time in Unix seconds.
        seconds: how long a quote holds.
    """

    database: Database
    clock: Callable[[], float]
    seconds: float

    async def record_quote(self, principal: str, key: str, usd: float) -> None:
        """Remember that the price of a request was shown to a principal.

        Args:
            principal: to whom.
            key: equal for equal requests.
            usd: the price in US dollars.

        Raises:
            StorageFailed: it cannot be remembered.
        """
        now = self.clock()

        def write(connection: Connection) -> None:
            connection.execute(delete(quotes).where(quotes.c.at < now - self.seconds))
            connection.execute(
                upsert(connection, quotes, "price", "at"),
                {"key": _row_key(principal, key), "price": usd_to_millionths(usd), "at": now},
            )

        await self.database.transact(write, max_wait_seconds=QUICK_SECONDS, lock=_LOCK)

    async def has_valid_quote(self, principal: str, key: str, usd: float) -> bool:
        """Whether a principal was shown the price of a request lately, and it was no lower than now; the quote stays.

        Raises:
            StorageFailed: the ledger could not be read.
        """
        query = select(quotes.c.key).where(*self._valid_quote_terms(principal, key, usd))
        return await self.database.transact(lambda c: c.execute(query).first() is not None, writes=False)

    async def consume_quote(self, principal: str, key: str, usd: float) -> bool:
        """Whether a principal was shown the price of a request lately, and it was no lower than now; covers one run.

        Raises:
            StorageFailed: the ledger could not be written.
        """
        covering = self._valid_quote_terms(principal, key, usd)

        def write(connection: Connection) -> bool:
            return connection.execute(delete(quotes).where(*covering)).rowcount > 0

        return await self.database.transact(write, max_wait_seconds=QUICK_SECONDS, lock=_LOCK)

    def _valid_quote_terms(self, principal: str, key: str, usd: float) -> tuple[ColumnElement[bool], ...]:
        recent = quotes.c.at >= self.clock() - self.seconds
        return (quotes.c.key == _row_key(principal, key), recent, quotes.c.price >= usd_to_millionths(usd))


def _row_key(principal: str, key: str) -> str:
    """The key of a row: one principal's quote is none of another's, not even to be overwritten."""
    return f"{principal} {key}"
