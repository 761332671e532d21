"""Blocks beside the text of a result, for clients that bear them: links to its files, and a small picture."""

import base64
import logging
from typing import TYPE_CHECKING

from mcp_types import CallToolResult, ContentBlock, ImageContent, ResourceLink, TextContent

from rotoscope.contracts.results import AnyResult, JobResult, MaskResult, MediaFile, VideoResult
from rotoscope.errors import RotoscopeError
from rotoscope.server.clients.profiles import ClientProfile

if TYPE_CHECKING:
    from rotoscope.studio.preview import View
    from rotoscope.studio.studio import Studio

__all__ = ["content_blocks", "view_answer"]

_log = logging.getLogger(__name__)
_MASK_LINKS = 8
_INLINE_BYTES = 60_000  # one client passes pictures on as they are, and they stay in the conversation


async def content_blocks(
    client: ClientProfile, studio: "Studio", result: JobResult, principal: str
) -> list[ContentBlock]:
    """What this client can bear beside the text: never the only place where something is told."""
    blocks: list[ContentBlock] = []
    if client.pictures and result.status == "succeeded" and not result.dry_run:
        blocks += await _preview_blocks(studio, result, principal)
    if client.links and result.job_id:
        blocks += _link_blocks(result)
    return blocks


def view_answer(seen: "View", uri: str) -> CallToolResult:
    """A picture for the model's eyes: no structured content, for which some clients would drop it."""
    picture = seen.picture
    words = f"{uri[:200]}: {picture.width}x{picture.height}"
    if (picture.width, picture.height) != (seen.width, seen.height):
        ratio = seen.width / picture.width
        words += f" of {seen.width}x{seen.height}; multiply coordinates by {ratio:.4g}"
    return CallToolResult(content=[TextContent(type="text", text=f"{words}. File: {seen.place}"), _image_block(seen)])


async def _preview_blocks(studio: "Studio", result: JobResult, principal: str) -> list[ContentBlock]:
    from rotoscope.studio.preview import make_view

    shown = _preview_file(result)
    if shown is None:
        return []
    try:
        return [_image_block(await make_view(studio, shown.uri, principal, _INLINE_BYTES))]
    except (RotoscopeError, OSError) as error:
        # A courtesy: the result is complete without it.
        _log.warning("no preview of %s: %s", shown.uri, error)
        return []


def _preview_file(result: JobResult) -> MediaFile | None:
    if isinstance(result, MaskResult) and result.masks:
        return result.overlay or result.masks[0].media
    return (result.filmstrip or result.poster) if isinstance(result, VideoResult | AnyResult) else None


def _image_block(seen: "View") -> ImageContent:
    data = base64.b64encode(seen.picture.content).decode()
    return ImageContent(type="image", data=data, mime_type=seen.picture.content_type)


def _link_blocks(result: JobResult) -> list[ContentBlock]:
    job = ResourceLink(
        type="resource_link", uri=f"job://{result.job_id}", name=f"job {result.job_id}", mime_type="application/json"
    )
    return [job, *(_file_link(name, file) for name, file in _files_by_name(result).items() if file is not None)]


def _files_by_name(result: JobResult) -> dict[str, MediaFile | None]:
    named: dict[str, MediaFile | None] = {f"file {n}": file for n, file in enumerate(result.files[:_MASK_LINKS])}
    if isinstance(result, MaskResult):
        named |= {f"mask {n}": mask.media for n, mask in enumerate(result.masks[:_MASK_LINKS])}
        named |= {"overlay": result.overlay, "coco": result.coco}
    if isinstance(result, VideoResult | AnyResult):
        named |= {"video": result.video, "poster": result.poster, "filmstrip": result.filmstrip}
    return named


def _file_link(name: str, file: MediaFile) -> ResourceLink:
    return ResourceLink(type="resource_link", uri=file.uri, name=name, mime_type=file.content_type, size=file.file_size)
