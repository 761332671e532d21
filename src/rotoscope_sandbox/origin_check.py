"""Which requests a sandbox that is served over sockets answers: those of programs, and of no page in a browser.

A page can point a name of its own at 127.0.0.1 (DNS rebinding) and then read what is served there; and without any such
trick it can post plain text to it. So the `Host` must be this machine's or a provider's own, which clients reach
through a proxy and which no page can own; the `Origin` that browsers send must be this machine; and JSON must be
declared as JSON.
"""

from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = ["OriginCheck"]

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
"""What a page may post anywhere without a preflight request (the Fetch standard)."""
_UPLOAD_PATHS = ("/files", "/v1/files", "/storage")


class OriginCheck:
    """A middleware before the sandbox that refuses what no program of this machine would send.

    Args:
        app: the sandbox.
        hosts: more names that it answers to.
    """

    def __init__(self, app: ASGIApp, hosts: Iterable[str] = ()) -> None:
        self._app = app
        self._hosts = _LOOPBACK | {host.lower() for host in hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 421, 403 or 415, or let the request through."""
        refusal = self._refusal(scope) if scope["type"] == "http" else None
        await (refusal or self._app)(scope, receive, send)

    def _refusal(self, scope: Scope) -> JSONResponse | None:
        headers = [(name.lower(), value.decode("latin-1").strip().lower()) for name, value in scope["headers"]]
        hosts = [value for name, value in headers if name == b"host"]
        if len(hosts) != 1 or _host_name(hosts[0]) not in self._hosts | _PROVIDERS:
            return _error_response(421, "This sandbox answers to the names of its own machine only.")
        if not all(self._is_own_page(value) for name, value in headers if name == b"origin"):
            return _error_response(403, "This sandbox answers no pages of other places.")
        kind = next((value.partition(";")[0].strip() for name, value in headers if name == b"content-type"), "")
        if scope["method"] == "POST" and kind in _SIMPLE and not scope["path"].startswith(_UPLOAD_PATHS):
            return _error_response(415, "Send JSON as application/json.")
        return None

    def _is_own_page(self, origin: str) -> bool:
        scheme, _, host = origin.partition("://")
        return scheme in ("http", "https") and _host_name(host) in self._hosts


def _host_name(host: str) -> str:
    """A host without its port; nothing where it is no plain one."""
    name, colon, port = host.rpartition(":") if not host.endswith("]") else (host, "", "")
    if not colon:
        name = host
    elif not (port.isascii() and port.isdigit()):
        return ""
    return name if not set(name) & set("@/\\?# ") and urlsplit(f"//{name}").netloc == name else ""


def _error_response(status: int, text: str) -> JSONResponse:
    return JSONResponse({"detail": text}, status)
