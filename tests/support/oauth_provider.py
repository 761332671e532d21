"""An identity provider at which people sign in, for tests: what `identity_provider` publishes, and OAuth's endpoints.

Whoever comes to it is signed in already and lets every client in at once, as at the single sign-on of a company.
"""

import base64
import hashlib
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, urlencode

from identity_provider import ISSUER, IdentityProvider
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

__all__ = ["OAuthProvider"]

_PATH = "/realms/studio"
_TOKEN_SECONDS = 600


@dataclass
class OAuthProvider:
    """An ASGI app: an authorization server with dynamic registration, authorization codes and PKCE.

    Attributes:
        issuer: its address, whose path is that of `identity_provider`.
        person: who is signed in at it.
        clock: the time in Unix seconds.
        codes: what each code was given for.
    """

    issuer: str = ISSUER
    person: str = "anna"
    clock: Callable[[], float] = time.time
    codes: dict[str, dict[str, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        endpoints = {f"{name}_endpoint": f"{self.issuer}/{name}" for name in ("authorization", "token", "registration")}
        more = {
            **endpoints,
            "response_types_supported": ["code"],
            "grant_types_supported": ["authorization_code"],
            "code_challenge_methods_supported": ["S256"],
            "token_endpoint_auth_methods_supported": ["none"],
            "authorization_response_iss_parameter_supported": True,
        }
        self._documents = IdentityProvider(issuer=self.issuer, metadata=more)
        self._app = Starlette(
            routes=[
                Route(f"{_PATH}/authorization", self._authorize),
                Route(f"{_PATH}/token", self._exchange, methods=["POST"]),
                Route(f"{_PATH}/registration", self._register, methods=["POST"]),
            ]
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_endpoint = any(route.path == scope.get("path") for route in self._app.routes if isinstance(route, Route))
        await (self._app if is_endpoint else self._documents)(scope, receive, send)

    async def _register(self, request: Request) -> Response:
        said = await request.json()
        return JSONResponse({**said, "client_id": f"client-{secrets.token_hex(8)}"}, status_code=201)

    async def _authorize(self, request: Request) -> Response:
        asked = dict(request.query_params)
        assert asked["response_type"] == "code"
        assert asked["code_challenge_method"] == "S256"
        code = secrets.token_urlsafe(16)
        self.codes[code] = asked
        answer = {"code": code, "iss": self.issuer, **({"state": asked["state"]} if "state" in asked else {})}
        return RedirectResponse(f"{asked['redirect_uri']}?{urlencode(answer)}", 303)

    async def _exchange(self, request: Request) -> Response:
        given = dict(parse_qsl((await request.body()).decode()))
        asked = self.codes.pop(given.get("code", ""), {})
        digest = hashlib.sha256(given.get("code_verifier", "").encode()).digest()
        proof = base64.urlsafe_b64encode(digest).decode().rstrip("=")
        same = all(asked.get(name) == given.get(name) for name in ("client_id", "redirect_uri", "resource"))
        if not asked or not same or asked["code_challenge"] != proof:
            return JSONResponse({"error": "invalid_grant"}, status_code=400)
        now = int(self.clock())
        token = self._documents.token(
            iss=self.issuer,
            sub=self.person,
            aud=asked["resource"],
            iat=now,
            exp=now + _TOKEN_SECONDS,
            client_id=asked["client_id"],
            scope=asked.get("scope", ""),
        )
        return JSONResponse(
            {"access_token": token, "token_type": "Bearer", "expires_in": _TOKEN_SECONDS},
            headers={"Cache-Control": "no-store"},
        )
