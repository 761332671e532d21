"""Where the server listens, and by which names and from which origins it may be reached. Pure."""

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from rotoscope.errors import InvalidInput

__all__ = ["AccessRules", "ListenAddress", "build_access_rules", "parse_listen_address"]

_ADDRESS = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):(\d{1,5})")
_LOOPBACK_NAMES = ("127.0.0.1", "localhost", "[::1]")
_DEFAULT_PORTS = {"http": 80, "https": 443}
_LAST_PORT = 65_535


@dataclass(frozen=True, slots=True)
class ListenAddress:
    """Where the server listens: a name or an IP address without brackets, and a port; 0 stands for any free one."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        if self.host.lower() == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def url(self) -> str:
        """Its address on this machine, without a slash at its end."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class AccessRules:
    """By which names the server may be called, and from pages of which origins.

    Attributes:
        hosts: values of the Host header, in lower case.
        origins: values of the Origin header, in lower case.
        open_paths: beginnings of paths that pages of any origin may ask: what they give is public, or guarded by
            itself.
        probe_paths: paths that may also be asked by the very IP address at which the connection came in, as an
            orchestrator does. A page that had its own name point to that address would be asked for by that name.
    """

    hosts: frozenset[str]
    origins: frozenset[str]
    open_paths: tuple[str, ...] = ()
    probe_paths: frozenset[str] = frozenset()


def parse_listen_address(text: str) -> ListenAddress:
    """Where `--http` says that the server listens.

    Raises:
        InvalidInput: it is not HOST:PORT.
    """
    found = _ADDRESS.fullmatch(text.strip())
    if found is None or int(found[2]) > _LAST_PORT:
        raise InvalidInput(
            f"--http {text[:80]!r} is no HOST:PORT.", hint="Write --http 127.0.0.1:8000, or --http 0.0.0.0:8000."
        )
    return ListenAddress(found[1].strip("[]"), int(found[2]))


def build_access_rules(
    bound: ListenAddress,
    public_url: str | None,
    allowed_origins: tuple[str, ...],
    open_paths: tuple[str, ...] = (),
    probe_paths: frozenset[str] = frozenset(),
) -> AccessRules:
    """The names and origins of a server.

    Args:
        bound: where it listens; the port is the real one.
        public_url: the address at which clients reach it; None: where it listens.
        allowed_origins: origins of pages that may call it, beside its own.
        open_paths: see `AccessRules`.
        probe_paths: see `AccessRules`.
    """
    local = {f"{name}:{bound.port}" for name in _LOOPBACK_NAMES} | _without_port("http", _LOOPBACK_NAMES, bound.port)
    hosts, origins = set(local), {f"http://{host}" for host in local}
    if public_url is not None:
        parts = urlsplit(public_url)
        names = _spellings(parts.scheme, parts.netloc.lower())
        hosts |= names
        origins |= {f"{parts.scheme}://{name}" for name in names}
    return AccessRules(
        frozenset(hosts),
        frozenset(origins | {one.lower() for one in allowed_origins}),
        open_paths,
        probe_paths,
    )


def _spellings(scheme: str, host: str) -> set[str]:
    """A host with and without the port that its scheme stands for."""
    default = f":{_DEFAULT_PORTS[scheme]}"
    if host.endswith(default):
        return {host, host.removesuffix(default)}
    has_port = re.search(r":\d+$", host) is not None
    return {host} if has_port else {host, host + default}


def _without_port(scheme: str, names: tuple[str, ...], port: int) -> set[str]:
    return set(names) if port == _DEFAULT_PORTS[scheme] else set()
