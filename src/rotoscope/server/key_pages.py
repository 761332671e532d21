"""The page on which a principal enters a provider key of its own: one form, no script, one use.

Whoever has the address may enter a key for the principal that it names, and can read nothing; so the page says for
whose runs the key is used, and a person must agree to that. Where the server has sign-in pages of its own, the browser
must be signed in as that principal. A form is taken only from a page that was shown in the same browser.
"""

import hmac
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from html import escape
from urllib.parse import parse_qsl, urlsplit

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from rotoscope.contracts.characters import one_line
from rotoscope.errors import InvalidInput, StorageFailed
from rotoscope.models.access import check_own_key
from rotoscope.server.key_entry import KEYS_PATH, TICKET_SECONDS, KeyEntry
from rotoscope.server.sign_in.people.forms import form_token
from rotoscope.server.sign_in.people.pages import build_page, message_page
from rotoscope.server.sign_in.people.tokens import is_secret, make_secret
from rotoscope.store.provider_keys import KeyTicket

__all__ = ["KeyPages", "key_routes"]

_COOKIE = "rotoscope-keys"
_MAX_BODY_BYTES, _MAX_FIELDS = 8 * 1024, 8
_OK, _BAD, _FORBIDDEN, _MISSING, _AWAY = 200, 400, 403, 404, 503

BrowserPrincipal = Callable[[Request], Awaitable[str | None]]


def key_routes(entry: KeyEntry, browser_principal: BrowserPrincipal | None = None) -> list[BaseRoute]:
    """The routes of the page.

    Args:
        entry: the keys and tickets.
        browser_principal: who is signed in in a browser; None: the server has no pages to sign in.
    """
    pages = KeyPages(entry, browser_principal)
    path = f"{KEYS_PATH}/{{ticket}}"
    return [Route(path, pages.show, methods=["GET"]), Route(path, pages.take, methods=["POST"])]


@dataclass(frozen=True, slots=True)
class KeyPages:
    """Shows the form and takes it."""

    entry: KeyEntry
    browser_principal: BrowserPrincipal | None = None

    async def show(self, request: Request) -> Response:
        """The form. Looking at it uses nothing up: programs open links, too."""
        found = await self._find(request)
        if isinstance(found, Response):
            return found
        cookie = make_secret()
        return self._with_cookie(self._form(request, found, cookie), cookie)

    async def take(self, request: Request) -> Response:
        """Keep the key that was entered."""
        found = await self._find(request)
        if isinstance(found, Response):
            return found
        cookie = request.cookies.get(self._cookie_name, "")
        form = await _read_form(request)
        if not self._is_own_form(request, cookie, form.get("token", "")):
            return message_page("This form is not ours", "Open the link again, and enter the key there.", _FORBIDDEN)
        provider = form.get("provider", "")
        if provider not in found.providers or form.get("agreed") != "yes":
            return self._form(request, found, cookie, "Confirm whose runs the key is for.", _BAD)
        try:
            key = check_own_key(self.entry.titles.get(provider, provider), form.get("key", ""))
        except InvalidInput as error:
            return self._form(request, found, cookie, f"{error.message} {error.hint}".strip(), _BAD)
        return await self._keep(request, provider, key)

    async def _keep(self, request: Request, provider: str, key: str) -> Response:
        try:
            kept = await self.entry.keys.use_ticket(request.path_params["ticket"], provider, key)
        except StorageFailed:
            return message_page("Not now", "The server cannot keep the key at the moment. Try again.", _AWAY)
        if kept is None:
            return _gone()
        title = self.entry.titles.get(provider, provider)
        words = f"The key for {title} is kept, encrypted. You can close this page and go back to the conversation."
        return message_page("Thank you", words)

    async def _find(self, request: Request) -> KeyTicket | Response:
        """What the ticket of a request allows, or why it allows nothing."""
        ticket = request.path_params["ticket"]
        try:
            found = await self.entry.keys.find_ticket(ticket) if is_secret(ticket) else None
        except StorageFailed:
            return message_page("Not now", "The server cannot look this up at the moment. Try again.", _AWAY)
        if found is None:
            return _gone()
        if self.browser_principal is not None and await self.browser_principal(request) != found.principal:
            words = f"Sign in to this server as {found.principal} in this browser, and open the link again."
            return message_page("Sign in first", words, _FORBIDDEN)
        return found

    def _form(self, request: Request, found: KeyTicket, cookie: str, problem: str = "", status: int = _OK) -> Response:
        wrong = f'<p class="bad" role="alert">{_text(problem)}</p>' if problem else ""
        token = form_token(cookie, _purpose(request))
        body = f"""<h1>Enter your provider key</h1>{wrong}<form method="post" autocomplete="off">
<input type="hidden" name="token" value="{escape(token)}">{self._choice(found)}
<label for="key">Key</label><input id="key" name="key" type="password" autocomplete="off" spellcheck="false"
 maxlength="1024" required autofocus>
<p class="warn">The provider will charge the account of this key for the runs of
 <strong>{_text(found.principal)}</strong>. Go on only if that is you, and if you have just asked for it.</p>
<label><input class="tick" type="checkbox" name="agreed" value="yes" required> I am {_text(found.principal)}</label>
<button>Keep this key</button></form>
<p class="soft">It is kept encrypted, used for these runs alone, and never shown again. This page works once.</p>"""
        return build_page("Enter your provider key", body, status)

    def _choice(self, found: KeyTicket) -> str:
        names = [(name, _text(self.entry.titles.get(name, name))) for name in found.providers]
        if len(names) == 1:
            name, title = names[0]
            return f'<p>for <strong>{title}</strong></p><input type="hidden" name="provider" value="{escape(name)}">'
        options = "".join(f'<option value="{escape(name)}">{title}</option>' for name, title in names)
        return f'<label for="provider">Whose key it is</label><select id="provider" name="provider">{options}</select>'

    def _is_own_form(self, request: Request, cookie: str, given: str) -> bool:
        """Whether a form came from a page of ours that was shown in the same browser."""
        origin = request.headers.get("origin")
        if origin is not None and origin.lower() != _origin_of(self.entry.public_url):
            return False
        expected = form_token(cookie, _purpose(request)).encode()
        return is_secret(cookie) and hmac.compare_digest(given.encode(), expected)

    def _with_cookie(self, reply: Response, cookie: str) -> Response:
        secure = self._is_secure
        name, seconds = self._cookie_name, int(TICKET_SECONDS)
        reply.set_cookie(name, cookie, seconds, path="/", secure=secure, httponly=True, samesite="strict")
        return reply

    @property
    def _is_secure(self) -> bool:
        return self.entry.public_url.startswith("https:")

    @property
    def _cookie_name(self) -> str:
        return f"__Host-{_COOKIE}" if self._is_secure else _COOKIE


async def _read_form(request: Request) -> dict[str, str]:
    """The fields of a form; none where it is no form, or too large for this one. No key is kept longer than it."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        return {}
    content = bytearray()
    try:
        async for piece in request.stream():
            content += piece
            if len(content) > _MAX_BODY_BYTES:
                return {}
        return dict(parse_qsl(content.decode("ascii"), max_num_fields=_MAX_FIELDS))
    except (ValueError, ClientDisconnect):
        return {}


def _purpose(request: Request) -> str:
    return f"key {request.path_params['ticket']}"


def _origin_of(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}".lower()


def _gone() -> Response:
    """The one answer for a ticket that was never given out, was used, or is too old."""
    words = "It was used, or is too old. Call the tool again for a new one."
    return message_page("This link does not work any more", words, _MISSING)


def _text(words: str) -> str:
    return escape(one_line(words, 300))
