"""What goes over the wire, as frozen data: a request, a reply, and which ids and URLs of a reply may be used. Pure.

A dialect builds `HttpCall` and reads `Reply`; only `http.client` sends and receives. What a reply contains is foreign:
an id or a URL out of it goes into our next request (which may carry the key) only through the checks in this module.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

__all__ = [
    "ECHO_BYTES",
    "MEDIA_BYTES",
    "PAGE_KEY",
    "REPLY_BYTES",
    "HttpCall",
    "Json",
    "Method",
    "Reply",
    "http_date",
    "measure_depth",
    "page_url",
    "safe_id",
    "same_origin_urls",
    "strip_version",
    "versioned_base",
    "web_url",
]

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]
"""Any value that JSON can hold."""

REPLY_BYTES = 2 * 1024 * 1024
"""Bytes; a status, a ticket or a result that names its files is far smaller."""

ECHO_BYTES = 16 * 1024 * 1024
"""Bytes of a reply that repeats what was sent, files inside it too, or lists a hundred such."""

MEDIA_BYTES = 64 * 1024 * 1024
"""Bytes of a reply that is the result itself."""

_MAX_JSON_ITEMS, _MAX_JSON_DEPTH = 500_000, 100

Method = Literal["GET", "POST", "PUT", "DELETE"]


@dataclass(frozen=True, slots=True)
class HttpCall:
    """One request, built but not sent. It never holds a key: the wire adds the provider's where `with_key` is set.

    At most one of `json`, `content`, `source`, `form` and `data_uris` is set. `source` is a file that is streamed
    from disk; `form` maps part names to (file name, file, content type); `data_uris` is sent as a JSON object whose
    members are lists of data URIs, made from (file, content type) when the request is sent. `span` is the part of
    `source` that is sent, as (first byte, at most this many bytes).
    `patience_seconds` is how long to wait for the reply to begin, where the usual time is too short.
    `max_reply_bytes` is how many bytes of a reply are read; it is no part of the request, so it is not compared.
    """

    method: Method
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    json: Json = None
    content: bytes | None = None
    source: Path | None = None
    span: tuple[int, int] | None = None
    form: Mapping[str, tuple[str, Path, str]] | None = None
    with_key: bool = True
    data_uris: Mapping[str, tuple[tuple[Path, str], ...]] | None = None
    patience_seconds: float | None = None
    max_reply_bytes: int = field(default=REPLY_BYTES, compare=False)


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer, whole. `headers` has lower-case names."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    _json_cache: list[Json] = field(default_factory=list, init=False, repr=False, compare=False)

    @property
    def is_success(self) -> bool:
        """Whether the status is a 2xx."""
        return 200 <= self.status < 300  # noqa: PLR2004 - the range is the definition of a 2xx

    @property
    def content_type(self) -> str:
        """The media type alone, in lower case, without parameters."""
        return self.headers.get("content-type", "").split(";")[0].strip().lower()

    def json(self) -> Json:
        """The body as JSON in UTF-8; None when it is no JSON, or has more values or levels than a provider would send.

        A short text can hold a great many values, or values nested so deep that code that walks them fails.
        """
        if not self._json_cache:
            self._json_cache.append(_parse_json(self.body))
        return self._json_cache[0]

    def fields(self) -> dict[str, Json]:
        """The body's top-level JSON object; empty when the body is anything else."""
        parsed = self.json()
        return parsed if isinstance(parsed, dict) else {}


def _parse_json(body: bytes) -> Json:
    if body.count(b",") > _MAX_JSON_ITEMS or body.count(b"[") + body.count(b"{") > _MAX_JSON_ITEMS:
        return None
    try:
        found: Json = json.loads(body.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return None
    if body.count(b"[") + body.count(b"{") <= _MAX_JSON_DEPTH:
        return found
    return found if measure_depth(found, _MAX_JSON_DEPTH + 1) <= _MAX_JSON_DEPTH else None


def measure_depth(value: Json, limit: int) -> int:
    """How many levels of lists and objects a value has, counted to `limit`; 0 for a plain one."""
    layer = [value]
    for depth in range(limit):
        holders = [one for one in layer if isinstance(one, dict | list)]
        if not holders:
            return depth
        inner = (one.values() if isinstance(one, dict) else one for one in holders)
        layer = [one for values in inner for one in values]
    return limit


def http_date(text: str) -> datetime | None:
    """The time in a header, in the date format of HTTP (RFC 9110, section 5.6.7); None for anything else."""
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, IndexError, OverflowError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


# An id becomes part of a path, so it may hold no character that has a meaning in a path or a query.
_ID = re.compile(r"(?=.*[0-9A-Za-z])[0-9A-Za-z._:~-]{1,200}")
_URL = re.compile(r"https?://[!-~]{1,8000}", re.IGNORECASE)
_MAX_PAGE_CHARS = 500  # characters
PAGE_KEY = "web"
"""The key in a ticket's URLs under which the web page of a run stands."""

_VERSION = re.compile(r"/v[0-9]+$")


def safe_id(value: Json) -> str | None:
    """The value when it is an id that can be asked about, a short text that is safe inside a path; else None."""
    return value if isinstance(value, str) and _ID.fullmatch(value) else None


def strip_version(base: str) -> str:
    """A base URL without its closing slash and version.

    The official clients disagree on whether the base ends in `/v1` (replicate 1.0.7: no; replicate 2.x, the npm
    client and segmind: yes), and operators set it by the same variable; both mean the same here.
    """
    return _VERSION.sub("", base.rstrip("/"))


def versioned_base(base: str, version_path: str | None = None) -> str:
    """A base URL with the version of Replicate's API where it belongs, without a closing slash.

    Args:
        base: the base URL.
        version_path: what the provider's record says: the version that the base ends in, added where it does not; empty
            where the base is whole as it is. None: `/v1`, as written where the path of the base names one anywhere.

    Resellers keep Replicate's paths below one of their own (`https://host/replicate/v1`), and operators leave the end
    out, or not. Cloudflare's AI Gateway stands for all of `https://api.replicate.com/v1` and has its own version before
    (`https://gateway.ai.cloudflare.com/v1/ACCOUNT/GATEWAY/replicate`): no second one may follow.
    """
    if version_path is not None:
        written = base.rstrip("/")
        return written if written.endswith(version_path) else f"{written}{version_path}"
    plain = strip_version(base)
    return plain if "v1" in urlsplit(plain).path.split("/") else f"{plain}/v1"


def same_origin_urls(named: Mapping[str, Json] | Mapping[str, str], names: Iterable[str], base: str) -> dict[str, str]:
    """Those of the named URLs that are on the very origin of `base`; a request to another would send the key elsewhere.

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
    """The value when it is the https URL of a page on one of some hosts, to show to a person; it is never requested."""
    url = web_url(value)
    if url is None or len(url) > _MAX_PAGE_CHARS:
        return None
    parts = urlsplit(url)
    return url if parts.scheme == "https" and parts.netloc.lower() in set(hosts) else None


def web_url(value: Json) -> str | None:
    """The value when it is an http(s) URL, such as that of an uploaded file; else None."""
    return value if isinstance(value, str) and _URL.fullmatch(value) else None
