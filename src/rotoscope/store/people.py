"""People who may sign in: their names, passphrases, one-time links and signed-in browsers.

Of passphrases there is an argon2 hash; of links and browsers' cookies a SHA-256 that the caller makes.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, delete, func, insert, select, update

from rotoscope.errors import InvalidInput
from rotoscope.store.access_schema import (
    oauth_codes,
    oauth_grants,
    people,
    provider_keys,
    sign_in_links,
    sign_in_sessions,
)
from rotoscope.store.database import QUICK_SECONDS, Database
from rotoscope.store.write_locks import ACCESS

__all__ = ["NAME_PATTERN", "People", "Person", "check_person_name"]

NAME_PATTERN = re.compile(r"[A-Za-z0-9@._-]{1,128}")
_RESERVED = frozenset({"local", "none", "anonymous"})  # "local" is whoever may run commands on this machine
_MAX_SESSIONS = 50  # browsers of one person; the oldest are signed out
_MAX_LINKS = 20  # of one person that were not used yet; the oldest end
_LIVING = people.c.removed_at.is_(None)


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody who may sign in.

    Attributes:
        name: their principal.
        passphrase_hash: argon2; None: they sign in by link alone.
        created_at: in Unix seconds.
        grants: how many clients they have let in that may still act for them.
    """

    name: str
    passphrase_hash: str | None
    created_at: float
    grants: int = 0


def check_person_name(name: str) -> None:
    """Check that a name can be a person's.

    Raises:
        InvalidInput: it has other characters, is too long, or stands for somebody else already.
    """
    if NAME_PATTERN.fullmatch(name) is None:
        raise InvalidInput(
            "A name has 1 to 128 letters, digits and any of @ . _ -.",
            hint="Choose one such as anna or anna@example.org.",
        )
    if name.lower() in _RESERVED:
        raise InvalidInput(f"The name {name} is reserved.", hint="Choose another name.")


@dataclass(frozen=True, slots=True)
class People:
    """The people of a server.

    Attributes:
        database: where they are kept.
        clock: the time in Unix seconds.
    """

    database: Database
    clock: Callable[[], float]

    async def add(self, name: str, passphrase_hash: str | None, *, restore: bool = False) -> None:
        """Add a person, or let a removed one in again.

        Args:
            name: their name, which becomes their principal.
            passphrase_hash: argon2; None: they sign in by link alone.
            restore: whether this is the same person as one of this name that was removed.

        Raises:
            InvalidInput: the name cannot be used; or it was a removed person's, whose jobs the new one would see.
        """
        check_person_name(name)
        now = self.clock()

        def write(connection: Connection) -> None:
            alike = select(people.c.name, people.c.removed_at).where(func.lower(people.c.name) == name.lower())
            found = connection.execute(alike).first()
            if found is None:
                row = {"name": name, "passphrase_hash": passphrase_hash, "created_at": now}
                connection.execute(insert(people), row)
                return
            _check_can_restore(found.name, name, removed=found.removed_at is not None, restore=restore)
            connection.execute(
                update(people).where(people.c.name == name).values(removed_at=None, passphrase_hash=passphrase_hash)
            )

        await self.database.transact(write, durable=True, lock=ACCESS)

    async def set_passphrase(self, name: str, passphrase_hash: str, *, formerly: str | None = None) -> bool:
        """Give a person a passphrase; whether there is such a person.

        Args:
            name: whose it is.
            passphrase_hash: argon2.
            formerly: only replace this hash, so that a change made meanwhile stays.
        """
        change = update(people).where(people.c.name == name, _LIVING).values(passphrase_hash=passphrase_hash)
        if formerly is not None:
            change = change.where(people.c.passphrase_hash == formerly)
        return await self.database.transact(lambda c: c.execute(change).rowcount > 0, durable=True, lock=ACCESS)

    async def find(self, name: str) -> Person | None:
        """A person who may sign in; None for one who was removed or never added."""
        query = select(people.c.name, people.c.passphrase_hash, people.c.created_at).where(
            people.c.name == name, _LIVING
        )
        row = await self.database.transact(lambda c: c.execute(query).first(), writes=False)
        return None if row is None else Person(*row)

    async def list_all(self) -> list[Person]:
        """Everybody who may sign in, by name."""
        grants = (
            select(func.count())
            .where(oauth_grants.c.person == people.c.name, oauth_grants.c.revoked_at.is_(None))
            .scalar_subquery()
        )
        query = select(people.c.name, people.c.passphrase_hash, people.c.created_at, grants).where(_LIVING)
        rows = await self.database.transact(lambda c: c.execute(query.order_by(people.c.name)).all(), writes=False)
        return [Person(*row) for row in rows]

    async def remove(self, name: str) -> bool:
        """Remove a person with their provider keys, and end at once all that lets them or their clients in.

        Returns:
            Whether there was such a person.
        """
        now = self.clock()

        def write(connection: Connection) -> bool:
            gone = update(people).where(people.c.name == name, _LIVING).values(removed_at=now, passphrase_hash=None)
            if connection.execute(gone).rowcount == 0:
                return False
            theirs = oauth_grants.c.person == name
            connection.execute(
                update(oauth_grants).where(theirs, oauth_grants.c.revoked_at.is_(None)).values(revoked_at=now)
            )
            for table in (sign_in_sessions, sign_in_links, oauth_codes):
                connection.execute(delete(table).where(table.c.person == name))
            # A key that its owner can no longer take back must not stay; who is let in again enters it again.
            connection.execute(delete(provider_keys).where(provider_keys.c.principal == name))
            return True

        return await self.database.transact(write, durable=True, lock=ACCESS)

    async def add_link(self, name: str, link_hash: str, expires_at: float) -> bool:
        """Keep a one-time link of a person; whether there is such a person."""
        mine = sign_in_links.c.person == name

        def write(connection: Connection) -> bool:
            if connection.execute(select(people.c.name).where(people.c.name == name, _LIVING)).first() is None:
                return False
            row = {"hash": link_hash, "person": name, "expires_at": expires_at}
            connection.execute(insert(sign_in_links), row)
            newest = select(sign_in_links.c.hash).where(mine).order_by(sign_in_links.c.expires_at.desc())
            kept = newest.limit(_MAX_LINKS)
            connection.execute(delete(sign_in_links).where(mine, sign_in_links.c.hash.not_in(kept)))
            return True

        return await self.database.transact(write, durable=True, lock=ACCESS)

    async def read_link(self, link_hash: str) -> str | None:
        """Whom a one-time link lets in; None where it does not, or no more. Reading does not use it."""
        query = (
            select(people.c.name)
            .join(sign_in_links, sign_in_links.c.person == people.c.name)
            .where(_LIVING, *self._usable_link(link_hash))
        )
        return await self.database.transact(lambda c: c.execute(query).scalar_one_or_none(), writes=False)

    async def use_link(self, link_hash: str) -> str | None:
        """Use a one-time link up; whom it lets in, None where it does not, or no more."""

        def write(connection: Connection) -> str | None:
            used = update(sign_in_links).where(*self._usable_link(link_hash)).values(used_at=self.clock())
            if connection.execute(used).rowcount == 0:
                return None
            query = select(people.c.name).join(sign_in_links, sign_in_links.c.person == people.c.name)
            found: str | None = connection.execute(
                query.where(_LIVING, sign_in_links.c.hash == link_hash)
            ).scalar_one_or_none()
            return found

        return await self.database.transact(write, durable=True, max_wait_seconds=QUICK_SECONDS, lock=ACCESS)

    def _usable_link(self, link_hash: str) -> tuple[ColumnElement[bool], ...]:
        links = sign_in_links.c
        return (links.hash == link_hash, links.used_at.is_(None), links.expires_at > self.clock())

    async def begin_session(self, cookie_hash: str, name: str, expires_at: float) -> None:
        """Keep that a person has signed in with a browser."""
        mine = sign_in_sessions.c.person == name
        newest = select(sign_in_sessions.c.hash).where(mine).order_by(sign_in_sessions.c.created_at.desc())
        row = {"hash": cookie_hash, "person": name, "created_at": self.clock(), "expires_at": expires_at}

        def write(connection: Connection) -> None:
            connection.execute(insert(sign_in_sessions), row)
            kept = newest.limit(_MAX_SESSIONS)
            connection.execute(delete(sign_in_sessions).where(mine, sign_in_sessions.c.hash.not_in(kept)))

        await self.database.transact(write, max_wait_seconds=QUICK_SECONDS, lock=ACCESS)

    async def find_session(self, cookie_hash: str) -> str | None:
        """Who has signed in with a browser; None where nobody has, or too long ago."""
        query = (
            select(people.c.name)
            .join(sign_in_sessions, sign_in_sessions.c.person == people.c.name)
            .where(_LIVING, sign_in_sessions.c.hash == cookie_hash, sign_in_sessions.c.expires_at > self.clock())
        )
        return await self.database.transact(lambda c: c.execute(query).scalar_one_or_none(), writes=False)

    async def end_session(self, cookie_hash: str) -> None:
        """Sign a browser out."""
        gone = delete(sign_in_sessions).where(sign_in_sessions.c.hash == cookie_hash)
        await self.database.transact(
            lambda c: c.execute(gone), durable=True, max_wait_seconds=QUICK_SECONDS, lock=ACCESS
        )


def _check_can_restore(standing: str, name: str, *, removed: bool, restore: bool) -> None:
    """Raises InvalidInput: a name is somebody's already, or was and is not to be theirs again."""
    if standing != name:
        raise InvalidInput(f"The name {name} is too much like {standing}.", hint="Choose another name.")
    if not removed:
        raise InvalidInput(
            f"{name} is there already.",
            hint=f"Use `rotoscope people passphrase {name}` or `rotoscope people link {name}`.",
        )
    if not restore:
        raise InvalidInput(
            f"{name} was removed, and whoever is called so sees the jobs of that person.",
            hint="Add --restore when it is the same person, or choose another name.",
        )
