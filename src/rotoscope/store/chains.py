"""Jobs that take outputs of other jobs as their arguments; inside the caller's transaction.

A chain is several jobs, each with its own intent, cost and result: the whole is its last job, which waits for the
others. So whatever holds for a job (one payment, leases, reviews, retention) holds for each step, and nothing else is
needed but

- opening all of them at once, or none: in one transaction, under the caps of the whole;
- the order among steps: one may take outputs of others before it, and then waits for these;
- joining what is there: a step whose equal job goes on, or has succeeded, is that job. Nobody asks for a step's result
  twice in order to get another one, so it is never bought again while it is kept;
- `lease_predicate`, by which no process takes a job before all that it waits for has ended;
- cancelling the steps of a job with it, as far as nobody else wants them.
"""

import secrets
from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy import Connection, bindparam, exists, insert, select

from rotoscope.store.intents import read_submission
from rotoscope.store.money import Caps
from rotoscope.store.openings import find_equal_jobs, open_job
from rotoscope.store.records import ENDED_STATES, AwaitedJob, Job, NewJob, OpenResult
from rotoscope.store.reservations import check_caps
from rotoscope.store.rows import JOB_COLUMNS, job_from_row, write_event
from rotoscope.store.schema import job_events, job_waits, jobs

__all__ = [
    "check_chain_caps",
    "find_steps",
    "jobs_to_cancel_with",
    "open_chain",
    "open_new_job",
    "read_awaited_jobs",
    "released_jobs",
]

_OTHER = jobs.alias("other")
_AWAITED_JOBS = (
    select(job_waits.c.n, job_waits.c.is_step, *JOB_COLUMNS)
    .join(jobs, jobs.c.id == job_waits.c.on_job_id)
    .where(job_waits.c.job_id == bindparam("of"))
    .order_by(job_waits.c.n)
)
_IS_UNENDED = jobs.c.state.not_in(sorted(ENDED_STATES))
_STEPS_TO_CANCEL = (
    select(*JOB_COLUMNS)
    .where(jobs.c.id.in_(select(job_waits.c.on_job_id).where(job_waits.c.job_id == bindparam("of"))))
    # Opened for a chain, this one or one that it was shared with.
    .where(exists().where(job_waits.c.on_job_id == jobs.c.id, job_waits.c.is_step).correlate(jobs))
    .where(_IS_UNENDED, ~jobs.c.cancel_requested)
    .where(
        ~exists()
        .where(
            job_waits.c.on_job_id == jobs.c.id,
            _OTHER.c.id == job_waits.c.job_id,
            _OTHER.c.id != bindparam("of"),
            _OTHER.c.state.not_in(sorted(ENDED_STATES)),
            ~_OTHER.c.cancel_requested,
        )
        .correlate(jobs)
    )
    # Somebody has asked for that very result.
    .where(~exists().where(job_events.c.job_id == jobs.c.id, job_events.c.type == "joined").correlate(jobs))
    .order_by(jobs.c.id)
    .with_for_update(key_share=True, of=jobs)
)
_RELEASED_JOBS = (
    select(*JOB_COLUMNS)
    .where(jobs.c.id.in_(select(job_waits.c.job_id).where(job_waits.c.on_job_id == bindparam("on"))))
    .where(jobs.c.state == "queued")
    .where(
        ~exists()
        .where(
            job_waits.c.job_id == jobs.c.id,
            _OTHER.c.id == job_waits.c.on_job_id,
            _OTHER.c.state.not_in(sorted(ENDED_STATES)),
        )
        .correlate(jobs)
    )
    .order_by(jobs.c.id)
)


def open_chain(
    connection: Connection, new: NewJob, job_id: str, caps: Caps, starter: str | None, now: float
) -> OpenResult:
    """Write a job with its steps, and hold the money of all that are new.

    Raises:
        OverBudget: together they would pass a cap; the transaction must not go on.
    """
    found = find_steps(connection, new)
    check_chain_caps(connection, new, found, caps, now)
    startable, opened, waits = list[Job](), list[Job](), list[dict[str, object]]()
    for n, (step, twin) in enumerate(zip(new.steps, found, strict=True)):
        if twin is None:
            begun = open_new_job(connection, step, secrets.token_hex(16), caps, starter, now)
            waits += [_wait(begun.job.id, place, opened[taken]) for place, taken in enumerate(step.takes_from)]
            if all(opened[taken].state in ENDED_STATES for taken in step.takes_from):
                startable += begun.startable
            opened.append(begun.job)
        else:
            write_event(connection, twin.id, now, "awaited", {})
            opened.append(twin)
        waits.append(_wait(job_id, n, opened[n], is_step=twin is None))
    for n, awaited in enumerate(new.waits_for, len(new.steps)):
        waits.append({"job_id": job_id, "n": n, "on_job_id": awaited, "is_step": False})
    opening = open_job(connection, new, job_id, caps, starter, now)
    connection.execute(insert(job_waits), waits)
    return replace(opening, startable=tuple(startable))


def _wait(job_id: str, n: int, on: Job, *, is_step: bool = False) -> dict[str, object]:
    return {"job_id": job_id, "n": n, "on_job_id": on.id, "is_step": is_step}


def open_new_job(
    connection: Connection, new: NewJob, job_id: str, caps: Caps, starter: str | None, now: float
) -> OpenResult:
    """Write a new job, with its steps where it has any. Raises OverBudget where it would pass a cap."""
    opens_several = new.steps or new.waits_for
    return (open_chain if opens_several else open_job)(connection, new, job_id, caps, starter, now)


def check_chain_caps(connection: Connection, new: NewJob, found: Sequence[Job | None], caps: Caps, now: float) -> None:
    """Refuse a chain whose new jobs together would pass a cap.

    Args:
        connection: the transaction.
        new: the last job of the chain, with its steps.
        found: the job that each step joins; None: it is a new one.
        caps: what may be spent.
        now: Unix seconds.

    Raises:
        OverBudget: they would.
    """
    paid = new.leave_out_steps(found)
    whole = replace(paid, estimate_usd=paid.total_estimate_usd, at_most_usd=paid.total_at_most_usd, steps=())
    check_caps(connection, whole, caps, now)


def find_steps(connection: Connection, new: NewJob) -> Sequence[Job | None]:
    """The job that each step of a new job joins; None where it is opened as a new one.

    Of a step that only steps take which are there already, nothing is needed any more: it counts as one of these.
    """
    found = [_find_step(connection, step) for step in new.steps]
    for n in reversed(range(len(found))):
        takers = [found[later] for later, step in enumerate(new.steps) if n in step.takes_from]
        if takers and None not in takers and new.takes_from and n not in new.takes_from:
            found[n] = takers[0]
    return found


def _find_step(connection: Connection, step: NewJob) -> Job | None:
    for job in find_equal_jobs(connection, step):
        if job.state == "succeeded" and step.joins_ended:
            return job
        is_unwanted = job.cancel_requested and read_submission(connection, job.id) is None
        if job.state not in ENDED_STATES and not is_unwanted:
            return job
    return None


def read_awaited_jobs(connection: Connection, job_id: str) -> Sequence[AwaitedJob]:
    """The jobs that a job waits for or has waited for, by their numbers; those that were removed are not among them."""
    return [
        AwaitedJob(row.n, job_from_row(row), row.is_step) for row in connection.execute(_AWAITED_JOBS, {"of": job_id})
    ]


def jobs_to_cancel_with(connection: Connection, job_id: str) -> Sequence[Job]:
    """The steps of a job that nobody else waits for or has asked for, and that go on; their rows are locked."""
    return [job_from_row(row) for row in connection.execute(_STEPS_TO_CANCEL, {"of": job_id}).all()]


def released_jobs(connection: Connection, ended_id: str) -> Sequence[Job]:
    """The jobs that have waited for one that ended just now, and that wait for no other any more."""
    return [job_from_row(row) for row in connection.execute(_RELEASED_JOBS, {"on": ended_id}).all()]
