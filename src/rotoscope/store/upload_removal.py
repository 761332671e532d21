"""What retention removes of uploads: tickets that no file came for, and files that no job was ever given.

The row of an upload says whose the file is. So it stays as long as the file does, unless a job has the file by then:
a file that nobody is known to have may be read by whoever knows its hash.
"""

from collections.abc import Sequence

from sqlalchemy import ColumnElement, Connection, delete, or_, select, update

from rotoscope.store.access_schema import upload_parts, upload_tickets
from rotoscope.store.schema import job_inputs, outputs

__all__ = [
    "KEEP_UNUSED_SECONDS",
    "UPLOADS_AT_ONCE",
    "find_expired_uploads",
    "find_unused_uploads",
    "forget_upload",
    "is_file_used",
    "keep_upload",
    "remove_expired_uploads",
]

KEEP_UNUSED_SECONDS = 7 * 86_400.0
"""How long a file that was uploaded is kept for the first job that takes it; also where results are kept shorter."""

UPLOADS_AT_ONCE = 50
"""How many are found in one read."""

_GRACE_SECONDS = 3600.0  # after a ticket's end: a part that began before it may still come
_tickets = upload_tickets


def find_expired_uploads(connection: Connection, now: float) -> Sequence[str]:
    """Some tickets (hashes) that no file came for in time."""
    found = select(_tickets.c.hash).where(*_expired_terms(now)).order_by(_tickets.c.expires_at)
    return list(connection.execute(found.limit(UPLOADS_AT_ONCE)).scalars())


def remove_expired_uploads(connection: Connection, tickets: Sequence[str], now: float) -> Sequence[str]:
    """Forget those of some tickets that no file came for still; the parts (hashes) that the vault has of them."""
    gone = select(_tickets.c.hash).where(_tickets.c.hash.in_(tickets), *_expired_terms(now))
    hashes = list(connection.execute(gone).scalars())
    parts = list(connection.execute(select(upload_parts.c.sha256).where(upload_parts.c.ticket.in_(hashes))).scalars())
    connection.execute(delete(upload_parts).where(upload_parts.c.ticket.in_(hashes)))
    connection.execute(delete(_tickets).where(_tickets.c.hash.in_(hashes)))
    return parts


def _expired_terms(now: float) -> tuple[ColumnElement[bool], ...]:
    is_unchecked = or_(_tickets.c.checking_until.is_(None), _tickets.c.checking_until < now)
    return (_tickets.c.expires_at < now - _GRACE_SECONDS, _tickets.c.sha256.is_(None), is_unchecked)


def find_unused_uploads(connection: Connection, now: float) -> Sequence[tuple[str, str]]:
    """Some uploads that came long ago, as ticket hash and file."""
    old = select(_tickets.c.hash, _tickets.c.sha256).where(_tickets.c.finished_at < now - KEEP_UNUSED_SECONDS)
    rows = connection.execute(old.order_by(_tickets.c.finished_at).limit(UPLOADS_AT_ONCE))
    return [(ticket, sha256) for ticket, sha256 in rows]


def is_file_used(connection: Connection, ticket_hash: str, sha256: str) -> bool:
    """Whether a job or another upload has the file of an upload."""
    others = (
        select(outputs.c.sha256)
        .where(outputs.c.sha256 == sha256)
        .union_all(
            select(job_inputs.c.sha256).where(job_inputs.c.sha256 == sha256),
            select(_tickets.c.sha256).where(_tickets.c.sha256 == sha256, _tickets.c.hash != ticket_hash),
        )
    )
    return connection.execute(others.limit(1)).first() is not None


def forget_upload(connection: Connection, ticket_hash: str) -> None:
    """Forget an upload whose file is gone, or is somebody's without it."""
    connection.execute(delete(_tickets).where(_tickets.c.hash == ticket_hash))


def keep_upload(connection: Connection, ticket_hash: str, now: float) -> None:
    """Keep an upload for as long again: its file was used lately without a job, as by a dry run."""
    connection.execute(update(_tickets).where(_tickets.c.hash == ticket_hash).values(finished_at=now))
