"""A job's masks in the formats of other programs: its files are gathered, and a worker process makes the export."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

import anyio
import anyio.to_thread

from rotoscope.errors import InvalidInput, OutputLost, TooLarge, WorkerLost
from rotoscope.jobs.edit_inputs import find_edit_inputs
from rotoscope.jobs.given_files import open_given_file, picture_name
from rotoscope.jobs.restoring import restore_files
from rotoscope.media.decoders import EXPORT
from rotoscope.media.exports.formats import find_format
from rotoscope.media.exports.frames import FEWER_FRAMES, MAX_MASKS
from rotoscope.media.exports.making import MadeExport, make_export
from rotoscope.media.exports.sources import ExportOrder, FilmSource, MaskSource, PictureSource
from rotoscope.media.sniff import file_content_type, is_video
from rotoscope.media.vault import enter_in_thread, scratch_path
from rotoscope.store.records import Job, Output
from rotoscope.studio.studio import Studio

__all__ = ["ExportRequest", "open_export"]

_MASK_TOOLS = frozenset({"segment_image", "describe_with_masks"})
_EDIT_TOOL, _TRACK_TOOL = "edit_video_with_mask", "segment_video"
_MAX_EVERY, _MAX_SIMPLIFY = 10_000, 100.0
_RESTORING_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class ExportRequest:
    """What a user asks for.

    Attributes:
        format: its name.
        simplify: by how many pixels an outline may be off; 0: it is exact.
        with_pictures: whether the pictures are written, too.
        every: of a film, every how manieth frame.
    """

    format: str
    simplify: float = 0.0
    with_pictures: bool = False
    every: int = 1


@asynccontextmanager
async def open_export(
    studio: Studio, job_id: str, asked: ExportRequest, principal: str
) -> AsyncIterator[tuple[Job, MadeExport]]:
    """Make an export of a job; its files are there for the time of the block.

    Args:
        studio: holds the jobs and the vault.
        job_id: the id of a job, or its `job://` link.
        asked: the format and its options.
        principal: whose job it must be.

    Raises:
        UnknownJob: the principal has no such job.
        InvalidInput: the job has no masks, or has not ended well; an option is out of range; the format needs the
            picture, and it is not at hand.
        OutputLost: files of the result are gone.
        TooLarge: it takes too much memory or time.
    """
    _check_request(asked)
    job, context = await studio.job(job_id, principal), studio.context
    async with AsyncExitStack() as files:
        stem = await files.enter_async_context(enter_in_thread(scratch_path(context.vault)))
        gather = {_EDIT_TOOL: _gather_film, _TRACK_TOOL: _gather_track}.get(job.tool, _gather_picture)
        source = await gather(studio, job, asked, stem, files)
        order = ExportOrder(asked.format, source, asked.simplify, asked.with_pictures, asked.every)
        try:
            made = await context.decoders.run(make_export, order, stem, limits=EXPORT)
        except WorkerLost:
            raise
        except TooLarge as error:
            raise TooLarge(f"The export could not be made. {error.message}", hint=FEWER_FRAMES) from error
        yield job, made


def _check_request(asked: ExportRequest) -> None:
    form = find_format(asked.format)
    if not 1 <= asked.every <= _MAX_EVERY:
        raise InvalidInput(f"--every is a number from 1 to {_MAX_EVERY}.", hint="Leave it out for every frame.")
    if not (isfinite(asked.simplify) and 0 <= asked.simplify <= _MAX_SIMPLIFY):
        raise InvalidInput(
            f"--simplify is a number of pixels from 0 to {_MAX_SIMPLIFY:g}.", hint="1 is good for editing by hand."
        )
    if asked.simplify and not form.has_outlines:
        raise InvalidInput(
            f"{asked.format} has no outlines to simplify.", hint="Leave --simplify out, or choose a format of polygons."
        )


async def _gather_picture(
    studio: Studio, job: Job, asked: ExportRequest, stem: Path, files: AsyncExitStack
) -> PictureSource:
    """The masks of a result, and the picture that they are of."""
    outputs = await _mask_outputs(studio, job)
    rows = job.result.masks if job.result is not None else ()
    masks = []
    for output in outputs:
        path = await files.enter_async_context(enter_in_thread(studio.context.vault.open(output.artifact.sha256)))
        if path is None:
            raise _lost_files_error(studio, job, 1)
        masks.append(_mask_source(path, rows[output.n] if output.n < len(rows) else {}))
    link = job.plan.picture or ""
    is_wanted = asked.with_pictures or find_format(asked.format).picture != "without"
    # Masks are of the picture's size already: it is not fetched where it is not needed.
    known = link if is_wanted or link.startswith("artifact://") else ""
    picture = await open_given_file(studio.context, known, stem, files)
    return PictureSource(await picture_name(studio.context, job, picture), picture, tuple(masks))


def _mask_source(path: Path, row: Mapping[str, object]) -> MaskSource:
    score, label = row.get("score"), row.get("label")
    return MaskSource(path, str(label or ""), float(score) if isinstance(score, int | float) else None)


async def _mask_outputs(studio: Studio, job: Job) -> list[Output]:
    """The masks of a result, all of them in the vault; those that had gone are fetched or made once more.

    Raises:
        InvalidInput: there are none, or too many.
        OutputLost: they are gone.
    """
    if job.tool not in (*_MASK_TOOLS, _TRACK_TOOL):
        raise InvalidInput(
            f"A job of {job.tool} has no masks.",
            hint="Name a job of a tool that finds masks or edits by one: rotoscope jobs list.",
        )
    if job.state != "succeeded":
        raise _state_error(job)
    missing = await _find_missing(studio, job)
    if missing:
        with anyio.move_on_after(_RESTORING_SECONDS):
            await restore_files(studio.context, job)
        missing = await _find_missing(studio, job)
    if missing:
        raise _lost_files_error(studio, job, missing)
    outputs = sorted(await _list_masks(studio, job), key=lambda output: output.n)
    if not outputs:
        raise InvalidInput(
            "The job has no masks: the model gave words alone.", hint="Ask for the object by name with segment_image."
        )
    if len(outputs) > MAX_MASKS:
        raise InvalidInput(f"An export has at most {MAX_MASKS:,} masks.", hint="Ask for fewer objects at a time.")
    return outputs


async def _list_masks(studio: Studio, job: Job) -> list[Output]:
    outputs = await studio.context.ledger.outputs(job.id, job.principal)
    return [output for output in outputs if output.role == "mask"]


async def _find_missing(studio: Studio, job: Job) -> int:
    """How many masks are not in the vault."""
    outputs, vault = await _list_masks(studio, job), studio.context.vault
    return await anyio.to_thread.run_sync(
        lambda: sum(vault.address(output.artifact.sha256) is None for output in outputs)
    )


def _state_error(job: Job) -> InvalidInput:
    match job.state:
        case "queued" | "running":
            return InvalidInput(
                f"The job is not done yet ({job.progress:.0%}).",
                hint=f"Wait for it with rotoscope jobs show {job.id}, then export it.",
            )
        case "needs_review":
            return InvalidInput(
                "It is not known yet what became of this job.", hint=f"See rotoscope jobs show {job.id}."
            )
        case _:
            return InvalidInput(
                f"The job {'was cancelled' if job.state == 'cancelled' else 'failed'}, so it has no masks to export.",
                hint=f"See why with rotoscope jobs show {job.id}, and call the tool again.",
            )


def _lost_files_error(studio: Studio, job: Job, count: int) -> OutputLost:
    return OutputLost(
        f"{count} of the job's masks {'is' if count == 1 else 'are'} gone from {studio.context.vault.location} and "
        "cannot be fetched again now.",
        hint=f"rotoscope jobs show {job.id} fetches them while the provider has them, and says until when; else call "
        "the tool again.",
    )


async def _gather_film(studio: Studio, job: Job, asked: ExportRequest, stem: Path, files: AsyncExitStack) -> FilmSource:
    """The mask of an edit, as it was given and fitted to its film, and the film. How the edit ended does not matter."""
    context, inputs = studio.context, find_edit_inputs(studio.context, job)
    mask = await open_given_file(context, inputs.mask or "", stem, files, "mask")
    if mask is None:
        raise OutputLost(
            "The mask of this edit is gone and cannot be fetched again now.",
            hint="Export the job that made the mask, or give the mask to the tool again.",
        )
    is_wanted = asked.with_pictures or find_format(asked.format).picture != "without"
    link = inputs.film if is_wanted or inputs.film.startswith("artifact://") else ""
    film = await open_given_file(context, link, stem, files, "film")
    kind = await anyio.to_thread.run_sync(file_content_type, mask)
    name = await picture_name(context, job, film, "video")
    return FilmSource(name, film, mask, is_video(kind or ""), "mask", inverted=inputs.is_inverted)


async def _gather_track(
    studio: Studio, job: Job, _asked: ExportRequest, stem: Path, files: AsyncExitStack
) -> FilmSource:
    """The mask film of a result, and the clip that it is of."""
    context, outputs = studio.context, await _mask_outputs(studio, job)
    mask = await files.enter_async_context(enter_in_thread(context.vault.open(outputs[0].artifact.sha256)))
    if mask is None:
        raise _lost_files_error(studio, job, 1)
    link = next(iter(job.plan.media.get("video", ())), "")
    film = await open_given_file(context, link, stem, files, "film")
    return FilmSource(await picture_name(context, job, film, "video"), film, mask, True, job.plan.label, is_exact=True)
