"""The authorisation server as the SDK's endpoints ask it. All state is in the ledger; only hashes of it let anybody in.

Tokens follow from a code or a refresh token and a seed (see `store.grants`), so that one lost reply can be given again.
"""

import math
import re
from dataclasses import dataclass
from urllib.parse import urlencode, urlsplit

from mcp.server.auth.provider import (
    AccessToken,
    AuthorizationCode,
    AuthorizationParams,
    AuthorizeError,
    OAuthAuthorizationServerProvider,
    RefreshToken,
    RegistrationError,
    TokenError,
)
from mcp.shared.auth import OAuthClientInformationFull, OAuthToken
from pydantic import AnyUrl

from rotoscope.server.sign_in.people.clients import ClientRefused, SignInClient, client_from_store, client_to_store
from rotoscope.server.sign_in.people.setup import PeopleSetup
from rotoscope.server.sign_in.people.tokens import hash_secret, is_secret, pair_hashes, successors_of
from rotoscope.store.grants import ACCESS_SECONDS, Code

__all__ = ["SIGN_IN_PATH", "KeptCode", "KeptRefreshToken", "PeopleProvider", "check_authorization", "is_resource"]

SIGN_IN_PATH = "/sign-in"
_CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}")  # a SHA-256 in base64url
_MAX_STATE_CHARS = 2000
_PORTS = {"http": ":80", "https": ":443"}


def is_resource(asked: str | None, endpoint: str) -> bool:
    """Whether a request for a token means our endpoint (RFC 8707); one that names nothing does."""
    return asked is None or _normal(asked) == _normal(endpoint)


def _normal(address: str) -> str:
    try:
        parts = urlsplit(address)
    except ValueError:
        return ""
    host = parts.netloc.lower().removesuffix(_PORTS.get(parts.scheme.lower(), " "))
    rest = ("?" + parts.query) * bool(parts.query) + ("#" + parts.fragment) * bool(parts.fragment)
    return f"{parts.scheme.lower()}://{host}{parts.path.removesuffix('/')}{rest}"


def check_authorization(params: AuthorizationParams, endpoint: str) -> None:
    """Check what the SDK leaves open of a request for authorization.

    Raises:
        AuthorizeError: it is for another resource, or has a challenge that is no SHA-256.
    """
    if not is_resource(params.resource, endpoint):
        raise AuthorizeError("invalid_target", f"Tokens of this server are for {endpoint} alone.")
    if _CHALLENGE.fullmatch(params.code_challenge) is None:
        raise AuthorizeError("invalid_request", "code_challenge must be a SHA-256 in base64url (S256).")
    if len(params.state or "") > _MAX_STATE_CHARS:
        raise AuthorizeError("invalid_request", f"state has at most {_MAX_STATE_CHARS} characters.")


class KeptCode(AuthorizationCode):
    """A code, with what it stands for. Whether it is too old was asked already, by our clock."""

    kept: Code
    expires_at: float = math.inf


class KeptRefreshToken(RefreshToken):
    """A refresh token, with whether its client may renew."""

    grant_id: str


@dataclass(frozen=True, slots=True)
class PeopleProvider(OAuthAuthorizationServerProvider[KeptCode, KeptRefreshToken, AccessToken]):
    """Our own authorisation server.

    Attributes:
        setup: what it is built from.
    """

    setup: PeopleSetup

    async def get_client(self, client_id: str) -> SignInClient | None:
        """A client that is known. Its document is not read here, but where a person begins (`endpoints`)."""
        stored = await self.setup.clients.find(client_id[:1000])
        return None if stored is None else client_from_store(stored, self.setup.scopes)

    async def register_client(self, client_info: OAuthClientInformationFull) -> None:
        """Keep a client, and answer it with what was kept."""
        try:
            stored = client_to_store(client_info, None)
        except ClientRefused as refused:
            raise RegistrationError(refused.code, str(refused)) from None  # type: ignore[arg-type]  # one of ours
        if not await self.setup.clients.keep(stored):
            raise RegistrationError("invalid_client_metadata", "Too many clients wait to be used. Try again tomorrow.")
        kept = client_from_store(stored, self.setup.scopes)
        for name in OAuthClientInformationFull.model_fields:
            if name not in {"client_secret", "client_id_issued_at", "client_secret_expires_at"}:
                setattr(client_info, name, getattr(kept, name))

    async def authorize(self, client: OAuthClientInformationFull, params: AuthorizationParams) -> str:
        """Where a person signs in and decides. The request goes along in the address, and is checked there again."""
        check_authorization(params, self.setup.endpoint)
        asked = {
            "client_id": client.client_id,
            "redirect_uri": str(params.redirect_uri) if params.redirect_uri_provided_explicitly else None,
            "response_type": "code",
            "code_challenge": params.code_challenge,
            "code_challenge_method": "S256",
            "state": params.state,
            "scope": " ".join(params.scopes or ()) or None,
            "resource": params.resource,
        }
        query = urlencode({name: value for name, value in asked.items() if value is not None})
        return f"{self.setup.public_url}{SIGN_IN_PATH}?{query}"

    async def load_authorization_code(
        self,
        client: OAuthClientInformationFull,  # noqa: ARG002 - the SDK compares it with the code's
        authorization_code: str,
    ) -> KeptCode | None:
        """What a code stands for. One that was used before ends what it has begun."""
        if not is_secret(authorization_code):
            return None
        code = await self.setup.grants.read_code(hash_secret(authorization_code))
        if code is None:
            return None
        return KeptCode(
            kept=code,
            code=authorization_code,
            scopes=list(code.scopes),
            client_id=code.client_id,
            code_challenge=code.challenge,
            redirect_uri=AnyUrl(code.redirect_uri),
            redirect_uri_provided_explicitly=code.redirect_given,
            resource=code.resource,
            subject=code.person,
        )

    async def exchange_authorization_code(
        self, client: OAuthClientInformationFull, authorization_code: KeptCode
    ) -> OAuthToken:
        """Begin a grant, once."""
        pair = successors_of(authorization_code.code, self.setup.make_secret())
        renews = "refresh_token" in client.grant_types
        hashes = pair_hashes(pair, renews=renews)
        code_hash, grant_id = hash_secret(authorization_code.code), hash_secret(self.setup.make_secret())[:32]
        if not await self.setup.grants.begin(code_hash, authorization_code.kept, grant_id, hashes):
            raise TokenError("invalid_grant", "The authorization code was used before, or is too old.")
        return _token_reply(pair, authorization_code.scopes, ACCESS_SECONDS, renews=renews)

    async def load_refresh_token(
        self,
        client: OAuthClientInformationFull,  # noqa: ARG002 - the SDK compares it with the token's
        refresh_token: str,
    ) -> KeptRefreshToken | None:
        """What a refresh token renews. One that was replaced longer ago than a minute ends its grant."""
        if not is_secret(refresh_token):
            return None
        grant = await self.setup.grants.read_refresh(hash_secret(refresh_token))
        if grant is None:
            return None
        return KeptRefreshToken(
            token=refresh_token,
            client_id=grant.client_id,
            scopes=list(grant.scopes),
            resource=grant.resource,
            subject=grant.person,
            grant_id=grant.id,
        )

    async def exchange_refresh_token(
        self,
        client: OAuthClientInformationFull,  # noqa: ARG002 - it was compared
        refresh_token: KeptRefreshToken,
        scopes: list[str],  # noqa: ARG002 - every token needs all scopes of its grant, so none is given up
    ) -> OAuthToken:
        """Replace a refresh token; within a minute, answer with the same successors again."""
        token, seed = refresh_token.token, self.setup.make_secret()
        made = pair_hashes(successors_of(token, seed), renews=True)
        state = await self.setup.grants.replace(hash_secret(token), seed, made)
        if state is None:
            raise TokenError("invalid_grant", "The refresh token was used before, or has ended.")
        left = ACCESS_SECONDS - max(0.0, self.setup.clock() - state.replaced_at)
        return _token_reply(successors_of(token, state.seed), refresh_token.scopes, left, renews=True)

    async def load_access_token(self, token: str) -> AccessToken | None:
        """What an access token allows; None where nothing, or no more."""
        if not is_secret(token):
            return None
        found = await self.setup.grants.read_access(hash_secret(token))
        if found is None:
            return None
        grant, expires_at = found
        return AccessToken(
            token=token,
            client_id=grant.client_id,
            scopes=list(grant.scopes),
            expires_at=int(expires_at),
            resource=grant.resource,
            subject=grant.person,
            claims={"iss": self.setup.public_url},
        )

    async def revoke_token(self, token: AccessToken | KeptRefreshToken) -> None:
        """End the grant of a token."""
        await self.setup.grants.end_grant_of_token(hash_secret(token.token), token.client_id)


def _token_reply(pair: tuple[str, str], scopes: list[str], seconds: float, *, renews: bool) -> OAuthToken:
    access, refresh = pair
    return OAuthToken(
        access_token=access,
        expires_in=max(1, int(seconds)),
        scope=" ".join(scopes),
        refresh_token=refresh if renews else None,
    )
