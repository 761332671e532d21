"""The ledger: jobs, intents, events and outputs, in one SQL database that several processes may share."""

import secrets
import statistics
from collections.abc import Callable, Sequence
from functools import cache

from sqlalchemy import Connection, Select, Update, and_, bindparam, insert, or_, select, update
from sqlalchemy.dialects.sqlite import insert as insert_or_merge

from rotoscope.contracts.results import Status
from rotoscope.errors import InvalidInput, UnknownJob
from rotoscope.jobs.budget import Caps
from rotoscope.jobs.database import Database
from rotoscope.jobs.job import FINAL, Job, NewJob, Opening, Output, Patch, Submission
from rotoscope.jobs.purse import Spent, check, reserve, settle, spending
from rotoscope.jobs.rows import JOB_COLUMNS, job_of, note, output_of, read_job
from rotoscope.jobs.tables import artifacts, durations, jobs, outputs, submissions
from rotoscope.jobs.unfenced import (
    adopt,
    back_from_review,
    cancelled_unsent,
    found_uncharged,
    is_anothers,
    submission_of,
)

__all__ = ["SANDBOX_KEY", "Ledger", "LostLease"]

SANDBOX_KEY = "sandbox"
"""What a process must hold to drive a rehearsal: it goes to the sandbox and nowhere else."""

_RUNS_REMEMBERED = 9
_NO_CAPS = Caps()

# Statements that every job runs are worded once: wording one costs more than running it.
_NEW_JOB = insert(jobs).returning(*JOB_COLUMNS)
_INTENT = insert(submissions)
_CONFIRMED = (
    update(submissions)
    .where(submissions.c.job_id == bindparam("of"))
    .values(prediction_id=bindparam("named"), confirmed_at=bindparam("now"))
)
_DURATION = insert_or_merge(durations).on_conflict_do_nothing()
_OUTPUTS = (
    select(outputs, artifacts.c.content_type, artifacts.c.size, artifacts.c.facts)
    .select_from(outputs.join(artifacts, outputs.c.sha256 == artifacts.c.sha256))
    .where(outputs.c.job_id == bindparam("of"))
    .order_by(outputs.c.role, outputs.c.n)
)
_ARTIFACT, _OUTPUT = insert_or_merge(artifacts), insert_or_merge(outputs)
_KEPT = _ARTIFACT.on_conflict_do_nothing()
_MEASURED = _ARTIFACT.on_conflict_do_update(index_elements=["sha256"], set_={"facts": _ARTIFACT.excluded.facts})
_PLACED = _OUTPUT.on_conflict_do_update(
    index_elements=["job_id", "role", "n"],
    set_={name: _OUTPUT.excluded[name] for name in ("sha256", "source_url", "source_expires_at")},
)
_DATA = select(jobs.c.data).where(jobs.c.id == bindparam("job_id"))


class LostLease(Exception):
    """Somebody else drives this job now: stop in silence."""


class Ledger:
    """Every write is one short transaction; every stage's write is fenced.

    What guards money, the intent and the provider's id, is on the disk when its write returns. Everything else may be
    lost in a power cut, and is then done again: a stage that is repeated does no harm.

    Args:
        database: where the tables are.
        clock: the time in Unix seconds.
    """

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    async def open(self, new: NewJob, caps: Caps = _NO_CAPS, starter: str | None = None) -> Opening:
        """Write a new job, queued at its first stage, and hold its money; or find the one it repeats.

        An equal request joins the job that is open, or has ended without its end having been told. After that it is
        a new job. One that waits for a person's review is joined until it was resolved: it may have been paid for.

        Args:
            new: the job.
            caps: what may be spent.
            starter: the process that opens it; it is preferred as the one that drives it.

        Raises:
            OverBudget: it would pass a cap.
        """
        now, job_id = self._clock(), secrets.token_hex(16)

        def write(connection: Connection) -> Opening:
            twin = _twin(connection, new)
            if twin is not None:
                note(connection, twin.id, now, "joined", {})
                return Opening(twin, joined=True)
            reserve(connection, job_id, new, caps, now)
            job = job_of(connection.execute(_NEW_JOB, _row(new, job_id, starter, now)).one())
            note(connection, job_id, now, "opened", {})
            return Opening(job, joined=False)

        return await self._database.transact(write)

    async def foreseen(self, new: NewJob, caps: Caps) -> Job | None:
        """The job that `open` would join now; None where it would be a new one.

        Raises:
            OverBudget: a new one would pass a cap.
        """
        now = self._clock()

        def look(connection: Connection) -> Job | None:
            twin = _twin(connection, new)
            if twin is None:
                check(connection, new, caps, now)
            return twin

        return await self._database.transact(look, writes=False)

    async def job(self, job_id: str, principal: str | None = None) -> Job:
        """A job by its id; with a principal, only if it is theirs.

        Raises:
            UnknownJob: there is none; a foreign one is answered alike.
        """
        return await self._database.transact(lambda c: read_job(c, job_id, principal), writes=False)

    async def jobs(self, principal: str | None, state: Status | None, limit: int) -> Sequence[Job]:
        """The newest jobs, newest first."""
        query: Select[tuple[object, ...]] = select(*JOB_COLUMNS).order_by(jobs.c.created_at.desc(), jobs.c.id)
        if principal is not None:
            query = query.where(jobs.c.principal == principal)
        if state is not None:
            query = query.where(jobs.c.state == state)
        query = query.limit(limit)
        return await self._database.transact(lambda c: [job_of(row) for row in c.execute(query)], writes=False)

    async def advance(self, job: Job, patch: Patch) -> Job:
        """Write what a stage found and the stage that comes next, together.

        Raises:
            LostLease: the job is no longer ours, or already final.
        """

        def write(connection: Connection) -> Job:
            advanced = self._write_fenced(connection, job, patch)
            for output in patch.outputs:
                self._write_output(connection, job.id, output)
            if advanced.state == "needs_review" and advanced.stage == "submit":
                return self._doubted(connection, advanced)
            return advanced

        return await self._database.transact(write)

    async def delivered(self, job_id: str) -> None:
        """Write that the end of a job was told. The first time counts."""
        now = self._clock()
        ended = (jobs.c.id == job_id, jobs.c.state.in_(FINAL), jobs.c.delivered_at.is_(None))

        def write(connection: Connection) -> None:
            if connection.execute(update(jobs).where(*ended).values(delivered_at=now)).rowcount:
                note(connection, job_id, now, "delivered", {})

        await self._database.transact(write)

    async def intend(self, job: Job, request_sha256: str) -> Submission:
        """Commit the intent to pay, before the paying request. An intent that stands is given back, not renewed.

        Raises:
            LostLease: the job is no longer ours.
        """
        now, nonce = self._clock(), secrets.token_hex(8)

        def write(connection: Connection) -> Submission:
            self._write_fenced(connection, job, Patch(event="intended"))
            stands = submission_of(connection, job.id)
            if stands is not None:
                return stands
            row = {"job_id": job.id, "nonce": nonce, "request_sha256": request_sha256}
            connection.execute(_INTENT, row | {"provider": job.provider, "intent_at": now})
            return Submission(job.id, nonce, now, None, fresh=True)

        return await self._database.transact(write, durable=True)

    async def submission(self, job_id: str) -> Submission | None:
        """The intent of a job, if there is one."""
        return await self._database.transact(lambda c: submission_of(c, job_id), writes=False)

    async def withdraw(self, submission: Submission) -> None:
        """Delete an intent whose request was proven not to be accepted, or never to have been sent.

        Only who wrote an intent knows that, so the nonce is the guard and not the fence: a job that meanwhile waits
        for a review has nothing left to review.
        """
        now = self._clock()
        own = (submissions.c.job_id == submission.job_id, submissions.c.nonce == submission.nonce)

        def write(connection: Connection) -> None:
            gone = connection.execute(submissions.delete().where(*own, submissions.c.prediction_id.is_(None)))
            if gone.rowcount:
                note(connection, submission.job_id, now, "withdrawn", {})
                back_from_review(connection, submission.job_id, now)

        await self._database.transact(write, durable=True)

    async def note_prediction(self, job_id: str, prediction_id: str, *, found: bool = False) -> bool:
        """Write the provider's id. Not fenced, on purpose: a late id is precious, and ends a review.

        Args:
            job_id: the job.
            prediction_id: the id.
            found: whether it was found in the provider's list. Then it is taken only if no other job has it: two that
                look at the same moment must not share one run.

        Returns:
            Whether it was written.
        """
        now = self._clock()

        def write(connection: Connection) -> bool:
            if found and is_anothers(connection, job_id, prediction_id):
                return False
            connection.execute(_CONFIRMED, {"of": job_id, "named": prediction_id, "now": now})
            note(connection, job_id, now, "submitted", {"prediction_id": prediction_id})
            back_from_review(connection, job_id, now)
            return True

        return await self._database.transact(write, durable=True)

    async def known_predictions(self, provider: str) -> frozenset[str]:
        """The ids of every prediction of a provider that belongs to a job."""
        query = select(submissions.c.prediction_id).where(submissions.c.provider == provider)
        found = await self._database.transact(lambda c: list(c.execute(query).scalars()), writes=False)
        return frozenset(one for one in found if one is not None)

    async def resolve(self, job_id: str, principal: str | None, prediction_id: str | None) -> Job:
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
            if prediction_id is not None and is_anothers(connection, job_id, prediction_id):
                raise InvalidInput(
                    "This prediction belongs to another job.",
                    hint=f"Look for that of this one; see jobs show {job_id}.",
                )
            note(connection, job_id, now, "resolved", {"prediction_id": prediction_id})
            if prediction_id is None:
                found_uncharged(connection, job, now)
            else:
                adopt(connection, job, prediction_id, now)
                back_from_review(connection, job_id, now)
            return read_job(connection, job_id)

        return await self._database.transact(write, durable=True)

    async def request_cancel(self, job_id: str, principal: str | None) -> Job:
        """Ask for a job to be cancelled; one that has not begun is cancelled at once, a final one stays as it is."""
        now = self._clock()

        def write(connection: Connection) -> Job:
            job = read_job(connection, job_id, principal)
            if job.final or job.cancel_requested:
                return job
            connection.execute(update(jobs).where(jobs.c.id == job_id).values(cancel_requested=True, updated_at=now))
            note(connection, job_id, now, "cancel_requested", {})
            if job.state == "queued" and submission_of(connection, job_id) is None:
                cancelled_unsent(connection, job, now)
            return read_job(connection, job_id)

        return await self._database.transact(write)

    async def note_seconds(self, job: Job, workload: str, seconds: float) -> None:
        """Remember how long a run took at the provider."""
        row = {"job_id": job.id, "model": job.model, "provider": job.provider, "sandbox": job.sandbox}
        row |= {"workload": workload, "seconds": seconds, "at": self._clock()}
        await self._database.transact(lambda connection: connection.execute(_DURATION, row))

    async def usual_seconds(self, model: str, provider: str, workload: str, *, sandbox: bool) -> float | None:
        """The median of the latest runs of the same workload, or None when there were none."""
        same = (durations.c.model == model, durations.c.provider == provider, durations.c.workload == workload)
        query = select(durations.c.seconds).where(*same, durations.c.sandbox == sandbox)
        query = query.order_by(durations.c.at.desc()).limit(_RUNS_REMEMBERED)
        found = await self._database.transact(lambda c: list(c.execute(query).scalars()), writes=False)
        return statistics.median(found) if found else None

    async def outputs(self, job_id: str) -> Sequence[Output]:
        """The files of a job, by role and number."""
        of = {"of": job_id}
        return await self._database.transact(
            lambda c: [output_of(row) for row in c.execute(_OUTPUTS, of)], writes=False
        )

    async def spending(self, since: float) -> Sequence[Spent]:
        """Every day's spending since a moment (Unix seconds), by model, the newest day first."""
        return await self._database.transact(lambda connection: spending(connection, since), writes=False)

    def _write_fenced(self, connection: Connection, job: Job, patch: Patch) -> Job:
        now = self._clock()
        given = {name: getattr(patch, name) for name in ("stage", "state", "progress", "message")}
        values: dict[str, object] = {name: value for name, value in given.items() if value is not None}
        if patch.data:
            stands = connection.execute(_DATA, {"job_id": job.id}).scalar_one_or_none()
            values["data"] = {**(stands or {}), **patch.data}
        if patch.state in FINAL:
            values |= {"finished_at": now, "lease_until": None}
        values |= {"error": patch.error, "next_at": patch.next_at, "updated_at": now}
        ours = {"job_id": job.id, "by": job.owner, "under": job.fence}
        given_new = {f"new_{name}": value for name, value in values.items()}
        written = connection.execute(_fenced(tuple(values)), ours | given_new).first()
        if written is None:
            raise LostLease(job.id)
        if patch.settlement is not None:
            settle(connection, job.id, patch.settlement, now)
        note(connection, job.id, now, patch.event, {name: v for name, v in given.items() if v is not None})
        return job_of(written)

    def _doubted(self, connection: Connection, job: Job) -> Job:
        """A doubt that was settled in the last moment, by the request's author, is none."""
        submission = submission_of(connection, job.id)
        if submission is None or submission.prediction_id is not None:
            back_from_review(connection, job.id, self._clock())
        return read_job(connection, job.id)

    def _write_output(self, connection: Connection, job_id: str, output: Output) -> None:
        kept = output.artifact
        row: dict[str, object] = {"sha256": kept.sha256, "content_type": kept.content_type, "size": kept.size}
        row["facts"] = dict(kept.facts)
        row["created_at"] = self._clock()
        # The same content may come first as a raw file and later as a measured one: what is known is kept.
        connection.execute(_MEASURED if kept.facts else _KEPT, row)
        found = {
            "sha256": kept.sha256,
            "source_url": output.source_url,
            "source_expires_at": output.source_expires_at,
        }
        connection.execute(_PLACED, {"job_id": job_id, "role": output.role, "n": output.n, **found})


@cache
def _fenced(names: tuple[str, ...]) -> Update:
    """The one way to write some columns of a job: as its owner, under its fence, while it runs."""
    ours = (jobs.c.id == bindparam("job_id"), jobs.c.owner == bindparam("by"), jobs.c.fence == bindparam("under"))
    values = {name: bindparam(f"new_{name}", type_=jobs.c[name].type) for name in names}
    return update(jobs).where(*ours, jobs.c.state == "running").values(values).returning(*JOB_COLUMNS)


def _row(new: NewJob, job_id: str, starter: str | None, now: float) -> dict[str, object]:
    given = ("tool", "model", "provider", "principal", "sandbox", "args", "data")
    return {
        **{name: getattr(new, name) for name in given},
        "id": job_id,
        "idempotency_key": new.request_key,
        "state": "queued",
        "stage": "prepare",
        "owner": starter,
        "needs_key": SANDBOX_KEY if new.sandbox else new.provider,
        "created_at": now,
        "updated_at": now,
    }


def _twin(connection: Connection, new: NewJob) -> Job | None:
    """The job that an equal request has opened and whose end nobody has heard of yet."""
    if new.request_key is None:
        return None
    wanted = and_(
        jobs.c.cancel_requested.is_(False),
        or_(jobs.c.state.not_in(FINAL), jobs.c.delivered_at.is_(None)),
    )
    same = (jobs.c.idempotency_key == new.request_key, jobs.c.principal == new.principal)
    query = select(*JOB_COLUMNS).where(*same, or_(jobs.c.state == "needs_review", wanted))
    row = connection.execute(query.order_by(jobs.c.created_at.desc()).limit(1)).first()
    return None if row is None else job_of(row)
