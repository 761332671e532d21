"""Jobs in review: no process drives them, but their runs are looked for as long as the provider keeps them.

A review is a state and no end. It is over when a person says what they found, when the run's id arrives late, or when
the provider's list shows the run: then the job goes on from the stage in which it stopped. A look costs nothing and
changes nothing at the provider, so it proves nothing either: only a person says that a request was not charged.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

from sqlalchemy import Connection, bindparam, or_, select, update

from rotoscope.errors import InvalidInput, ProviderError, RotoscopeError, UnknownJob
from rotoscope.jobs.candidates import RunCandidates, describe_candidates, find_candidates
from rotoscope.jobs.context import JobContext, runner_without_recorder
from rotoscope.jobs.stages.submit import paying_request
from rotoscope.jobs.transitions import unsure_error
from rotoscope.providers.http.messages import Json
from rotoscope.providers.recent import RecentPrediction, predictions_with_input, predictions_with_token
from rotoscope.providers.states import Call, Failed, Token, Waiting
from rotoscope.store.database import Database
from rotoscope.store.lease_predicate import HOLDS_ACCOUNT, HOLDS_KEY
from rotoscope.store.leases import JobDriver
from rotoscope.store.records import Job, Submission, error_record
from rotoscope.store.rows import JOB_COLUMNS, job_from_row
from rotoscope.store.schema import jobs, submissions
from rotoscope.store.write_locks import WriteLock

__all__ = ["Review", "check_prediction"]

_PAUSE_PER_AGE = 0.5  # of the age of the job: looks become rarer as their chance does
_DEFAULT_LIST_SECONDS = 86_400.0  # how long a provider keeps a run in its list, where it does not say
_MAX_INTENT_AGE = 31 * 86_400.0  # seconds; no provider's list goes back further
_BATCH_SIZE = 16  # jobs in one round
_MAX_VALUE_LENGTH = 120  # characters of an input's value in the message about a difference
_log = logging.getLogger(__name__)

_NOW = bindparam("now", type_=jobs.c.next_at.type)
_DUE = or_(
    jobs.c.next_at.is_(None), jobs.c.next_at <= _NOW, jobs.c.next_at > bindparam("latest", type_=jobs.c.next_at.type)
)
_IN_REVIEW = (
    select(*JOB_COLUMNS)
    .select_from(jobs.join(submissions, submissions.c.job_id == jobs.c.id))
    .where(
        jobs.c.state == "needs_review", _DUE, HOLDS_KEY, HOLDS_ACCOUNT, submissions.c.intent_at > _NOW - _MAX_INTENT_AGE
    )
    .limit(_BATCH_SIZE)
)
# Whoever moves the next look takes this one: several processes do not ask the provider at the same time.
_TAKE_LOOK = (
    update(jobs)
    .where(jobs.c.id == bindparam("one"), jobs.c.state == "needs_review")
    .where(jobs.c.next_at.is_not_distinct_from(bindparam("was", type_=jobs.c.next_at.type)))
    .values(next_at=bindparam("then", type_=jobs.c.next_at.type))
)


@dataclass(frozen=True, slots=True)
class Review:
    """Looks for the runs of jobs in review.

    Attributes:
        database: the ledger's.
        holder: which providers and models this process can ask about.
    """

    context: JobContext
    database: Database
    holder: JobDriver
    _last_looks: dict[str, float] = field(default_factory=dict)

    async def look_at_due(self) -> None:
        """Look at every job in review whose next look is due.

        Raises:
            StorageFailed: the ledger cannot be used now.
        """
        for job in await self._take_due():
            await self._look(job)

    async def look_at(self, job: Job) -> None:
        """Look at a job in review now, because a user asks for it, unless there was a look a moment ago."""
        now, spacing = self.context.clock(), self.context.intervals.review_question_pause
        last = self._last_looks.get(job.id)
        if job.state != "needs_review" or (last is not None and abs(now - last) < spacing):
            return
        if _can_ask(self.holder, job):
            await self._look(job)

    async def _take_due(self) -> Sequence[Job]:
        now = self.context.clock()
        latest = now + self.context.intervals.longest_pause  # what is later was written by a clock that was wrong
        terms = {"now": now, "latest": latest, **self.holder.terms()}

        def read(connection: Connection) -> list[Job]:
            return [job_from_row(row) for row in connection.execute(_IN_REVIEW, terms)]

        due = await self.database.transact(read, writes=False)
        if not due:
            return ()

        def take(connection: Connection) -> list[Job]:
            looks = [
                {"one": job.id, "was": job.next_at, "then": now + self._pause_for_age(now - job.created_at)}
                for job in due
            ]
            return [job for job, look in zip(due, looks, strict=True) if connection.execute(_TAKE_LOOK, look).rowcount]

        # Each statement looks and writes in one step; the rows are written in the order in which all lock them.
        due.sort(key=lambda job: job.id)
        return await self.database.transact(take, lock=WriteLock())

    async def _look(self, job: Job) -> None:
        self._last_looks[job.id] = self.context.clock()
        if len(self._last_looks) > _BATCH_SIZE * _BATCH_SIZE:
            self._last_looks.pop(next(iter(self._last_looks)))
        try:
            await self._look_once(job)
        except ProviderError as error:
            _log.info("job %s in review could not be looked for: %s", job.id, error.message)

    async def _look_once(self, job: Job) -> None:
        submission = await self.context.ledger.submission(job.id, job.principal)
        if submission is None:
            return
        if submission.prediction_id is not None:
            if await self._is_known_to_provider(job, submission.prediction_id):
                await self.context.ledger.end_review(job.id, job.principal)
                self.context.notifier.notify_change(job.id)
            return
        if self._is_run_expired(job, submission) or job.request is None:
            return
        call, _ = paying_request(self.context, job)
        look = await find_candidates(self.context, job, call, submission)
        if look is not None and len(look.matches) == 1:
            # Its id ends the review: the job is queued again, and the process that claims it watches the run.
            await self.context.ledger.write_prediction_id(job.id, job.principal, look.matches[0].ticket.id)
        elif look is not None:
            await self._update_message(job, look)
        self.context.notifier.notify_change(job.id)

    async def _is_known_to_provider(self, job: Job, prediction_id: str) -> bool:
        """Whether the run is worth watching. One that the provider has never known is asked about here first."""
        if job.watch.was_found or job.request is None:
            return True
        call, _ = paying_request(self.context, job)
        ticket = self.context.dialects[job.provider].ticket(call, prediction_id)
        seen = await runner_without_recorder(self.context, job).ask_once(Waiting(ticket))
        return not (isinstance(seen, Failed) and seen.code == "output_expired")

    async def _update_message(self, job: Job, look: RunCandidates) -> None:
        """Write what the list shows now for the person who decides."""
        error = unsure_error(
            self.context,
            job,
            why=describe_candidates(self.context, job, look),
            provider_message=job.error.provider_message if job.error is not None else None,
        )
        if job.error is None or error.message != job.error.message:
            await self.context.ledger.update_review_error(job.id, job.principal, error_record(error))

    def _pause_for_age(self, age: float) -> float:
        spans = self.context.intervals
        return min(max(_PAUSE_PER_AGE * age, spans.review_pause), spans.longest_pause)

    def _is_run_expired(self, job: Job, submission: Submission) -> bool:
        """Whether the provider no longer keeps the run: nothing can be found any more."""
        kept = self.context.provider(job).list_seconds
        return self.context.clock() - submission.intent_at > (_DEFAULT_LIST_SECONDS if kept is None else kept)


def _can_ask(holder: JobDriver, job: Job) -> bool:
    known = job.needs_key in holder.keys and job.model in holder.models
    # Whether the principal's own key is still that of the job is found out when it is sent.
    return known and (holder.uses_own_keys or job.account is None or job.account in holder.accounts)


async def check_prediction(context: JobContext, job: Job, prediction_id: str) -> None:
    """Compare the prediction that a person names with what the job has sent.

    Raises:
        UnknownJob: the job needs no review, and this is not its prediction.
        InvalidInput: it is another model's, was given something else, or cannot be compared.
    """
    submission = await context.ledger.submission(job.id, job.principal)
    if submission is not None and submission.prediction_id == prediction_id:
        return  # the provider has given this id itself, in its reply or by now in its list
    if job.state != "needs_review":
        raise UnknownJob(f"The job is {job.state}; it needs no review.", hint="See rotoscope jobs show.")
    if job.request is None:
        return
    call, token = paying_request(context, job)
    try:
        shown = await _find_prediction(context, job, call, submission, prediction_id)
    except RotoscopeError as error:
        raise _comparison_error(context, job, prediction_id, error.message) from error
    if shown is None:
        why = f"no prediction of {call.endpoint} under that id is shown there with its input"
        raise _comparison_error(context, job, prediction_id, why)
    _compare(context, job, call, token, shown)


async def _find_prediction(
    context: JobContext, job: Job, call: Call, submission: Submission | None, prediction_id: str
) -> RecentPrediction | None:
    runner = runner_without_recorder(context, job)
    if runner.dialect.look_up(call, prediction_id) is not None:
        return await runner.identify(call, prediction_id)
    since = (submission.intent_at if submission is not None else job.created_at) - _DEFAULT_LIST_SECONDS
    seen = await runner.list_recent(call, since)
    return next((one for one in seen.predictions if one.ticket.id == prediction_id), None) if seen is not None else None


def _compare(context: JobContext, job: Job, call: Call, token: Token | None, listed: RecentPrediction) -> None:
    if predictions_with_token([listed], token) or predictions_with_input([listed], call):
        return
    title = context.provider(job).title
    names = [name for name in call.input if not predictions_with_input([listed], _call_with_input(call, name))]
    differing = "; ".join(_describe_difference(name, call.input[name], listed.input.get(name)) for name in names)
    raise InvalidInput(
        f"Prediction {listed.ticket.id[:100]} at {title} was given something else than this job has sent "
        f"({differing}).",
        hint="Look for that of this job, or add --force if you are sure.",
    )


def _describe_difference(name: str, sent: Json, there: Json) -> str:
    return f"{name}: sent {str(sent)[:_MAX_VALUE_LENGTH]!r}, there {str(there)[:_MAX_VALUE_LENGTH]!r}"


def _call_with_input(call: Call, name: str) -> Call:
    return Call(call.provider, call.endpoint, {name: call.input[name]}, call.version, call.form)


def _comparison_error(context: JobContext, job: Job, prediction_id: str, why: str) -> InvalidInput:
    return InvalidInput(
        f"Prediction {prediction_id[:100]!r} cannot be compared with what this job has sent: {why}.".replace("..", "."),
        hint=f"Check it at {context.provider(job).title} by hand, and add --force if you are sure.",
    )
