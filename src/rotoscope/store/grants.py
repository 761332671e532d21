"""What people let clients do: codes, grants and tokens of our own sign-in. Only hashes of codes and tokens are kept.

A code begins one grant. A refresh token is used once and replaced by another; its row stays until it would have ended
anyway, so that a later use is noticed: then somebody else has it as well, and the whole grant ends.

The reply to a refresh may be lost, and two processes of one client may refresh at once. So for `GRACE_SECONDS` the same
answer is given again, not another one. It need not be kept for that: the successors of a token follow from the token,
which only its holder has, and a random seed, which only the ledger has.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Connection, Row, Select, delete, func, insert, select, update

from rotoscope.store.access_schema import oauth_clients, oauth_codes, oauth_grants, oauth_tokens, people
from rotoscope.store.clients import mark_consented
from rotoscope.store.database import QUICK_SECONDS, Database
from rotoscope.store.write_locks import ACCESS

__all__ = [
    "ACCESS_SECONDS",
    "CODE_SECONDS",
    "GRACE_SECONDS",
    "REFRESH_SECONDS",
    "Code",
    "Grant",
    "Grants",
    "OpenGrant",
    "RefreshState",
    "TokenHashes",
    "remove_ended_grants",
]

Answer = TypeVar("Answer")
_DAY = 86_400.0  # seconds
CODE_SECONDS = 120.0
"""How long a code may be exchanged; a browser needs a moment to bring it, no more."""
ACCESS_SECONDS = 3600.0
REFRESH_SECONDS = 30 * _DAY
"""A grant ends when it was not renewed for so long."""
GRACE_SECONDS = 60.0
"""How long a refresh token that was replaced is answered with the same successors again."""
_CODE_KEPT_SECONDS = _DAY  # how long the second use of a code is noticed
_MAX_CODES, _MAX_GRANTS, _MAX_TOKENS = 50, 100, 1000  # codes and grants of one person, tokens of one grant


@dataclass(frozen=True, slots=True)
class Code:
    """What a code stands for: that a person has let a client in, and how it was asked.

    Attributes:
        challenge: SHA-256 of the verifier (PKCE, S256).
        redirect_uri: where the browser was sent.
        redirect_given: whether the request named that address itself.
        resource: what the tokens will be for.
    """

    client_id: str
    person: str
    scopes: tuple[str, ...]
    challenge: str
    redirect_uri: str
    redirect_given: bool
    resource: str


@dataclass(frozen=True, slots=True)
class Grant:
    """What a token allows, and on whose behalf."""

    id: str
    client_id: str
    person: str
    scopes: tuple[str, ...]
    resource: str | None


@dataclass(frozen=True, slots=True)
class OpenGrant:
    """A grant that has not ended, as a person looks at it.

    Attributes:
        client_name: what the client calls itself, or its id.
        used_at: when it was last renewed, in Unix seconds.
    """

    id: str
    person: str
    client_id: str
    client_name: str
    created_at: float
    used_at: float


@dataclass(frozen=True, slots=True)
class TokenHashes:
    """The hashes of a pair of tokens; `refresh` is None for a client that renews nothing."""

    access: str
    refresh: str | None


@dataclass(frozen=True, slots=True)
class RefreshState:
    """How a refresh token was replaced.

    Attributes:
        seed: what its successors follow from.
        replaced_at: when they were made, in Unix seconds.
    """

    seed: str
    replaced_at: float


_GRANT_OF_TOKEN = (
    select(
        oauth_grants.c.id,
        oauth_grants.c.client_id,
        oauth_grants.c.person,
        oauth_grants.c.scopes,
        oauth_grants.c.resource,
        oauth_tokens.c.expires_at,
        oauth_tokens.c.replaced_at,
        oauth_tokens.c.seed,
    )
    .join(oauth_tokens, oauth_tokens.c.grant_id == oauth_grants.c.id)
    .join(people, people.c.name == oauth_grants.c.person)
    .where(oauth_grants.c.revoked_at.is_(None), people.c.removed_at.is_(None))
)


@dataclass(frozen=True, slots=True)
class Grants:
    """The grants, with their codes and tokens.

    Attributes:
        database: where they are kept.
        clock: the time in Unix seconds.
    """

    database: Database
    clock: Callable[[], float]

    async def add_code(self, code_hash: str, code: Code) -> bool:
        """Keep that a person has let a client in; False where the client has gone, or too many codes are open."""
        now = self.clock()
        data = {name: value for name, value in asdict(code).items() if name not in {"client_id", "person"}}
        row = {"hash": code_hash, "client_id": code.client_id, "person": code.person, "data": data}

        def write(connection: Connection) -> bool:
            connection.execute(delete(oauth_codes).where(oauth_codes.c.expires_at <= now - _CODE_KEPT_SECONDS))
            theirs = (oauth_codes.c.person == code.person, oauth_codes.c.expires_at > now)
            standing = select(func.count()).select_from(oauth_codes).where(*theirs)
            if connection.execute(standing).scalar_one() >= _MAX_CODES:
                return False
            connection.execute(insert(oauth_codes), {**row, "expires_at": now + CODE_SECONDS})
            return mark_consented(connection, code.client_id, now)

        return await self._write(write)

    async def read_code(self, code_hash: str) -> Code | None:
        """What a code stands for; None for one that is unknown or too old. One that was used ends what it began."""
        query = select(oauth_codes).where(oauth_codes.c.hash == code_hash)
        row = await self.database.transact(lambda c: c.execute(query).first(), writes=False, is_one_look=True)
        if row is None or (row.used_at is None and row.expires_at <= self.clock()):
            return None
        if row.used_at is not None:
            await self._write(lambda connection: self._end_grant_of_code(connection, code_hash))
            return None
        asked = dict(row.data)
        return Code(client_id=row.client_id, person=row.person, **{**asked, "scopes": tuple(asked["scopes"])})

    async def begin(self, code_hash: str, code: Code, grant_id: str, tokens: TokenHashes) -> bool:
        """Use a code up and begin its grant. False for one that was used meanwhile, which ends what it began."""
        now = self.clock()
        unused = (oauth_codes.c.hash == code_hash, oauth_codes.c.used_at.is_(None), oauth_codes.c.expires_at > now)
        grant = {"id": grant_id, "client_id": code.client_id, "person": code.person, "scopes": list(code.scopes)}

        def write(connection: Connection) -> bool:
            use = update(oauth_codes).where(*unused).values(used_at=now, grant_id=grant_id)
            if connection.execute(use).rowcount == 0:
                self._end_grant_of_code(connection, code_hash)
                return False
            row = {**grant, "resource": code.resource, "created_at": now, "used_at": now}
            connection.execute(insert(oauth_grants), row)
            self._insert_tokens(connection, grant_id, tokens)
            self._end_surplus(connection, code.person)
            return True

        return await self._write(write)

    async def read_access(self, token_hash: str) -> tuple[Grant, float] | None:
        """What an access token allows, and when it ends; None where it allows nothing, or no more."""
        row = await self._read_token(token_hash, "access")
        return None if row is None else (_grant_of(row), row.expires_at)

    async def read_refresh(self, token_hash: str) -> Grant | None:
        """What a refresh token would renew; None where nothing. One that was replaced long ago ends its grant."""
        row = await self._read_token(token_hash, "refresh")
        if row is None:
            return None
        if row.replaced_at is not None and self.clock() > row.replaced_at + GRACE_SECONDS:
            await self._write(lambda connection: self._end(connection, oauth_grants.c.id == row.id))
            return None
        return _grant_of(row)

    async def replace(self, token_hash: str, seed: str, successors: TokenHashes) -> RefreshState | None:
        """Replace a refresh token by its successors.

        Args:
            token_hash: of the token.
            seed: what the successors follow from.
            successors: the hashes of what follows.

        Returns:
            By what seed it is replaced now: another one than the given, where it was replaced just before. None where
            it renews nothing.
        """
        now = self.clock()
        unused = (oauth_tokens.c.hash == token_hash, oauth_tokens.c.replaced_at.is_(None))

        def write(connection: Connection) -> RefreshState | None:
            query = _GRANT_OF_TOKEN.where(oauth_tokens.c.hash == token_hash, oauth_tokens.c.kind == "refresh")
            if connection.execute(query).first() is None:
                return None
            took = connection.execute(update(oauth_tokens).where(*unused).values(replaced_at=now, seed=seed)).rowcount
            row = connection.execute(query).one()
            if now > row.replaced_at + GRACE_SECONDS:
                self._end(connection, oauth_grants.c.id == row.id)
                return None
            if took:
                connection.execute(update(oauth_grants).where(oauth_grants.c.id == row.id).values(used_at=now))
                self._insert_tokens(connection, row.id, successors)
                self._remove_surplus_tokens(connection, row.id)
                used = update(oauth_clients).where(oauth_clients.c.client_id == row.client_id)
                connection.execute(used.values(used_at=now))
            return RefreshState(row.seed, row.replaced_at)

        return await self._write(write)

    async def end_grant_of_token(self, token_hash: str, client_id: str) -> None:
        """End the grant of a token, access or refresh, where it is this client's."""
        of_token = select(oauth_tokens.c.grant_id).where(oauth_tokens.c.hash == token_hash)
        mine = (oauth_grants.c.client_id == client_id, oauth_grants.c.id.in_(of_token))
        await self._write(lambda connection: self._end(connection, *mine))

    async def list_open(self, person: str | None = None) -> list[OpenGrant]:
        """The grants that have not ended, newest first; of one person, or of all."""
        columns = oauth_grants.c
        query = (
            select(
                columns.id, columns.person, columns.client_id, oauth_clients.c.data, columns.created_at, columns.used_at
            )
            .outerjoin(oauth_clients, oauth_clients.c.client_id == columns.client_id)
            .where(columns.revoked_at.is_(None), columns.used_at > self.clock() - REFRESH_SECONDS)
            .order_by(columns.created_at.desc(), columns.id)
        )
        query = query if person is None else query.where(columns.person == person)
        rows = await self.database.transact(lambda c: c.execute(query).all(), writes=False)
        return [_open_grant_of(row) for row in rows]

    async def end(self, person: str, grant_id: str | None = None) -> int:
        """End a person's grants, or the one whose id begins so; how many have ended."""
        mine: tuple[ColumnElement[bool], ...] = (oauth_grants.c.person == person,)
        if grant_id is not None:
            mine = (*mine, oauth_grants.c.id.startswith(grant_id, autoescape=True))
        return await self.database.transact(lambda connection: self._end(connection, *mine), durable=True, lock=ACCESS)

    async def _write(self, work: Callable[[Connection], Answer]) -> Answer:
        return await self.database.transact(work, durable=True, max_wait_seconds=QUICK_SECONDS, lock=ACCESS)

    async def _read_token(self, token_hash: str, kind: str) -> Row[tuple[object, ...]] | None:
        query: Select[tuple[object, ...]] = _GRANT_OF_TOKEN.where(
            oauth_tokens.c.hash == token_hash, oauth_tokens.c.kind == kind, oauth_tokens.c.expires_at > self.clock()
        )
        return await self.database.transact(lambda c: c.execute(query).first(), writes=False)

    def _insert_tokens(self, connection: Connection, grant_id: str, tokens: TokenHashes) -> None:
        now = self.clock()
        rows = [{"hash": tokens.access, "grant_id": grant_id, "kind": "access", "expires_at": now + ACCESS_SECONDS}]
        if tokens.refresh is not None:
            ends = now + REFRESH_SECONDS
            rows.append({"hash": tokens.refresh, "grant_id": grant_id, "kind": "refresh", "expires_at": ends})
        connection.execute(insert(oauth_tokens), rows)

    def _end(self, connection: Connection, *which: ColumnElement[bool]) -> int:
        standing = update(oauth_grants).where(*which, oauth_grants.c.revoked_at.is_(None))
        return connection.execute(standing.values(revoked_at=self.clock())).rowcount

    def _end_grant_of_code(self, connection: Connection, code_hash: str) -> None:
        of_code = select(oauth_codes.c.grant_id).where(oauth_codes.c.hash == code_hash)
        self._end(connection, oauth_grants.c.id.in_(of_code))

    def _end_surplus(self, connection: Connection, person: str) -> None:
        mine = (oauth_grants.c.person == person, oauth_grants.c.revoked_at.is_(None))
        newest = select(oauth_grants.c.id).where(*mine).order_by(oauth_grants.c.created_at.desc(), oauth_grants.c.id)
        self._end(connection, *mine, oauth_grants.c.id.not_in(newest.limit(_MAX_GRANTS)))

    def _remove_surplus_tokens(self, connection: Connection, grant_id: str) -> None:
        mine = oauth_tokens.c.grant_id == grant_id
        connection.execute(delete(oauth_tokens).where(mine, oauth_tokens.c.expires_at <= self.clock()))
        for kind in ("access", "refresh"):
            of_kind = (mine, oauth_tokens.c.kind == kind)
            newest = select(oauth_tokens.c.hash).where(*of_kind).order_by(oauth_tokens.c.expires_at.desc())
            surplus = oauth_tokens.c.hash.not_in(newest.limit(_MAX_TOKENS))
            connection.execute(delete(oauth_tokens).where(*of_kind, surplus))


def remove_ended_grants(connection: Connection, now: float) -> None:
    """Remove tokens that have ended, grants without any, and codes whose second use need not be noticed any more."""
    connection.execute(delete(oauth_codes).where(oauth_codes.c.expires_at <= now - _CODE_KEPT_SECONDS))
    connection.execute(delete(oauth_tokens).where(oauth_tokens.c.expires_at <= now))
    old = oauth_grants.c.used_at <= now - REFRESH_SECONDS
    standing = select(oauth_tokens.c.grant_id)
    connection.execute(delete(oauth_grants).where(old, oauth_grants.c.id.not_in(standing)))


def _grant_of(row: Row[tuple[object, ...]]) -> Grant:
    return Grant(row.id, row.client_id, row.person, tuple(row.scopes), row.resource)


def _open_grant_of(row: Row[*tuple[Any, ...]]) -> OpenGrant:
    name = (row.data or {}).get("client_name")
    shown = name if isinstance(name, str) and name else row.client_id
    return OpenGrant(row.id, row.person, row.client_id, shown, row.created_at, row.used_at)
