"""What a run has used of an account's credits, where the provider says after each run how many are left.

The difference of two balances is what was used between them. It is one run's share only where no other run of this
ledger was at the provider meanwhile; what others use on the same account, nobody here can see, so it is an upper bound.
No document says what a credit is worth, so it is a measure and never money.
"""

import json
from dataclasses import dataclass, replace

from sqlalchemy import Connection, bindparam, exists, or_, select

from rotoscope.providers.http.messages import Json
from rotoscope.store.backend import upsert
from rotoscope.store.records import Job, Patch
from rotoscope.store.schema import properties, reservations

__all__ = ["add_credits_used", "name_balance"]

_LEFT, _USED = "remaining_credits", "credits_used"
_DECIMALS = 9
_MOST = 1e12
_LONGEST_RUN = 7 * 86_400.0  # seconds; what was sent before that has ended, and an index answers the rest
_READ = select(properties.c.value).where(properties.c.name == bindparam("named"))
_rows = reservations.c
_IS_SHARED = select(
    exists().where(
        _rows.provider == bindparam("at_provider"),
        _rows.sandbox.is_(False),
        _rows.job_id.not_in([bindparam("this"), bindparam("last")]),
        _rows.sent_at.between(bindparam("since") - _LONGEST_RUN, bindparam("now")),
        or_(_rows.settled_at.is_(None), _rows.settled_at >= bindparam("since")),
    )
)


@dataclass(frozen=True, slots=True)
class _Balance:
    """The credits that were left, when that was seen (Unix seconds), and after which job."""

    left: float
    at: float
    job_id: str


def name_balance(job: Job, patch: Patch) -> frozenset[str]:
    """What stands for the balance that a patch is held against; nothing where it tells of none."""
    given = patch.provider_output
    has_balance = given is not None and _LEFT in given.metrics
    return frozenset({_name_of_property(job)} if has_balance else ())


def add_credits_used(connection: Connection, job: Job, patch: Patch, now: float) -> Patch:
    """The patch of a run that has succeeded, with the metric `credits_used` where the balance before it is known.

    The balance is remembered for the next run, in the same transaction.
    """
    given = patch.provider_output
    left = _amount(given.metrics.get(_LEFT)) if given is not None else None
    if given is None or left is None or job.sandbox or job.account is None:
        return patch
    named = _name_of_property(job)
    before = _read_balance(connection.execute(_READ, {"named": named}).scalar_one_or_none())
    if before is not None and before.job_id == job.id:
        return patch
    row = json.dumps({"left": left, "at": now, "job": job.id})
    connection.execute(upsert(connection, properties, "value"), {"name": named, "value": row})
    if before is None or before.left <= left or _was_shared(connection, job, before, now):
        return patch
    used = round(before.left - left, _DECIMALS)
    return replace(patch, provider_output=replace(given, metrics={**given.metrics, _USED: used}))


def _name_of_property(job: Job) -> str:
    return f"credits of {job.provider} {job.account}"


def _was_shared(connection: Connection, job: Job, before: _Balance, now: float) -> bool:
    """Whether another run of this ledger was at the provider since the last balance was seen."""
    terms = {"at_provider": job.provider, "this": job.id, "last": before.job_id, "now": now, "since": before.at}
    return bool(connection.execute(_IS_SHARED, terms).scalar_one())


def _read_balance(text: str | None) -> _Balance | None:
    """The last balance from its row; None where none can be read."""
    try:
        known = json.loads(text or "null")
    except ValueError:
        return None
    if not isinstance(known, dict) or not isinstance(known.get("job"), str):
        return None
    left, at = _amount(known.get("left")), _amount(known.get("at"))
    return None if left is None or at is None else _Balance(left, at, known["job"])


def _amount(value: Json) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 0 <= value < _MOST else None
