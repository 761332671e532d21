"""Runs that a webhook has named for a job whose reply was lost, each verified by a question to the provider.

The nonce in the address was sent in that one request alone, so a signed webhook to it is a strong hint. It is adopted
only when the provider shows such a run to our key: with our token or our input, where it shows inputs, and in any case
under our endpoint; and only where it belongs to no other job.
"""

from collections.abc import Sequence

from rotoscope.errors import ProviderError
from rotoscope.jobs.context import JobContext, runner_without_recorder
from rotoscope.providers.recent import RecentPrediction, predictions_with_input, predictions_with_token
from rotoscope.providers.states import Call, parse_token
from rotoscope.store.records import Job, Submission

__all__ = ["find_announced_runs"]


async def find_announced_runs(
    context: JobContext, job: Job, call: Call, submission: Submission
) -> Sequence[RecentPrediction]:
    """The verified runs that webhooks have named for a job; none where no webhook came, or none can be verified now.

    Raises:
        StorageFailed: the ledger cannot be read.
    """
    webhooks = context.webhooks_for(job)
    named = await webhooks.log.runs_named(job.id) if webhooks is not None else ()
    others = await context.ledger.runs_of_other_jobs(job.provider, named, job.id) if named else ()
    found = [await _verify_run(context, job, call, submission, one) for one in named if one not in others]
    return [one for one in found if one is not None]


async def _verify_run(
    context: JobContext, job: Job, call: Call, submission: Submission, prediction_id: str
) -> RecentPrediction | None:
    runner = runner_without_recorder(context, job)
    ticket = runner.dialect.ticket(call, prediction_id)
    try:
        if runner.dialect.look_up(call, prediction_id) is None:  # the provider shows no inputs
            return RecentPrediction(ticket) if await runner.has_prediction(ticket) else None
        shown = await runner.identify(call, prediction_id)
    except ProviderError:
        return None
    if shown is None:
        return None
    is_ours = predictions_with_token([shown], parse_token(submission.token)) or predictions_with_input([shown], call)
    return shown if is_ours else None
