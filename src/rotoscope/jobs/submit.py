"""The stages that bring a request to the provider: the files first, then the one request that costs money."""

import base64
import hashlib
import json
from pathlib import Path

import anyio
import anyio.to_thread

from rotoscope.errors import ProviderError, StorageFailed, SubmitUnsure, UserMistake
from rotoscope.jobs.beside import unless
from rotoscope.jobs.job import Job, Patch
from rotoscope.jobs.ledger import LostLease
from rotoscope.jobs.rooms import Rooms
from rotoscope.jobs.watch import Stopped, patch_of
from rotoscope.media.sniff import content_type_of
from rotoscope.models.carry import refusal
from rotoscope.models.plan import media_inputs, place
from rotoscope.predictions.dialects import Parcel
from rotoscope.predictions.states import Blob, Call, Prediction, Succeeded, Ticket, Waiting
from rotoscope.wire.messages import Json

__all__ = ["call_from_json", "call_to_json", "prepare", "submit"]

_SNIFFED_BYTES = 64
_ANSWERS_AT_ONCE = "v1"  # Segmind's one-shot form: there is nothing to ask about later


async def prepare(rooms: Rooms, job: Job, stop: anyio.Event) -> Patch:
    """Bring every file to where the provider reads it."""
    return await unless(stop, lambda: _placed(rooms, job), Stopped())


async def _placed(rooms: Rooms, job: Job) -> Patch:
    manifest, title = rooms.manifest(job), rooms.provider(job).title
    call = call_from_json(job.data["call"])
    kept = [value for value in media_inputs(manifest, call.input) if value.startswith("artifact://")]
    urls: dict[str, str] = {}
    for number, value in enumerate(kept, start=1):
        await rooms.advance(job, Patch(message=f"Bringing file {number} of {len(kept)} to {title}.", event="progress"))
        urls[value] = await _delivered(rooms, job, value)
    placed = place(manifest, call.input, urls)
    message = f"Sending to {title}."
    return Patch(stage="submit", data={"input": placed}, message=message, progress=max(job.progress, 0.01))


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
        return await rooms.runner(job, _nothing, rooms.sleep).upload(parcel)
    return await anyio.to_thread.run_sync(_data_uri, parcel)


async def submit(rooms: Rooms, job: Job, stop: anyio.Event) -> Patch:
    """Send the paying request, once, after its intent is in the ledger."""
    if stop.is_set():
        raise Stopped
    call = call_from_json({**_record(job.data["call"]), "input": job.data["input"]})
    submission = await rooms.ledger.intend(job, _digest(call))
    if not submission.fresh:
        return _taken_up(rooms, job, call, submission.prediction_id)

    try:
        state = await rooms.runner(job, _nothing, rooms.sleep).start(call)
        return patch_of(rooms, job, await _noted(rooms, job, state))
    except (SubmitUnsure, LostLease):
        raise
    except (ProviderError, UserMistake):
        # The provider said no, or was never reached: nothing was bought, so the intent is taken back.
        await rooms.insist(lambda: rooms.ledger.withdraw(job))
        raise
    except Exception as error:
        # Whatever else happens between the intent and the ticket, money may have moved.
        raise _unsure(rooms, job, call, None) from error


async def _noted(rooms: Rooms, job: Job, state: Prediction) -> Prediction:
    """The id goes to the ledger and a result that came inside the reply to the vault, before anything else."""
    ticket = state.ticket
    if ticket is not None:
        try:
            await rooms.insist(lambda: rooms.ledger.note_prediction(job.id, ticket.id))
        except StorageFailed as error:
            raise _unsure(rooms, job, call_from_json(job.data["call"]), ticket.id) from error
    if not isinstance(state, Succeeded) or not isinstance(state.output, Blob):
        return state
    blob = state.output
    kept = await rooms.insist(lambda: anyio.to_thread.run_sync(rooms.vault.keep, blob.content, blob.content_type))
    return Succeeded(ticket, kept.uri, state.metrics, state.logs)


def _taken_up(rooms: Rooms, job: Job, call: Call, prediction_id: str | None) -> Patch:
    """What stands when somebody intended before us: the id they got, or a doubt that only a person can settle."""
    if prediction_id is None or call.form == _ANSWERS_AT_ONCE:
        raise _unsure(rooms, job, call, prediction_id)
    return patch_of(rooms, job, Waiting(Ticket(prediction_id, call.endpoint)))


def _unsure(rooms: Rooms, job: Job, call: Call, prediction_id: str | None) -> SubmitUnsure:
    title = rooms.provider(job).title
    known = f"prediction {prediction_id}" if prediction_id else f"your recent predictions of {call.endpoint}"
    certainty = "was" if prediction_id else "may have been"
    return SubmitUnsure(
        f"The request to {title} {certainty} accepted, but its result could not be taken up here.",
        hint=f"Look at {known} at {title} before you call again.",
    )


def call_to_json(call: Call) -> dict[str, Json]:
    """A call as plain JSON data."""
    return {
        "provider": call.provider,
        "endpoint": call.endpoint,
        "input": dict(call.input),
        "version": call.version,
        "form": call.form,
        "deadline_seconds": call.deadline_seconds,
    }


def call_from_json(data: Json) -> Call:
    """The call that `call_to_json` wrote."""
    known = _record(data)
    version, deadline = known.get("version"), known.get("deadline_seconds")
    return Call(
        provider=str(known["provider"]),
        endpoint=str(known["endpoint"]),
        input=_record(known["input"]),
        version=str(version) if version is not None else None,
        form=str(known["form"]),
        deadline_seconds=int(deadline) if isinstance(deadline, int) else None,
    )


def _record(data: Json) -> dict[str, Json]:
    return data if isinstance(data, dict) else {}


def _digest(call: Call) -> str:
    canonical = json.dumps(call_to_json(call), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def _parcel(path: Path) -> Parcel:
    with path.open("rb") as file:
        content_type = content_type_of(file.read(_SNIFFED_BYTES)) or "application/octet-stream"
    return Parcel(path, path.name[:16] + path.suffix, content_type, path.stat().st_size)


def _data_uri(parcel: Parcel) -> str:
    return f"data:{parcel.content_type};base64,{base64.b64encode(parcel.path.read_bytes()).decode()}"


async def _nothing(_: Prediction) -> None:
    """There is nothing to record here: the caller writes what comes of it."""
