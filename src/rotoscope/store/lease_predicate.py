"""Which jobs a process may take to drive them, as SQL; and the statements that take, keep and give back leases.

A wrong answer here costs money: a job that two processes drive could be paid for twice. So each term has its reason.

A process may take a job when it can drive it (`_CAN_DRIVE`), when no provider has just refused its key for it, and when
the job is either

- queued, due (`_IS_DUE`), with all that it waits for ended (`_HAS_ITS_INPUTS`), and not left to another live process
  (`_HAS_NO_PREFERRED_OWNER`); or
- running under a lease that is over (`_LEASE_IS_OVER`): its driver has died, or has been stopped for long.

Whoever takes it raises the fence in the same statement. From then on a former driver that wakes up can write nothing
(see `fencing`), and the intent to pay that it may have left behind is found before a second one could be written.

What a statement is bound to (Unix seconds, unless it says otherwise):

- `now`; `me`: this process; `keys`, `models`, `accounts`: what it holds and knows; `own_keys`: whether it uses the
  principals' own keys, which are in the ledger; `driven`: ids of the jobs it drives;
- `refused`: ids of the jobs for which a provider has just refused its key;
- `preferred_since`: a job that was opened before that is left to its opener no longer;
- `alive_since`: a process whose last heartbeat is older is taken for dead;
- `farthest_lease`, `farthest_pause`: no correct clock writes a lease or a pause that ends later. One that does was
  written while a clock was wrong, and counts as over: else the job would stand still until that time comes.
"""

from sqlalchemy import BindParameter, Boolean, and_, bindparam, case, delete, exists, func, null, or_, select, update

from rotoscope.store.access_schema import provider_keys
from rotoscope.store.records import ENDED_STATES, UNPAID_STAGES
from rotoscope.store.rows import JOB_COLUMNS
from rotoscope.store.schema import job_events, job_waits, jobs, key_holders, processes

__all__ = [
    "ANY_CLAIMABLE",
    "CANCEL_REQUESTS",
    "CLAIMABLE_JOB",
    "CLAIMABLE_JOB_LOCKED",
    "CLAIMABLE_OTHERS_LOCKED",
    "CLAIM_JOB",
    "DELETE_PROCESS",
    "DELETE_SILENT_PROCESSES",
    "EVENTS_AFTER",
    "HOLDS_ACCOUNT",
    "HOLDS_KEY",
    "IS_IDLE",
    "IS_LEFT_TO_OTHERS",
    "KEY_HOLDER",
    "LOCK_OWNED",
    "LOCK_RENEWED",
    "MAX_CLAIMS",
    "NEWEST_EVENT",
    "OLDEST_OPEN_JOBS",
    "OPEN_JOBS",
    "OWN_ACCOUNT",
    "RELEASE_JOBS",
    "RENEW_LEASES",
    "RUNNING_BY_PRINCIPAL",
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
#
# A process that uses the principals' own keys (`own_keys`) holds none itself: it can drive a job while the job's own
# principal has a key for its provider in the ledger, and before the watch stage only while that is the very key that
# the job was opened with. The keys that such jobs need are named apart, so no process with keys of the operator's takes
# one of them, nor the other way round.
_USES_OWN_KEYS: BindParameter[bool] = bindparam("own_keys", type_=Boolean)
_OWN_KEY = (provider_keys.c.principal == jobs.c.principal, provider_keys.c.provider == jobs.c.provider)
_HAS_OWN_KEY = exists().where(*_OWN_KEY).correlate(jobs)
_HAS_OWN_ACCOUNT = exists().where(*_OWN_KEY, provider_keys.c.account == jobs.c.account).correlate(jobs)

HOLDS_KEY = and_(
    jobs.c.needs_key.in_(bindparam("keys", expanding=True)),
    jobs.c.model.in_(bindparam("models", expanding=True)),
    or_(~_USES_OWN_KEYS, _HAS_OWN_KEY),
)
"""Whether a process can ask a job's provider, with some key."""

HOLDS_ACCOUNT = or_(
    and_(_USES_OWN_KEYS, _HAS_OWN_ACCOUNT),
    and_(~_USES_OWN_KEYS, or_(jobs.c.account.is_(None), jobs.c.account.in_(bindparam("accounts", expanding=True)))),
)
"""Whether it can do so with the very key that the job was opened with."""

_IS_BEFORE_WATCH = jobs.c.stage.in_(sorted(UNPAID_STAGES))
_CAN_DRIVE = and_(HOLDS_KEY, or_(~_IS_BEFORE_WATCH, HOLDS_ACCOUNT))

# `next_at` is when a stage is tried again.
_IS_DUE = or_(jobs.c.next_at.is_(None), jobs.c.next_at <= _NOW, jobs.c.next_at > bindparam("farthest_pause"))

# A job that takes outputs of others as its arguments waits for their ends. One in review has not ended: what became of
# its run is not known. One that is gone can give nothing any more, and the job that waits for it is to say so.
_awaited = jobs.alias("awaited")
_HAS_ITS_INPUTS = ~exists().where(
    job_waits.c.job_id == jobs.c.id,
    _awaited.c.id == job_waits.c.on_job_id,
    _awaited.c.state.not_in(sorted(ENDED_STATES)),
).correlate(jobs)

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
        and_(jobs.c.state == "queued", _IS_DUE, _HAS_ITS_INPUTS, _HAS_NO_PREFERRED_OWNER),
        and_(jobs.c.state == "running", _LEASE_IS_OVER),
    ),
)

IS_IDLE = or_(and_(jobs.c.state == "queued", _IS_DUE, _HAS_ITS_INPUTS), and_(jobs.c.state == "running", _LEASE_IS_OVER))
"""Whether nobody drives a job that could go on."""

IS_LEFT_TO_OTHERS = select(jobs.c.id).where(
    jobs.c.id == bindparam("one"), IS_IDLE, or_(~_CAN_DRIVE, jobs.c.id.in_(bindparam("refused", expanding=True)))
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
# For the transaction that claims them: from this statement on nobody else writes their rows. A row that somebody writes
# in this moment is passed over, for its job is no idle one; so nothing is waited for, whatever the order.
CLAIMABLE_JOB_LOCKED = CLAIMABLE_JOB.with_for_update(key_share=True)
CLAIMABLE_OTHERS_LOCKED = CLAIMABLE_OTHERS.with_for_update(key_share=True, skip_locked=True)

# What counts against a provider's limit: the jobs that some process drives now. Those of the sandbox count apart.
RUNNING_COUNTS = (
    select(jobs.c.provider, jobs.c.sandbox, func.count())
    .where(jobs.c.state == "running", ~_LEASE_IS_OVER)
    .group_by(jobs.c.provider, jobs.c.sandbox)
)

RUNNING_BY_PRINCIPAL = (
    select(jobs.c.principal, func.count().label("running"))
    .where(jobs.c.state == "running", ~_LEASE_IS_OVER)
    .group_by(jobs.c.principal)
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
_RENEWED = (*_DRIVEN_HERE, jobs.c.id.in_(bindparam("driven", expanding=True)))
_OWNED = (jobs.c.owner == _THIS_OWNER, jobs.c.state.in_(("running", "queued")))
# A statement that writes several rows locks them in any order. So they are locked before, in the order that all keep.
LOCK_RENEWED = select(jobs.c.id).where(*_RENEWED).order_by(jobs.c.id).with_for_update(key_share=True)
LOCK_OWNED = select(jobs.c.id).where(*_OWNED).order_by(jobs.c.id).with_for_update(key_share=True)
RENEW_LEASES = (
    update(jobs).where(*_RENEWED).values(lease_until=bindparam("until")).returning(jobs.c.id, jobs.c.cancel_requested)
)
CANCEL_REQUESTS = select(jobs.c.id).where(*_DRIVEN_HERE, jobs.c.cancel_requested)
RELEASE_JOBS = (
    update(jobs)
    .where(*_OWNED)
    .values(state="queued", owner=None, lease_until=None, updated_at=_NOW)
    .returning(jobs.c.id)
)
OPEN_JOBS = select(jobs.c.id).where(jobs.c.state.in_(("queued", "running")), _CAN_DRIVE)
OLDEST_OPEN_JOBS = (
    select(*JOB_COLUMNS).where(jobs.c.state.in_(("queued", "running"))).order_by(jobs.c.created_at).limit(MAX_CLAIMS)
)
KEY_HOLDER = select(key_holders.c.owner, key_holders.c.seen_at).where(key_holders.c.key == bindparam("named"))
OWN_ACCOUNT = select(provider_keys.c.account).where(
    provider_keys.c.principal == bindparam("whose"), provider_keys.c.provider == bindparam("at")
)
NEWEST_EVENT = select(func.coalesce(func.max(job_events.c.seq), 0))
EVENTS_AFTER = select(job_events.c.seq, job_events.c.job_id).where(job_events.c.seq > bindparam("after"))
DELETE_PROCESS = delete(processes).where(processes.c.owner == _THIS_OWNER)
DELETE_SILENT_PROCESSES = delete(processes).where(
    or_(processes.c.beat_at < bindparam("forgotten_before"), processes.c.beat_at > bindparam("forgotten_after"))
)
