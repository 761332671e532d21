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
from rotoscope.providers.http.credentials import Door
from rotoscope.providers.http.egress import Target, check_addresses, check_url, host_allowed, split_url
from rotoscope.providers.http.messages import HttpCall
from rotoscope.providers.http.proxies import ProxySettings

__all__ = ["Guard", "Resolve", "Way", "connect_shares", "origin_of"]

RESOLVE_SECONDS = 5.0
_SHOWN_HOST = 100  # characters
Resolve = Callable[[str, int], Awaitable[Sequence[str]]]


@dataclass(frozen=True, slots=True)
class Way:
    """One way to send a request: to a name, or to one address that was judged, with the name in Host and in TLS."""

    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    extensions: Mapping[str, Any] = field(default_factory=dict)


class Guard:
    """Judges where requests go.

    Args:
        doors: what is known of each provider, by name.
        trusted: hosts (`name` or `name:port`) that stand in for every provider; they may be http and private.
        resolve: finds the addresses of a host.
        proxies: through which proxies requests go.
    """

    def __init__(
        self, doors: Mapping[str, Door], trusted: frozenset[str], resolve: Resolve, proxies: ProxySettings
    ) -> None:
        self._doors = doors
        self._trusted = trusted
        self._resolve = resolve
        self._proxies = proxies

    def is_trusted(self, provider: str, url: str) -> bool:
        """Whether an address lies on a host that the operator named for this provider. Nobody's are a user's."""
        door, parts = self._doors.get(provider), urlsplit(url)
        known = door is not None and parts.netloc.lower() in self._trusted | door.trusted
        return known and parts.scheme in ("http", "https")

    async def ways_of(self, provider: str, call: HttpCall) -> Sequence[Way]:
        """How a request to a provider may go out: as it is to its own bases, else only without its key, and judged.

        Raises:
            Unreachable: it would carry the key elsewhere; nothing was sent.
            ProviderError: it goes to an address that a reply named, and that is not used; nothing was sent.
        """
        door = self._doors[provider]
        if (
            self.is_trusted(provider, call.url)
            or origin_of(call.url) in door.bases
            or (call.with_key and not door.bases)
        ):
            return (Way(call.url),)
        if call.with_key:
            raise Unreachable(
                f"The key of {provider} goes to its own hosts only; nothing was sent.",
                hint="Report this as a defect of rotoscope.",
            )
        return await self._ways_to_storage(provider, call.url)

    def check_hop(self, provider: str, url: str) -> None:
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
        if not self.is_trusted(provider, url) and not host_allowed(host, self._doors[provider].output_hosts):
            raise OutputLost(
                f"The result of {provider} is on a host that is not known to be its own: {host[:_SHOWN_HOST]}.",
                hint="Add the host to output_hosts in a providers.toml of yours if it is right.",
                code="output_blocked",
            )

    async def ways_to(self, url: str) -> Sequence[Way]:
        """The ways to the very addresses that were judged, the best first.

        A proxy dials for us, and by name, so there it is the name that is judged: with its addresses where they can
        be found here, and without where only the proxy can find them.

        Raises:
            UnsafeSource: it is not dialled.
        """
        target = check_url(url)
        addresses = await self._addresses(target)
        proxied = self._proxies.proxy_for(target.url) is not None
        if proxied and not addresses:
            return (Way(target.url),)
        judged = check_addresses(target, addresses)
        return (Way(target.url),) if proxied else tuple(_way(target, address) for address in judged)

    async def _ways_to_storage(self, provider: str, url: str) -> Sequence[Way]:
        try:
            host = check_url(url).host
            if host_allowed(host, self._doors[provider].upload_hosts):
                return await self.ways_to(url)
        except UnsafeSource as error:
            if error.code == "url_unreachable":
                raise Unreachable("The provider's storage could not be reached.", hint="Try again later.") from error
            raise ProviderError(
                f"{provider} named an address for the file that is not used: {error.message}",
                hint="Nothing was sent there. Give the file as a public https URL instead.",
                code=error.code,
            ) from error
        raise ProviderError(
            f"{provider} named a host for the file that is not known to be its own: {host[:_SHOWN_HOST]}.",
            hint="Nothing was sent there. Add the host to upload_hosts in a providers.toml of yours if it is right, or "
            "give the file as a public https URL.",
            code="url_blocked",
        )

    async def _addresses(self, target: Target) -> Sequence[str]:
        try:
            with anyio.fail_after(RESOLVE_SECONDS):
                return await self._resolve(target.host, target.port)
        except OSError:  # a TimeoutError is one
            return []


def connect_shares(seconds: float, ways: int) -> Sequence[float]:
    """How long each of several addresses is tried for, within one budget: each but the last has half of what is left.

    A network whose IPv6 leads nowhere does not say so: an address that does not answer must leave time for the next.
    """
    shares = [seconds / 2**n for n in range(1, ways)]
    return [*shares, seconds - sum(shares)]


def _way(target: Target, address: str) -> Way:
    parts = urlsplit(target.url)
    literal = f"[{address}]" if ":" in address else address
    dialled = urlunsplit(parts._replace(netloc=f"{literal}:{target.port}", fragment=""))
    return Way(dialled, {"Host": parts.netloc}, {"sni_hostname": target.host})


def origin_of(url: str) -> str:
    """The origin of an address, as text up to the slash that ends it: no two URL parsers can differ about that."""
    scheme, separator, rest = url.partition("://")
    return f"{scheme}{separator}{rest.partition('/')[0]}".lower()
