"""Who drives jobs in this process, and how: the dispatcher, and the engine where the ledger is in PostgreSQL."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import anyio.abc

from rotoscope.errors import InvalidInput, StorageFailed
from rotoscope.settings import Settings

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from rotoscope.jobs.context import JobContext, LeaseGuard
    from rotoscope.jobs.dispatcher import Dispatcher
    from rotoscope.jobs.engine import JobEngine
    from rotoscope.jobs.review import Review
    from rotoscope.store.backend import LedgerBinding
    from rotoscope.store.database import Database
    from rotoscope.store.leases import JobDriver
    from rotoscope.store.records import Job

__all__ = [
    "Driving",
    "bind_queue",
    "choose_enqueue",
    "describe_ledger",
    "has_engine",
    "make_dispatcher",
    "restrict_driver",
]

_MOST_JOBS = 1_000  # of a process with an engine; each waits for its provider nearly all of the time


@dataclass(frozen=True, slots=True)
class Driving:
    """What a process does of the driving.

    Attributes:
        most_jobs: how many jobs it drives at once; None: as many as there are, 0: none, other processes drive.
        providers: whose jobs it drives; None: those of all providers whose key it holds.
    """

    most_jobs: int | None = None
    providers: frozenset[str] | None = None


def has_engine(settings: Settings) -> bool:
    """Whether an engine spreads the jobs: the ledger is in PostgreSQL."""
    place = settings.database
    return isinstance(place, str) and place.partition(":")[0].partition("+")[0] == "postgresql"


def describe_ledger(settings: Settings) -> str:
    """What messages call the ledger; no user and no password."""
    if not has_engine(settings):
        return str(settings.database)
    from sqlalchemy import make_url

    from rotoscope.store.postgresql_errors import name_database

    return f"PostgreSQL ({name_database(make_url(str(settings.database)))})"


def choose_enqueue(settings: Settings) -> "Callable[[Connection, Job], None] | None":
    """What puts a job that can be driven into the engine's queue; None where there is no engine.

    Raises:
        StorageFailed: the engine is not installed.
    """
    if not has_engine(settings):
        return None
    try:
        from rotoscope.store.job_queue import add_entries
    except ImportError as error:
        raise StorageFailed(
            "The ledger is in PostgreSQL, and the engine for that is not installed.",
            hint="pip install 'rotoscope[server]'",
        ) from error
    return lambda connection, job: add_entries(connection, [job])


def bind_queue(settings: Settings, binding: "LedgerBinding") -> "LedgerBinding":
    """What must hold of the ledger: also that the engine's tables are there, where there is one."""
    if not has_engine(settings):
        return binding
    from rotoscope.store.job_queue import QueueTables

    return QueueTables(binding)


def restrict_driver(driver: "JobDriver", driving: Driving) -> "JobDriver":
    """A driver that takes the jobs of some providers alone. What runs in the sandbox is anybody's.

    Raises:
        InvalidInput: it holds no key of one of them.
    """
    if driving.providers is None:
        return driver
    held = {key.partition("@")[0] for key in driver.keys}
    if missing := sorted(driving.providers - held):
        raise InvalidInput(
            f"There is no key for {', '.join(missing)} here.", hint=f"Name some of: {', '.join(sorted(held))}."
        )
    return replace(driver, keys=frozenset(one for one in driver.keys if one.partition("@")[0] in driving.providers))


def make_dispatcher(
    settings: Settings,
    context: "JobContext",
    database: "Database",
    review: "Review",
    tasks: anyio.abc.TaskGroup,
    driving: Driving,
) -> "Dispatcher":
    """The dispatcher of a process.

    Args:
        settings: the operator's decisions.
        context: what the stages work with.
        database: the ledger's.
        review: looks for the runs of jobs in review.
        tasks: where jobs run.
        driving: what this process does of it.
    """
    from rotoscope.jobs.dispatcher import Dispatcher
    from rotoscope.store.leases import Leases

    async def run(job: "Job", lease: "LeaseGuard") -> None:
        from rotoscope.jobs.lifecycle import run_job  # only a process that drives a job needs the stages

        await run_job(context, job, lease)

    engine = _make_engine(settings, context, database, review.holder, driving)
    leases = Leases(database, context.clock, review.holder, context.intervals)
    return Dispatcher(
        tasks, run, leases, context.notifier, context.intervals, review.look_at_due, engine, driving.most_jobs
    )


def _make_engine(
    settings: Settings, context: "JobContext", database: "Database", driver: "JobDriver", driving: Driving
) -> "JobEngine | None":
    if not has_engine(settings):
        return None
    from rotoscope.jobs.procrastinate_engine import ProcrastinateEngine
    from rotoscope.store.job_queue import JobQueue, queues_of_driver

    queue = JobQueue(database, context.clock, driver.limits, context.intervals)
    most = _MOST_JOBS if driving.most_jobs is None else driving.most_jobs
    return ProcrastinateEngine(str(settings.database), queue, queues_of_driver(driver), most)
