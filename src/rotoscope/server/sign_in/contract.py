"""What the HTTP app needs of sign-in, whichever way is chosen: who may call, and on whose behalf a request comes."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from mcp import MCPError
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import TokenVerifier
from mcp.server.context import ServerRequestContext
from mcp_types import INVALID_REQUEST
from starlette.requests import HTTPConnection, Request
from starlette.routing import BaseRoute
from starlette.types import ASGIApp

from rotoscope.server.sign_in.protection import METADATA_PATH, metadata_route, require_token
from rotoscope.server.sign_in.verified import SignedInToken

__all__ = ["SignIn"]


@dataclass(frozen=True, slots=True)
class SignIn:
    """One way to sign in.

    Attributes:
        token_verifier: tells whether a bearer token is good, by a `SignedInToken`.
        endpoint: the address of the MCP endpoint, which is the name of the protected resource (RFC 9728).
        scopes: what every token must allow.
        authorization_servers: the issuers of those that give tokens to clients; empty where tokens are handed out by
            the operator.
        more_routes: what this way serves besides, open to everybody.
        open_paths: beginnings of the paths that pages of any origin may ask.
        browser_principal: who is signed in in the browser that sends a request, where the server has pages to sign in;
            None: it has none, so a page cannot know.
    """

    token_verifier: TokenVerifier
    endpoint: str
    scopes: tuple[str, ...] = ()
    authorization_servers: tuple[str, ...] = ()
    more_routes: tuple[BaseRoute, ...] = ()
    open_paths: tuple[str, ...] = (METADATA_PATH,)
    browser_principal: Callable[[Request], Awaitable[str | None]] | None = None

    def protect(self, app: ASGIApp) -> ASGIApp:
        """An app that answers only requests with a good token: 401 without one, 403 without its scopes, else `app`.

        It answers 503 while nobody can tell whether a token is good.
        """
        return require_token(app, self.token_verifier, self.endpoint, self.scopes)

    def routes(self) -> list[BaseRoute]:
        """The routes to serve beside the MCP endpoint: the metadata of the protected resource, and those of its own."""
        return [metadata_route(self.endpoint, self.scopes, self.authorization_servers), *self.more_routes]

    def principal_of(self, ctx: ServerRequestContext[Any, Any]) -> str:
        """On whose behalf an MCP request comes: what the server is built with.

        Raises:
            MCPError: the request did not come through `protect`, so nobody knows.
        """
        if ctx.request is None:
            raise _not_signed_in()
        return self.find_principal(ctx.request)

    def find_principal(self, connection: HTTPConnection) -> str:
        """On whose behalf an HTTP request comes that has passed `protect`.

        Raises:
            MCPError: it has not, so nobody knows.
        """
        user = connection.scope.get("user")
        token = user.access_token if isinstance(user, AuthenticatedUser) else None
        if not isinstance(token, SignedInToken):
            raise _not_signed_in()
        return token.principal


def _not_signed_in() -> MCPError:
    return MCPError(INVALID_REQUEST, "This request is not signed in.")
