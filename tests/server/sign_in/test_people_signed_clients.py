"""Clients with a document that sign their requests for tokens (`private_key_jwt`), as a large assistant's do."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from people_site import CALLBACK, ENDPOINT, SITE, VERIFIER, PeopleSite, open_people_site

from rotoscope.providers.http.messages import Reply

pytestmark = pytest.mark.anyio
DOCUMENT, KEYS = "https://app.example/oauth/client.json", "https://app.example/oauth/keys.json"
KEY, OTHER_KEY = (rsa.generate_private_key(65537, 2048) for _ in range(2))
ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


def public(key: rsa.RSAPrivateKey, kid: str) -> dict[str, Any]:
    said: dict[str, Any] = jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
    return {**said, "kid": kid, "alg": "RS256", "use": "sig"}


def publish(site: PeopleSite, *keys: dict[str, Any]) -> None:
    site.documents[KEYS] = Reply(200, {}, json.dumps({"keys": keys}).encode())


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[PeopleSite]:
    async with open_people_site(tmp_path) as opened:
        said = {
            "client_id": DOCUMENT,
            "client_name": "An assistant",
            "redirect_uris": [CALLBACK],
            "token_endpoint_auth_method": "private_key_jwt",
            "jwks_uri": KEYS,
        }
        opened.documents[DOCUMENT] = Reply(200, {}, json.dumps(said).encode())
        publish(opened, public(KEY, "1"))
        yield opened


def sign(site: PeopleSite, key: Any = KEY, kid: str = "1", algorithm: str = "RS256", **changes: Any) -> str:
    now = int(site.clock.now)
    claims = {"iss": DOCUMENT, "sub": DOCUMENT, "aud": f"{SITE}/token", "iat": now, "exp": now + 300, **changes}
    claims = {name: value for name, value in claims.items() if value is not None}
    return jwt.encode(claims, key, algorithm, {"kid": kid})


async def exchange(site: PeopleSite, assertion: str | None, code: str = "", **changes: str) -> httpx2.Response:
    asked = {
        "grant_type": "authorization_code",
        "client_id": DOCUMENT,
        "code": code or await site.get_code(DOCUMENT),
        "redirect_uri": CALLBACK,
        "code_verifier": VERIFIER,
        "resource": ENDPOINT,
        "client_assertion_type": ASSERTION,
        **({} if assertion is None else {"client_assertion": assertion}),
        **changes,
    }
    return await site.post("/token", {name: value for name, value in asked.items() if value})


async def test_a_client_that_signs_gets_tokens_and_renews_them(site: PeopleSite) -> None:
    tokens = (await exchange(site, sign(site))).json()
    assert await site.is_good(tokens["access_token"])
    more = {"client_assertion_type": ASSERTION, "client_assertion": sign(site, aud=SITE)}
    assert (await site.refresh(DOCUMENT, tokens["refresh_token"], **more)).status_code == 200
    assert (await site.refresh(DOCUMENT, tokens["refresh_token"])).status_code == 401
    assert site.read.count(KEYS) == 1


async def test_a_client_may_name_itself_in_its_signature_alone(site: PeopleSite) -> None:
    assert (await exchange(site, sign(site), client_id="")).status_code == 200


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": "https://other.example/token"},
        {"aud": None},
        {"iss": "https://other.example/client.json"},
        {"sub": "https://other.example/client.json"},
        {"exp": None},
        {"exp": 1_999_999_000},
        {"exp": 2_000_090_000},
        {"nbf": 2_000_001_000},
        {"exp": "soon"},
    ],
    ids=str,
)
async def test_a_signature_for_another_place_client_or_time_is_refused(
    site: PeopleSite, changes: dict[str, Any]
) -> None:
    assert (await exchange(site, sign(site, **changes))).status_code == 401


async def test_a_signature_is_by_a_key_of_the_client(site: PeopleSite) -> None:
    shared = "s" * 40
    hashed = sign(site, shared, algorithm="HS256")
    curve = sign(site, ec.generate_private_key(ec.SECP256R1()), algorithm="ES256")
    unsigned = sign(site, None, algorithm="none")
    for assertion in (sign(site, OTHER_KEY), sign(site, kid="2"), hashed, curve, unsigned, "x", "x" * 9000, None):
        assert (await exchange(site, assertion)).status_code == 401


async def test_a_key_that_is_not_known_is_looked_for_once_a_minute(site: PeopleSite) -> None:
    code = await site.get_code(DOCUMENT)
    assert (await exchange(site, sign(site, OTHER_KEY, kid="2"), code)).status_code == 401
    publish(site, public(KEY, "1"), public(OTHER_KEY, "2"))
    for _ in range(3):
        assert (await exchange(site, sign(site, OTHER_KEY, kid="2"), code)).status_code == 401
    assert site.read.count(KEYS) == 1
    site.clock.now += 61
    assert (await exchange(site, sign(site, OTHER_KEY, kid="2"), code)).status_code == 200
    assert site.read.count(KEYS) == 2


async def test_keys_that_cannot_be_read_prove_nothing(site: PeopleSite) -> None:
    for reply in (Reply(500), Reply(200, {}, b"[]"), Reply(200, {}, b'{"keys": [1, {"kty": "oct", "k": "x"}]}')):
        site.documents[KEYS] = reply
        site.clock.now += 3601
        assert (await exchange(site, sign(site))).status_code == 401
