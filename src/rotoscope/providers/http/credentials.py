"""Keys blotted out of what a provider says, however it writes them: what repeats a key goes no further than the wire.

A key is looked for as it will be once the text is read: as it is, escaped for JSON (also inside JSON that is a string
of JSON), for an URL or for HTML, with characters between that are drawn as nothing, as base64 or as hexadecimal digits.

What the wire is told of providers: their doors, and how long their replies are waited for.
"""

import base64
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

__all__ = ["ProviderAccess", "ReplyTimeouts", "redact_headers", "redact_key"]

_MIN_KEY_CHARS = 8  # characters; a shorter key is the sandbox's, and an ordinary word
_REPLACEMENT = b"[key]"
_PIECE_BYTES, _MAX_MATCH_BYTES = 256 * 1024, 16 * 1024  # bytes
# What a cleaner of texts would take away, so that what stood around it would become the key.
_INVISIBLE = (
    rb"(?:\\{1,4}u(?:00[01]|200|202|206|fe0|feff|00ad)[0-9a-f]?|[\x00-\x1f\x7f]|\xc2\xad|\xe2\x80[\x8b-\x8f\xaa-\xae]"
    rb"|\xe2\x81[\xa0-\xaf]|\xef\xbb\xbf|\xef\xb8[\x80-\x8f]|\xf3\xa0[\x80-\x87][\x80-\xbf])*"
)
# Without any of these a text holds nothing but itself.
_ESCAPE_HINT = re.compile(
    rb"\\u(?:00[0-7]|00ad|20|f[ef])|\\/|%[2-7]|&#|[\x00-\x08\x0e-\x1f\x7f]|\xc2\xad|\xe2[\x80\x81]|\xef|\xf3",
    re.IGNORECASE,
)


def redact_key(content: bytes, key: str) -> bytes:
    """The same bytes with a key, and each half of one in two parts, blotted out."""
    if len(key) < _MIN_KEY_CHARS:
        return content
    for form in _literal_forms(key):
        content = content.replace(form, _REPLACEMENT)
    if _ESCAPE_HINT.search(content):
        for pattern in _escape_patterns(key):
            content = b"".join(_remove_matches(pattern, content))
    return content


def _remove_matches(pattern: re.Pattern[bytes], content: bytes) -> Iterator[bytes]:
    """A content without what matches. It is looked through in pieces, between which other threads run."""
    at = 0
    while at < len(content):
        end = at + _PIECE_BYTES
        found = pattern.search(content, at, end)
        if found is not None:
            yield from (content[at : found.start()], _REPLACEMENT)
            at = found.end()
        else:
            on = len(content) if end >= len(content) else end - _MAX_MATCH_BYTES
            yield content[at:on]
            at = on


def redact_headers(headers: Mapping[str, str], key: str) -> dict[str, str]:
    """The headers of a reply, their values blotted."""
    return {name: redact_key(value.encode(errors="replace"), key).decode() for name, value in headers.items()}


@lru_cache(maxsize=16)
def _literal_forms(key: str) -> tuple[bytes, ...]:
    """What stands for a key as it is, the longest first."""
    found = {form for secret in _secret_parts(key) for form in _encodings(secret.encode())}
    return tuple(sorted(found, key=len, reverse=True))


@lru_cache(maxsize=16)
def _escape_patterns(key: str) -> tuple[re.Pattern[bytes], ...]:
    """A key with any of its characters escaped."""
    secrets = sorted(_secret_parts(key), key=len, reverse=True)
    return tuple(re.compile(_secret_pattern(secret.encode()), re.IGNORECASE) for secret in secrets)


def _secret_parts(key: str) -> Iterator[str]:
    """The key of fal is an id and a secret: each is looked for alone too."""
    yield key
    yield from (half for half in key.split(":") if len(half) >= _MIN_KEY_CHARS and half != key)


def _encodings(secret: bytes) -> Iterator[bytes]:
    yield secret
    yield secret.hex().encode()
    yield secret.hex().upper().encode()
    for before in range(3):
        # Inside longer base64 it may begin at any of three places; the digits that its neighbours share are left out.
        whole = base64.b64encode(b"\0" * before + secret)
        first, last = -(-before * 4 // 3), (before + len(secret)) * 4 // 3
        yield whole[first:last]
        yield whole[first:last].replace(b"+", b"-").replace(b"/", b"_")


def _secret_pattern(secret: bytes) -> bytes:
    """A secret with any of its characters written in any way.

    It begins with a plain set of bytes, because everything that is no beginning is then passed over at once.
    """
    first, rest = secret[:1], secret[1:]
    others = (re.escape(first), rb"\\", b"%", b"&")
    ways = (b"", rb"\\{0,3}%b" % _ESCAPES["json"](first[0]), _ESCAPES["url"](first[0]), _ESCAPES["html"](first[0]))
    begins = b"|".join(b"(?<=%b)%b" % pair for pair in zip(others, ways, strict=True))
    return _INVISIBLE.join((b"[%b](?:%b)" % (b"".join(others), begins), *map(_char_pattern, rest)))


def _char_pattern(code: int) -> bytes:
    """One character: itself, or as JSON, an URL or HTML would write it."""
    ways = (_ESCAPES["json"](code), _ESCAPES["url"](code), _ESCAPES["html"](code))
    return rb"(?:%b|\\{1,4}%b|%%%b|&%b)" % (re.escape(bytes([code])), *ways)


# What follows on a backslash, a percent sign and an ampersand. The runs are bounded, so that no text takes long.
_ESCAPES: Mapping[str, Callable[[int], bytes]] = {
    "json": lambda code: rb"(?:u00%02x%b)" % (code, b"|/" if code == ord("/") else b""),
    "url": lambda code: rb"(?:25){0,4}%02x" % code,
    "html": lambda code: rb"#(?:0{0,8}%d|x0{0,8}%02x);" % (code, code),
}


@dataclass(frozen=True, slots=True)
class ProviderAccess:
    """What the wire must know of a provider.

    Attributes:
        header, prefix: the header that carries its key, and what stands before the key in it.
        output_hosts: where its outputs may come from; `*.` means every name below.
        upload_hosts: where files may be brought that its replies name an address for.
        key_origins: the origins that the key may go to; empty: wherever a request with the key is worded for.
        trusted: hosts (`name` or `name:port`) that the operator named for it; they may be http and private.
    """

    header: str
    prefix: str
    key: str = field(repr=False)
    output_hosts: tuple[str, ...] = ()
    upload_hosts: tuple[str, ...] = ()
    key_origins: frozenset[str] = frozenset()
    trusted: frozenset[str] = frozenset()

    @property
    def headers(self) -> dict[str, str]:
        """The header that carries the key."""
        return {self.header: self.prefix + self.key}

    def redact(self, content: bytes) -> bytes:
        """The same bytes with the key blotted out: a provider may repeat it, and it goes no further than this."""
        return redact_key(content, self.key)


@dataclass(frozen=True, slots=True)
class ReplyTimeouts:
    """How long a reply is waited for, in seconds: to what may change something, to a question, and at the most."""

    submit: float = 30.0
    ask: float = 10.0
    maximum: float = 3600.0
