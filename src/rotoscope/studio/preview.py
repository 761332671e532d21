"""Previews: a small picture of a kept file, such as an overlay, a mask or a frame of a video."""

from dataclasses import dataclass
from pathlib import Path

import anyio.to_thread

from rotoscope.contracts.results import MediaFile
from rotoscope.errors import InvalidInput, UserMistake
from rotoscope.media.decoders import FILM, PICTURE
from rotoscope.media.image.thumbnails import THUMBNAIL_BYTES, THUMBNAIL_SIDE, Thumbnail
from rotoscope.media.paths import local_path
from rotoscope.media.preparing import preview_media
from rotoscope.media.sniff import content_type_of, is_image, is_video
from rotoscope.media.vault import Vault
from rotoscope.studio.studio import Studio
from rotoscope.workers.limits import WorkLimits

__all__ = ["View", "keep_view", "make_view"]

_SNIFFED_BYTES = 64
_PLACES = "Give an artifact:// link, or job://ID/overlay, job://ID/masks/0, job://ID/filmstrip or job://ID/poster."


@dataclass(frozen=True, slots=True)
class View:
    """A small picture of a kept file.

    Attributes:
        picture: the small picture.
        width: of the file itself, in pixels; where it is larger, what is read off the small one must be scaled.
        height: of the file itself, in pixels.
        path: of the file itself.
    """

    picture: Thumbnail
    width: int
    height: int
    path: Path


async def make_view(studio: Studio, uri: str, principal: str, most: int = THUMBNAIL_BYTES) -> View:
    """A small picture of what a link leads to.

    Args:
        studio: holds the jobs and the vault.
        uri: `artifact://SHA256`, a path in the vault, or `job://ID` with the name of an output; without a name it is
            what shows the job's result best.
        principal: whose jobs may be seen.
        most: the largest picture, in bytes.

    Raises:
        UserMistake: there is nothing of that name, or it cannot be shown as a picture.
    """
    link = uri.strip()
    if link.startswith("job://"):
        link = await studio.links.preview_link(link.rstrip("/"), principal)
    studio.context.decoders.warm()
    path = await _find_kept_file(studio, link, principal)
    limits = await anyio.to_thread.run_sync(_decoding_limits, path)
    shown = await studio.context.decoders.run(preview_media, path, THUMBNAIL_SIDE, most, limits=limits)
    return View(shown.picture, shown.width, shown.height, path)


async def keep_view(studio: Studio, uri: str, principal: str) -> MediaFile:
    """A small picture of what a link leads to, kept in the vault: for the command line, which cannot show it.

    Raises:
        UserMistake: as for `make_view`.
        StorageFailed: it cannot be kept.
    """
    picture = (await make_view(studio, uri, principal)).picture
    vault = studio.context.vault
    kept = await anyio.to_thread.run_sync(vault.keep, picture.content, picture.content_type)
    return MediaFile(
        url=kept.path.as_uri(),
        path=str(kept.path),
        uri=kept.uri,
        content_type=kept.content_type,
        width=picture.width,
        height=picture.height,
        file_size=kept.size,
        sha256=kept.sha256,
    )


async def _find_kept_file(studio: Studio, link: str, principal: str) -> Path:
    sha256: str | None = link.removeprefix("artifact://").strip("/")
    if not link.startswith("artifact://"):
        is_path = "://" not in link or link.lower().startswith("file://")
        sha256 = await anyio.to_thread.run_sync(_hash_in_vault, studio.context.vault, link) if is_path else None
        if sha256 is not None and not await studio.links.can_read_artifact(sha256, principal):
            sha256 = None  # a path of another principal's file is a path like any other
    if sha256 is None:
        raise InvalidInput("Only results are shown, not other files or addresses.", hint=_PLACES, code="path_denied")
    path = await studio.artifact_path(sha256, principal)
    if path is None:
        raise InvalidInput("There is no such artifact.", hint=_PLACES, code="unknown_resource")
    return path


def _hash_in_vault(vault: Vault, link: str) -> str | None:
    """The hash of a path in the vault; None for any other text."""
    try:
        return vault.hash_of(local_path(link))
    except UserMistake:
        return None


def _decoding_limits(path: Path) -> WorkLimits:
    """What a small picture of a file may cost.

    Raises:
        InvalidInput: it is neither a picture nor a video.
    """
    with path.open("rb") as opened:
        content_type = content_type_of(opened.read(_SNIFFED_BYTES)) or ""
    if not (is_image(content_type) or is_video(content_type)):
        raise InvalidInput(
            "This file cannot be shown as a picture.", hint=f"Open it by its path: {path}", code="unsupported"
        )
    return FILM if is_video(content_type) else PICTURE
