"""The stage that finds out what became of a paying request whose reply is lost.

1. A run that the provider's list shows with the job's token is the job's, and is followed (`jobs.candidates`); so is
   one that a webhook to the request's own address has named, once the provider has confirmed it.
2. An absence is evidence and no proof: no provider says how soon its list is complete. So a run that is not found is
   never taken for one that was not made, and nothing is sent again. The one exception is the operator's own: below the
   price that `ROTOSCOPE_RESEND_BELOW_USD` names, a request is sent once more, and the result says so.
3. What cannot be decided is a person's: the job waits for a review, and its run is looked for as long as the provider
   keeps it (`jobs.review`).
4. Only the process that wrote an intent knows whether its request left. While it may still be alive it is waited for.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from rotoscope.contracts.money import format_usd
from rotoscope.errors import StorageFailed, SubmitUnsure
from rotoscope.jobs.candidates import RunCandidates, describe_candidates, find_candidates
from rotoscope.jobs.context import JobContext
from rotoscope.jobs.transitions import LostReply, patch_to_follow, unsure_error
from rotoscope.jobs.webhook_receiving import count_webhooks, sleep_until_webhook
from rotoscope.store.ledger import LostLease
from rotoscope.store.records import Job, Patch, Submission

__all__ = ["reconcile"]


async def reconcile(context: JobContext, job: Job, lost: LostReply) -> Patch:
    """Go on with the run of a request whose reply is lost, or was another process's to read.

    Raises:
        SubmitUnsure: nothing can decide; says what was checked and what to check.
        LostLease: the ledger cannot be used for now: the intent stands, and the next process looks.
    """
    with _leave_job_on_storage_failure(job):
        if lost.error is not None:
            return await _find_lost_run(context, job, lost, lost.error)
        intent = await _wait_for_author(context, job, lost)
        if intent is None:
            return _patch_to_submit()
        if intent.prediction_id is not None:
            return patch_to_follow(context, job, lost.call, intent.prediction_id)
        return await _find_lost_run(context, job, replace(lost, submission=intent), unsure_error(context, job))


async def _wait_for_author(context: JobContext, job: Job, lost: LostReply) -> Submission | None:
    """The intent once its author cannot be waiting for a reply any more; None when the author has withdrawn it."""
    intent = lost.submission
    if intent.prediction_id is not None:
        return intent
    request = context.dialects[job.provider].submit(lost.call)
    longest = context.wire.max_request_seconds(request) + context.intervals.post_grace
    # Not longer than that, wherever our clock was set since.
    await context.sleep(min(max(intent.intent_at + longest - context.clock(), 0.0), longest))
    return await context.ledger.submission(job.id, job.principal)


async def _find_lost_run(context: JobContext, job: Job, lost: LostReply, error: SubmitUnsure) -> Patch:
    """Look for the run in the provider's list, or send the request once more where the operator allows that."""
    provider = context.provider(job)
    announced = await find_candidates(context, job, lost.call, lost.submission) if not provider.can_list else None
    if (prediction_id := await _claim_match(context, job, announced)) is not None:
        return patch_to_follow(context, job, lost.call, prediction_id)
    if provider.can_list:
        return await _search_list(context, job, lost, error)
    again = await _resend_once(context, job, lost.submission)
    if again is not None:
        return again
    why = f"{provider.title} has no list to look it up in."
    raise unsure_error(context, job, why=why, provider_message=error.provider_message)


@contextmanager
def _leave_job_on_storage_failure(job: Job) -> Iterator[None]:
    """While the ledger cannot be used, nothing is decided: the intent stands, and the next process looks."""
    try:
        yield
    except StorageFailed as error:
        raise LostLease(job.id) from error


async def _search_list(context: JobContext, job: Job, lost: LostReply, error: SubmitUnsure) -> Patch:
    message = f"The reply of {context.provider(job).title} was lost; looking for the run in its list."
    job = await context.advance(job, Patch(message=message, event="progress"))
    seen: RunCandidates | None = None
    came = 0
    for pause in _remaining_pauses(context, job, lost.submission):
        await sleep_until_webhook(context, job, pause, came)
        came = await count_webhooks(context, job)  # before the look, which then sees them
        intent = await context.ledger.submission(
            job.id, job.principal
        )  # its author may have got the reply, or withdrawn it
        if intent is None:
            return _patch_to_submit()
        prediction_id = intent.prediction_id
        if prediction_id is None:
            look = await find_candidates(context, job, lost.call, intent)
            prediction_id = await _claim_match(context, job, look)
            seen = look or seen
        if prediction_id is not None:
            return patch_to_follow(context, job, lost.call, prediction_id)
        if _is_search_over(context, lost.submission):
            effort = replace(job.submit_effort, late_looks=job.submit_effort.late_looks + 1)
            job = await context.advance(job, Patch(submit_effort=effort, event="progress"))
    if seen is not None and seen.is_complete and not seen.matches and not seen.similar:
        again = await _resend_once(context, job, lost.submission)
        if again is not None:
            return again
    why = describe_candidates(context, job, seen)
    raise unsure_error(context, job, why=why, provider_message=error.provider_message)


async def _resend_once(context: JobContext, job: Job, intent: Submission) -> Patch | None:
    """Withdraw an intent whose request may have been accepted, for an operator who would rather pay twice.

    At most once for each job: that it was done, and the money of the second run, are written in the transaction that
    deletes the intent.

    Returns:
        The patch that was written; None where it is not allowed, or a cap or a cancel forbids it.
    """
    usd, below = job.plan.estimate_usd, context.resend_policy.below_usd
    if usd is None or not usd < below or job.submit_effort.was_resent or job.cancel_requested:
        return None
    title = context.provider(job).title
    warning = (
        f"The reply of {title} to the request was lost and no run of it was found, so it was sent once more "
        f"(ROTOSCOPE_RESEND_BELOW_USD): it may have been paid twice, each time about {format_usd(usd)}."
    )
    again = Patch(
        submit_effort=replace(job.submit_effort, late_looks=0, was_resent=True),
        warnings=(*job.warnings, warning),
        message=f"Sending to {title} once more.",
        event="sent again",
    )
    held = usd if job.plan.at_most_usd is None else job.plan.at_most_usd
    is_allowed = await context.ledger.allow_resend(job, intent, again, held, context.resend_policy)
    return replace(again, event="progress") if is_allowed else None


def _remaining_pauses(context: JobContext, job: Job, intent: Submission) -> Iterator[float]:
    """The waits before the looks that are left: they count from the intent, whichever process has looked before.

    Otherwise a process that is new at each call would begin the search at its start each time, and never end it. When
    the time is up some looks are left all the same: one that fails must not be the last. Those are counted in the
    ledger, because a process that lives for one call may not live for all of them.
    """
    elapsed, planned, left = max(context.clock() - intent.intent_at, 0.0), 0.0, list[float]()
    for pause in context.intervals.list_pauses:
        planned += pause
        if planned > elapsed:
            left.append(pause)
    yield from (0.0, *(left or context.intervals.late_list_pauses[job.submit_effort.late_looks :]))


def _is_search_over(context: JobContext, intent: Submission) -> bool:
    """Whether the time has passed in which a list is looked into again and again."""
    return context.clock() - intent.intent_at >= sum(context.intervals.list_pauses)


async def _claim_match(context: JobContext, job: Job, look: RunCandidates | None) -> str | None:
    """Claim the one run that holds our token, for this job; None where there is not one, or it is another job's now."""
    if look is None or len(look.matches) != 1:
        return None
    found = look.matches[0].ticket.id
    is_ours = await context.write_with_retries(lambda: context.ledger.write_prediction_id(job.id, job.principal, found))
    return found if is_ours else None


def _patch_to_submit() -> Patch:
    """The author of the intent has withdrawn it, on proof that nothing was accepted: the request may be sent once."""
    return Patch(message="Nothing was sent yet.", event="progress")
