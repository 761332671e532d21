"""The official client at the server's own HTTP app: each way to sign in, in both eras, from sign-in to a result's file.

The same story with the official clients for JavaScript, over sockets, is in `tests/conformance/clients.py`.
"""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import anyio
import httpx2
import pytest
from browsing import let_client_in
from calls import SECONDS
from client_story import FINAL, fetch_results, finish_job, segment_upload
from decoding import InThread
from http_client import InProcess
from identity_provider import ISSUER
from mcp import Client
from mcp.client.auth import OAuthClientProvider
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.auth import AuthorizationCodeResult, OAuthClientMetadata
from oauth_provider import OAuthProvider
from people_site import CALLBACK, ENDPOINT, PASSPHRASE, SITE, MemoryStorage
from task_client import TaskClient

from rotoscope.composition.http import build_http_server
from rotoscope.composition.sign_in import open_people_database, open_sign_in
from rotoscope.models.access import SANDBOX_URL
from rotoscope.providers.http.messages import Reply
from rotoscope.server.http.addresses import ListenAddress
from rotoscope.server.sign_in.contract import SignIn
from rotoscope.server.sign_in.people.passphrases import Passphrases
from rotoscope.server.sign_in.people.setup import PeopleSetup
from rotoscope.server.sign_in.people.sign_in import make_people_sign_in
from rotoscope.settings import Settings, read_settings
from rotoscope_sandbox import build_sandbox

pytestmark = pytest.mark.anyio

TOKEN = "a-token-of-anna-that-is-long-enough"
DOCUMENT = "https://app.example/oauth/client.json"
WAYS = ("tokens", "issuer", "people", "document")
PACE = 0.1  # of the sandbox: a run takes some tenths of a second, which is longer than a call stays open here


@dataclass(frozen=True)
class Installation:
    """A running server, the web around it as clients reach it, and how they prove who they are."""

    web: Callable[..., httpx2.AsyncClient]
    way: str

    def client(self, storage: MemoryStorage) -> httpx2.AsyncClient:
        """The HTTP of a client that signs in as the way has it."""
        if self.way == "tokens":
            return self.web(headers={"Authorization": f"Bearer {TOKEN}"})
        urls: list[str] = []

        async def go(url: str) -> None:
            urls.append(url)

        async def come_back() -> AuthorizationCodeResult:
            async with self.web() as browser:
                address = await let_client_in(browser, urls.pop(), CALLBACK, "anna", PASSPHRASE)
            answer = {name: values[0] for name, values in parse_qs(urlsplit(address).query).items()}
            return AuthorizationCodeResult(code=answer["code"], state=answer["state"], iss=answer["iss"])

        said = OAuthClientMetadata.model_validate({"redirect_uris": [CALLBACK], "client_name": "The SDK"})
        document = DOCUMENT if self.way == "document" else None
        auth = OAuthClientProvider(ENDPOINT, said, storage, go, come_back, document)
        return self.web(auth=auth)


async def read_document(url: str, _: int) -> Reply:
    said = {"client_id": url, "client_name": "An app", "redirect_uris": [CALLBACK]}
    return Reply(200, {}, json.dumps({**said, "token_endpoint_auth_method": "none"}).encode())


def decide(environment: dict[str, str], way: str) -> Settings:
    chosen = {"ROTOSCOPE_SIGN_IN": "people" if way == "document" else way, "ROTOSCOPE_PUBLIC_URL": SITE}
    more = {
        "tokens": {"ROTOSCOPE_TOKENS": f"anna={TOKEN}"},
        "issuer": {"ROTOSCOPE_ISSUER": ISSUER, "ROTOSCOPE_SCOPES": "media"},
    }.get(way, {})
    return read_settings({**environment, **chosen, **more, "ROTOSCOPE_INLINE_SECONDS": "0.05"})


async def open_way(settings: Settings, way: str, provider: OAuthProvider, closing: AsyncExitStack) -> SignIn:
    if way not in ("document", "people"):
        sign_in = open_sign_in(settings, ENDPOINT, closing, provider)
        assert sign_in is not None
        return sign_in
    fast = Passphrases(memory_kib=8, rounds=1)
    setup = PeopleSetup(SITE, ENDPOINT, open_people_database(settings, closing), read_document, passphrases=fast)
    await setup.people.add("anna", await fast.hash(PASSPHRASE))
    return make_people_sign_in(setup)


@pytest.fixture(params=WAYS)
async def installation(
    request: pytest.FixtureRequest, environment: dict[str, str], home: Path, tmp_path: Path
) -> AsyncIterator[Installation]:
    way: str = request.param
    settings, provider = decide(environment, way), OAuthProvider()
    sandbox = build_sandbox(tmp_path / "sandbox", pace=PACE, public_url=SANDBOX_URL)
    async with AsyncExitStack() as closing:
        sign_in = await open_way(settings, way, provider, closing)
        bound = ListenAddress("127.0.0.1", 8000)
        serving = build_http_server(settings, bound, home, sign_in=sign_in, sandbox=sandbox, decoders=InThread())
        await closing.enter_async_context(serving.app.running())
        tasks = await closing.enter_async_context(anyio.create_task_group())
        mounts = {
            SITE: InProcess(serving.app, tasks),
            f"https://{urlsplit(ISSUER).netloc}": httpx2.ASGITransport(provider),
        }

        def web(**options: object) -> httpx2.AsyncClient:
            return httpx2.AsyncClient(mounts=mounts, timeout=None, **options)  # type: ignore[arg-type]

        with anyio.fail_after(10 * SECONDS):
            yield Installation(web, way)
        tasks.cancel_scope.cancel()


@asynccontextmanager
async def connect(installation: Installation, mode: str, **options: object) -> AsyncIterator[Client]:
    async with (
        installation.client(MemoryStorage()) as http,
        Client(streamable_http_client(ENDPOINT, http_client=http), mode=mode, **options) as client,  # type: ignore[arg-type]
    ):
        yield client


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_a_client_signs_in_follows_a_job_and_fetches_its_files(
    installation: Installation, mode: str, photo: Path
) -> None:
    async with installation.web() as anybody, connect(installation, mode) as client:
        handle = await segment_upload(client, anybody, photo)
        assert handle["status"] not in FINAL
        result = await finish_job(client, handle)
        await fetch_results(anybody, result, SITE)


@pytest.mark.parametrize("installation", ["people"], indirect=True)
async def test_a_client_that_takes_tasks_gets_its_result_by_one(installation: Installation, photo: Path) -> None:
    tasks = TaskClient()
    async with installation.web() as anybody, connect(installation, "auto", extensions=[tasks]) as client:
        result = await segment_upload(client, anybody, photo)
        assert tasks.begun == [result["job_id"]]
        assert result["status"] == "succeeded"
        await fetch_results(anybody, result, SITE)
