"""How long runs of a model took at its provider, inside somebody's transaction: what the next ones are measured by."""

import statistics
from collections.abc import Mapping

from sqlalchemy import Connection, bindparam, select
from sqlalchemy.dialects.sqlite import insert as insert_or_merge

from rotoscope.jobs.job import Job
from rotoscope.jobs.tables import durations

__all__ = ["note_duration", "usual_duration"]

_RUNS_REMEMBERED, _RUNS_KEPT = 9, 50

# Worded once: wording a statement costs more than running it.
_DURATION = insert_or_merge(durations).on_conflict_do_nothing()
_ALIKE = (
    durations.c.model == bindparam("of_model"),
    durations.c.provider == bindparam("at_provider"),
    durations.c.sandbox == bindparam("rehearsed"),
    durations.c.workload == bindparam("like"),
)
_SECONDS = select(durations.c.seconds).where(*_ALIKE).order_by(durations.c.at.desc()).limit(_RUNS_REMEMBERED)
_LAST_REMEMBERED = (
    select(durations.c.at).where(*_ALIKE).order_by(durations.c.at.desc()).offset(_RUNS_KEPT).limit(1).scalar_subquery()
)
_FORGET_DURATIONS = durations.delete().where(*_ALIKE, durations.c.at < _LAST_REMEMBERED)


def note_duration(connection: Connection, job: Job, workload: str, seconds: float, now: float) -> None:
    """Remember how long a run took, and forget those that are too long ago to count."""
    row: dict[str, object] = {"job_id": job.id, "model": job.model, "provider": job.provider, "sandbox": job.sandbox}
    row |= {"workload": workload, "seconds": seconds, "at": now}
    same = {"of_model": job.model, "at_provider": job.provider, "like": workload, "rehearsed": job.sandbox}
    connection.execute(_DURATION, row)
    connection.execute(_FORGET_DURATIONS, same)


def usual_duration(connection: Connection, same: Mapping[str, object]) -> float | None:
    """The median of the latest runs that are alike; None when there were none."""
    found = list(connection.execute(_SECONDS, same).scalars())
    return statistics.median(found) if found else None
