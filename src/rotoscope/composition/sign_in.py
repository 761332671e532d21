"""Sign-in, as the operator has chosen it."""

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from rotoscope.composition.parts import make_private_folder, read_proxies
from rotoscope.errors import InvalidInput
from rotoscope.settings import Settings

if TYPE_CHECKING:
    from rotoscope.providers.http.client import AsgiApp
    from rotoscope.server.sign_in.contract import SignIn
    from rotoscope.store.database import Database

__all__ = ["open_people_database", "open_sign_in"]

_MCP_PATH = "/mcp"


def open_sign_in(
    settings: Settings, endpoint: str, closing: AsyncExitStack, identity_provider: "AsgiApp | None" = None
) -> "SignIn | None":
    """The way to sign in that the settings choose; None where everybody who reaches the server is the local user.

    Args:
        settings: the operator's decisions.
        endpoint: the address of the MCP endpoint, as clients know it.
        closing: gets what must be closed at the end.
        identity_provider: an app that answers for the issuer in this process.

    Raises:
        InvalidInput: a setting is missing, or cannot be used.
    """
    network = settings.network
    match network.sign_in:
        case "tokens":
            from rotoscope.server.sign_in.token_file import TokenFile
            from rotoscope.server.sign_in.tokens import make_token_sign_in

            return make_token_sign_in(endpoint, network.tokens, TokenFile(network.tokens_file), network.scopes)
        case "issuer":
            return _open_issuer(settings, endpoint, closing, identity_provider)
        case "people":
            return _open_people(settings, endpoint, closing)
        case _:
            return None


def _open_issuer(
    settings: Settings, endpoint: str, closing: AsyncExitStack, identity_provider: "AsgiApp | None"
) -> "SignIn":
    from rotoscope.providers.http.client import Wire
    from rotoscope.server.sign_in.documents import IssuerDocuments, issuer_access
    from rotoscope.server.sign_in.issuer import make_issuer_sign_in

    network = settings.network
    if network.issuer is None:
        raise InvalidInput(
            "ROTOSCOPE_SIGN_IN=issuer needs the identity provider.", hint="Set ROTOSCOPE_ISSUER to its issuer URL."
        )
    wire = Wire(issuer_access(network.issuer), sandbox=identity_provider, proxies=read_proxies(settings))
    closing.push_async_callback(wire.aclose)
    source = IssuerDocuments(network.issuer, wire)
    return make_issuer_sign_in(endpoint, network.issuer, network.audience, network.scopes, source)


def _open_people(settings: Settings, endpoint: str, closing: AsyncExitStack) -> "SignIn":
    from rotoscope.providers.http.client import Wire

    try:
        import argon2  # noqa: F401 - looked for at the start, not at the first sign-in
        import jwt  # noqa: F401
    except ModuleNotFoundError:
        raise InvalidInput(
            "ROTOSCOPE_SIGN_IN=people needs packages that are not installed.",
            hint="Run pip install 'rotoscope[server]'.",
        ) from None
    from rotoscope.server.sign_in.people.setup import SCOPE, PeopleSetup
    from rotoscope.server.sign_in.people.sign_in import make_people_sign_in

    wire = Wire({}, proxies=read_proxies(settings))
    closing.push_async_callback(wire.aclose)
    public_url = endpoint.removesuffix(_MCP_PATH).rstrip("/")
    scopes = settings.network.scopes or (SCOPE,)
    database = open_people_database(settings, closing)
    return make_people_sign_in(PeopleSetup(public_url, endpoint, database, wire.read_public, scopes))


def open_people_database(settings: Settings, closing: AsyncExitStack) -> "Database":
    """The ledger, for those who ask about people alone.

    Raises:
        InvalidInput: the home folder is not its owner's alone.
    """
    from rotoscope.store.database import Database

    make_private_folder(settings.home)
    database = Database(settings.database)  # without its vault: no job is read or written through it
    closing.push_async_callback(database.aclose)
    return database
