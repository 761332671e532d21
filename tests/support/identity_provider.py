"""An identity provider for tests: keys of its own, the documents that name them, and any token that a test asks for."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

__all__ = ["AUDIENCE", "ISSUER", "NOW", "IdentityProvider", "SigningKey", "make_key"]

ISSUER = "https://id.example/realms/studio"
AUDIENCE = "https://rotoscope.example/mcp"
NOW = 1_800_000_000.0


@dataclass(frozen=True)
class SigningKey:
    """A private key with its name and its algorithm."""

    name: str
    algorithm: str
    private: Any

    def public_form(self) -> dict[str, Any]:
        """The public key as a JSON Web Key."""
        maker = jwt.get_algorithm_by_name(self.algorithm)
        form = json.loads(maker.to_jwk(self.private.public_key()))
        return {**form, "kid": self.name, "alg": self.algorithm, "use": "sig"}

    def public_pem(self) -> bytes:
        pem: bytes = self.private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        return pem


@cache
def make_key(name: str, algorithm: str = "RS256") -> SigningKey:
    """A key, the same for the same name in one run: making one takes a while."""
    curves: dict[str, ec.EllipticCurve] = {"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1()}
    private: Any
    if algorithm == "EdDSA":
        private = ed25519.Ed25519PrivateKey.generate()
    elif algorithm in curves:
        private = ec.generate_private_key(curves[algorithm])
    else:
        private = rsa.generate_private_key(65537, 1024 if name == "short" else 2048)
    return SigningKey(name, algorithm, private)


@dataclass
class IdentityProvider:
    """An ASGI app with the documents of one issuer.

    Attributes:
        issuer: whose metadata it serves.
        keys: those that it publishes, as JSON.
        is_away: whether it answers 503 to everything.
        style: where its metadata is: `oauth` (RFC 8414) or `openid`.
        metadata: what its metadata says beside or in place of the usual.
        hits: the paths that were asked for.
    """

    issuer: str = ISSUER
    keys: list[Any] = field(default_factory=lambda: [make_key("one").public_form()])
    is_away: bool = False
    style: str = "oauth"
    metadata: Mapping[str, Any] = field(default_factory=dict)
    hits: list[str] = field(default_factory=list)
    body: bytes | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = "/realms/studio"
        places = {
            "oauth": f"/.well-known/oauth-authorization-server{path}",
            "openid": f"{path}/.well-known/openid-configuration",
        }
        app = Starlette(routes=[Route(places[self.style], self._metadata), Route(f"{path}/keys", self._keys)])
        self.hits.append(scope["path"])
        if self.is_away:
            await Response("away", status_code=503)(scope, receive, send)
        else:
            await app(scope, receive, send)

    async def _metadata(self, _: Request) -> Response:
        return JSONResponse({"issuer": self.issuer, "jwks_uri": f"{self.issuer}/keys", **self.metadata})

    async def _keys(self, _: Request) -> Response:
        return JSONResponse({"keys": self.keys}) if self.body is None else Response(self.body)

    def token(
        self,
        key: SigningKey | None = None,
        headers: Mapping[str, Any] | None = None,
        without: tuple[str, ...] = (),
        **claims: Any,
    ) -> str:
        """A token for the tests' server; claims and headers are added or replaced, or left out."""
        key = key or make_key("one")
        usual = {"iss": ISSUER, "sub": "anna", "aud": AUDIENCE, "iat": NOW - 60, "exp": NOW + 600, "client_id": "app"}
        payload = {name: value for name, value in {**usual, **claims}.items() if name not in without}
        return jwt.encode(
            payload, key.private, algorithm=key.algorithm, headers={"kid": key.name, "typ": "at+jwt", **(headers or {})}
        )
