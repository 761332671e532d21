"""Leases: which process drives which job, when several share one ledger. Every take-over raises the job's fence."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

from sqlalchemy import ColumnElement, Connection, Select, or_

from rotoscope.contracts.times import timestamp
from rotoscope.store.backend import upsert
from rotoscope.store.database import Database
from rotoscope.store.lease_predicate import (
    ANY_CLAIMABLE,
    CANCEL_REQUESTS,
    CLAIM_JOB,
    CLAIMABLE_JOB,
    CLAIMABLE_OTHERS,
    DELETE_PROCESS,
    DELETE_SILENT_PROCESSES,
    EVENTS_AFTER,
    KEY_HOLDER,
    MAX_CLAIMS,
    NEWEST_EVENT,
    OLDEST_OPEN_JOBS,
    OPEN_JOBS,
    RELEASE_JOBS,
    RENEW_LEASES,
    RUNNING_COUNTS,
)
from rotoscope.store.records import Job
from rotoscope.store.rows import job_from_row, write_event
from rotoscope.store.schema import jobs, key_holders, processes
from rotoscope.store.timing import Intervals

__all__ = ["Heartbeat", "JobDriver", "Leases"]

_FORGET_AFTER_LEASES = 20  # leases: a process that was silent for so long is dropped from the table
_CLAIM_SECONDS = 10.0  # seconds in which a process that can take a job takes it
_ALIVE_SECONDS = 30.0  # seconds since its last heartbeat after which a process is not expected to come back
_START_HINT = "Start rotoscope with that key, and it goes on."


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
    """The answer to a heartbeat: which jobs are still this process's own, and which of them are to be cancelled."""

    job_ids: frozenset[str]
    cancel_requests: frozenset[str]


@dataclass(frozen=True, slots=True)
class Leases:
    """Claims, renews and gives back jobs, for a process and not for a principal: it drives the jobs of all.

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
        """Take one job to drive it; None when another process has it or its provider is at its limit."""
        taken = await self._claim_jobs(CLAIMABLE_JOB, {"one": job_id})
        return taken[0] if taken else None

    async def can_claim(self, job_id: str) -> bool:
        """Whether this process could take a job now, if its provider has room. A look costs no lock."""
        terms = {**self._claim_terms(self.clock()), "one": job_id}
        return await self.database.transact(lambda c: c.execute(CLAIMABLE_JOB, terms).first(), writes=False) is not None

    async def claim_several(self, driven: frozenset[str] = frozenset(), *, only_queued: bool = False) -> Sequence[Job]:
        """Take jobs that no process drives, the oldest first.

        Args:
            driven: the jobs that are driven here; a wall clock that was set ahead ends no lease of our own.
            only_queued: whether leases that seem to have run out are respected, because the wall clock was set.
        """
        others = {"driven": list(driven), "states": ["queued"] if only_queued else ["queued", "running"]}
        looked_at = self.clock()
        terms = {**self._claim_terms(looked_at), **others}
        # A look costs no lock; most of them find nothing.
        if await self.database.transact(lambda c: c.execute(ANY_CLAIMABLE, terms).first(), writes=False) is None:
            return ()
        return await self._claim_jobs(CLAIMABLE_OTHERS, others, looked_at)

    async def renew(self, driven: frozenset[str]) -> Heartbeat:
        """Renew the leases of the jobs that are driven here, and read which of them are to be cancelled.

        One that ran out while no other process took the job is renewed too: the fence decides, not the clock.
        """

        def write(connection: Connection) -> Heartbeat:
            now = self.clock()  # only now: it may have waited long for the lock
            _write_heartbeat(connection, self.driver, now, self.intervals.lease * _FORGET_AFTER_LEASES)
            terms = {"me": self.driver.owner, "driven": list(driven), "until": now + self.intervals.lease}
            rows = connection.execute(RENEW_LEASES, terms).all()
            return Heartbeat(
                frozenset(row.id for row in rows), frozenset(row.id for row in rows if row.cancel_requested)
            )

        return await self.database.transact(write)

    async def cancel_requests(self) -> frozenset[str]:
        """The jobs of this process for which a cancel was asked, in any process."""
        mine = {"me": self.driver.owner}
        return await self.database.transact(
            lambda c: frozenset(c.execute(CANCEL_REQUESTS, mine).scalars()), writes=False
        )

    async def release_all(self) -> None:
        """End cleanly: whoever comes next takes over at once."""
        now, mine = self.clock(), {"me": self.driver.owner}

        def write(connection: Connection) -> None:
            for job_id in connection.execute(RELEASE_JOBS, {**mine, "now": now}).scalars().all():
                write_event(connection, job_id, now, "given_back", {})
            connection.execute(DELETE_PROCESS, mine)

        await self.database.transact(write)

    async def changes_since(self, seq: int) -> tuple[int, frozenset[str]]:
        """The jobs with events after a number, and the number to ask from next time; below zero begins at the end."""

        def read(connection: Connection) -> tuple[int, frozenset[str]]:
            newest = int(connection.execute(NEWEST_EVENT).scalar_one())
            if seq < 0:
                return newest, frozenset()
            # A sweep may have removed the newest; then the numbers start again from what is left.
            rows = connection.execute(EVENTS_AFTER, {"after": seq if seq <= newest else 0}).all()
            if not rows:
                return newest, frozenset()
            return max((row.seq for row in rows), default=seq), frozenset(row.job_id for row in rows)

        return await self.database.transact(read, writes=False)

    async def open_jobs(self) -> Sequence[str]:
        """The ids of the jobs that have not ended and that this process could drive."""
        return await self.database.transact(
            lambda c: list(c.execute(OPEN_JOBS, self._driver_terms()).scalars()), writes=False
        )

    async def idle_reason(self, job: Job) -> str | None:
        """Since when no process drives a job and why; None where one does, or it is too early to say."""
        now = self.clock()
        if _idle_since(job, now) is None:
            return None  # so it is for nearly every job: nothing is read
        return await self.database.transact(lambda c: _read_idle_reason(c, job, now), writes=False)

    async def idle_jobs(self) -> Sequence[tuple[Job, str]]:
        """The oldest jobs that no process drives, each with the reason. Unscoped: of all principals."""
        now = self.clock()

        def read(connection: Connection) -> Sequence[tuple[Job, str]]:
            found = [job_from_row(row) for row in connection.execute(OLDEST_OPEN_JOBS)]
            return [(job, why) for job in found if (why := _read_idle_reason(connection, job, now)) is not None]

        return await self.database.transact(read, writes=False)

    async def _claim_jobs(
        self, wanted: Select[tuple[object, ...]], which: Mapping[str, object], looked_at: float | None = None
    ) -> Sequence[Job]:
        def write(connection: Connection) -> Sequence[Job]:
            # Only now: measured before a long wait for the lock, a lease of this moment would lie too far ahead.
            now = self.clock()
            if looked_at is not None and abs(now - looked_at) > self.intervals.lease - self.intervals.heartbeat:
                return ()  # the clock was set since the look, or the lock took long: the next look decides
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
                if len(found) < MAX_CLAIMS or len(roomy) == len(found):
                    return taken

        return await self.database.transact(write)

    def _write_claim(self, connection: Connection, job: Job, terms: Mapping[str, object]) -> Job:
        now = cast("float", terms["now"])
        wanted = {name: terms[name] for name in ("me", "now", "farthest_pause")}
        taken = connection.execute(CLAIM_JOB, {**wanted, "one": job.id, "until": now + self.intervals.lease}).one()
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


def _idle_since(job: Job, now: float) -> float | None:
    """Since when no process drives a job that could go on, in Unix seconds; None if one does, or it is too early."""
    if job.is_final or (job.next_at or 0.0) > now:
        return None
    since = (job.lease_until or job.updated_at) if job.state == "running" else job.updated_at
    return since if now - since > _CLAIM_SECONDS else None


def _read_idle_reason(connection: Connection, job: Job, now: float) -> str | None:
    """Since when no process drives a job and why, in a sentence that says what to do; None as in `_idle_since`."""
    since = _idle_since(job, now)
    if since is None:
        return None
    key, idle = job.needs_key or job.provider, f"Nobody drives it since {timestamp(since)}"
    seen = connection.execute(KEY_HOLDER, {"named": key}).first()
    if seen is None:
        return f"{idle}: it needs the key {key}, and no process was ever seen with it. {_START_HINT}"
    process = f"process {_process_label(seen.owner)}"
    if not -_ALIVE_SECONDS <= now - seen.seen_at <= _ALIVE_SECONDS:
        return f"{idle}: it needs the key {key}, last seen in {process} at {timestamp(seen.seen_at)}. {_START_HINT}"
    return (
        f"It waits since {timestamp(since)}: {process} holds the key {key} and takes it when its provider has room, "
        "unless the job was begun with a key of another account, or its model is not known there."
    )


def _process_label(owner: str) -> str:
    """A process for a person: `123 on laptop` for `laptop:123:ab`."""
    host, _, rest = owner.partition(":")
    return f"{rest.partition(':')[0]} on {host}" if rest else owner


def _count_running(connection: Connection, terms: Mapping[str, object]) -> Counter[tuple[str, bool]]:
    """How many jobs are driven now, by provider and by whether they are rehearsals."""
    rows = connection.execute(RUNNING_COUNTS, {name: terms[name] for name in ("now", "farthest_lease")})
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
        DELETE_SILENT_PROCESSES, {"forgotten_before": now - forgotten_after, "forgotten_after": now + forgotten_after}
    )
