"""Leases: which process drives which job, when several share one ledger. Every take-over raises the job's fence."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Connection,
    Select,
    and_,
    bindparam,
    case,
    delete,
    func,
    null,
    or_,
    select,
    update,
)
from sqlalchemy.dialects.sqlite import insert as insert_or_merge

from rotoscope.store.database import Database
from rotoscope.store.idle import Seen, idle_since, why_idle
from rotoscope.store.records import Job
from rotoscope.store.rows import JOB_COLUMNS, job_of, note
from rotoscope.store.schema import job_events, jobs, key_holders, processes
from rotoscope.store.timing import Tempo

__all__ = ["Beat", "Holder", "Leases"]

_MOST_AT_ONCE = 64  # jobs that are taken in one transaction: it must stay short
_FORGOTTEN_AFTER = 20  # leases: a process that was silent for so long is dropped from the table

# Statements are worded once: they run every second in every process, and wording one costs more than running it.
_NOW: BindParameter[float] = bindparam("now")
_ME: BindParameter[str] = bindparam("me")
# What was paid for may be collected with any key of the same host. What is sent, or was sent and is searched for, needs
# a key of the very account.
_SENDS = jobs.c.stage.in_(("prepare", "submit"))
_DRIVABLE = and_(
    jobs.c.needs_key.in_(bindparam("keys", expanding=True)),
    jobs.c.model.in_(bindparam("models", expanding=True)),
    or_(~_SENDS, jobs.c.account.is_(None), jobs.c.account.in_(bindparam("accounts", expanding=True))),
)
# A moment that lies further ahead than anybody could have meant was written while the clock was wrong: it is over.
_DUE = or_(jobs.c.next_at.is_(None), jobs.c.next_at <= _NOW, jobs.c.next_at > bindparam("farthest_pause"))
_ALIVE = select(processes.c.owner).where(
    processes.c.beat_at > bindparam("alive_since"), processes.c.beat_at <= bindparam("farthest_lease")
)
_UNPREFERRED = or_(
    jobs.c.owner.is_(None),
    jobs.c.owner == _ME,
    jobs.c.created_at < bindparam("preferred_since"),
    jobs.c.created_at > bindparam("farthest_lease"),
    jobs.c.owner.not_in(_ALIVE),
)
_LEFT = or_(jobs.c.lease_until.is_(None), jobs.c.lease_until < _NOW, jobs.c.lease_until > bindparam("farthest_lease"))
_FREE = and_(
    _DRIVABLE,
    jobs.c.id.not_in(bindparam("refused", expanding=True)),
    or_(and_(jobs.c.state == "queued", _DUE, _UNPREFERRED), and_(jobs.c.state == "running", _LEFT)),
)
_OTHERS = (
    jobs.c.id.not_in(bindparam("driven", expanding=True)),
    jobs.c.state.in_(bindparam("states", expanding=True)),
)
_ANY_FREE = select(jobs.c.id).where(_FREE, *_OTHERS).limit(1)
_FREE_JOBS = select(*JOB_COLUMNS).where(_FREE).order_by(jobs.c.created_at, jobs.c.id).limit(_MOST_AT_ONCE)
_FREE_JOB = _FREE_JOBS.where(jobs.c.id == bindparam("one"))
_FREE_OTHERS = _FREE_JOBS.where(*_OTHERS)
_RUNNING = (
    select(jobs.c.provider, jobs.c.sandbox, func.count())
    .where(jobs.c.state == "running", ~_LEFT)
    .group_by(jobs.c.provider, jobs.c.sandbox)
)
_TAKE = (
    update(jobs)
    .where(jobs.c.id == bindparam("one"))
    .values(
        state="running",
        owner=_ME,
        lease_until=bindparam("until"),
        next_at=case((jobs.c.next_at > bindparam("farthest_pause"), null()), else_=jobs.c.next_at),
        fence=jobs.c.fence + 1,
        updated_at=_NOW,
    )
    .returning(*JOB_COLUMNS)
)
_MINE = (jobs.c.owner == _ME, jobs.c.state == "running")
_RENEW = (
    update(jobs)
    .where(*_MINE, jobs.c.id.in_(bindparam("driven", expanding=True)))
    .values(lease_until=bindparam("until"))
    .returning(jobs.c.id, jobs.c.cancel_requested)
)
_CANCELS = select(jobs.c.id).where(*_MINE, jobs.c.cancel_requested)
_GIVE_BACK = (
    update(jobs)
    .where(jobs.c.owner == _ME, jobs.c.state.in_(("running", "queued")))
    .values(state="queued", owner=None, lease_until=None, updated_at=_NOW)
    .returning(jobs.c.id)
)
_OPEN = select(jobs.c.id).where(jobs.c.state.in_(("queued", "running")), _DRIVABLE)
_LEFT_OPEN = (
    select(*JOB_COLUMNS).where(jobs.c.state.in_(("queued", "running"))).order_by(jobs.c.created_at).limit(_MOST_AT_ONCE)
)
_HOLDER = select(key_holders.c.owner, key_holders.c.seen_at).where(key_holders.c.key == bindparam("named"))
_NEWEST = select(func.coalesce(func.max(job_events.c.seq), 0))
_EVENTS = select(job_events.c.seq, job_events.c.job_id).where(job_events.c.seq > bindparam("after"))
_SAYING, _HOLDING = insert_or_merge(processes), insert_or_merge(key_holders)
_SAY_ALIVE = _SAYING.on_conflict_do_update(
    index_elements=["owner"], set_={"beat_at": _SAYING.excluded.beat_at, "keys": _SAYING.excluded["keys"]}
)
_SAY_HELD = _HOLDING.on_conflict_do_update(
    index_elements=["key"], set_={"owner": _HOLDING.excluded.owner, "seen_at": _HOLDING.excluded.seen_at}
)
_LEAVE = delete(processes).where(processes.c.owner == _ME)
_FORGET = delete(processes).where(
    or_(processes.c.beat_at < bindparam("forgotten_before"), processes.c.beat_at > bindparam("forgotten_after"))
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
    that the job needs, and only while the job's provider has room. A new job is left to its starter for a moment. A
    lease, or a pause, that lies further ahead than its own longest length was written by a clock that was wrong.
    """

    database: Database
    clock: Callable[[], float]
    holder: Holder
    tempo: Tempo
    _refusals: dict[str, float] = field(default_factory=dict)

    def refuse(self, job_id: str) -> None:
        """A provider has refused our key for a job: for a while it is left to processes with another one."""
        self._refusals[job_id] = self.clock()

    async def claim(self, job_id: str) -> Job | None:
        """Take one job to drive it; None when somebody else has it or its provider has no room."""
        taken = await self._taken(_FREE_JOB, {"one": job_id})
        return taken[0] if taken else None

    async def is_free(self, job_id: str) -> bool:
        """Whether this process could take a job now, if its provider has room. A look costs no lock."""
        terms = {**self._terms(self.clock()), "one": job_id}
        return await self.database.transact(lambda c: c.execute(_FREE_JOB, terms).first(), writes=False) is not None

    async def claim_some(self, driven: frozenset[str] = frozenset(), *, only_queued: bool = False) -> Sequence[Job]:
        """Take what nobody drives, the oldest first.

        Args:
            driven: the jobs that are driven here; a wall clock that was set ahead ends no lease of our own.
            only_queued: whether leases that seem to have run out are respected, because the wall clock was set.
        """
        others = {"driven": list(driven), "states": ["queued"] if only_queued else ["queued", "running"]}
        looked_at = self.clock()
        terms = {**self._terms(looked_at), **others}
        # A look costs no lock; most of them find nothing.
        if await self.database.transact(lambda c: c.execute(_ANY_FREE, terms).first(), writes=False) is None:
            return ()
        return await self._taken(_FREE_OTHERS, others, looked_at)

    async def beat(self, driven: frozenset[str]) -> Beat:
        """Renew the leases of the jobs that are driven here, and hear what was asked of them.

        One that ran out while nobody took the job is renewed too: the fence tells who came first, not the clock.
        """

        def write(connection: Connection) -> Beat:
            now = self.clock()  # only now: it may have waited long for the lock
            _say_alive(connection, self.holder, now, self.tempo.lease * _FORGOTTEN_AFTER)
            terms = {"me": self.holder.owner, "driven": list(driven), "until": now + self.tempo.lease}
            rows = connection.execute(_RENEW, terms).all()
            return Beat(frozenset(row.id for row in rows), frozenset(row.id for row in rows if row.cancel_requested))

        return await self.database.transact(write)

    async def cancels(self) -> frozenset[str]:
        """The jobs of this process that somebody, in any process, has asked to cancel."""
        mine = {"me": self.holder.owner}
        return await self.database.transact(lambda c: frozenset(c.execute(_CANCELS, mine).scalars()), writes=False)

    async def give_back(self) -> None:
        """End cleanly: whoever comes next takes over at once."""
        now, mine = self.clock(), {"me": self.holder.owner}

        def write(connection: Connection) -> None:
            for job_id in connection.execute(_GIVE_BACK, {**mine, "now": now}).scalars().all():
                note(connection, job_id, now, "given_back", {})
            connection.execute(_LEAVE, mine)

        await self.database.transact(write)

    async def changed_since(self, seq: int) -> tuple[int, frozenset[str]]:
        """The jobs with events after a number, and the number to ask from next time; below zero begins at the end."""

        def read(connection: Connection) -> tuple[int, frozenset[str]]:
            newest = int(connection.execute(_NEWEST).scalar_one())
            if seq < 0:
                return newest, frozenset()
            # A sweep may have removed the newest; then the numbers begin anew from what is left.
            rows = connection.execute(_EVENTS, {"after": seq if seq <= newest else 0}).all()
            if not rows:
                return newest, frozenset()
            return max((row.seq for row in rows), default=seq), frozenset(row.job_id for row in rows)

        return await self.database.transact(read, writes=False)

    async def open_jobs(self) -> Sequence[str]:
        """The ids of the jobs that have not ended and that this process could drive."""
        return await self.database.transact(lambda c: list(c.execute(_OPEN, self._held()).scalars()), writes=False)

    async def why_idle(self, job: Job) -> str | None:
        """Since when nobody drives a job and why; None where somebody does, or it is too early to say."""
        now = self.clock()
        if idle_since(job, now) is None:
            return None  # so it is for nearly every job: nothing is read
        return await self.database.transact(lambda c: _why_idle(c, job, now), writes=False)

    async def left_open(self) -> Sequence[tuple[Job, str]]:
        """The oldest jobs that nobody drives, each with why."""
        now = self.clock()

        def read(connection: Connection) -> Sequence[tuple[Job, str]]:
            found = [job_of(row) for row in connection.execute(_LEFT_OPEN)]
            return [(job, why) for job in found if (why := _why_idle(connection, job, now)) is not None]

        return await self.database.transact(read, writes=False)

    async def _taken(
        self, wanted: Select[tuple[object, ...]], which: Mapping[str, object], looked_at: float | None = None
    ) -> Sequence[Job]:
        def write(connection: Connection) -> Sequence[Job]:
            # Only now: measured before a long wait for the lock, a lease of this moment would lie too far ahead.
            now = self.clock()
            if looked_at is not None and abs(now - looked_at) > self.tempo.lease - self.tempo.beat:
                return ()  # the clock was set since the look, or the lock took long: the next look judges anew
            terms = {**self._terms(now), **which}
            taken: list[Job] = []
            running = _running(connection, terms)
            while True:
                full = tuple(_not_full(self.holder.limits, running))
                somewhere = wanted.where(*full) if full else wanted
                found = [job_of(row) for row in connection.execute(somewhere, terms)]
                roomy = _with_room(found, self.holder.limits, running)
                taken += [self._take(connection, job, terms) for job in roomy]
                # A provider that became full by this had so many waiting that they hid those of others.
                if len(found) < _MOST_AT_ONCE or len(roomy) == len(found):
                    return taken

        return await self.database.transact(write)

    def _take(self, connection: Connection, job: Job, terms: Mapping[str, object]) -> Job:
        now = cast("float", terms["now"])
        wanted = {name: terms[name] for name in ("me", "now", "farthest_pause")}
        taken = connection.execute(_TAKE, {**wanted, "one": job.id, "until": now + self.tempo.lease}).one()
        note(connection, job.id, now, "claimed", {"owner": self.holder.owner})
        return job_of(taken)

    def _held(self) -> dict[str, object]:
        holder = self.holder
        return {"keys": list(holder.keys), "models": list(holder.models), "accounts": list(holder.accounts)}

    def _terms(self, now: float) -> dict[str, object]:
        """What makes a job free for this process now."""
        tempo = self.tempo
        return {
            **self._held(),
            "now": now,
            "me": self.holder.owner,
            "refused": [one for one, at in self._refusals.items() if 0 <= now - at < tempo.refused_pause],
            "preferred_since": now - tempo.prefer_starter,
            "alive_since": now - tempo.lease,
            # A clock that is set back by less than this leaves every owner time to beat, see `Dispatcher`.
            "farthest_lease": now + 2 * tempo.lease - tempo.beat,
            "farthest_pause": now + tempo.longest_pause,
        }


def _why_idle(connection: Connection, job: Job, now: float) -> str | None:
    key = job.needs_key or job.provider
    row = connection.execute(_HOLDER, {"named": key}).first()
    return why_idle(job, {key: Seen(row.owner, row.seen_at)} if row else {}, now)


def _running(connection: Connection, terms: Mapping[str, object]) -> Counter[tuple[str, bool]]:
    """How many jobs are driven now, by provider and by whether they are rehearsals."""
    rows = connection.execute(_RUNNING, {name: terms[name] for name in ("now", "farthest_lease")})
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
    connection.execute(_SAY_ALIVE, {"owner": holder.owner, "beat_at": now, "keys": sorted(holder.keys)})
    if holder.keys:
        held = [{"key": key, "owner": holder.owner, "seen_at": now} for key in sorted(holder.keys)]
        connection.execute(_SAY_HELD, held)
    connection.execute(_FORGET, {"forgotten_before": now - forgotten_after, "forgotten_after": now + forgotten_after})
