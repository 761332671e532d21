"""The last stage: what was fetched becomes the tool's result.

Masks are measured, paired with their phrases and painted (`finish_masks`), a video is examined and gets its pictures
(`finish_video`), the masks of a clip become films (`finish_film`); all in a worker process, because they decode files
that a stranger's model has made.
"""

from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import anyio
import anyio.to_thread

from rotoscope.contracts.arguments import SegmentVideo, parse_arguments
from rotoscope.errors import OutputLost, UserMistake, WorkerLost
from rotoscope.jobs.context import JobContext, LeaseGuard
from rotoscope.jobs.given_files import open_given_file, picture_name
from rotoscope.jobs.outputs import read_job_output
from rotoscope.jobs.stages.finish_edit import finish_edit
from rotoscope.jobs.stages.finish_film import FilmWork, finish_film
from rotoscope.jobs.stages.finish_masks import FinishResult, MaskWork, finish_masks
from rotoscope.jobs.stages.finish_video import finish_video
from rotoscope.media.decoders import RESULT_FILM, RESULT_MASKS, RESULT_TRACK
from rotoscope.media.vault import enter_in_thread, scratch_path
from rotoscope.media.worker_files import store_worker_files
from rotoscope.models.outputs import ModelOutput
from rotoscope.store.records import Job, Output, Patch

__all__ = ["find_missing_outputs", "finish", "finish_in_worker"]

_MAX_REFETCHES = 3  # times; after that something on this machine removes the files


async def finish(context: JobContext, job: Job, _: LeaseGuard) -> Patch:
    """Make the tool's result of the files in the vault; one that is no longer there is fetched again.

    Raises:
        OutputLost: a file cannot be used, or is gone and cannot be fetched again.
        PredictionFailed: there is no result in the output.
    """
    found, raw = _describe_output(context, job), await _raw_outputs(context, job)
    gone = await find_missing_outputs(context, raw)
    if job.plan.parts and (gone or not raw):
        return Patch(stage="gather", message="The joined film has gone from the results folder; it is made again.")
    if gone or not (raw or found.is_text_only):
        return _patch_to_refetch(job, gone)
    return _patch_of_result(job, found, await finish_in_worker(context, job, found, raw))


def _describe_output(context: JobContext, job: Job) -> ModelOutput:
    if not job.plan.parts:
        return read_job_output(context, job)
    from rotoscope.jobs.joined_parts import describe_joined_output

    return describe_joined_output(job)


def _patch_to_refetch(job: Job, missing: Sequence[Output]) -> Patch:
    """Go back to the stage that fetches.

    Raises:
        OutputLost: a missing file came in the reply itself, or has gone several times.
    """
    times = job.fetch_effort.refetches
    if times >= _MAX_REFETCHES or not all(output.source_url for output in missing):
        names = ", ".join(output.artifact.sha256 for output in missing)
        raise OutputLost(
            f"A file of the result is no longer in the results folder: {names}.",
            hint="The run was probably charged; look for its result at the provider.",
        )
    message = "A file of the result has gone from the results folder; it is fetched again."
    return Patch(stage="fetch", fetch_effort=replace(job.fetch_effort, refetches=times + 1), message=message)


async def find_missing_outputs(context: JobContext, outputs: Sequence[Output]) -> list[Output]:
    """Those whose files are not in the vault."""

    def find_missing() -> list[Output]:
        return [output for output in outputs if context.vault.address(output.artifact.sha256) is None]

    return await anyio.to_thread.run_sync(find_missing)


async def _raw_outputs(context: JobContext, job: Job) -> list[Output]:
    return [output for output in await context.ledger.outputs(job.id, job.principal) if output.role == "raw"]


async def finish_in_worker(context: JobContext, job: Job, found: ModelOutput, raw: Sequence[Output]) -> FinishResult:
    """The result, made by a worker process, whose new files this process moves into the vault.

    Raises:
        OutputLost: a file takes too much memory or time to read, or makes its decoder crash.
        WorkerLost: the worker was ended from outside, which says nothing of the result: try again.
    """
    async with AsyncExitStack() as files:
        stem = await files.enter_async_context(enter_in_thread(scratch_path(context.vault)))
        try:
            finished = await _process_outputs(context, job, found, raw, stem, files)
        except WorkerLost:
            raise
        except UserMistake as error:
            raise OutputLost(
                f"What the model gave cannot be used: {error.message}",
                hint="The run was probably charged; the file is kept and listed under files.",
                code=error.code,
            ) from error
        await anyio.to_thread.run_sync(store_worker_files, context.vault, finished.new_files)
    return finished


async def _process_outputs(
    context: JobContext, job: Job, found: ModelOutput, raw: Sequence[Output], stem: Path, files: AsyncExitStack
) -> FinishResult:
    if found.video is not None:
        path = await _open_output(context, raw[0], files)
        if job.tool == "edit_video_with_mask":
            return await finish_edit(context, job, raw[0], path, stem, files)
        return await context.decoders.run(finish_video, raw[0], path, stem, limits=RESULT_FILM)
    if found.track is not None:
        film = await _film_work(context, job, found, await _open_output(context, raw[0], files), stem, files)
        return await context.decoders.run(finish_film, film, stem, limits=RESULT_TRACK)
    picture = await open_given_file(context, job.plan.picture or "", stem, files)
    work = MaskWork(
        raw=[(await _open_output(context, output, files), output) for output in raw],
        picture=picture,
        file_name=await picture_name(context, job, picture),
        text=found.text,
        names=[found.masks[output.n].label for output in raw],
        omitted_count=found.excess_count + len(found.masks) - len(raw),
        frame=context.manifest(job).outputs.frame,
        has_location=bool(job.args.get("points") or job.args.get("box")),
        label=job.plan.label,
        score=found.notice.confidence if found.notice else None,
        scores=[found.scores[output.n] if found.scores else None for output in raw],
        is_description=context.manifest(job).tool == "describe_with_masks",
        with_overlay=job.args.get("overlay") is not False,
    )
    return await context.decoders.run(finish_masks, work, stem, limits=RESULT_MASKS)


async def _film_work(
    context: JobContext, job: Job, found: ModelOutput, raw: Path, stem: Path, files: AsyncExitStack
) -> FilmWork:
    link = next(iter(job.plan.media.get("video", ())), "")
    clip = await open_given_file(context, link, stem, files, "clip")
    if clip is None:
        raise OutputLost(
            "The clip that was segmented is no longer in the results folder.",
            hint="Give the clip again, or look for what the model gave at the provider.",
        )
    asked = parse_arguments(SegmentVideo, {name: job.args.get(name) for name in ("video", "points", "box", "frame")})
    return FilmWork(
        raw=raw,
        is_document=found.track is not None and found.track.is_document,
        clip=clip,
        file_name=await picture_name(context, job, clip, "video"),
        label=job.plan.label,
        text=found.text,
        frame=asked.frame,
        points=tuple((one.x, one.y) for one in asked.points or () if one.keep),
        box=(asked.box.left, asked.box.top, asked.box.right, asked.box.bottom) if asked.box else None,
    )


async def _open_output(context: JobContext, output: Output, files: AsyncExitStack) -> Path:
    """A local path of an output, until the files are closed."""
    path = await files.enter_async_context(enter_in_thread(context.vault.open(output.artifact.sha256)))
    if path is None:
        raise OutputLost(
            "A file of the result is no longer in the results folder.", hint="Look for it at the provider."
        )
    return path


def _patch_of_result(job: Job, found: ModelOutput, finished: FinishResult) -> Patch:
    notice = (found.notice.text,) if found.notice and found.notice.text else ()
    warnings = (*notice, *job.warnings, *found.warnings, *finished.warnings)
    result = Patch(result=finished.result, warnings=warnings, outputs=finished.outputs)
    if finished.error is not None:
        return replace(result, state="failed", error=finished.error, message=finished.error.message)
    return replace(result, stage="done", state="succeeded", message="Done.", progress=1.0)
