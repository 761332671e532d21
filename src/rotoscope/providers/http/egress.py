"""Which address may be connected to. Pure: it checks text and addresses, and never resolves or connects.

Every URL from a tool argument or from a provider's reply passes here, and every hop of a redirect:

1. the text holds no control, invisible or white-space character and no backslash;
2. it is an https URL without user info, on port 443 or 8443;
3. the host is a plain public DNS name or a canonical address;
4. all addresses that the name resolves to are public; then they are tried in turn, and no other.

Names and addresses have many spellings (decimal, octal, full-width, IPv4 inside IPv6). Hence the rules list what is
allowed, and the very address that was checked is the one that is connected to.
"""

import ipaddress
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from urllib.parse import SplitResult, quote, urljoin, urlsplit

from rotoscope.contracts.characters import is_invisible
from rotoscope.errors import UnsafeSource

__all__ = ["Target", "check_addresses", "check_url", "is_allowed_host", "is_public", "resolve_redirect", "split_url"]

_MAX_URL_CHARS = 8192
_MAX_HOST_CHARS = 253
_PORTS = (443, 8443)
_AUTHORITY = re.compile(r"(?P<host>\[[^\[\]]*\]|[^:\[\]]+)(?::(?P<port>[1-9][0-9]{0,4}))?")
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9_-]{0,61}[a-z0-9])?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_LOCAL_NAMES = frozenset(
    (  # RFC 6761, 6762, 7686, 8375, 9476, the draft on .internal; then what networks and their software use by habit
        "localhost", "local", "test", "invalid", "onion", "arpa", "alt", "internal",
        "localdomain", "lan", "home", "homenet", "corp", "mail", "intranet", "private",
        "workgroup", "domain", "svc", "cluster", "consul", "nomad", "docker", "kube", "i2p", "bit",
    )
)  # fmt: skip
"""Last labels that do not exist in the public DNS: a name below them is resolved by the local network.

Where a proxy connects for us, the addresses may never be seen here, so the name alone must be refused.
"""
_LOCAL_DOMAINS = (
    "metadata.goog",  # the metadata service of Google's cloud
    # Public names that resolve to an address written into them, or to this machine.
    "nip.io",
    "sslip.io",
    "xip.io",
    "localtest.me",
    "lvh.me",
    "vcap.me",
    "lacolhost.com",
)
_LOCAL_SUFFIXES = tuple(f".{name}" for name in _LOCAL_DOMAINS)
_SAFE_CHARS = "!$%&'()*+,/:;=?@[]|"

_BLOCKED_V4 = tuple(
    map(
        ipaddress.IPv4Network,
        (
            "0.0.0.0/8",  # this network
            "10.0.0.0/8",  # private
            "100.64.0.0/10",  # carrier-grade NAT; Alibaba metadata
            "127.0.0.0/8",  # loopback
            "168.63.129.16/32",  # Azure wire server: a public address of a private service
            "169.254.0.0/16",  # link local; cloud metadata
            "172.16.0.0/12",  # private
            "192.0.0.0/24",  # protocol assignments; Oracle metadata
            "192.0.2.0/24",  # documentation
            "192.31.196.0/24",  # AS112
            "192.52.193.0/24",  # AMT
            "192.88.99.0/24",  # 6to4 relay
            "192.168.0.0/16",  # private
            "192.175.48.0/24",  # AS112
            "198.18.0.0/15",  # benchmarks
            "198.51.100.0/24",  # documentation
            "203.0.113.0/24",  # documentation
            "224.0.0.0/4",  # multicast
            "240.0.0.0/4",  # reserved, broadcast
        ),
    ),
)

_BLOCKED_V6 = tuple(
    map(
        ipaddress.IPv6Network,
        (
            "::/128",  # unspecified
            "::1/128",  # loopback
            "100::/64",  # discard
            "100:0:0:1::/64",  # dummy
            "2001::/23",  # protocol assignments; with all of Teredo, 2001::/32
            "2001:db8::/32",  # documentation
            "3fff::/20",  # documentation
            "5f00::/16",  # segment routing
            "fc00::/7",  # unique local; cloud metadata
            "fe80::/10",  # link local
            "fec0::/10",  # site local
            "ff00::/8",  # multicast
        ),
    ),
)

_IPV4_SUFFIX_NETWORKS = tuple(
    map(
        ipaddress.IPv6Network,
        (
            "::/96",  # compatible
            "::ffff:0:0/96",  # mapped
            "::ffff:0:0:0/96",  # translated
            "64:ff9b::/96",  # NAT64
        ),
    ),
)
_LOCAL_NAT64 = ipaddress.IPv6Network("64:ff9b:1::/48")
_SIX_TO_FOUR = ipaddress.IPv6Network("2002::/16")
_ISATAP = 0x00005EFE  # the upper half of an interface id
_ISATAP_MASK = 0xFCFFFFFF  # without its two flags: globally unique, group


@dataclass(frozen=True, slots=True)
class Target:
    """A URL whose host may be resolved.

    Attributes:
        host: the name or address in ASCII and lower case, without brackets: for DNS, SNI and the certificate.
        port: 443 or 8443.
        url: the whole URL as it goes out: ASCII, without fragment.
    """

    host: str
    port: int
    url: str


def check_url(text: str) -> Target:
    """Check a URL by its text alone; nothing is resolved.

    Raises:
        UnsafeSource: `url_malformed`, `url_scheme`, or `url_blocked` for a port, a name or an address that is not
            allowed.
    """
    if len(text) > _MAX_URL_CHARS or any(map(_is_hidden, text)):
        raise _bad_url_error("The address is too long, or holds spaces, backslashes or invisible characters.")
    parts = split_url(text)
    if parts.scheme != "https":
        message = "Only https addresses are read."
        raise UnsafeSource(message, code="url_scheme", hint="Give an https:// URL or a local path.")
    authority = _AUTHORITY.fullmatch(parts.netloc)
    if authority is None or "@" in parts.netloc or "%" in parts.netloc:
        raise _bad_url_error("The host of the address is not well formed, or carries a user name.")
    port = int(authority["port"] or 443)
    if port not in _PORTS:
        raise _unsafe_url_error(f"Port {port} is not read; only 443 and 8443 are.")
    host = _parse_host(authority["host"])
    shown = f"[{host}]" if ":" in host else host
    place = quote(parts.path or "/", safe=_SAFE_CHARS) + ("?" + quote(parts.query, safe=_SAFE_CHARS)) * bool(
        parts.query
    )
    return Target(host, port, f"https://{shown}{'' if port == _PORTS[0] else f':{port}'}{place}")


def split_url(text: str) -> SplitResult:
    """The parts of a URL, not checked.

    Raises:
        UnsafeSource: `url_malformed`.
    """
    try:
        return urlsplit(text)
    except ValueError as error:
        raise _bad_url_error("The address is no well-formed URL.") from error


def resolve_redirect(url: str, location: str) -> str:
    """The target of a redirect, not checked.

    Raises:
        UnsafeSource: `url_malformed`.
    """
    try:
        return urljoin(url, location)
    except ValueError as error:
        raise _bad_url_error("The address leads to one that is no well-formed URL.") from error


def check_addresses(target: Target, addresses: Sequence[str]) -> tuple[str, ...]:
    """The addresses to connect to, in order, out of all that the target's name resolved to.

    The first is the resolver's choice; then the two families take turns (RFC 8305), because where one address of a
    family cannot be reached the others mostly cannot either.

    One address that is not public refuses the name: a name that points both outside and inside is an attack.

    Raises:
        UnsafeSource: `url_unreachable` when there is none, `url_blocked` when any of them is not public.
    """
    if not addresses:
        message = f"The host {target.host} was not found."
        raise UnsafeSource(message, code="url_unreachable", hint="Check the spelling of the address.")
    if not all(map(is_public, addresses)):
        raise _unsafe_url_error(f"The host {target.host} leads to an address that is not public.")
    distinct = dict.fromkeys(addresses)
    families = [[one for one in distinct if (":" in one) is version_6] for version_6 in (False, True)]
    families.sort(key=lambda family: addresses[0] not in family)
    return tuple(one for pair in zip_longest(*families) for one in pair if one is not None)


def is_public(address: str) -> bool:
    """Whether an IP address is public; False also for a text that is no canonical address, and for one with a scope."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(parsed, ipaddress.IPv4Address):
        return not any(parsed in network for network in _BLOCKED_V4)
    if parsed.scope_id is not None or any(parsed in network for network in _BLOCKED_V6):
        return False
    return not any(carried in network for carried in _ipv4_within(parsed) for network in _BLOCKED_V4)


def is_allowed_host(host: str, patterns: Sequence[str]) -> bool:
    """Whether a host is on a list: `*.example.com` stands for every name below example.com, all else for itself."""
    name = host.lower()
    below = (
        name.endswith(pattern[1:].lower()) and len(name) >= len(pattern) for pattern in patterns if pattern[:2] == "*."
    )
    return name in {pattern.lower() for pattern in patterns} or any(below)


def _parse_host(text: str) -> str:
    if text.startswith("["):
        return _parse_ipv6_host(text[1:-1].lower())
    name = _ascii_name(text)
    if _NUMBER.fullmatch(name.rpartition(".")[2]):
        return _parse_ipv4_host(name)
    labels = name.split(".")
    if len(name) > _MAX_HOST_CHARS or not all(map(_LABEL.fullmatch, labels)):
        raise _bad_url_error("The host of the address is no plain DNS name.")
    if len(labels) == 1 or labels[-1] in _LOCAL_NAMES or f".{name}".endswith(_LOCAL_SUFFIXES):
        raise _unsafe_url_error("Names of the local machine and the local network are not read.")
    return name


def _ascii_name(text: str) -> str:
    """The host name in ASCII.

    Raises:
        UnsafeSource: it is too long, or is written with characters that stand for others.
    """
    name = text.lower()
    if len(name) > _MAX_HOST_CHARS:
        raise _bad_url_error("The host of the address is too long.")
    if name.isascii():
        return name
    composed = unicodedata.normalize("NFC", name)
    try:
        encoded = composed.encode("idna")
        # Decoded again, because the codec accepts other dots and maps letters: the result may be another name.
        same = encoded.decode("idna") == composed == unicodedata.normalize("NFKC", name)
    except UnicodeError:
        same = False
    if not same:
        raise _bad_url_error("The host of the address is written with characters that stand for others.")
    return encoded.decode("ascii")


def _parse_ipv4_host(text: str) -> str:
    try:
        ipaddress.IPv4Address(text)
    except ValueError as error:
        raise _bad_url_error("The host of the address is a number, but not four plain decimal ones.") from error
    return _require_public(text)


def _parse_ipv6_host(text: str) -> str:
    try:
        parsed = ipaddress.IPv6Address(text)
    except ValueError as error:
        raise _bad_url_error("The host of the address is no IPv6 address.") from error
    # Python versions disagree on how a mapped IPv4 address is written.
    if parsed.ipv4_mapped is None and text != parsed.compressed:
        raise _bad_url_error("The IPv6 address is not written in its shortest form.")
    return _require_public(text)


def _require_public(address: str) -> str:
    if not is_public(address):
        raise _unsafe_url_error("Addresses that are not public are not read.")
    return address


def _ipv4_within(address: ipaddress.IPv6Address) -> Iterator[ipaddress.IPv4Address]:
    """Every IPv4 address that a gateway on the way might read out of an IPv6 address."""
    bits = int(address)
    if any(address in network for network in _IPV4_SUFFIX_NETWORKS):
        yield _low_ipv4(bits)
    if address in _SIX_TO_FOUR:
        yield _low_ipv4(bits >> 80)
    if bits >> 32 & _ISATAP_MASK == _ISATAP:
        yield _low_ipv4(bits)
    if address in _LOCAL_NAT64:
        # Which of the four layouts (RFC 6052) the gateway uses is not known. The first three skip bits 64 to 71.
        packed = address.packed
        yield from (_low_ipv4(int.from_bytes(packed[start:8] + packed[9 : start + 5])) for start in (6, 7, 8))
        yield _low_ipv4(bits)


def _low_ipv4(bits: int) -> ipaddress.IPv4Address:
    return ipaddress.IPv4Address(bits & 0xFFFFFFFF)


def _is_hidden(char: str) -> bool:
    """Whether a character must not be in a URL: white space, control, invisible, or a backslash."""
    if "!" <= char <= "~":
        return char == "\\"
    return char.isspace() or unicodedata.category(char)[0] == "C" or is_invisible(char)


def _bad_url_error(message: str) -> UnsafeSource:
    return UnsafeSource(message, code="url_malformed", hint="Give a plain https:// URL, as a browser shows it.")


def _unsafe_url_error(message: str) -> UnsafeSource:
    return UnsafeSource(message, code="url_blocked", hint="Give a public https:// URL or a local path.")
