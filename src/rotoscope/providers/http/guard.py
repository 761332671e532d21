"""The guard before every address that is not a provider's own: what a reply or a user names is judged, then dialled.

There is no other road. An output, each hop of a redirect and an upload address that a reply names go to hosts on the
provider's lists, without its key, over https, and to the very addresses that were judged. What the operator has set as
the base address of one provider is trusted for that provider alone; what stands in for all of them, for all.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import anyio

from rotoscope.errors import OutputLost, ProviderError, Unreachable, UnsafeSource
from rotoscope.providers.http.credentials import ProviderAccess
from rotoscope.providers.http.egress import Target, check_addresses, check_url, is_allowed_host, split_url
from rotoscope.providers.http.messages import HttpCall
from rotoscope.providers.http.proxies import ProxySettings

__all__ = ["Destination", "EgressGuard", "Resolve", "connect_timeouts", "origin_of"]

RESOLVE_SECONDS = 5.0
_MAX_SHOWN_CHARS = 100  # characters
Resolve = Callable[[str, int], Awaitable[Sequence[str]]]


@dataclass(frozen=True, slots=True)
class Destination:
    """One way to send a request: to a name, or to one address that was judged, with the name in Host and in TLS."""

    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    extensions: Mapping[str, Any] = field(default_factory=dict)


class EgressGuard:
    """Judges where requests go.

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
        """Whether an address lies on a host that the operator named for this provider. Nobody's are a user's."""
        door, parts = self._access.get(provider), urlsplit(url)
        known = door is not None and parts.netloc.lower() in self._trusted | door.trusted
        return known and parts.scheme in ("http", "https")

    async def call_destinations(self, provider: str, call: HttpCall) -> Sequence[Destination]:
        """How a request to a provider may go out: as it is to its own bases, else only without its key, and judged.

        Raises:
            Unreachable: it would carry the key elsewhere; nothing was sent.
            ProviderError: it goes to an address that a reply named, and that is not used; nothing was sent.
        """
        door = self._access[provider]
        if (
            self.is_trusted(provider, call.url)
            or origin_of(call.url) in door.key_origins
            or (call.with_key and not door.key_origins)
        ):
            return (Destination(call.url),)
        if call.with_key:
            raise Unreachable(
                f"The key of {provider} goes to its own hosts only; nothing was sent.",
                hint="Report this as a defect of rotoscope.",
            )
        return await self._storage_destinations(provider, call.url)

    def check_redirect(self, provider: str, url: str) -> None:
        """Refuse where a redirect leads; the operator's hosts are trusted for what they serve themselves only.

        Raises:
            OutputLost: an output of a provider would be fetched from a host that is not known to be its own.
            UnsafeSource: it is not dialled.
        """
        check_url(url)
        if provider:
            self.check_output(provider, url)

    def check_output(self, provider: str, url: str) -> None:
        """Refuse an output on a host that is not known to be the provider's.

        Raises:
            OutputLost: it is on another host.
            UnsafeSource: it is no well-formed address.
        """
        host = split_url(url).hostname or ""
        if not self.is_trusted(provider, url) and not is_allowed_host(host, self._access[provider].output_hosts):
            raise OutputLost(
                f"The result of {provider} is on a host that is not known to be its own: {host[:_MAX_SHOWN_CHARS]}.",
                hint="Add the host to output_hosts in a providers.toml of yours if it is right.",
                code="output_blocked",
            )

    async def public_destinations(self, url: str) -> Sequence[Destination]:
        """The ways to the very addresses that were judged, the best first.

        A proxy dials for us, and by name, so there it is the name that is judged: with its addresses where they can
        be found here, and without where only the proxy can find them.

        Raises:
            UnsafeSource: it is not dialled.
        """
        target = check_url(url)
        addresses = await self._resolve_addresses(target)
        proxied = self._proxies.proxy_for(target.url) is not None
        if proxied and not addresses:
            return (Destination(target.url),)
        judged = check_addresses(target, addresses)
        return (Destination(target.url),) if proxied else tuple(_destination(target, address) for address in judged)

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
    """How long each of several addresses is tried for, within one budget: each but the last has half of what is left.

    A network whose IPv6 leads nowhere does not say so: an address that does not answer must leave time for the next.
    """
    shares = [seconds / 2**n for n in range(1, attempts)]
    return [*shares, seconds - sum(shares)]


def _destination(target: Target, address: str) -> Destination:
    parts = urlsplit(target.url)
    literal = f"[{address}]" if ":" in address else address
    dialled = urlunsplit(parts._replace(netloc=f"{literal}:{target.port}", fragment=""))
    return Destination(dialled, {"Host": parts.netloc}, {"sni_hostname": target.host})


def origin_of(url: str) -> str:
    """The origin of an address, as text up to the slash that ends it: no two URL parsers can differ about that."""
    scheme, separator, rest = url.partition("://")
    return f"{scheme}{separator}{rest.partition('/')[0]}".lower()
