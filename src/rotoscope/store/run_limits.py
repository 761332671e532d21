"""How many jobs may run at once, by provider and by principal, over all processes: what a claim leaves for later."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import ColumnElement, Connection, or_

from rotoscope.store.lease_predicate import RUNNING_BY_PRINCIPAL, RUNNING_COUNTS
from rotoscope.store.records import Job
from rotoscope.store.schema import jobs

__all__ = ["RunLimits", "RunningJobs", "count_running"]


@dataclass(frozen=True, slots=True)
class RunLimits:
    """The limits of one process.

    Attributes:
        by_provider: how many jobs may run at a provider; one that is not named has no limit. Rehearsals count apart.
        per_principal: how many jobs of any one principal may run; None: no limit.
    """

    by_provider: Mapping[str, int] = field(default_factory=dict)
    per_principal: int | None = None


@dataclass(slots=True)
class RunningJobs:
    """How many jobs are driven now, and which further ones fit.

    Attributes:
        by_provider: by provider and by whether they are rehearsals.
        by_principal: by principal; empty where no limit asks for it.
    """

    limits: RunLimits
    by_provider: Counter[tuple[str, bool]]
    by_principal: Counter[str]

    def exclude_full(self) -> Iterator[ColumnElement[bool]]:
        """Conditions that leave out the jobs that do not fit: they must not hide those behind them."""
        for (provider, sandbox), count in self.by_provider.items():
            if count >= self.limits.by_provider.get(provider, count + 1):
                yield or_(jobs.c.provider != provider, jobs.c.sandbox != sandbox)
        most = self.limits.per_principal
        full = [] if most is None else [one for one, count in self.by_principal.items() if count >= most]
        if full:
            yield jobs.c.principal.not_in(full)

    def take_fitting(self, found: Sequence[Job]) -> list[Job]:
        """Those of some jobs that fit, the first of them first; from now on they count as running."""
        fitting = []
        for job in found:
            place, most = (job.provider, job.sandbox), self.limits.by_provider.get(job.provider)
            has_provider = most is None or self.by_provider[place] < most
            each = self.limits.per_principal
            if has_provider and (each is None or self.by_principal[job.principal] < each):
                self.by_provider[place] += 1
                self.by_principal[job.principal] += 1
                fitting.append(job)
        return fitting


def count_running(connection: Connection, limits: RunLimits, terms: Mapping[str, object]) -> RunningJobs:
    """Count the jobs that some process drives now.

    Args:
        connection: the transaction that claims.
        limits: what is counted for.
        terms: `now` and `farthest_lease`, see `lease_predicate`.
    """
    now = {name: terms[name] for name in ("now", "farthest_lease")}
    rows = connection.execute(RUNNING_COUNTS, now)
    providers = Counter({(provider, sandbox): count for provider, sandbox, count in rows})
    principals: Counter[str] = Counter()
    if limits.per_principal is not None:
        principals.update({row.principal: row.running for row in connection.execute(RUNNING_BY_PRINCIPAL, now)})
    return RunningJobs(limits, providers, principals)
