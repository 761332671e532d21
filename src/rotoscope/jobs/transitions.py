"""From what the provider says to what changes in the job: patches and errors that several stages share. No I/O."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import cast

from rotoscope.contracts.characters import limit_json_value
from rotoscope.errors import SubmitUnsure
from rotoscope.jobs.context import JobContext
from rotoscope.providers.dialects.failures import NEXT_STEPS
from rotoscope.providers.dialects.provider_text import log_tail
from rotoscope.providers.http.messages import PAGE_KEY, Json
from rotoscope.providers.states import (
    Blob,
    Call,
    Canceled,
    Failed,
    Prediction,
    Ready,
    Succeeded,
    Ticket,
    Waiting,
    Working,
)
from rotoscope.store.job_data import AcceptedRun, Charge, ErrorRecord, ProviderOutput, RunReference
from rotoscope.store.records import Job, Patch, Submission

__all__ = [
    "LostReply",
    "charge_phrase",
    "known_log_tail",
    "patch_of",
    "patch_to_follow",
    "prediction_message",
    "unsure_error",
]

_MAX_METRICS, _MAX_METRIC_LENGTH = 100, 1_000  # values, characters of each


@dataclass(frozen=True, slots=True)
class LostReply:
    """An intent to pay stands, and this process has no reply to its request: the run may or may not exist.

    Attributes:
        call: the paying request.
        submission: the intent.
        error: how the request of this process ended; None where another process has written the intent.
    """

    call: Call
    submission: Submission
    error: SubmitUnsure | None = None


def patch_of(context: JobContext, job: Job, state: Prediction) -> Patch:
    """What a state of the prediction changes in the job.

    A final state is not settled here: `JobContext.advance` reads from the patch what was charged.
    """
    return replace(_patch_of_state(context, job, state), log_tail=known_log_tail(state))


def known_log_tail(state: Prediction) -> tuple[str, ...] | None:
    """The end of the log that comes with a state; None where it has none: what was seen before then stays."""
    return log_tail(state.logs) or None


def _patch_of_state(context: JobContext, job: Job, state: Prediction) -> Patch:
    title = context.provider(job).title
    match state:
        case Succeeded(ticket=ticket, output=output, metrics=metrics):
            shortened = cast("dict[str, Json]", limit_json_value(dict(metrics), _MAX_METRICS, _MAX_METRIC_LENGTH))
            measured = _billable_amounts(context, job, metrics)
            # A blob was replaced by its artifact:// link before it came here.
            result = None if isinstance(output, Blob) else output
            return Patch(
                stage="fetch",
                provider_output=ProviderOutput(result, shortened, measured, context.clock()),
                run=_run_reference(ticket),
                message=prediction_message(title, state),
                progress=0.95,
            )
        case Failed(ticket=ticket, message=message, metrics=metrics):
            error = _failure_record(context, job, state)
            ended = Patch(state="failed", error=error, message=message)
            charge = Charge(_is_failure_charged(job, state), measured=_billable_amounts(context, job, metrics))
            return replace(ended, charge=charge, run=_run_reference(ticket))
        case Canceled(ticket=ticket, charged=charged, metrics=metrics):
            charged = job.plan.on_cancel if charged is None else charged
            message = f"Cancelled at {title}: {charge_phrase(charged)}."
            unasked = ErrorRecord("provider_cancelled", message, "Call the tool again to run it anew.")
            ended = Patch(state="cancelled", message=message, error=None if job.cancel_requested else unasked)
            charge = Charge(charged, measured=_billable_amounts(context, job, metrics))
            return replace(ended, charge=charge, run=_run_reference(ticket))
        case Waiting(ticket=ticket) | Working(ticket=ticket) | Ready(ticket=ticket):
            now, working_at = context.clock(), None if isinstance(state, Waiting) else 0.0
            return Patch(
                stage="watch",
                accepted=AcceptedRun(ticket, now),
                watch=replace(job.watch, seconds=0.0, noted_at=now, working_at=working_at),
                run=_run_reference(ticket),
                message=prediction_message(title, state),
                progress=max(job.progress, 0.02),
            )


def patch_to_follow(context: JobContext, job: Job, call: Call, prediction_id: str) -> Patch:
    """Go on with a run of which only the id is known."""
    return patch_of(context, job, Waiting(context.dialects[job.provider].ticket(call, prediction_id)))


def _run_reference(ticket: Ticket | None) -> RunReference | None:
    return None if ticket is None else RunReference(ticket.id, ticket.urls.get(PAGE_KEY))


def _failure_record(context: JobContext, job: Job, failure: Failed) -> ErrorRecord:
    hint = NEXT_STEPS.get(failure.code, NEXT_STEPS["prediction_failed"])
    if failure.code == "output_expired":
        hint = _hint_for_expired_output(context, job)
    return ErrorRecord(
        failure.code, failure.message, hint, failure.provider_message[:2000] if failure.provider_message else None
    )


def _hint_for_expired_output(context: JobContext, job: Job) -> str:
    provider = context.provider(job)
    seconds = provider.large_answer_seconds
    briefly = f"{provider.title} keeps a large answer for {seconds / 60:g} minutes only. " if seconds else ""
    asking = f"rotoscope jobs resume {job.id} asks for it again."
    return f"{briefly}Whether it was charged is shown at {provider.title}; {asking}"


def _is_failure_charged(job: Job, failure: Failed) -> bool | None:
    """Whether a failed run is charged: as the provider says of it, else by its rule for failed runs."""
    return job.plan.on_failure if failure.charged is None and failure.is_reported else failure.charged


def _billable_amounts(context: JobContext, job: Job, metrics: Mapping[str, Json]) -> dict[str, float]:
    """What the provider has measured of what a price may count, by the unit of the price."""
    names_by_unit = context.dialects[job.provider].price_metrics
    found = ((unit, metrics.get(name)) for unit, name in names_by_unit.items())
    return {unit: amount for unit, amount in found if isinstance(amount, int | float) and not isinstance(amount, bool)}


def prediction_message(title: str, state: Prediction) -> str:
    """What the provider does now, in a sentence for the user; `title` is the provider's."""
    match state:
        case Waiting(position=position) if position:
            return f"Waiting at {title}, {position} ahead."
        case Waiting():
            return f"Waiting at {title}."
        case Working():
            return f"Running at {title}."
        case _:
            return f"{title} has finished; fetching the result."


def charge_phrase(charged: bool | None) -> str:
    """Whether a run that was stopped is charged, as part of a sentence."""
    known = {None: "whether it is charged is not known", True: "the time that it ran is charged", False: "not charged"}
    return known[charged]


def unsure_error(
    context: JobContext,
    job: Job,
    prediction_id: str | None = None,
    why: str = "",
    provider_message: str | None = None,
) -> SubmitUnsure:
    """The error of a request of which nobody can know whether it was accepted: what a person should check, and how.

    Args:
        context: what the stages work with.
        job: the job.
        prediction_id: the id of its run, where that is known and only the result cannot be taken up.
        why: what was checked already, in a sentence.
        provider_message: the provider's own words.
    """
    title = context.provider(job).title
    endpoint = job.plan.call.endpoint if job.plan.call is not None else job.model
    known = f"prediction {prediction_id}" if prediction_id else f"your recent predictions of {endpoint}"
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
