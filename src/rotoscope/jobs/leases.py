"""Leases: which process drives which job, when several share one ledger. Every take-over raises the job's fence."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Connection,
    Select,
    and_,
    bindparam,
    delete,
    func,
    or_,
    select,
    update,
)
from sqlalchemy.dialects.sqlite import insert as insert_or_merge

from rotoscope.jobs.database import Database
from rotoscope.jobs.job import Job
from rotoscope.jobs.rows import JOB_COLUMNS, job_of, note
from rotoscope.jobs.tables import job_events, jobs, processes
from rotoscope.jobs.tempo import Tempo

__all__ = ["Beat", "Holder", "Leases"]

_MOST_AT_ONCE = 64  # jobs that are taken in one transaction: it must stay short
_FORGOTTEN_AFTER = 20  # leases: a process that was silent for so long is dropped from the table

# Statements are worded once: they run every second in every process, and wording one costs more than running it.
_NOW: BindParameter[float] = bindparam("now")
_DRIVABLE = and_(
    jobs.c.needs_key.in_(bindparam("keys", expanding=True)), jobs.c.model.in_(bindparam("models", expanding=True))
)
_UNPREFERRED = or_(
    jobs.c.owner.is_(None),
    jobs.c.owner == bindparam("me"),
    jobs.c.created_at < bindparam("preferred_since"),
    jobs.c.owner.not_in(select(processes.c.owner).where(processes.c.beat_at > bindparam("alive_since"))),
)
_FREE = and_(
    _DRIVABLE,
    or_(
        and_(jobs.c.state == "queued", or_(jobs.c.next_at.is_(None), jobs.c.next_at <= _NOW), _UNPREFERRED),
        and_(jobs.c.state == "running", jobs.c.lease_until < _NOW),
    ),
)
_ANY_FREE = select(jobs.c.id).where(_FREE).limit(1)
_FREE_JOBS = select(*JOB_COLUMNS).where(_FREE).order_by(jobs.c.created_at, jobs.c.id).limit(_MOST_AT_ONCE)
_FREE_JOB = _FREE_JOBS.where(jobs.c.id == bindparam("one"))
_RUNNING = (
    select(jobs.c.provider, jobs.c.sandbox, func.count())
    .where(jobs.c.state == "running", jobs.c.lease_until >= _NOW)
    .group_by(jobs.c.provider, jobs.c.sandbox)
)
_TAKE = (
    update(jobs)
    .where(jobs.c.id == bindparam("one"))
    .values(
        state="running",
        owner=bindparam("me"),
        lease_until=bindparam("until"),
        fence=jobs.c.fence + 1,
        updated_at=_NOW,
    )
    .returning(*JOB_COLUMNS)
)
_SAYING = insert_or_merge(processes)
_SAY_ALIVE = _SAYING.on_conflict_do_update(
    index_elements=["owner"], set_={"beat_at": _SAYING.excluded.beat_at, "keys": _SAYING.excluded["keys"]}
)


@dataclass(frozen=True, slots=True)
class Holder:
    """A process that drives jobs.

    Attributes:
        owner: names it, uniquely for each start.
        keys: what it can speak to: providers whose key it holds, by name and as `provider@host`, or the sandbox.
        accounts: fingerprints of the keys that it holds.
        models: the models that it knows.
        limits: how many jobs may run at once at a provider, over all processes; a provider without one has no limit.
    """

    owner: str
    keys: frozenset[str]
    models: frozenset[str]
    limits: Mapping[str, int] = field(default_factory=dict)
    accounts: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Beat:
    """What a process hears when it says that it lives: which jobs are still its own, and which are to be cancelled."""

    held: frozenset[str]
    cancels: frozenset[str]


@dataclass(frozen=True, slots=True)
class Leases:
    """Claims, renews and gives back.

    A process claims a job that is queued, or whose owner has been silent for longer than its lease; only with the key
    that the job needs, and only while the job's provider has room. A new job is left to its starter for a moment.
    """

    database: Database
    clock: Callable[[], float]
    holder: Holder
    tempo: Tempo

    async def claim(self, job_id: str) -> Job | None:
        """Take one job to drive it; None when somebody else has it or its provider has no room."""
        taken = await self._taken(_FREE_JOB, {"one": job_id})
        return taken[0] if taken else None

    async def claim_some(self, driven: frozenset[str] = frozenset(), *, only_queued: bool = False) -> Sequence[Job]:
        """Take what nobody drives, the oldest first.

        Args:
            driven: the jobs that are driven here; a wall clock that was set ahead ends no lease of our own.
            only_queued: whether leases that seem to have run out are respected, because the wall clock was set.
        """
        states = ("queued",) if only_queued else ("queued", "running")
        others = (jobs.c.id.not_in(driven), jobs.c.state.in_(states))
        terms, waiting = self._terms(self.clock()), _ANY_FREE.where(*others)
        # A look costs no lock; most of them find nothing.
        if await self.database.transact(lambda c: c.execute(waiting, terms).first(), writes=False) is None:
            return ()
        return await self._taken(_FREE_JOBS.where(*others), {})

    async def beat(self, driven: frozenset[str]) -> Beat:
        """Renew the leases of the jobs that are driven here, and hear what was asked of them.

        One that ran out while nobody took the job is renewed too: the fence tells who came first, not the clock.
        """
        now = self.clock()
        mine = (jobs.c.owner == self.holder.owner, jobs.c.state == "running", jobs.c.id.in_(driven))
        renewing = update(jobs).where(*mine).values(lease_until=now + self.tempo.lease)
        renewing_and_telling = renewing.returning(jobs.c.id, jobs.c.cancel_requested)

        def write(connection: Connection) -> Beat:
            _say_alive(connection, self.holder, now, self.tempo.lease * _FORGOTTEN_AFTER)
            rows = connection.execute(renewing_and_telling).all()
            return Beat(frozenset(row.id for row in rows), frozenset(row.id for row in rows if row.cancel_requested))

        return await self.database.transact(write)

    async def cancels(self) -> frozenset[str]:
        """The jobs of this process that somebody, in any process, has asked to cancel."""
        mine = (jobs.c.owner == self.holder.owner, jobs.c.state == "running", jobs.c.cancel_requested)
        query = select(jobs.c.id).where(*mine)
        return await self.database.transact(lambda c: frozenset(c.execute(query).scalars()), writes=False)

    async def give_back(self) -> None:
        """End cleanly: whoever comes next takes over at once."""
        now, owner = self.clock(), self.holder.owner
        back = {"state": "queued", "owner": None, "lease_until": None, "updated_at": now}

        def write(connection: Connection) -> None:
            mine = jobs.c.owner == owner
            returned = update(jobs).where(mine, jobs.c.state.in_(("running", "queued"))).values(back)
            for job_id in connection.execute(returned.returning(jobs.c.id)).scalars().all():
                note(connection, job_id, now, "given_back", {})
            connection.execute(delete(processes).where(processes.c.owner == owner))

        await self.database.transact(write)

    async def changed_since(self, seq: int) -> tuple[int, frozenset[str]]:
        """The jobs with events after a number, and the number to ask from next time; below zero begins at the end."""

        def read(connection: Connection) -> tuple[int, frozenset[str]]:
            if seq < 0:
                newest = connection.execute(select(func.coalesce(func.max(job_events.c.seq), 0))).scalar_one()
                return int(newest), frozenset()
            rows = connection.execute(select(job_events.c.seq, job_events.c.job_id).where(job_events.c.seq > seq)).all()
            return max((row.seq for row in rows), default=seq), frozenset(row.job_id for row in rows)

        return await self.database.transact(read, writes=False)

    async def open_jobs(self) -> Sequence[str]:
        """The ids of the jobs that have not ended and that this process could drive."""
        query = select(jobs.c.id).where(jobs.c.state.in_(("queued", "running")), _DRIVABLE)
        mine = {"keys": list(self.holder.keys), "models": list(self.holder.models)}
        return await self.database.transact(lambda c: list(c.execute(query, mine).scalars()), writes=False)

    async def _taken(self, wanted: Select[tuple[object, ...]], which: Mapping[str, str]) -> Sequence[Job]:
        now = self.clock()
        terms = {**self._terms(now), **which}

        def write(connection: Connection) -> Sequence[Job]:
            taken: list[Job] = []
            running = _running(connection, now)
            while True:
                full = tuple(_not_full(self.holder.limits, running))
                somewhere = wanted.where(*full) if full else wanted
                found = [job_of(row) for row in connection.execute(somewhere, terms)]
                roomy = _with_room(found, self.holder.limits, running)
                taken += [self._take(connection, job, now) for job in roomy]
                # A provider that became full by this had so many waiting that they hid those of others.
                if len(found) < _MOST_AT_ONCE or len(roomy) == len(found):
                    return taken

        return await self.database.transact(write)

    def _take(self, connection: Connection, job: Job, now: float) -> Job:
        terms = {"one": job.id, "me": self.holder.owner, "until": now + self.tempo.lease, "now": now}
        taken = connection.execute(_TAKE, terms).one()
        note(connection, job.id, now, "claimed", {"owner": self.holder.owner})
        return job_of(taken)

    def _terms(self, now: float) -> dict[str, object]:
        """What makes a job free for this process now."""
        return {
            "now": now,
            "me": self.holder.owner,
            "keys": list(self.holder.keys),
            "models": list(self.holder.models),
            "preferred_since": now - self.tempo.prefer_starter,
            "alive_since": now - self.tempo.lease,
        }


def _running(connection: Connection, now: float) -> Counter[tuple[str, bool]]:
    """How many jobs are driven now, by provider and by whether they are rehearsals."""
    rows = connection.execute(_RUNNING, {"now": now})
    return Counter({(provider, sandbox): count for provider, sandbox, count in rows})


def _not_full(limits: Mapping[str, int], running: Counter[tuple[str, bool]]) -> Iterator[ColumnElement[bool]]:
    """Jobs of a provider that is full must not hide those behind them."""
    for (provider, sandbox), count in running.items():
        if count >= limits.get(provider, count + 1):
            yield or_(jobs.c.provider != provider, jobs.c.sandbox != sandbox)


def _with_room(found: Sequence[Job], limits: Mapping[str, int], running: Counter[tuple[str, bool]]) -> list[Job]:
    """Those of some jobs whose providers have room for them, the first of them first."""
    roomy = []
    for job in found:
        place, limit = (job.provider, job.sandbox), limits.get(job.provider)
        if limit is None or running[place] < limit:
            running[place] += 1
            roomy.append(job)
    return roomy


def _say_alive(connection: Connection, holder: Holder, now: float, forgotten_after: float) -> None:
    row = {"owner": holder.owner, "beat_at": now, "keys": sorted(holder.keys)}
    connection.execute(_SAY_ALIVE, row)
    connection.execute(delete(processes).where(processes.c.beat_at < now - forgotten_after))
