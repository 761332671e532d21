"""What attackers make of people's own sign-in: each attempt ends with nothing given, or ends what was given."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from people_site import CALLBACK, ENDPOINT, SITE, VERIFIER, Browser, PeopleSite, challenge_of, open_people_site
from starlette.requests import Request

from rotoscope.providers.http.client import Wire
from rotoscope.providers.http.messages import Reply
from rotoscope.server.sign_in.people.setup import client_address

pytestmark = pytest.mark.anyio
EVIL = "https://evil.example/collect"
DOCUMENT = "https://app.example/oauth/client.json"


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[PeopleSite]:
    async with open_people_site(tmp_path) as opened:
        yield opened


@pytest.fixture
async def client_id(site: PeopleSite) -> str:
    return str((await site.register())["client_id"])


def error_of(reply: Any) -> str:
    assert reply.status_code in (400, 401), reply.text
    return str(reply.json()["error"])


# Codes: stolen, injected, used twice.


@pytest.mark.parametrize("changes", [{"code_verifier": "w" * 64}, {"code_verifier": ""}], ids=["wrong", "empty"])
async def test_a_stolen_code_is_worth_nothing_without_its_verifier(
    site: PeopleSite, client_id: str, changes: dict[str, str]
) -> None:
    code = await site.get_code(client_id)
    assert error_of(await site.exchange(client_id, code, **changes)) == "invalid_grant"


async def test_a_code_without_any_verifier_is_refused(site: PeopleSite, client_id: str) -> None:
    asked = {"grant_type": "authorization_code", "client_id": client_id, "redirect_uri": CALLBACK}
    asked["code"] = await site.get_code(client_id)
    assert error_of(await site.post("/token", asked)) == "invalid_request"


async def test_a_code_is_of_the_client_that_asked_for_it(site: PeopleSite, client_id: str) -> None:
    other = (await site.register())["client_id"]
    assert error_of(await site.exchange(other, await site.get_code(client_id))) == "invalid_grant"


async def test_a_code_goes_with_the_address_that_it_was_sent_to(site: PeopleSite) -> None:
    name = (await site.register(CALLBACK, "https://app.example/callback"))["client_id"]
    code = await site.get_code(name)
    reply = await site.exchange(name, code, redirect_uri="https://app.example/callback")
    assert error_of(reply) == "invalid_request"


async def test_a_code_that_is_used_twice_ends_what_it_began(site: PeopleSite, client_id: str) -> None:
    code = await site.get_code(client_id)
    tokens = (await site.exchange(client_id, code)).json()
    assert await site.is_good(tokens["access_token"])
    assert error_of(await site.exchange(client_id, code)) == "invalid_grant"
    assert not await site.is_good(tokens["access_token"])
    assert error_of(await site.refresh(client_id, tokens["refresh_token"])) == "invalid_grant"


async def test_a_code_that_is_used_twice_an_hour_later_still_ends_what_it_began(
    site: PeopleSite, client_id: str
) -> None:
    code = await site.get_code(client_id)
    tokens = (await site.exchange(client_id, code)).json()
    site.clock.now += 3000
    await site.exchange(client_id, code)
    assert not await site.is_good(tokens["access_token"])


async def test_a_code_is_good_for_two_minutes(site: PeopleSite, client_id: str) -> None:
    code = await site.get_code(client_id)
    site.clock.now += 121
    assert error_of(await site.exchange(client_id, code)) == "invalid_grant"


@pytest.mark.parametrize(
    "changes",
    [
        {"code_challenge_method": "plain", "code_challenge": VERIFIER},
        {"code_challenge_method": None, "code_challenge": VERIFIER},
        {"code_challenge": None},
        {"code_challenge": ""},
        {"code_challenge": challenge_of(VERIFIER) + "="},
    ],
    ids=["plain", "plain by default", "none", "empty", "padded"],
)
async def test_a_challenge_that_is_no_sha_256_comes_to_no_page_of_consent(
    site: PeopleSite, client_id: str, changes: dict[str, str | None]
) -> None:
    page = await Browser(site).open(site.authorization(client_id, **changes))
    assert page.status == 400
    assert not page.forms


# Refresh tokens.


async def test_a_refresh_token_that_was_replaced_ends_the_whole_grant_when_it_is_used_again(
    site: PeopleSite, client_id: str
) -> None:
    first = await site.get_tokens(client_id)
    second = (await site.refresh(client_id, first["refresh_token"])).json()
    site.clock.now += 61
    assert error_of(await site.refresh(client_id, first["refresh_token"])) == "invalid_grant"
    assert not await site.is_good(second["access_token"])
    assert error_of(await site.refresh(client_id, second["refresh_token"])) == "invalid_grant"


async def test_a_thief_who_is_quick_gets_no_chain_of_tokens_of_their_own(site: PeopleSite, client_id: str) -> None:
    """Within the minute the thief gets the very tokens of the client: so when both go on, one of them is noticed."""
    stolen = (await site.get_tokens(client_id))["refresh_token"]
    rightful = (await site.refresh(client_id, stolen)).json()
    thief = (await site.refresh(client_id, stolen)).json()
    assert thief["refresh_token"] == rightful["refresh_token"]
    site.clock.now += 3600
    later = (await site.refresh(client_id, rightful["refresh_token"])).json()
    site.clock.now += 61
    assert error_of(await site.refresh(client_id, thief["refresh_token"])) == "invalid_grant"
    assert not await site.is_good(later["access_token"])


async def test_a_refresh_token_is_of_the_client_that_it_was_given_to(site: PeopleSite, client_id: str) -> None:
    other = (await site.register())["client_id"]
    tokens = await site.get_tokens(client_id)
    assert error_of(await site.refresh(other, tokens["refresh_token"])) == "invalid_grant"
    assert (await site.refresh(client_id, tokens["refresh_token"])).status_code == 200


async def test_another_client_cannot_revoke_a_grant(site: PeopleSite, client_id: str) -> None:
    other = (await site.register())["client_id"]
    tokens = await site.get_tokens(client_id)
    await site.post("/revoke", {"client_id": other, "token": tokens["access_token"]})
    assert await site.is_good(tokens["access_token"])


async def test_a_refresh_token_opens_no_mcp_endpoint(site: PeopleSite, client_id: str) -> None:
    tokens = await site.get_tokens(client_id)
    assert not await site.is_good(tokens["refresh_token"])


async def test_the_ledger_holds_no_token_code_link_or_cookie(site: PeopleSite, client_id: str, tmp_path: Path) -> None:
    browser = Browser(site)
    page = await browser.sign_in(await browser.open(site.authorization(client_id)))
    code = (await browser.submit(page.forms[0], decision="allow")).answer["code"]
    tokens = (await site.exchange(client_id, code)).json()
    renewed = (await site.refresh(client_id, tokens["refresh_token"])).json()
    link = (await site.make_link()).rpartition("/")[2]
    secret = (await site.register(token_endpoint_auth_method="client_secret_post"))["client_secret"]
    kept = b"".join(file.read_bytes() for file in tmp_path.glob("ledger.sqlite3*"))
    cookies = [cookie.value or "" for cookie in browser.http.cookies.jar]
    given = [tokens["access_token"], tokens["refresh_token"], renewed["access_token"], renewed["refresh_token"]]
    for one in (code, link, secret, *given, *cookies, "a lamp beside the river"):
        assert len(one) > 20
        assert one.encode() not in kept
    assert client_id.encode() in kept


# Resources.


@pytest.mark.parametrize(
    "resource",
    ["https://other.example/mcp", f"{SITE}/other", f"{SITE}.evil.example/mcp", f"{ENDPOINT}/more", f"{ENDPOINT}#x"],
)
async def test_tokens_are_for_our_endpoint_alone(site: PeopleSite, client_id: str, resource: str) -> None:
    page = await Browser(site).open(site.authorization(client_id, resource=resource))
    assert page.status == 400
    assert "alone" in page.words
    code = await site.get_code(client_id)
    assert error_of(await site.exchange(client_id, code, resource=resource)) == "invalid_target"


@pytest.mark.parametrize("resource", [None, f"{ENDPOINT}/", "HTTPS://Rotoscope.Example:443/mcp"])
async def test_our_endpoint_may_be_spelled_as_urls_are(site: PeopleSite, client_id: str, resource: str | None) -> None:
    assert await site.get_code(client_id, resource=resource)


async def test_a_token_for_another_address_of_this_server_is_not_taken(site: PeopleSite, client_id: str) -> None:
    """The operator has changed the public address: what was let in then was let in there."""
    tokens = await site.get_tokens(client_id)
    moved = "UPDATE oauth_grants SET resource = 'https://former.example/mcp'"
    await site.setup.database.transact(lambda connection: connection.exec_driver_sql(moved))
    assert not await site.is_good(tokens["access_token"])


# Addresses to go back to.


@pytest.mark.parametrize(
    "redirect",
    [
        EVIL,
        "http://127.0.0.1:5555/callback/../evil",
        "http://127.0.0.1:5555/callback?x=1",
        "http://localhost:5555/callback",
        "http://127.0.0.1.evil.example/callback",
        "http://user@127.0.0.1:5555/callback",
        "https://127.0.0.1:5555/callback",
        "javascript:alert(1)",
    ],
)
async def test_a_browser_is_sent_to_no_address_that_the_client_has_not_named(
    site: PeopleSite, client_id: str, redirect: str
) -> None:
    for changes in ({}, {"response_type": "token"}):
        page = await Browser(site).open(site.authorization(client_id, redirect_uri=redirect, **changes))
        assert page.status == 400
        assert not page.location
        assert not page.links
    asked = site.authorization(client_id, redirect_uri=redirect).partition("?")[2]
    page = await Browser(site).open(f"/sign-in?{asked}")
    assert (page.status, page.location, page.links) == (400, "", [])


@pytest.mark.parametrize(
    "redirect",
    [
        "http://evil.example/",
        "javascript:alert(1)",
        "data:text/html,x",
        "file:///etc/passwd",
        "ms-settings:x",
        "search-ms:query=x",
        "https://user:pass@app.example/",
        "https://app.example/#fragment",
        "https://a;script-src.example/",
        "https://a,b.example/",
        "https://*.example/",
        "https://app.example/" + "x" * 1000,
    ],
)
async def test_a_client_cannot_register_an_address_that_is_unsafe(site: PeopleSite, redirect: str) -> None:
    reply = await site.http().post("/register", json={"redirect_uris": [redirect]})
    assert error_of(reply) == "invalid_redirect_uri"


async def test_a_registered_client_cannot_use_the_server_to_send_a_browser_elsewhere(site: PeopleSite) -> None:
    """Whoever registers a client may name any https address; an error must not carry a browser there by itself."""
    name = (await site.register(EVIL))["client_id"]
    for changes in ({"response_type": "token"}, {"code_challenge": "x"}, {"resource": "https://x.example"}):
        page = await Browser(site).open(site.authorization(name, redirect_uri=EVIL, **changes))
        assert (page.status, page.location) == (400, "")
        assert page.links[0].startswith(f"{EVIL}?error=")
        assert "Back to evil.example" in page.words


async def test_the_page_after_a_link_is_always_ours(site: PeopleSite) -> None:
    browser = Browser(site)
    await browser.open(await site.make_link())
    page = await browser.open(await site.make_link())
    browser.http.cookies.set("__Host-rotoscope-waiting", "Cg1Mb2NhdGlvbjogaHR0cHM6Ly9ldmlsLmV4YW1wbGU=")
    reply = await browser.http.post(page.forms[0].action, data=page.forms[0].fields, headers={"Origin": SITE})
    assert reply.status_code == 303
    assert reply.headers["location"].startswith(f"{SITE}/sign-in?")


# Forms.


async def test_no_other_site_can_send_our_forms(site: PeopleSite, client_id: str) -> None:
    browser = Browser(site)
    page = await browser.sign_in(await browser.open(site.authorization(client_id)))
    elsewhere = Browser(site, origin="https://evil.example")
    elsewhere.http.cookies = browser.http.cookies
    for attacker, token in ((elsewhere, page.forms[0].fields["token"]), (browser, "x" * 43), (browser, "")):
        done = await attacker.submit(page.forms[0], decision="allow", token=token)
        assert "code" not in done.answer
        assert done.forms  # the decision is asked for again


async def test_the_token_of_one_request_decides_on_no_other(site: PeopleSite, client_id: str) -> None:
    other = (await site.register(EVIL, client_name="Other"))["client_id"]
    browser = Browser(site)
    page = await browser.sign_in(await browser.open(site.authorization(client_id)))
    theirs = await browser.open(site.authorization(other, redirect_uri=EVIL))
    done = await browser.submit(theirs.forms[0], decision="allow", token=page.forms[0].fields["token"])
    assert "code" not in done.answer


async def test_a_cookie_that_was_planted_before_is_never_signed_in(site: PeopleSite, client_id: str) -> None:
    attacker, victim = Browser(site), Browser(site)
    await attacker.open(site.authorization(client_id))
    victim.http.cookies = attacker.http.cookies  # the attacker plants its own cookie
    planted = dict(attacker.http.cookies)
    await victim.sign_in(await victim.open(site.authorization(client_id)))
    again = Browser(site)
    again.http.cookies.update(planted)
    assert "passphrase" in (await again.open(site.authorization(client_id))).forms[0].fields


async def test_every_page_forbids_frames_scripts_and_caches(site: PeopleSite, client_id: str) -> None:
    browser = Browser(site)
    pages = [await browser.open("/sign-in"), await browser.open(site.authorization(client_id))]
    pages += [await browser.sign_in(pages[1]), await browser.open("/sign-in")]
    pages += [await browser.open("/authorize?client_id=x"), await browser.open(await site.make_link())]
    pages += [await browser.open(f"{SITE}/sign-in/links/{'x' * 43}")]
    for page in pages:
        policy = page.response.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; style-src 'sha256-")
        assert "frame-ancestors 'none'" in policy
        assert "base-uri 'none'" in policy
        assert "form-action 'self'" in policy
        assert page.response.headers["x-frame-options"] == "DENY"
        assert page.response.headers["cache-control"] == "no-store"
        assert page.response.headers["x-content-type-options"] == "nosniff"
        assert "script" not in page.tags


async def test_the_cookie_is_for_this_host_and_no_script(site: PeopleSite) -> None:
    said = (await site.http().get("/sign-in")).headers["set-cookie"]
    assert said.startswith("__Host-rotoscope-sign-in=")
    for word in ("Secure", "HttpOnly", "SameSite=lax", "Path=/"):
        assert word in said
    assert "Domain" not in said


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "a\u202eb\u200b\x07"])
async def test_the_name_of_a_client_is_text(site: PeopleSite, name: str) -> None:
    client = await site.register(client_name=name)
    browser = Browser(site)
    signing = await browser.open(site.authorization(client["client_id"]))
    consent = await browser.sign_in(signing)
    for page in (signing, consent):
        assert not {"script", "img"} & set(page.tags)
        assert not {"\u202e", "\u200b", "\x07"} & set(page.html)
    assert "Not verified" in consent.words


async def test_what_comes_in_the_address_of_a_page_is_text(site: PeopleSite, client_id: str) -> None:
    state = '"><script>alert(1)</script>'
    page = await Browser(site).open(site.authorization(client_id, state=state))
    assert "script" not in page.tags
    page = await Browser(site).open(f"/authorize?client_id={urlencode({'x': state})}")
    assert "script" not in page.tags


# Passphrases.


async def test_an_unknown_name_and_a_wrong_passphrase_get_the_same_answer(site: PeopleSite) -> None:
    await site.add_person("linked", None)
    answers = set()
    for name in ("anna", "nobody", "linked"):
        browser = Browser(site)
        page = await browser.sign_in(await browser.open("/sign-in"), name, "not the passphrase")
        token = page.forms[0].fields["token"]
        answers.add((page.status, page.html.replace(token, "")))
    assert len(answers) == 1
    assert "not right" in answers.pop()[1]


async def test_every_try_with_an_unknown_name_takes_the_work_of_a_hash(
    site: PeopleSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    from argon2 import PasswordHasher

    compared: list[str | bytes] = []
    verify = PasswordHasher.verify

    def count(self: PasswordHasher, hashed: str | bytes, passphrase: str | bytes) -> bool:
        compared.append(hashed)
        return bool(verify(self, hashed, passphrase))

    monkeypatch.setattr(PasswordHasher, "verify", count)
    for name in ("anna", "nobody"):
        browser = Browser(site)
        await browser.sign_in(await browser.open("/sign-in"), name, "x" * 5000)
    assert len(compared) == 2
    parameters = {str(one).rpartition("$")[0].rpartition("$")[0] for one in compared}
    assert len(parameters) == 1


@pytest.mark.parametrize("name", ["anna", "nobody"])
async def test_ten_wrong_passphrases_close_a_name_for_a_quarter_of_an_hour(site: PeopleSite, name: str) -> None:
    for _ in range(10):
        browser = Browser(site)
        assert (await browser.sign_in(await browser.open("/sign-in"), name, "wrong")).status == 403
    browser = Browser(site)
    refused = await browser.sign_in(await browser.open("/sign-in"), name)
    assert refused.status == 429
    assert "quarter of an hour" in refused.words
    site.clock.now += 901
    assert "signed in as anna" in (await browser.sign_in(refused, "anna")).words


async def test_a_hundred_tries_from_one_address_close_it_whatever_the_names(site: PeopleSite) -> None:
    browser = Browser(site)
    page = await browser.open("/sign-in")
    statuses = [(await browser.sign_in(page, f"name{n}", "wrong")).status for n in range(102)]
    assert statuses.count(403) == 100
    assert statuses[-1] == 429


@pytest.mark.parametrize(
    ("peer", "forwarded", "counted"),
    [
        ("93.184.215.14", "", "93.184.215.14"),
        ("93.184.215.14", "198.51.100.7", "93.184.215.14"),  # whoever calls from outside may write anything
        ("127.0.0.1", "198.51.100.7", "198.51.100.7"),
        ("10.0.0.2", "192.0.2.1, 198.51.100.7", "198.51.100.7"),  # the proxy adds the last
        ("127.0.0.1", "unknown", "127.0.0.1"),
        ("::1", "2001:db9:1:2:3:4:5:6", "2001:db9:1:2::/64"),
        ("::ffff:127.0.0.1", "198.51.100.7", "198.51.100.7"),
        ("", "198.51.100.7", ""),
    ],
)
def test_a_request_is_counted_by_the_address_that_nobody_can_choose(peer: str, forwarded: str, counted: str) -> None:
    headers = [(b"x-forwarded-for", forwarded.encode())] if forwarded else []
    assert client_address(Request({"type": "http", "client": (peer, 1), "headers": headers})) == counted


async def test_a_link_signs_in_while_the_passphrase_is_closed(site: PeopleSite) -> None:
    browser = Browser(site)
    page = await browser.open("/sign-in")
    for _ in range(11):
        page = await browser.sign_in(page, "anna", "wrong")
    opened = await browser.open(await site.make_link())
    assert "signed in as anna" in (await browser.submit(opened.forms[0])).words


# Floods.


async def test_registrations_from_one_address_are_bounded(site: PeopleSite) -> None:
    said = {"redirect_uris": [CALLBACK]}
    http = site.http()
    replies = [await http.post("/register", json=said) for _ in range(61)]
    assert {reply.status_code for reply in replies[:60]} == {201}
    assert replies[60].status_code == 429
    assert "retry-after" in replies[60].headers


async def test_clients_that_nobody_lets_in_are_bounded_and_go_after_a_day(
    site: PeopleSite, client_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rotoscope.store.clients._MAX_UNUSED", 3)
    await site.get_code(client_id)  # this one is let in
    unused = [(await site.register())["client_id"] for _ in range(3)]
    assert (
        error_of(await site.http().post("/register", json={"redirect_uris": [CALLBACK]})) == "invalid_client_metadata"
    )
    site.clock.now += 86_401
    await site.register()
    provider = site.sign_in.token_verifier
    clients = site.setup.clients
    assert provider is not None
    assert await clients.find(client_id) is not None
    assert [await clients.find(one) for one in unused] == [None] * 3


@pytest.mark.parametrize("path", ["/register", "/token", "/revoke", "/sign-in"])
async def test_a_request_that_is_too_long_is_not_read(site: PeopleSite, path: str) -> None:
    reply = await site.http().post(path, content=b"x" * 70_000, headers={"Content-Type": "application/json"})
    assert reply.status_code == 413


async def test_of_a_clients_metadata_only_what_is_used_is_kept(site: PeopleSite) -> None:
    said = await site.register(client_name="n" * 5000, logo_uri="https://x.example/l.png", contacts=["a"] * 50)
    kept = await site.setup.clients.find(said["client_id"])
    assert kept is not None
    assert len(json.dumps(dict(kept.data))) < 500
    many = await site.http().post("/register", json={"redirect_uris": [f"{CALLBACK}/{n}" for n in range(21)]})
    assert error_of(many) == "invalid_redirect_uri"


# Documents of clients.


@pytest.mark.parametrize(
    "address",
    [
        "https://127.0.0.1/client.json",
        "https://169.254.169.254/latest/meta-data/client.json",
        "https://[::1]/client.json",
        "https://[::ffff:169.254.169.254]/client.json",
        "https://localhost/client.json",
        "https://metadata.google.internal/client.json",
        "https://2130706433/client.json",
        "https://app.example:22/client.json",
        "https://user@app.example/client.json",
    ],
)
async def test_no_document_is_read_from_a_private_address(tmp_path: Path, address: str) -> None:
    """Through the project's own client and its guard; a name that resolves to a private address too."""
    asked: list[str] = []

    async def resolve(host: str, _: int) -> list[str]:
        asked.append(host)
        return ["10.0.0.1"]

    wire = Wire({}, resolve=resolve)
    async with open_people_site(tmp_path, wire.read_public) as site:
        page = await Browser(site).open(site.authorization(address))
        assert page.status == 400
        assert not page.forms
        inside = await Browser(site).open(site.authorization("https://app.example/client.json"))
        assert "not public" in inside.words
    assert asked == ["app.example"]
    await wire.aclose()


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"client_id": "https://other.example/client.json"}, "its own address"),
        ({"client_secret": "s" * 20}, "shares no secret"),
        ({"token_endpoint_auth_method": "client_secret_post"}, "shares no secret"),
        ({"redirect_uris": []}, "redirect_uris"),
        ({"redirect_uris": ["http://evil.example/"]}, "https"),
        ({"redirect_uris": "x"}, "wrong form"),
        ({"client_name": None}, "client_name"),
        ({"grant_types": ["client_credentials"]}, "authorization codes"),
        ({"token_endpoint_auth_method": "private_key_jwt"}, "jwks_uri"),
        ({"token_endpoint_auth_method": "private_key_jwt", "jwks_uri": "https://127.0.0.1/keys"}, "keys"),
    ],
)
async def test_a_document_that_breaks_a_rule_lets_nobody_in(site: PeopleSite, said: dict[str, Any], why: str) -> None:
    said = {"client_id": DOCUMENT, "client_name": "An app", "redirect_uris": [CALLBACK], **said}
    site.documents[DOCUMENT] = Reply(200, {}, json.dumps(said).encode())
    page = await Browser(site).open(site.authorization(DOCUMENT))
    assert page.status == 400
    assert why in page.words
    assert not page.links


@pytest.mark.parametrize("reply", [Reply(404), Reply(302, {"location": EVIL}), Reply(200, {}, b"<html>"), Reply(200)])
async def test_a_document_that_is_none_lets_nobody_in(site: PeopleSite, reply: Reply) -> None:
    site.documents[DOCUMENT] = reply
    assert (await Browser(site).open(site.authorization(DOCUMENT))).status == 400
    assert await site.setup.clients.find(DOCUMENT) is None


@pytest.mark.parametrize(
    "address",
    ["https://app.example", "https://app.example/", "https://app.example/a/../c.json", "https://app.example/c#x",
     "https://APP.example/c.json", "http://app.example/c.json"],
)  # fmt: skip
async def test_the_address_of_a_document_is_plain(site: PeopleSite, address: str) -> None:
    said = {"client_id": address, "client_name": "An app", "redirect_uris": [CALLBACK]}
    site.documents[address] = Reply(200, {}, json.dumps(said).encode())
    assert (await Browser(site).open(site.authorization(address))).status == 400
    assert not site.read


async def test_the_token_endpoint_reads_no_documents(site: PeopleSite) -> None:
    for path in ("/token", "/revoke"):
        reply = await site.post(path, {"client_id": DOCUMENT, "token": "x", "grant_type": "refresh_token"})
        assert reply.status_code == 401
    assert not site.read
