"""What became of a paying request whose reply nobody has: the provider's list may tell, else a person must.

An empty list is evidence and no proof: no provider says how soon its list is complete. So a prediction that is not
found is never taken for one that was not made, and nothing is ever sent again from here.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from rotoscope.errors import StorageFailed, SubmitUnsure
from rotoscope.jobs.job import Job, Patch, Submission
from rotoscope.jobs.ledger import LostLease
from rotoscope.jobs.rooms import Rooms
from rotoscope.jobs.watch import patch_of
from rotoscope.predictions.runner import Runner
from rotoscope.predictions.sightings import Sighting, ours
from rotoscope.predictions.states import Call, Prediction, Waiting

__all__ = ["doubt", "found_again", "look_once", "quiet_runner", "taken_up"]

_BEFORE_INTENT = 30.0  # seconds; clocks differ
_WITH_TOKEN = 3600.0  # seconds; a seed or an upload of our own cannot be anybody else's, so clocks matter less


async def taken_up(rooms: Rooms, job: Job, call: Call, submission: Submission) -> Patch:
    """Go on where somebody intended before us: with the id they got, or as after a lost reply.

    They may be alive still and wait for their reply, so that is waited for first.
    """
    if submission.prediction_id is None:
        request = rooms.dialects[job.provider].submit(call)
        longest = rooms.wire.longest(request) + rooms.tempo.post_grace
        await rooms.sleep(min(max(submission.intent_at + longest - rooms.clock(), 0.0), longest))
        with _left_as_it_is(job):
            stands = await rooms.ledger.submission(job.id)
        if stands is None:
            return _unsent()
        submission = stands
    if submission.prediction_id is None:
        return await found_again(rooms, job, call, submission, doubt(rooms, job, call))
    return _adopted(rooms, job, call, submission.prediction_id)


async def found_again(rooms: Rooms, job: Job, call: Call, submission: Submission, lost: SubmitUnsure) -> Patch:
    """Find the prediction of a request whose reply was lost, and go on with it.

    Raises:
        SubmitUnsure: nothing can decide; says what was checked and what to check.
        LostLease: the ledger cannot be used for now.
    """
    provider = rooms.provider(job)
    if not provider.can_list:
        raise doubt(rooms, job, call, why=f"{provider.title} has no list to look it up in.", said=lost.said)
    with _left_as_it_is(job):
        return await _listed(rooms, job, call, submission, lost)


@contextmanager
def _left_as_it_is(job: Job) -> Iterator[None]:
    """While the ledger cannot be used, nothing is decided: the intent stands, and whoever has the job next looks."""
    try:
        yield
    except StorageFailed as error:
        raise LostLease(job.id) from error


async def _listed(rooms: Rooms, job: Job, call: Call, submission: Submission, lost: SubmitUnsure) -> Patch:
    provider, looks = rooms.provider(job), 0
    message = f"The reply of {provider.title} was lost; looking for the run in its list."
    await rooms.advance(job, Patch(message=message, event="progress"))
    for pause in rooms.tempo.list_pauses:
        await rooms.sleep(pause)
        late = await rooms.ledger.submission(job.id)
        if late is None:
            return _unsent()
        if late.prediction_id is not None:
            return _adopted(rooms, job, call, late.prediction_id)
        found = await look_once(rooms, job, call, submission)
        looks += found is not None
        if found is not None and len(found) == 1:
            if await rooms.insist(partial(rooms.ledger.note_prediction, job.id, found[0].ticket.id, found=True)):
                return _adopted(rooms, job, call, found[0].ticket.id)
        elif found:
            several = ", ".join(one.ticket.id for one in found[:5])
            raise doubt(rooms, job, call, why=f"Its list shows several that can be it: {several}.", said=lost.said)
    why = f"It is not in {provider.title}'s list." if looks else f"{provider.title}'s list could not be read."
    raise doubt(rooms, job, call, why=why, said=lost.said)


async def look_once(rooms: Rooms, job: Job, call: Call, submission: Submission) -> tuple[Sighting, ...] | None:
    """The predictions in the provider's list that can be this job's; None when the list says nothing."""
    drawn = _drawn(job)
    unique = drawn is not None or _brought(rooms, job)
    since = submission.intent_at - (_WITH_TOKEN if unique else _BEFORE_INTENT)
    seen = await quiet_runner(rooms, job).recent(call, since) if rooms.provider(job).can_list else None
    if seen is None:
        return None
    return ours(call, seen, await rooms.ledger.known_predictions(job.provider), drawn)


def doubt(
    rooms: Rooms, job: Job, call: Call, prediction_id: str | None = None, why: str = "", said: str | None = None
) -> SubmitUnsure:
    """Nobody can know: the words that tell a person what to check, and how to say what they found."""
    title = rooms.provider(job).title
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
        said=said,
    )


def quiet_runner(rooms: Rooms, job: Job) -> Runner:
    """A runner whose states nobody records: the caller writes what comes of it."""
    return rooms.runner(job, _nothing, rooms.sleep)


async def _nothing(_: Prediction) -> None:
    """There is nothing to record."""


def _unsent() -> Patch:
    """Who wrote the intent took it back: they know that nothing was sent, so the request may still be sent once."""
    return Patch(message="Nothing was sent yet.", event="progress")


def _adopted(rooms: Rooms, job: Job, call: Call, prediction_id: str) -> Patch:
    return patch_of(rooms, job, Waiting(rooms.dialects[job.provider].ticket(call, prediction_id)))


def _drawn(job: Job) -> str | None:
    names = job.data.get("drawn")
    return str(names[0]) if isinstance(names, list) and names else None


def _brought(rooms: Rooms, job: Job) -> bool:
    """Whether a file was uploaded for this job alone: nobody else's request has its URL."""
    plan = job.data.get("call")
    return rooms.provider(job).can_upload and isinstance(plan, dict) and "artifact://" in json.dumps(plan["input"])
