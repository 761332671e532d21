"""The OAuth endpoints: the SDK's, with what they leave open. Each answers by itself; none keeps anything in memory.

What is added: bounds and rates, documents of clients, the resource of a request for tokens, secrets that are kept only
as hashes, and revocation by clients without a secret. Nobody can use the server to send a browser elsewhere: before a
person has decided, a request that cannot be answered ends on a page, with a link that says where it leads (RFC 9700,
section 4.11.2; anybody may register a client).
"""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import parse_qs, urlsplit

from mcp.server.auth.handlers.authorize import AuthorizationHandler
from mcp.server.auth.handlers.metadata import MetadataHandler
from mcp.server.auth.handlers.register import RegistrationHandler
from mcp.server.auth.handlers.token import TokenHandler
from mcp.server.auth.middleware.client_auth import AuthenticationError
from mcp.server.auth.provider import construct_redirect_uri
from mcp.server.auth.routes import (
    AUTHORIZATION_PATH,
    REGISTRATION_PATH,
    REVOCATION_PATH,
    TOKEN_PATH,
    build_metadata,
    cors_middleware,
)
from mcp.server.auth.settings import AuthSettings, ClientRegistrationOptions, RevocationOptions
from mcp.server.transport_security import RequestBodyLimitMiddleware
from mcp.shared.auth import InvalidRedirectUriError, OAuthMetadata
from mcp.shared.inbound import MCP_PROTOCOL_VERSION_HEADER
from pydantic import AnyUrl, TypeAdapter, ValidationError
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from rotoscope.errors import StorageFailed
from rotoscope.server.sign_in.people.assertions import ALGORITHMS, ClientKeys
from rotoscope.server.sign_in.people.client_auth import KeptClientAuthenticator, with_client_id
from rotoscope.server.sign_in.people.clients import ClientRefused, SignInClient
from rotoscope.server.sign_in.people.documents import is_document_address, read_client_document
from rotoscope.server.sign_in.people.pages import BackLink, message_page
from rotoscope.server.sign_in.people.provider import PeopleProvider, is_resource
from rotoscope.server.sign_in.people.redirects import describe_redirect
from rotoscope.server.sign_in.people.setup import PeopleSetup
from rotoscope.server.sign_in.people.tokens import hash_secret, is_secret

__all__ = ["METADATA_PATH", "OPEN_PATHS", "OAuthEndpoints"]

METADATA_PATH = "/.well-known/oauth-authorization-server"
OPEN_PATHS = (METADATA_PATH, TOKEN_PATH, REGISTRATION_PATH, REVOCATION_PATH)
"""What pages of every origin may ask: it is public, or carries its own proof, and no cookie counts there."""

_BODY_BYTES = 64 * 1024
_REGISTRATIONS, _DOCUMENTS, _HOUR = 60, 120, 3600.0  # in an hour, from one address
_NO_STORE = {"Cache-Control": "no-store", "Pragma": "no-cache"}
_ANY_URL = TypeAdapter(AnyUrl)
_Endpoint = Callable[[Request], Awaitable[Response]]
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class OAuthEndpoints:
    """The endpoints that clients ask.

    Attributes:
        setup: what they are built from.
        provider: the authorisation server behind them.
        keys: reads the keys of clients that sign; None: there are none.
    """

    setup: PeopleSetup
    provider: PeopleProvider
    keys: ClientKeys | None

    def routes(self) -> list[BaseRoute]:
        """Their routes."""
        metadata = cors_middleware(MetadataHandler(self.metadata()).handle, ["GET", "OPTIONS"])
        methods = ["GET", "OPTIONS"]
        routes: list[BaseRoute] = [
            Route(METADATA_PATH, metadata, methods=methods),
            # Where the issuer has a path, it stands behind (RFC 8414, section 3.1).
            Route(METADATA_PATH + "/{path:path}", metadata, methods=methods),
            Route(AUTHORIZATION_PATH, self.authorize, methods=["GET"]),
        ]
        for path, endpoint in (
            (TOKEN_PATH, self.token),
            (REGISTRATION_PATH, self.register),
            (REVOCATION_PATH, self.revoke),
        ):
            # The innermost is the size, so that a page of another origin can read its refusal too.
            bounded = RequestBodyLimitMiddleware(_asgi(_answer_storage_failure(endpoint)), _BODY_BYTES)
            routes.append(Route(path, _with_cors(bounded), methods=["POST", "OPTIONS"]))
        return routes

    def metadata(self) -> OAuthMetadata:
        """What clients learn of this server (RFC 8414)."""
        settings = AuthSettings.model_validate({"issuer_url": self.setup.public_url, "resource_server_url": None})
        options = ClientRegistrationOptions(enabled=True, valid_scopes=list(self.setup.scopes))
        methods = ["none", "client_secret_post", "client_secret_basic"]
        has_documents = self.setup.read_document is not None
        methods += ["private_key_jwt"] if has_documents else []
        known = build_metadata(settings.issuer_url, None, options, RevocationOptions(enabled=True))
        return known.model_copy(
            update={
                "token_endpoint_auth_methods_supported": methods,
                "token_endpoint_auth_signing_alg_values_supported": list(ALGORITHMS) if has_documents else None,
                "revocation_endpoint_auth_methods_supported": methods,
                "client_id_metadata_document_supported": has_documents,
                "authorization_response_iss_parameter_supported": True,
            }
        )

    async def authorize(self, request: Request) -> Response:
        """Where a person's browser begins: to the page of sign-in, or back to the client with an error."""
        try:
            client = await self._resolve(request)
            asked = request.query_params.get("redirect_uri")
            client.validate_redirect_uri(None if asked is None else _ANY_URL.validate_python(asked))
        except (ClientRefused, InvalidRedirectUriError, ValidationError) as refused:
            words = "Its redirect address is no URL." if isinstance(refused, ValidationError) else _words(refused)
            return message_page("This app cannot be connected", words, HTTPStatus.BAD_REQUEST)
        except StorageFailed as error:
            _log.warning("a client could not be looked up: %s", error.message)
            return message_page("Not now", "The server cannot reach its data. Try again in a minute.", 503)
        reply = await AuthorizationHandler(self.provider).handle(request)
        location = str(reply.headers.get("location", ""))
        if location.startswith(f"{self.setup.public_url}/"):
            return reply
        words = parse_qs(urlsplit(location).query).get("error_description", ["It asked for what is not possible."])[-1]
        back = None
        if location:
            url = construct_redirect_uri(location, iss=self.setup.public_url)
            back = BackLink(url, describe_redirect(_ANY_URL.validate_python(url)).words)
        return message_page("This app cannot be connected", words, HTTPStatus.BAD_REQUEST, back=back)

    async def _resolve(self, request: Request) -> SignInClient:
        """The client of a request for authorization; its document is read where it is not known, or too old.

        Raises:
            ClientRefused: there is no such client.
        """
        client_id = request.query_params.get("client_id", "")
        clients, now = self.setup.clients, self.setup.clock()
        stored = await clients.find(client_id[:1000])
        fresh = stored is not None and (stored.fresh_until is None or stored.fresh_until > now)
        if not fresh and is_document_address(client_id) and self.setup.read_document is not None:
            if not await self.setup.is_within("documents", self.setup.address_of(request), _DOCUMENTS, _HOUR):
                raise ClientRefused("Too many apps were connected from this address. Try again in an hour.")
            if not await clients.keep(await read_client_document(client_id, self.setup.read_document, now)):
                raise ClientRefused("Too many apps wait to be connected. Try again tomorrow.")
        client = await self.provider.get_client(client_id)
        if client is None:
            raise ClientRefused("It is not known here (any more). Remove this server in the app, and add it again.")
        return client

    async def token(self, request: Request) -> Response:
        """Exchanges a code, or renews tokens."""
        request = await with_client_id(request)
        resource = (await request.form()).get("resource")
        if resource is not None and not is_resource(str(resource), self.setup.endpoint):
            return _refuse(400, "invalid_target", f"Tokens of this server are for {self.setup.endpoint} alone.")
        reply: Response = await TokenHandler(self.provider, self._authenticator()).handle(request)
        return reply

    async def register(self, request: Request) -> Response:
        """Registers a client (RFC 7591)."""
        if not await self.setup.is_within("registrations", self.setup.address_of(request), _REGISTRATIONS, _HOUR):
            reply = _refuse(429, "temporarily_unavailable", "Too many clients were registered. Try again in an hour.")
            reply.headers["Retry-After"] = str(int(_HOUR))
            return reply
        return await RegistrationHandler(self.provider, ClientRegistrationOptions(enabled=True)).handle(request)

    async def revoke(self, request: Request) -> Response:
        """Ends the grant of a token (RFC 7009); an unknown token is no error."""
        request = await with_client_id(request)
        try:
            client = await self._authenticator().authenticate_request(request)
        except AuthenticationError as error:
            return _refuse(401, "invalid_client", error.message)
        token = (await request.form()).get("token")
        if not isinstance(token, str):
            return _refuse(400, "invalid_request", "token is missing.")
        if is_secret(token):
            await self.setup.grants.end_grant_of_token(hash_secret(token), client.client_id)
        return Response(status_code=200, headers=_NO_STORE)

    def _authenticator(self) -> KeptClientAuthenticator:
        issuer = self.setup.public_url
        return KeptClientAuthenticator(self.provider, self.keys, (issuer, issuer + TOKEN_PATH))


def _words(error: ClientRefused | InvalidRedirectUriError) -> str:
    return error.message if isinstance(error, InvalidRedirectUriError) else str(error)


def _refuse(status: int, error: str, description: str) -> Response:
    return JSONResponse({"error": error, "error_description": description}, status, headers=_NO_STORE)


def _answer_storage_failure(endpoint: _Endpoint) -> _Endpoint:
    """The same endpoint, that answers 503 while the ledger is away: a client keeps its tokens and tries again."""

    async def answer(request: Request) -> Response:
        try:
            return await endpoint(request)
        except StorageFailed as error:
            _log.warning("a client could not be answered: %s", error.message)
            reply = _refuse(503, "temporarily_unavailable", "The server cannot reach its data. Try again.")
            reply.headers["Retry-After"] = "5"
            return reply

    return answer


def _asgi(endpoint: _Endpoint) -> ASGIApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        response = await endpoint(Request(scope, receive, send))
        await response(scope, receive, send)

    return app


def _with_cors(app: ASGIApp) -> ASGIApp:
    headers = [MCP_PROTOCOL_VERSION_HEADER, "Authorization", "Content-Type"]
    return CORSMiddleware(app, allow_origins=["*"], allow_methods=["POST", "OPTIONS"], allow_headers=headers)
