"""Uploads: tickets that let one file in each, kept in the ledger so that any replica may take its next part.

Of a ticket there is only its hash. What two requests do to one ticket at once is decided by the statement that writes:
it names the state that it was built on, and changes nothing where another one came first.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, Row, Update, case, delete, func, insert, or_, select, update

from rotoscope.errors import InvalidInput, RotoscopeError, TooLarge
from rotoscope.providers.http.messages import Json
from rotoscope.store.access_schema import upload_parts, upload_tickets
from rotoscope.store.database import QUICK_SECONDS, Database
from rotoscope.store.write_locks import WriteLock, name_files

__all__ = [
    "MAX_UPLOAD_BYTES",
    "Upload",
    "UploadPart",
    "UploadProblem",
    "UploadTickets",
    "lock_uploads",
    "upload_hash",
]

MAX_UPLOAD_BYTES = 512 * 1024 * 1024
"""Bytes of one file; as much as the intake reads of any file."""

_LIFE_SECONDS = 3600.0
_LONGEST_LIFE_SECONDS = 6 * 3600.0  # a large film over a slow line: each part that comes gives it another hour
_MAX_OPEN = 16  # tickets of one principal that wait for a file
_MAX_DAY_BYTES = 8 * 1024 * 1024 * 1024  # of one principal in a day
_MAX_PARTS = 1024  # of one file
_MAX_REFUSALS = 20  # files that one ticket may be tried with
_DAY = 86_400.0
_tickets, _parts = upload_tickets, upload_parts


def lock_uploads(*tickets: str, files: Sequence[str] = ()) -> WriteLock:
    """What a transaction locks that decides about some tickets, by their hashes, and about whether files are needed."""
    return WriteLock(names=frozenset(f"upload {ticket}" for ticket in tickets) | name_files(files))


def upload_hash(ticket: str) -> str:
    """The hash (hex) by which a ticket is known."""
    return hashlib.sha256(ticket.encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(frozen=True, slots=True)
class UploadProblem:
    """Why a file was refused: the code, the sentence and the next step of the error."""

    code: str
    message: str
    hint: str

    @classmethod
    def of_error(cls, error: RotoscopeError) -> "UploadProblem":
        """What an error says."""
        return cls(error.code, error.message, error.hint)


@dataclass(frozen=True, slots=True)
class UploadPart:
    """A part that is kept: where it begins in the file, how many of its bytes it holds, and its name in the vault."""

    start: int
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Upload:
    """One ticket, and what has become of it.

    Attributes:
        hash: of the ticket.
        principal: whose file it will be.
        name: what the file is called, for people; may be empty.
        kind: what it must be; None: what its content says.
        max_bytes: of the file.
        received: bytes that are kept so far, from the start of the file.
        total: bytes of the whole file, where a part has said so.
        checking_until: until when somebody is checking the file, in Unix seconds; None: nobody is.
        problem: why the last file was refused.
        refusals: how many files were.
        sha256: the artifact that it became.
        facts: what is known of the artifact: content_type, width, height, duration_seconds, notes.
        created_at: when the ticket was given, in Unix seconds.
        expires_at: until when a file is taken, in Unix seconds.
    """

    hash: str
    principal: str
    name: str
    kind: str | None
    max_bytes: int
    received: int
    total: int | None
    checking_until: float | None
    problem: UploadProblem | None
    refusals: int
    sha256: str | None
    facts: Mapping[str, Json]
    created_at: float
    expires_at: float

    @property
    def uri(self) -> str | None:
        """The link of the artifact, once there is one."""
        return None if self.sha256 is None else f"artifact://{self.sha256}"

    @property
    def is_whole(self) -> bool:
        """Whether every part has come."""
        return self.total is not None and self.received == self.total

    def is_expired(self, now: float) -> bool:
        """Whether it takes no file any more."""
        return now >= self.expires_at

    def is_being_checked(self, now: float) -> bool:
        """Whether somebody checks the file."""
        return self.sha256 is None and self.checking_until is not None and now < self.checking_until


_COLUMNS = [_tickets.c[name] for name in Upload.__slots__]


@dataclass(frozen=True, slots=True)
class UploadTickets:
    """The tickets in the ledger. Every method raises `StorageFailed` when it cannot be read or written.

    Attributes:
        database: where they are kept.
        clock: the time in Unix seconds.
    """

    database: Database
    clock: Callable[[], float]

    async def add(self, ticket: str, principal: str, name: str, kind: str | None) -> Upload:
        """Write a new ticket.

        Raises:
            InvalidInput: the principal has too many that wait for a file.
            TooLarge: it has uploaded too much today.
        """
        now = self.clock()
        row: dict[str, object] = {"hash": upload_hash(ticket), "principal": principal, "name": name, "kind": kind}
        row |= {"max_bytes": MAX_UPLOAD_BYTES, "received": 0, "refusals": 0}
        row |= {"created_at": now, "expires_at": now + _LIFE_SECONDS}

        def write(connection: Connection) -> Upload:
            _check_allowance(connection, principal, now)
            connection.execute(insert(_tickets), row)
            stands = select(*_COLUMNS).where(_tickets.c.hash == row["hash"])
            return _from_row(connection.execute(stands).one())

        theirs = WriteLock(names=frozenset({f"uploads of {principal}"}))
        return await self.database.transact(write, max_wait_seconds=QUICK_SECONDS, lock=theirs)

    async def find(self, ticket_hash: str, principal: str | None = None) -> Upload | None:
        """The upload of a ticket; None where there is none, or it is not the principal's.

        Args:
            ticket_hash: of the ticket.
            principal: on whose behalf; None: whoever has the ticket itself.
        """
        query = select(*_COLUMNS).where(_tickets.c.hash == ticket_hash)
        if principal is not None:
            query = query.where(_tickets.c.principal == principal)
        row = await self.database.transact(lambda connection: connection.execute(query).first(), writes=False)
        return None if row is None else _from_row(row)

    async def parts(self, upload: Upload) -> Sequence[UploadPart]:
        """The parts that are kept, in their order."""
        query = select(_parts.c.start, _parts.c.size, _parts.c.sha256).where(_parts.c.ticket == upload.hash)
        rows = await self.database.transact(lambda c: c.execute(query.order_by(_parts.c.start)).all(), writes=False)
        return [UploadPart(*row) for row in rows]

    async def append(self, upload: Upload, part: UploadPart, total: int | None) -> bool:
        """Write that a part was kept; whether it follows what stands: no other came first, and nobody checks.

        Raises:
            InvalidInput: the file has too many parts.
        """
        now, until = self.clock(), upload.expires_at
        change = update(_tickets).where(_tickets.c.hash == upload.hash, _tickets.c.received == part.start)
        change = change.where(_tickets.c.sha256.is_(None), self._is_unchecked())
        change = change.values(
            received=part.start + part.size,
            total=upload.total if total is None else total,
            problem=None,
            expires_at=max(until, min(now + _LIFE_SECONDS, upload.created_at + _LONGEST_LIFE_SECONDS)),
        )
        row = {"ticket": upload.hash, "start": part.start, "size": part.size, "sha256": part.sha256}

        def write(connection: Connection) -> bool:
            count = select(func.count()).where(_parts.c.ticket == upload.hash)
            if connection.execute(count).scalar_one() >= _MAX_PARTS:
                raise InvalidInput(f"A file may come in {_MAX_PARTS} parts.", hint="Send it in larger parts.")
            if connection.execute(change).rowcount != 1:
                return False
            connection.execute(insert(_parts), row)
            return True

        return await self.database.transact(write, durable=True, lock=lock_uploads(upload.hash))

    async def clear(self, upload: Upload) -> Sequence[UploadPart]:
        """Forget every part, unless the file is being checked or was taken; the parts that the vault need not keep."""

        def write(connection: Connection) -> Sequence[UploadPart]:
            reset = update(_tickets).where(_tickets.c.hash == upload.hash, _tickets.c.sha256.is_(None))
            if connection.execute(reset.where(self._is_unchecked()).values(received=0, total=None)).rowcount != 1:
                return ()
            return _take_parts(connection, upload.hash)

        return await self.database.transact(write, lock=lock_uploads(upload.hash))

    async def claim_check(self, upload: Upload, holder: str, seconds: float) -> bool:
        """Take the right to check the file for some seconds; whether nobody else has it, and there is no file yet."""
        claim = update(_tickets).where(_tickets.c.hash == upload.hash, _tickets.c.sha256.is_(None))
        claim = claim.where(self._is_unchecked()).values(checker=holder, checking_until=self.clock() + seconds)
        return await self._write(upload, claim) == 1

    async def renew_check(self, upload: Upload, holder: str, seconds: float) -> None:
        """Keep the right to check for some seconds from now on."""
        renewal = self._of_holder(upload, holder).values(checking_until=self.clock() + seconds)
        await self._write(upload, renewal)

    async def release_check(self, upload: Upload, holder: str) -> None:
        """Give the right to check back: it was broken off, and the parts that are kept may be checked again."""
        release = self._of_holder(upload, holder).values(checker=None, checking_until=None)
        await self._write(upload, release)

    async def finish(
        self, upload: Upload, holder: str, sha256: str, size: int, facts: Mapping[str, Json]
    ) -> Sequence[UploadPart] | None:
        """Write the artifact that the file became; the parts that the vault need not keep. None: the right was lost."""
        now = self.clock()
        change = self._of_holder(upload, holder).values(
            sha256=sha256,
            facts=dict(facts),
            received=size,
            total=size,
            problem=None,
            checker=None,
            checking_until=None,
            finished_at=now,
        )
        return await self._end_check(upload, change, lock_uploads(upload.hash, files=[sha256]), durable=True)

    async def refuse(self, upload: Upload, holder: str, problem: UploadProblem) -> Sequence[UploadPart] | None:
        """Write why the file is refused: the ticket may be used again. What is returned is as for `finish`."""
        last = _tickets.c.refusals + 1 >= _MAX_REFUSALS
        change = self._of_holder(upload, holder).values(
            received=0,
            total=None,
            problem={"code": problem.code, "message": problem.message, "hint": problem.hint},
            refusals=_tickets.c.refusals + 1,
            checker=None,
            checking_until=None,
            expires_at=case((last, self.clock()), else_=_tickets.c.expires_at),
        )
        return await self._end_check(upload, change, lock_uploads(upload.hash), durable=False)

    async def _write(self, upload: Upload, change: Update) -> int:
        """Change the ticket's row; how many rows that were."""

        def write(connection: Connection) -> int:
            return connection.execute(change).rowcount

        return await self.database.transact(write, lock=lock_uploads(upload.hash))

    async def _end_check(
        self, upload: Upload, change: Update, lock: WriteLock, *, durable: bool
    ) -> Sequence[UploadPart] | None:
        def write(connection: Connection) -> Sequence[UploadPart] | None:
            if connection.execute(change).rowcount != 1:
                return None
            return _take_parts(connection, upload.hash)

        return await self.database.transact(write, durable=durable, lock=lock)

    def _is_unchecked(self) -> ColumnElement[bool]:
        return or_(_tickets.c.checking_until.is_(None), _tickets.c.checking_until <= self.clock())

    def _of_holder(self, upload: Upload, holder: str) -> Update:
        return update(_tickets).where(_tickets.c.hash == upload.hash, _tickets.c.checker == holder)


def _take_parts(connection: Connection, ticket_hash: str) -> Sequence[UploadPart]:
    """The parts of a ticket, which is without any from here on."""
    rows = connection.execute(
        select(_parts.c.start, _parts.c.size, _parts.c.sha256).where(_parts.c.ticket == ticket_hash)
    ).all()
    connection.execute(delete(_parts).where(_parts.c.ticket == ticket_hash))
    return [UploadPart(*row) for row in rows]


def _check_allowance(connection: Connection, principal: str, now: float) -> None:
    """Refuse another ticket of a principal that has too many open ones, or has uploaded too much in a day."""
    theirs = _tickets.c.principal == principal
    waiting = select(func.count()).where(theirs, _tickets.c.sha256.is_(None), _tickets.c.expires_at > now)
    if connection.execute(waiting).scalar_one() >= _MAX_OPEN:
        raise InvalidInput(
            f"{_MAX_OPEN} uploads wait for their files.",
            hint="Use one of their tickets, or wait until they expire, after an hour.",
            code="too_many_uploads",
        )
    lately = select(func.coalesce(func.sum(_tickets.c.received), 0)).where(
        theirs, _tickets.c.expires_at > now - _DAY, _tickets.c.created_at > now - _DAY
    )
    if connection.execute(lately).scalar_one() >= _MAX_DAY_BYTES:
        raise TooLarge(
            f"{_MAX_DAY_BYTES // 1024**3} GiB were uploaded in a day.",
            hint="Use the artifact:// links of earlier uploads, or come back tomorrow.",
        )


def _from_row(row: Row[tuple[object, ...]]) -> Upload:
    columns = dict(row._mapping)  # noqa: SLF001 - the documented way to name a row's columns
    problem, facts = columns.pop("problem"), columns.pop("facts")
    return Upload(**columns, problem=None if problem is None else UploadProblem(**problem), facts=facts or {})
