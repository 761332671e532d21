"""The guard of the MCP endpoint on the SDK's middleware, and the metadata of the protected resource (RFC 9728)."""

import logging
from collections.abc import Sequence

from mcp.server.auth.middleware.auth_context import AuthContextMiddleware
from mcp.server.auth.middleware.bearer_auth import BearerAuthBackend, RequireAuthMiddleware
from mcp.server.auth.provider import AccessToken, TokenVerifier
from mcp.server.auth.routes import build_resource_metadata_url, cors_middleware
from pydantic import AnyHttpUrl
from starlette.authentication import AuthCredentials, AuthenticationBackend, AuthenticationError, BaseUser
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp

from rotoscope.server.sign_in.verified import SignInUnavailable

__all__ = ["MAX_TOKEN_CHARS", "METADATA_PATH", "metadata_route", "require_token"]

METADATA_PATH = "/.well-known/oauth-protected-resource"
"""Where the metadata of a protected resource is, before the path of the resource (RFC 9728, section 3.1)."""

MAX_TOKEN_CHARS = 16 * 1024
"""The longest bearer token that is looked at."""

_RETRY_SECONDS = 5
_log = logging.getLogger(__name__)


def require_token(app: ASGIApp, verifier: TokenVerifier, endpoint: str, scopes: Sequence[str]) -> ASGIApp:
    """An app that answers only requests with a good bearer token.

    Args:
        app: answers them; it finds the token's facts in `scope["user"]`, and the SDK in its context.
        verifier: tells whether a token is good.
        endpoint: the address of the MCP endpoint.
        scopes: what every token must allow.
    """
    where = build_resource_metadata_url(AnyHttpUrl(endpoint))
    checked = AuthContextMiddleware(RequireAuthMiddleware(app, list(scopes), where))
    return AuthenticationMiddleware(checked, backend=_Backend(verifier), on_error=_answer_unavailable)


def metadata_route(endpoint: str, scopes: Sequence[str], authorization_servers: Sequence[str]) -> BaseRoute:
    """The route of the resource's metadata, readable by pages of every origin.

    The SDK's own model requires an authorization server, which a server with tokens of its operator does not have.
    """
    metadata: dict[str, object] = {
        "resource": endpoint,
        "bearer_methods_supported": ["header"],
        "resource_name": "rotoscope",
    }
    if authorization_servers:
        metadata["authorization_servers"] = list(authorization_servers)
    if scopes:
        metadata["scopes_supported"] = list(scopes)

    def answer(_: Request) -> Response:
        return JSONResponse(metadata, headers={"Cache-Control": "public, max-age=3600"})

    path = AnyHttpUrl(str(build_resource_metadata_url(AnyHttpUrl(endpoint)))).path
    assert path is not None, "a well-known address has a path"
    return Route(path, cors_middleware(answer, ["GET", "OPTIONS"]), methods=["GET", "OPTIONS"])


class _Backend(AuthenticationBackend):
    """Reads the bearer token of a request and has it verified."""

    def __init__(self, verifier: TokenVerifier) -> None:
        self._inner = BearerAuthBackend(_Bounded(verifier))

    async def authenticate(self, conn: HTTPConnection) -> tuple[AuthCredentials, BaseUser] | None:
        try:
            found: tuple[AuthCredentials, BaseUser] | None = await self._inner.authenticate(conn)
        except SignInUnavailable as error:
            _log.warning("a request could not be signed in: %s", error.message)
            raise AuthenticationError(error.message) from error
        return found


class _Bounded:
    """A verifier that looks at no token that is longer than any real one."""

    def __init__(self, inner: TokenVerifier) -> None:
        self._inner = inner

    async def verify_token(self, token: str) -> AccessToken | None:
        return await self._inner.verify_token(token) if 0 < len(token) <= MAX_TOKEN_CHARS else None


def _answer_unavailable(_: HTTPConnection, error: AuthenticationError) -> Response:
    body = {"error": "temporarily_unavailable", "error_description": str(error)}
    return JSONResponse(body, status_code=503, headers={"Retry-After": str(_RETRY_SECONDS)})
