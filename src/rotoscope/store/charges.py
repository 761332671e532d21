"""Charges that became known after a job had ended: found, and written once.

The provider's own account is the last word on what a run has cost, but only for a job that has ended: one that is still
driven, or that a person must review, is settled by its end.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, and_, bindparam, or_, select, update

from rotoscope.store.database import Database
from rotoscope.store.job_data import Charge, JobChanges
from rotoscope.store.job_json import read_job_data
from rotoscope.store.money import Settlement, usd_to_millionths
from rotoscope.store.records import ENDED_STATES
from rotoscope.store.reservations import settle_reservation
from rotoscope.store.rows import merge_job_data, write_event
from rotoscope.store.schema import jobs, reservations, runs
from rotoscope.store.write_locks import WriteLock

__all__ = ["Charges", "UnknownCharge"]

_HAS_ENDED = or_(jobs.c.id.is_(None), jobs.c.state.in_(sorted(ENDED_STATES)))  # an old job is removed; its money is not
_IS_UNKNOWN = and_(reservations.c.settled_at.is_not(None), reservations.c.charged.is_(None))
_WITH_JOB = reservations.outerjoin(jobs, jobs.c.id == reservations.c.job_id)
_FIND = (
    select(reservations.c.job_id, runs.c.prediction_id, reservations.c.sent_at)
    .select_from(
        _WITH_JOB.join(runs, and_(runs.c.job_id == reservations.c.job_id, runs.c.provider == reservations.c.provider))
    )
    .where(reservations.c.provider == bindparam("at_provider"), reservations.c.sandbox == bindparam("rehearsed"))
    .where(reservations.c.sent_at >= bindparam("since"), _IS_UNKNOWN, _HAS_ENDED)
    .order_by(reservations.c.sent_at.desc())
    .limit(bindparam("most"))
)
_IS_OPEN = (
    select(jobs.c.data, reservations.c.job_id)
    .select_from(_WITH_JOB)
    .where(reservations.c.job_id == bindparam("of"), _IS_UNKNOWN, _HAS_ENDED)
)
_SET_DATA = update(jobs).where(jobs.c.id == bindparam("of")).values(data=bindparam("merged", type_=jobs.c.data.type))


@dataclass(frozen=True, slots=True)
class UnknownCharge:
    """A run that has ended and of which nobody knows what was charged.

    Attributes:
        job_id: the job.
        run_id: the provider's id of the run.
        sent_at: when its paying request went out, in Unix seconds.
    """

    job_id: str
    run_id: str
    sent_at: float


@dataclass(frozen=True, slots=True)
class Charges:
    """The charges in a ledger, of all principals: for the operator, who pays.

    Attributes:
        database: the ledger's.
        clock: the time in Unix seconds.
    """

    database: Database
    clock: Callable[[], float]

    async def find_unknown(self, provider: str, since: float, most: int, *, sandbox: bool) -> Sequence[UnknownCharge]:
        """The newest runs at a provider, sent since a moment (Unix seconds), that have ended without a known charge."""
        terms = {"at_provider": provider, "rehearsed": sandbox, "since": since, "most": most}
        return await self.database.transact(
            lambda connection: [UnknownCharge(*row) for row in connection.execute(_FIND, terms)], writes=False
        )

    async def write(self, job_id: str, usd: float) -> bool:
        """Write what a run was charged, in US dollars, into the account and into the job, if there still is one.

        Returns:
            Whether it was written: not where the charge is known by now, the job is open again, or its request was
            sent twice, so that there may be another run of which this amount says nothing.

        Raises:
            StorageFailed: the ledger could not be written.
        """
        now = self.clock()
        return await self.database.transact(
            lambda connection: _write_charge(connection, job_id, usd, now), lock=WriteLock(job_id)
        )


def _write_charge(connection: Connection, job_id: str, usd: float, now: float) -> bool:
    row = connection.execute(_IS_OPEN, {"of": job_id}).first()
    if row is None:
        return False
    data = read_job_data(row.data)
    if data.submit_effort.was_resent:
        return False
    settle_reservation(connection, job_id, Settlement(usd_to_millionths(usd), usd), now)
    if row.data is not None:
        merged = merge_job_data(connection, job_id, JobChanges(charge=Charge(usd > 0, usd, data.charge.measured)))
        connection.execute(_SET_DATA, {"of": job_id, "merged": merged})
        write_event(connection, job_id, now, "charged", {"usd": usd})
    return True
