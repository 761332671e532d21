"""The last stage: what was fetched becomes the tool's result.

Masks are measured, paired with their phrases and painted (`finish_masks`), a video is examined and gets its pictures
(`finish_video`); both in a worker process, because they decode files that a stranger's model has made.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import anyio
import anyio.to_thread

from rotoscope.errors import OutputLost, RotoscopeError, UserMistake, WorkerLost
from rotoscope.jobs.context import JobContext, LeaseGuard
from rotoscope.jobs.outputs import MAX_OUTPUT_BYTES, read_job_output
from rotoscope.jobs.stages.finish_masks import FinishResult, MaskWork, finish_masks
from rotoscope.jobs.stages.finish_video import finish_video
from rotoscope.media.decoders import RESULT_FILM, RESULT_MASKS
from rotoscope.media.image.coco import file_name_of
from rotoscope.media.worker_files import scratch_file_stem, store_worker_files
from rotoscope.models.outputs import ModelOutput
from rotoscope.store.records import Job, Output, Patch

__all__ = ["finish", "finish_in_worker"]

_MAX_REFETCHES = 3  # times; after that something on this machine removes the files


async def finish(context: JobContext, job: Job, _: LeaseGuard) -> Patch:
    """Make the tool's result of the files in the vault; one that is no longer there is fetched again.

    Raises:
        OutputLost: a file cannot be used, or is gone and cannot be fetched again.
        PredictionFailed: there is no result in the output.
    """
    found, raw = read_job_output(context, job), await _raw_outputs(context, job)
    gone = [output for output in raw if context.vault.find(output.artifact.sha256) is None]
    if gone or not (raw or found.is_text_only):
        return _patch_to_refetch(job, gone)
    return _patch_of_result(job, found, await finish_in_worker(context, job, found, raw))


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


async def _raw_outputs(context: JobContext, job: Job) -> list[Output]:
    return [output for output in await context.ledger.outputs(job.id, job.principal) if output.role == "raw"]


async def finish_in_worker(context: JobContext, job: Job, found: ModelOutput, raw: Sequence[Output]) -> FinishResult:
    """The result, made by a worker process, whose new files this process moves into the vault.

    Raises:
        OutputLost: a file takes too much memory or time to read, or makes its decoder crash.
        WorkerLost: the worker was ended from outside, which says nothing of the result: try again.
    """
    with scratch_file_stem(context.vault) as stem:
        try:
            finished = await _process_outputs(context, job, found, raw, stem)
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
    context: JobContext, job: Job, found: ModelOutput, raw: Sequence[Output], stem: Path
) -> FinishResult:
    if found.video is not None:
        path = _path_in_vault(context, raw[0])
        return await context.decoders.run(finish_video, raw[0], path, stem, limits=RESULT_FILM)
    return await _process_masks(context, job, found, raw, stem)


async def _process_masks(
    context: JobContext, job: Job, found: ModelOutput, raw: Sequence[Output], stem: Path
) -> FinishResult:
    picture = await _find_picture(context, job)
    work = MaskWork(
        raw=[(_path_in_vault(context, output), output) for output in raw],
        picture=picture,
        file_name=_file_name(context, job, picture),
        text=found.text,
        names=[found.masks[output.n].label for output in raw],
        omitted_count=found.excess_count + len(found.masks) - len(raw),
        frame=context.manifest(job).outputs.frame,
        has_location=bool(job.args.get("points") or job.args.get("box")),
        label=job.plan.label,
        score=found.notice.confidence if found.notice else None,
        is_description=context.manifest(job).tool == "describe_with_masks",
        with_overlay=job.args.get("overlay") is not False,
    )
    try:
        return await context.decoders.run(finish_masks, work, stem, limits=RESULT_MASKS)
    finally:
        if picture is not None and picture.parent == context.vault.folder / "scratch":
            picture.unlink(missing_ok=True)


def _file_name(context: JobContext, job: Job, picture: Path | None) -> str:
    """The name of the picture as the user has given it; one of our own files has its name in the results folder."""
    given = str(job.args.get("image") or "").strip()
    if given.lower().startswith("artifact://"):
        picture = context.vault.find(given.partition("://")[2].strip("/")) or picture
    elif not given.lower().startswith("job://"):
        return file_name_of(given)
    return picture.name if picture is not None else file_name_of(given)


def _path_in_vault(context: JobContext, output: Output) -> Path:
    path = context.vault.find(output.artifact.sha256)
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


async def _find_picture(context: JobContext, job: Job) -> Path | None:
    """The picture that the model saw: ours, or fetched now for the overlay; None when that fails."""
    value = job.plan.picture or ""
    if value.startswith("artifact://"):
        return context.vault.find(value.removeprefix("artifact://"))
    if not value.startswith("https://"):
        return None
    scratch = await anyio.to_thread.run_sync(context.vault.new_scratch_path)
    try:
        await context.wire.fetch(value, scratch, MAX_OUTPUT_BYTES)
    except RotoscopeError:
        scratch.unlink(missing_ok=True)
        return None
    return scratch
