"""What is read of the ledger: each method is one look that waits for no write, and sees one moment."""

from collections.abc import Callable, Sequence

from sqlalchemy import Connection

from rotoscope.contracts.results import Status
from rotoscope.models.estimate import LearnedSeconds
from rotoscope.store.chains import check_chain_caps, find_steps, read_awaited_jobs
from rotoscope.store.database import Database
from rotoscope.store.durations import RunKind, learned_seconds
from rotoscope.store.intents import is_run_of_other_job, read_submission
from rotoscope.store.load import OpenJobs, count_open_jobs
from rotoscope.store.money import Caps
from rotoscope.store.openings import find_duplicate
from rotoscope.store.records import AwaitedJob, Job, NewJob, Output, Submission
from rotoscope.store.reservations import DailySpend, check_caps, spending
from rotoscope.store.rows import (
    can_read_artifact,
    has_job,
    newest_jobs,
    read_job,
    read_job_of_any_principal,
    read_outputs,
)
from rotoscope.store.timing import REDELIVERY_SECONDS

__all__ = ["LedgerReads"]


class LedgerReads:
    """The jobs, intents, outputs and sums of a ledger.

    Args:
        database: where the tables are.
        clock: the time in Unix seconds.
        redelivery_seconds: for how many seconds after an end was delivered an equal request gets it once more.
    """

    def __init__(
        self, database: Database, clock: Callable[[], float], redelivery_seconds: float = REDELIVERY_SECONDS
    ) -> None:
        self._database = database
        self._clock = clock
        self._redelivery_seconds = redelivery_seconds

    async def preview_open(self, new: NewJob, caps: Caps) -> Job | None:
        """The job that `open` would join now; None where it would be a new one.

        Raises:
            OverBudget: a new one would pass a cap.
        """
        now = self._clock()

        def read(connection: Connection) -> Job | None:
            twin = find_duplicate(connection, new, now, self._redelivery_seconds)
            if twin is None and new.steps:
                check_chain_caps(connection, new, find_steps(connection, new), caps, now)
            elif twin is None:
                check_caps(connection, new, caps, now)
            return twin.job if twin is not None else None

        return await self._database.transact(read, writes=False)

    async def job(self, job_id: str, principal: str) -> Job:
        """A job by its id.

        Raises:
            UnknownJob: the principal has none with this id.
        """
        return await self._database.transact(lambda c: read_job(c, job_id, principal), writes=False, is_one_look=True)

    async def job_of_any_principal(self, job_id: str) -> Job:
        """A job by its id, whosever it is. Unscoped: for what passes on that it changed, to those who may know of it.

        Raises:
            UnknownJob: there is none.
        """
        return await self._database.transact(
            lambda c: read_job_of_any_principal(c, job_id), writes=False, is_one_look=True
        )

    async def jobs(self, principal: str, states: Sequence[Status] | None, limit: int) -> Sequence[Job]:
        """The newest jobs of a principal, newest first: so many in each of some states; None: in any state."""
        return await self._database.transact(
            lambda c: newest_jobs(c, principal, states, limit), writes=False, is_one_look=True
        )

    async def submission(self, job_id: str, principal: str) -> Submission | None:
        """The intent of a principal's job, if there is one."""
        return await self._database.transact(
            lambda c: read_submission(c, job_id) if has_job(c, job_id, principal) else None, writes=False
        )

    async def runs_of_other_jobs(self, provider: str, prediction_ids: Sequence[str], job_id: str) -> frozenset[str]:
        """Those of some runs at a provider that belong to other jobs, whosever they are.

        Unscoped: principals may share an account at the provider, whose list then shows all their runs; none of them
        may be taken for another job's.
        """

        def read(connection: Connection) -> frozenset[str]:
            return frozenset(one for one in prediction_ids if is_run_of_other_job(connection, provider, one, job_id))

        return await self._database.transact(read, writes=False)

    async def learned_seconds(
        self, model: str, provider: str, workload: str, *, sandbox: bool
    ) -> LearnedSeconds | None:
        """How long the latest runs of the same workload took, or None when there were none."""
        kind = RunKind(model, provider, workload, sandbox)
        return await self._database.transact(
            lambda connection: learned_seconds(connection, kind), writes=False, is_one_look=True
        )

    async def awaited_jobs(self, job: Job) -> Sequence[AwaitedJob]:
        """The jobs that a job waits for or has waited for, its steps among them, by their numbers."""
        if not job.plan.awaited_jobs:
            return ()
        return await self._database.transact(lambda c: read_awaited_jobs(c, job.id), writes=False, is_one_look=True)

    async def joined_steps(self, new: NewJob) -> Sequence[Job | None]:
        """The job that each step of a new job would join now; None where it would be opened as a new one."""
        return await self._database.transact(lambda c: find_steps(c, new), writes=False)

    async def outputs(self, job_id: str, principal: str) -> Sequence[Output]:
        """The files of a principal's job, by role and number; none where there is no such job."""
        return await self._database.transact(
            lambda c: read_outputs(c, job_id, principal), writes=False, is_one_look=True
        )

    async def can_read_artifact(self, sha256: str, principal: str) -> bool:
        """Whether a job of the principal's has made a kept file or was given it, or no job at all has."""
        return await self._database.transact(
            lambda c: can_read_artifact(c, sha256, principal), writes=False, is_one_look=True
        )

    async def spending_of_all_principals(self, since: float) -> Sequence[DailySpend]:
        """Every day's spending since a moment (Unix seconds), by principal and model, the newest day first.

        Unscoped: for the operator, who pays.
        """
        return await self._database.transact(lambda connection: spending(connection, since), writes=False)

    async def open_jobs_of_all_principals(self) -> Sequence[OpenJobs]:
        """How many jobs have not ended; for the operator."""
        return await self._database.transact(count_open_jobs, writes=False)
