"""Files that a job was given: opened for reading, and named as their giver calls them."""

from contextlib import AsyncExitStack
from pathlib import Path

import anyio.to_thread

from rotoscope.errors import RotoscopeError
from rotoscope.jobs.context import JobContext
from rotoscope.jobs.outputs import MAX_OUTPUT_BYTES
from rotoscope.media.image.coco import file_name_of
from rotoscope.media.vault import artifact_hash, enter_in_thread
from rotoscope.store.records import Job

__all__ = ["open_given_file", "picture_name"]


async def open_given_file(
    context: JobContext, value: str, stem: Path, files: AsyncExitStack, name: str = "picture"
) -> Path | None:
    """A local path of what a link leads to: a stored file, or one that is fetched now; None when that fails.

    Args:
        context: holds the vault and the one client.
        value: an `artifact://` link or an https address; anything else leads nowhere.
        stem: the path with which the names of scratch files begin.
        files: closes what is opened.
        name: of the scratch file.
    """
    if value.startswith("artifact://"):
        return await files.enter_async_context(enter_in_thread(context.vault.open(artifact_hash(value))))
    if not value.startswith("https://"):
        return None
    fetched = stem.with_name(f"{stem.name}-{name}")
    try:
        await context.wire.fetch(value, fetched, MAX_OUTPUT_BYTES)
    except RotoscopeError:
        return None
    return fetched


async def picture_name(context: JobContext, job: Job, picture: Path | None, argument: str = "image") -> str:
    """The name of a picture or a film as the user has given it; one of our own files has its name in the vault."""
    given = str(job.args.get(argument) or "").strip()
    if given.lower().startswith("artifact://"):
        address = await anyio.to_thread.run_sync(context.vault.address, artifact_hash(given))
        if address is not None:
            return address.name
    elif not given.lower().startswith("job://"):
        return file_name_of(given)
    return picture.name if picture is not None else file_name_of(given)
