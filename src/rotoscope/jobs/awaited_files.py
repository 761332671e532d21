"""The files that jobs give to one that waits for them: outputs of theirs, or pieces of these that are made now."""

from collections.abc import Sequence
from contextlib import AsyncExitStack

import anyio.to_thread

from rotoscope.errors import InvalidInput, RotoscopeError
from rotoscope.jobs.context import JobContext
from rotoscope.media.decoders import EDIT_FILM
from rotoscope.media.vault import enter_in_thread, scratch_path
from rotoscope.media.worker_files import store_worker_files
from rotoscope.models.awaited import AwaitedOutput, find_awaited_outputs
from rotoscope.store.output_names import require_output
from rotoscope.store.records import AwaitedJob, Job

__all__ = ["find_awaited_files", "missing_output_error", "raise_failure"]


def raise_failure(awaited: Sequence[AwaitedJob]) -> None:
    """Raise the error of the first of these jobs that has failed, if one has.

    Raises:
        RotoscopeError: it has; nothing was sent for the job that waits for it.
    """
    failed = next((one.job for one in awaited if one.job.state != "succeeded"), None)
    if failed is None:
        return
    code, why, hint = "internal", failed.message, "Call the tool again."
    if failed.error is not None:
        code, why, hint = failed.error.code, failed.error.message, failed.error.hint
    raise RotoscopeError(
        f"{failed.tool} ({failed.id}), whose result was to be used, has failed: {why}",
        hint=f"Nothing was sent or paid for the step after it. {hint}",
        code=code,
    )


async def find_awaited_files(context: JobContext, job: Job, awaited: Sequence[AwaitedJob]) -> dict[str, str]:
    """The `artifact://` link of each output of awaited jobs that the media of a plan name, by the plan's own link.

    The mask of a target that was found is grown by some pixels: it is as tight as the object, whose rim would stay.

    Raises:
        InvalidInput: one of them is not there, or selects nothing.
    """
    by_number = {one.n: one.job for one in awaited}
    wanted = find_awaited_outputs(link for links in job.plan.media.values() for link in links)
    is_grown = job.args.get("target") is not None
    return {one.link: await _find_file(context, by_number.get(one.n), one, is_grown=is_grown) for one in wanted}


async def _find_file(context: JobContext, job: Job | None, wanted: AwaitedOutput, *, is_grown: bool) -> str:
    """The `artifact://` link of an output of an awaited job, or of a piece of it that is made now."""
    if job is None:
        raise missing_output_error("The job whose result was to be used was removed.")
    found = require_output(job, await context.ledger.outputs(job.id, job.principal), wanted.output)
    if wanted.piece is None and wanted.frame is None and not is_grown:
        return f"artifact://{found.artifact.sha256}"
    return await _cut_piece(context, found.artifact.sha256, wanted, is_grown=is_grown)


async def _cut_piece(context: JobContext, sha256: str, wanted: AwaitedOutput, *, is_grown: bool) -> str:
    """The link of a mask film or of a piece of it, perhaps grown, or of one of its frames as a picture.

    Raises:
        InvalidInput: `nothing_to_edit`, where it selects nothing.
    """
    from rotoscope.media.edits.cutting import cut_mask_film, pick_mask_picture
    from rotoscope.media.edits.films import GivenMask

    async with AsyncExitStack() as files:
        film = await files.enter_async_context(enter_in_thread(context.vault.open(sha256)))
        stem = await files.enter_async_context(enter_in_thread(scratch_path(context.vault)))
        if film is None:
            raise missing_output_error(
                "A file of the job whose result was to be used is no longer in the results folder."
            )
        mask = GivenMask(film, is_film=True)
        if wanted.frame is None:
            (cut,) = await context.decoders.run(
                cut_mask_film, mask, film, stem, [wanted.piece], is_grown, limits=EDIT_FILM
            )
        else:
            target = stem.with_name(f"{stem.name}-picture")
            cut = await context.decoders.run(pick_mask_picture, mask, film, target, wanted.frame, limits=EDIT_FILM)
        if cut.file is None:
            raise InvalidInput(
                "The object is not in this part of the clip; nothing was sent or paid for it.",
                hint="Nothing is to be done: where it is not seen, the clip stays as it is.",
                code="nothing_to_edit",
            )
        await anyio.to_thread.run_sync(store_worker_files, context.vault, [cut.file])
        return f"artifact://{cut.file.sha256}"


def missing_output_error(message: str) -> InvalidInput:
    return InvalidInput(message, hint="Nothing was sent or paid for it; call the tool again.", code="unknown_resource")
