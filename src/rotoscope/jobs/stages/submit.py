"""The stages that bring a request to the provider: the files first, then the one request that costs money."""

import logging
from dataclasses import replace
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread

from rotoscope.data_uris import encode_data_uri
from rotoscope.errors import Busy, ProviderError, StorageFailed, SubmitUnsure, Unreachable, UserMistake
from rotoscope.jobs.concurrency import cancel_on, run_with_background
from rotoscope.jobs.context import JobContext
from rotoscope.jobs.dispatcher import LeaseGuard
from rotoscope.jobs.stages.reconcile import (
    find_candidates,
    find_lost_run,
    resume_submission,
    runner_without_recorder,
    unsure_error,
)
from rotoscope.jobs.stages.watch import CancelRequested, patch_of
from rotoscope.media.sniff import file_content_type
from rotoscope.media.vault import artifact_hash, enter_in_thread
from rotoscope.models.catalog import file_size_error
from rotoscope.models.plan import media_inputs, replace_media
from rotoscope.models.request_key import call_digest
from rotoscope.providers.dialects import UploadFile
from rotoscope.providers.states import Blob, Call, Prediction, Succeeded, Token, add_token
from rotoscope.store.job_data import PreparedRequest
from rotoscope.store.ledger import LostLease
from rotoscope.store.records import Job, Patch, Submission

__all__ = ["paying_request", "prepare", "submit"]

_log = logging.getLogger(__name__)

_MAX_ATTEMPTS = 5
_FIRST_RETRY, _LONGEST_UNREACHABLE = 1.0, 30.0  # seconds
_CANCEL_LOOK_PAUSE = 0.5  # seconds
_PREDICTION_ID_PAUSES = (10.0,) * 4  # seconds; nothing else may be able to say which prediction is the job's


async def prepare(context: JobContext, job: Job, lease: LeaseGuard) -> Patch:
    """Bring every file to where the provider reads it."""
    return await cancel_on(lease.stop, lambda: _place_files(context, job), CancelRequested())


async def _place_files(context: JobContext, job: Job) -> Patch:
    manifest, title = context.manifest(job), context.provider(job).title
    call = job.call
    kept = [value for value in media_inputs(manifest, call.input) if value.startswith("artifact://")]
    urls: dict[str, str] = {}
    uploads: list[str] = []
    for number, value in enumerate(kept, start=1):
        await context.advance(
            job, Patch(message=f"Bringing file {number} of {len(kept)} to {title}.", event="progress")
        )
        urls[value] = await _upload_or_embed(context, job, value)
        if context.provider(job).can_upload:
            uploads.append(urls[value])
    placed = replace_media(manifest, call.input, urls)
    message = f"Sending to {title}."
    request = PreparedRequest(placed, tuple(uploads))
    return Patch(stage="submit", request=request, message=message, progress=max(job.progress, 0.01))


async def _upload_or_embed(context: JobContext, job: Job, uri: str) -> str:
    async with enter_in_thread(context.vault.open(artifact_hash(uri))) as path:
        if path is None:
            raise StorageFailed("A file of this job is no longer in the results folder.", hint="Call the tool again.")
        parcel = await anyio.to_thread.run_sync(_file_to_upload, path)
        provider = context.provider(job)
        refused = file_size_error(provider, parcel.size)
        if refused is not None:
            raise refused
        if provider.can_upload:
            return await runner_without_recorder(context, job).upload(parcel)
        return await anyio.to_thread.run_sync(_data_uri, parcel)


async def submit(context: JobContext, job: Job, lease: LeaseGuard) -> Patch:
    """Send the paying request, once, after its intent is in the ledger."""
    call, token = paying_request(context, job)
    if lease.stop.is_set() and await _current_intent(context, job) is None:
        raise CancelRequested
    submission = await _commit_intent(context, job, call, token)
    try:
        if not submission.is_new:
            return await resume_submission(context, job, call, submission)
        return await _post_paying_request(context, job, lease, call, submission)
    except (SubmitUnsure, LostLease, ProviderError, UserMistake):
        raise
    except Exception as error:
        # Whatever else happens between the intent and the ticket, money may have moved.
        raise unsure_error(context, job, call) from error


def paying_request(context: JobContext, job: Job) -> tuple[Call, Token | None]:
    """The very request that a job sends, whoever drives it, and what no other run's input can hold."""
    if job.request is None:
        raise StorageFailed("The ledger does not hold the request of this job.", hint="Call the tool again.")
    call = replace(job.call, input=job.request.input)
    media = [name for name, field in context.manifest(job).inputs.items() if field.is_media]
    return add_token(call, job.plan.drawn_inputs, job.request.uploads, media, job.id)


async def _commit_intent(context: JobContext, job: Job, call: Call, token: Token | None) -> Submission:
    """Commit the intent.

    Raises:
        Stopped: somebody asked for a cancel, and no intent stands.
        StorageFailed: it could not be, and none stands: nothing was sent.
        LostLease: it could not be, and one stands, or may stand: the job is left as it is.
    """
    held, offset = str(token) if token else None, context.clock_offsets.get(job.provider)
    try:
        intent = await context.ledger.commit_intent(job, call_digest(call), held, offset)
    except StorageFailed as error:
        if await _current_intent(context, job) is not None:
            raise LostLease(job.id) from error
        raise
    if intent is None:
        raise CancelRequested
    return intent


async def _current_intent(context: JobContext, job: Job) -> Submission | None:
    """The intent that stands.

    Raises:
        LostLease: it cannot be read, so nobody can say that nothing was sent: the job is left as it is.
    """
    try:
        return await context.ledger.submission(job.id, job.principal)
    except StorageFailed as error:
        raise LostLease(job.id) from error


async def _post_paying_request(
    context: JobContext, job: Job, lease: LeaseGuard, call: Call, submission: Submission
) -> Patch:
    """The one place where money is spent. A cut-off here would lose the answer, so nothing cuts it off."""

    def check_lease() -> None:
        if not lease.is_held:
            raise _LeaseExpired

    async def post() -> Prediction | SubmitUnsure:
        try:
            return await runner_without_recorder(context, job).start(call, check_lease)
        except SubmitUnsure as lost:
            return lost

    try:
        with anyio.CancelScope(shield=True):
            state = await run_with_background(post, lambda: _cancel_in_flight(context, job, lease, call, submission))
            if not isinstance(state, SubmitUnsure):
                state = await _record_prediction(context, job, call, state)
        if isinstance(state, SubmitUnsure):
            return await find_lost_run(context, job, call, submission, state)
        return patch_of(context, job, state)
    except (_LeaseExpired, ProviderError, UserMistake) as error:
        # The provider said no, or nothing was sent: nothing was bought, so the intent is taken back.
        with anyio.CancelScope(shield=True):  # what is proven must not be lost because this process ends now
            await context.write_with_retries(lambda: context.ledger.withdraw_intent(submission))
        if isinstance(error, _LeaseExpired):
            raise LostLease(job.id) from error
        if isinstance(error, Busy | Unreachable) and _attempt_number(job) < _MAX_ATTEMPTS:
            return _patch_to_try_later(context, job, error)
        raise


class _LeaseExpired(Exception):
    """The lease may have run out before anything was sent: this process was stopped for a while."""


def _attempt_number(job: Job) -> int:
    """How often the request was sent, this time counted in, and certainly not accepted."""
    return job.submit_effort.refusals + 1


def _patch_to_try_later(context: JobContext, job: Job, error: Busy | Unreachable) -> Patch:
    """Certainly not accepted: the request may be sent again, after the time that the provider asked for or longer."""
    tries = _attempt_number(job)
    backoff = min(_FIRST_RETRY * 2**tries, _LONGEST_UNREACHABLE)
    asked = error.retry_after if isinstance(error, Busy) and error.retry_after is not None else backoff
    spread = 1 + int(job.id[:2], 16) / 2560  # up to a tenth: many jobs must not come back in the same moment
    seconds = min(asked * spread, context.intervals.longest_retry_pause)
    title, effort = context.provider(job).title, replace(job.submit_effort, refusals=tries)
    why = "takes no more requests just now" if isinstance(error, Busy) else "could not be reached"
    message = f"{title} {why}; trying again in {seconds:.0f} s."
    return Patch(submit_effort=effort, next_at=context.clock() + seconds, message=message, event="progress")


async def _cancel_in_flight(
    context: JobContext, job: Job, lease: LeaseGuard, call: Call, submission: Submission
) -> None:
    """Who cancels while the reply is still out: the provider's list may know the prediction before we do.

    Only a run that holds our token is stopped: an equal one may be somebody else's.
    """
    await lease.stop.wait()
    while True:
        await anyio.sleep(_CANCEL_LOOK_PAUSE)
        try:
            look = await find_candidates(context, job, call, submission)
            if look is not None and len(look.matches) == 1:
                await runner_without_recorder(context, job).cancel(look.matches[0].ticket)
                return
        except Exception:  # noqa: BLE001 - whatever it is, what runs beside the paying request must not cut it off
            _log.warning("job %s could not be looked for while its request is out", job.id, exc_info=True)


async def _record_prediction(context: JobContext, job: Job, call: Call, state: Prediction) -> Prediction:
    """The id goes to the ledger and a result that came inside the reply to the vault, before anything else."""
    ticket = state.ticket
    if ticket is not None:
        try:
            ours = await context.write_with_retries(
                lambda: context.ledger.write_prediction_id(job.id, job.principal, ticket.id), _PREDICTION_ID_PAUSES
            )
        except StorageFailed as error:
            raise unsure_error(context, job, call, ticket.id) from error
        if not ours:
            raise unsure_error(context, job, call, ticket.id, why="Another job has that prediction already.")
    if not isinstance(state, Succeeded) or not isinstance(state.output, Blob):
        return state
    blob = state.output
    # Nothing but these bytes may be left of what was paid for.
    keep = partial(anyio.to_thread.run_sync, context.vault.put_bytes, blob.content, blob.content_type)
    kept = await context.write_with_retries(keep, _PREDICTION_ID_PAUSES)
    return Succeeded(ticket, kept.uri, state.metrics, state.logs)


def _file_to_upload(path: Path) -> UploadFile:
    content_type = file_content_type(path) or "application/octet-stream"
    return UploadFile(path, path.name[:16] + path.suffix, content_type, path.stat().st_size)


def _data_uri(parcel: UploadFile) -> str:
    return encode_data_uri(parcel.path.read_bytes(), parcel.content_type)
