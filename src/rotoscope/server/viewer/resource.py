"""The viewer as MCP Apps know it (SEP-1865): its resource, and what tools say of it."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from mcp.server.apps import APP_MIME_TYPE, Apps
from mcp.server.mcpserver.resources import FunctionResource

from rotoscope.server.viewer.page import read_page

__all__ = ["VIEWER_URI", "build_apps", "tool_meta"]

VIEWER_URI = "ui://rotoscope/viewer.html"
_SHOWN_TOOLS = frozenset(
    {"segment_image", "describe_with_masks", "generate_video", "edit_video_with_mask", "segment_video", "get_job"}
)
_CALLED_TOOLS = frozenset({"cancel_job", "view_media"})
"""Tools that the page calls and does not show."""
_DESCRIPTION = "Shows a job: its picture and masks, its film, or its progress."


def build_apps(public_url: str | None, media_origins: Sequence[str] = ()) -> Apps:
    """The extension with the page as its resource.

    Args:
        public_url: the address at which the page finds files; None: it gets them through its host alone.
        media_origins: further origins of pictures and films.
    """
    apps = Apps()
    apps.add_resource(
        FunctionResource(
            uri=VIEWER_URI,
            name="viewer",
            title="rotoscope viewer",
            description=_DESCRIPTION,
            mime_type=APP_MIME_TYPE,
            meta={"ui": _page_meta(public_url, media_origins)},
            fn=partial(read_page),
        )
    )
    return apps


def tool_meta(name: str) -> dict[str, Any] | None:
    """What a tool says to hosts of MCP Apps: which page shows its results, and who may call it; None: nothing."""
    if name in _SHOWN_TOOLS:
        return {"ui": {"resourceUri": VIEWER_URI, "visibility": ["model", "app"]}}
    return {"ui": {"visibility": ["model", "app"]}} if name in _CALLED_TOOLS else None


def _page_meta(public_url: str | None, media_origins: Sequence[str]) -> Mapping[str, object]:
    """What the page may reach, and what it would like to do.

    A store lets pages of others show its files; whether they may read them is its own policy.
    """
    own = [] if public_url is None else ["{0.scheme}://{0.netloc}".format(urlsplit(public_url))]
    shown = list(dict.fromkeys([*own, *media_origins]))
    csp = {name: origins for name, origins in (("connectDomains", own), ("resourceDomains", shown)) if origins}
    return {"csp": csp, "permissions": {"clipboardWrite": {}}, "prefersBorder": True}
