"""The guard of keys and addresses: where a request may go, with which key, and that no key comes back in a reply.

Every address that is not a provider's own passes here: an output, each hop of a redirect, an upload address that a
reply names, a URL that a user gives. Those go over https, without a key, to hosts on the provider's lists, and to the
very addresses that were checked. What the operator has set as the base URL of one provider is trusted for that
provider alone; what stands in for all of them (the sandbox), for all.

A provider may repeat the key in a reply, so the key is redacted from every reply before anything else reads it. It is
looked for as it will be once the text is read: as it is, escaped for JSON (also inside JSON that is a string of JSON),
for a URL or for HTML, with invisible characters in between, as base64 or as hexadecimal digits.
"""

import base64
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import anyio
import anyio.to_thread

from rotoscope.errors import OutputLost, ProviderError, Unreachable, UnsafeSource
from rotoscope.providers.http.egress import Target, check_addresses, check_url, is_allowed_host, split_url
from rotoscope.providers.http.messages import HttpCall, Reply
from rotoscope.providers.http.proxies import ProxySettings

__all__ = [
    "Destination",
    "EgressGuard",
    "ProviderAccess",
    "ReplyTimeouts",
    "Resolve",
    "connect_timeouts",
    "origin_of",
    "redact_key",
    "redact_reply",
]

RESOLVE_SECONDS = 5.0
_MAX_SHOWN_CHARS = 100  # characters
Resolve = Callable[[str, int], Awaitable[Sequence[str]]]

_MIN_KEY_CHARS = 8  # characters; a shorter key is the sandbox's, and an ordinary word
_REPLACEMENT = b"[key]"
_LARGE_REPLY_BYTES = 256 * 1024
_KNOWN_KEYS = 256  # whose forms are kept: where principals have keys of their own there are many
_PIECE_BYTES, _MAX_MATCH_BYTES = 256 * 1024, 16 * 1024  # bytes
# Characters that our text cleaning removes: the characters around them would then join and become the key.
_INVISIBLE = (
    rb"(?:\\{1,4}u(?:00[01]|200|202|206|fe0|feff|00ad)[0-9a-f]?|[\x00-\x1f\x7f]|\xc2\xad|\xe2\x80[\x8b-\x8f\xaa-\xae]"
    rb"|\xe2\x81[\xa0-\xaf]|\xef\xbb\xbf|\xef\xb8[\x80-\x8f]|\xf3\xa0[\x80-\x87][\x80-\xbf])*"
)
# A text without any of these holds no escaped characters, so a search for the plain forms is enough.
_ESCAPE_HINT = re.compile(
    rb"\\u(?:00[0-7]|00ad|20|f[ef])|\\/|%[2-7]|&#|[\x00-\x08\x0e-\x1f\x7f]|\xc2\xad|\xe2[\x80\x81]|\xef|\xf3",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class ProviderAccess:
    """What the wire must know of one provider.

    Attributes:
        header, prefix: the header that carries its key, and what stands before the key in it.
        more_headers: the headers that go wherever the key goes, such as a gateway's own key.
        secrets: what in those headers is a key, and is redacted like it.
        output_hosts: where its outputs may come from; `*.` means every name below.
        upload_hosts: where files may be brought that its replies name an address for.
        key_origins: the origins that the key may go to; empty: wherever the dialect addresses a request with the key.
        trusted: hosts (`name` or `name:port`) that the operator named for it; they may be http and private.
    """

    header: str
    prefix: str
    key: str = field(repr=False)
    output_hosts: tuple[str, ...] = ()
    upload_hosts: tuple[str, ...] = ()
    key_origins: frozenset[str] = frozenset()
    trusted: frozenset[str] = frozenset()
    more_headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)

    def with_key(self, key: str | None) -> "ProviderAccess":
        """The same with another key; None: as it is."""
        return self if key is None else replace(self, key=key)

    @property
    def headers(self) -> dict[str, str]:
        """The header that carries the key, and those that go with it."""
        return {**self.more_headers, self.header: self.prefix + self.key}

    def redact(self, content: bytes) -> bytes:
        """The same bytes with every key replaced by `[key]`."""
        for key in (self.key, *self.secrets):
            content = redact_key(content, key)
        return content

    def redact_headers(self, headers: Mapping[str, str]) -> dict[str, str]:
        """The headers of a reply, with every key redacted in their values."""
        return {name: self.redact(value.encode(errors="replace")).decode() for name, value in headers.items()}


@dataclass(frozen=True, slots=True)
class ReplyTimeouts:
    """How long to wait for a reply, in seconds: to a GET (`ask`), to other requests, and at most if a call sets it."""

    submit: float = 30.0
    ask: float = 10.0
    maximum: float = 3600.0


@dataclass(frozen=True, slots=True)
class Destination:
    """One way to send a request: to a name, or to one checked address, with the name in Host and in TLS."""

    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    extensions: Mapping[str, Any] = field(default_factory=dict)


class EgressGuard:
    """Decides where requests may go.

    Args:
        access: what is known of each provider, by name.
        trusted: hosts (`name` or `name:port`) that stand in for every provider; they may be http and private.
        resolve: finds the addresses of a host.
        proxies: through which proxies requests go.
    """

    def __init__(
        self, access: Mapping[str, ProviderAccess], trusted: frozenset[str], resolve: Resolve, proxies: ProxySettings
    ) -> None:
        self._access = access
        self._trusted = trusted
        self._resolve = resolve
        self._proxies = proxies

    def is_trusted(self, provider: str, url: str) -> bool:
        """Whether a URL is on a host that the operator named for this provider; never where `provider` is empty."""
        access, parts = self._access.get(provider), urlsplit(url)
        known = access is not None and parts.netloc.lower() in self._trusted | access.trusted
        return known and parts.scheme in ("http", "https")

    async def call_destinations(self, provider: str, call: HttpCall) -> Sequence[Destination]:
        """Where a request to a provider may go: to its own bases as it is; anywhere else without its key, and checked.

        Raises:
            Unreachable: it would carry the key elsewhere; nothing was sent.
            ProviderError: a reply named its address, and that address is not allowed; nothing was sent.
        """
        access = self._access[provider]
        if (
            self.is_trusted(provider, call.url)
            or origin_of(call.url) in access.key_origins
            or (call.with_key and not access.key_origins)
        ):
            return (Destination(call.url),)
        if call.with_key:
            raise Unreachable(
                f"The key of {provider} goes to its own hosts only; nothing was sent.",
                hint="Report this as a defect of rotoscope.",
            )
        return await self._storage_destinations(provider, call.url)

    def check_redirect(self, provider: str, url: str) -> None:
        """Check the target of a redirect; the operator's hosts are trusted for what they serve themselves only.

        Raises:
            OutputLost: an output of a provider would be fetched from a host that is not known to be its own.
            UnsafeSource: the address is not allowed.
        """
        check_url(url)
        if provider:
            self.check_output(provider, url)

    def check_output(self, provider: str, url: str) -> None:
        """Check that an output is on a host that is known to be the provider's.

        Raises:
            OutputLost: it is on another host.
            UnsafeSource: it is no well-formed URL.
        """
        host = split_url(url).hostname or ""
        if not self.is_trusted(provider, url) and not is_allowed_host(host, self._access[provider].output_hosts):
            raise OutputLost(
                f"The result of {provider} is on a host that is not known to be its own: {host[:_MAX_SHOWN_CHARS]}.",
                hint="Add the host to output_hosts in a providers.toml of yours if it is right.",
                code="output_blocked",
            )

    async def public_destinations(self, url: str) -> Sequence[Destination]:
        """The destinations for a public URL: the very addresses that were checked, the best first.

        A proxy connects for us, and by name, so there the name is checked: with its addresses where they can be
        resolved here, and without them where only the proxy can resolve them.

        Raises:
            UnsafeSource: the address is not allowed.
        """
        target = check_url(url)
        addresses = await self._resolve_addresses(target)
        proxied = self._proxies.proxy_for(target.url) is not None
        if proxied and not addresses:
            return (Destination(target.url),)
        checked = check_addresses(target, addresses)
        return (Destination(target.url),) if proxied else tuple(_destination(target, address) for address in checked)

    async def _storage_destinations(self, provider: str, url: str) -> Sequence[Destination]:
        try:
            host = check_url(url).host
            if is_allowed_host(host, self._access[provider].upload_hosts):
                return await self.public_destinations(url)
        except UnsafeSource as error:
            if error.code == "url_unreachable":
                raise Unreachable("The provider's storage could not be reached.", hint="Try again later.") from error
            raise ProviderError(
                f"{provider} named an address for the file that is not used: {error.message}",
                hint="Nothing was sent there. Give the file as a public https URL instead.",
                code=error.code,
            ) from error
        raise ProviderError(
            f"{provider} named a host for the file that is not known to be its own: {host[:_MAX_SHOWN_CHARS]}.",
            hint="Nothing was sent there. Add the host to upload_hosts in a providers.toml of yours if it is right, or "
            "give the file as a public https URL.",
            code="url_blocked",
        )

    async def _resolve_addresses(self, target: Target) -> Sequence[str]:
        try:
            with anyio.fail_after(RESOLVE_SECONDS):
                return await self._resolve(target.host, target.port)
        except OSError:  # a TimeoutError is one
            return []


def connect_timeouts(seconds: float, attempts: int) -> Sequence[float]:
    """How many seconds each of several addresses is tried, within one budget: each but the last has half of the rest.

    A network whose IPv6 leads nowhere does not say so: an address that does not answer must leave time for the next.
    """
    shares = [seconds / 2**n for n in range(1, attempts)]
    return [*shares, seconds - sum(shares)]


def _destination(target: Target, address: str) -> Destination:
    parts = urlsplit(target.url)
    literal = f"[{address}]" if ":" in address else address
    url = urlunsplit(parts._replace(netloc=f"{literal}:{target.port}", fragment=""))
    return Destination(url, {"Host": parts.netloc}, {"sni_hostname": target.host})


def origin_of(url: str) -> str:
    """The origin of a URL, as the text up to the slash that ends it: no two URL parsers can differ about that."""
    scheme, separator, rest = url.partition("://")
    return f"{scheme}{separator}{rest.partition('/')[0]}".lower()


async def redact_reply(access: ProviderAccess, reply: Reply) -> Reply:
    """A reply without any key; a long one is looked through in a thread."""
    if len(reply.body) <= _LARGE_REPLY_BYTES:
        body = access.redact(reply.body)
    else:
        body = await anyio.to_thread.run_sync(access.redact, reply.body)
    return Reply(reply.status, access.redact_headers(reply.headers), body)


def redact_key(content: bytes, key: str) -> bytes:
    """The same bytes with a key, and each half of a key in two parts, replaced by `[key]`."""
    if len(key) < _MIN_KEY_CHARS:
        return content
    for form in _literal_forms(key):
        content = content.replace(form, _REPLACEMENT)
    if _ESCAPE_HINT.search(content):
        for pattern in _escape_patterns(key):
            content = b"".join(_remove_matches(pattern, content))
    return content


def _remove_matches(pattern: re.Pattern[bytes], content: bytes) -> Iterator[bytes]:
    """The chunks of a content with every match replaced, searched in pieces so that other threads can run between."""
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


@lru_cache(maxsize=_KNOWN_KEYS)
def _literal_forms(key: str) -> tuple[bytes, ...]:
    """The byte strings that spell a key without escapes, the longest first."""
    found = {form for secret in _secret_parts(key) for form in _encodings(secret.encode())}
    return tuple(sorted(found, key=len, reverse=True))


@lru_cache(maxsize=_KNOWN_KEYS)
def _escape_patterns(key: str) -> tuple[re.Pattern[bytes], ...]:
    """Patterns for a key with any of its characters escaped."""
    secrets = sorted(_secret_parts(key), key=len, reverse=True)
    return tuple(re.compile(_secret_pattern(secret.encode()), re.IGNORECASE) for secret in secrets)


def _secret_parts(key: str) -> Iterator[str]:
    """The key, and its halves: fal's key is an id and a secret, and each could be repeated alone."""
    yield key
    yield from (half for half in key.split(":") if len(half) >= _MIN_KEY_CHARS and half != key)


def _encodings(secret: bytes) -> Iterator[bytes]:
    yield secret
    yield secret.hex().encode()
    yield secret.hex().upper().encode()
    for before in range(3):
        # Inside longer base64 it may begin at any of three offsets; digits shared with its neighbours are left out.
        whole = base64.b64encode(b"\0" * before + secret)
        first, last = -(-before * 4 // 3), (before + len(secret)) * 4 // 3
        yield whole[first:last]
        yield whole[first:last].replace(b"+", b"-").replace(b"/", b"_")


def _secret_pattern(secret: bytes) -> bytes:
    """A secret with each of its characters written in any way.

    The pattern begins with a plain set of bytes, so that the search skips everything else quickly.
    """
    first, rest = secret[:1], secret[1:]
    others = (re.escape(first), rb"\\", b"%", b"&")
    ways = (b"", rb"\\{0,3}%b" % _ESCAPES["json"](first[0]), _ESCAPES["url"](first[0]), _ESCAPES["html"](first[0]))
    begins = b"|".join(b"(?<=%b)%b" % pair for pair in zip(others, ways, strict=True))
    return _INVISIBLE.join((b"[%b](?:%b)" % (b"".join(others), begins), *map(_char_pattern, rest)))


def _char_pattern(code: int) -> bytes:
    """One character: itself, or as JSON, a URL or HTML would write it."""
    ways = (_ESCAPES["json"](code), _ESCAPES["url"](code), _ESCAPES["html"](code))
    return rb"(?:%b|\\{1,4}%b|%%%b|&%b)" % (re.escape(bytes([code])), *ways)


# What follows a backslash, a percent sign and an ampersand. The repetitions are bounded, so that no text takes long.
_ESCAPES: Mapping[str, Callable[[int], bytes]] = {
    "json": lambda code: rb"(?:u00%02x%b)" % (code, b"|/" if code == ord("/") else b""),
    "url": lambda code: rb"(?:25){0,4}%02x" % code,
    "html": lambda code: rb"#(?:0{0,8}%d|x0{0,8}%02x);" % (code, code),
}
