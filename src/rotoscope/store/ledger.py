"""The ledger: jobs, intents, events and outputs, in one SQL database that several processes may share."""

import secrets
from collections.abc import Callable, Sequence
from functools import cache

from sqlalchemy import Connection, Select, Update, bindparam, select, update

from rotoscope.contracts.results import Status
from rotoscope.errors import InvalidInput, UnknownJob
from rotoscope.store.database import QUICK_SECONDS, Database
from rotoscope.store.deliveries import RequestReferences, record_delivery, record_use
from rotoscope.store.durations import MedianDuration, RunKind, median_duration, record_duration
from rotoscope.store.job_data import ErrorRecord
from rotoscope.store.job_json import error_to_json, write_job_data
from rotoscope.store.money import Caps
from rotoscope.store.openings import find_duplicate, join_job, open_job
from rotoscope.store.overrides import (
    attach_prediction,
    cancel_before_send,
    claim_run,
    delete_intent,
    fail_uncharged_job,
    intent_provider,
    is_run_of_other_job,
    leave_review,
    read_submission,
    update_review_error,
    write_intent,
)
from rotoscope.store.records import ENDED_STATES, FINAL_STATES, Job, NewJob, OpenResult, Output, Patch, Submission
from rotoscope.store.reservations import (
    DailySpend,
    check_caps,
    mark_unsent,
    reserve_second_run,
    settle_reservation,
    spending,
)
from rotoscope.store.resuming import resume_internal_failures, resume_job
from rotoscope.store.rows import (
    JOB_COLUMNS,
    job_from_row,
    merge_job_data,
    read_job,
    read_outputs,
    write_event,
    write_output,
)
from rotoscope.store.schema import job_events, jobs, submissions
from rotoscope.store.timing import REDELIVERY_SECONDS

__all__ = ["Ledger", "LostLease"]

_NO_CAPS = Caps()

# Statements that every job runs are worded once: wording one costs more than running it.
_CONFIRM_SUBMISSION = (
    update(submissions)
    .where(submissions.c.job_id == bindparam("of"))
    .values(prediction_id=bindparam("named"), confirmed_at=bindparam("now"))
)
_DELETE_PROGRESS_EVENTS = job_events.delete().where(
    job_events.c.job_id == bindparam("of"), job_events.c.type == "progress"
)


class LostLease(Exception):
    """Somebody else drives this job now: stop in silence."""


class Ledger:
    """Every write is one short transaction; every stage's write is fenced.

    What guards money, the intent and the provider's id, is on the disk when its write returns. Everything else may be
    lost in a power cut, and is then done again: a stage that is repeated does no harm.

    Args:
        database: where the tables are.
        clock: the time in Unix seconds.
        redelivery_seconds: for how many seconds after an end was told an equal request is told it once more.
    """

    def __init__(
        self, database: Database, clock: Callable[[], float], redelivery_seconds: float = REDELIVERY_SECONDS
    ) -> None:
        self._database = database
        self._clock = clock
        self._redelivery_seconds = redelivery_seconds

    async def open(self, new: NewJob, caps: Caps = _NO_CAPS, starter: str | None = None) -> OpenResult:
        """Write a new job, queued at its first stage, and hold its money; or find the one it repeats.

        An equal request joins a job as long as that may be charged, or has an end that was not told (see
        `jobs.openings`).

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

    async def job(self, job_id: str, principal: str | None = None) -> Job:
        """A job by its id; with a principal, only if it is theirs.

        Raises:
            UnknownJob: there is none; a foreign one is answered alike.
        """
        return await self._database.transact(lambda c: read_job(c, job_id, principal), writes=False)

    async def jobs(self, principal: str | None, state: Status | None, limit: int) -> Sequence[Job]:
        """The newest jobs, newest first."""
        query = _newest_jobs_query(has_principal=principal is not None, has_state=state is not None)
        terms = {"whose": principal, "of_state": state, "most": limit}
        return await self._database.transact(
            lambda c: [job_from_row(row) for row in c.execute(query, terms)], writes=False
        )

    async def advance(self, job: Job, patch: Patch) -> Job:
        """Write what a stage found and the stage that comes next, together.

        Raises:
            LostLease: the job is no longer ours, or already final.
        """

        def write(connection: Connection) -> Job:
            advanced = self._write_fenced(connection, job, patch)
            for output in patch.outputs:
                write_output(connection, job.id, output, self._clock())
            if advanced.state == "needs_review" and advanced.stage == "submit":
                return self._leave_review_if_resolved(connection, advanced)
            return advanced

        return await self._database.transact(write)

    async def mark_delivered(self, job_id: str, *, late: bool = False) -> None:
        """Write that the end of a job was told; `late`: perhaps to nobody. The first time counts."""
        now = self._clock()
        await self._database.transact(
            lambda c: record_delivery(c, job_id, now, late=late), max_wait_seconds=QUICK_SECONDS
        )

    async def mark_used(self, principal: str, references: RequestReferences) -> None:
        """Write that a request names these: whoever made it has heard of the ends of the jobs that they came of."""
        now = self._clock()
        await self._database.transact(
            lambda c: record_use(c, principal, references, now), max_wait_seconds=QUICK_SECONDS
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
            The intent; None when somebody asked for the job to be cancelled before there was one.

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

    async def submission(self, job_id: str) -> Submission | None:
        """The intent of a job, if there is one."""
        return await self._database.transact(lambda c: read_submission(c, job_id), writes=False)

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
            if read_job(connection, job.id).cancel_requested or not reserve_second_run(
                connection, job, usd, per_day, now
            ):
                return False
            self._write_fenced(connection, job, retry_patch)
            delete_intent(connection, intent)
            return True

        return await self._database.transact(write, durable=True, require_same_file=True)

    async def write_prediction_id(self, job_id: str, prediction_id: str) -> bool:
        """Write the provider's id. Not fenced, on purpose: a late id is precious, and ends a review.

        Args:
            job_id: the job.
            prediction_id: the id.

        Returns:
            Whether it was written: a run that belongs to another job is not taken.
        """
        now = self._clock()

        def write(connection: Connection) -> bool:
            provider = intent_provider(connection, job_id)
            if provider is None or not claim_run(connection, provider, prediction_id, job_id, now):
                return False
            connection.execute(_CONFIRM_SUBMISSION, {"of": job_id, "named": prediction_id, "now": now})
            write_event(connection, job_id, now, "submitted", {"prediction_id": prediction_id})
            leave_review(connection, job_id, now)
            return True

        return await self._database.transact(write, durable=True)

    async def runs_of_other_jobs(self, provider: str, prediction_ids: Sequence[str], job_id: str) -> frozenset[str]:
        """Those of some runs at a provider that belong to other jobs."""

        def read(connection: Connection) -> frozenset[str]:
            return frozenset(one for one in prediction_ids if is_run_of_other_job(connection, provider, one, job_id))

        return await self._database.transact(read, writes=False)

    async def resolve_review(self, job_id: str, principal: str | None, prediction_id: str | None) -> Job:
        """A person decides about a job that needs review: it was charged, as this prediction, or it was not.

        A charged one goes back to be driven, and its result is collected. One that was not charged has failed and
        its money is free.

        Raises:
            UnknownJob: there is none that needs review.
            InvalidInput: the prediction belongs to another job.
        """
        now = self._clock()

        def write(connection: Connection) -> Job:
            job = read_job(connection, job_id, principal)
            if job.state != "needs_review":
                raise UnknownJob(f"The job is {job.state}; it needs no review.", hint="See rotoscope jobs show.")
            if prediction_id is not None and not claim_run(connection, job.provider, prediction_id, job_id, now):
                raise InvalidInput(
                    "This prediction belongs to another job.",
                    hint=f"Look for that of this one; see jobs show {job_id}.",
                )
            write_event(connection, job_id, now, "resolved", {"prediction_id": prediction_id})
            if prediction_id is None:
                fail_uncharged_job(connection, job, now)
            else:
                attach_prediction(connection, job, prediction_id, now)
                leave_review(connection, job_id, now)
            return read_job(connection, job_id)

        return await self._database.transact(write, durable=True)

    async def end_review(self, job_id: str) -> None:
        """End a review whose run is known: the job is driven on from where it stopped."""
        now = self._clock()
        await self._database.transact(lambda connection: leave_review(connection, job_id, now))

    async def update_review_error(self, job_id: str, error: ErrorRecord) -> None:
        """Say anew what a person should check of a job that is still in review."""
        now = self._clock()
        await self._database.transact(lambda connection: update_review_error(connection, job_id, error, now))

    async def request_cancel(self, job_id: str, principal: str | None) -> Job:
        """Ask for a job to be cancelled; one that has not begun is cancelled at once, a final one stays as it is."""
        now = self._clock()

        def write(connection: Connection) -> Job:
            job = read_job(connection, job_id, principal)
            if job.is_final or job.cancel_requested:
                return job
            connection.execute(update(jobs).where(jobs.c.id == job_id).values(cancel_requested=True, updated_at=now))
            write_event(connection, job_id, now, "cancel_requested", {})
            if job.state == "queued" and read_submission(connection, job_id) is None:
                cancel_before_send(connection, job, now)
            return read_job(connection, job_id)

        return await self._database.transact(write, max_wait_seconds=QUICK_SECONDS)

    async def record_duration(self, job: Job, workload: str, seconds: float) -> None:
        """Remember how long a run took at the provider."""
        now, kind = self._clock(), RunKind(job.model, job.provider, workload, job.sandbox)
        await self._database.transact(lambda connection: record_duration(connection, job.id, kind, seconds, now))

    async def median_duration(
        self, model: str, provider: str, workload: str, *, sandbox: bool
    ) -> MedianDuration | None:
        """How long the latest runs of the same workload took, or None when there were none."""
        kind = RunKind(model, provider, workload, sandbox)
        return await self._database.transact(lambda connection: median_duration(connection, kind), writes=False)

    async def outputs(self, job_id: str) -> Sequence[Output]:
        """The files of a job, by role and number."""
        return await self._database.transact(lambda c: read_outputs(c, job_id), writes=False)

    async def restore_outputs(self, job_id: str, found: Sequence[Output]) -> None:
        """Write which files stand for a result now: some had gone, and were fetched or made again."""
        now = self._clock()

        def write(connection: Connection) -> None:
            for output in found:
                write_output(connection, job_id, output, now)
            write_event(connection, job_id, now, "put_back", {})

        await self._database.transact(write)

    async def resume(self, job_id: str, principal: str | None) -> Job:
        """Take up a job that has ended without its result although it was paid for; see `jobs.resuming`.

        Raises:
            UnknownJob: there is none of this principal's.
            InvalidInput: there is nothing to take up.
        """
        now = self._clock()
        return await self._database.transact(lambda c: resume_job(c, read_job(c, job_id, principal), now), durable=True)

    async def resume_internal_failures(self, result_life: Callable[[Job], float]) -> Sequence[str]:
        """Take up what a fault of ours or a full disk has stopped; `result_life` tells how long its result may be
        there.
        """
        now = self._clock()
        return await self._database.transact(lambda c: resume_internal_failures(c, result_life, now))

    async def spending(self, since: float) -> Sequence[DailySpend]:
        """Every day's spending since a moment (Unix seconds), by model, the newest day first."""
        return await self._database.transact(lambda connection: spending(connection, since), writes=False)

    def _write_fenced(self, connection: Connection, job: Job, patch: Patch) -> Job:
        now = self._clock()
        given = {name: getattr(patch, name) for name in ("stage", "state", "progress", "message")}
        values: dict[str, object] = {name: value for name, value in given.items() if value is not None}
        if write_job_data(patch):
            values["data"] = merge_job_data(connection, job.id, patch)
        if patch.state in FINAL_STATES:
            values |= {"finished_at": now, "lease_until": None}
        if patch.state == "queued":  # given back: whoever can, drives it
            values |= {"owner": None, "lease_until": None}
        values |= {"error": error_to_json(patch.error), "next_at": patch.next_at, "updated_at": now}
        ours = {"job_id": job.id, "by": job.owner, "under": job.fence}
        given_new = {f"new_{name}": value for name, value in values.items()}
        written = connection.execute(_update_under_fence(tuple(values)), ours | given_new).first()
        if written is None:
            raise LostLease(job.id)
        if patch.settlement is not None:
            settle_reservation(connection, job.id, patch.settlement, now)
        write_event(connection, job.id, now, patch.event, {name: v for name, v in given.items() if v is not None})
        if patch.state in ENDED_STATES:  # only once its end is noted: the newest event is what others listen from
            connection.execute(_DELETE_PROGRESS_EVENTS, {"of": job.id})
        return job_from_row(written)

    def _leave_review_if_resolved(self, connection: Connection, job: Job) -> Job:
        """A doubt that was settled in the last moment, by the request's author, is none."""
        submission = read_submission(connection, job.id)
        if submission is None or submission.prediction_id is not None:
            leave_review(connection, job.id, self._clock())
        return read_job(connection, job.id)


@cache
def _newest_jobs_query(*, has_principal: bool, has_state: bool) -> Select[tuple[object, ...]]:
    """The newest jobs, of one principal or in one state if that is wanted."""
    query: Select[tuple[object, ...]] = select(*JOB_COLUMNS)
    if has_principal:
        query = query.where(jobs.c.principal == bindparam("whose"))
    if has_state:
        query = query.where(jobs.c.state == bindparam("of_state"))
    return query.order_by(jobs.c.created_at.desc(), jobs.c.id).limit(bindparam("most"))


@cache
def _update_under_fence(names: tuple[str, ...]) -> Update:
    """The one way to write some columns of a job: as its owner, under its fence, while it runs."""
    ours = (jobs.c.id == bindparam("job_id"), jobs.c.owner == bindparam("by"), jobs.c.fence == bindparam("under"))
    values = {name: bindparam(f"new_{name}", type_=jobs.c[name].type) for name in names}
    return update(jobs).where(*ours, jobs.c.state == "running").values(values).returning(*JOB_COLUMNS)
