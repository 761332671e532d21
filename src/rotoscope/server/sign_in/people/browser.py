"""The pages that a person's browser asks for: sign-in, consent, one-time links, sign-out.

A request for authorization goes from page to page in their addresses, and is checked again at each: against the client
as it is kept, so what a person is shown is what they decide on. The tokens of forms are bound to it.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from urllib.parse import urlencode

from mcp.server.auth.handlers.authorize import AuthorizationRequest
from mcp.server.auth.provider import AuthorizationParams, AuthorizeError, construct_redirect_uri
from mcp.server.transport_security import RequestBodyLimitMiddleware
from mcp.shared.auth import InvalidRedirectUriError
from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route, request_response

from rotoscope.errors import StorageFailed
from rotoscope.server.sign_in.people.clients import SignInClient
from rotoscope.server.sign_in.people.forms import Browser
from rotoscope.server.sign_in.people.pages import (
    ConsentView,
    FormView,
    consent_page,
    link_page,
    message_page,
    sign_in_page,
)
from rotoscope.server.sign_in.people.provider import SIGN_IN_PATH, PeopleProvider, check_authorization
from rotoscope.server.sign_in.people.redirects import describe_redirect
from rotoscope.server.sign_in.people.setup import PeopleSetup
from rotoscope.server.sign_in.people.tokens import hash_secret, is_secret
from rotoscope.store.grants import Code
from rotoscope.store.rates import RateLimit, Rates

__all__ = ["BrowserPages", "PageRefused", "Pending"]

_BODY_BYTES = 16 * 1024
_TRIES_OF_NAME, _TRIES_OF_ADDRESS, _WINDOW_SECONDS = 10, 100, 900.0
_WRONG = "The name or the passphrase is not right."
_TOO_MANY = "Too many attempts. Try again in a quarter of an hour, or use a sign-in link."
_CONSENT_PATH, _LEAVE_PATH, _LINK_PATH = f"{SIGN_IN_PATH}/consent", f"{SIGN_IN_PATH}/out", f"{SIGN_IN_PATH}/links"
_Page = Callable[[Request], Awaitable[Response]]
_log = logging.getLogger(__name__)


class PageRefused(Exception):
    """A page cannot be shown as it was asked for; its text says why."""


@dataclass(frozen=True, slots=True)
class Pending:
    """A request for authorization that waits for a person, checked.

    Attributes:
        query: the same again, for the address of the next page.
    """

    client: SignInClient
    params: AuthorizationParams
    query: str


@dataclass(frozen=True, slots=True)
class BrowserPages:
    """The pages.

    Attributes:
        setup: what they are built from.
        provider: knows the clients.
    """

    setup: PeopleSetup
    provider: PeopleProvider

    def routes(self) -> list[BaseRoute]:
        """Their routes."""
        return [
            _route(SIGN_IN_PATH, self.show, ["GET"]),
            _route(SIGN_IN_PATH, self.sign_in, ["POST"]),
            _route(_CONSENT_PATH, self.decide, ["POST"]),
            _route(_LEAVE_PATH, self.sign_out, ["POST"]),
            _route(_LINK_PATH + "/{link}", self.show_link, ["GET"]),
            _route(_LINK_PATH + "/{link}", self.use_link, ["POST"]),
        ]

    async def show(self, request: Request) -> Response:
        """The page of sign-in, or of consent for who is signed in."""
        browser = Browser.of(self.setup, request)
        person = await browser.find_person()
        if person is None:
            pending = await self._read_pending(request.query_params) if request.query_params else None
            reply = self._sign_in_page(browser, pending)
            return browser.remember(reply if pending is None else browser.keep_waiting(pending.query, reply))
        leave = FormView(self._path(_LEAVE_PATH), browser.token("out"))
        if not request.query_params:
            words = f"You are signed in as {person}. Go back to your app and connect it to this server."
            return message_page("Signed in", words, leave=leave)
        pending = await self._read_pending(request.query_params)
        view = ConsentView(
            person,
            pending.client.client_name,
            pending.client.host,
            describe_redirect(pending.params.redirect_uri),
            FormView(self._path(_CONSENT_PATH, pending.query), browser.token(_consent_purpose(pending))),
            FormView(self._path(_LEAVE_PATH, pending.query), leave.token),
        )
        return browser.stop_waiting(consent_page(view))

    async def sign_in(self, request: Request) -> Response:
        """Take name and passphrase."""
        browser = Browser.of(self.setup, request)
        pending = await self._read_pending(request.query_params) if request.query_params else None
        form = await _read_form(request)
        if not browser.is_own_form(request, form.get("token"), "sign-in"):
            return browser.remember(self._sign_in_page(browser, pending, "This page was too old. Try again.", 403))
        name, passphrase = form.get("name", "").strip()[:128], form.get("passphrase", "")
        limits = self._limits(name, request)
        rates = Rates(self.setup.database, self.setup.clock)
        if not await rates.take(*limits):
            return self._sign_in_page(browser, pending, _TOO_MANY, 429)
        person = await self.setup.people.find(name)
        kept = None if person is None else person.passphrase_hash
        if not await self.setup.passphrases.is_right(passphrase, kept) or person is None or kept is None:
            return self._sign_in_page(browser, pending, _WRONG, 403)
        await rates.reset(limits[:1])
        if self.setup.passphrases.needs_hash(kept):
            renewed = await self.setup.passphrases.hash(passphrase)
            await self.setup.people.set_passphrase(name, renewed, formerly=kept)
        return await browser.sign_in(person.name, self._redirect("" if pending is None else pending.query))

    def _limits(self, name: str, request: Request) -> tuple[RateLimit, RateLimit]:
        """Names are counted whether or not they are somebody's: an answer must not tell them apart."""
        return (
            RateLimit("sign-in with name", name.lower(), _TRIES_OF_NAME, _WINDOW_SECONDS),
            RateLimit("sign-in from", self.setup.address_of(request), _TRIES_OF_ADDRESS, _WINDOW_SECONDS),
        )

    async def decide(self, request: Request) -> Response:
        """Take a person's decision, and send the browser back to the client with it."""
        browser = Browser.of(self.setup, request)
        pending = await self._read_pending(request.query_params)
        form = await _read_form(request)
        person = await browser.find_person()
        if person is None or not browser.is_own_form(request, form.get("token"), _consent_purpose(pending)):
            return self._redirect(pending.query)  # shown again; nothing was decided
        if form.get("decision") != "allow":
            return self._answer_client(pending, error="access_denied", error_description="The person has not agreed.")
        code = self.setup.make_secret()
        if not await self.setup.grants.add_code(hash_secret(code), self._code_of(pending, person)):
            raise PageRefused("The app has gone, or too much was allowed at once. Start again in the app.")
        return self._answer_client(pending, code=code)

    def _code_of(self, pending: Pending, person: str) -> Code:
        params = pending.params
        return Code(
            client_id=pending.client.client_id,
            person=person,
            scopes=tuple(params.scopes or self.setup.scopes),
            challenge=params.code_challenge,
            redirect_uri=str(params.redirect_uri),
            redirect_given=params.redirect_uri_provided_explicitly,
            resource=self.setup.endpoint,
        )

    def _answer_client(self, pending: Pending, **answer: str) -> Response:
        params = pending.params
        url = construct_redirect_uri(str(params.redirect_uri), **answer, state=params.state, iss=self.setup.public_url)
        return RedirectResponse(url, 303, {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"})

    async def sign_out(self, request: Request) -> Response:
        """Sign the browser out, and show the page of sign-in for the same request."""
        browser = Browser.of(self.setup, request)
        form = await _read_form(request)
        pending = await self._read_pending(request.query_params) if request.query_params else None
        reply = self._redirect("" if pending is None else pending.query)
        if not browser.is_own_form(request, form.get("token"), "out"):
            return reply
        return await browser.sign_out(reply)

    async def show_link(self, request: Request) -> Response:
        """The page behind a one-time link."""
        browser = Browser.of(self.setup, request)
        link = request.path_params["link"]
        person = await self.setup.people.read_link(hash_secret(link)) if is_secret(link) else None
        if person is None:
            return _dead_link()
        return browser.remember(link_page(FormView(self._path(f"{_LINK_PATH}/{link}"), browser.token(link)), person))

    async def use_link(self, request: Request) -> Response:
        """Sign a person in by a one-time link, and go on with the request that waits in the browser, if one does."""
        browser = Browser.of(self.setup, request)
        link = request.path_params["link"]
        form = await _read_form(request)
        if not is_secret(link) or not browser.is_own_form(request, form.get("token"), link):
            return _dead_link()
        person = await self.setup.people.use_link(hash_secret(link))
        if person is None:
            return _dead_link()
        return await browser.sign_in(person, self._redirect(browser.waiting_query(request)))

    async def _read_pending(self, query: Mapping[str, str]) -> Pending:
        """The request for authorization in the address of a page.

        Raises:
            PageRefused: it is none that a person could decide on.
        """
        try:
            asked = AuthorizationRequest.model_validate(dict(query))
            client = await self.provider.get_client(asked.client_id)
            if client is None:
                raise PageRefused("It is not known here (any more). Start again in the app.")
            params = AuthorizationParams(
                state=asked.state,
                scopes=client.validate_scope(asked.scope),
                code_challenge=asked.code_challenge,
                redirect_uri=client.validate_redirect_uri(asked.redirect_uri),
                redirect_uri_provided_explicitly=asked.redirect_uri is not None,
                resource=asked.resource,
            )
            check_authorization(params, self.setup.endpoint)
        except (ValidationError, InvalidRedirectUriError, AuthorizeError):
            raise PageRefused("The request of the app is not complete. Start again in the app.") from None
        known = {name: value for name, value in query.items() if name in AuthorizationRequest.model_fields}
        return Pending(client, params, urlencode(known))

    def _sign_in_page(
        self, browser: Browser, pending: Pending | None, problem: str | None = None, status: int = 200
    ) -> Response:
        query = "" if pending is None else pending.query
        form = FormView(self._path(SIGN_IN_PATH, query), browser.token("sign-in"))
        return sign_in_page(form, None if pending is None else pending.client.client_name, problem, status)

    def _path(self, path: str, query: str = "") -> str:
        return f"{self.setup.public_url}{path}" + f"?{query}" * bool(query)

    def _redirect(self, query: str) -> Response:
        return RedirectResponse(self._path(SIGN_IN_PATH, query), 303, {"Cache-Control": "no-store"})


def _consent_purpose(pending: Pending) -> str:
    return f"consent {pending.query}"


def _dead_link() -> Response:
    return message_page("This link is not good", "It was used, or is too old. Ask for another one.", 404)


async def _read_form(request: Request) -> dict[str, str]:
    form = await request.form(max_files=0, max_fields=10)
    return {name: value for name, value in form.items() if isinstance(value, str)}


def _route(path: str, page: _Page, methods: list[str]) -> BaseRoute:
    async def answer(request: Request) -> Response:
        try:
            return await page(request)
        except PageRefused as refused:
            return message_page("This app cannot be connected", str(refused), 400)
        except StorageFailed as error:
            _log.warning("a page could not be shown: %s", error.message)
            return message_page("Not now", "The server cannot reach its data. Try again in a minute.", 503)

    return Route(path, RequestBodyLimitMiddleware(request_response(answer), _BODY_BYTES), methods=methods)
