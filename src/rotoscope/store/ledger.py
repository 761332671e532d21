"""The ledger: jobs, intents, events and outputs, in one SQL database that several processes may share."""

import secrets
from collections.abc import Callable, Collection, Sequence

from sqlalchemy import Connection

from rotoscope.contracts.results import Status
from rotoscope.models.estimate import LearnedSeconds
from rotoscope.store.credits import add_credits_used
from rotoscope.store.database import QUICK_SECONDS, Database
from rotoscope.store.deliveries import record_delivery, record_use
from rotoscope.store.durations import RunKind, learned_seconds, record_duration
from rotoscope.store.fencing import LostLease, write_fenced
from rotoscope.store.intents import delete_intent, is_run_of_other_job, read_submission, write_intent
from rotoscope.store.job_data import ErrorRecord
from rotoscope.store.money import Caps
from rotoscope.store.openings import find_duplicate, join_job, open_job
from rotoscope.store.overrides import confirm_run, leave_review, replace_review_error, resolve_doubt, set_cancel_flag
from rotoscope.store.records import Job, NewJob, OpenResult, Output, Patch, Submission
from rotoscope.store.reservations import (
    DailySpend,
    check_caps,
    mark_unsent,
    reserve_second_run,
    spending,
)
from rotoscope.store.resuming import resume_internal_failures, resume_job
from rotoscope.store.rows import (
    can_read_artifact,
    has_job,
    newest_jobs,
    read_job,
    read_job_of_any_principal,
    read_outputs,
    write_event,
    write_output,
)
from rotoscope.store.timing import REDELIVERY_SECONDS

__all__ = ["Ledger", "LostLease"]

_NO_CAPS = Caps()


class Ledger:
    """Every write is one short transaction; every stage's write is fenced.

    What guards money, the intent and the provider's id, is on the disk when its write returns. Everything else may be
    lost in a power cut, and is then done again: a stage that is repeated does no harm.

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

    async def open(self, new: NewJob, caps: Caps = _NO_CAPS, starter: str | None = None) -> OpenResult:
        """Write a new job, queued at its first stage, and hold its money; or find the one it repeats.

        An equal request joins a job as long as that may be charged, or has an end that was not delivered (see
        `store.openings`).

        Args:
            new: the job.
            caps: what may be spent.
            starter: the process that opens it; it is preferred as the one that drives it.

        Raises:
            OverBudget: it would pass a cap.
            StorageFailed: it could not be written in the time that a client waits; nothing was begun.
        """
        now, job_id = self._clock(), secrets.token_hex(16)

        def write(connection: Connection) -> OpenResult:
            twin = find_duplicate(connection, new, now, self._redelivery_seconds)
            if twin is not None:
                return join_job(connection, twin, now)
            return open_job(connection, new, job_id, caps, starter, now)

        return await self._database.transact(write, max_wait_seconds=QUICK_SECONDS, require_same_file=True)

    async def preview_open(self, new: NewJob, caps: Caps) -> Job | None:
        """The job that `open` would join now; None where it would be a new one.

        Raises:
            OverBudget: a new one would pass a cap.
        """
        now = self._clock()

        def read(connection: Connection) -> Job | None:
            twin = find_duplicate(connection, new, now, self._redelivery_seconds)
            if twin is None:
                check_caps(connection, new, caps, now)
            return twin.job if twin is not None else None

        return await self._database.transact(read, writes=False)

    async def job(self, job_id: str, principal: str) -> Job:
        """A job by its id.

        Raises:
            UnknownJob: the principal has none with this id.
        """
        return await self._database.transact(lambda c: read_job(c, job_id, principal), writes=False)

    async def job_of_any_principal(self, job_id: str) -> Job:
        """A job by its id, whosever it is. Unscoped: for what passes on that it changed, to those who may know of it.

        Raises:
            UnknownJob: there is none.
        """
        return await self._database.transact(lambda c: read_job_of_any_principal(c, job_id), writes=False)

    async def jobs(self, principal: str, states: Sequence[Status] | None, limit: int) -> Sequence[Job]:
        """The newest jobs of a principal, newest first: so many in each of some states; None: in any state."""
        return await self._database.transact(lambda c: newest_jobs(c, principal, states, limit), writes=False)

    async def advance(self, job: Job, patch: Patch) -> Job:
        """Write what a stage found and the stage that comes next, together.

        Raises:
            LostLease: the job is no longer ours, or already final.
        """

        def write(connection: Connection) -> Job:
            advanced = self._write_fenced(connection, job, add_credits_used(connection, job, patch, self._clock()))
            for output in patch.outputs:
                write_output(connection, job.id, output, self._clock())
            if advanced.state == "needs_review" and advanced.stage == "submit":
                return self._leave_review_if_resolved(connection, advanced)
            return advanced

        return await self._database.transact(write)

    async def mark_delivered(self, job_id: str, principal: str, *, late: bool = False) -> None:
        """Write that a principal was given the end of their job. The first time counts.

        Args:
            job_id: the job; one that has not ended stays as it is.
            principal: whose it is.
            late: whether the answer may have left after its client gave up.

        Raises:
            UnknownJob: the principal has none with this id.
        """
        now = self._clock()
        await self._database.transact(
            lambda c: record_delivery(c, job_id, principal, now, late=late), max_wait_seconds=QUICK_SECONDS
        )

    async def mark_used(self, principal: str, job_ids: Collection[str], files: Collection[str]) -> None:
        """Write that a principal's request names jobs (ids) and kept files (hashes): they know of the ends of those."""
        now = self._clock()
        await self._database.transact(
            lambda c: record_use(c, principal, job_ids, files, now), max_wait_seconds=QUICK_SECONDS
        )

    async def commit_intent(
        self, job: Job, request_sha256: str, token: str | None = None, clock_offset: float | None = None
    ) -> Submission | None:
        """Commit the intent to pay, before the paying request. An intent that stands is given back, not renewed.

        Args:
            job: the job.
            request_sha256: what will be sent.
            token: what no other run's input can hold. One that another intent holds is none, and is not written.
            clock_offset: the provider's clock minus ours, in seconds, where it is known.

        Returns:
            The intent; None when a cancel was asked for before there was one.

        Raises:
            LostLease: the job is no longer ours.
            StorageFailed: it is not on the disk, or not where another process would see it.
        """
        now, nonce = self._clock(), secrets.token_hex(8)

        def write(connection: Connection) -> Submission | None:
            held = self._write_fenced(connection, job, Patch(event="intended"))
            stands = read_submission(connection, job.id)
            if stands is not None or held.cancel_requested:
                return stands
            new = Submission(job.id, nonce, now, None, True, token, clock_offset)
            return write_intent(connection, job.provider, request_sha256, new)

        return await self._database.transact(write, durable=True, require_same_file=True)

    async def submission(self, job_id: str, principal: str) -> Submission | None:
        """The intent of a principal's job, if there is one."""
        return await self._database.transact(
            lambda c: read_submission(c, job_id) if has_job(c, job_id, principal) else None, writes=False
        )

    async def withdraw_intent(self, submission: Submission) -> None:
        """Delete an intent whose request was proven not to be accepted, or never to have been sent.

        Only who wrote an intent knows that, so the nonce is the guard and not the fence: a job that meanwhile waits
        for a review has nothing left to review.
        """
        now = self._clock()

        def write(connection: Connection) -> None:
            if delete_intent(connection, submission):
                mark_unsent(connection, submission.job_id)
                write_event(connection, submission.job_id, now, "withdrawn", {})
                leave_review(connection, submission.job_id, now)

        await self._database.transact(write, durable=True)

    async def allow_resend(
        self, job: Job, intent: Submission, retry_patch: Patch, usd: float, per_day: float | None
    ) -> bool:
        """Take back an intent whose request may have been accepted, and hold its money twice, all at once.

        False where that is not done: a cap would be passed, or a cancel was asked for.
        """
        now = self._clock()

        def write(connection: Connection) -> bool:
            if read_job(connection, job.id, job.principal).cancel_requested or not reserve_second_run(
                connection, job, usd, per_day, now
            ):
                return False
            self._write_fenced(connection, job, retry_patch)
            delete_intent(connection, intent)
            return True

        return await self._database.transact(write, durable=True, require_same_file=True)

    async def write_prediction_id(self, job_id: str, principal: str, prediction_id: str) -> bool:
        """Write the provider's id of the run that was paid for. It ends a review.

        Not fenced, on purpose: the id is the only way to the result, so a process that has lost its lease since it
        sent the request writes it too. It harms no other: one run belongs to one job, which the database enforces.

        Args:
            job_id: the job.
            principal: whose it is.
            prediction_id: the id.

        Returns:
            Whether it was written: not where the run belongs to another job, or the job has no intent to pay.
        """
        now = self._clock()
        return await self._database.transact(
            lambda c: has_job(c, job_id, principal) and confirm_run(c, job_id, prediction_id, now), durable=True
        )

    async def runs_of_other_jobs(self, provider: str, prediction_ids: Sequence[str], job_id: str) -> frozenset[str]:
        """Those of some runs at a provider that belong to other jobs, whosever they are.

        Unscoped: principals may share an account at the provider, whose list then shows all their runs; none of them
        may be taken for another job's.
        """

        def read(connection: Connection) -> frozenset[str]:
            return frozenset(one for one in prediction_ids if is_run_of_other_job(connection, provider, one, job_id))

        return await self._database.transact(read, writes=False)

    async def resolve_review(self, job_id: str, principal: str, prediction_id: str | None) -> Job:
        """Write what a person has found about a job that needs review: it was charged, as this prediction, or not.

        A charged one goes back to be driven, and its result is collected. One that was not charged has failed and
        its money is free.

        Raises:
            UnknownJob: the principal has none with this id that needs review.
            InvalidInput: the prediction belongs to another job.
        """
        now = self._clock()

        def write(connection: Connection) -> Job:
            resolve_doubt(connection, read_job(connection, job_id, principal), prediction_id, now)
            return read_job(connection, job_id, principal)

        return await self._database.transact(write, durable=True)

    async def end_review(self, job_id: str, principal: str) -> None:
        """End a review whose run is known: the job is driven on from where it stopped."""
        now = self._clock()

        def write(connection: Connection) -> None:
            if has_job(connection, job_id, principal):
                leave_review(connection, job_id, now)

        await self._database.transact(write)

    async def update_review_error(self, job_id: str, principal: str, error: ErrorRecord) -> None:
        """Replace what a person should check of a job, if it is still in review."""
        now = self._clock()

        def write(connection: Connection) -> None:
            if has_job(connection, job_id, principal):
                replace_review_error(connection, job_id, error, now)

        await self._database.transact(write)

    async def request_cancel(self, job_id: str, principal: str) -> Job:
        """Ask for a job to be cancelled; one that has not begun is cancelled at once, a final one stays as it is.

        Raises:
            UnknownJob: the principal has none with this id.
        """
        now = self._clock()

        def write(connection: Connection) -> Job:
            job = read_job(connection, job_id, principal)
            if job.is_final or job.cancel_requested:
                return job
            set_cancel_flag(connection, job, now)
            return read_job(connection, job_id, principal)

        return await self._database.transact(write, max_wait_seconds=QUICK_SECONDS)

    async def record_duration(self, job: Job, workload: str, seconds: float) -> None:
        """Remember how long a run took at the provider."""
        now, kind = self._clock(), RunKind(job.model, job.provider, workload, job.sandbox)
        await self._database.transact(lambda connection: record_duration(connection, job.id, kind, seconds, now))

    async def learned_seconds(
        self, model: str, provider: str, workload: str, *, sandbox: bool
    ) -> LearnedSeconds | None:
        """How long the latest runs of the same workload took, or None when there were none."""
        kind = RunKind(model, provider, workload, sandbox)
        return await self._database.transact(lambda connection: learned_seconds(connection, kind), writes=False)

    async def outputs(self, job_id: str, principal: str) -> Sequence[Output]:
        """The files of a principal's job, by role and number; none where there is no such job."""
        return await self._database.transact(lambda c: read_outputs(c, job_id, principal), writes=False)

    async def can_read_artifact(self, sha256: str, principal: str) -> bool:
        """Whether a job of the principal's has made a kept file or was given it, or no job at all has."""
        return await self._database.transact(lambda c: can_read_artifact(c, sha256, principal), writes=False)

    async def restore_outputs(self, job_id: str, principal: str, found: Sequence[Output]) -> None:
        """Write which files stand for a result now: some had gone, and were fetched or made again.

        Raises:
            UnknownJob: the principal has none with this id.
        """
        now = self._clock()

        def write(connection: Connection) -> None:
            read_job(connection, job_id, principal)
            for output in found:
                write_output(connection, job_id, output, now)
            write_event(connection, job_id, now, "put_back", {})

        await self._database.transact(write)

    async def resume(self, job_id: str, principal: str) -> Job:
        """Take up a job that has ended without its result although it was paid for; see `store.resuming`.

        Raises:
            UnknownJob: the principal has none with this id.
            InvalidInput: there is nothing to take up.
        """
        now = self._clock()
        return await self._database.transact(lambda c: resume_job(c, read_job(c, job_id, principal), now), durable=True)

    async def resume_failures_of_all_principals(self, result_life: Callable[[Job], float]) -> Sequence[str]:
        """Take up the jobs that a fault of ours or a full disk has stopped. Unscoped: a process does it at its start.

        Args:
            result_life: for how many seconds after its end the provider may still have a job's result.

        Returns:
            The ids of the jobs that are queued again.
        """
        now = self._clock()
        return await self._database.transact(lambda c: resume_internal_failures(c, result_life, now))

    async def spending_of_all_principals(self, since: float) -> Sequence[DailySpend]:
        """Every day's spending since a moment (Unix seconds), by principal and model, the newest day first.

        Unscoped: for the operator, who pays.
        """
        return await self._database.transact(lambda connection: spending(connection, since), writes=False)

    def _write_fenced(self, connection: Connection, job: Job, patch: Patch) -> Job:
        return write_fenced(connection, job, patch, self._clock())

    def _leave_review_if_resolved(self, connection: Connection, job: Job) -> Job:
        """A doubt that was settled in the last moment, by the request's author, is none."""
        submission = read_submission(connection, job.id)
        if submission is None or submission.prediction_id is not None:
            leave_review(connection, job.id, self._clock())
        return read_job(connection, job.id, job.principal)
