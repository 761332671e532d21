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

from rotoscope.contracts.money import in_dollars
from rotoscope.errors import StorageFailed, SubmitUnsure
from rotoscope.jobs.context import Rooms
from rotoscope.jobs.run_times import number
from rotoscope.jobs.stages.watch import patch_of
from rotoscope.providers.correlation import token_from_text
from rotoscope.providers.http.messages import Json
from rotoscope.providers.recent import Seen, Sighting, with_token_of, worded_like
from rotoscope.providers.runner import Runner
from rotoscope.providers.states import Call, Prediction, Waiting
from rotoscope.store.ledger import LostLease
from rotoscope.store.records import Job, Patch, Submission

__all__ = ["Look", "doubt", "find_lost_run", "look_once", "quiet_runner", "take_up", "what_was_seen"]

_WITHOUT_TOKEN = 30.0  # seconds before the intent; clocks differ
_WITH_TOKEN = 3600.0  # seconds; a token cannot be anybody else's, so clocks matter less
_LAST_PAUSES = (1.0, 3.0)  # seconds
_CLOCKS_AGREE = 10.0  # seconds; a Date header names whole seconds, and is some time on its way


@dataclass(frozen=True, slots=True)
class Look:
    """What one look into a provider's list has shown of a job's run.

    Attributes:
        ours: the runs that hold the job's token, and belong to no other job.
        alike: the runs without it that were given the same; only where none holds it.
        whole: whether the whole list was read and recognised.
    """

    ours: tuple[Sighting, ...]
    alike: tuple[Sighting, ...]
    whole: bool


async def take_up(rooms: Rooms, job: Job, call: Call, submission: Submission) -> Patch:
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
        return await find_lost_run(rooms, job, call, submission, doubt(rooms, job, call))
    return _adopt(rooms, job, call, submission.prediction_id)


async def find_lost_run(rooms: Rooms, job: Job, call: Call, submission: Submission, lost: SubmitUnsure) -> Patch:
    """Find the prediction of a request whose reply was lost, and go on with it.

    Raises:
        SubmitUnsure: nothing can decide; says what was checked and what to check.
        LostLease: the ledger cannot be used for now.
    """
    provider = rooms.provider(job)
    if not provider.can_list:
        with _left_as_it_is(job):
            again = await _sent_once_more(rooms, job, submission)
        if again is not None:
            return again
        raise doubt(rooms, job, call, why=f"{provider.title} has no list to look it up in.", said=lost.said)
    with _left_as_it_is(job):
        return await _search(rooms, job, call, submission, lost)


@contextmanager
def _left_as_it_is(job: Job) -> Iterator[None]:
    """While the ledger cannot be used, nothing is decided: the intent stands, and whoever has the job next looks."""
    try:
        yield
    except StorageFailed as error:
        raise LostLease(job.id) from error


async def _search(rooms: Rooms, job: Job, call: Call, submission: Submission, lost: SubmitUnsure) -> Patch:
    message = f"The reply of {rooms.provider(job).title} was lost; looking for the run in its list."
    job = await rooms.advance(job, Patch(message=message, event="progress"))
    seen: Look | None = None
    for pause in _pauses_left(rooms, job, submission):
        await rooms.sleep(pause)
        late = await rooms.ledger.submission(job.id)
        if late is None:
            return _unsent()
        found = late.prediction_id
        if found is None:
            look = await look_once(rooms, job, call, late)
            found = await _note_found(rooms, job, look)
            seen = look or seen
        if found is not None:
            return _adopt(rooms, job, call, found)
        if _is_over(rooms, submission):
            job = await rooms.advance(job, Patch(data={"late_looks": _late_looks(job) + 1}, event="progress"))
    if seen is not None and seen.whole and not seen.ours and not seen.alike:
        again = await _sent_once_more(rooms, job, submission)
        if again is not None:
            return again
    raise doubt(rooms, job, call, why=what_was_seen(rooms, job, seen), said=lost.said)


async def _sent_once_more(rooms: Rooms, job: Job, submission: Submission) -> Patch | None:
    """The one exception to rule 2, for who has set `ROTOSCOPE_RESEND_BELOW_USD`: a small run is rather paid twice.

    At most once for each job: that it was is written in the transaction that takes the intent back. None where it is
    not done.
    """
    usd, below = number(job.data.get("estimate_usd")), rooms.resending.below_usd
    if usd is None or not usd < below or job.data.get("sent_again") or job.cancel_requested:
        return None
    title, known = rooms.provider(job).title, job.data.get("warnings")
    words = (
        f"The reply of {title} to the request was lost and no run of it was found, so it was sent once more "
        f"(ROTOSCOPE_RESEND_BELOW_USD): it may have been paid twice, each time about {in_dollars(usd)}."
    )
    data: dict[str, Json] = {"sent_again": True, "warnings": [*(known if isinstance(known, list) else []), words]}
    data["late_looks"] = 0
    again = Patch(data=data, message=f"Sending to {title} once more.", event="sent again")
    taken = await rooms.ledger.take_back(job, submission, again, usd, rooms.resending.per_day)
    return replace(again, event="progress") if taken else None


def _pauses_left(rooms: Rooms, job: Job, submission: Submission) -> Iterator[float]:
    """The waits before the looks that are left: they count from the intent, whoever has looked before.

    A process that is new at each call would otherwise begin the search anew, and never end it. Some looks are always
    left: one that fails must not be the last word. Those that came when the time was up are counted in the ledger, as a
    process that lives for one call may not live for all of them.
    """
    elapsed, planned, left = max(rooms.clock() - submission.intent_at, 0.0), 0.0, list[float]()
    for pause in rooms.tempo.list_pauses:
        planned += pause
        if planned > elapsed:
            left.append(pause)
    yield from (0.0, *(left or _LAST_PAUSES[_late_looks(job) :]))


def _is_over(rooms: Rooms, submission: Submission) -> bool:
    """Whether the time is up in which a list is looked into again and again."""
    return rooms.clock() - submission.intent_at >= sum(rooms.tempo.list_pauses)


def _late_looks(job: Job) -> int:
    return int(number(job.data.get("late_looks")) or 0)


async def _note_found(rooms: Rooms, job: Job, look: Look | None) -> str | None:
    """Take the one run that holds our token; None where there is none, or it went to another job meanwhile."""
    if look is None or len(look.ours) != 1:
        return None
    found = look.ours[0].ticket.id
    return found if await rooms.insist(lambda: rooms.ledger.note_prediction(job.id, found)) else None


def what_was_seen(rooms: Rooms, job: Job, look: Look | None) -> str:
    """What the list has shown, in words for the person who decides; `look` is None when it could not be read."""
    title = rooms.provider(job).title
    if look is None:
        return f"{title}'s list could not be read."
    if look.ours:
        return f"Its list shows several that can be it: {_ids(look.ours)}."
    if look.alike:
        return f"Its list shows runs that were given the same, and may be somebody else's: {_ids(look.alike)}."
    note = f" {known}" if (known := rooms.provider(job).list_note) else ""
    if not look.whole:
        return f"It is not in the part of {title}'s list that could be read.{note}"
    return f"It is not in {title}'s list.{note}"


def _ids(found: Sequence[Sighting]) -> str:
    return ", ".join(one.ticket.id for one in found[:5])


async def look_once(rooms: Rooms, job: Job, call: Call, submission: Submission) -> Look | None:
    """Look into the provider's list for the run of a job; None when the list says nothing now."""
    if not rooms.provider(job).can_list:
        return None
    seen = await _recent(rooms, job, call, submission)
    if seen is None:
        return None
    others = await rooms.ledger.others_runs(job.provider, [one.ticket.id for one in seen.found], job.id)
    free = [one for one in seen.found if one.ticket.id not in others]
    ours = with_token_of(free, token_from_text(submission.token))
    # A list by days also shows equal runs of hours before, which cannot be it.
    earliest = _intended_at(rooms, job, submission) - _WITHOUT_TOKEN
    alike = tuple(one for one in worded_like(free, call) if one.at is None or one.at >= earliest)
    return Look(ours, () if ours else alike, seen.whole)


def _intended_at(rooms: Rooms, job: Job, submission: Submission) -> float:
    """The moment of the intent by the provider's clock, in Unix seconds, as well as it is known."""
    if submission.clock_offset is not None:
        return submission.intent_at + submission.clock_offset
    # How far the clocks are apart was not known at the intent; since then ours may have been set back.
    return min(submission.intent_at, rooms.clock()) + rooms.clock_offsets.get(job.provider, 0.0)


async def _recent(rooms: Rooms, job: Job, call: Call, submission: Submission) -> Seen | None:
    """The list since a little before the intent, by the provider's clock: ours may be wrong."""
    runner, margin = quiet_runner(rooms, job), _WITHOUT_TOKEN if submission.token is None else _WITH_TOKEN
    asked_for = _intended_at(rooms, job, submission)
    seen = await runner.recent(call, asked_for - margin)
    learned = _intended_at(rooms, job, submission)  # the reply has told the provider's time
    return await runner.recent(call, learned - margin) or seen if abs(learned - asked_for) > _CLOCKS_AGREE else seen


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
    """No state of a paying request is written before its id."""


def _unsent() -> Patch:
    """Who wrote the intent took it back: they know that nothing was sent, so the request may still be sent once."""
    return Patch(message="Nothing was sent yet.", event="progress")


def _adopt(rooms: Rooms, job: Job, call: Call, prediction_id: str) -> Patch:
    return patch_of(rooms, job, Waiting(rooms.dialects[job.provider].ticket(call, prediction_id)))
