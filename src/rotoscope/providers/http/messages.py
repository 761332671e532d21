"""What is said on the wire, as frozen data: a request that somebody words and a reply that somebody reads."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Literal

__all__ = ["ECHO_BYTES", "MEDIA_BYTES", "REPLY_BYTES", "HttpCall", "Json", "Method", "Reply", "http_date"]

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
    """One request, worded but not sent. It never holds a key: the wire adds the provider's.

    At most one of `json`, `content`, `source`, `form` and `data_uris` is set. `source` is a file that is streamed
    from disk; `form` maps part names to (file name, file, content type); `data_uris` is sent as a JSON object whose
    members are lists of data URIs, made from (file, content type) when the request is sent. `span` is the part of
    `source` that is sent, as (first byte, at most this many bytes).
    `patience_seconds` is how long to wait for the reply to begin, where the usual time is too short.
    `max_reply_bytes` is how many bytes of a reply are read; it words nothing, so equal requests may differ in it.
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
        """The body as JSON in UTF-8, or None when it is not that, or is none that a provider would send.

        A short text can stand for a great many values, or for values so deep that what walks through them ends.
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
    return found if body.count(b"[") + body.count(b"{") <= _MAX_JSON_DEPTH or _is_flat(found) else None


def _is_flat(value: Json) -> bool:
    """Whether nothing in it lies too deep."""
    layer = [value]
    for _ in range(_MAX_JSON_DEPTH):
        inner = (one.values() if isinstance(one, dict) else one for one in layer if isinstance(one, dict | list))
        layer = [one for values in inner for one in values]
        if not layer:
            return True
    return False


def http_date(text: str) -> datetime | None:
    """The moment that a header names as HTTP writes dates (RFC 9110, section 5.6.7); None for anything else."""
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, IndexError, OverflowError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
