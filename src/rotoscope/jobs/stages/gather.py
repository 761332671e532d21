"""The first stage of a job that takes outputs of other jobs: they have ended, and their files become its inputs.

It costs nothing and may be repeated. What comes from another job is checked like what a user gives: it is a file that a
stranger's model has made.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from rotoscope.errors import InvalidInput, RotoscopeError
from rotoscope.jobs.concurrency import cancel_on
from rotoscope.jobs.context import CancelRequested, JobContext, LeaseGuard
from rotoscope.media.vault import artifact_hash, enter_in_thread
from rotoscope.models.awaited import AwaitedOutput, fill_awaited_media, find_awaited_outputs
from rotoscope.models.manifest import Manifest
from rotoscope.models.plan import fill_arguments, kind_of_input, replace_media
from rotoscope.store.job_data import Charge, JobPlan
from rotoscope.store.output_names import require_output
from rotoscope.store.records import AwaitedJob, Job, Patch

if TYPE_CHECKING:
    from rotoscope.media.intake import AdmittedMedia

__all__ = ["gather"]


async def gather(context: JobContext, job: Job, lease: LeaseGuard) -> Patch:
    """Fill the plan with the outputs of the jobs that it waited for.

    Raises:
        CancelRequested: the job is to be cancelled.
        RotoscopeError: one of the others has failed, or what it gave cannot be used; nothing was sent for this job.
    """
    return await cancel_on(lease.stop, lambda: _gather_outputs(context, job), CancelRequested())


async def _gather_outputs(context: JobContext, job: Job) -> Patch:
    awaited = await context.ledger.awaited_jobs(job)
    if any(one.job.state == "cancelled" for one in awaited):
        message = "Cancelled with the job whose result it was to use; nothing was sent for it."
        return Patch(state="cancelled", message=message, charge=Charge(is_charged=False))
    _raise_failure(awaited)
    wanted = find_awaited_outputs(job.plan.media)
    by_number = {one.n: one.job for one in awaited}
    files = {one.link: await _find_file(context, by_number.get(one.n), one) for one in wanted}
    filled = await _fill_plan(context, job, files)
    return Patch(
        stage="prepare",
        plan=filled.plan,
        inputs=filled.hashes,
        warnings=(*job.warnings, *filled.notes),
        message="What it waited for is there.",
    )


def _raise_failure(awaited: Sequence[AwaitedJob]) -> None:
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


async def _find_file(context: JobContext, job: Job | None, wanted: AwaitedOutput) -> str:
    """The `artifact://` link of an output of an awaited job."""
    if job is None:
        raise _missing_output("The job whose result was to be used was removed.")
    found = require_output(job, await context.ledger.outputs(job.id, job.principal), wanted.output)
    return f"artifact://{found.artifact.sha256}"


def _missing_output(message: str) -> InvalidInput:
    return InvalidInput(message, hint="Nothing was sent or paid for it; call the tool again.", code="unknown_resource")


@dataclass(frozen=True, slots=True)
class _FilledPlan:
    """A plan without awaited outputs, the hashes (hex) of the files that came with them, and notes for the user."""

    plan: JobPlan
    hashes: tuple[str, ...]
    notes: tuple[str, ...]


async def _fill_plan(context: JobContext, job: Job, files: Mapping[str, str]) -> _FilledPlan:
    """Check what came, make a mask fit its video, and put the links into the request.

    Args:
        context: what the stages work with.
        job: the job.
        files: the `artifact://` link that came, by each awaited link.
    """
    from rotoscope.media.input_media import check_films, choose_by_clip, fit_masks

    manifest, planned = context.manifest(job), job.plan.media
    if manifest.edits_by_words:
        manifest = manifest.with_judging_mask()
    admitted = await _admit_files(context, manifest, fill_awaited_media(planned, files))
    for argument, limits in ((field.argument, field.film) for field in manifest.inputs.values()):
        if argument in admitted and limits is not None:
            check_films(argument, limits, admitted[argument])
    notes = await fit_masks(context.vault, context.decoders, manifest, admitted)
    came = {argument: found for argument, found in admitted.items() if not files.keys().isdisjoint(planned[argument])}
    chosen, more = choose_by_clip(manifest, job.args, came)
    media = {argument: tuple(one.value for one in found) for argument, found in admitted.items()}
    pairs = [pair for argument, links in planned.items() for pair in zip(links, media[argument], strict=True)]
    urls = {old: new for old, new in pairs if old in files}
    sent = {**replace_media(manifest, job.call.input, urls), **fill_arguments(manifest, chosen)}
    share = next((one.selects.share for found in admitted.values() for one in found if one.selects is not None), None)
    plan = replace(
        job.plan,
        call=replace(job.call, input=sent),
        media=media,
        picture=urls.get(job.plan.picture or "", job.plan.picture),
        mask_selects=share or job.plan.mask_selects,
    )
    hashes = tuple(dict.fromkeys(artifact_hash(link) for link in urls.values()))
    return _FilledPlan(plan, hashes, (*notes, *more))


async def _admit_files(
    context: JobContext, manifest: Manifest, given: Mapping[str, tuple[str, ...]]
) -> dict[str, list["AdmittedMedia"]]:
    """The media of all arguments; an address that was passed on unread stays so."""
    from rotoscope.media.intake import AdmittedMedia, FilePreparer

    preparer = FilePreparer(context.vault, context.decoders)
    kinds = {field.argument: kind_of_input(field) for field in manifest.inputs.values() if field.is_media}

    async def admit(argument: str, link: str) -> AdmittedMedia:
        if not link.startswith("artifact://"):
            return AdmittedMedia(link)
        async with enter_in_thread(context.vault.open(artifact_hash(link))) as path:
            if path is None:
                raise _missing_output("A file of this job is no longer in the results folder.")
            return await preparer.prepare(kinds[argument], path)

    return {argument: [await admit(argument, link) for link in links] for argument, links in given.items()}
