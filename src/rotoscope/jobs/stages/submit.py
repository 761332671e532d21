"""The stages that bring a request to the provider: the files first, then the one request that costs money."""

import base64
import logging
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread

from rotoscope.errors import Busy, ProviderError, StorageFailed, SubmitUnsure, Unreachable, UserMistake
from rotoscope.jobs.concurrency import beside, unless
from rotoscope.jobs.context import Rooms
from rotoscope.jobs.dispatcher import Grip
from rotoscope.jobs.stages.reconcile import doubt, find_lost_run, look_once, quiet_runner, take_up
from rotoscope.jobs.stages.watch import Stopped, patch_of
from rotoscope.media.sniff import content_type_of
from rotoscope.models.plan import media_inputs, place
from rotoscope.models.request_key import call_from_json, digest
from rotoscope.models.uploads import refusal
from rotoscope.providers.correlation import Token, with_token
from rotoscope.providers.dialects import Parcel
from rotoscope.providers.http.messages import Json
from rotoscope.providers.states import Blob, Call, Prediction, Succeeded
from rotoscope.store.ledger import LostLease
from rotoscope.store.records import Job, Patch, Submission

__all__ = ["prepare", "request_of", "submit"]

_log = logging.getLogger(__name__)

_SNIFFED_BYTES = 64
_TRIES = 5
_FIRST_RETRY, _LONGEST_UNREACHABLE = 1.0, 30.0  # seconds
_LOOK_PAUSE = 0.5  # seconds
_WORTH_AN_ID = (10.0,) * 4  # seconds; nothing else may be able to say which prediction is the job's


async def prepare(rooms: Rooms, job: Job, grip: Grip) -> Patch:
    """Bring every file to where the provider reads it."""
    return await unless(grip.stop, lambda: _placed(rooms, job), Stopped())


async def _placed(rooms: Rooms, job: Job) -> Patch:
    manifest, title = rooms.manifest(job), rooms.provider(job).title
    call = call_from_json(job.data["call"])
    kept = [value for value in media_inputs(manifest, call.input) if value.startswith("artifact://")]
    urls: dict[str, str] = {}
    uploads: list[Json] = []
    for number, value in enumerate(kept, start=1):
        await rooms.advance(job, Patch(message=f"Bringing file {number} of {len(kept)} to {title}.", event="progress"))
        urls[value] = await _delivered(rooms, job, value)
        if rooms.provider(job).can_upload:
            uploads.append(urls[value])
    placed = place(manifest, call.input, urls)
    message = f"Sending to {title}."
    data: dict[str, Json] = {"input": placed, "uploads": uploads}
    return Patch(stage="submit", data=data, message=message, progress=max(job.progress, 0.01))


async def _delivered(rooms: Rooms, job: Job, uri: str) -> str:
    path = rooms.vault.find(uri.removeprefix("artifact://"))
    if path is None:
        raise StorageFailed("A file of this job is no longer in the results folder.", hint="Call the tool again.")
    parcel = await anyio.to_thread.run_sync(_parcel, path)
    provider = rooms.provider(job)
    refused = refusal(provider, parcel.size)
    if refused is not None:
        raise refused
    if provider.can_upload:
        return await quiet_runner(rooms, job).upload(parcel)
    return await anyio.to_thread.run_sync(_data_uri, parcel)


async def submit(rooms: Rooms, job: Job, grip: Grip) -> Patch:
    """Send the paying request, once, after its intent is in the ledger."""
    call, token = request_of(rooms, job)
    if grip.stop.is_set() and await _standing(rooms, job) is None:
        raise Stopped
    submission = await _intended(rooms, job, call, token)
    try:
        if not submission.fresh:
            return await take_up(rooms, job, call, submission)
        return await _posted(rooms, job, grip, call, submission)
    except (SubmitUnsure, LostLease, ProviderError, UserMistake):
        raise
    except Exception as error:
        # Whatever else happens between the intent and the ticket, money may have moved.
        raise doubt(rooms, job, call) from error


def request_of(rooms: Rooms, job: Job) -> tuple[Call, Token | None]:
    """The very request that a job sends, whoever drives it, and what no other run's input can hold."""
    plan, manifest = job.data["call"], rooms.manifest(job)
    call = call_from_json({**(plan if isinstance(plan, dict) else {}), "input": job.data["input"]})
    media = [name for name, field in manifest.inputs.items() if field.is_media]
    return with_token(call, _texts(job, "drawn"), _texts(job, "uploads"), media, job.id)


def _texts(job: Job, name: str) -> list[str]:
    known = job.data.get(name)
    return [str(one) for one in known] if isinstance(known, list) else []


async def _intended(rooms: Rooms, job: Job, call: Call, token: Token | None) -> Submission:
    """Commit the intent.

    Raises:
        Stopped: somebody asked for a cancel, and no intent stands.
        StorageFailed: it could not be, and none stands: nothing was sent.
        LostLease: it could not be, and one stands, or may stand: the job is left as it is.
    """
    held, offset = str(token) if token else None, rooms.clock_offsets.get(job.provider)
    try:
        intent = await rooms.ledger.intend(job, digest(call), held, offset)
    except StorageFailed as error:
        if await _standing(rooms, job) is not None:
            raise LostLease(job.id) from error
        raise
    if intent is None:
        raise Stopped
    return intent


async def _standing(rooms: Rooms, job: Job) -> Submission | None:
    """The intent that stands.

    Raises:
        LostLease: it cannot be read, so nobody can say that nothing was sent: the job is left as it is.
    """
    try:
        return await rooms.ledger.submission(job.id)
    except StorageFailed as error:
        raise LostLease(job.id) from error


async def _posted(rooms: Rooms, job: Job, grip: Grip, call: Call, submission: Submission) -> Patch:
    """The one place where money is spent. A cut-off here would lose the answer, so nothing cuts it off."""

    def guard() -> None:
        if not grip.holds:
            raise _TooLate

    async def posting() -> Prediction | SubmitUnsure:
        try:
            return await quiet_runner(rooms, job).start(call, guard)
        except SubmitUnsure as lost:
            return lost

    try:
        with anyio.CancelScope(shield=True):
            state = await beside(posting, lambda: _cancel_in_flight(rooms, job, grip, call, submission))
            if not isinstance(state, SubmitUnsure):
                state = await _noted(rooms, job, call, state)
        if isinstance(state, SubmitUnsure):
            return await find_lost_run(rooms, job, call, submission, state)
        return patch_of(rooms, job, state)
    except (_TooLate, ProviderError, UserMistake) as error:
        # The provider said no, or nothing was sent: nothing was bought, so the intent is taken back.
        with anyio.CancelScope(shield=True):  # what is proven must not be lost because this process ends now
            await rooms.insist(lambda: rooms.ledger.withdraw(submission))
        if isinstance(error, _TooLate):
            raise LostLease(job.id) from error
        if isinstance(error, Busy | Unreachable) and _tries(job) < _TRIES:
            return _later(rooms, job, error)
        raise


class _TooLate(Exception):
    """The lease may have run out before anything was sent: this process was stopped for a while."""


def _tries(job: Job) -> int:
    """How often the request was sent, this time counted in, and certainly not accepted."""
    tries = job.data.get("tries")
    return (tries if isinstance(tries, int) else 0) + 1


def _later(rooms: Rooms, job: Job, error: Busy | Unreachable) -> Patch:
    """Certainly not accepted: the request may be sent again, after the time that the provider asked for or longer."""
    tries = _tries(job)
    backoff = min(_FIRST_RETRY * 2**tries, _LONGEST_UNREACHABLE)
    asked = error.after if isinstance(error, Busy) and error.after is not None else backoff
    spread = 1 + int(job.id[:2], 16) / 2560  # up to a tenth: many jobs must not come back in the same moment
    seconds = min(asked * spread, rooms.tempo.longest_retry)
    title = rooms.provider(job).title
    why = "takes no more requests just now" if isinstance(error, Busy) else "could not be reached"
    message = f"{title} {why}; trying again in {seconds:.0f} s."
    return Patch(data={"tries": tries}, next_at=rooms.clock() + seconds, message=message, event="progress")


async def _cancel_in_flight(rooms: Rooms, job: Job, grip: Grip, call: Call, submission: Submission) -> None:
    """Who cancels while the reply is still out: the provider's list may know the prediction before we do.

    Only a run that holds our token is stopped: an equal one may be somebody else's.
    """
    await grip.stop.wait()
    while True:
        await anyio.sleep(_LOOK_PAUSE)
        try:
            look = await look_once(rooms, job, call, submission)
            if look is not None and len(look.ours) == 1:
                await quiet_runner(rooms, job).cancel(look.ours[0].ticket)
                return
        except Exception:  # noqa: BLE001 - whatever it is, what runs beside the paying request must not cut it off
            _log.warning("job %s could not be looked for while its request is out", job.id, exc_info=True)


async def _noted(rooms: Rooms, job: Job, call: Call, state: Prediction) -> Prediction:
    """The id goes to the ledger and a result that came inside the reply to the vault, before anything else."""
    ticket = state.ticket
    if ticket is not None:
        try:
            ours = await rooms.insist(lambda: rooms.ledger.note_prediction(job.id, ticket.id), _WORTH_AN_ID)
        except StorageFailed as error:
            raise doubt(rooms, job, call, ticket.id) from error
        if not ours:
            raise doubt(rooms, job, call, ticket.id, why="Another job has that prediction already.")
    if not isinstance(state, Succeeded) or not isinstance(state.output, Blob):
        return state
    blob = state.output
    # Nothing but these bytes may be left of what was paid for.
    keep = partial(anyio.to_thread.run_sync, rooms.vault.keep, blob.content, blob.content_type)
    kept = await rooms.insist(keep, _WORTH_AN_ID)
    return Succeeded(ticket, kept.uri, state.metrics, state.logs)


def _parcel(path: Path) -> Parcel:
    with path.open("rb") as file:
        content_type = content_type_of(file.read(_SNIFFED_BYTES)) or "application/octet-stream"
    return Parcel(path, path.name[:16] + path.suffix, content_type, path.stat().st_size)


def _data_uri(parcel: Parcel) -> str:
    return f"data:{parcel.content_type};base64,{base64.b64encode(parcel.path.read_bytes()).decode()}"
