"""What an edit was made of: the links of its film and of the mask, as they were given and fitted."""

from collections.abc import Mapping
from dataclasses import dataclass

from rotoscope.jobs.context import JobContext
from rotoscope.providers.http.messages import Json
from rotoscope.store.records import Job

__all__ = ["EditInputs", "find_edit_inputs"]


@dataclass(frozen=True, slots=True)
class EditInputs:
    """The links of an edit's film and mask, whether that selects black, and how many frames were to be edited.

    The mask is None where none was given, to a model that takes none.
    """

    film: str
    mask: str | None
    is_inverted: bool
    frames: int | None


def find_edit_inputs(context: JobContext, job: Job) -> EditInputs:
    """What was sent; a mask that was not sent is in the plan alone, and so is a clip of which parts were sent."""
    if job.plan.parts:
        film, mask = (next(iter(job.plan.media.get(name, ())), None) for name in ("video", "mask"))
        return EditInputs(film or "", mask, is_inverted=False, frames=None)
    given: Mapping[str, Json] = job.call.input
    manifest = context.manifest(job)
    links, inverted, frames = {"video": "", "mask": ""}, False, None
    for name, known in manifest.inputs.items():
        value = given.get(name)
        if isinstance(value, list) and len(value) == 1:
            value = value[0]
        if known.argument in links and isinstance(value, str):
            links[known.argument] = value
            inverted = inverted or (known.argument == "mask" and known.polarity == "black")
        if known.fits == "frames":
            count = known.default if value is None else value
            frames = count if isinstance(count, int) and not isinstance(count, bool) else None
    kept = next(iter(job.plan.media.get("mask", ())), None)
    return EditInputs(links["video"], kept if manifest.edits_by_words else links["mask"], inverted, frames)
