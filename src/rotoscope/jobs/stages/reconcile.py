"""What became of a paying request whose reply nobody has: the provider's list may tell, else a person must.

1. A run is ours when the list shows our token in its input (`predictions.tokens`), and on no other evidence: an equal
   run may be somebody else's. One without the token is a suggestion, told to a person.
2. An absence is evidence and no proof: no provider says how soon its list is complete. So a prediction that is not
   found is never taken for one that was not made, and nothing is ever sent again from here; once it is where the
   operator has said up to which price (`ROTOSCOPE_RESEND_BELOW_USD`).
3. A list counts as read only where all of it was read and every row was recognised.
4. The search ends with the time for which the provider keeps a run. After the first minute the job waits for a
   person's review, and the list is looked into again, rarer and rarer, and whenever somebody asks for the job.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from rotoscope.contracts.money import format_usd
from rotoscope.errors import StorageFailed, SubmitUnsure
from rotoscope.jobs.context import JobContext
from rotoscope.jobs.stages.watch import patch_of
from rotoscope.providers.recent import RecentList, RecentPrediction, predictions_with_input, predictions_with_token
from rotoscope.providers.runner import Runner
from rotoscope.providers.states import Call, Prediction, Waiting, parse_token
from rotoscope.store.ledger import LostLease
from rotoscope.store.records import Job, Patch, Submission

__all__ = [
    "RunCandidates",
    "describe_candidates",
    "find_candidates",
    "find_lost_run",
    "resume_submission",
    "runner_without_recorder",
    "unsure_error",
]

_MARGIN_WITHOUT_TOKEN = 30.0  # seconds before the intent; clocks differ
_MARGIN_WITH_TOKEN = 3600.0  # seconds; a token cannot be anybody else's, so clocks matter less
_LAST_PAUSES = (1.0, 3.0)  # seconds
_CLOCK_TOLERANCE = 10.0  # seconds; a Date header names whole seconds, and is some time on its way


@dataclass(frozen=True, slots=True)
class RunCandidates:
    """What one look into a provider's list has shown of a job's run.

    Attributes:
        matches: the runs that hold the job's token, and belong to no other job.
        similar: the runs without it that were given the same; only where none holds it.
        is_complete: whether the whole list was read and recognised.
    """

    matches: tuple[RecentPrediction, ...]
    similar: tuple[RecentPrediction, ...]
    is_complete: bool


async def resume_submission(context: JobContext, job: Job, call: Call, submission: Submission) -> Patch:
    """Go on where somebody intended before us: with the id they got, or as after a lost reply.

    They may be alive still and wait for their reply, so that is waited for first.
    """
    if submission.prediction_id is None:
        request = context.dialects[job.provider].submit(call)
        longest = context.wire.max_request_seconds(request) + context.intervals.post_grace
        await context.sleep(min(max(submission.intent_at + longest - context.clock(), 0.0), longest))
        with _map_storage_failure(job):
            stands = await context.ledger.submission(job.id, job.principal)
        if stands is None:
            return _patch_to_submit()
        submission = stands
    if submission.prediction_id is None:
        return await find_lost_run(context, job, call, submission, unsure_error(context, job, call))
    return _patch_to_follow(context, job, call, submission.prediction_id)


async def find_lost_run(
    context: JobContext, job: Job, call: Call, submission: Submission, error: SubmitUnsure
) -> Patch:
    """Find the prediction of a request whose reply was lost, and go on with it.

    Raises:
        SubmitUnsure: nothing can decide; says what was checked and what to check.
        LostLease: the ledger cannot be used for now.
    """
    provider = context.provider(job)
    if not provider.can_list:
        with _map_storage_failure(job):
            again = await _resend_once(context, job, submission)
        if again is not None:
            return again
        raise unsure_error(
            context,
            job,
            call,
            why=f"{provider.title} has no list to look it up in.",
            provider_message=error.provider_message,
        )
    with _map_storage_failure(job):
        return await _search_list(context, job, call, submission, error)


@contextmanager
def _map_storage_failure(job: Job) -> Iterator[None]:
    """While the ledger cannot be used, nothing is decided: the intent stands, and whoever has the job next looks."""
    try:
        yield
    except StorageFailed as error:
        raise LostLease(job.id) from error


async def _search_list(context: JobContext, job: Job, call: Call, submission: Submission, error: SubmitUnsure) -> Patch:
    message = f"The reply of {context.provider(job).title} was lost; looking for the run in its list."
    job = await context.advance(job, Patch(message=message, event="progress"))
    seen: RunCandidates | None = None
    for pause in _pauses_left(context, job, submission):
        await context.sleep(pause)
        late = await context.ledger.submission(job.id, job.principal)
        if late is None:
            return _patch_to_submit()
        found = late.prediction_id
        if found is None:
            look = await find_candidates(context, job, call, late)
            found = await _claim_match(context, job, look)
            seen = look or seen
        if found is not None:
            return _patch_to_follow(context, job, call, found)
        if _is_search_over(context, submission):
            job = await context.advance(job, _patch_of_late_look(job))
    if seen is not None and seen.is_complete and not seen.matches and not seen.similar:
        again = await _resend_once(context, job, submission)
        if again is not None:
            return again
    raise unsure_error(
        context, job, call, why=describe_candidates(context, job, seen), provider_message=error.provider_message
    )


async def _resend_once(context: JobContext, job: Job, submission: Submission) -> Patch | None:
    """The one exception to rule 2, for who has set `ROTOSCOPE_RESEND_BELOW_USD`: a small run is rather paid twice.

    At most once for each job: that it was is written in the transaction that takes the intent back. None where it is
    not done.
    """
    usd, below = job.plan.estimate_usd, context.resend_policy.below_usd
    if usd is None or not usd < below or job.submit_effort.was_resent or job.cancel_requested:
        return None
    title = context.provider(job).title
    words = (
        f"The reply of {title} to the request was lost and no run of it was found, so it was sent once more "
        f"(ROTOSCOPE_RESEND_BELOW_USD): it may have been paid twice, each time about {format_usd(usd)}."
    )
    again = Patch(
        submit_effort=replace(job.submit_effort, late_looks=0, was_resent=True),
        warnings=(*job.warnings, words),
        message=f"Sending to {title} once more.",
        event="sent again",
    )
    taken = await context.ledger.allow_resend(job, submission, again, usd, context.resend_policy.per_day)
    return replace(again, event="progress") if taken else None


def _pauses_left(context: JobContext, job: Job, submission: Submission) -> Iterator[float]:
    """The waits before the looks that are left: they count from the intent, whoever has looked before.

    A process that is new at each call would otherwise begin the search anew, and never end it. Some looks are always
    left: one that fails must not be the last word. Those that came when the time was up are counted in the ledger, as a
    process that lives for one call may not live for all of them.
    """
    elapsed, planned, left = max(context.clock() - submission.intent_at, 0.0), 0.0, list[float]()
    for pause in context.intervals.list_pauses:
        planned += pause
        if planned > elapsed:
            left.append(pause)
    yield from (0.0, *(left or _LAST_PAUSES[job.submit_effort.late_looks :]))


def _is_search_over(context: JobContext, submission: Submission) -> bool:
    """Whether the time is up in which a list is looked into again and again."""
    return context.clock() - submission.intent_at >= sum(context.intervals.list_pauses)


def _patch_of_late_look(job: Job) -> Patch:
    looks = job.submit_effort.late_looks + 1
    return Patch(submit_effort=replace(job.submit_effort, late_looks=looks), event="progress")


async def _claim_match(context: JobContext, job: Job, look: RunCandidates | None) -> str | None:
    """Take the one run that holds our token; None where there is none, or it went to another job meanwhile."""
    if look is None or len(look.matches) != 1:
        return None
    found = look.matches[0].ticket.id
    is_ours = await context.write_with_retries(lambda: context.ledger.write_prediction_id(job.id, job.principal, found))
    return found if is_ours else None


def describe_candidates(context: JobContext, job: Job, look: RunCandidates | None) -> str:
    """What the list has shown, in words for the person who decides; `look` is None when it could not be read."""
    title = context.provider(job).title
    if look is None:
        return f"{title}'s list could not be read."
    if look.matches:
        return f"Its list shows several that can be it: {_join_ids(look.matches)}."
    if look.similar:
        return f"Its list shows runs that were given the same, and may be somebody else's: {_join_ids(look.similar)}."
    note = f" {known}" if (known := context.provider(job).list_note) else ""
    if not look.is_complete:
        return f"It is not in the part of {title}'s list that could be read.{note}"
    return f"It is not in {title}'s list.{note}"


def _join_ids(found: Sequence[RecentPrediction]) -> str:
    return ", ".join(one.ticket.id for one in found[:5])


async def find_candidates(context: JobContext, job: Job, call: Call, submission: Submission) -> RunCandidates | None:
    """Look into the provider's list for the run of a job; None when the list says nothing now."""
    if not context.provider(job).can_list:
        return None
    seen = await _read_recent_list(context, job, call, submission)
    if seen is None:
        return None
    others = await context.ledger.runs_of_other_jobs(job.provider, [one.ticket.id for one in seen.predictions], job.id)
    free = [one for one in seen.predictions if one.ticket.id not in others]
    ours = predictions_with_token(free, parse_token(submission.token))
    # A list by days also shows equal runs of hours before, which cannot be it.
    earliest = _intent_time(context, job, submission) - _MARGIN_WITHOUT_TOKEN
    alike = tuple(
        one for one in predictions_with_input(free, call) if one.submitted_at is None or one.submitted_at >= earliest
    )
    return RunCandidates(ours, () if ours else alike, seen.is_complete)


def _intent_time(context: JobContext, job: Job, submission: Submission) -> float:
    """The moment of the intent by the provider's clock, in Unix seconds, as well as it is known."""
    if submission.clock_offset is not None:
        return submission.intent_at + submission.clock_offset
    # How far the clocks are apart was not known at the intent; since then ours may have been set back.
    return min(submission.intent_at, context.clock()) + context.clock_offsets.get(job.provider, 0.0)


async def _read_recent_list(context: JobContext, job: Job, call: Call, submission: Submission) -> RecentList | None:
    """The list since a little before the intent, by the provider's clock: ours may be wrong."""
    runner, margin = (
        runner_without_recorder(context, job),
        _MARGIN_WITHOUT_TOKEN if submission.token is None else _MARGIN_WITH_TOKEN,
    )
    asked_for = _intent_time(context, job, submission)
    seen = await runner.list_recent(call, asked_for - margin)
    learned = _intent_time(context, job, submission)  # the reply has told the provider's time
    return (
        await runner.list_recent(call, learned - margin) or seen
        if abs(learned - asked_for) > _CLOCK_TOLERANCE
        else seen
    )


def unsure_error(
    context: JobContext,
    job: Job,
    call: Call,
    prediction_id: str | None = None,
    why: str = "",
    provider_message: str | None = None,
) -> SubmitUnsure:
    """Nobody can know: the words that tell a person what to check, and how to say what they found."""
    title = context.provider(job).title
    known = f"prediction {prediction_id}" if prediction_id else f"your recent predictions of {call.endpoint}"
    certainty = "was" if prediction_id else "may have been"
    hint = (
        f"Look at {known} at {title}, then say what you found: rotoscope jobs resolve {job.id} "
        "--charged PREDICTION_ID, or --not-charged. Until then nothing is sent again."
    )
    if job.sandbox:
        hint += " The sandbox stood in and nothing was paid: --not-charged is safe, and the request then runs anew."
    return SubmitUnsure(
        f"The request to {title} {certainty} accepted, but its result could not be taken up here. {why}".rstrip(),
        hint=hint,
        provider_message=provider_message,
    )


def runner_without_recorder(context: JobContext, job: Job) -> Runner:
    """A runner whose states nobody records: the caller writes what comes of it."""
    return context.runner(job, _ignore_state, context.sleep)


async def _ignore_state(_: Prediction) -> None:
    """No state of a paying request is written before its id."""


def _patch_to_submit() -> Patch:
    """Who wrote the intent took it back: they know that nothing was sent, so the request may still be sent once."""
    return Patch(message="Nothing was sent yet.", event="progress")


def _patch_to_follow(context: JobContext, job: Job, call: Call, prediction_id: str) -> Patch:
    return patch_of(context, job, Waiting(context.dialects[job.provider].ticket(call, prediction_id)))
