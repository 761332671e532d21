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

from rotoscope.store.backend import upsert
from rotoscope.store.database import Database
from rotoscope.store.idle import KeyHolder, idle_reason, idle_since
from rotoscope.store.records import Job
from rotoscope.store.rows import JOB_COLUMNS, job_from_row, write_event
from rotoscope.store.schema import job_events, jobs, key_holders, processes
from rotoscope.store.timing import Intervals

__all__ = ["Heartbeat", "JobDriver", "Leases"]

_MAX_CLAIMS = 64  # jobs that are taken in one transaction: it must stay short
_FORGET_AFTER_LEASES = 20  # leases: a process that was silent for so long is dropped from the table

# Statements are worded once: they run every second in every process, and wording one costs more than running it.
_NOW: BindParameter[float] = bindparam("now")
_THIS_OWNER: BindParameter[str] = bindparam("me")
# What was paid for may be collected with any key of the same host. What is sent, or was sent and is searched for, needs
# a key of the very account.
_IS_BEFORE_WATCH = jobs.c.stage.in_(("prepare", "submit"))
_CAN_DRIVE = and_(
    jobs.c.needs_key.in_(bindparam("keys", expanding=True)),
    jobs.c.model.in_(bindparam("models", expanding=True)),
    or_(~_IS_BEFORE_WATCH, jobs.c.account.is_(None), jobs.c.account.in_(bindparam("accounts", expanding=True))),
)
# A moment that lies further ahead than anybody could have meant was written while the clock was wrong: it is over.
_IS_DUE = or_(jobs.c.next_at.is_(None), jobs.c.next_at <= _NOW, jobs.c.next_at > bindparam("farthest_pause"))
_LIVE_OWNERS = select(processes.c.owner).where(
    processes.c.beat_at > bindparam("alive_since"), processes.c.beat_at <= bindparam("farthest_lease")
)
_HAS_NO_PREFERRED_OWNER = or_(
    jobs.c.owner.is_(None),
    jobs.c.owner == _THIS_OWNER,
    jobs.c.created_at < bindparam("preferred_since"),
    jobs.c.created_at > bindparam("farthest_lease"),
    jobs.c.owner.not_in(_LIVE_OWNERS),
)
_LEASE_IS_OVER = or_(
    jobs.c.lease_until.is_(None), jobs.c.lease_until < _NOW, jobs.c.lease_until > bindparam("farthest_lease")
)
_IS_CLAIMABLE = and_(
    _CAN_DRIVE,
    jobs.c.id.not_in(bindparam("refused", expanding=True)),
    or_(
        and_(jobs.c.state == "queued", _IS_DUE, _HAS_NO_PREFERRED_OWNER),
        and_(jobs.c.state == "running", _LEASE_IS_OVER),
    ),
)
_NOT_DRIVEN_HERE = (
    jobs.c.id.not_in(bindparam("driven", expanding=True)),
    jobs.c.state.in_(bindparam("states", expanding=True)),
)
_ANY_CLAIMABLE = select(jobs.c.id).where(_IS_CLAIMABLE, *_NOT_DRIVEN_HERE).limit(1)
_CLAIMABLE_JOBS = select(*JOB_COLUMNS).where(_IS_CLAIMABLE).order_by(jobs.c.created_at, jobs.c.id).limit(_MAX_CLAIMS)
_CLAIMABLE_JOB = _CLAIMABLE_JOBS.where(jobs.c.id == bindparam("one"))
_CLAIMABLE_OTHERS = _CLAIMABLE_JOBS.where(*_NOT_DRIVEN_HERE)
_RUNNING_COUNTS = (
    select(jobs.c.provider, jobs.c.sandbox, func.count())
    .where(jobs.c.state == "running", ~_LEASE_IS_OVER)
    .group_by(jobs.c.provider, jobs.c.sandbox)
)
_CLAIM_JOB = (
    update(jobs)
    .where(jobs.c.id == bindparam("one"))
    .values(
        state="running",
        owner=_THIS_OWNER,
        lease_until=bindparam("until"),
        next_at=case((jobs.c.next_at > bindparam("farthest_pause"), null()), else_=jobs.c.next_at),
        fence=jobs.c.fence + 1,
        updated_at=_NOW,
    )
    .returning(*JOB_COLUMNS)
)
_DRIVEN_HERE = (jobs.c.owner == _THIS_OWNER, jobs.c.state == "running")
_RENEW_LEASES = (
    update(jobs)
    .where(*_DRIVEN_HERE, jobs.c.id.in_(bindparam("driven", expanding=True)))
    .values(lease_until=bindparam("until"))
    .returning(jobs.c.id, jobs.c.cancel_requested)
)
_CANCEL_REQUESTS = select(jobs.c.id).where(*_DRIVEN_HERE, jobs.c.cancel_requested)
_RELEASE_JOBS = (
    update(jobs)
    .where(jobs.c.owner == _THIS_OWNER, jobs.c.state.in_(("running", "queued")))
    .values(state="queued", owner=None, lease_until=None, updated_at=_NOW)
    .returning(jobs.c.id)
)
_OPEN_JOBS = select(jobs.c.id).where(jobs.c.state.in_(("queued", "running")), _CAN_DRIVE)
_OLDEST_OPEN_JOBS = (
    select(*JOB_COLUMNS).where(jobs.c.state.in_(("queued", "running"))).order_by(jobs.c.created_at).limit(_MAX_CLAIMS)
)
_KEY_HOLDER = select(key_holders.c.owner, key_holders.c.seen_at).where(key_holders.c.key == bindparam("named"))
_NEWEST_EVENT = select(func.coalesce(func.max(job_events.c.seq), 0))
_EVENTS_AFTER = select(job_events.c.seq, job_events.c.job_id).where(job_events.c.seq > bindparam("after"))
_DELETE_PROCESS = delete(processes).where(processes.c.owner == _THIS_OWNER)
_DELETE_SILENT_PROCESSES = delete(processes).where(
    or_(processes.c.beat_at < bindparam("forgotten_before"), processes.c.beat_at > bindparam("forgotten_after"))
)


@dataclass(frozen=True, slots=True)
class JobDriver:
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
class Heartbeat:
    """What a process hears when it says that it lives: which jobs are still its own, and which are to be cancelled."""

    job_ids: frozenset[str]
    cancel_requests: frozenset[str]


@dataclass(frozen=True, slots=True)
class Leases:
    """Claims, renews and gives back.

    A process claims a job that is queued, or whose owner has been silent for longer than its lease; only with the key
    that the job needs, and only while the job's provider has room. A new job is left to its starter for a moment. A
    lease, or a pause, that lies further ahead than its own longest length was written by a clock that was wrong.
    """

    database: Database
    clock: Callable[[], float]
    driver: JobDriver
    intervals: Intervals
    _exclusions: dict[str, float] = field(default_factory=dict)

    def exclude_job(self, job_id: str) -> None:
        """A provider has refused our key for a job: for a while it is left to processes with another one."""
        self._exclusions[job_id] = self.clock()

    async def claim(self, job_id: str) -> Job | None:
        """Take one job to drive it; None when somebody else has it or its provider has no room."""
        taken = await self._claim_jobs(_CLAIMABLE_JOB, {"one": job_id})
        return taken[0] if taken else None

    async def can_claim(self, job_id: str) -> bool:
        """Whether this process could take a job now, if its provider has room. A look costs no lock."""
        terms = {**self._claim_terms(self.clock()), "one": job_id}
        return (
            await self.database.transact(lambda c: c.execute(_CLAIMABLE_JOB, terms).first(), writes=False) is not None
        )

    async def claim_several(self, driven: frozenset[str] = frozenset(), *, only_queued: bool = False) -> Sequence[Job]:
        """Take what nobody drives, the oldest first.

        Args:
            driven: the jobs that are driven here; a wall clock that was set ahead ends no lease of our own.
            only_queued: whether leases that seem to have run out are respected, because the wall clock was set.
        """
        others = {"driven": list(driven), "states": ["queued"] if only_queued else ["queued", "running"]}
        looked_at = self.clock()
        terms = {**self._claim_terms(looked_at), **others}
        # A look costs no lock; most of them find nothing.
        if await self.database.transact(lambda c: c.execute(_ANY_CLAIMABLE, terms).first(), writes=False) is None:
            return ()
        return await self._claim_jobs(_CLAIMABLE_OTHERS, others, looked_at)

    async def renew(self, driven: frozenset[str]) -> Heartbeat:
        """Renew the leases of the jobs that are driven here, and hear what was asked of them.

        One that ran out while nobody took the job is renewed too: the fence tells who came first, not the clock.
        """

        def write(connection: Connection) -> Heartbeat:
            now = self.clock()  # only now: it may have waited long for the lock
            _write_heartbeat(connection, self.driver, now, self.intervals.lease * _FORGET_AFTER_LEASES)
            terms = {"me": self.driver.owner, "driven": list(driven), "until": now + self.intervals.lease}
            rows = connection.execute(_RENEW_LEASES, terms).all()
            return Heartbeat(
                frozenset(row.id for row in rows), frozenset(row.id for row in rows if row.cancel_requested)
            )

        return await self.database.transact(write)

    async def cancel_requests(self) -> frozenset[str]:
        """The jobs of this process that somebody, in any process, has asked to cancel."""
        mine = {"me": self.driver.owner}
        return await self.database.transact(
            lambda c: frozenset(c.execute(_CANCEL_REQUESTS, mine).scalars()), writes=False
        )

    async def release_all(self) -> None:
        """End cleanly: whoever comes next takes over at once."""
        now, mine = self.clock(), {"me": self.driver.owner}

        def write(connection: Connection) -> None:
            for job_id in connection.execute(_RELEASE_JOBS, {**mine, "now": now}).scalars().all():
                write_event(connection, job_id, now, "given_back", {})
            connection.execute(_DELETE_PROCESS, mine)

        await self.database.transact(write)

    async def changes_since(self, seq: int) -> tuple[int, frozenset[str]]:
        """The jobs with events after a number, and the number to ask from next time; below zero begins at the end."""

        def read(connection: Connection) -> tuple[int, frozenset[str]]:
            newest = int(connection.execute(_NEWEST_EVENT).scalar_one())
            if seq < 0:
                return newest, frozenset()
            # A sweep may have removed the newest; then the numbers begin anew from what is left.
            rows = connection.execute(_EVENTS_AFTER, {"after": seq if seq <= newest else 0}).all()
            if not rows:
                return newest, frozenset()
            return max((row.seq for row in rows), default=seq), frozenset(row.job_id for row in rows)

        return await self.database.transact(read, writes=False)

    async def open_jobs(self) -> Sequence[str]:
        """The ids of the jobs that have not ended and that this process could drive."""
        return await self.database.transact(
            lambda c: list(c.execute(_OPEN_JOBS, self._driver_terms()).scalars()), writes=False
        )

    async def idle_reason(self, job: Job) -> str | None:
        """Since when nobody drives a job and why; None where somebody does, or it is too early to say."""
        now = self.clock()
        if idle_since(job, now) is None:
            return None  # so it is for nearly every job: nothing is read
        return await self.database.transact(lambda c: _read_idle_reason(c, job, now), writes=False)

    async def idle_jobs(self) -> Sequence[tuple[Job, str]]:
        """The oldest jobs that nobody drives, each with why."""
        now = self.clock()

        def read(connection: Connection) -> Sequence[tuple[Job, str]]:
            found = [job_from_row(row) for row in connection.execute(_OLDEST_OPEN_JOBS)]
            return [(job, why) for job in found if (why := _read_idle_reason(connection, job, now)) is not None]

        return await self.database.transact(read, writes=False)

    async def _claim_jobs(
        self, wanted: Select[tuple[object, ...]], which: Mapping[str, object], looked_at: float | None = None
    ) -> Sequence[Job]:
        def write(connection: Connection) -> Sequence[Job]:
            # Only now: measured before a long wait for the lock, a lease of this moment would lie too far ahead.
            now = self.clock()
            if looked_at is not None and abs(now - looked_at) > self.intervals.lease - self.intervals.heartbeat:
                return ()  # the clock was set since the look, or the lock took long: the next look judges anew
            terms = {**self._claim_terms(now), **which}
            taken: list[Job] = []
            running = _count_running(connection, terms)
            while True:
                full = tuple(_exclude_full_providers(self.driver.limits, running))
                somewhere = wanted.where(*full) if full else wanted
                found = [job_from_row(row) for row in connection.execute(somewhere, terms)]
                roomy = _jobs_within_limits(found, self.driver.limits, running)
                taken += [self._write_claim(connection, job, terms) for job in roomy]
                # A provider that became full by this had so many waiting that they hid those of others.
                if len(found) < _MAX_CLAIMS or len(roomy) == len(found):
                    return taken

        return await self.database.transact(write)

    def _write_claim(self, connection: Connection, job: Job, terms: Mapping[str, object]) -> Job:
        now = cast("float", terms["now"])
        wanted = {name: terms[name] for name in ("me", "now", "farthest_pause")}
        taken = connection.execute(_CLAIM_JOB, {**wanted, "one": job.id, "until": now + self.intervals.lease}).one()
        write_event(connection, job.id, now, "claimed", {"owner": self.driver.owner})
        return job_from_row(taken)

    def _driver_terms(self) -> dict[str, object]:
        holder = self.driver
        return {"keys": list(holder.keys), "models": list(holder.models), "accounts": list(holder.accounts)}

    def _claim_terms(self, now: float) -> dict[str, object]:
        """What makes a job free for this process now."""
        tempo = self.intervals
        return {
            **self._driver_terms(),
            "now": now,
            "me": self.driver.owner,
            "refused": [one for one, at in self._exclusions.items() if 0 <= now - at < tempo.key_refusal_pause],
            "preferred_since": now - tempo.starter_preference,
            "alive_since": now - tempo.lease,
            # A clock that is set back by less than this leaves every owner time to beat, see `Dispatcher`.
            "farthest_lease": now + 2 * tempo.lease - tempo.heartbeat,
            "farthest_pause": now + tempo.longest_pause,
        }


def _read_idle_reason(connection: Connection, job: Job, now: float) -> str | None:
    key = job.needs_key or job.provider
    row = connection.execute(_KEY_HOLDER, {"named": key}).first()
    return idle_reason(job, {key: KeyHolder(row.owner, row.seen_at)} if row else {}, now)


def _count_running(connection: Connection, terms: Mapping[str, object]) -> Counter[tuple[str, bool]]:
    """How many jobs are driven now, by provider and by whether they are rehearsals."""
    rows = connection.execute(_RUNNING_COUNTS, {name: terms[name] for name in ("now", "farthest_lease")})
    return Counter({(provider, sandbox): count for provider, sandbox, count in rows})


def _exclude_full_providers(
    limits: Mapping[str, int], running: Counter[tuple[str, bool]]
) -> Iterator[ColumnElement[bool]]:
    """Jobs of a provider that is full must not hide those behind them."""
    for (provider, sandbox), count in running.items():
        if count >= limits.get(provider, count + 1):
            yield or_(jobs.c.provider != provider, jobs.c.sandbox != sandbox)


def _jobs_within_limits(
    found: Sequence[Job], limits: Mapping[str, int], running: Counter[tuple[str, bool]]
) -> list[Job]:
    """Those of some jobs whose providers have room for them, the first of them first."""
    roomy = []
    for job in found:
        place, limit = (job.provider, job.sandbox), limits.get(job.provider)
        if limit is None or running[place] < limit:
            running[place] += 1
            roomy.append(job)
    return roomy


def _write_heartbeat(connection: Connection, driver: JobDriver, now: float, forgotten_after: float) -> None:
    row = {"owner": driver.owner, "beat_at": now, "keys": sorted(driver.keys)}
    connection.execute(upsert(connection, processes, "beat_at", "keys"), row)
    if driver.keys:
        held = [{"key": key, "owner": driver.owner, "seen_at": now} for key in sorted(driver.keys)]
        connection.execute(upsert(connection, key_holders, "owner", "seen_at"), held)
    connection.execute(
        _DELETE_SILENT_PROCESSES, {"forgotten_before": now - forgotten_after, "forgotten_after": now + forgotten_after}
    )
