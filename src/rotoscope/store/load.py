"""How many jobs are open now, over all principals: for those who watch the server."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, func, select

from rotoscope.contracts.status import Status
from rotoscope.store.schema import jobs

__all__ = ["OpenJobs", "count_open_jobs"]

_OPEN: tuple[Status, ...] = ("queued", "running", "needs_review")
_COUNT = (
    select(jobs.c.provider, jobs.c.state, jobs.c.sandbox, func.count())
    .where(jobs.c.state.in_(_OPEN))
    .group_by(jobs.c.provider, jobs.c.state, jobs.c.sandbox)
)


@dataclass(frozen=True, slots=True)
class OpenJobs:
    """How many jobs of one provider are in one state; of the sandbox in its place, where `sandbox` says so."""

    provider: str
    state: str
    sandbox: bool
    count: int


def count_open_jobs(connection: Connection) -> Sequence[OpenJobs]:
    """Every provider's jobs that have not ended, by state."""
    return [OpenJobs(*row) for row in connection.execute(_COUNT)]
