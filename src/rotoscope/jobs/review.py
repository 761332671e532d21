"""Jobs in review: nobody drives them, but what became of them is looked for as long as their provider keeps the run.

A review is a state and no end. It is over when a person says what they found, when the id comes after all, or when the
provider's list shows the run after all: then the job goes on from where it stopped. A look costs nothing and changes
nothing at the provider.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

from sqlalchemy import Connection, and_, bindparam, or_, select, update

from rotoscope.errors import InvalidInput, ProviderError, RotoscopeError, UnknownJob
from rotoscope.jobs.context import Rooms
from rotoscope.jobs.stages.reconcile import Look, doubt, look_once, quiet_runner, what_was_seen
from rotoscope.jobs.stages.submit import request_of
from rotoscope.providers.correlation import Token
from rotoscope.providers.http.messages import Json
from rotoscope.providers.recent import Sighting, with_token_of, worded_like
from rotoscope.providers.states import Call, Failed, Waiting
from rotoscope.store.database import Database
from rotoscope.store.leases import Holder
from rotoscope.store.records import Job, Submission, problem_of
from rotoscope.store.rows import JOB_COLUMNS, job_of
from rotoscope.store.schema import jobs, submissions

__all__ = ["Review", "check_prediction"]

_FIRST_PAUSE, _LONGEST_PAUSE = 60.0, 900.0  # seconds between two looks
_SLOWER = 0.5  # of the age of the job: looks become rarer as their chance does
_KEPT_SECONDS = 86_400.0  # how long a provider keeps a run in its list, where it does not say
_OLDEST = 31 * 86_400.0  # seconds; no provider's list goes back further
_AT_ONCE = 16  # jobs in one round
_JUST_LOOKED = 5.0  # seconds in which somebody's question is not worth another look
_SHOWN = 120  # characters of an input's value in the words about a difference
_log = logging.getLogger(__name__)

_NOW = bindparam("now", type_=jobs.c.next_at.type)
_DUE = or_(jobs.c.next_at.is_(None), jobs.c.next_at <= _NOW, jobs.c.next_at > _NOW + _LONGEST_PAUSE)
_DRIVABLE = and_(
    jobs.c.needs_key.in_(bindparam("keys", expanding=True)),
    jobs.c.model.in_(bindparam("models", expanding=True)),
    or_(jobs.c.account.is_(None), jobs.c.account.in_(bindparam("accounts", expanding=True))),
)
_IN_REVIEW = (
    select(*JOB_COLUMNS)
    .select_from(jobs.join(submissions, submissions.c.job_id == jobs.c.id))
    .where(jobs.c.state == "needs_review", _DUE, _DRIVABLE, submissions.c.intent_at > _NOW - _OLDEST)
    .limit(_AT_ONCE)
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
    """Looks for what became of the jobs in review.

    Attributes:
        database: where they are.
        holder: what this process can ask about.
    """

    rooms: Rooms
    database: Database
    holder: Holder
    _looked_at: dict[str, float] = field(default_factory=dict)

    async def look_at_due(self) -> None:
        """Look at every job in review whose next look is due.

        Raises:
            StorageFailed: the ledger cannot be used now.
        """
        for job in await self._take_due():
            await self._look(job)

    async def look_at(self, job: Job) -> None:
        """Somebody asks for a job in review: a look now, unless there was one a moment ago."""
        now = self.rooms.clock()
        if job.state != "needs_review" or abs(now - self._looked_at.get(job.id, -_JUST_LOOKED)) < _JUST_LOOKED:
            return
        if _can_ask(self.holder, job):
            await self._look(job)

    async def _take_due(self) -> Sequence[Job]:
        now = self.rooms.clock()
        held = {"keys": list(self.holder.keys), "models": list(self.holder.models)}
        terms = {"now": now, "accounts": list(self.holder.accounts), **held}

        def read(connection: Connection) -> list[Job]:
            return [job_of(row) for row in connection.execute(_IN_REVIEW, terms)]

        due = await self.database.transact(read, writes=False)
        if not due:
            return ()

        def take(connection: Connection) -> list[Job]:
            looks = [{"one": job.id, "was": job.next_at, "then": now + _pause(now - job.created_at)} for job in due]
            return [job for job, look in zip(due, looks, strict=True) if connection.execute(_TAKE_LOOK, look).rowcount]

        return await self.database.transact(take)

    async def _look(self, job: Job) -> None:
        self._looked_at[job.id] = self.rooms.clock()
        if len(self._looked_at) > _AT_ONCE * _AT_ONCE:
            self._looked_at.pop(next(iter(self._looked_at)))
        try:
            await self._look_once(job)
        except ProviderError as error:
            _log.info("job %s in review could not be looked for: %s", job.id, error.message)

    async def _look_once(self, job: Job) -> None:
        submission = await self.rooms.ledger.submission(job.id)
        if submission is None:
            return
        if submission.prediction_id is not None:
            if await self._is_known_there(job, submission.prediction_id):
                await self.rooms.ledger.take_up(job.id)
                self.rooms.feed.changed(job.id)
            return
        if self._is_over(job, submission) or "input" not in job.data:
            return
        call, _ = request_of(self.rooms, job)
        look = await look_once(self.rooms, job, call, submission)
        if look is not None and len(look.ours) == 1:
            # Its id ends the review: the job is queued again, and whoever drives it follows the run.
            await self.rooms.ledger.note_prediction(job.id, look.ours[0].ticket.id)
        elif look is not None:
            await self._tell(job, call, look)
        self.rooms.feed.changed(job.id)

    async def _is_known_there(self, job: Job, prediction_id: str) -> bool:
        """Whether it is worth driving the job on. A provider that never knew its run is asked in silence first."""
        if job.data.get("seen") or "input" not in job.data:
            return True
        call, _ = request_of(self.rooms, job)
        ticket = self.rooms.dialects[job.provider].ticket(call, prediction_id)
        seen = await quiet_runner(self.rooms, job).look(Waiting(ticket))
        return not (isinstance(seen, Failed) and seen.code == "output_expired")

    async def _tell(self, job: Job, call: Call, look: Look) -> None:
        """What the list shows now is what the person should read."""
        words = doubt(
            self.rooms, job, call, why=what_was_seen(self.rooms, job, look), said=(job.error or {}).get("said")
        )
        if words.message != (job.error or {}).get("message"):
            await self.rooms.ledger.reword_review(job.id, problem_of(words))

    def _is_over(self, job: Job, submission: Submission) -> bool:
        """Whether the provider no longer keeps the run: nothing can be found any more."""
        kept = self.rooms.provider(job).list_seconds
        return self.rooms.clock() - submission.intent_at > (_KEPT_SECONDS if kept is None else kept)


def _pause(age: float) -> float:
    return min(max(_SLOWER * age, _FIRST_PAUSE), _LONGEST_PAUSE)


def _can_ask(holder: Holder, job: Job) -> bool:
    known = job.needs_key in holder.keys and job.model in holder.models
    return known and (job.account is None or job.account in holder.accounts)


async def check_prediction(rooms: Rooms, job: Job, prediction_id: str) -> None:
    """Hold the prediction that a person names against what the job has sent.

    Raises:
        UnknownJob: the job needs no review.
        InvalidInput: it is another model's, was given something else, or cannot be compared.
    """
    if job.state != "needs_review":
        raise UnknownJob(f"The job is {job.state}; it needs no review.", hint="See rotoscope jobs show.")
    submission = await rooms.ledger.submission(job.id)
    if submission is not None and submission.prediction_id == prediction_id:
        return  # the provider said so itself
    if "input" not in job.data:
        return
    call, token = request_of(rooms, job)
    try:
        shown = await _shown(rooms, job, call, submission, prediction_id)
    except RotoscopeError as error:
        raise _incomparable(rooms, job, prediction_id, error.message) from error
    if shown is None:
        why = f"no prediction of {call.endpoint} under that id is shown there with its input"
        raise _incomparable(rooms, job, prediction_id, why)
    _compare(rooms, job, call, token, shown)


async def _shown(
    rooms: Rooms, job: Job, call: Call, submission: Submission | None, prediction_id: str
) -> Sighting | None:
    runner = quiet_runner(rooms, job)
    if runner.dialect.record(call, prediction_id) is not None:
        return await runner.identify(call, prediction_id)
    since = (submission.intent_at if submission is not None else job.created_at) - _KEPT_SECONDS
    seen = await runner.recent(call, since)
    return next((one for one in seen.found if one.ticket.id == prediction_id), None) if seen is not None else None


def _compare(rooms: Rooms, job: Job, call: Call, token: Token | None, shown: Sighting) -> None:
    if with_token_of([shown], token) or worded_like([shown], call):
        return
    title = rooms.provider(job).title
    names = [name for name in call.input if not worded_like([shown], _only(call, name))]
    differing = "; ".join(_both(name, call.input[name], shown.input.get(name)) for name in names)
    raise InvalidInput(
        f"Prediction {shown.ticket.id[:100]} at {title} was given something else than this job has sent ({differing}).",
        hint="Look for that of this job, or add --force if you are sure.",
    )


def _both(name: str, sent: Json, there: Json) -> str:
    return f"{name}: sent {str(sent)[:_SHOWN]!r}, there {str(there)[:_SHOWN]!r}"


def _only(call: Call, name: str) -> Call:
    return Call(call.provider, call.endpoint, {name: call.input[name]}, call.version, call.form)


def _incomparable(rooms: Rooms, job: Job, prediction_id: str, why: str) -> InvalidInput:
    return InvalidInput(
        f"Prediction {prediction_id[:100]!r} cannot be compared with what this job has sent: {why}.".replace("..", "."),
        hint=f"Check it at {rooms.provider(job).title} by hand, and add --force if you are sure.",
    )
