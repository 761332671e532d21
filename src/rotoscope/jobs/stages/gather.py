"""The first stage of a job that takes outputs of other jobs: they have ended, and their files become its inputs.

It costs nothing and may be repeated. What comes from another job is checked like what a user gives: it is a file that a
stranger's model has made.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from rotoscope.jobs.awaited_files import find_awaited_files, missing_output_error, raise_failure
from rotoscope.jobs.concurrency import cancel_on
from rotoscope.jobs.context import CancelRequested, JobContext, LeaseGuard
from rotoscope.media.vault import artifact_hash, enter_in_thread
from rotoscope.models.awaited import fill_awaited_media
from rotoscope.models.manifest import Manifest
from rotoscope.models.plan import fill_arguments, kind_of_input, replace_media
from rotoscope.store.job_data import Charge, JobPlan
from rotoscope.store.records import Job, Patch

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
    if job.plan.parts:
        from rotoscope.jobs.joined_parts import join_results

        return await join_results(context, job, awaited)
    raise_failure(awaited)
    files = await find_awaited_files(context, job, awaited)
    filled = await _fill_plan(context, job, files)
    return Patch(
        stage="prepare",
        plan=filled.plan,
        inputs=filled.hashes,
        warnings=(*job.warnings, *filled.notes),
        message="What it waited for is there.",
    )


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
    from rotoscope.media.input_media import MaskFitting, check_films, choose_by_clip, fit_masks

    manifest, planned = context.manifest(job), job.plan.media
    if manifest.edits_by_words:
        manifest = manifest.with_judging_mask()
    admitted = await _admit_files(context, manifest, fill_awaited_media(planned, files))
    for argument, limits in ((field.argument, field.film) for field in manifest.inputs.values()):
        if argument in admitted and limits is not None:
            check_films(argument, limits, admitted[argument])
    # Only a part of a clip takes a piece of a film: its mask may select everything.
    is_part = any("@" in link for link in files)
    how = MaskFitting(is_part=is_part)
    notes = await fit_masks(context.vault, context.decoders, manifest, admitted, how)
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
                raise missing_output_error("A file of this job is no longer in the results folder.")
            return await preparer.prepare(kinds[argument], path)

    return {argument: [await admit(argument, link) for link in links] for argument, links in given.items()}
