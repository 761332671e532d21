"""Previews: a small picture of a kept file, such as an overlay, a mask or a frame of a video."""

from dataclasses import dataclass
from pathlib import Path

import anyio.to_thread

from rotoscope.contracts.results import MediaFile
from rotoscope.errors import InvalidInput, UserMistake
from rotoscope.media.decoders import FILM, PICTURE
from rotoscope.media.image.previews import THUMBNAIL_BYTES, THUMBNAIL_SIDE, Thumbnail
from rotoscope.media.paths import local_path
from rotoscope.media.preparing import preview_media
from rotoscope.media.sniff import file_content_type, is_image, is_video
from rotoscope.media.vault import Vault, artifact_hash
from rotoscope.studio.studio import Studio
from rotoscope.workers.limits import WorkLimits

__all__ = ["View", "keep_view", "make_view"]

_PLACES = "Give an artifact:// link, or job://ID/overlay, job://ID/masks/0, job://ID/filmstrip or job://ID/poster."


@dataclass(frozen=True, slots=True)
class View:
    """A small picture of a kept file.

    Attributes:
        picture: the small picture.
        width: of the file itself, in pixels; where it is larger, what is read off the small one must be scaled.
        height: of the file itself, in pixels.
        place: where the file itself can be read: its path, or its URL where the vault is not on this machine.
    """

    picture: Thumbnail
    width: int
    height: int
    place: str


async def make_view(studio: Studio, uri: str, principal: str, most: int = THUMBNAIL_BYTES) -> View:
    """A small picture of what a link leads to.

    Args:
        studio: holds the jobs and the vault.
        uri: `artifact://SHA256`, the path or the address of a result's file, or `job://ID` with the name of an
            output; without a name it is what shows the job's result best.
        principal: whose jobs may be seen.
        most: the largest picture, in bytes.

    Raises:
        UserMistake: there is nothing of that name, or it cannot be shown as a picture.
    """
    link = uri.strip()
    if link.startswith("job://"):
        link = await studio.links.preview_link(link.rstrip("/"), principal)
    studio.context.decoders.warm()
    async with studio.open_artifact(await _artifact_hash_of(studio, link, principal), principal) as found:
        if found is None:
            raise _unknown_artifact_error()
        path, address = found
        limits = await anyio.to_thread.run_sync(_decoding_limits, path, address.place)
        shown = await studio.context.decoders.run(preview_media, path, THUMBNAIL_SIDE, most, limits=limits)
    return View(shown.picture, shown.width, shown.height, address.place)


async def keep_view(studio: Studio, uri: str, principal: str) -> MediaFile:
    """A small picture of what a link leads to, kept in the vault: for the command line, which cannot show it.

    Raises:
        UserMistake: as for `make_view`.
        StorageFailed: it cannot be kept.
    """
    picture = (await make_view(studio, uri, principal)).picture
    vault = studio.context.vault
    kept = await anyio.to_thread.run_sync(vault.put_bytes, picture.content, picture.content_type)
    address = await anyio.to_thread.run_sync(vault.address, kept.sha256)
    if address is None:  # it was removed meanwhile
        raise _unknown_artifact_error()
    return MediaFile(
        url=address.url or address.uri,
        path=str(address.path or ""),
        uri=kept.uri,
        content_type=kept.content_type,
        width=picture.width,
        height=picture.height,
        file_size=kept.size,
        sha256=kept.sha256,
    )


async def _artifact_hash_of(studio: Studio, link: str, principal: str) -> str:
    sha256: str | None = artifact_hash(link)
    if not link.startswith("artifact://"):
        sha256 = await anyio.to_thread.run_sync(_hash_in_vault, studio.context.vault, link)
        is_path = "://" not in link or link.lower().startswith("file://")
        # A path of another principal's file is a path like any other. An address names a file whether or not there is
        # one, so what it names is looked for like an artifact:// link, which is answered alike in both cases.
        if sha256 is not None and is_path and not await studio.links.can_read_artifact(sha256, principal):
            sha256 = None
    if sha256 is None:
        raise InvalidInput("Only results are shown, not other files or addresses.", hint=_PLACES, code="path_denied")
    return sha256


def _unknown_artifact_error() -> InvalidInput:
    return InvalidInput("There is no such artifact.", hint=_PLACES, code="unknown_resource")


def _hash_in_vault(vault: Vault, link: str) -> str | None:
    """The hash of a stored file by its path or by its address in a result; None for any other text."""
    if "://" in link and not link.lower().startswith("file://"):
        return vault.hash_of_address(link)
    try:
        return vault.hash_of(local_path(link))
    except UserMistake:
        return None


def _decoding_limits(path: Path, place: str) -> WorkLimits:
    """What a small picture of a file may cost; `place` is named in the error.

    Raises:
        InvalidInput: it is neither a picture nor a video.
    """
    content_type = file_content_type(path) or ""
    if not (is_image(content_type) or is_video(content_type)):
        raise InvalidInput("This file cannot be shown as a picture.", hint=f"Open it at {place}", code="unsupported")
    return FILM if is_video(content_type) else PICTURE
