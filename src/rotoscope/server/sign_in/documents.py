"""Reading an identity provider's documents: where its keys are, and the keys. Nothing secret is sent.

The issuer's address is the operator's own decision, so it may be private, and http on this machine. Any other address
comes out of its metadata, and is read like an address that a user gives: https, and public.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

from rotoscope.errors import RotoscopeError
from rotoscope.providers.http.client import ProviderAccess, Wire
from rotoscope.providers.http.guard import origin_of
from rotoscope.providers.http.messages import HttpCall, Json
from rotoscope.server.sign_in.verified import SignInUnavailable

__all__ = ["WIRE_NAME", "IssuerDocuments", "discovery_urls", "issuer_access"]

WIRE_NAME = "the identity provider"
"""How the wire's errors name it."""

MAX_DOCUMENT_BYTES = 256 * 1024
_JSON = {"Accept": "application/json"}


def issuer_access(issuer: str) -> Mapping[str, ProviderAccess]:
    """What a wire must know to read an issuer's documents: its host, and that there is no key."""
    return {WIRE_NAME: ProviderAccess("", "", "", trusted=frozenset({urlsplit(issuer).netloc.lower()}))}


def discovery_urls(issuer: str) -> tuple[str, ...]:
    """Where an issuer's metadata may be: as RFC 8414 says, and as OpenID Connect Discovery says, old and new.

    RFC 8414, section 3.1 puts the well-known part between host and path, OpenID Connect Discovery 1.0, section 4 after
    the path.
    """
    parts = urlsplit(issuer.rstrip("/"))

    def inserted(name: str) -> str:
        return urlunsplit(parts._replace(path=f"/.well-known/{name}{parts.path}"))

    after = f"{issuer.rstrip('/')}/.well-known/openid-configuration"
    return tuple(dict.fromkeys((inserted("oauth-authorization-server"), inserted("openid-configuration"), after)))


@dataclass(frozen=True, slots=True)
class IssuerDocuments:
    """Reads the documents of one issuer.

    Attributes:
        issuer: exactly as its tokens name it.
        wire: made with `issuer_access`.
    """

    issuer: str
    wire: Wire

    async def find_keys_url(self) -> str:
        """The address of the issuer's keys, out of its metadata.

        Raises:
            SignInUnavailable: no metadata can be read, or it is another issuer's.
        """
        failure: RotoscopeError | None = None
        for url in discovery_urls(self.issuer):
            try:
                reply = await self.wire.send(WIRE_NAME, _call(url))
            except RotoscopeError as error:
                failure = error
                continue
            metadata = reply.fields() if reply.is_success else {}
            if metadata.get("issuer") != self.issuer:
                continue  # RFC 8414, section 3.3: what names another issuer must not be used
            found = metadata.get("jwks_uri")
            if isinstance(found, str) and found:
                return found
        why = f" ({failure.message})" if failure is not None else ""
        raise SignInUnavailable(f"The identity provider gives no metadata of {self.issuer} now{why}.")

    async def read_keys(self, url: str) -> list[Json]:
        """The keys at an address, as they are written there.

        Raises:
            SignInUnavailable: they cannot be read.
        """
        try:
            found = await self._read(url)
        except RotoscopeError as error:
            raise SignInUnavailable(f"The keys of the identity provider cannot be read: {error.message}") from error
        keys = found.get("keys") if isinstance(found, dict) else None
        if not isinstance(keys, list):
            raise SignInUnavailable("The identity provider gives no keys now.")
        return keys

    async def _read(self, url: str) -> Json:
        if origin_of(url) == origin_of(self.issuer):
            reply = await self.wire.send(WIRE_NAME, _call(url))
        else:
            reply = await self.wire.read_public(url, MAX_DOCUMENT_BYTES)
        return reply.json() if reply.is_success else None


def _call(url: str) -> HttpCall:
    return HttpCall("GET", url, _JSON, with_key=False, max_reply_bytes=MAX_DOCUMENT_BYTES)
