"""Clients that sign their requests for tokens (`private_key_jwt`, RFC 7523), with keys that their document names."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rotoscope.errors import RotoscopeError
from rotoscope.providers.http.messages import Json, measure_depth
from rotoscope.server.sign_in.people.documents import ReadDocument

if TYPE_CHECKING:
    import jwt

__all__ = ["ALGORITHMS", "ASSERTION_TYPE", "ClientKeys", "unverified_client_id"]

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
ALGORITHMS = ("RS256", "PS256", "ES256", "ES384", "EdDSA")
_MAX_ASSERTION_CHARS = 8 * 1024
_KEY_SET_BYTES, _MAX_KEYS, _MAX_DEPTH = 64 * 1024, 50, 6
_FRESH_SECONDS, _REREAD_SECONDS = 3600.0, 60.0
_SKEW_SECONDS, _MAX_LIFE_SECONDS = 60.0, 3600.0
_MAX_KEPT = 200
_OK = 200


def unverified_client_id(assertion: str) -> str | None:
    """Which client an assertion says that it is of; nobody has verified it."""
    import jwt

    if len(assertion) > _MAX_ASSERTION_CHARS:
        return None
    try:
        claims = jwt.decode(assertion, options={"verify_signature": False})
    except jwt.PyJWTError:
        return None
    subject = claims.get("sub")
    return subject if isinstance(subject, str) else None


@dataclass(frozen=True, slots=True)
class _KeySet:
    keys: "tuple[jwt.PyJWK, ...]"
    read_at: float


@dataclass(frozen=True, slots=True)
class ClientKeys:
    """The public keys of clients, read where their documents say and kept for an hour.

    Attributes:
        read: reads a document.
        clock: the time in Unix seconds.
    """

    read: ReadDocument
    clock: Callable[[], float]
    _kept: dict[str, _KeySet] = field(default_factory=dict, init=False)

    async def is_signed(self, assertion: str, address: str, client_id: str, audiences: tuple[str, ...]) -> bool:
        """Whether an assertion is a client's, for us, and of now.

        Args:
            assertion: what the request carries.
            address: where the client's keys are.
            client_id: of the client.
            audiences: by which of our addresses it may name us.
        """
        import jwt

        if len(assertion) > _MAX_ASSERTION_CHARS:
            return False
        try:
            header = jwt.get_unverified_header(assertion)
            key = await self._find(address, header.get("kid"), header.get("alg"))
            if key is None or header.get("alg") not in ALGORITHMS:
                return False
            claims = jwt.decode(
                assertion,
                key,
                algorithms=list(ALGORITHMS),
                audience=list(audiences),
                issuer=client_id,
                subject=client_id,
                # The times are compared with our own clock.
                options={
                    "require": ["exp", "iss", "sub", "aud"],
                    "verify_exp": False,
                    "verify_nbf": False,
                    "verify_iat": False,
                },
            )
        except jwt.PyJWTError:
            return False
        return _is_of_now(claims, self.clock())

    async def _find(self, address: str, kid: object, algorithm: object) -> "jwt.PyJWK | None":
        """The key that an assertion names; an unknown one is looked for once more, at most once a minute."""
        kept, now = self._kept.get(address), self.clock()
        if kept is None or now - kept.read_at > _FRESH_SECONDS:
            kept = await self._read(address)
        found = _choose(kept, kid, algorithm)
        if found is None and now - kept.read_at > _REREAD_SECONDS:
            found = _choose(await self._read(address), kid, algorithm)
        return found

    async def _read(self, address: str) -> _KeySet:
        try:
            reply = await self.read(address, _KEY_SET_BYTES)
            keys = _parse_keys(reply.fields()) if reply.status == _OK else ()
        except RotoscopeError:
            keys = ()
        while len(self._kept) >= _MAX_KEPT:
            self._kept.pop(next(iter(self._kept)))
        found = self._kept[address] = _KeySet(keys, self.clock())
        return found


def _parse_keys(fields: Mapping[str, Json]) -> "tuple[jwt.PyJWK, ...]":
    import jwt

    listed = fields.get("keys")
    keys = []
    for one in listed[:_MAX_KEYS] if isinstance(listed, list) else ():
        if not isinstance(one, dict) or measure_depth(one, _MAX_DEPTH) >= _MAX_DEPTH or one.get("kty") == "oct":
            continue
        try:
            keys.append(jwt.PyJWK.from_dict(one))
        except jwt.PyJWTError:
            continue  # of a kind that we do not know
    return tuple(keys)


def _choose(kept: _KeySet, kid: object, algorithm: object) -> "jwt.PyJWK | None":
    fitting = [key for key in kept.keys if key.algorithm_name == algorithm and kid in (None, key.key_id)]
    return fitting[0] if len(fitting) == 1 else None


def _is_of_now(claims: Mapping[str, object], now: float) -> bool:
    ends, begins = claims.get("exp"), claims.get("nbf", claims.get("iat", now))
    if not isinstance(ends, int | float) or not isinstance(begins, int | float):
        return False
    return now - _SKEW_SECONDS < ends < now + _MAX_LIFE_SECONDS and begins < now + _SKEW_SECONDS
