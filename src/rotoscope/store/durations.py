"""How long runs took, by what decides it; inside the caller's transaction. Only the latest of a kind are kept."""

import math
import statistics
from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, select

from rotoscope.models.estimate import LearnedSeconds
from rotoscope.store.backend import insert_or_ignore
from rotoscope.store.records import Job
from rotoscope.store.schema import durations

__all__ = ["RunKind", "learned_seconds", "record_duration", "run_kind"]

_MEDIAN_RUNS, _MAX_RUNS = 9, 50

_SAME_KIND = (
    durations.c.model == bindparam("of_model"),
    durations.c.provider == bindparam("at_provider"),
    durations.c.sandbox == bindparam("rehearsed"),
    durations.c.workload == bindparam("like"),
)
_LATEST_SECONDS = select(durations.c.seconds).where(*_SAME_KIND).order_by(durations.c.at.desc()).limit(_MAX_RUNS)
_OLDEST_TIME = (
    select(durations.c.at)
    .where(*_SAME_KIND)
    .order_by(durations.c.at.desc())
    .offset(_MAX_RUNS)
    .limit(1)
    .scalar_subquery()
)
_DELETE_OLD = durations.delete().where(*_SAME_KIND, durations.c.at < _OLDEST_TIME)


@dataclass(frozen=True, slots=True)
class RunKind:
    """Runs that take about as long as each other."""

    model: str
    provider: str
    workload: str
    sandbox: bool

    @property
    def bind_values(self) -> dict[str, object]:
        """The kind under the names that the statements bind."""
        return {
            "of_model": self.model,
            "at_provider": self.provider,
            "like": self.workload,
            "rehearsed": self.sandbox,
        }


def run_kind(job: Job) -> RunKind:
    """Which runs take about as long as a job's."""
    return RunKind(job.model, job.provider, job.plan.workload, job.sandbox)


def record_duration(connection: Connection, job_id: str, kind: RunKind, seconds: float, now: float) -> None:
    """Write how long a run took at the provider."""
    row = {"job_id": job_id, "model": kind.model, "provider": kind.provider, "sandbox": kind.sandbox}
    connection.execute(
        insert_or_ignore(connection, durations), row | {"workload": kind.workload, "seconds": seconds, "at": now}
    )
    connection.execute(_DELETE_OLD, kind.bind_values)


def learned_seconds(connection: Connection, kind: RunKind) -> LearnedSeconds | None:
    """How long the latest runs of a kind took, or None when there were none."""
    found = list(connection.execute(_LATEST_SECONDS, kind.bind_values).scalars())
    if not found:
        return None
    longest = sorted(found)[math.ceil(len(found) * 0.99) - 1]
    return LearnedSeconds(statistics.median(found[:_MEDIAN_RUNS]), longest, len(found))
