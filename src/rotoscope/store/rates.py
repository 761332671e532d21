"""How often something is tried: counters over a window of time, shared by all servers."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, delete, func, select, update

from rotoscope.store.access_schema import rate_counters
from rotoscope.store.backend import insert_or_ignore
from rotoscope.store.database import QUICK_SECONDS, Database
from rotoscope.store.write_locks import ACCESS

__all__ = ["RateLimit", "Rates"]

_MAX_COUNTERS = 20_000  # more at once are an attack by many addresses: what would need another one is refused


@dataclass(frozen=True, slots=True)
class RateLimit:
    """How often something may be tried.

    Attributes:
        kind: what is counted, such as a sign-in with a name.
        value: of whom, such as the name.
        most: so many times,
        seconds: in so many seconds.
    """

    kind: str
    value: str
    most: int
    seconds: float

    @property
    def key(self) -> str:
        """The key of its counter: a hash, for whatever was typed as a name is no business of the database."""
        return hashlib.sha256(f"{self.kind}\0{self.value}".encode(errors="replace")).hexdigest()


@dataclass(frozen=True, slots=True)
class Rates:
    """Counts tries. Each is counted before what is tried begins, so that many at once are not more than many in turn.

    Attributes:
        database: where they are counted.
        clock: the time in Unix seconds.
    """

    database: Database
    clock: Callable[[], float]

    async def take(self, *limits: RateLimit) -> bool:
        """Count one more try under some limits; whether it is within all of them."""
        now = self.clock()

        def write(connection: Connection) -> bool:
            connection.execute(delete(rate_counters).where(rate_counters.c.started_at <= now - _LONGEST))
            counted = [
                _count(connection, limit, now) for limit in limits
            ]  # under each of them, whatever the others say
            return all(counted)

        return await self.database.transact(write, max_wait_seconds=QUICK_SECONDS, lock=ACCESS)

    async def reset(self, limits: Sequence[RateLimit]) -> None:
        """Begin to count again: what was tried has worked."""
        keys = [limit.key for limit in limits]
        gone = delete(rate_counters).where(rate_counters.c.key.in_(keys))
        await self.database.transact(lambda c: c.execute(gone), max_wait_seconds=QUICK_SECONDS, lock=ACCESS)


_LONGEST = 3600.0
"""Seconds: no limit has a longer window."""


def _count(connection: Connection, limit: RateLimit, now: float) -> bool:
    mine = rate_counters.c.key == limit.key
    begun = rate_counters.c.started_at > now - limit.seconds
    if connection.execute(select(rate_counters.c.key).where(mine)).first() is None:
        if (connection.execute(select(func.count()).select_from(rate_counters)).scalar_one()) >= _MAX_COUNTERS:
            return False
        connection.execute(
            insert_or_ignore(connection, rate_counters), {"key": limit.key, "started_at": now, "count": 0}
        )
    connection.execute(update(rate_counters).where(mine, ~begun).values(started_at=now, count=0))
    # Beyond the limit it is counted no further: a window ends at its time, however often it is tried meanwhile.
    below = update(rate_counters).where(mine, rate_counters.c.count < limit.most)
    return connection.execute(below.values(count=rate_counters.c.count + 1)).rowcount > 0
