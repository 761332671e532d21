"""OAuth clients that a sign-in of our own knows: those that registered, and those that an https document describes.

Anybody may register a client and name a document, so what no person has let in yet is bounded and goes after a day.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, delete, exists, func, select, update

from rotoscope.providers.http.messages import Json
from rotoscope.store.access_schema import oauth_clients, oauth_grants
from rotoscope.store.backend import insert_or_ignore, upsert
from rotoscope.store.database import QUICK_SECONDS, Database
from rotoscope.store.write_locks import ACCESS

__all__ = ["UNUSED_SECONDS", "Clients", "StoredClient", "mark_consented", "remove_idle_clients"]

_DAY = 86_400.0  # seconds
UNUSED_SECONDS = _DAY
"""How long a client is kept that no person has let in."""
_IDLE_SECONDS = 90 * _DAY  # how long one is kept whose grants have all ended
_MAX_UNUSED = 2_000
_NEVER_USED = oauth_clients.c.consented_at.is_(None)


@dataclass(frozen=True, slots=True)
class StoredClient:
    """A client as it is kept.

    Attributes:
        client_id: ours, or the address of its document.
        data: what it said of itself.
        fresh_until: when its document is to be read again; None: it was registered here.
    """

    client_id: str
    data: Mapping[str, Json]
    fresh_until: float | None


@dataclass(frozen=True, slots=True)
class Clients:
    """The clients.

    Attributes:
        database: where they are kept.
        clock: the time in Unix seconds.
    """

    database: Database
    clock: Callable[[], float]

    async def find(self, client_id: str) -> StoredClient | None:
        """A client; None where there is none of this id."""
        columns = oauth_clients.c
        query = select(columns.client_id, columns.data, columns.fresh_until).where(columns.client_id == client_id)
        row = await self.database.transact(lambda c: c.execute(query).first(), writes=False)
        return None if row is None else StoredClient(*row)

    async def keep(self, client: StoredClient) -> bool:
        """Keep a client, or what its document says now; False where too many were never let in by a person."""
        now = self.clock()
        row = {"client_id": client.client_id, "data": dict(client.data), "fresh_until": client.fresh_until}

        def write(connection: Connection) -> bool:
            remove_idle_clients(connection, now)
            unused = select(func.count()).select_from(oauth_clients).where(_NEVER_USED)
            known = select(oauth_clients.c.client_id).where(oauth_clients.c.client_id == client.client_id)
            if connection.execute(known).first() is None and connection.execute(unused).scalar_one() >= _MAX_UNUSED:
                return False
            statement = (
                insert_or_ignore(connection, oauth_clients)
                if client.fresh_until is None
                else upsert(connection, oauth_clients, "data", "fresh_until")
            )
            connection.execute(statement, {**row, "created_at": now, "used_at": now})
            return True

        return await self.database.transact(write, max_wait_seconds=QUICK_SECONDS, lock=ACCESS)


def mark_consented(connection: Connection, client_id: str, now: float) -> bool:
    """Write that a person has let a client in; whether it is still there."""
    mine = oauth_clients.c.client_id == client_id
    return connection.execute(update(oauth_clients).where(mine).values(consented_at=now, used_at=now)).rowcount > 0


def remove_idle_clients(connection: Connection, now: float) -> None:
    """Remove the clients that nobody has let in for a day, and those whose grants have all ended long ago."""
    clients = oauth_clients.c
    connection.execute(delete(oauth_clients).where(_NEVER_USED, clients.used_at <= now - UNUSED_SECONDS))
    open_grants = exists().where(oauth_grants.c.client_id == clients.client_id, oauth_grants.c.revoked_at.is_(None))
    idle = (clients.consented_at <= now - _IDLE_SECONDS, clients.used_at <= now - _IDLE_SECONDS)
    connection.execute(delete(oauth_clients).where(*idle, ~open_grants))
