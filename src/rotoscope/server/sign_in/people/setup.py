"""What our own sign-in is built from: one record, and the parts that are made of it."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from urllib.parse import urlsplit

from starlette.requests import Request

from rotoscope.server.sign_in.people.documents import ReadDocument
from rotoscope.server.sign_in.people.passphrases import Passphrases
from rotoscope.server.sign_in.people.tokens import make_secret
from rotoscope.store.clients import Clients
from rotoscope.store.database import Database
from rotoscope.store.grants import Grants
from rotoscope.store.people import People
from rotoscope.store.rates import RateLimit, Rates

__all__ = ["SCOPE", "PeopleSetup", "client_address"]

SCOPE = "rotoscope"
"""What a client may do with a token where the operator named no scopes: all that its person may."""


def client_address(request: Request) -> str:
    """From where a request comes, for counting alone: an IPv6 network (/64) counts as one.

    Whom a reverse proxy stands before, it names last in X-Forwarded-For. That is believed of a peer on this machine or
    in a private network, where proxies are; anybody else could write there what they like.
    """
    peer = _parse_address(request.client.host if request.client is not None else "")
    if peer is None:
        return ""
    if peer.is_loopback or peer.is_private:
        peer = _parse_address(request.headers.get("x-forwarded-for", "").rpartition(",")[2].strip()) or peer
    if isinstance(peer, IPv6Address):
        return str(IPv6Network((int(peer), 64), strict=False))
    return str(peer)


def _parse_address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        found = ip_address(text)
    except ValueError:
        return None
    return found.ipv4_mapped or found if isinstance(found, IPv6Address) else found


@dataclass(frozen=True, slots=True)
class PeopleSetup:
    """What our own sign-in is built from.

    Attributes:
        public_url: the address of the server, without a slash at its end: the issuer.
        endpoint: the address of the MCP endpoint: the resource that tokens are for.
        database: where all its state is, so that any replica answers any step.
        read_document: reads the documents of clients; None: only registered clients are let in.
        scopes: what a token allows.
        clock: the time in Unix seconds.
        passphrases: hashes and compares them.
        make_secret: makes codes, tokens and cookies.
        address_of: from where a request comes, for counting.
    """

    public_url: str
    endpoint: str
    database: Database
    read_document: ReadDocument | None = None
    scopes: tuple[str, ...] = (SCOPE,)
    clock: Callable[[], float] = time.time
    passphrases: Passphrases = field(default_factory=Passphrases)
    make_secret: Callable[[], str] = make_secret
    address_of: Callable[[Request], str] = client_address

    @property
    def people(self) -> People:
        """The people."""
        return People(self.database, self.clock)

    @property
    def clients(self) -> Clients:
        """The clients."""
        return Clients(self.database, self.clock)

    @property
    def grants(self) -> Grants:
        """What people let clients do."""
        return Grants(self.database, self.clock)

    @property
    def origin(self) -> str:
        """The origin of the server's own pages."""
        parts = urlsplit(self.public_url)
        return f"{parts.scheme}://{parts.netloc}".lower()

    @property
    def is_secure(self) -> bool:
        """Whether browsers reach it over https."""
        return self.origin.startswith("https:")

    async def is_within(self, kind: str, value: str, most: int, seconds: float) -> bool:
        """Count something that was tried; whether it is within its limit."""
        return await Rates(self.database, self.clock).take(RateLimit(kind, value, most, seconds))
