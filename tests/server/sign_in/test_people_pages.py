"""The pages on which a person signs in and lets a client in: what they say, and where they lead."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from people_site import CALLBACK, PASSPHRASE, SITE, Browser, PeopleSite, open_people_site

from rotoscope.errors import StorageFailed
from rotoscope.providers.http.messages import Reply
from rotoscope.server.sign_in.people.passphrases import Passphrases

pytestmark = pytest.mark.anyio
DOCUMENT = "https://app.example/oauth/client.json"


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[PeopleSite]:
    async with open_people_site(tmp_path) as opened:
        yield opened


@pytest.fixture
async def client_id(site: PeopleSite) -> str:
    return str((await site.register(client_name="Some App"))["client_id"])


async def test_consent_names_a_registered_client_as_not_verified_and_the_program_that_it_leads_to(
    site: PeopleSite, client_id: str
) -> None:
    browser = Browser(site)
    page = await browser.sign_in(await browser.open(site.authorization(client_id)))
    for words in ("Let Some App in?", "Not verified", "a program on this device (127.0.0.1:5555)", "signed in as anna"):
        assert words in page.words
    assert "may cost money" in page.words
    assert "Any program on this device" in page.words


async def test_consent_names_the_host_of_a_document_and_where_the_browser_is_sent(site: PeopleSite) -> None:
    said = {"client_id": DOCUMENT, "client_name": "Other", "redirect_uris": ["https://back.example:8443/cb"]}
    site.documents[DOCUMENT] = Reply(200, {}, json.dumps(said).encode())
    browser = Browser(site)
    asked = site.authorization(DOCUMENT, redirect_uri="https://back.example:8443/cb")
    page = await browser.sign_in(await browser.open(asked))
    assert "Verified: an app of app.example" in page.words
    assert "back.example:8443" in page.words
    assert "Not verified" not in page.words
    policy = page.response.headers["content-security-policy"]
    assert "form-action 'self' https://back.example:8443;" in policy


async def test_a_browser_stays_signed_in_for_twelve_hours_and_is_still_asked_for_consent(
    site: PeopleSite, client_id: str
) -> None:
    browser = Browser(site)
    await browser.sign_in(await browser.open("/sign-in"))
    site.clock.now += 12 * 3600 - 1
    page = await browser.open(site.authorization(client_id))
    assert "Let Some App in?" in page.words
    site.clock.now += 2
    assert "passphrase" in (await browser.open(site.authorization(client_id))).forms[0].fields


async def test_who_is_not_the_one_that_is_signed_in_signs_out_and_goes_on_with_the_same_request(
    site: PeopleSite, client_id: str
) -> None:
    await site.add_person("bert")
    browser = Browser(site)
    page = await browser.sign_in(await browser.open(site.authorization(client_id)))
    page = await browser.submit(page.forms[1])
    assert "passphrase" in page.forms[0].fields
    page = await browser.sign_in(page, "bert")
    assert "signed in as bert" in page.words
    code = (await browser.submit(page.forms[0], decision="allow")).answer["code"]
    tokens = (await site.exchange(client_id, code)).json()
    found = await site.sign_in.token_verifier.verify_token(tokens["access_token"])
    assert found is not None
    assert found.subject == "bert"
    assert found.model_dump()["principal"] == "bert"


async def test_a_link_signs_in_once_and_leads_on_to_the_consent_that_waits(site: PeopleSite, client_id: str) -> None:
    browser, link = Browser(site), await site.make_link()
    await browser.open(site.authorization(client_id))
    opened = await browser.open(link)
    assert "Sign in as anna" in opened.words
    page = await browser.submit((await browser.open(link)).forms[0])  # opening it used nothing up
    assert "Let Some App in?" in page.words
    assert (await browser.submit(page.forms[0], decision="allow")).answer["code"]
    again = await Browser(site).open(link)
    assert (again.status, again.forms) == (404, [])
    assert (await browser.submit(opened.forms[0])).status == 404


async def test_a_link_without_anything_that_waits_leads_to_a_page_that_says_what_to_do(site: PeopleSite) -> None:
    browser = Browser(site)
    page = await browser.submit((await browser.open(await site.make_link())).forms[0])
    assert "Go back to your app" in page.words
    page = await browser.submit(page.forms[0])
    assert "passphrase" in page.forms[0].fields


async def test_a_link_is_used_by_the_browser_that_opened_its_page(site: PeopleSite) -> None:
    link = await site.make_link()
    opened = await Browser(site).open(link)
    assert (await Browser(site).submit(opened.forms[0])).status == 404
    assert (await Browser(site).open(link)).status == 200


async def test_who_was_removed_is_signed_out_everywhere(site: PeopleSite, client_id: str) -> None:
    tokens = await site.get_tokens(client_id)
    browser = Browser(site)
    await browser.sign_in(await browser.open("/sign-in"))
    await site.setup.people.remove("anna")
    assert not await site.is_good(tokens["access_token"])
    page = await browser.open("/sign-in")
    assert "passphrase" in page.forms[0].fields
    assert (await browser.sign_in(page)).status == 403


async def test_a_client_that_is_gone_is_named_on_a_page_with_what_to_do(site: PeopleSite) -> None:
    page = await Browser(site).open(site.authorization("00000000-0000-0000-0000-000000000000"))
    assert page.status == 400
    assert "add it again" in page.words


async def test_a_form_that_is_too_old_is_shown_again(site: PeopleSite, client_id: str) -> None:
    page = await Browser(site).open(site.authorization(client_id))
    other = Browser(site)
    again = await other.sign_in(page)
    assert "too old" in again.words
    assert "Let Some App in?" in (await other.sign_in(again)).words


async def test_a_passphrase_whose_hash_was_made_with_less_work_is_hashed_again_when_it_is_used(
    site: PeopleSite,
) -> None:
    weaker = await Passphrases(memory_kib=8, rounds=2).hash(PASSPHRASE)
    await site.setup.people.set_passphrase("anna", weaker)
    browser = Browser(site)
    await browser.sign_in(await browser.open("/sign-in"))
    person = await site.setup.people.find("anna")
    assert person is not None
    assert person.passphrase_hash != weaker


async def test_while_the_ledger_is_away_pages_and_endpoints_say_so_and_nobody_is_signed_out(
    site: PeopleSite, client_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = await site.get_tokens(client_id)

    async def fail(*_: object, **__: object) -> Any:
        raise StorageFailed("The ledger is away.")

    with monkeypatch.context() as patched:
        patched.setattr("rotoscope.store.database.Database.transact", fail)
        assert (await Browser(site).open(site.authorization(client_id))).status == 503
        assert (await Browser(site).open(f"{SITE}/sign-in/links/{'x' * 43}")).status == 503
        replies = [await site.refresh(client_id, tokens["refresh_token"])]
        replies.append(await site.post("/revoke", {"client_id": client_id, "token": "x" * 43}))
        replies.append(await site.http().post("/register", json={"redirect_uris": [CALLBACK]}))
        replies.append(await site.post("/mcp", headers={"Authorization": f"Bearer {tokens['access_token']}"}))
        for reply in replies:
            assert reply.status_code == 503
            assert reply.json()["error"] == "temporarily_unavailable"
    assert (await site.refresh(client_id, tokens["refresh_token"])).status_code == 200


async def test_a_page_of_the_server_can_ask_who_is_signed_in_in_its_browser(site: PeopleSite) -> None:
    from starlette.requests import Request

    browser = Browser(site)
    await browser.sign_in(await browser.open("/sign-in"))
    cookie = "; ".join(f"{one.name}={one.value}" for one in browser.http.cookies.jar)
    ask = site.sign_in.browser_principal
    assert ask is not None
    for given, expected in ((cookie, "anna"), ("", None), ("__Host-rotoscope-sign-in=" + "x" * 43, None)):
        scope = {"type": "http", "headers": [(b"cookie", given.encode())]}
        assert await ask(Request(scope)) == expected
