"""The page of an upload, for a person: one file, rendered here, complete without script.

Script and style are inline and allowed by their hash alone; nothing else is loaded from anywhere. What varies is text
that is escaped; the script reads it from attributes of the page.
"""

import base64
import hashlib
import html
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Literal

from rotoscope.errors import RotoscopeError

if TYPE_CHECKING:
    from rotoscope.contracts.upload_results import UploadTicket
    from rotoscope.store.uploads import Upload

__all__ = ["PageState", "PageView", "page_headers", "render_page"]

_ACCEPTED = {
    "image": "image/png,image/jpeg,image/webp,image/gif",
    "video": "video/mp4,video/quicktime,video/webm",
    "audio": "audio/mpeg,audio/mp4,audio/wav,.mp3,.m4a,.wav",
}
_ACCEPTED["mask"] = f"{_ACCEPTED['image']},{_ACCEPTED['video']}"
_WANTED = {"image": "a picture", "video": "a film", "audio": "a sound", "mask": "a mask, as a picture or a film"}
PageState = Literal["open", "checking", "ready", "closed"]
_STATES: Mapping[str, PageState] = {"checking": "checking", "ready": "ready", "expired": "closed"}
_PLACE = re.compile(r"\[\[([a-z_]+)\]\]")
_PART_BYTES = 8 * 1024 * 1024  # of each request of the script: what is lost where a connection breaks
_REFRESH = '<meta http-equiv="refresh" content="3">'


@dataclass(frozen=True, slots=True)
class PageView:
    """What the page shows.

    Attributes:
        state: a file may be sent, is being checked, has become an artifact, or none is taken any more.
        wanted: what is to be sent, as a sentence.
        address: where to, as a path.
        accept: the file types that the chooser offers.
        max_bytes: the largest file.
        total: bytes of the file that is being checked; 0: not known.
        link: of the artifact; may be empty.
        problem: why the last file was refused, or none is taken; may be empty.
    """

    state: PageState
    wanted: str = ""
    address: str = ""
    accept: str = ""
    max_bytes: int = 0
    total: int = 0
    link: str = ""
    problem: str = ""

    @classmethod
    def of_upload(
        cls, upload: "Upload", shown: "UploadTicket", address: str, error: RotoscopeError | None = None
    ) -> "PageView":
        """The page of an upload; with an error, that of a request which was refused."""
        problem = error or shown.error
        accept = _ACCEPTED.get(upload.kind or "") or ",".join(_ACCEPTED[one] for one in ("image", "video", "audio"))
        name = f" ({upload.name})" if upload.name else ""
        kind = _WANTED.get(upload.kind or "", "a picture, a film or a sound")
        until = f"{shown.expires_at[11:16]} UTC"
        return cls(
            _STATES.get(shown.status, "open"),
            f"The assistant asks for {kind}{name}: one file of up to {upload.max_bytes / 1e6:.0f} MB, until {until}.",
            address,
            accept,
            upload.max_bytes,
            upload.total or 0,
            shown.artifact or "",
            "" if problem is None or shown.status == "ready" else f"{problem.message} {problem.hint}".strip(),
        )

    @classmethod
    def closed(cls, error: RotoscopeError) -> "PageView":
        """The page of an address that takes no file."""
        return cls("closed", problem=f"{error.message} Ask the assistant for a new address.")


def render_page(view: PageView) -> str:
    """The page as HTML."""
    texts = {
        "state": view.state,
        "wanted": view.wanted,
        "address": view.address,
        "accept": view.accept,
        "max": str(view.max_bytes),
        "part": str(_PART_BYTES),
        "total": str(view.total),
        "link": view.link,
        "problem": view.problem,
        **{
            f"hide_{state}": "" if state == view.state else "hidden"
            for state in ("open", "checking", "ready", "closed")
        },
        "hide_problem": "" if view.problem else "hidden",
    }
    parts = {name: html.escape(text) for name, text in texts.items()}
    parts["refresh"] = _REFRESH if view.state == "checking" else ""
    parts |= {"style": _read("page.css"), "script": _read("page.js")}
    # In one pass: a name that looks like a place stays a name.
    return _PLACE.sub(lambda found: parts[found[1]], _read("page.html"))


@cache
def page_headers() -> dict[str, str]:
    """What the page may do: run its own script, look as its own style says, and send to its own server."""
    policy = [
        "default-src 'none'",
        f"script-src '{_source_hash('page.js')}'",
        f"style-src '{_source_hash('page.css')}'",
        "connect-src 'self'",
        "form-action 'self'",
        "img-src blob:",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    ]
    return {
        "content-security-policy": "; ".join(policy),
        "cache-control": "no-store",
        "x-content-type-options": "nosniff",
        "referrer-policy": "same-origin",  # the address is a secret, and a form without origin is refused
        "x-robots-tag": "noindex",
    }


def _source_hash(name: str) -> str:
    digest = hashlib.sha256(_read(name).encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"


@cache
def _read(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")
