"""Reservations of money: written in the transaction of their job, settled with its end, and added up for the caps."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import (
    BigInteger,
    BindParameter,
    ColumnElement,
    Connection,
    Select,
    and_,
    bindparam,
    case,
    func,
    insert,
    or_,
    select,
    update,
)

from rotoscope.store.backend import UtcDay
from rotoscope.store.money import (
    Caps,
    ResendPolicy,
    Settlement,
    millionths_to_usd,
    refuse_over_budget,
    start_of_day,
    usd_to_millionths,
)
from rotoscope.store.records import Job, NewJob
from rotoscope.store.schema import reservations

__all__ = [
    "DailySpend",
    "check_caps",
    "mark_sent",
    "mark_unsent",
    "reopen_reservation",
    "reserve",
    "reserve_second_run",
    "settle_reservation",
    "spending",
]

_AMOUNT = func.coalesce(reservations.c.committed, reservations.c.reserved, 0)
_INSERT_RESERVATION = insert(reservations)
# A clock that was set back since a run was asked for must not move its money to a day whose sum did not hold it.
_NOT_BEFORE_ASKED = case((reservations.c.at > bindparam("now"), reservations.c.at), else_=bindparam("now"))
# A run that ended while it waited to be sent a second time has been sent once: it counts on the day of its end.
_MAY_HAVE_COST = or_(bindparam("now_committed", type_=BigInteger).is_(None), bindparam("now_committed") > 0)
_SETTLE = (
    update(reservations)
    .where(reservations.c.job_id == bindparam("of"))
    .values(
        committed=bindparam("now_committed"),
        charged=bindparam("now_charged"),
        settled_at=bindparam("now"),
        sent_at=case(
            (and_(reservations.c.sent_at.is_(None), _MAY_HAVE_COST), _NOT_BEFORE_ASKED), else_=reservations.c.sent_at
        ),
    )
)
# Of a request that is sent a second time both may have been paid. They count on the later day: a clock that was set
# back in between must not free the day of the first.
_MARK_SENT = (
    update(reservations)
    .where(reservations.c.job_id == bindparam("of"))
    .values(sent_at=case((reservations.c.sent_at > bindparam("now"), reservations.c.sent_at), else_=_NOT_BEFORE_ASKED))
)
_MARK_UNSENT = update(reservations).where(reservations.c.job_id == bindparam("of")).values(sent_at=None)
_READ_RESERVATION = select(reservations).where(reservations.c.job_id == bindparam("of"))
_REOPEN = (
    update(reservations)
    .where(reservations.c.job_id == bindparam("of"))
    .values(committed=None, charged=None, settled_at=None)
)
_ADD_RESERVED = (
    update(reservations)
    .where(reservations.c.job_id == bindparam("of"))
    # Until it is sent again it is held, on whichever day that will be; it counts no earlier than it was sent first.
    .values(
        reserved=func.coalesce(reservations.c.reserved, 0) + bindparam("more"),
        at=case((reservations.c.sent_at > reservations.c.at, reservations.c.sent_at), else_=reservations.c.at),
        sent_at=None,
    )
)
_OF_PRINCIPAL = (reservations.c.principal == bindparam("whose"), reservations.c.sandbox == bindparam("rehearsed"))
_OF_ALL = reservations.c.sandbox == bindparam("rehearsed")
_SUM_OF_AMOUNTS = select(func.coalesce(func.sum(_AMOUNT), 0))
_SENT_SINCE = reservations.c.sent_at >= bindparam("since")
# What was asked for on an earlier day and waits still will be sent today, or later: it is held until it is.
_NOT_SENT = (reservations.c.sent_at.is_(None), reservations.c.settled_at.is_(None))


def _build_sum_of_today(*whose: ColumnElement[bool]) -> Select[Any]:
    """What was sent today and what is held, as two sums of one statement: it sees one moment of the ledger.

    Between two statements a run could be sent, and would be in neither sum.
    """
    parts = (_SUM_OF_AMOUNTS.where(*whose, _SENT_SINCE), _SUM_OF_AMOUNTS.where(*whose, *_NOT_SENT))
    return select(*(part.scalar_subquery() for part in parts))


_TODAY_OF_PRINCIPAL, _TODAY_OF_ALL = _build_sum_of_today(*_OF_PRINCIPAL), _build_sum_of_today(_OF_ALL)


def _build_spending_query() -> Select[Any]:
    rows = reservations.c
    counted = func.coalesce(rows.sent_at, rows.at)
    day = UtcDay(counted)
    unknown = func.count().filter(rows.reserved.is_(None), rows.committed.is_(None))
    who = (rows.principal, rows.model, rows.provider, rows.sandbox)
    sums = (
        func.coalesce(func.sum(rows.estimate), 0),
        func.coalesce(func.sum(_AMOUNT).filter(rows.charged.is_(None)), 0),
        func.coalesce(func.sum(rows.charged), 0),
    )
    # Worded so that an index answers each half: only the days that are asked for are read.
    since: BindParameter[float] = bindparam("since")
    lately = or_(rows.sent_at >= since, and_(rows.sent_at.is_(None), rows.at >= since))
    query = select(day, *who, func.count(), *sums, unknown).where(lately)
    return query.group_by(day, *who).order_by(day.desc(), rows.model)


_SPENDING_QUERY = _build_spending_query()


@dataclass(frozen=True, slots=True)
class DailySpend:
    """What one model was used for on one day (UTC), in US dollars.

    Attributes:
        estimate: what the runs were likely to cost.
        held: what the runs count for whose charge is not known: what they can cost at most.
        charged: what was charged, as far as that is known.
        unknown: how many of the runs have no known price.
    """

    day: str
    principal: str
    model: str
    provider: str
    sandbox: bool
    runs: int
    estimate: float
    held: float
    charged: float
    unknown: int


def check_caps(connection: Connection, new: NewJob, caps: Caps, now: float) -> None:
    """Refuse a job that would pass a cap.

    Raises:
        OverBudget: it would.
    """
    if new.sandbox and caps.unpriced == "ask":
        caps = replace(caps, unpriced="run")  # the sandbox charges nothing, whatever the model would cost
    today = _millionths_today(connection, new.principal, new.sandbox, now)
    for_all = 0 if caps.per_day_for_all is None else _millionths_today_for_all(connection, new.sandbox, now)
    refuse_over_budget(caps, new.estimate_usd, today, new.model, new.at_most_usd, for_all)


def reserve(connection: Connection, job_id: str, new: NewJob, caps: Caps, now: float) -> None:
    """Hold what a job may cost.

    Raises:
        OverBudget: it would pass a cap; the transaction must not go on.
    """
    check_caps(connection, new, caps, now)
    row = {name: getattr(new, name) for name in ("principal", "tool", "model", "provider", "sandbox")}
    bound = new.estimate_usd if new.at_most_usd is None else new.at_most_usd
    amounts = (new.estimate_usd, bound, caps.per_day, caps.per_day_for_all)
    estimate, held, own, of_all = (None if usd is None else usd_to_millionths(usd) for usd in amounts)
    connection.execute(
        _INSERT_RESERVATION,
        {
            **row,
            "job_id": job_id,
            "at": now,
            "reserved": held,
            "estimate": estimate,
            "day_cap": own,
            "day_cap_of_all": of_all,
        },
    )


def settle_reservation(connection: Connection, job_id: str, ending: Settlement, now: float) -> None:
    """End a reservation. A job that ends a second time, after a person decided, is settled a second time."""
    charged = None if ending.charged_usd is None else usd_to_millionths(ending.charged_usd)
    connection.execute(_SETTLE, {"of": job_id, "now_committed": ending.committed, "now_charged": charged, "now": now})


def mark_sent(connection: Connection, job_id: str, now: float) -> None:
    """The paying request of a job goes out: its money counts on this day, whenever it was asked for."""
    connection.execute(_MARK_SENT, {"of": job_id, "now": now})


def mark_unsent(connection: Connection, job_id: str, now: float) -> bool:
    """The paying request of a job was not accepted: its money is held until it is sent.

    Returns:
        Whether it may be sent today: one that was sent on an earlier day did not count today until now, so others may
        have used what it needs.
    """
    row = connection.execute(_READ_RESERVATION, {"of": job_id}).first()
    connection.execute(_MARK_UNSENT, {"of": job_id})
    if row is None or row.sent_at is None or row.sent_at >= start_of_day(now):
        return True
    own, of_all = row.day_cap, row.day_cap_of_all
    if own is not None and _millionths_today(connection, row.principal, row.sandbox, now) > own:
        return False
    return of_all is None or _millionths_today_for_all(connection, row.sandbox, now) <= of_all


def reopen_reservation(connection: Connection, job_id: str) -> None:
    """A job that had ended is open again: its money is held until the new end, on the day on which it was sent."""
    connection.execute(_REOPEN, {"of": job_id})


def reserve_second_run(connection: Connection, job: Job, usd: float, policy: ResendPolicy, now: float) -> bool:
    """Hold what a job may cost once more, for a request that may have been accepted is sent again.

    Args:
        connection: the transaction.
        job: the job.
        usd: what a run of it can cost at most, in US dollars.
        policy: the caps that hold for it.
        now: Unix seconds.

    Returns:
        Whether it is held: not where that would pass a cap.
    """
    more, own, for_all = usd_to_millionths(usd), policy.per_day, policy.per_day_for_all
    if own is not None:
        today = _millionths_today(connection, job.principal, job.sandbox, now)
        if today + more > usd_to_millionths(own):
            return False
    if for_all is not None:
        today = _millionths_today_for_all(connection, job.sandbox, now)
        if today + more > usd_to_millionths(for_all):
            return False
    connection.execute(_ADD_RESERVED, {"of": job.id, "more": more})
    return True


def spending(connection: Connection, since: float) -> Sequence[DailySpend]:
    """Every day's spending since a moment (Unix seconds), by model, the newest day first."""
    return [_spending_from_row(tuple(row)) for row in connection.execute(_SPENDING_QUERY, {"since": since})]


def _spending_from_row(row: tuple[Any, ...]) -> DailySpend:
    day, principal, model, provider, sandbox, runs, estimate, held, charged, unknown = row
    return DailySpend(
        day,
        principal,
        model,
        provider,
        sandbox,
        runs,
        millionths_to_usd(int(estimate)),
        millionths_to_usd(int(held)),
        millionths_to_usd(int(charged)),
        unknown,
    )


def _millionths_today(connection: Connection, principal: str, sandbox: bool, now: float) -> int:
    mine = {"whose": principal, "rehearsed": sandbox, "since": start_of_day(now)}
    sent, held = connection.execute(_TODAY_OF_PRINCIPAL, mine).one()
    return int(sent) + int(held)


def _millionths_today_for_all(connection: Connection, sandbox: bool, now: float) -> int:
    """Unscoped: one cap holds for all principals together."""
    all_of_today = {"rehearsed": sandbox, "since": start_of_day(now)}
    sent, held = connection.execute(_TODAY_OF_ALL, all_of_today).one()
    return int(sent) + int(held)
