"""The browser's cookie, the tokens of forms, and the request that waits while a person signs in.

One cookie: random, and another after each sign-in, so that no value that somebody has planted is ever signed in. The
token of a form follows from the cookie and from what the form is for: no other site can make one, and none is kept.
"""

import base64
import hashlib
import hmac
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from rotoscope.server.sign_in.people.setup import PeopleSetup
from rotoscope.server.sign_in.people.tokens import hash_secret, is_secret

__all__ = ["SESSION_SECONDS", "Browser", "form_token"]

SESSION_SECONDS = 12 * 3600.0
"""How long a browser stays signed in."""

_WAITING_SECONDS = 900
_MAX_WAITING_CHARS = 3500  # of a cookie; browsers keep 4096 bytes
_COOKIE, _WAITING_COOKIE = "rotoscope-sign-in", "rotoscope-waiting"


def form_token(cookie: str, purpose: str) -> str:
    """The token of a form: proof that the page came from here, to this browser, for this purpose."""
    digest = hmac.new(cookie.encode(), b"form\0" + purpose.encode(), hashlib.sha256).digest()
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")


@dataclass(frozen=True, slots=True)
class Browser:
    """What is known of the browser of a request.

    Attributes:
        setup: what the sign-in is built from.
        cookie: its cookie; one that was made for it just now, where it brought none.
        brought: whether it brought that cookie.
    """

    setup: PeopleSetup
    cookie: str
    brought: bool

    @classmethod
    def of(cls, setup: PeopleSetup, request: Request) -> "Browser":
        """The browser of a request."""
        found = request.cookies.get(_cookie_name(setup, _COOKIE))
        if found is not None and is_secret(found):
            return cls(setup, found, brought=True)
        return cls(setup, setup.make_secret(), brought=False)

    async def find_person(self) -> str | None:
        """Who is signed in with it; None: nobody."""
        return await self.setup.people.find_session(hash_secret(self.cookie)) if self.brought else None

    def token(self, purpose: str) -> str:
        """The token of a form on a page for it."""
        return form_token(self.cookie, purpose)

    def is_own_form(self, request: Request, given: object, purpose: str) -> bool:
        """Whether a form that it sends came from a page of ours that was shown in it, for the same purpose."""
        origin = request.headers.get("origin")
        if origin is not None and origin.lower() != self.setup.origin:
            return False
        expected = self.token(purpose).encode()
        return self.brought and isinstance(given, str) and hmac.compare_digest(given.encode(), expected)

    def remember(self, reply: Response) -> Response:
        """Give it its cookie with a reply, where it brought none."""
        if not self.brought:
            self._set_cookie(reply, _COOKIE, self.cookie, int(SESSION_SECONDS))
        return reply

    async def sign_in(self, person: str, reply: Response) -> Response:
        """Sign a person in: the browser gets another cookie, and the former one is good for nothing."""
        fresh = self.setup.make_secret()
        ends = self.setup.clock() + SESSION_SECONDS
        await self.setup.people.end_session(hash_secret(self.cookie))
        await self.setup.people.begin_session(hash_secret(fresh), person, ends)
        self._set_cookie(reply, _COOKIE, fresh, int(SESSION_SECONDS))
        return reply

    async def sign_out(self, reply: Response) -> Response:
        """Sign it out."""
        await self.setup.people.end_session(hash_secret(self.cookie))
        self._set_cookie(reply, _COOKIE, self.setup.make_secret(), int(SESSION_SECONDS))
        return reply

    def keep_waiting(self, query: str, reply: Response) -> Response:
        """Let it remember a request for authorization for a quarter of an hour, to go on with after a one-time link."""
        text = base64.urlsafe_b64encode(query.encode()).decode()
        if len(text) <= _MAX_WAITING_CHARS:
            self._set_cookie(reply, _WAITING_COOKIE, text, _WAITING_SECONDS)
        return reply

    def waiting_query(self, request: Request) -> str:
        """The request that waits in it, as a query; empty where none does. It is checked again like any other."""
        text = request.cookies.get(_cookie_name(self.setup, _WAITING_COOKIE), "")
        try:
            return base64.urlsafe_b64decode(text.encode()).decode("ascii")
        except ValueError:
            return ""

    def stop_waiting(self, reply: Response) -> Response:
        """Let it forget the request that waits."""
        self._set_cookie(reply, _WAITING_COOKIE, "", 0)
        return reply

    def _set_cookie(self, reply: Response, name: str, value: str, seconds: int) -> None:
        secure = self.setup.is_secure
        full = _cookie_name(self.setup, name)
        # Lax, not Strict: a client sends the browser here from another site, and who is signed in stays so.
        reply.set_cookie(full, value, max_age=seconds, path="/", secure=secure, httponly=True, samesite="lax")


def _cookie_name(setup: PeopleSetup, name: str) -> str:
    """Over https no other host of the domain can set it, nor can it be read by one (`__Host-`)."""
    return f"__Host-{name}" if setup.is_secure else name
