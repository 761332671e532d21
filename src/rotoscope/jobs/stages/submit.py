"""The stage that pays: the intent is committed, then the one request that costs money is sent, once.

What a driver may conclude, and from what:

- Without an intent in the ledger nothing was sent. The intent is on the disk before the first byte leaves.
- An intent without a prediction's id means that the request may have been accepted. It is never sent again on that;
  the run is looked for instead (`stages.reconcile`).
- An intent is withdrawn, so that the request may be sent again, only on proof that it was not accepted: the connection
  was not made (refused, DNS, TLS), the provider has refused it (4xx but 408 and 409, `providers.dialects.error_map`),
  or the lease may have run out before anything was sent. A time-out, a connection that broke after the request was
  sent, a 5xx, a success without an id prove nothing.
- A cancel takes effect up to the intent. After it the request is out, and the cancel is the provider's to confirm.
"""

import logging
from dataclasses import replace
from functools import partial

import anyio
import anyio.to_thread

from rotoscope.errors import Busy, ProviderError, StorageFailed, SubmitUnsure, Unreachable, UserMistake
from rotoscope.jobs.candidates import find_candidates
from rotoscope.jobs.concurrency import run_with_background
from rotoscope.jobs.context import CancelRequested, JobContext, LeaseGuard, runner_without_recorder
from rotoscope.jobs.transitions import LostReply, patch_of, unsure_error
from rotoscope.models.request_key import call_digest
from rotoscope.providers.states import Blob, Call, Prediction, Succeeded, Token, add_token
from rotoscope.store.ledger import LostLease
from rotoscope.store.records import Job, Patch, Submission

__all__ = ["paying_request", "submit"]

_log = logging.getLogger(__name__)


async def submit(context: JobContext, job: Job, lease: LeaseGuard) -> Patch | LostReply:
    """Send the paying request, once, after its intent is in the ledger.

    Returns:
        What the reply changes in the job; or that the reply is lost, or was another process's to read.

    Raises:
        CancelRequested: the job is to be cancelled, and nothing was sent.
        LostLease: the job is no longer ours, or the ledger cannot be used.
        SubmitUnsure: the request was accepted, and what came back cannot be kept.
        RotoscopeError: the provider has refused the request, and the intent is withdrawn.
    """
    call, token = paying_request(context, job)
    if lease.stop.is_set() and await context.read_intent(job) is None:
        raise CancelRequested
    intent = await _commit_intent(context, job, call, token)
    if not intent.is_new:
        return LostReply(call, intent)
    try:
        return await _post_paying_request(context, job, lease, call, intent)
    except (SubmitUnsure, LostLease, ProviderError, UserMistake):
        raise
    except Exception as error:
        # Whatever else happens between the intent and the ticket, money may have moved.
        raise unsure_error(context, job) from error


def paying_request(context: JobContext, job: Job) -> tuple[Call, Token | None]:
    """The request that a job sends, the same for every process that drives it, and its correlation token.

    The token is what no other run's input can hold; None where nothing in the input can tell the run from others.

    Raises:
        StorageFailed: the ledger does not hold the request.
    """
    if job.request is None:
        raise StorageFailed("The ledger does not hold the request of this job.", hint="Call the tool again.")
    call = replace(job.call, input=job.request.input)
    media = [name for name, field in context.manifest(job).inputs.items() if field.is_media]
    return add_token(call, job.plan.drawn_inputs, job.request.uploads, media, job.id)


async def _commit_intent(context: JobContext, job: Job, call: Call, token: Token | None) -> Submission:
    """Commit the intent to pay; one that stands is given back, and its request is never sent from here.

    Raises:
        CancelRequested: a cancel was requested before an intent stood.
        StorageFailed: it could not be committed, and none stands: nothing was sent.
        LostLease: it could not be committed, and one stands or may stand: the job is left as it is.
    """
    text, offset = str(token) if token else None, context.clock_offsets.get(job.provider)
    try:
        intent = await context.ledger.commit_intent(job, call_digest(call), text, offset)
    except StorageFailed as error:
        # The commit may have reached the disk although it failed, so the ledger is read before anything is concluded.
        if await context.read_intent(job) is not None:
            raise LostLease(job.id) from error
        raise
    if intent is None:
        raise CancelRequested
    return intent


async def _post_paying_request(
    context: JobContext, job: Job, lease: LeaseGuard, call: Call, intent: Submission
) -> Patch | LostReply:
    """The one place where money is spent. Cutting the request off would lose its reply, so nothing here cuts it off."""

    def check_lease() -> None:
        # Called right before the first byte. A process that was suspended since its intent must not pay now: another
        # one may have taken the job over, found the intent and be looking for the run.
        if not lease.is_held:
            raise _LeaseExpired

    webhooks = context.webhooks
    address = webhooks.addresses.find_address(job.provider, intent.nonce) if webhooks is not None else None

    async def post() -> Prediction | SubmitUnsure:
        try:
            return await runner_without_recorder(context, job).start(call, check_lease, address)
        except SubmitUnsure as lost:
            return lost

    try:
        with anyio.CancelScope(shield=True):
            state = await run_with_background(post, lambda: _cancel_in_flight(context, job, lease, call, intent))
            if not isinstance(state, SubmitUnsure):
                state = await _record_prediction(context, job, state)
        return LostReply(call, intent, state) if isinstance(state, SubmitUnsure) else patch_of(context, job, state)
    except (_LeaseExpired, ProviderError, UserMistake) as error:
        # The provider has refused it, or nothing was sent: proof that nothing was bought, so the intent is withdrawn.
        with anyio.CancelScope(shield=True):  # the proof must not be lost because this process ends now
            await context.write_with_retries(lambda: context.ledger.withdraw_intent(intent))
        if isinstance(error, _LeaseExpired):
            raise LostLease(job.id) from error
        attempts = job.submit_effort.refusals + 1
        if isinstance(error, Busy | Unreachable) and attempts < context.intervals.max_submit_attempts:
            return _patch_to_try_later(context, job, error, attempts)
        raise


class _LeaseExpired(Exception):
    """The lease may have run out before anything was sent: this process was suspended for a while."""


def _patch_to_try_later(context: JobContext, job: Job, error: Busy | Unreachable, attempts: int) -> Patch:
    """Certainly not accepted: the request is sent again, not before the time that the provider has named."""
    spans = context.intervals
    backoff = min(spans.first_submit_pause * 2**attempts, spans.longest_submit_pause)
    asked = error.retry_after if isinstance(error, Busy) and error.retry_after is not None else backoff
    spread = 1 + int(job.id[:2], 16) / 2560  # up to a tenth: many jobs must not come back in the same moment
    seconds = min(asked * spread, spans.longest_retry_pause)
    why = "takes no more requests just now" if isinstance(error, Busy) else "could not be reached"
    message = f"{context.provider(job).title} {why}; trying again in {seconds:.0f} s."
    effort = replace(job.submit_effort, refusals=attempts)
    return Patch(submit_effort=effort, next_at=context.clock() + seconds, message=message, event="progress")


async def _cancel_in_flight(context: JobContext, job: Job, lease: LeaseGuard, call: Call, intent: Submission) -> None:
    """Cancel a run whose reply is still out, as soon as the provider's list shows it; runs beside the paying request.

    Only a run that holds our token is cancelled: an equal one may be somebody else's.
    """
    await lease.stop.wait()
    while True:
        await anyio.sleep(context.intervals.in_flight_look_pause)
        try:
            look = await find_candidates(context, job, call, intent)
            if look is not None and len(look.matches) == 1:
                await runner_without_recorder(context, job).cancel(look.matches[0].ticket)
                return
        except Exception:  # noqa: BLE001 - whatever it is, what runs beside the paying request must not cut it off
            _log.warning("job %s could not be looked for while its request is out", job.id, exc_info=True)


async def _record_prediction(context: JobContext, job: Job, state: Prediction) -> Prediction:
    """Write the run's id to the ledger, and a result that came inside the reply to the vault, before anything else.

    Raises:
        SubmitUnsure: the id cannot be written, or belongs to another job.
        StorageFailed: the result cannot be kept.
    """
    ticket = state.ticket
    if ticket is not None:
        try:
            is_ours = await context.write_with_retries(
                lambda: context.ledger.write_prediction_id(job.id, job.principal, ticket.id),
                context.intervals.prediction_id_pauses,
            )
        except StorageFailed as error:
            raise unsure_error(context, job, ticket.id) from error
        if not is_ours:
            raise unsure_error(context, job, ticket.id, why="Another job has that prediction already.")
    if not isinstance(state, Succeeded) or not isinstance(state.output, Blob):
        return state
    blob = state.output
    # Nothing but these bytes may be left of what was paid for; a store that is away gets them in the stage `fetch`.
    keep = partial(anyio.to_thread.run_sync, context.vault.hold_bytes, blob.content, blob.content_type)
    file = await context.write_with_retries(keep, context.intervals.prediction_id_pauses)
    return Succeeded(ticket, file.uri, state.metrics, state.logs)
