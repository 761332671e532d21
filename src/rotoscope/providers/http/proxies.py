"""The proxies and certificates from the environment, and the resolver.

They are read once and used for every request of the process, paying requests as well as downloads: a result must be
fetchable by the way on which its run was paid for. A value that cannot be used is refused by the name of its variable
before anything is opened, because later it would fail in the middle of a request. The system's own proxy settings
(Windows, macOS) are not read, only the environment.
"""

import ipaddress
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

import anyio

from rotoscope.errors import InvalidInput

__all__ = ["ProxySettings", "read_proxy_settings", "resolve_host"]

_SCHEMES = ("http", "https")
_SOCKS_SCHEMES = ("socks5", "socks5h")
_HOST = re.compile(r"[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?\.?")
_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class ProxySettings:
    """The proxies and certificates of every request.

    Attributes:
        proxies: the URL of the proxy for http and for https addresses; never shown, it may hold a password.
        no_proxy: what `NO_PROXY` lists, in lower case: names with all below them, addresses, networks, each perhaps
            with a port, or `*`.
        certificates, certificate_folder: the operator's certificate authorities; None means the usual ones.
    """

    proxies: Mapping[str, str] = field(default_factory=dict, repr=False)
    no_proxy: tuple[str, ...] = ()
    certificates: str | None = None
    certificate_folder: str | None = None

    def proxy_for(self, url: str) -> str | None:
        """The URL of the proxy that a request to this address goes through, or None."""
        parts = urlsplit(url)
        proxy = self.proxies.get(parts.scheme)
        return None if proxy is None or any(_is_no_proxy_match(entry, parts) for entry in self.no_proxy) else proxy


def read_proxy_settings(
    variables: Mapping[str, str], has_socks: Callable[[], bool] = lambda: find_spec("socksio") is not None
) -> ProxySettings:
    """Read and check the variables of an environment. The files that they name are opened; nothing is connected to.

    Args:
        variables: the environment.
        has_socks: whether SOCKS proxies can be used; httpx needs the package socksio for them.

    Raises:
        InvalidInput: a variable cannot be used; the message names it, and never shows its value.
    """
    proxies = {}
    for scheme in _SCHEMES:
        name, value = _first_variable(variables, f"{scheme}_proxy", "all_proxy")
        if value:
            proxies[scheme] = _parse_proxy(name, value, has_socks)
    certificates, folder = variables.get("SSL_CERT_FILE") or None, variables.get("SSL_CERT_DIR") or None
    if certificates is not None:
        _check_certificates(certificates)
    elif folder is not None and not any(Path(one).is_dir() for one in folder.split(os.pathsep)):
        raise _variable_error("SSL_CERT_DIR", "names no folder that exists")
    _check_key_log(variables.get("SSLKEYLOGFILE", ""))
    direct = _first_variable(variables, "no_proxy")[1].lower().split(",")
    return ProxySettings(proxies, tuple(one.strip() for one in direct if one.strip()), certificates, folder)


async def resolve_host(host: str, port: int) -> Sequence[str]:
    """Every address of a host name, as the system's resolver gives them."""
    found = await anyio.getaddrinfo(host, port, type=1)
    return [str(entry[4][0]) for entry in found]


def _first_variable(variables: Mapping[str, str], *names: str) -> tuple[str, str]:
    """The first of some variables that is set, as (name, value). A lower-case spelling wins, even where it is empty."""
    for name in names:
        spelling = name if name in variables else name.upper()
        value = variables.get(spelling, "").strip()
        if value:
            return spelling, value
    return "", ""


def _parse_proxy(name: str, value: str, has_socks: Callable[[], bool]) -> str:
    text = value if "://" in value else f"http://{value}"
    try:
        parts = urlsplit(text)
        host, port = (parts.hostname or "").lower(), parts.port
    except ValueError:
        raise _variable_error(name, "holds no well-formed URL of a proxy") from None
    if parts.scheme not in (*_SCHEMES, *_SOCKS_SCHEMES):
        raise _variable_error(name, "must begin with http://, https:// or socks5://")
    if port == 0 or not text.isascii() or not text.isprintable() or " " in text or not _is_host(host):
        raise _variable_error(name, "holds no well-formed URL of a proxy")
    if parts.scheme in _SOCKS_SCHEMES and not has_socks():
        raise InvalidInput(
            f"{name} names a SOCKS proxy, which needs the Python package socksio.",
            hint=f"Install socksio beside rotoscope, or set {name} to an http:// proxy.",
        )
    return text


def _is_host(host: str) -> bool:
    return _parse_ip(host) is not None or _HOST.fullmatch(host) is not None


def _check_certificates(file: str) -> None:
    import ssl

    try:
        ssl.create_default_context(cafile=file)
    except OSError:  # an ssl.SSLError is one
        raise _variable_error("SSL_CERT_FILE", "names no file with certificates that can be read") from None


def _check_key_log(file: str) -> None:
    """Check SSLKEYLOGFILE: Python writes TLS secrets there for debugging, and cannot connect where it cannot write."""
    if file and not Path(file).absolute().parent.is_dir():
        raise _variable_error("SSLKEYLOGFILE", "names a file in a folder that does not exist")


def _variable_error(name: str, why: str) -> InvalidInput:
    return InvalidInput(f"{name} {why}, so nothing is sent.", hint=f"Correct or unset {name}.")


def _is_no_proxy_match(entry: str, parts: SplitResult) -> bool:
    """Whether an entry of `NO_PROXY` matches a URL, by curl's rules, and with networks as in `10.0.0.0/8`."""
    if entry == "*":
        return True
    scheme, separated, rest = entry.rpartition("://")
    if separated and scheme not in ("all", parts.scheme):
        return False
    host = (parts.hostname or "").lower().rstrip(".")
    name, port = _split_port(rest)
    if port is not None and port != str(parts.port or _DEFAULT_PORTS.get(parts.scheme)):
        return False
    address = _parse_ip(host)
    if address is not None:
        return _is_in_network(name, address)
    name = name.removeprefix("*").strip(".")
    return bool(name) and (host == name or host.endswith(f".{name}"))


def _split_port(entry: str) -> tuple[str, str | None]:
    if entry.startswith("["):
        name, _, port = entry[1:].partition("]")
        return name, port.removeprefix(":") or None
    name, colon, port = entry.partition(":")
    return (entry, None) if not colon or ":" in port else (name, port)


def _parse_ip(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _is_in_network(network: str, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    try:
        return address in ipaddress.ip_network(network, strict=False)
    except ValueError:
        return False
