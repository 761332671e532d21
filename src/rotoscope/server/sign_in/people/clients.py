"""A client as the SDK's endpoints see it, and what is kept of one. Pure."""

from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

from mcp.shared.auth import InvalidRedirectUriError, OAuthClientInformationFull
from pydantic import AnyUrl

from rotoscope.contracts.characters import is_blank, one_line
from rotoscope.providers.http.messages import Json
from rotoscope.server.sign_in.people.redirects import BadRedirect, is_same_redirect, parse_redirect
from rotoscope.server.sign_in.people.tokens import hash_secret
from rotoscope.store.clients import StoredClient

__all__ = ["ClientRefused", "SignInClient", "client_from_store", "client_to_store"]

_MAX_REDIRECTS = 20
_MAX_NAME_CHARS = 80
_METHODS = ("none", "client_secret_post", "client_secret_basic", "private_key_jwt")
_GRANT_TYPES = ("authorization_code", "refresh_token")


class ClientRefused(Exception):
    """A client cannot be used; its text says why, to a person and to a program.

    Attributes:
        code: the error of RFC 7591.
    """

    def __init__(self, words: str, code: str = "invalid_client_metadata") -> None:
        super().__init__(words)
        self.code = code


class SignInClient(OAuthClientInformationFull):
    """A client, with our comparison of addresses.

    Attributes:
        client_secret: none: what is compared is `secret_hash`.
        host: the https host that vouches for it; None for one that registered itself, for which nobody vouches.
        jwks_url: where its public keys are, for one that signs its requests.
    """

    secret_hash: str | None = None
    host: str | None = None
    jwks_url: str | None = None

    def validate_redirect_uri(self, redirect_uri: AnyUrl | None) -> AnyUrl:
        """The address to send a browser to: one that the client named, on this machine with any port."""
        known = self.redirect_uris or []
        if redirect_uri is None:
            if len(known) != 1:
                raise InvalidRedirectUriError(
                    "The address to go back to (redirect_uri) is missing, and the app has named several."
                )
            return known[0]
        try:
            asked = parse_redirect(str(redirect_uri))
        except BadRedirect as refused:
            raise InvalidRedirectUriError(str(refused)) from None
        if not any(is_same_redirect(one, asked) for one in known):
            raise InvalidRedirectUriError(
                "The address to go back to (redirect_uri) is none of those that the app has named."
            )
        return asked

    def validate_scope(self, requested_scope: str | None) -> list[str] | None:
        """What a request may ask for: all that there is, or the part of it that was named. The rest is ignored."""
        offered = (self.scope or "").split()
        asked = set((requested_scope or "").split())
        return [scope for scope in offered if scope in asked] or offered

    @property
    def renews(self) -> bool:
        """Whether it may renew its tokens."""
        return "refresh_token" in self.grant_types


def client_to_store(
    client: OAuthClientInformationFull, fresh_until: float | None, extra: Mapping[str, Json] | None = None
) -> StoredClient:
    """What is kept of a client: of what it says of itself only what is used, in bounds. Of its secret, the hash.

    Args:
        client: as it registered, or as its document says.
        fresh_until: when its document is to be read again; None for one that registers.
        extra: what else is kept.

    Raises:
        ClientRefused: it cannot be used.
    """
    method = client.token_endpoint_auth_method or "none"
    if method not in _METHODS:
        raise ClientRefused(f"token_endpoint_auth_method {one_line(method, 40)!r} is not supported.")
    data: dict[str, Json] = {
        "client_name": _clean_name(client.client_name),
        "redirect_uris": list(_checked_redirects([str(one) for one in client.redirect_uris or []])),
        "token_endpoint_auth_method": method,
        "grant_types": [one for one in _GRANT_TYPES if one in client.grant_types],
        "secret_hash": None if client.client_secret is None else hash_secret(client.client_secret),
        **(extra or {}),
    }
    return StoredClient(client.client_id, data, fresh_until)


def client_from_store(stored: StoredClient, scopes: Sequence[str]) -> SignInClient:
    """A client that was kept.

    Args:
        stored: what was kept.
        scopes: what every client may ask for.
    """
    host = None if stored.fresh_until is None else urlsplit(stored.client_id).netloc
    known = {**stored.data, "client_id": stored.client_id, "scope": " ".join(scopes), "host": host}
    return SignInClient.model_validate(known)


def _clean_name(name: str | None) -> str | None:
    """A name as one line without invisible characters, or None: names are shown to people who decide by them."""
    line = one_line(name or "", _MAX_NAME_CHARS)
    return None if is_blank(line) else line


def _checked_redirects(addresses: Sequence[str]) -> Sequence[str]:
    if not 0 < len(addresses) <= _MAX_REDIRECTS:
        raise ClientRefused(f"redirect_uris must be 1 to {_MAX_REDIRECTS} addresses.", "invalid_redirect_uri")
    try:
        return [str(parse_redirect(address)) for address in addresses]
    except BadRedirect as refused:
        raise ClientRefused(str(refused), "invalid_redirect_uri") from None
