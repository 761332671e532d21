"""Who may speak to a sandbox that is served over sockets: programs of this machine, and no page that a browser shows.

A page can point a name of its own at 127.0.0.1 (DNS rebinding) and then read what is served there; and without any such
trick it can post texts to it. So the name that was asked for must be this machine's, or a provider's own, which a
client reaches through a proxy and nobody else can own; a page says where it is from; and what is JSON says so.
"""

from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = ["Visitors"]

_LOOPBACK = frozenset({"127.0.0.1", "localhost", "[::1]"})
_PROVIDERS = frozenset(
    {
        "api.replicate.com",
        "stream.replicate.com",
        "replicate.delivery",
        "fal.run",
        "queue.fal.run",
        "rest.fal.ai",
        "api.fal.ai",
        "v3.fal.media",
        "api.segmind.com",
        "workflows-api.segmind.com",
        "api.spotprod.segmind.com",
    }
)
_SIMPLE = frozenset({"text/plain", "application/x-www-form-urlencoded"})
"""What a page may post anywhere without asking first (the Fetch standard); files have paths of their own."""
_FILES = ("/files", "/v1/files", "/storage")


class Visitors:
    """An app before the sandbox that turns away what no program of this machine would send.

    Args:
        app: the sandbox.
        hosts: more names that it is reached by.
    """

    def __init__(self, app: ASGIApp, hosts: Iterable[str] = ()) -> None:
        self._app = app
        self._own = _LOOPBACK | {host.lower() for host in hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 421, 403 or 415, or let the request through."""
        refusal = self._refusal(scope) if scope["type"] == "http" else None
        await (refusal or self._app)(scope, receive, send)

    def _refusal(self, scope: Scope) -> JSONResponse | None:
        given = [(name.lower(), value.decode("latin-1").strip().lower()) for name, value in scope["headers"]]
        hosts = [value for name, value in given if name == b"host"]
        if len(hosts) != 1 or _name_of(hosts[0]) not in self._own | _PROVIDERS:
            return _said(421, "This sandbox answers to the names of its own machine only.")
        if not all(self._is_own_page(value) for name, value in given if name == b"origin"):
            return _said(403, "This sandbox answers no pages of other places.")
        kind = next((value.partition(";")[0].strip() for name, value in given if name == b"content-type"), "")
        if scope["method"] == "POST" and kind in _SIMPLE and not scope["path"].startswith(_FILES):
            return _said(415, "Send JSON as application/json.")
        return None

    def _is_own_page(self, origin: str) -> bool:
        scheme, _, host = origin.partition("://")
        return scheme in ("http", "https") and _name_of(host) in self._own


def _name_of(host: str) -> str:
    """A host without its port; nothing where it is no plain one."""
    name, colon, port = host.rpartition(":") if not host.endswith("]") else (host, "", "")
    if not colon:
        name = host
    elif not (port.isascii() and port.isdigit()):
        return ""
    return name if not set(name) & set("@/\\?# ") and urlsplit(f"//{name}").netloc == name else ""


def _said(status: int, words: str) -> JSONResponse:
    return JSONResponse({"detail": words}, status)
