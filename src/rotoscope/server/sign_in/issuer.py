"""Sign-in by an identity provider: its signed access tokens (JWT) that are meant for this server.

A token is good if its signature is by a key of the provider, its issuer is exactly the provider, its audience is this
server, and its time is now (RFC 7519, RFC 9068). Its principal is the issuer with the subject: a subject alone may be
somebody else's at another issuer. A token for another server is refused, and no token is ever passed on.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rotoscope.server.sign_in.contract import SignIn
from rotoscope.server.sign_in.key_set import ALGORITHMS, KeySet, KeySource
from rotoscope.server.sign_in.verified import SignedInToken

__all__ = ["JwtVerifier", "make_issuer_sign_in", "principal_name"]

_LEEWAY_SECONDS = 30  # two clocks may differ by so much
_MAX_SUBJECT_CHARS = 255  # OpenID Connect Core 1.0, section 2
_LAST_SECOND = 1e12
_MAX_SCOPES, _MAX_CLIENT_CHARS = 100, 255
_TYPES = frozenset({"jwt", "at+jwt", "application/at+jwt"})  # a token of another type is meant for something else


def make_issuer_sign_in(
    endpoint: str,
    issuer: str,
    audience: str | None,
    scopes: Sequence[str],
    source: KeySource,
    clock: Callable[[], float] = time.time,
    monotonic: Callable[[], float] = time.monotonic,
) -> SignIn:
    """Sign-in by an identity provider. Nothing is asked of it before the first token comes.

    Args:
        endpoint: the address of the MCP endpoint.
        issuer: exactly as its tokens name it.
        audience: what tokens must be meant for; None: the endpoint.
        scopes: what every token must allow.
        source: reads the provider's keys.
        clock: the time in Unix seconds.
        monotonic: seconds that only grow.
    """
    verifier = JwtVerifier(issuer, audience or endpoint, KeySet(source, monotonic), clock)
    return SignIn(verifier, endpoint, tuple(scopes), (issuer,))


def principal_name(issuer: str, subject: str) -> str:
    """The principal of a subject at an issuer. No issuer's address holds a `#`, so no two pairs give the same."""
    return f"{issuer}#{subject}"


@dataclass(frozen=True, slots=True)
class JwtVerifier:
    """Tells whether a bearer token is one of the provider's for this server.

    Attributes:
        issuer: the provider.
        audience: what a token must be meant for.
        keys: the provider's keys.
        clock: the time in Unix seconds.
    """

    issuer: str
    audience: str
    keys: KeySet
    clock: Callable[[], float]

    async def verify_token(self, token: str) -> SignedInToken | None:
        """Whose token it is; None where it is not good.

        Raises:
            SignInUnavailable: its key is not known, and the provider cannot be asked now.
        """
        import jwt

        try:
            header = jwt.get_unverified_header(token)
            algorithm, key_id = header.get("alg"), header.get("kid")
            if algorithm not in ALGORITHMS or not _is_plain_header(header):
                return None
            key = await self.keys.find(key_id, algorithm)
            if key is None:
                return None
            claims = jwt.decode(
                token,
                key,
                algorithms=[algorithm],
                audience=self.audience,
                issuer=self.issuer,
                # The times are compared below, with the clock that was given.
                options={
                    "require": ["exp", "iss", "aud", "sub"],
                    "verify_exp": False,
                    "verify_nbf": False,
                    "verify_iat": False,
                },
            )
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
            return None
        return self._read_claims(claims)

    def _read_claims(self, claims: Mapping[str, Any]) -> SignedInToken | None:
        subject, ends_at = claims.get("sub"), _seconds(claims.get("exp"))
        if not isinstance(subject, str) or not 0 < len(subject) <= _MAX_SUBJECT_CHARS or not subject.isprintable():
            return None
        if ends_at is None or not _is_in_time(claims, self.clock(), ends_at):
            return None
        return SignedInToken(
            principal=principal_name(self.issuer, subject),
            client_id=_client_of(claims),
            subject=subject,
            claims={"iss": self.issuer},
            scopes=_scopes_of(claims),
            expires_at=int(ends_at) + _LEEWAY_SECONDS,
        )


def _is_plain_header(header: Mapping[str, Any]) -> bool:
    """Whether the header asks for nothing that is not done here. Keys and addresses in it are never used."""
    kind, key_id = header.get("typ", "JWT"), header.get("kid")
    known_kind = isinstance(kind, str) and kind.lower() in _TYPES
    return known_kind and "crit" not in header and (key_id is None or isinstance(key_id, str))


def _is_in_time(claims: Mapping[str, Any], now: float, ends_at: float) -> bool:
    """Whether a token is good at a moment. A time that is there and is no number makes it none."""
    if now >= ends_at + _LEEWAY_SECONDS:
        return False
    begins = [_seconds(claims[name]) for name in ("nbf", "iat") if name in claims]
    return all(one is not None and one <= now + _LEEWAY_SECONDS for one in begins)


def _seconds(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) < _LAST_SECOND else None  # which also leaves out what is no number


def _client_of(claims: Mapping[str, Any]) -> str:
    """The client that a token was given to; providers name it differently."""
    named = (claims.get(name) for name in ("client_id", "azp", "cid", "appid"))
    return next((one[:_MAX_CLIENT_CHARS] for one in named if isinstance(one, str) and one), "")


def _scopes_of(claims: Mapping[str, Any]) -> list[str]:
    """What a token allows: `scope` as RFC 8693 writes it, or `scp` as some providers do, as a text or a list."""
    given = claims["scope"] if "scope" in claims else claims.get("scp")
    words = given.split() if isinstance(given, str) else given if isinstance(given, list) else []
    return [one for one in words if isinstance(one, str)][:_MAX_SCOPES]
