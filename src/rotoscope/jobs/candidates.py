"""Which runs at a provider may be a job's own. Looking costs nothing and changes nothing there.

A run is a job's own when its input holds the job's correlation token (`providers.states.Token`), or when a webhook to
the address of its request has named it and the provider confirms it (`announced_runs`), and on no other evidence: an
equal run may be somebody else's, and is only suggested to a person. A list counts as complete only where all of it was
read and every row was recognised.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from rotoscope.jobs.announced_runs import find_announced_runs
from rotoscope.jobs.context import JobContext, runner_without_recorder
from rotoscope.providers.recent import RecentList, RecentPrediction, predictions_with_input, predictions_with_token
from rotoscope.providers.states import Call, parse_token
from rotoscope.store.records import Job, Submission

__all__ = ["RunCandidates", "describe_candidates", "find_candidates"]

_MARGIN_WITHOUT_TOKEN = 30.0  # seconds before the intent from which on a run counts; clocks differ
_MARGIN_WITH_TOKEN = 3600.0  # seconds; a token cannot be anybody else's, so clocks matter less
_CLOCK_TOLERANCE = 10.0  # seconds; a Date header names whole seconds, and is some time on its way
_MAX_IDS_SHOWN = 5


@dataclass(frozen=True, slots=True)
class RunCandidates:
    """What one look into a provider's list has shown of a job's run.

    Attributes:
        matches: the runs that hold the job's token, or that a webhook to its own address has named and the provider
            shows; they belong to no other job.
        similar: the runs without it that were given the same input; only where none holds the token.
        is_complete: whether the whole list was read and recognised.
    """

    matches: tuple[RecentPrediction, ...]
    similar: tuple[RecentPrediction, ...]
    is_complete: bool


async def find_candidates(context: JobContext, job: Job, call: Call, submission: Submission) -> RunCandidates | None:
    """Look for a job's run: among those that a webhook has named, else in its provider's list.

    Returns:
        What was found; None where no webhook named it, and the provider has no list, or it cannot be read now.

    Raises:
        StorageFailed: the ledger, which knows whose runs the others are, cannot be read.
    """
    announced = await find_announced_runs(context, job, call, submission)
    if announced:
        return RunCandidates(tuple(announced), (), is_complete=True)
    if not context.provider(job).can_list:
        return None
    seen = await _read_recent_list(context, job, call, submission)
    if seen is None:
        return None
    others = await context.ledger.runs_of_other_jobs(job.provider, [one.ticket.id for one in seen.predictions], job.id)
    free = [one for one in seen.predictions if one.ticket.id not in others]
    matches = predictions_with_token(free, parse_token(submission.token))
    # A list by days also shows equal runs of hours before, which cannot be it.
    earliest = _intent_time(context, job, submission) - _MARGIN_WITHOUT_TOKEN
    similar = tuple(
        one for one in predictions_with_input(free, call) if one.submitted_at is None or one.submitted_at >= earliest
    )
    return RunCandidates(matches, () if matches else similar, seen.is_complete)


def _intent_time(context: JobContext, job: Job, submission: Submission) -> float:
    """The moment of the intent by the provider's clock, in Unix seconds, as well as it is known."""
    if submission.clock_offset is not None:
        return submission.intent_at + submission.clock_offset
    # How far the clocks are apart was not known at the intent; since then ours may have been set back.
    return min(submission.intent_at, context.clock()) + context.clock_offsets.get(job.provider, 0.0)


async def _read_recent_list(context: JobContext, job: Job, call: Call, submission: Submission) -> RecentList | None:
    """The list since a little before the intent, by the provider's clock, because ours may be wrong.

    The first reply shows the provider's time. Where that moves the intent, the list is read once more from there.
    """
    runner = runner_without_recorder(context, job)
    margin = _MARGIN_WITHOUT_TOKEN if submission.token is None else _MARGIN_WITH_TOKEN
    first_guess = _intent_time(context, job, submission)
    seen = await runner.list_recent(call, first_guess - margin)
    corrected = _intent_time(context, job, submission)
    if abs(corrected - first_guess) <= _CLOCK_TOLERANCE:
        return seen
    return await runner.list_recent(call, corrected - margin) or seen


def describe_candidates(context: JobContext, job: Job, look: RunCandidates | None) -> str:
    """What the list has shown, as a sentence for the person who decides; `look` is None when it could not be read."""
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
    return ", ".join(one.ticket.id for one in found[:_MAX_IDS_SHOWN])
