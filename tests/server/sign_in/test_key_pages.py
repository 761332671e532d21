"""Entering a key of one's own: what a tool call answers, and the page, whatever somebody sends to it."""

import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import anyio
import httpx2
import pytest
from calls import SECONDS, text_of
from decoding import InThread
from http_client import BASE, PORT, connect, running
from keyed_provider import HOST, KeyedProvider
from mcp import Client
from mcp.client import ClientRequestContext
from mcp_types import CallToolResult, ElicitRequestParams, ElicitRequestURLParams, ElicitResult

from rotoscope.composition.http import build_http_server
from rotoscope.composition.keys import open_key_entry, open_key_store
from rotoscope.composition.sign_in import open_sign_in
from rotoscope.server.http.addresses import ListenAddress
from rotoscope.settings import Settings, read_settings
from rotoscope.store.provider_keys import ProviderKeys

pytestmark = pytest.mark.anyio

ERAS = pytest.mark.parametrize("mode", ["legacy", "auto"])
ANNAS = "r8_annas-own-key-0123456789"
TOKENS = {"anna": "a" * 40, "bert": "b" * 40}
MODEL = "bytedance/sa2va-4b-image"


@pytest.fixture
def environment(environment: dict[str, str], home: Path) -> dict[str, str]:
    return {
        **environment,
        "ROTOSCOPE_KEYS": "principal",
        "ROTOSCOPE_ENCRYPTION_KEYS": "e" * 40,
        "ROTOSCOPE_SIGN_IN": "tokens",
        "ROTOSCOPE_TOKENS": ",".join(f"{name}={token}" for name, token in TOKENS.items()),
        "ROTOSCOPE_ROOTS": str(home),
        "REPLICATE_BASE_URL": f"https://{HOST}",
    }


@pytest.fixture
def settings(environment: dict[str, str]) -> Settings:
    return read_settings(environment)


@pytest.fixture
def provider() -> KeyedProvider:
    return KeyedProvider()


@pytest.fixture
async def http(settings: Settings, provider: KeyedProvider, home: Path) -> AsyncIterator[httpx2.AsyncClient]:
    """The real server, and a client of it that is nobody yet."""
    async with AsyncExitStack() as closing:
        serving = build_http_server(
            settings,
            ListenAddress("127.0.0.1", PORT),
            home,
            sign_in=open_sign_in(settings, f"{BASE}/mcp", closing),
            key_entry=open_key_entry(settings, BASE, closing),
            sandbox=provider,
            decoders=InThread(),
        )
        async with running(serving) as client:
            yield client


@pytest.fixture
async def keys(settings: Settings) -> AsyncIterator[ProviderKeys]:
    async with AsyncExitStack() as closing:
        yield open_key_store(settings, closing)


async def call(client: Client, photo: Path) -> CallToolResult:
    with anyio.fail_after(SECONDS):
        return await client.call_tool(
            "segment_image", {"image": str(photo), "instruction": "the helmet", "model": MODEL}
        )


def as_anna(http: httpx2.AsyncClient) -> httpx2.AsyncClient:
    http.headers["authorization"] = f"Bearer {TOKENS['anna']}"
    return http


class Browser:
    """A person's browser: it opens a page, fills in its form and sends it."""

    def __init__(self, http: httpx2.AsyncClient) -> None:
        self.http = http
        self.cookies: dict[str, str] = {}

    async def open(self, url: str) -> httpx2.Response:
        reply = await self.http.get(url, headers={"authorization": "", **self._cookie()})
        self.cookies |= dict(reply.cookies)
        self.http.cookies.clear()
        return reply

    async def send(self, url: str, fields: dict[str, str], **headers: str) -> httpx2.Response:
        given = {"authorization": "", "origin": BASE, **self._cookie(), **headers}
        return await self.http.post(url, data=fields, headers=given)

    async def enter(self, url: str, key: str, **changes: str) -> httpx2.Response:
        page = await self.open(url)
        return await self.send(url, {**form_of(page), "key": key, "agreed": "yes", **changes})

    def _cookie(self) -> dict[str, str]:
        return {"cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items())} if self.cookies else {}


def form_of(page: httpx2.Response) -> dict[str, str]:
    return dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', page.text))


class Person:
    """Somebody at a client that can open addresses."""

    def __init__(self, http: httpx2.AsyncClient, action: str = "accept", key: str | None = ANNAS) -> None:
        self.http, self.action, self.key = http, action, key
        self.asked: list[ElicitRequestURLParams] = []

    async def __call__(self, _: ClientRequestContext, params: ElicitRequestParams) -> ElicitResult:
        assert isinstance(params, ElicitRequestURLParams)
        self.asked.append(params)
        if self.key is not None:
            assert (await Browser(self.http).enter(params.url, self.key)).status_code == 200
        return ElicitResult(action=self.action)  # type: ignore[arg-type]


@ERAS
async def test_a_call_that_lacks_the_key_leads_to_a_page_and_goes_on_when_it_is_entered(
    http: httpx2.AsyncClient, provider: KeyedProvider, photo: Path, mode: str
) -> None:
    person = Person(http)
    async with connect(as_anna(http), mode, elicitation_callback=person) as client:
        answer = await call(client, photo)
        assert not answer.is_error, text_of(answer)
        assert answer.structured_content is not None
        assert answer.structured_content["status"] == "succeeded"
    assert len(person.asked) == 1
    assert person.asked[0].url.startswith(f"{BASE}/keys/")
    assert "your own key for Replicate" in person.asked[0].message
    assert provider.keys_of("POST") == {ANNAS}
    assert ANNAS not in answer.model_dump_json() + person.asked[0].model_dump_json()


@ERAS
@pytest.mark.parametrize("action", ["decline", "cancel"])
async def test_a_person_who_does_not_want_to_is_answered_how_else_it_goes(
    http: httpx2.AsyncClient, provider: KeyedProvider, photo: Path, mode: str, action: str
) -> None:
    async with connect(as_anna(http), mode, elicitation_callback=Person(http, action, None)) as client:
        answer = await call(client, photo)
    assert answer.is_error
    assert text_of(answer).startswith("auth: ")
    assert "rotoscope keys set replicate --principal anna" in text_of(answer)
    assert provider.asked == []


@ERAS
async def test_a_client_that_can_open_no_address_is_given_it_in_words(
    http: httpx2.AsyncClient, provider: KeyedProvider, photo: Path, mode: str
) -> None:
    async with connect(as_anna(http), mode) as client:
        answer = await call(client, photo)
        assert answer.is_error
        url = next(iter(re.findall(rf"{BASE}/keys/[\w-]+", text_of(answer))))
        assert (await Browser(http).enter(url, ANNAS)).status_code == 200
        again = await call(client, photo)
        assert not again.is_error
    assert provider.keys_of("POST") == {ANNAS}


async def test_saying_that_it_was_done_is_not_enough(
    environment: dict[str, str], provider: KeyedProvider, home: Path, photo: Path
) -> None:
    settings = read_settings({**environment, "ROTOSCOPE_INLINE_SECONDS": "1"})
    async with AsyncExitStack() as closing:
        serving = build_http_server(
            settings,
            ListenAddress("127.0.0.1", PORT),
            home,
            sign_in=open_sign_in(settings, f"{BASE}/mcp", closing),
            key_entry=open_key_entry(settings, BASE, closing),
            sandbox=provider,
            decoders=InThread(),
        )
        async with running(serving) as http:
            person = Person(http, key=None)
            async with connect(as_anna(http), "auto", elicitation_callback=person) as client:
                answer = await call(client, photo)
    assert answer.is_error
    assert "was not entered yet" in text_of(answer)
    assert provider.asked == []


# The page.


async def make_ticket(keys: ProviderKeys, principal: str = "anna", *providers: str, seconds: float = 60.0) -> str:
    _, ticket = await keys.issue_ticket(principal, providers or ("replicate",), seconds)
    return f"{BASE}/keys/{ticket}"


async def test_the_page_says_for_whom_it_is_and_lets_nothing_in(http: httpx2.AsyncClient, keys: ProviderKeys) -> None:
    url = await make_ticket(keys, "<b>anna</b>")
    page = await Browser(http).open(url)
    assert page.status_code == 200
    assert "<b>anna</b>" not in page.text
    assert "&lt;b&gt;anna&lt;/b&gt;" in page.text
    assert "<script" not in page.text
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "form-action 'self'" in policy
    assert page.headers["cache-control"] == "no-store"
    cookie = page.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert "authorization" not in page.request.headers or page.request.headers["authorization"] == ""


async def test_a_ticket_works_once_and_looking_at_it_uses_nothing_up(
    http: httpx2.AsyncClient, keys: ProviderKeys
) -> None:
    url, browser = await make_ticket(keys), Browser(http)
    for _ in range(3):
        assert (await browser.open(url)).status_code == 200
    done = await browser.enter(url, ANNAS)
    assert done.status_code == 200
    assert ANNAS not in done.text
    assert await keys.read("anna") == {"replicate": ANNAS}
    for reply in (await browser.open(url), await browser.send(url, {"key": "other-key-of-somebody"})):
        assert reply.status_code == 404
    assert await keys.read("anna") == {"replicate": ANNAS}


async def test_an_unknown_a_used_and_an_old_ticket_are_answered_alike(
    http: httpx2.AsyncClient, keys: ProviderKeys
) -> None:
    used, old, browser = await make_ticket(keys), await make_ticket(keys, seconds=-1.0), Browser(http)
    await browser.enter(used, ANNAS)
    unknown = f"{BASE}/keys/{'x' * 43}"
    answers = [await browser.open(url) for url in (used, old, unknown, f"{BASE}/keys/x", f"{BASE}/keys/{'é' * 30}")]
    assert {(one.status_code, one.text) for one in answers} == {(404, answers[0].text)}
    sent = [await browser.send(url, {"key": "some-key-of-mine", "agreed": "yes"}) for url in (used, old, unknown)]
    assert {(one.status_code, one.text) for one in sent} == {(404, answers[0].text)}


async def test_a_form_that_another_site_or_browser_sends_is_not_taken(
    http: httpx2.AsyncClient, keys: ProviderKeys
) -> None:
    url, browser = await make_ticket(keys), Browser(http)
    fields = {**form_of(await browser.open(url)), "key": "a-key-of-the-attacker", "agreed": "yes"}
    assert (await Browser(http).send(url, fields)).status_code == 403  # without the cookie
    stranger = Browser(http)
    await stranger.open(url)
    assert (await stranger.send(url, fields)).status_code == 403  # with another browser's cookie
    for origin in ("https://evil.example", "null", f"{BASE}.evil.example"):
        assert (await browser.send(url, fields, origin=origin)).status_code == 403
    other = await make_ticket(keys, "bert")
    assert (await browser.send(other, fields)).status_code == 403  # the form of another ticket
    assert (await browser.send(url, {**fields, "token": ""})).status_code == 403
    json_body = {"content-type": "application/json"}
    assert (await browser.send(url, fields, **json_body)).status_code == 403
    assert await keys.list() == []


@pytest.mark.parametrize(
    "changes",
    [
        {"key": ""},
        {"key": "two words"},
        {"key": "k" * 1100},
        {"agreed": "no"},
        {"provider": "fal"},
        {"provider": ""},
    ],
)
async def test_a_form_that_is_not_right_keeps_nothing_and_may_be_sent_again(
    http: httpx2.AsyncClient, keys: ProviderKeys, changes: dict[str, str]
) -> None:
    url, browser = await make_ticket(keys), Browser(http)
    fields = {"key": ANNAS, **changes}
    wrong = await browser.enter(url, fields.pop("key"), **fields)
    assert wrong.status_code == 400
    assert ANNAS not in wrong.text
    assert await keys.list() == []
    assert (await browser.enter(url, ANNAS)).status_code == 200


async def test_a_body_without_end_is_refused(http: httpx2.AsyncClient, keys: ProviderKeys) -> None:
    url, browser = await make_ticket(keys), Browser(http)
    page = await browser.open(url)
    assert (await browser.send(url, {**form_of(page), "key": "x" * 100_000})).status_code == 403
    assert (await browser.send(url, {f"f{n}": "" for n in range(100)})).status_code == 403


async def test_of_several_providers_one_is_chosen(http: httpx2.AsyncClient, keys: ProviderKeys) -> None:
    url, browser = await make_ticket(keys, "anna", "replicate", "fal"), Browser(http)
    page = await browser.open(url)
    assert "<select" in page.text
    assert (await browser.enter(url, "id:secret-of-anna", provider="fal")).status_code == 200
    assert await keys.read("anna") == {"fal": "id:secret-of-anna"}


async def test_a_principal_has_a_bounded_number_of_tickets(keys: ProviderKeys) -> None:
    urls = [await make_ticket(keys) for _ in range(25)]
    alive = [await keys.find_ticket(url.rpartition("/")[2]) for url in urls]
    assert sum(one is not None for one in alive) == 20
    assert alive[-1] is not None


async def test_where_the_server_has_sign_in_pages_only_the_ticket_s_principal_may_use_it(
    settings: Settings, keys: ProviderKeys
) -> None:
    from starlette.applications import Starlette
    from starlette.requests import Request

    from rotoscope.server.key_entry import KeyEntry
    from rotoscope.server.key_pages import key_routes

    async def signed_in(request: Request) -> str | None:
        return request.headers.get("x-person")

    entry = KeyEntry(keys, {"replicate": "Replicate"}, BASE)
    app = Starlette(routes=key_routes(entry, signed_in))
    url = await make_ticket(keys)
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url=BASE) as http:
        for person in ("bert", ""):
            assert (await http.get(url, headers={"x-person": person})).status_code == 403
            assert (await http.post(url, headers={"x-person": person})).status_code == 403
        assert (await http.get(url, headers={"x-person": "anna"})).status_code == 200


async def test_the_key_is_in_no_log_and_no_address(
    http: httpx2.AsyncClient, keys: ProviderKeys, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    url, browser = await make_ticket(keys), Browser(http)
    reply = await browser.enter(url, ANNAS)
    assert ANNAS not in caplog.text
    assert ANNAS not in str(reply.request.url)
    assert not any(ANNAS in str(value) for value in vars(http).values())
