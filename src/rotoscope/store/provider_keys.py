"""The principals' own provider keys, encrypted, and the tickets with which they are entered on a page.

Nothing here is written to a log, and no error repeats a key.
"""

import hashlib
import logging
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from rotoscope.errors import StorageFailed
from rotoscope.models.catalog import fingerprint_keys
from rotoscope.store.access_schema import key_tickets, provider_keys
from rotoscope.store.backend import upsert
from rotoscope.store.database import Database
from rotoscope.store.sealing import Sealer

__all__ = ["KeyRecord", "KeyTicket", "ProviderKeys"]

_TICKET_BYTES, _MAX_TICKETS = 32, 20  # tickets of one principal; the newest are kept
_log = logging.getLogger(__name__)

_OF_PRINCIPAL = select(provider_keys.c.provider, provider_keys.c.sealed).where(
    provider_keys.c.principal == bindparam("whose")
)
_RESEAL = (
    update(provider_keys)
    .where(
        provider_keys.c.principal == bindparam("whose"),
        provider_keys.c.provider == bindparam("at"),
        provider_keys.c.sealed == bindparam("was"),
    )
    .values(sealed=bindparam("becomes"))
)
_TICKET = select(key_tickets).where(key_tickets.c.hash == bindparam("hashed"))
_LATER_TICKETS = (
    select(key_tickets.c.hash)
    .where(key_tickets.c.principal == bindparam("whose"))
    .order_by(key_tickets.c.created_at.desc())
    .offset(_MAX_TICKETS)
)


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """What may be shown of a key: whose it is, for which provider, its fingerprint, and when it was entered."""

    principal: str
    provider: str
    account: str
    updated_at: float


@dataclass(frozen=True, slots=True)
class KeyTicket:
    """The right to enter one key.

    Attributes:
        principal: whose key it becomes.
        providers: of which one key is entered.
        expires_at: in Unix seconds.
        id: names it where the ticket itself must not be shown.
    """

    principal: str
    providers: tuple[str, ...]
    expires_at: float
    id: str = field(compare=False)


@dataclass(frozen=True, slots=True)
class ProviderKeys:
    """The keys and the tickets in the ledger.

    Attributes:
        database: the ledger's.
        sealer: encrypts the keys.
        clock: the time in Unix seconds.
    """

    database: Database
    sealer: Sealer
    clock: Callable[[], float]

    async def set(self, principal: str, provider: str, key: str) -> None:
        """Keep a principal's key for a provider, in place of the one that there was.

        Raises:
            StorageFailed: it cannot be written.
        """
        await self.database.transact(lambda c: self._write(c, principal, provider, key), durable=True)

    async def remove(self, principal: str, provider: str) -> bool:
        """Remove a principal's key for a provider; whether there was one."""
        gone = delete(provider_keys).where(provider_keys.c.principal == principal, provider_keys.c.provider == provider)
        return await self.database.transact(lambda c: c.execute(gone).rowcount, durable=True) > 0

    async def list(self, principal: str | None = None) -> Sequence[KeyRecord]:
        """What keys there are, of one principal or of all."""
        shown = ("principal", "provider", "account", "updated_at")
        query = select(*(provider_keys.c[name] for name in shown)).order_by(*(provider_keys.c[name] for name in shown))
        if principal is not None:
            query = query.where(provider_keys.c.principal == principal)
        rows = await self.database.transact(lambda c: c.execute(query).all(), writes=False)
        return [KeyRecord(*row) for row in rows]

    async def read(self, principal: str) -> Mapping[str, str]:
        """A principal's keys, by provider. One that cannot be opened is left out, and the log says why.

        A key that was sealed with an older key of the operator's is sealed again with the first.
        """
        rows = await self.database.transact(
            lambda c: c.execute(_OF_PRINCIPAL, {"whose": principal}).all(), writes=False
        )
        found, old = {}, []
        for provider, sealed in rows:
            try:
                opened = self.sealer.open(principal, provider, sealed)
            except StorageFailed as error:
                _log.warning("%s %s", error.message, error.hint)
                continue
            found[provider] = opened.text
            if opened.is_old:
                becomes = self.sealer.seal(principal, provider, opened.text)
                old.append({"whose": principal, "at": provider, "was": sealed, "becomes": becomes})
        if old:
            await self._reseal(old)
        return found

    async def _reseal(self, rows: Sequence[Mapping[str, str]]) -> None:
        try:
            await self.database.transact(lambda c: [c.execute(_RESEAL, row) for row in rows])
        except StorageFailed as error:  # the old key still opens it, so the next use may do it
            _log.warning("a key could not be encrypted with the newest key: %s", error.message)

    async def issue_ticket(self, principal: str, providers: Sequence[str], seconds: float) -> tuple[KeyTicket, str]:
        """Make a ticket; returns what it allows, and the ticket itself, of which only the hash is kept.

        Raises:
            StorageFailed: it cannot be written.
        """
        ticket, now = secrets.token_urlsafe(_TICKET_BYTES), self.clock()
        made = KeyTicket(principal, tuple(providers), now + seconds, _hash(ticket))

        def write(connection: Connection) -> None:
            connection.execute(delete(key_tickets).where(key_tickets.c.expires_at < now))
            row = {"hash": made.id, "principal": principal, "providers": list(made.providers)}
            connection.execute(insert(key_tickets), {**row, "created_at": now, "expires_at": made.expires_at})
            surplus = connection.execute(_LATER_TICKETS, {"whose": principal}).scalars().all()
            if surplus:
                connection.execute(delete(key_tickets).where(key_tickets.c.hash.in_(surplus)))

        await self.database.transact(write)
        return made, ticket

    async def find_ticket(self, ticket: str) -> KeyTicket | None:
        """What a ticket allows; None for one that is unknown, used or too old."""
        return await self.database.transact(lambda c: self._read_ticket(c, ticket), writes=False)

    async def use_ticket(self, ticket: str, provider: str, key: str) -> KeyTicket | None:
        """Keep the key that somebody has entered with a ticket, which is used up by it.

        Returns:
            What the ticket allowed; None where it allows nothing, or not this provider: then nothing is written.
        """

        def write(connection: Connection) -> KeyTicket | None:
            found = self._read_ticket(connection, ticket)
            if found is None or provider not in found.providers:
                return None
            if not connection.execute(delete(key_tickets).where(key_tickets.c.hash == found.id)).rowcount:
                return None  # another request has used it at the same moment
            self._write(connection, found.principal, provider, key)
            return found

        return await self.database.transact(write, durable=True)

    def _read_ticket(self, connection: Connection, ticket: str) -> KeyTicket | None:
        row = connection.execute(_TICKET, {"hashed": _hash(ticket)}).first()
        if row is None or row.expires_at <= self.clock():
            return None
        return KeyTicket(row.principal, tuple(row.providers), row.expires_at, row.hash)

    def _write(self, connection: Connection, principal: str, provider: str, key: str) -> None:
        row = {
            "principal": principal,
            "provider": provider,
            "sealed": self.sealer.seal(principal, provider, key),
            "account": fingerprint_keys(provider, key),
            "updated_at": self.clock(),
        }
        connection.execute(upsert(connection, provider_keys, "sealed", "account", "updated_at"), row)


def _hash(ticket: str) -> str:
    return hashlib.sha256(ticket.encode(errors="surrogatepass")).hexdigest()
