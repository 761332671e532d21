"""Which client sends a request for tokens: by its secret (only a hash of it is kept), a signature, or its id alone."""

import base64
import binascii
import hmac
from dataclasses import dataclass
from urllib.parse import unquote, urlencode

from mcp.server.auth.middleware.client_auth import AuthenticationError, ClientAuthenticator
from mcp.shared.auth import OAuthClientInformationFull
from starlette.requests import Request
from starlette.types import Message

from rotoscope.server.sign_in.people.assertions import ASSERTION_TYPE, ClientKeys, unverified_client_id
from rotoscope.server.sign_in.people.clients import SignInClient
from rotoscope.server.sign_in.people.provider import PeopleProvider
from rotoscope.server.sign_in.people.tokens import hash_secret

__all__ = ["KeptClientAuthenticator", "with_client_id"]

_UNKNOWN = "The client is unknown, or is not the one that it says."


@dataclass
class KeptClientAuthenticator(ClientAuthenticator):
    """Says which client sends a request, as the SDK's own does, but by what is kept of clients here.

    Attributes:
        provider: knows the clients.
        keys: reads the keys of clients that sign; None: there are none.
        audiences: by which of our addresses an assertion may name us.
    """

    provider: PeopleProvider
    keys: ClientKeys | None
    audiences: tuple[str, ...]

    async def authenticate_request(self, request: Request) -> OAuthClientInformationFull:
        """The client of a request.

        Raises:
            AuthenticationError: it is not proven to be one that is known.
        """
        form = await request.form()
        client_id, secret, assertion = (form.get(name) for name in ("client_id", "client_secret", "client_assertion"))
        client = await self.provider.get_client(client_id) if isinstance(client_id, str) else None
        if client is None:
            raise AuthenticationError(_UNKNOWN)
        method = client.token_endpoint_auth_method
        if method == "private_key_jwt":
            is_typed = form.get("client_assertion_type") == ASSERTION_TYPE
            proven = is_typed and isinstance(assertion, str) and await self._is_signed(client, assertion)
        elif method == "none":
            proven = True
        else:
            given = _basic_credentials(request)[1] if method == "client_secret_basic" else secret
            proven = isinstance(given, str) and _is_secret(client, given)
        if not proven:
            raise AuthenticationError(_UNKNOWN)
        return client

    async def _is_signed(self, client: SignInClient, assertion: str) -> bool:
        if self.keys is None or client.jwks_url is None:
            return False
        return await self.keys.is_signed(assertion, client.jwks_url, client.client_id, self.audiences)


def _is_secret(client: SignInClient, given: str) -> bool:
    return hmac.compare_digest(client.secret_hash or "", hash_secret(given))


async def with_client_id(request: Request) -> Request:
    """The same request with its client named in its form, where the SDK looks for it.

    A client may name itself in the header of its secret (RFC 6749, section 2.3.1) or in its assertion alone.
    """
    form = await request.form(max_fields=20, max_files=0)
    fields = {name: value for name, value in form.items() if isinstance(value, str)}
    named = fields.get("client_id") or _basic_credentials(request)[0]
    named = named or unverified_client_id(fields.get("client_assertion", ""))
    body = urlencode({**fields, **({"client_id": named} if named else {})}).encode()
    headers = [pair for pair in request.scope["headers"] if pair[0] not in (b"content-type", b"content-length")]
    headers.append((b"content-type", b"application/x-www-form-urlencoded"))

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    return Request({**request.scope, "headers": headers}, receive)


def _basic_credentials(request: Request) -> tuple[str | None, str | None]:
    """Name and secret out of the Authorization header, or None."""
    kind, _, encoded = request.headers.get("authorization", "").partition(" ")
    if kind.lower() != "basic":
        return None, None
    try:
        name, colon, secret = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        return None, None
    return (unquote(name), unquote(secret)) if colon else (None, None)
