"""Our own sign-in as the HTTP app needs it: the verifier of its tokens, and all its routes."""

from dataclasses import dataclass

from starlette.requests import Request

from rotoscope.errors import StorageFailed
from rotoscope.server.sign_in.contract import SignIn
from rotoscope.server.sign_in.people.assertions import ClientKeys
from rotoscope.server.sign_in.people.browser import BrowserPages
from rotoscope.server.sign_in.people.endpoints import OPEN_PATHS, OAuthEndpoints
from rotoscope.server.sign_in.people.forms import Browser
from rotoscope.server.sign_in.people.provider import PeopleProvider, is_resource
from rotoscope.server.sign_in.people.setup import PeopleSetup
from rotoscope.server.sign_in.protection import METADATA_PATH
from rotoscope.server.sign_in.verified import SignedInToken, SignInUnavailable

__all__ = ["PeopleVerifier", "make_people_sign_in"]


def make_people_sign_in(setup: PeopleSetup) -> SignIn:
    """Sign-in by our own authorisation server. The principal of a request is the name of the person who let it in."""
    provider = PeopleProvider(setup)
    keys = None if setup.read_document is None else ClientKeys(setup.read_document, setup.clock)
    routes = (*OAuthEndpoints(setup, provider, keys).routes(), *BrowserPages(setup, provider).routes())

    async def find_browser_principal(request: Request) -> str | None:
        return await Browser.of(setup, request).find_person()

    return SignIn(
        PeopleVerifier(setup, provider),
        setup.endpoint,
        setup.scopes,
        (setup.public_url,),
        routes,
        (METADATA_PATH, *OPEN_PATHS),
        find_browser_principal,
    )


@dataclass(frozen=True, slots=True)
class PeopleVerifier:
    """Tells whether a bearer token is one of ours that has not ended, and whose.

    Attributes:
        setup: what the sign-in is built from.
        provider: knows the tokens.
    """

    setup: PeopleSetup
    provider: PeopleProvider

    async def verify_token(self, token: str) -> SignedInToken | None:
        """What a token allows; None where nothing. It is asked of the ledger each time, so what has ended has ended.

        Raises:
            SignInUnavailable: the ledger is away.
        """
        try:
            found = await self.provider.load_access_token(token)
        except StorageFailed as error:
            raise SignInUnavailable("The server cannot reach its data now.", hint="Try again.") from error
        if found is None or found.subject is None or not is_resource(found.resource, self.setup.endpoint):
            return None
        return SignedInToken(principal=found.subject, **found.model_dump(exclude={"token"}))
