"""The stage that brings a request's files to where the provider reads them. It costs nothing and may be repeated."""

from pathlib import Path

import anyio.to_thread

from rotoscope.data_uris import encode_data_uri
from rotoscope.errors import StorageFailed
from rotoscope.jobs.concurrency import cancel_on
from rotoscope.jobs.context import CancelRequested, JobContext, LeaseGuard, runner_without_recorder
from rotoscope.media.sniff import file_content_type
from rotoscope.media.vault import artifact_hash, enter_in_thread
from rotoscope.models.catalog import file_size_error
from rotoscope.models.plan import kept_files, replace_media
from rotoscope.providers.dialects import UploadFile
from rotoscope.store.job_data import PreparedRequest
from rotoscope.store.records import Job, Patch

__all__ = ["prepare"]


async def prepare(context: JobContext, job: Job, lease: LeaseGuard) -> Patch:
    """Upload every file of the request, or embed it where the provider takes no uploads.

    Raises:
        CancelRequested: the job is to be cancelled.
        StorageFailed: a file is no longer in the results folder.
        RotoscopeError: a file is too large, or cannot be uploaded.
    """
    return await cancel_on(lease.stop, lambda: _prepare_files(context, job), CancelRequested())


async def _prepare_files(context: JobContext, job: Job) -> Patch:
    manifest, provider = context.manifest(job), context.provider(job)
    links = kept_files(manifest, job.call.input)
    urls: dict[str, str] = {}
    for number, link in enumerate(links, start=1):
        message = f"Bringing file {number} of {len(links)} to {provider.title}."
        await context.advance(job, Patch(message=message, event="progress"))
        urls[link] = await _upload_or_embed(context, job, link)
    uploads = tuple(urls[link] for link in links) if provider.can_upload else ()
    return Patch(
        stage="submit",
        request=PreparedRequest(replace_media(manifest, job.call.input, urls), uploads),
        message=f"Sending to {provider.title}.",
        progress=max(job.progress, 0.01),
    )


async def _upload_or_embed(context: JobContext, job: Job, link: str) -> str:
    """The URL by which the provider reads one of our files: of its upload, or a data URI."""
    async with enter_in_thread(context.vault.open(artifact_hash(link))) as path:
        if path is None:
            raise StorageFailed("A file of this job is no longer in the results folder.", hint="Call the tool again.")
        file = await anyio.to_thread.run_sync(_file_to_upload, path)
        provider = context.provider(job)
        too_large = file_size_error(provider, file.size)
        if too_large is not None:
            raise too_large
        if provider.can_upload:
            return await runner_without_recorder(context, job).upload(file)
        return await anyio.to_thread.run_sync(_data_uri, file)


def _file_to_upload(path: Path) -> UploadFile:
    content_type = file_content_type(path) or "application/octet-stream"
    return UploadFile(path, path.name[:16] + path.suffix, content_type, path.stat().st_size)


def _data_uri(file: UploadFile) -> str:
    return encode_data_uri(file.path.read_bytes(), file.content_type)
