"""The results of the parts that a clip was cut into, joined into one: the first stage of the job of the whole clip.

The joined film, or document of masks, takes the place of what a model gives, and the last stage makes the result of it
as of any other. Joining is made of stored files alone and always in the same way, so it may be repeated.
"""

from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import anyio.to_thread

from rotoscope.errors import OutputLost
from rotoscope.jobs.awaited_files import find_awaited_files, raise_failure
from rotoscope.jobs.context import JobContext
from rotoscope.jobs.given_files import open_given_file
from rotoscope.media.decoders import EDIT_FILM
from rotoscope.media.edits.joining import EditedPart, join_parts
from rotoscope.media.vault import artifact_hash, enter_in_thread, scratch_path
from rotoscope.media.video.joined_tracks import TrackedPart, join_tracks
from rotoscope.media.worker_files import WorkerFile, store_worker_files
from rotoscope.models.awaited import fill_awaited_media
from rotoscope.models.outputs import ModelOutput, OutputFile
from rotoscope.store.job_data import Charge, JobPart, JobPlan
from rotoscope.store.output_names import require_output
from rotoscope.store.records import Artifact, AwaitedJob, Job, Output, Patch

__all__ = ["describe_joined_output", "join_again", "join_results"]

_PART_OUTPUTS = {"edit_video_with_mask": "video", "segment_video": "coco"}
_EMPTY = frozenset({"nothing_to_edit", "nothing_found"})
"""The errors of a part in which the object is not seen."""


async def join_results(context: JobContext, job: Job, awaited: Sequence[AwaitedJob]) -> Patch:
    """Join the parts.

    Args:
        context: what the stages work with.
        job: the job.
        awaited: the jobs of its parts, and others that it waited for; all have ended.

    Raises:
        RotoscopeError: one of them has failed, or the object is in no part; nothing was sent for this job.
    """
    numbers = {part.n for part in job.plan.parts}
    raise_failure([one for one in awaited if one.n not in numbers])
    parts = [one for one in awaited if one.n in numbers]
    raise_failure([one for one in parts if one.job.error_code not in _EMPTY])
    if all(one.job.state != "succeeded" for one in parts):
        raise_failure(parts)
    plan = await _fill_plan(context, job, awaited)
    raw = await _join(context, job, plan, awaited)
    hashes = (*(artifact_hash(link) for links in plan.media.values() for link in links), raw.artifact.sha256)
    return Patch(
        stage="finish",
        plan=plan,
        outputs=(raw,),
        inputs=tuple(dict.fromkeys(hashes)),
        warnings=(*job.warnings, *_empty_part_notes(job, parts)),
        charge=Charge(is_charged=False),  # each part is a run of its own, and paid for there
        message="Joining the parts.",
    )


async def join_again(context: JobContext, job: Job) -> tuple[Output, ...]:
    """Make the joined film or document once more, of a job whose file of it has gone.

    Raises:
        RotoscopeError: a part of it has gone, too.
    """
    return (await _join(context, job, job.plan, await context.ledger.awaited_jobs(job)),)


def describe_joined_output(job: Job) -> ModelOutput:
    """What stands in the place of a model's output."""
    if job.tool == "edit_video_with_mask":
        return ModelOutput(video=OutputFile("artifact://joined", "video/mp4"))
    return ModelOutput(track=OutputFile("artifact://joined", "application/json"))


async def _fill_plan(context: JobContext, job: Job, awaited: Sequence[AwaitedJob]) -> JobPlan:
    """The plan with the mask that was waited for, if one was."""
    from rotoscope.media.edit_masks import fit_mask
    from rotoscope.media.intake import FilePreparer

    files = await find_awaited_files(context, job, awaited)
    media = fill_awaited_media(job.plan.media, files)
    mask = next(iter(media.get("mask", ())), None)
    if mask is None or mask not in files.values():
        return replace(job.plan, media=media)
    preparer = FilePreparer(context.vault, context.decoders)
    async with AsyncExitStack() as opened:
        found = []
        for kind, link in (("video", media["video"][0]), ("mask", mask)):
            path = await opened.enter_async_context(enter_in_thread(context.vault.open(artifact_hash(link))))
            if path is None:
                raise OutputLost("A file of this job is no longer in the results folder.", hint="Call the tool again.")
            found.append(await preparer.prepare("video" if kind == "video" else "mask", path))
    clip, film = found
    fitting, _ = await fit_mask(context.vault, context.decoders, film, clip, clip.frames or 0)
    share = fitting.selects.share if fitting.selects is not None else None
    return replace(job.plan, media={**media, "mask": (fitting.value,)}, mask_selects=share or job.plan.mask_selects)


@dataclass(frozen=True, slots=True)
class _PartFile:
    """A part of the clip, and the file that its job has made."""

    part: JobPart
    path: Path


async def _join(context: JobContext, job: Job, plan: JobPlan, awaited: Sequence[AwaitedJob]) -> Output:
    jobs = {one.n: one.job for one in awaited}
    async with AsyncExitStack() as files:
        stem = await files.enter_async_context(enter_in_thread(scratch_path(context.vault)))
        found = list[_PartFile]()
        for part in plan.parts:
            one = jobs.get(part.n)
            if one is None:
                raise OutputLost("The job of a part was removed.", hint="Call the tool again.")
            if one.state == "succeeded":
                found.append(_PartFile(part, await _open_part(context, one, files)))
        clip = await open_given_file(context, plan.media["video"][0], stem, files, "clip")
        if clip is None:
            raise OutputLost("The clip is no longer in the results folder.", hint="Give it again.")
        made = await _join_files(context, job, clip, found, stem.with_name(f"{stem.name}-joined"))
        size = made.path.stat().st_size
        await anyio.to_thread.run_sync(store_worker_files, context.vault, [made])
    return Output("raw", 0, Artifact(made.sha256, made.content_type, size))


async def _join_files(
    context: JobContext, job: Job, clip: Path, found: Sequence[_PartFile], target: Path
) -> WorkerFile:
    if job.tool == "edit_video_with_mask":
        edited = [EditedPart(one.path, one.part.first, one.part.frames) for one in found]
        return await context.decoders.run(join_parts, clip, edited, target, limits=EDIT_FILM)
    tracked = [TrackedPart(one.path, one.part.first, one.part.frames) for one in found]
    frames = max(part.first + part.frames for part in job.plan.parts)
    return await context.decoders.run(join_tracks, tracked, frames, target, limits=EDIT_FILM)


async def _open_part(context: JobContext, job: Job, files: AsyncExitStack) -> Path:
    """The file of a part that is joined.

    Raises:
        InvalidInput: the job has no such output.
        OutputLost: it is no longer there.
    """
    outputs = await context.ledger.outputs(job.id, job.principal)
    found = require_output(job, outputs, _PART_OUTPUTS[job.tool])
    path = await files.enter_async_context(enter_in_thread(context.vault.open(found.artifact.sha256)))
    if path is None:
        raise OutputLost("The result of a part is no longer in the results folder.", hint="Call the tool again.")
    return path


def _empty_part_notes(job: Job, parts: Sequence[AwaitedJob]) -> list[str]:
    """Which frames stay as they are, because the object is not seen in them."""
    empty = {one.n for one in parts if one.job.state != "succeeded"}
    spans = [f"{part.first} to {part.first + part.frames - 1}" for part in job.plan.parts if part.n in empty]
    if not spans:
        return []
    return [f"The object is not seen in a part of the clip, which stays as it is: frames {', '.join(spans)}."]
