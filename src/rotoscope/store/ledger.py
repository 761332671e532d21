"""The ledger: jobs, intents, events and outputs, in one SQL database that several processes may share."""

import secrets
from collections.abc import Callable, Collection, Sequence
from typing import TypeVar

from sqlalchemy import Connection

from rotoscope.store.chains import jobs_to_cancel_with, open_chain, released_jobs
from rotoscope.store.credits import add_credits_used, name_balance
from rotoscope.store.database import QUICK_SECONDS, Database
from rotoscope.store.deliveries import record_delivery, record_use
from rotoscope.store.durations import record_duration, run_kind
from rotoscope.store.fencing import LostLease, write_fenced
from rotoscope.store.intents import delete_intent, read_submission, write_intent
from rotoscope.store.job_data import ErrorRecord
from rotoscope.store.ledger_reads import LedgerReads
from rotoscope.store.money import Caps, ResendPolicy
from rotoscope.store.openings import add_inputs, find_duplicate, join_job, open_job
from rotoscope.store.overrides import (
    confirm_run,
    fail_over_cap,
    leave_review,
    replace_review_error,
    resolve_doubt,
    set_cancel_flag,
)
from rotoscope.store.questions import name_questions, take_agreement
from rotoscope.store.records import ENDED_STATES, Job, NewJob, OpenResult, Output, Patch, Submission
from rotoscope.store.reservations import (
    mark_unsent,
    reserve_second_run,
)
from rotoscope.store.resuming import resume_internal_failures, resume_job
from rotoscope.store.rows import (
    has_job,
    read_job,
    write_event,
    write_outputs,
)
from rotoscope.store.timing import REDELIVERY_SECONDS
from rotoscope.store.write_locks import WriteLock, name_files, name_spending

__all__ = ["Ledger", "LostLease"]

Answer = TypeVar("Answer")
_NO_CAPS = Caps()


class Ledger(LedgerReads):
    """Every write is one short transaction; every stage's write is fenced.

    What guards money, the intent and the provider's id, is on the disk when its write returns. Everything else may be
    lost in a power cut, and is then done again: a stage that is repeated does no harm.

    Args:
        database: where the tables are.
        clock: the time in Unix seconds.
        redelivery_seconds: for how many seconds after an end was delivered an equal request gets it once more.
        enqueue: puts a job that can be driven into the queue of an engine, in the transaction that makes it so; None
            where there is no engine.
    """

    def __init__(
        self,
        database: Database,
        clock: Callable[[], float],
        redelivery_seconds: float = REDELIVERY_SECONDS,
        enqueue: Callable[[Connection, Job], None] | None = None,
    ) -> None:
        super().__init__(database, clock, redelivery_seconds)
        self._enqueue_job = enqueue

    async def open(
        self, new: NewJob, caps: Caps = _NO_CAPS, starter: str | None = None, question_id: str | None = None
    ) -> OpenResult:
        """Write a new job, queued at its first stage, and hold its money; or find the one it repeats.

        An equal request joins a job as long as that may be charged, or has an end that was not delivered (see
        `store.openings`).

        Args:
            new: the job.
            caps: what may be spent.
            starter: the process that opens it; it is preferred as the one that drives it.
            question_id: the question about its price, whose yes is used up here; a new job gets this id.

        Raises:
            OverBudget: it would pass a cap, or the yes does not hold any more.
            StorageFailed: it could not be written in the time that a client waits; nothing was begun.
        """
        now, job_id = self._clock(), question_id or secrets.token_hex(16)

        def write(connection: Connection) -> OpenResult:
            twin = find_duplicate(connection, new, now, self._redelivery_seconds)
            if question_id is not None:
                take_agreement(connection, question_id, new.principal, twin.job.id if twin else job_id, now)
            if twin is not None:
                return join_job(connection, twin, now)
            open_new = open_chain if new.steps or new.waits_for else open_job
            opening = open_new(connection, new, job_id, caps, starter, now)
            for job in opening.startable:
                self._enqueue(connection, job)
            return opening

        # Two equal requests must not both find no job, nor two others both find money left. A sweep must not find that
        # nobody needs the files.
        names = name_spending(new.principal, of_all=caps.per_day_for_all is not None)
        if question_id is not None:
            names |= name_questions(new.principal)
        lock = WriteLock(names=names, shared_names=name_files(new.inputs))
        return await self._database.transact(write, max_wait_seconds=QUICK_SECONDS, require_same_file=True, lock=lock)

    async def advance(self, job: Job, patch: Patch) -> Job:
        """Write what a stage found and the stage that comes next, together.

        Raises:
            LostLease: the job is no longer ours, or already final.
        """

        def write(connection: Connection) -> Job:
            advanced = self._write_fenced(connection, job, add_credits_used(connection, job, patch, self._clock()))
            write_outputs(connection, job.id, patch.outputs, self._clock())
            if patch.run_seconds is not None:
                record_duration(connection, job.id, run_kind(job), patch.run_seconds, self._clock())
            if patch.inputs:
                add_inputs(connection, job.id, patch.inputs)
            if advanced.state in ENDED_STATES:
                self._enqueue_released(connection, job.id)
            if advanced.state == "needs_review" and advanced.stage == "submit":
                return self._leave_review_if_resolved(connection, advanced)
            return advanced

        files = name_files((*(output.artifact.sha256 for output in patch.outputs), *patch.inputs))
        names = name_balance(job, patch) if patch.provider_output is not None else frozenset[str]()
        if patch.run_seconds is not None:
            names |= {f"durations of {job.model}"}  # of many only the latest stay
        lock = WriteLock(job.id, names=names, shared_names=files)
        return await self._database.transact(write, lock=lock)

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
        await self._write_job(
            job_id, lambda c: record_delivery(c, job_id, principal, now, late=late), max_wait_seconds=QUICK_SECONDS
        )

    async def mark_used(self, principal: str, job_ids: Collection[str], files: Collection[str]) -> None:
        """Write that a principal's request names jobs (ids) and kept files (hashes): they know of the ends of those."""
        now = self._clock()
        await self._database.transact(
            lambda c: record_use(c, principal, job_ids, files, now), max_wait_seconds=QUICK_SECONDS, lock=WriteLock()
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

        # Of two jobs with one token only the first may write it.
        tokens = frozenset({f"token {job.provider} {token}"} if token is not None else ())
        lock = WriteLock(job.id, names=tokens)
        return await self._database.transact(write, durable=True, require_same_file=True, lock=lock)

    async def withdraw_intent(self, submission: Submission) -> None:
        """Delete an intent whose request was proven not to be accepted, or never to have been sent.

        Only who wrote an intent knows that, so the nonce is the guard and not the fence: a job that meanwhile waits
        for a review has nothing left to review.
        """
        now = self._clock()

        def write(connection: Connection) -> None:
            if delete_intent(connection, submission):
                is_within_cap = mark_unsent(connection, submission.job_id, now)
                write_event(connection, submission.job_id, now, "withdrawn", {})
                leave_review(connection, submission.job_id, now)
                if not is_within_cap:
                    fail_over_cap(connection, submission.job_id, now)
                    self._enqueue_released(connection, submission.job_id)

        await self._write_job(submission.job_id, write, durable=True)

    async def allow_resend(
        self, job: Job, intent: Submission, retry_patch: Patch, usd: float, policy: ResendPolicy
    ) -> bool:
        """Take back an intent whose request may have been accepted, and hold its money twice, all at once.

        False where that is not done: a cap would be passed, or a cancel was asked for.
        """
        now = self._clock()

        def write(connection: Connection) -> bool:
            if read_job(connection, job.id, job.principal).cancel_requested or not reserve_second_run(
                connection, job, usd, policy, now
            ):
                return False
            self._write_fenced(connection, job, retry_patch)
            delete_intent(connection, intent)
            return True

        lock = WriteLock(job.id, names=name_spending(job.principal, of_all=policy.per_day_for_all is not None))
        return await self._database.transact(write, durable=True, require_same_file=True, lock=lock)

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
        return await self._write_job(
            job_id, lambda c: has_job(c, job_id, principal) and confirm_run(c, job_id, prediction_id, now), durable=True
        )

    async def resolve_review(self, job_id: str, principal: str, prediction_id: str | None) -> Job:
        """Write what a person has found about a job that needs review: it was charged, as this prediction, or not.

        A charged one goes back to be driven, and its result is collected. One that was not charged has failed and
        its money is free.

        Raises:
            UnknownJob: the principal has none with this id that needs review, or that has this prediction.
            InvalidInput: the prediction belongs to another job.
        """
        now = self._clock()

        def write(connection: Connection) -> Job:
            resolve_doubt(connection, read_job(connection, job_id, principal), prediction_id, now)
            self._enqueue_released(connection, job_id)
            return read_job(connection, job_id, principal)

        return await self._write_job(job_id, write, durable=True)

    async def end_review(self, job_id: str, principal: str) -> None:
        """End a review whose run is known: the job is driven on from where it stopped."""
        now = self._clock()

        def write(connection: Connection) -> None:
            if has_job(connection, job_id, principal):
                leave_review(connection, job_id, now)

        await self._write_job(job_id, write)

    async def update_review_error(self, job_id: str, principal: str, error: ErrorRecord) -> None:
        """Replace what a person should check of a job, if it is still in review."""
        now = self._clock()

        def write(connection: Connection) -> None:
            if has_job(connection, job_id, principal):
                replace_review_error(connection, job_id, error, now)

        await self._write_job(job_id, write)

    async def request_cancel(self, job_id: str, principal: str) -> Job:
        """Ask for a job to be cancelled; one that has not begun is cancelled at once, a final one stays as it is.

        Its steps are cancelled with it, as far as nobody else waits for them or has asked for them.

        Raises:
            UnknownJob: the principal has none with this id.
        """
        now = self._clock()

        def write(connection: Connection) -> Job:
            job = read_job(connection, job_id, principal)
            if job.is_final or job.cancel_requested:
                return job
            unwanted = [job]
            while unwanted:
                one = unwanted.pop()
                set_cancel_flag(connection, one, now)
                self._enqueue_released(connection, one.id)
                unwanted += jobs_to_cancel_with(connection, one.id)
            return read_job(connection, job_id, principal)

        return await self._write_job(job_id, write, max_wait_seconds=QUICK_SECONDS)

    async def restore_outputs(self, job_id: str, principal: str, found: Sequence[Output]) -> None:
        """Write which files stand for a result now: some had gone, and were fetched or made again.

        Raises:
            UnknownJob: the principal has none with this id.
        """
        now = self._clock()

        def write(connection: Connection) -> None:
            read_job(connection, job_id, principal)
            write_outputs(connection, job_id, found, now)
            write_event(connection, job_id, now, "put_back", {})

        files = name_files(output.artifact.sha256 for output in found)
        await self._database.transact(write, lock=WriteLock(job_id, shared_names=files))

    async def resume(self, job_id: str, principal: str) -> Job:
        """Take up a job that has ended without its result although it was paid for; see `store.resuming`.

        Raises:
            UnknownJob: the principal has none with this id.
            InvalidInput: there is nothing to take up.
        """
        now = self._clock()
        return await self._write_job(job_id, lambda c: resume_job(c, read_job(c, job_id, principal), now), durable=True)

    async def resume_failures_of_all_principals(self, result_life: Callable[[Job], float]) -> Sequence[str]:
        """Take up the jobs that a fault of ours or a full disk has stopped. Unscoped: a process does it at its start.

        Args:
            result_life: for how many seconds after its end the provider may still have a job's result.

        Returns:
            The ids of the jobs that are queued again.
        """
        now = self._clock()
        return await self._database.transact(lambda c: resume_internal_failures(c, result_life, now))

    async def _write_job(
        self,
        job_id: str,
        work: Callable[[Connection], Answer],
        *,
        durable: bool = False,
        max_wait_seconds: float | None = None,
    ) -> Answer:
        """A transaction that decides about one job."""
        return await self._database.transact(
            work, durable=durable, max_wait_seconds=max_wait_seconds, lock=WriteLock(job_id)
        )

    def _write_fenced(self, connection: Connection, job: Job, patch: Patch) -> Job:
        return write_fenced(connection, job, patch, self._clock())

    def _enqueue(self, connection: Connection, job: Job) -> None:
        if self._enqueue_job is not None:
            self._enqueue_job(connection, job)

    def _enqueue_released(self, connection: Connection, ended_id: str) -> None:
        """Queue the jobs that have waited for one, if it has ended; without an engine they are found by looking."""
        for job in released_jobs(connection, ended_id) if self._enqueue_job is not None else ():
            self._enqueue(connection, job)

    def _leave_review_if_resolved(self, connection: Connection, job: Job) -> Job:
        """A doubt that was settled in the last moment, by the request's author, is none."""
        submission = read_submission(connection, job.id)
        if submission is None or submission.prediction_id is not None:
            leave_review(connection, job.id, self._clock())
        return read_job(connection, job.id, job.principal)
