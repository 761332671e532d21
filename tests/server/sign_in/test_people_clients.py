"""People's own sign-in as clients use it: the official SDK's client signs in, and endpoints do what the RFCs say."""

import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from people_site import (
    CALLBACK,
    ENDPOINT,
    SITE,
    VERIFIER,
    Browser,
    MemoryStorage,
    PeopleSite,
    open_people_site,
)

from rotoscope.providers.http.messages import Reply

pytestmark = pytest.mark.anyio
DOCUMENT = "https://app.example/oauth/client.json"


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[PeopleSite]:
    async with open_people_site(tmp_path) as opened:
        yield opened


def describe_client(site: PeopleSite, address: str = DOCUMENT, **more: object) -> None:
    """Put a client's document on its host."""
    said = {"client_id": address, "client_name": "An app", "redirect_uris": [CALLBACK], **more}
    said.setdefault("token_endpoint_auth_method", "none")
    site.documents[address] = Reply(200, {"cache-control": "max-age=600"}, json.dumps(said).encode())


async def call_whoami(site: PeopleSite, auth: httpx2.Auth) -> str:
    async with (
        site.http(auth=auth, follow_redirects=True) as http,
        Client(streamable_http_client(ENDPOINT, http_client=http)) as client,
    ):
        result = await client.call_tool("whoami", {})
        return str(result.content[0].text)  # type: ignore[union-attr]  # it is the text of our own tool


async def test_the_official_client_registers_and_signs_in_and_calls_a_tool_as_the_person(site: PeopleSite) -> None:
    storage = MemoryStorage()
    assert await call_whoami(site, site.client_auth(storage, Browser(site))) == "anna"
    assert storage.client is not None
    assert not storage.client.client_id.startswith("https:")
    assert storage.tokens is not None
    assert storage.tokens.scope == "rotoscope"


async def test_the_official_client_signs_in_by_its_document_and_registers_nothing(site: PeopleSite) -> None:
    describe_client(site)
    storage = MemoryStorage()
    assert await call_whoami(site, site.client_auth(storage, Browser(site), DOCUMENT)) == "anna"
    assert storage.client is not None
    assert storage.client.client_id == DOCUMENT
    assert site.read == [DOCUMENT]


async def test_the_official_client_renews_its_tokens_when_the_access_token_has_ended(site: PeopleSite) -> None:
    storage = MemoryStorage()
    auth = site.client_auth(storage, Browser(site))
    await call_whoami(site, auth)
    first = storage.tokens
    site.clock.now += 3601
    auth.context.token_expiry_time = 1.0
    assert await call_whoami(site, auth) == "anna"
    assert first is not None
    assert storage.tokens is not None
    assert storage.tokens.refresh_token != first.refresh_token


async def test_a_call_without_a_token_says_where_to_sign_in(site: PeopleSite) -> None:
    reply = await site.post("/mcp")
    assert reply.status_code == 401
    where = f"{SITE}/.well-known/oauth-protected-resource/mcp"
    assert f'resource_metadata="{where}"' in reply.headers["www-authenticate"]
    said = (await site.http().get(where)).json()
    assert said["resource"] == ENDPOINT
    assert said["authorization_servers"] == [SITE]


async def test_the_metadata_names_what_there_is(site: PeopleSite) -> None:
    said = (await site.http().get("/.well-known/oauth-authorization-server")).json()
    assert said["issuer"] == SITE
    assert said["code_challenge_methods_supported"] == ["S256"]
    assert said["client_id_metadata_document_supported"] is True
    assert said["authorization_response_iss_parameter_supported"] is True
    assert "none" in said["token_endpoint_auth_methods_supported"]
    for name in ("authorization", "token", "registration", "revocation"):
        assert said[f"{name}_endpoint"].startswith(f"{SITE}/")


async def test_a_code_becomes_tokens_that_name_their_scope_and_their_end(site: PeopleSite) -> None:
    client = await site.register()
    tokens = await site.get_tokens(client["client_id"])
    assert tokens["token_type"] == "Bearer"
    assert tokens["expires_in"] == 3600
    assert await site.is_good(tokens["access_token"])
    site.clock.now += 3601
    assert not await site.is_good(tokens["access_token"])


async def test_the_answer_to_a_client_names_the_issuer_and_repeats_the_state(site: PeopleSite) -> None:
    client, browser = await site.register(), Browser(site)
    done = await browser.allow(await browser.open(site.authorization(client["client_id"], state="a b&c")))
    assert done.status == 303
    assert done.location.startswith(f"{CALLBACK}?")
    assert done.answer["state"] == "a b&c"
    assert done.answer["iss"] == SITE


async def test_a_person_who_does_not_agree_sends_the_client_away_without_a_code(site: PeopleSite) -> None:
    client, browser = await site.register(), Browser(site)
    page = await browser.sign_in(await browser.open(site.authorization(client["client_id"])))
    done = await browser.submit(page.forms[0], decision="deny")
    assert done.answer["error"] == "access_denied"
    assert done.answer["iss"] == SITE
    assert "code" not in done.answer


@pytest.mark.parametrize("method", ["client_secret_post", "client_secret_basic"])
async def test_a_client_with_a_secret_needs_it(site: PeopleSite, method: str) -> None:
    client = await site.register(token_endpoint_auth_method=method)
    name, secret = client["client_id"], client["client_secret"]

    async def exchange(given: str) -> httpx2.Response:
        code = await site.get_code(name)
        if method == "client_secret_post":
            return await site.exchange(name, code, client_secret=given)
        header = base64.b64encode(f"{name}:{given}".encode()).decode()
        asked = {"grant_type": "authorization_code", "code": code, "redirect_uri": CALLBACK, "code_verifier": VERIFIER}
        return await site.post("/token", asked, headers={"Authorization": f"Basic {header}"})

    assert (await exchange("wrong")).status_code == 401
    assert (await exchange(secret)).status_code == 200


async def test_a_port_that_the_system_chose_may_follow_a_registered_address_of_this_machine(site: PeopleSite) -> None:
    client = await site.register("http://127.0.0.1/callback")
    redirect = "http://127.0.0.1:49152/callback"
    code = await site.get_code(client["client_id"], redirect_uri=redirect)
    assert (await site.exchange(client["client_id"], code, redirect_uri=redirect)).status_code == 200


async def test_an_apps_own_scheme_is_an_address_to_go_back_to(site: PeopleSite) -> None:
    redirect = "cursor://anysphere.cursor-mcp/oauth/callback"
    client, browser = await site.register(redirect), Browser(site)
    page = await browser.sign_in(await browser.open(site.authorization(client["client_id"], redirect_uri=redirect)))
    assert "form-action 'self' cursor:;" in page.response.headers["content-security-policy"]
    assert (await browser.submit(page.forms[0], decision="allow")).location.startswith(f"{redirect}?code=")


async def test_a_refresh_gives_another_pair_and_the_former_token_is_used_up(site: PeopleSite) -> None:
    name = (await site.register())["client_id"]
    first = await site.get_tokens(name)
    second = (await site.refresh(name, first["refresh_token"])).json()
    assert second["refresh_token"] != first["refresh_token"]
    assert await site.is_good(second["access_token"])
    site.clock.now += 61
    third = (await site.refresh(name, second["refresh_token"])).json()
    assert await site.is_good(third["access_token"])


async def test_a_refresh_whose_reply_was_lost_is_answered_with_the_same_pair_for_a_minute(site: PeopleSite) -> None:
    name = (await site.register())["client_id"]
    tokens = await site.get_tokens(name)
    first = (await site.refresh(name, tokens["refresh_token"])).json()
    site.clock.now += 59
    again = (await site.refresh(name, tokens["refresh_token"])).json()
    assert (again["access_token"], again["refresh_token"]) == (first["access_token"], first["refresh_token"])
    assert again["expires_in"] == 3600 - 59
    assert await site.is_good(first["access_token"])


async def test_a_grant_that_is_not_renewed_for_thirty_days_ends(site: PeopleSite) -> None:
    name = (await site.register())["client_id"]
    tokens = await site.get_tokens(name)
    site.clock.now += 30 * 86_400 + 1
    assert (await site.refresh(name, tokens["refresh_token"])).json()["error"] == "invalid_grant"


@pytest.mark.parametrize("kind", ["access_token", "refresh_token"])
async def test_a_client_without_a_secret_revokes_its_grant_by_either_token(site: PeopleSite, kind: str) -> None:
    name = (await site.register())["client_id"]
    tokens = await site.get_tokens(name)
    assert (await site.post("/revoke", {"client_id": name, "token": tokens[kind]})).status_code == 200
    assert not await site.is_good(tokens["access_token"])
    assert (await site.refresh(name, tokens["refresh_token"])).status_code == 400
    assert (await site.post("/revoke", {"client_id": name, "token": "unknown" * 8})).status_code == 200


async def test_a_document_is_read_again_when_its_host_says_so_and_a_code_needs_no_second_look(site: PeopleSite) -> None:
    describe_client(site)
    await site.get_tokens(DOCUMENT)
    await site.get_tokens(DOCUMENT)
    assert len(site.read) == 1
    site.clock.now += 601
    await site.get_tokens(DOCUMENT)
    assert len(site.read) == 2


async def test_any_replica_answers_any_step(site: PeopleSite) -> None:
    """Page, decision, code, refresh and call each go to another server on the same ledger."""
    others = [PeopleSite(site.setup.database, site.clock) for _ in range(4)]
    name = (await site.register())["client_id"]
    browser = Browser(site)
    page = await browser.sign_in(await browser.open(site.authorization(name)))
    there = Browser(others[0])
    there.http.cookies = browser.http.cookies
    code = (await there.submit(page.forms[0], decision="allow")).answer["code"]
    tokens = (await others[1].exchange(name, code)).json()
    renewed = (await others[2].refresh(name, tokens["refresh_token"])).json()
    async with others[3].running():
        assert await others[3].is_good(renewed["access_token"])


async def test_pages_of_other_origins_may_ask_the_endpoints_that_carry_their_own_proof(site: PeopleSite) -> None:
    elsewhere = {"Origin": "https://inspector.example"}
    said = await site.http().get("/.well-known/oauth-authorization-server", headers=elsewhere)
    assert said.headers["access-control-allow-origin"] == "*"
    for path in ("/token", "/register", "/revoke"):
        asked = {**elsewhere, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}
        assert (await site.http().options(path, headers=asked)).status_code == 200
        assert path in site.sign_in.open_paths
    assert not any("/sign-in".startswith(path) or "/authorize".startswith(path) for path in site.sign_in.open_paths)
