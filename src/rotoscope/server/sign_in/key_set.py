"""The keys of an identity provider: read when they are needed, kept, and read again when they may have changed.

- They are read again after an hour, and for a token that names a key that is not known, at most once a minute: tokens
  cost nothing to make up, so a flood of them must not become a flood of requests.
- What was read stays good while the provider is away: a token that is signed with a known key is answered.
- Only public keys for signatures are kept, and at most some of them. Each serves the algorithms of its own kind: what
  is signed with a shared secret is refused, or a public key could be used as one.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import anyio

from rotoscope.errors import RotoscopeError
from rotoscope.providers.http.messages import Json
from rotoscope.server.sign_in.verified import SignInUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from jwt import PyJWK

__all__ = ["ALGORITHMS", "KeySet", "KeySource", "VerificationKey"]

_LIFE_SECONDS = 3600.0
_UNKNOWN_SECONDS = 60.0  # between two looks for keys that are not known
_FAILED_SECONDS = 5.0  # between two tries while there are no keys at all
_MAX_KEYS, _MAX_ID_CHARS = 64, 512
_MIN_RSA_BITS = 2048
_RSA = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
_BY_CURVE = {"P-256": ("ES256",), "P-384": ("ES384",), "P-521": ("ES512",), "Ed25519": ("EdDSA",), "Ed448": ("EdDSA",)}
ALGORITHMS: tuple[str, ...] = (*_RSA, "ES256", "ES384", "ES512", "EdDSA")
"""The signature algorithms that are accepted, each of them asymmetric (RFC 7518, section 3.1; RFC 8037)."""
_log = logging.getLogger(__name__)


class KeySource(Protocol):
    """Where keys come from."""

    async def find_keys_url(self) -> str:
        """The address of the keys."""
        ...

    async def read_keys(self, url: str) -> Sequence[Json]:
        """The keys at that address, as JSON Web Keys (RFC 7517)."""
        ...


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """One public key, prepared for each algorithm that it may be used with."""

    id: str | None
    by_algorithm: "Mapping[str, PyJWK]"


@dataclass(slots=True)
class KeySet:
    """The keys of one provider.

    Attributes:
        source: where they are read.
        clock: seconds that only grow.
    """

    source: KeySource
    clock: "Callable[[], float]"
    _keys: tuple[VerificationKey, ...] = field(default=(), init=False)
    _read_at: float = field(default=float("-inf"), init=False)
    _tried_at: float = field(default=float("-inf"), init=False)
    _failure: str = field(default="", init=False)
    _reading: anyio.Lock = field(default_factory=anyio.Lock, init=False)

    async def find(self, key_id: str | None, algorithm: str) -> "PyJWK | None":
        """The key that a token names, for its algorithm; None where the provider has none.

        A token without a name of a key is verified with the provider's only key for its algorithm, if there is one.

        Raises:
            SignInUnavailable: it is not known, and the provider cannot be asked now.
        """
        if self._is_due(is_known=self._lookup(key_id, algorithm) is not None):
            async with self._reading:
                if self._is_due(is_known=self._lookup(key_id, algorithm) is not None):
                    await self._read()
        found = self._lookup(key_id, algorithm)
        if found is None and self._failure:
            raise SignInUnavailable("The identity provider cannot be asked for its keys now.", hint=self._failure)
        return found

    def _is_due(self, *, is_known: bool) -> bool:
        now = self.clock()
        if is_known:
            return now - self._read_at >= _LIFE_SECONDS and now - self._tried_at >= _UNKNOWN_SECONDS
        pause = _UNKNOWN_SECONDS if self._keys else _FAILED_SECONDS
        return now - self._tried_at >= pause

    async def _read(self) -> None:
        try:
            found = await self.source.read_keys(await self.source.find_keys_url())
        except RotoscopeError as error:
            _log.warning("%s Known keys stay in use.", error.message)
            self._failure = error.message
        else:
            self._keys, self._failure, self._read_at = _prepare_keys(found), "", self.clock()
        finally:
            self._tried_at = self.clock()

    def _lookup(self, key_id: str | None, algorithm: str) -> "PyJWK | None":
        fitting = [
            one.by_algorithm[algorithm]
            for one in self._keys
            if algorithm in one.by_algorithm and key_id in (None, one.id)
        ]
        return fitting[0] if len(fitting) == 1 else None


def _prepare_keys(found: Sequence[Json]) -> tuple[VerificationKey, ...]:
    if len(found) > _MAX_KEYS:
        _log.warning("the identity provider has %d keys; the first %d are used", len(found), _MAX_KEYS)
    prepared = (_prepare(one) for one in found[:_MAX_KEYS] if isinstance(one, dict))
    return tuple(one for one in prepared if one is not None)


def _prepare(written: dict[str, Json]) -> VerificationKey | None:
    """A key out of its JSON form; None for one that verifies nothing here."""
    import jwt

    key_id, kind = written.get("kid"), written.get("kty")
    if written.get("use", "sig") != "sig" or not (key_id is None or isinstance(key_id, str)):
        return None
    if kind not in ("RSA", "EC", "OKP") or len(key_id or "") > _MAX_ID_CHARS:
        return None
    fitting = _RSA if kind == "RSA" else _BY_CURVE.get(str(written.get("crv")), ())
    named = written.get("alg")
    public = {name: value for name, value in written.items() if name in _PUBLIC_MEMBERS}
    try:
        keys = {one: jwt.PyJWK(public, one) for one in fitting if named in (None, one)}
    except (jwt.PyJWTError, ValueError, TypeError, KeyError):
        return None
    if kind == "RSA" and any(one.key.key_size < _MIN_RSA_BITS for one in keys.values()):
        return None
    return VerificationKey(key_id, keys) if keys else None


_PUBLIC_MEMBERS = frozenset({"kty", "n", "e", "crv", "x", "y"})
