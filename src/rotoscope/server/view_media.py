"""`view_media`: a picture for the model's eyes, as large as its client bears; or where it is, if that bears none."""

from typing import TYPE_CHECKING

from mcp_types import CallToolResult, TextContent

from rotoscope.server.present.content import view_answer

if TYPE_CHECKING:
    from rotoscope.studio.studio import Studio

__all__ = ["view_media"]

_PROBE_BYTES = 4_000  # bytes; enough to learn that it can be shown, and how large it is


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
        return view_answer(seen, uri)
    words = (
        f"{uri[:200]}: a picture of {seen.width}x{seen.height} pixels. File: {seen.place}. This client shows its model "
        "no pictures of tool results: open the file, or show it to the user."
    )
    return CallToolResult(content=[TextContent(type="text", text=words)])
