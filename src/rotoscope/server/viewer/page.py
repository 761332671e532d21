"""The page of the viewer: built from `source`, one file without any request to elsewhere."""

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files

__all__ = ["page_policy", "read_page", "render_viewer"]

_NO_ICON = '<link rel="icon" href="data:,">'
"""A browser asks a server for an icon otherwise; in a chat, whose policy may refuse this, nobody looks for one."""
_DATA = re.compile(r'(<script type="application/json" id="rotoscope-data">).*?(</script>)', re.DOTALL)


@cache
def read_page() -> str:
    """The page for a chat: it gets everything from its host."""
    return files(__package__).joinpath("viewer.html").read_text(encoding="utf-8")


def render_viewer(data: Mapping[str, object]) -> str:
    """The page with data of its own, for where there is no host.

    Args:
        data: `mode` is "local" (it asks the server it came from) or "report" (everything is in `record` and `files`).
    """
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    page, count = _DATA.subn(lambda found: f"{found[1]}{text}{found[2]}", read_page(), count=1)
    if count != 1:
        raise RuntimeError("viewer.html has no place for data: run `make viewer`")
    return page.replace("<title>", f"{_NO_ICON}\n<title>", 1)


@cache
def page_policy(connect: str = "'none'", media: str = "") -> str:
    """The content security policy of a page without a host: its own script and style alone.

    Args:
        connect: where it may send requests.
        media: further sources of pictures and films.
    """
    sources = f"data: blob: {media}".strip()
    return "; ".join(
        [
            "default-src 'none'",
            f"script-src '{_hash_of('script')}'",
            f"style-src '{_hash_of('style')}'",
            f"connect-src {connect}",
            f"img-src {sources}",
            f"media-src {sources}",
            "base-uri 'none'",
            "form-action 'none'",
        ]
    )


def _hash_of(tag: str) -> str:
    """The hash of the page's only script or style, as a policy names it."""
    (found,) = re.findall(rf"<{tag}>(.*?)</{tag}>", read_page(), re.DOTALL)
    return f"sha256-{base64.b64encode(hashlib.sha256(found.encode()).digest()).decode()}"
