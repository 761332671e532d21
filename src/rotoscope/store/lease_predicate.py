"""Which jobs a process may take to drive them, as SQL; and the statements that take, keep and give back leases.

A wrong answer here costs money: a job that two processes drive could be paid for twice. So each term has its reason.

A process may take a job when it can drive it (`_CAN_DRIVE`), when no provider has just refused its key for it, and when
the job is either

- queued, due (`_IS_DUE`) and not left to another live process (`_HAS_NO_PREFERRED_OWNER`); or
- running under a lease that is over (`_LEASE_IS_OVER`): its driver has died, or has been stopped for long.

Whoever takes it raises the fence in the same statement. From then on a former driver that wakes up can write nothing
(see `fencing`), and the intent to pay that it may have left behind is found before a second one could be written.

What a statement is bound to (Unix seconds, unless it says otherwise):

- `now`; `me`: this process; `keys`, `models`, `accounts`: what it holds and knows; `driven`: ids of the jobs it drives;
- `refused`: ids of the jobs for which a provider has just refused its key;
- `preferred_since`: a job that was opened before that is left to its opener no longer;
- `alive_since`: a process whose last heartbeat is older is taken for dead;
- `farthest_lease`, `farthest_pause`: no correct clock writes a lease or a pause that ends later. One that does was
  written while a clock was wrong, and counts as over: else the job would stand still until that time comes.
"""

from sqlalchemy import BindParameter, and_, bindparam, case, delete, func, null, or_, select, update

from rotoscope.store.rows import JOB_COLUMNS
from rotoscope.store.schema import job_events, jobs, key_holders, processes

__all__ = [
    "ANY_CLAIMABLE",
    "CANCEL_REQUESTS",
    "CLAIMABLE_JOB",
    "CLAIMABLE_OTHERS",
    "CLAIM_JOB",
    "DELETE_PROCESS",
    "DELETE_SILENT_PROCESSES",
    "EVENTS_AFTER",
    "KEY_HOLDER",
    "MAX_CLAIMS",
    "NEWEST_EVENT",
    "OLDEST_OPEN_JOBS",
    "OPEN_JOBS",
    "RELEASE_JOBS",
    "RENEW_LEASES",
    "RUNNING_COUNTS",
]

MAX_CLAIMS = 64
"""How many jobs one transaction takes: it holds the write lock, so it must stay short."""

# Statements are built once: they run every second in every process, and building one costs more than running it.
_NOW: BindParameter[float] = bindparam("now")
_THIS_OWNER: BindParameter[str] = bindparam("me")

# Before the watch stage a request that pays may be sent, or one whose reply was lost is looked for in the list of an
# account: both need a key of the very account that the job was opened with, for another account would be charged, or
# would not know the run. From the watch stage on a result that is paid for is only collected, which any key of the
# same host may do (`needs_key` names the host).
_IS_BEFORE_WATCH = jobs.c.stage.in_(("prepare", "submit"))
_CAN_DRIVE = and_(
    jobs.c.needs_key.in_(bindparam("keys", expanding=True)),
    jobs.c.model.in_(bindparam("models", expanding=True)),
    or_(~_IS_BEFORE_WATCH, jobs.c.account.is_(None), jobs.c.account.in_(bindparam("accounts", expanding=True))),
)

# `next_at` is when a stage is tried again.
_IS_DUE = or_(jobs.c.next_at.is_(None), jobs.c.next_at <= _NOW, jobs.c.next_at > bindparam("farthest_pause"))

# A new job is left for a moment to the process that opened it: its caller waits there, and other processes on the same
# ledger may have other folders and limits. Not when that process is this one, is dead, or has had its moment; nor when
# the job seems to have been opened in the future.
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

# Nobody drives a running job without a lease: every statement that sets `running` sets a lease.
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

# A process never takes from itself: after its wall clock was set ahead, its own leases seem to be over. `states` leaves
# out the running ones while that is in doubt.
_NOT_DRIVEN_HERE = (
    jobs.c.id.not_in(bindparam("driven", expanding=True)),
    jobs.c.state.in_(bindparam("states", expanding=True)),
)
ANY_CLAIMABLE = select(jobs.c.id).where(_IS_CLAIMABLE, *_NOT_DRIVEN_HERE).limit(1)
_CLAIMABLE_JOBS = select(*JOB_COLUMNS).where(_IS_CLAIMABLE).order_by(jobs.c.created_at, jobs.c.id).limit(MAX_CLAIMS)
CLAIMABLE_JOB = _CLAIMABLE_JOBS.where(jobs.c.id == bindparam("one"))
CLAIMABLE_OTHERS = _CLAIMABLE_JOBS.where(*_NOT_DRIVEN_HERE)

# What counts against a provider's limit: the jobs that some process drives now. Those of the sandbox count apart.
RUNNING_COUNTS = (
    select(jobs.c.provider, jobs.c.sandbox, func.count())
    .where(jobs.c.state == "running", ~_LEASE_IS_OVER)
    .group_by(jobs.c.provider, jobs.c.sandbox)
)

# It runs in the transaction that found the job claimable, so the conditions need not be repeated. A pause that no
# correct clock has written is dropped; any other stays for the driver to keep.
CLAIM_JOB = (
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
RENEW_LEASES = (
    update(jobs)
    .where(*_DRIVEN_HERE, jobs.c.id.in_(bindparam("driven", expanding=True)))
    .values(lease_until=bindparam("until"))
    .returning(jobs.c.id, jobs.c.cancel_requested)
)
CANCEL_REQUESTS = select(jobs.c.id).where(*_DRIVEN_HERE, jobs.c.cancel_requested)
RELEASE_JOBS = (
    update(jobs)
    .where(jobs.c.owner == _THIS_OWNER, jobs.c.state.in_(("running", "queued")))
    .values(state="queued", owner=None, lease_until=None, updated_at=_NOW)
    .returning(jobs.c.id)
)
OPEN_JOBS = select(jobs.c.id).where(jobs.c.state.in_(("queued", "running")), _CAN_DRIVE)
OLDEST_OPEN_JOBS = (
    select(*JOB_COLUMNS).where(jobs.c.state.in_(("queued", "running"))).order_by(jobs.c.created_at).limit(MAX_CLAIMS)
)
KEY_HOLDER = select(key_holders.c.owner, key_holders.c.seen_at).where(key_holders.c.key == bindparam("named"))
NEWEST_EVENT = select(func.coalesce(func.max(job_events.c.seq), 0))
EVENTS_AFTER = select(job_events.c.seq, job_events.c.job_id).where(job_events.c.seq > bindparam("after"))
DELETE_PROCESS = delete(processes).where(processes.c.owner == _THIS_OWNER)
DELETE_SILENT_PROCESSES = delete(processes).where(
    or_(processes.c.beat_at < bindparam("forgotten_before"), processes.c.beat_at > bindparam("forgotten_after"))
)
