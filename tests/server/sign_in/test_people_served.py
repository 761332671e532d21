"""People's own sign-in in the app that `rotoscope serve --http` runs: behind the guard, chosen by settings alone."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import anyio
import httpx2
import pytest
from calls import SECONDS
from decoding import InThread
from mcp import Client
from mcp.client.auth import OAuthClientProvider
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.auth import AuthorizationCodeResult, OAuthClientMetadata
from people_site import CALLBACK, ENDPOINT, PASSPHRASE, SITE, MemoryStorage, Page

from rotoscope.composition.http import build_http_server
from rotoscope.composition.sign_in import open_people_database, open_sign_in
from rotoscope.server.http.addresses import ListenAddress
from rotoscope.server.sign_in.people.passphrases import Passphrases
from rotoscope.settings import Settings, read_settings
from rotoscope.store.people import People
from rotoscope_sandbox import Sandbox

pytestmark = pytest.mark.anyio
OWN, FOREIGN = {"Origin": SITE}, {"Origin": "https://evil.example"}


@pytest.fixture
def decided(environment: dict[str, str]) -> Settings:
    return read_settings({**environment, "ROTOSCOPE_SIGN_IN": "people", "ROTOSCOPE_PUBLIC_URL": SITE})


@pytest.fixture
async def http(decided: Settings, home: Path, sandbox: Sandbox) -> AsyncIterator[httpx2.AsyncClient]:
    """A browser at the running server, where anna may sign in."""
    async with AsyncExitStack() as closing:
        people = People(open_people_database(decided, closing), lambda: 1.0)
        await people.add("anna", await Passphrases().hash(PASSPHRASE))
        sign_in = open_sign_in(decided, ENDPOINT, closing)
        bound = ListenAddress("127.0.0.1", 8000)
        serving = build_http_server(decided, bound, home, sign_in=sign_in, sandbox=sandbox, decoders=InThread())
        await closing.enter_async_context(serving.app.running())
        with anyio.fail_after(10 * SECONDS):
            transport = httpx2.ASGITransport(serving.app)
            async with httpx2.AsyncClient(transport=transport, base_url=SITE) as browser:
                yield browser


async def decide(http: httpx2.AsyncClient, url: str) -> AuthorizationCodeResult:
    """What a person does in the browser: sign in, and let the client in."""
    page = Page(await http.get(url, follow_redirects=True))
    fields = {**page.forms[0].fields, "name": "anna", "passphrase": PASSPHRASE}
    page = Page(await http.post(page.forms[0].action, data=fields, headers=OWN, follow_redirects=True))
    done = Page(await http.post(page.forms[0].action, data={**page.forms[0].fields, "decision": "allow"}, headers=OWN))
    return AuthorizationCodeResult(code=done.answer["code"], state=done.answer["state"], iss=done.answer["iss"])


async def test_the_official_client_signs_in_to_the_real_server_and_calls_a_tool(http: httpx2.AsyncClient) -> None:
    urls: list[str] = []

    async def go(url: str) -> None:
        urls.append(url)

    metadata = OAuthClientMetadata.model_validate({"redirect_uris": [CALLBACK], "client_name": "The SDK"})
    auth = OAuthClientProvider(ENDPOINT, metadata, MemoryStorage(), go, lambda: decide(http, urls.pop()))
    transport = http._transport
    async with (
        httpx2.AsyncClient(transport=transport, auth=auth, follow_redirects=True) as calling,
        Client(streamable_http_client(ENDPOINT, http_client=calling)) as client,
    ):
        result = await client.call_tool("list_jobs", {})
        assert not result.is_error


async def test_forms_of_other_origins_stop_at_the_guard_and_clients_in_pages_do_not(http: httpx2.AsyncClient) -> None:
    for path in ("/sign-in", "/sign-in/consent", "/sign-in/out", "/sign-in/links/x"):
        assert (await http.post(path, headers=FOREIGN)).status_code == 403
    assert (await http.post("/token", data={"client_id": "x"}, headers=FOREIGN)).status_code == 401
    assert (await http.get("/.well-known/oauth-authorization-server", headers=FOREIGN)).status_code == 200
    assert (await http.post("/mcp", headers={**FOREIGN, "Content-Type": "application/json"})).status_code == 403


async def test_a_page_of_our_own_may_send_its_forms(http: httpx2.AsyncClient) -> None:
    page = Page(await http.get("/sign-in"))
    fields = {**page.forms[0].fields, "name": "anna", "passphrase": PASSPHRASE}
    done = Page(await http.post(page.forms[0].action, data=fields, headers=OWN, follow_redirects=True))
    assert "signed in as anna" in done.words
