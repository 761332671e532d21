"""Which ids and URLs out of a reply may be used in our next request."""

import re
from collections.abc import Iterable, Mapping
from urllib.parse import urlsplit

from rotoscope.providers.http.messages import Json

__all__ = ["PAGE_KEY", "page_url", "safe_id", "same_origin_urls", "strip_version", "web_url"]

# An id becomes part of a path, so it may hold nothing that a path or a query gives a meaning to.
_ID = re.compile(r"(?=.*[0-9A-Za-z])[0-9A-Za-z._:~-]{1,200}")
_URL = re.compile(r"https?://[!-~]{1,8000}", re.IGNORECASE)
_MAX_PAGE_CHARS = 500  # characters
PAGE_KEY = "web"
"""The name in a ticket's URLs under which the page of a run stands."""

_VERSION = re.compile(r"/v[0-9]+$")


def safe_id(value: Json) -> str | None:
    """The id, when it is one that can be asked about: a short text that is safe inside a path."""
    return value if isinstance(value, str) and _ID.fullmatch(value) else None


def strip_version(base: str) -> str:
    """A base URL without its closing slash and version.

    The official clients disagree on whether the base ends in `/v1` (replicate 1.0.7: no; replicate 2.x, the npm
    client and segmind: yes), and operators set it by the same variable; both mean the same here.
    """
    return _VERSION.sub("", base.rstrip("/"))


def same_origin_urls(named: Mapping[str, Json] | Mapping[str, str], names: Iterable[str], base: str) -> dict[str, str]:
    """Those of the named URLs that lie on the very origin of `base`; the others would carry the key elsewhere.

    The origin is compared as text up to the slash that ends it, so that no two URL parsers can differ about it.
    """
    parts = urlsplit(base)
    origin = f"{parts.scheme}://{parts.netloc}/".lower()
    urls = {name: named.get(name) for name in names}
    return {
        name: url
        for name, url in urls.items()
        if isinstance(url, str) and url.lower().startswith(origin) and _URL.fullmatch(url) and "#" not in url
    }


def page_url(value: Json, hosts: Iterable[str]) -> str | None:
    """The address of a page about a run, for a person: https, short, on one of some hosts. It is never asked for."""
    url = web_url(value)
    if url is None or len(url) > _MAX_PAGE_CHARS:
        return None
    parts = urlsplit(url)
    return url if parts.scheme == "https" and parts.netloc.lower() in set(hosts) else None


def web_url(value: Json) -> str | None:
    """The value when it is an http(s) URL, such as that of an uploaded file."""
    return value if isinstance(value, str) and _URL.fullmatch(value) else None
