"""Leases: which process drives which job, when several share one ledger. Every take-over raises the job's fence."""

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

from sqlalchemy import Connection, Select

from rotoscope.contracts.times import timestamp
from rotoscope.models.catalog import OWN_KEY_MARK
from rotoscope.store.backend import upsert
from rotoscope.store.chains import read_awaited_jobs
from rotoscope.store.change_cursor import ChangeCursor
from rotoscope.store.database import Database
from rotoscope.store.lease_predicate import (
    ANY_CLAIMABLE,
    CANCEL_REQUESTS,
    CLAIM_JOB,
    CLAIMABLE_JOB,
    CLAIMABLE_JOB_LOCKED,
    CLAIMABLE_OTHERS_LOCKED,
    DELETE_PROCESS,
    DELETE_SILENT_PROCESSES,
    EVENTS_AFTER,
    IS_LEFT_TO_OTHERS,
    KEY_HOLDER,
    LOCK_OWNED,
    LOCK_RENEWED,
    MAX_CLAIMS,
    NEWEST_EVENT,
    OLDEST_OPEN_JOBS,
    OPEN_JOBS,
    OWN_ACCOUNT,
    RELEASE_JOBS,
    RENEW_LEASES,
)
from rotoscope.store.records import ENDED_STATES, UNPAID_STAGES, Job
from rotoscope.store.rows import job_from_row, write_event
from rotoscope.store.run_limits import RunLimits, count_running
from rotoscope.store.schema import key_holders, processes
from rotoscope.store.timing import Intervals
from rotoscope.store.write_locks import WriteLock

__all__ = ["Heartbeat", "JobDriver", "Leases", "idle_since"]

_FORGET_AFTER_LEASES = 20  # leases: a process that was silent for so long is dropped from the table
_CLAIM_SECONDS = 10.0  # seconds in which a process that can take a job takes it
_ALIVE_SECONDS = 30.0  # seconds since its last heartbeat after which a process is not expected to come back
# One process after the other counts what runs and takes what still fits; and one after the other says that it lives.
_CLAIMS, _HEARTBEATS = frozenset({"claims"}), frozenset({"heartbeats"})
_FIRST_EVENTS = 200  # of the newest events, among which some may be missing yet
_START_HINT = "Start rotoscope with that key, and it goes on."


@dataclass(frozen=True, slots=True)
class JobDriver:
    """A process that drives jobs.

    Attributes:
        owner: names it, uniquely for each start.
        keys: what it can speak to: providers whose key it holds, by name and as `provider@host`, or the sandbox.
        accounts: fingerprints of the keys that it holds.
        uses_own_keys: whether it sends each job's requests with the own key of the job's principal, out of the ledger.
        models: the models that it knows.
        limits: how many jobs may run at once, over all processes.
    """

    owner: str
    keys: frozenset[str]
    models: frozenset[str]
    limits: RunLimits = field(default_factory=RunLimits)
    accounts: frozenset[str] = frozenset()
    uses_own_keys: bool = False

    def terms(self) -> dict[str, object]:
        """What `lease_predicate.HOLDS_KEY` and `HOLDS_ACCOUNT` are bound to."""
        return {
            "keys": list(self.keys),
            "models": list(self.models),
            "accounts": list(self.accounts),
            "own_keys": self.uses_own_keys,
        }


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
        taken = await self._claim_jobs(CLAIMABLE_JOB_LOCKED, {"one": job_id})
        return taken[0] if taken else None

    async def can_claim(self, job_id: str) -> bool:
        """Whether this process could take a job now, if its provider has room. A look costs no lock."""
        terms = {**self._claim_terms(self.clock()), "one": job_id}
        found = await self.database.transact(
            lambda c: c.execute(CLAIMABLE_JOB, terms).first(), writes=False, is_one_look=True
        )
        return found is not None

    async def is_left_to_others(self, job_id: str) -> bool:
        """Whether nobody drives a job, and other processes could, but not this one."""
        terms = {**self._claim_terms(self.clock()), "one": job_id}
        found = await self.database.transact(lambda c: c.execute(IS_LEFT_TO_OTHERS, terms).first(), writes=False)
        return found is not None

    async def claim_several(
        self, driven: frozenset[str] = frozenset(), *, only_queued: bool = False, most: int = MAX_CLAIMS
    ) -> Sequence[Job]:
        """Take jobs that no process drives, the oldest first.

        Args:
            driven: the jobs that are driven here; a wall clock that was set ahead ends no lease of our own.
            only_queued: whether leases that seem to have run out are respected, because the wall clock was set.
            most: how many are taken at most.
        """
        others = {"driven": list(driven), "states": ["queued"] if only_queued else ["queued", "running"]}
        looked_at = self.clock()
        terms = {**self._claim_terms(looked_at), **others}
        # A look costs no lock; most of them find nothing.
        found = await self.database.transact(
            lambda c: c.execute(ANY_CLAIMABLE, terms).first(), writes=False, is_one_look=True
        )
        if found is None:
            return ()
        return await self._claim_jobs(CLAIMABLE_OTHERS_LOCKED, others, looked_at, most)

    async def renew(self, driven: frozenset[str]) -> Heartbeat:
        """Renew the leases of the jobs that are driven here, and read which of them are to be cancelled.

        One that ran out while no other process took the job is renewed too: the fence decides, not the clock.
        """

        def write(connection: Connection) -> Heartbeat:
            now = self.clock()  # only now: it may have waited long for the lock
            _write_heartbeat(connection, self.driver, now, self.intervals.lease * _FORGET_AFTER_LEASES)
            terms = {"me": self.driver.owner, "driven": list(driven), "until": now + self.intervals.lease}
            mine = {name: terms[name] for name in ("me", "driven")}
            rows = connection.execute(RENEW_LEASES, terms).all() if connection.execute(LOCK_RENEWED, mine).all() else ()
            return Heartbeat(
                frozenset(row.id for row in rows), frozenset(row.id for row in rows if row.cancel_requested)
            )

        return await self.database.transact(write, lock=WriteLock(names=_HEARTBEATS))

    async def cancel_requests(self) -> frozenset[str]:
        """The jobs of this process for which a cancel was asked, in any process."""
        mine = {"me": self.driver.owner}
        return await self.database.transact(
            lambda c: frozenset(c.execute(CANCEL_REQUESTS, mine).scalars()), writes=False, is_one_look=True
        )

    async def release_all(self) -> None:
        """End cleanly: whoever comes next takes over at once."""
        now, mine = self.clock(), {"me": self.driver.owner}

        def write(connection: Connection) -> None:
            connection.execute(LOCK_OWNED, mine).all()
            for job_id in connection.execute(RELEASE_JOBS, {**mine, "now": now}).scalars().all():
                write_event(connection, job_id, now, "given_back", {})
            connection.execute(DELETE_PROCESS, mine)

        await self.database.transact(write, lock=WriteLock(names=_HEARTBEATS))

    async def changes_since(self, cursor: ChangeCursor | None) -> tuple[ChangeCursor, frozenset[str]]:
        """The jobs with events that were not read yet, and what to ask with next time; None begins at the end."""
        in_order, now = self.database.numbers_in_order, self.clock()

        def read(connection: Connection) -> tuple[ChangeCursor, frozenset[str]]:
            newest = int(connection.execute(NEWEST_EVENT).scalar_one())
            if cursor is None and in_order:
                return ChangeCursor(newest), frozenset()
            last = ChangeCursor(max(0, newest - _FIRST_EVENTS)) if cursor is None else cursor
            if in_order and last.newest > newest:
                last = ChangeCursor(0)  # a sweep has removed the newest: the numbers start again from what is left
            rows = connection.execute(EVENTS_AFTER, {"after": last.read_after}).all()
            changed = (
                frozenset(row.job_id for row in rows if last.is_new(row.seq)) if cursor is not None else frozenset()
            )
            if in_order:
                return ChangeCursor(max((row.seq for row in rows), default=newest)), changed
            return last.advance([row.seq for row in rows], now), changed

        return await self.database.transact(read, writes=False)

    async def open_jobs(self) -> Sequence[str]:
        """The ids of the jobs that have not ended and that this process could drive."""
        return await self.database.transact(
            lambda c: list(c.execute(OPEN_JOBS, self.driver.terms()).scalars()), writes=False
        )

    async def idle_reason(self, job: Job) -> str | None:
        """Since when no process drives a job and why; None where one does, or it is too early to say."""
        now = self.clock()
        if idle_since(job, now) is None:
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
        self,
        wanted: Select[tuple[object, ...]],
        which: Mapping[str, object],
        looked_at: float | None = None,
        most: int = MAX_CLAIMS,
    ) -> Sequence[Job]:
        def write(connection: Connection) -> Sequence[Job]:
            # Only now: measured before a long wait for the lock, a lease of this moment would lie too far ahead.
            now = self.clock()
            if looked_at is not None and abs(now - looked_at) > self.intervals.lease - self.intervals.heartbeat:
                return ()  # the clock was set since the look, or the lock took long: the next look decides
            terms = {**self._claim_terms(now), **which}
            taken: list[Job] = []
            running = count_running(connection, self.driver.limits, terms)
            while True:
                full = tuple(running.exclude_full())
                somewhere = wanted.where(*full) if full else wanted
                found = [job_from_row(row) for row in connection.execute(somewhere, terms)]
                fitting = running.take_fitting(found)[: most - len(taken)]
                taken += [self._write_claim(connection, job, terms) for job in fitting]
                # A provider or a principal that became full by this had so many waiting that they hid those of others.
                if len(found) < MAX_CLAIMS or len(fitting) == len(found) or len(taken) >= most:
                    return taken

        return await self.database.transact(write, lock=WriteLock(names=_CLAIMS))

    def _write_claim(self, connection: Connection, job: Job, terms: Mapping[str, object]) -> Job:
        now = cast("float", terms["now"])
        wanted = {name: terms[name] for name in ("me", "now", "farthest_pause")}
        taken = connection.execute(CLAIM_JOB, {**wanted, "one": job.id, "until": now + self.intervals.lease}).one()
        write_event(connection, job.id, now, "claimed", {"owner": self.driver.owner})
        return job_from_row(taken)

    def _claim_terms(self, now: float) -> dict[str, object]:
        """What makes a job free for this process now."""
        tempo = self.intervals
        return {
            **self.driver.terms(),
            "now": now,
            "me": self.driver.owner,
            "refused": [one for one, at in self._exclusions.items() if 0 <= now - at < tempo.key_refusal_pause],
            "preferred_since": now - tempo.starter_preference,
            "alive_since": now - tempo.lease,
            # A clock that is set back by less than this leaves every owner time to beat, see `Dispatcher`.
            "farthest_lease": now + 2 * tempo.lease - tempo.heartbeat,
            "farthest_pause": now + tempo.longest_pause,
        }


def idle_since(job: Job, now: float) -> float | None:
    """Since when no process drives a job that could go on, in Unix seconds; None if one does, or it is too early."""
    if job.is_final or (job.next_at or 0.0) > now:
        return None
    since = (job.lease_until or job.updated_at) if job.state == "running" else job.updated_at
    return since if now - since > _CLAIM_SECONDS else None


def _read_idle_reason(connection: Connection, job: Job, now: float) -> str | None:
    """Since when no process drives a job and why, in a sentence that says what to do; None as in `idle_since`."""
    since = idle_since(job, now)
    if since is None or (job.stage == "gather" and _waits_for_jobs(connection, job)):
        return None
    key, idle = job.needs_key or job.provider, f"Nobody drives it since {timestamp(since)}"
    own = _read_own_key_fault(connection, job)
    if own is not None:
        return f"{idle}: {own}"
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


def _waits_for_jobs(connection: Connection, job: Job) -> bool:
    return any(one.job.state not in ENDED_STATES for one in read_awaited_jobs(connection, job.id))


def _read_own_key_fault(connection: Connection, job: Job) -> str | None:
    """Why a job cannot go on with its principal's own key, in a sentence; None where that is not the reason."""
    if job.needs_key is None or not job.needs_key.endswith(OWN_KEY_MARK):
        return None
    account = connection.execute(OWN_ACCOUNT, {"whose": job.principal, "at": job.provider}).scalar_one_or_none()
    how = f"rotoscope keys set {job.provider} --principal {shlex.quote(job.principal)}"
    if account is None:
        return f"{job.principal} has no key for {job.provider} any more. Enter it again, and the job goes on: {how}."
    if job.stage in UNPAID_STAGES and account != job.account:
        return (
            f"it was begun with another key of {job.principal} for {job.provider}. Enter that key again ({how}), or "
            "cancel the job."
        )
    return None


def _process_label(owner: str) -> str:
    """A process for a person: `123 on laptop` for `laptop:123:ab`."""
    host, _, rest = owner.partition(":")
    return f"{rest.partition(':')[0]} on {host}" if rest else owner


def _write_heartbeat(connection: Connection, driver: JobDriver, now: float, forgotten_after: float) -> None:
    row = {"owner": driver.owner, "beat_at": now, "keys": sorted(driver.keys)}
    connection.execute(upsert(connection, processes, "beat_at", "keys"), row)
    if driver.keys:
        held = [{"key": key, "owner": driver.owner, "seen_at": now} for key in sorted(driver.keys)]
        connection.execute(upsert(connection, key_holders, "owner", "seen_at"), held)
    connection.execute(
        DELETE_SILENT_PROCESSES, {"forgotten_before": now - forgotten_after, "forgotten_after": now + forgotten_after}
    )
