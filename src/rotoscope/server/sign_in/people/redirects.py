"""Where a browser may be sent back to: which addresses a client may name, and how a request's is compared. Pure.

An https address, an http address of this machine (RFC 8252, section 7.3: any port, for the system chooses it), or one
with an app's own scheme (section 7.1). Never one that a browser itself would run or show.
"""

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from pydantic import AnyUrl, TypeAdapter, ValidationError

__all__ = ["BadRedirect", "RedirectTarget", "describe_redirect", "is_same_redirect", "parse_redirect"]

_MAX_CHARS = 1000  # characters of an address
_HOST = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,251}[a-z0-9])?|\[[0-9a-f:.]{2,45}\]")
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]{1,63}")
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})
# What a browser runs, shows or fetches itself, and what opens other programs on all machines: no app's own scheme.
_NO_APP = frozenset(
    (
        "about", "blob", "chrome", "chrome-extension", "content", "data", "devtools", "edge", "facetime", "feed",
        "file", "filesystem", "ftp", "ftps", "http", "intent", "jar", "javascript", "livescript", "mailto", "mhtml",
        "mocha", "moz-extension", "resource", "rtsp", "sftp", "shell", "sip", "sms", "smb", "ssh", "tel", "telnet",
        "vbscript", "view-source", "webcal", "ws", "wss", "wyciwyg",
    )
)  # fmt: skip
_NO_APP_PREFIXES = ("ms-", "search-ms", "search")  # settings, installers and searches of Windows
_ANY_URL = TypeAdapter(AnyUrl)


class BadRedirect(Exception):
    """An address that no browser is sent to; its text says why."""


@dataclass(frozen=True, slots=True)
class RedirectTarget:
    """Where an address leads, for a person and for a browser's rules.

    Attributes:
        words: for the consent page.
        source: what `form-action` of a Content-Security-Policy must name.
        is_local: whether any program on the person's own machine could be behind it.
    """

    words: str
    source: str
    is_local: bool


def parse_redirect(text: str) -> AnyUrl:
    """An address that a client names, if browsers may be sent to it.

    Raises:
        BadRedirect: they may not.
    """
    if len(text) > _MAX_CHARS or not text.isascii() or not text.isprintable() or " " in text or "\\" in text:
        raise BadRedirect("A redirect address has at most 1000 characters of plain ASCII.")
    try:
        url = _ANY_URL.validate_python(text)
    except ValidationError:
        raise BadRedirect("A redirect address is no URL.") from None
    if "#" in text or url.username is not None or url.password is not None:
        raise BadRedirect("A redirect address has no fragment and no user name.")
    if url.scheme in ("http", "https"):
        _check_web(url)
    elif _SCHEME.fullmatch(url.scheme) is None or url.scheme in _NO_APP or url.scheme.startswith(_NO_APP_PREFIXES):
        raise BadRedirect(f"A redirect address may not begin with {url.scheme[:40]}:.")
    return url


def _check_web(url: AnyUrl) -> None:
    host = url.host or ""
    if _HOST.fullmatch(host) is None:
        raise BadRedirect("The host of a redirect address is no plain name.")
    if url.scheme == "http" and host not in _LOOPBACK:
        raise BadRedirect("A redirect address begins with https, or with http for this machine alone.")


def is_same_redirect(known: AnyUrl, asked: AnyUrl) -> bool:
    """Whether a request's address is one that the client named: the same, but for the port on this machine."""
    if str(known) == str(asked):
        return True
    if known.scheme != "http" or known.host not in _LOOPBACK:
        return False
    return (known.scheme, known.host, known.path or "/", known.query) == (
        asked.scheme,
        asked.host,
        asked.path or "/",
        asked.query,
    )


def describe_redirect(url: AnyUrl) -> RedirectTarget:
    """Where an address leads."""
    if url.scheme not in ("http", "https"):
        return RedirectTarget(
            f"the app on your device that opens {url.scheme}: addresses", f"{url.scheme}:", is_local=True
        )
    host = url.host or ""
    if host in _LOOPBACK:
        # A policy cannot name an IPv6 address.
        source = "http:" if host.startswith("[") else f"{url.scheme}://{host}:{url.port}"
        return RedirectTarget(f"a program on this device ({urlsplit(str(url)).netloc})", source, is_local=True)
    port = "" if url.port in (None, 443) else f":{url.port}"
    return RedirectTarget(f"{host}{port}", f"https://{host}{port}", is_local=False)
