"""How long runs took, by what decides it; inside somebody's transaction. Only the latest of a kind are kept."""

import statistics
from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, select
from sqlalchemy.dialects.sqlite import insert as insert_or_merge

from rotoscope.store.schema import durations

__all__ = ["Kind", "Usual", "remember_seconds", "usual_seconds"]

_MEDIAN_OF, _KEPT = 9, 50

_DURATION = insert_or_merge(durations).on_conflict_do_nothing()
_ALIKE = (
    durations.c.model == bindparam("of_model"),
    durations.c.provider == bindparam("at_provider"),
    durations.c.sandbox == bindparam("rehearsed"),
    durations.c.workload == bindparam("like"),
)
_LATEST = select(durations.c.seconds).where(*_ALIKE).order_by(durations.c.at.desc()).limit(_MEDIAN_OF)
_LAST_KEPT = (
    select(durations.c.at).where(*_ALIKE).order_by(durations.c.at.desc()).offset(_KEPT).limit(1).scalar_subquery()
)
_FORGET = durations.delete().where(*_ALIKE, durations.c.at < _LAST_KEPT)


@dataclass(frozen=True, slots=True)
class Kind:
    """Runs that take about as long as each other."""

    model: str
    provider: str
    workload: str
    sandbox: bool

    @property
    def terms(self) -> dict[str, object]:
        """As the statements name it."""
        return {
            "of_model": self.model,
            "at_provider": self.provider,
            "like": self.workload,
            "rehearsed": self.sandbox,
        }


@dataclass(frozen=True, slots=True)
class Usual:
    """How long the latest runs of a kind took, in seconds, and how many of them are known."""

    seconds: float
    runs: int


def remember_seconds(connection: Connection, job_id: str, kind: Kind, seconds: float, now: float) -> None:
    """Write how long a run took at the provider."""
    row = {"job_id": job_id, "model": kind.model, "provider": kind.provider, "sandbox": kind.sandbox}
    connection.execute(_DURATION, row | {"workload": kind.workload, "seconds": seconds, "at": now})
    connection.execute(_FORGET, kind.terms)


def usual_seconds(connection: Connection, kind: Kind) -> Usual | None:
    """The median of the latest runs of a kind, or None when there were none."""
    found = list(connection.execute(_LATEST, kind.terms).scalars())
    return Usual(statistics.median(found), len(found)) if found else None
