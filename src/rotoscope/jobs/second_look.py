"""May what is old by the wall clock be removed? A clock that jumps makes everything old at once, so it is slept over.

Every look is remembered in the ledger. Where the clock has gone on by more than it may have since the last one, what is
old is judged as of that last one, for a day. Who was away for long loses nothing by that either: what is due is
removed a look later. Pure but for the row that it keeps.
"""

import json
from dataclasses import astuple, dataclass

from sqlalchemy import Connection, func, select
from sqlalchemy.dialects.sqlite import insert as insert_or_merge

from rotoscope.jobs.tables import job_events, properties

__all__ = ["Look", "look_again", "newest_event_at", "read_look", "write_look"]

_DAY, _HOUR = 86_400.0, 3600.0
_NAME = "retention"
_LOOK = select(properties.c.value).where(properties.c.name == _NAME)
_INSERT = insert_or_merge(properties)
_REMEMBER = _INSERT.on_conflict_do_update(index_elements=["name"], set_={"value": _INSERT.excluded.value})
_NEWEST = select(job_events.c.at).where(job_events.c.seq == select(func.max(job_events.c.seq)).scalar_subquery())


@dataclass(frozen=True, slots=True)
class Look:
    """What is known of the clock since somebody looked, in Unix seconds.

    Attributes:
        seen: when that was.
        sure: as of when what is old may be removed.
        doubted: when the clock had jumped; None when it had not, or a day has passed since.
    """

    seen: float
    sure: float
    doubted: float | None = None


def look_again(last: Look | None, now: float, most: float) -> Look:
    """The next look.

    Args:
        last: the last one; None where nobody has looked yet.
        now: what the clock says.
        most: by how many seconds it may have gone on without a doubt.
    """
    if last is None or now < last.seen - _HOUR:
        return Look(now, now)  # a clock that is behind removes nothing too early
    if now - last.seen > most:
        return Look(now, last.seen, now)
    if last.doubted is not None and now - last.doubted < _DAY:
        return Look(now, last.sure, last.doubted)
    return Look(now, now)


def read_look(connection: Connection) -> tuple[Look | None, bool]:
    """The last look, and whether it stands in the ledger: before anybody has looked, the newest event stands for it."""
    known = connection.execute(_LOOK).scalar_one_or_none()
    if known is not None:
        return Look(*json.loads(known)), True
    newest = newest_event_at(connection)
    return (None if newest is None else Look(newest, newest)), False


def write_look(connection: Connection, look: Look) -> None:
    """Remember a look."""
    connection.execute(_REMEMBER, {"name": _NAME, "value": json.dumps(astuple(look))})


def newest_event_at(connection: Connection) -> float | None:
    """When the newest event of the ledger was written; None for an empty one."""
    return connection.execute(_NEWEST).scalar_one_or_none()
