"""What a tool answer holds beside its text, for clients that take it: links to files, and a small picture."""

import base64
import logging
from typing import TYPE_CHECKING

from mcp_types import CallToolResult, ContentBlock, ImageContent, ResourceLink, TextContent

from rotoscope.contracts.results import JobResult, MediaFile
from rotoscope.errors import RotoscopeError
from rotoscope.server.clients.profiles import ClientProfile

if TYPE_CHECKING:
    from rotoscope.studio.preview import View
    from rotoscope.studio.studio import Studio

__all__ = ["content_blocks", "view_media"]

_log = logging.getLogger(__name__)
_MOST_NUMBERED = 8  # masks, and files of a failed job, that are linked
_PROBE_BYTES = 4_000  # bytes; enough to learn that it can be shown, and how large it is
_INLINE_BYTES = 60_000  # one client passes pictures on as they are, and they stay in the conversation


async def content_blocks(
    client: ClientProfile, studio: "Studio", result: JobResult, principal: str
) -> list[ContentBlock]:
    """The blocks beside the text that this client takes. They only repeat what the text and the structure say."""
    blocks: list[ContentBlock] = []
    if client.pictures and result.status == "succeeded" and not result.dry_run:
        blocks += await _preview_blocks(studio, result, principal)
    if client.links and result.job_id:
        blocks += _link_blocks(result)
    return blocks


async def view_media(studio: "Studio", uri: str, principal: str, most: int) -> CallToolResult:
    """A small picture of what a link leads to.

    Args:
        studio: holds the jobs and the vault.
        uri: the link.
        principal: whose jobs may be seen.
        most: the largest picture, in bytes; 0: the client would hand it to its model as text, so it gets none.

    Raises:
        UserMistake: there is nothing of that name, or it cannot be shown as a picture.
    """
    from rotoscope.studio.preview import make_view

    seen = await make_view(studio, uri, principal, most or _PROBE_BYTES)
    if most:
        return _view_answer(seen, uri)
    words = (
        f"{uri[:200]}: a picture of {seen.width}x{seen.height} pixels. File: {seen.path}. This client shows its model "
        "no pictures of tool results: open the file, or show it to the user."
    )
    return CallToolResult(content=[TextContent(type="text", text=words)])


def _view_answer(seen: "View", uri: str) -> CallToolResult:
    """A picture alone: beside structured content some clients do not show it to their model."""
    picture = seen.picture
    words = f"{uri[:200]}: {picture.width}x{picture.height}"
    if (picture.width, picture.height) != (seen.width, seen.height):
        ratio = seen.width / picture.width
        words += f" of {seen.width}x{seen.height}; multiply coordinates by {ratio:.4g}"
    return CallToolResult(content=[TextContent(type="text", text=f"{words}. File: {seen.path}"), _image_block(seen)])


async def _preview_blocks(studio: "Studio", result: JobResult, principal: str) -> list[ContentBlock]:
    from rotoscope.studio.preview import make_view

    shown = _preview_file(result)
    if shown is None:
        return []
    try:
        return [_image_block(await make_view(studio, shown.uri, principal, _INLINE_BYTES))]
    except (RotoscopeError, OSError) as error:
        # The result is complete without the preview.
        _log.warning("no preview of %s: %s", shown.uri, error)
        return []


def _preview_file(result: JobResult) -> MediaFile | None:
    """The picture that shows a result best."""
    files = result.named_files()
    names = ("overlay", "mask 0") if "mask 0" in files else ("filmstrip", "poster")
    return next((files[name] for name in names if name in files), None)


def _image_block(seen: "View") -> ImageContent:
    data = base64.b64encode(seen.picture.content).decode()
    return ImageContent(type="image", data=data, mime_type=seen.picture.content_type)


def _link_blocks(result: JobResult) -> list[ContentBlock]:
    job = ResourceLink(
        type="resource_link", uri=f"job://{result.job_id}", name=f"job {result.job_id}", mime_type="application/json"
    )
    return [job, *(_file_link(name, file) for name, file in result.named_files(_MOST_NUMBERED).items())]


def _file_link(name: str, file: MediaFile) -> ResourceLink:
    return ResourceLink(type="resource_link", uri=file.uri, name=name, mime_type=file.content_type, size=file.file_size)
