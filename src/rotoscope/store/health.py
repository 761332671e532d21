"""How a ledger is, as one look tells: which version wrote it, whether it is whole, which jobs stand still.

What is read alike in every database stands here; `sqlite_health` and `postgresql_health` open theirs.
"""

from dataclasses import dataclass, replace
from typing import Literal

from sqlalchemy import Connection, func, select

from rotoscope.store.lease_predicate import IS_IDLE
from rotoscope.store.schema import SCHEMA_VERSION, jobs, processes
from rotoscope.store.timing import Intervals

__all__ = ["Integrity", "LedgerHealth", "count_jobs", "newer_schema_fault"]

Integrity = Literal["whole", "damaged", "unfinished", "unchecked"]

_SHOWN_JOBS = 5  # ids that are named; all are counted
_IDLE_AFTER = 15.0  # seconds: a process that can take a job takes it sooner
_ALIVE_SECONDS = 30.0  # seconds since its last heartbeat in which a process is taken for alive


@dataclass(frozen=True, slots=True)
class LedgerHealth:
    """What was found of a ledger.

    Attributes:
        place: its file, or its database and server, without user and password.
        kind: what keeps it.
        exists: whether there is one; none is made before the first job.
        schema: the version of its tables; 0 where it has none.
        known_schema: the version that this rotoscope writes.
        server: the database server's version; empty for SQLite.
        integrity: what the check of its pages found; `unfinished` when the time for it was over.
        damage: the first thing that this check named.
        open: how many jobs have not ended.
        reviews, review_ids: how many wait for a person, and the oldest of them.
        idle, idle_ids: how many no process drives although they could go on, and the oldest of them.
        drivers: how many processes that drive jobs have just said that they live.
        fault, hint: why it cannot be used, and what to do; empty where it can.
    """

    place: str
    kind: Literal["SQLite", "PostgreSQL"]
    exists: bool = True
    schema: int = 0
    known_schema: int = SCHEMA_VERSION
    server: str = ""
    integrity: Integrity = "unchecked"
    damage: str = ""
    open: int = 0
    reviews: int = 0
    review_ids: tuple[str, ...] = ()
    idle: int = 0
    idle_ids: tuple[str, ...] = ()
    drivers: int = 0
    fault: str = ""
    hint: str = ""


def count_jobs(connection: Connection, health: LedgerHealth, now: float) -> LedgerHealth:
    """The same health with the numbers of jobs that wait for a person or stand still."""
    stands_still = IS_IDLE & (jobs.c.updated_at < now - _IDLE_AFTER)
    terms = {"now": now, "farthest_lease": now + Intervals().lease * 2, "farthest_pause": now + 86_400.0}
    counts = {}
    for name, term in (("review", jobs.c.state == "needs_review"), ("idle", stands_still)):
        found = connection.execute(select(func.count()).select_from(jobs).where(term), terms).scalar_one()
        oldest = select(jobs.c.id).where(term).order_by(jobs.c.created_at).limit(_SHOWN_JOBS)
        counts[name] = int(found), tuple(connection.execute(oldest, terms).scalars())
    is_open = jobs.c.state.in_(("queued", "running"))
    lives = processes.c.beat_at.between(now - _ALIVE_SECONDS, now + _ALIVE_SECONDS)
    return replace(
        health,
        open=int(connection.execute(select(func.count()).select_from(jobs).where(is_open)).scalar_one()),
        drivers=int(connection.execute(select(func.count()).select_from(processes).where(lives)).scalar_one()),
        reviews=counts["review"][0],
        review_ids=counts["review"][1],
        idle=counts["idle"][0],
        idle_ids=counts["idle"][1],
    )


def newer_schema_fault(schema: int) -> str:
    """The sentence for a ledger that is newer than this rotoscope."""
    return f"The ledger was written by a newer rotoscope (schema {schema}; this one knows {SCHEMA_VERSION})."
