"""Tokens of an identity provider: which are good, whatever an attacker makes of them, and a provider that is away."""

import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx  # noqa: TID251 - the type of the client that the tests speak through
import jwt
import pytest
from identity_provider import AUDIENCE, ISSUER, NOW, IdentityProvider, make_key

from rotoscope.providers.http.client import Wire
from rotoscope.server.sign_in.contract import SignIn
from rotoscope.server.sign_in.documents import IssuerDocuments, discovery_urls, issuer_access
from rotoscope.server.sign_in.issuer import make_issuer_sign_in

pytestmark = pytest.mark.anyio

Signing = Callable[..., SignIn]


@pytest.fixture
def provider() -> IdentityProvider:
    return IdentityProvider()


@pytest.fixture
async def signing(provider: IdentityProvider, seconds: Any, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Signing]:
    """Makes sign-in by the provider of the test, at a moment that the tests know."""
    # The SDK compares `expires_at` with the time of the machine.
    monkeypatch.setattr("mcp.server.auth.middleware.bearer_auth.time.time", lambda: NOW)
    wire = Wire(issuer_access(ISSUER), sandbox=provider)

    def made(audience: str | None = None, scopes: tuple[str, ...] = ()) -> SignIn:
        source = IssuerDocuments(ISSUER, wire)
        return make_issuer_sign_in(AUDIENCE, ISSUER, audience, scopes, source, lambda: NOW, seconds)

    yield made
    await wire.aclose()


@pytest.fixture
async def client(signing: Signing, ask: Any) -> AsyncIterator[httpx.AsyncClient]:
    async with ask(signing()) as opened:
        yield opened


async def status(client: httpx.AsyncClient, token: str) -> int:
    return (await client.post("/mcp", headers={"Authorization": f"Bearer {token}"})).status_code


async def whose(client: httpx.AsyncClient, token: str) -> str:
    reply = await client.post("/mcp", headers={"Authorization": f"Bearer {token}"})
    assert reply.status_code == 200, reply.text
    return str(reply.json()["principal"])


@pytest.mark.parametrize("style", ["oauth", "openid"])
async def test_a_token_of_the_provider_names_issuer_and_subject(
    client: httpx.AsyncClient, provider: IdentityProvider, style: str
) -> None:
    provider.style = style
    assert await whose(client, provider.token()) == f"{ISSUER}#anna"
    assert await whose(client, provider.token(sub="bert", aud=["other", AUDIENCE])) == f"{ISSUER}#bert"


@pytest.mark.parametrize("algorithm", ["RS256", "PS384", "ES256", "ES384", "EdDSA"])
async def test_keys_of_every_kind_verify_their_own_algorithms(
    client: httpx.AsyncClient, provider: IdentityProvider, algorithm: str
) -> None:
    key = make_key(algorithm, algorithm)
    provider.keys = [make_key("one").public_form(), key.public_form()]
    assert await status(client, provider.token(key)) == 200
    other = make_key("another", algorithm)
    assert await status(client, provider.token(other, {"kid": key.name})) == 401


BAD_CLAIMS: dict[str, dict[str, Any]] = {
    "another audience": {"aud": "https://other.example/mcp"},
    "no audience of ours in a list": {"aud": ["a", "b"]},
    "an audience that only begins like ours": {"aud": f"{AUDIENCE}/x"},
    "another issuer": {"iss": "https://evil.example"},
    "the issuer with a slash": {"iss": f"{ISSUER}/"},
    "an end in the past": {"exp": NOW - 31},
    "a beginning in the future": {"nbf": NOW + 31},
    "made in the future": {"iat": NOW + 31},
    "an end that is text": {"exp": str(NOW + 600)},
    "an endless end": {"exp": 1e300},
    "a subject that is a number": {"sub": 7},
    "an empty subject": {"sub": ""},
    "a subject with a line break": {"sub": "an\nna"},
    "a subject without end": {"sub": "a" * 256},
}


@pytest.mark.parametrize("what", BAD_CLAIMS)
async def test_a_token_with_wrong_claims_is_refused(
    client: httpx.AsyncClient, provider: IdentityProvider, what: str
) -> None:
    assert await status(client, forge(provider, payload=BAD_CLAIMS[what])) == 401
    assert await status(client, provider.token()) == 200


@pytest.mark.parametrize("claim", ["exp", "iss", "aud", "sub"])
async def test_a_token_without_a_needed_claim_is_refused(
    client: httpx.AsyncClient, provider: IdentityProvider, claim: str
) -> None:
    assert await status(client, provider.token(without=(claim,))) == 401


async def test_two_clocks_may_differ_by_half_a_minute(client: httpx.AsyncClient, provider: IdentityProvider) -> None:
    assert await status(client, provider.token(exp=NOW - 29)) == 200
    assert await status(client, provider.token(nbf=NOW + 29, iat=NOW + 29)) == 200


def encode(value: object) -> str:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def forge(provider: IdentityProvider, payload: dict[str, Any]) -> str:
    """A token signed with the provider's own key, whatever its claims are."""
    head, body, _ = provider.token().split(".")
    claims = {**json.loads(base64.urlsafe_b64decode(body + "==")), **payload}
    signed = f"{head}.{encode(claims)}"
    signature = jwt.get_algorithm_by_name("RS256").sign(signed.encode(), make_key("one").private)
    return f"{signed}.{encode(signature)}"


def forge_shared_secret(provider: IdentityProvider, secret: bytes) -> str:
    """A token whose signature is made with the public key as if it were a shared secret (RFC 8725, section 2.1)."""
    body = provider.token().split(".")[1]
    signed = f"{encode({'alg': 'HS256', 'kid': 'one', 'typ': 'JWT'})}.{body}"
    return f"{signed}.{encode(hmac.new(secret, signed.encode(), hashlib.sha256).digest())}"


async def test_no_signature_and_a_shared_secret_are_refused(
    client: httpx.AsyncClient, provider: IdentityProvider
) -> None:
    body = provider.token().split(".")[1]
    forged = [f"{encode({'alg': name, 'kid': 'one'})}.{body}." for name in ("none", "None", "NONE", "")]
    forged.append(f"{encode({'kid': 'one'})}.{body}.")
    forged += [forge_shared_secret(provider, secret) for secret in (make_key("one").public_pem(), b"", b"one")]
    provider.keys.append({"kty": "oct", "k": encode(b"secret"), "kid": "shared", "alg": "HS256"})
    forged.append(jwt.encode({"iss": ISSUER, "sub": "a"}, b"secret" * 8, "HS256", {"kid": "shared"}))
    for token in forged:
        assert await status(client, token) == 401, token
    assert await status(client, provider.token()) == 200


async def test_keys_and_addresses_in_a_header_are_never_used(
    client: httpx.AsyncClient, provider: IdentityProvider
) -> None:
    own = make_key("evil")
    given = {"jwk": own.public_form(), "jku": "http://127.0.0.1:9/keys", "x5u": "http://127.0.0.1:9/x"}
    assert await status(client, provider.token(own, {**given, "kid": "one"})) == 401
    assert await status(client, provider.token(own, given)) == 401
    assert all(path.startswith(("/.well-known/", "/realms/studio")) for path in provider.hits)


@pytest.mark.parametrize("header", [{"typ": "logout+jwt"}, {"typ": "oauth-id-jag+jwt"}, {"crit": ["exp"]}])
async def test_a_token_that_is_meant_for_something_else_is_refused(
    client: httpx.AsyncClient, provider: IdentityProvider, header: dict[str, Any]
) -> None:
    assert await status(client, provider.token(headers=header)) == 401


@pytest.mark.parametrize("token", ["x", "a.b.c", "..", ".." * 5000, "é.é.é", f"{'A' * 9000}.b.c", "[" * 4000])
async def test_what_is_no_token_is_refused_without_asking_the_provider(
    client: httpx.AsyncClient, provider: IdentityProvider, token: str
) -> None:
    reply = await client.post("/mcp", headers=[(b"Authorization", b"Bearer " + token.encode())])
    assert reply.status_code == 401
    assert not provider.hits


async def test_an_altered_token_is_refused(client: httpx.AsyncClient, provider: IdentityProvider) -> None:
    head, body, signature = provider.token().split(".")
    other = encode({**json.loads(base64.urlsafe_b64decode(body + "==")), "sub": "root"})
    assert await status(client, f"{head}.{other}.{signature}") == 401
    assert await status(client, f"{head}.{body}.{signature[:-4]}AAAA") == 401


@pytest.mark.filterwarnings("ignore::jwt.InsecureKeyLengthWarning")
async def test_a_key_that_is_too_short_or_for_encryption_verifies_nothing(
    client: httpx.AsyncClient, provider: IdentityProvider
) -> None:
    short, locked = make_key("short"), make_key("locked")
    provider.keys = [short.public_form(), {**locked.public_form(), "use": "enc"}]
    assert await status(client, provider.token(short)) == 401
    assert await status(client, provider.token(locked)) == 401


# The keys: when they are asked for, and what becomes of a provider that is away.


async def test_a_flood_of_unknown_keys_asks_the_provider_once_a_minute(
    client: httpx.AsyncClient, provider: IdentityProvider, seconds: Any
) -> None:
    assert await status(client, provider.token()) == 200
    asked = len(provider.hits)
    for number in range(50):
        assert await status(client, provider.token(headers={"kid": f"made-up-{number}"})) == 401
    assert len(provider.hits) == asked
    seconds.now += 60
    for number in range(50):
        assert await status(client, provider.token(headers={"kid": f"made-up-{number}"})) == 401
    assert provider.hits.count("/realms/studio/keys") == 2


async def test_a_new_key_of_the_provider_is_found(
    client: httpx.AsyncClient, provider: IdentityProvider, seconds: Any
) -> None:
    assert await status(client, provider.token()) == 200
    new = make_key("two")
    provider.keys = [new.public_form()]
    seconds.now += 60
    assert await status(client, provider.token(new)) == 200
    assert await status(client, provider.token()) == 401  # the provider has withdrawn the old one


async def test_a_withdrawn_key_is_forgotten_within_an_hour(
    client: httpx.AsyncClient, provider: IdentityProvider, seconds: Any
) -> None:
    assert await status(client, provider.token()) == 200
    provider.keys = [make_key("two").public_form()]
    seconds.now += 3600
    assert await status(client, provider.token()) == 401


async def test_known_keys_go_on_working_while_the_provider_is_away(
    client: httpx.AsyncClient, provider: IdentityProvider, seconds: Any
) -> None:
    assert await status(client, provider.token()) == 200
    provider.is_away = True
    for _ in range(5):
        seconds.now += 3600
        assert await status(client, provider.token()) == 200
    assert await status(client, provider.token(make_key("two"))) == 503  # it may be a new key: nobody can tell
    provider.is_away = False
    seconds.now += 60
    assert await status(client, provider.token(make_key("two"))) == 401


async def test_a_provider_that_was_never_there_gives_503_and_is_not_asked_again_at_once(
    client: httpx.AsyncClient, provider: IdentityProvider, seconds: Any
) -> None:
    provider.is_away = True
    assert await status(client, provider.token()) == 503
    asked = len(provider.hits)
    for _ in range(20):
        assert await status(client, provider.token()) == 503
    assert len(provider.hits) == asked
    provider.is_away = False
    seconds.now += 5
    assert await status(client, provider.token()) == 200


@pytest.mark.parametrize("issuer", ["https://evil.example", f"{ISSUER}/", ""])
async def test_metadata_of_another_issuer_is_not_used(
    client: httpx.AsyncClient, provider: IdentityProvider, issuer: str
) -> None:
    provider.issuer = issuer
    provider.metadata = {"jwks_uri": f"{ISSUER}/keys"}
    assert await status(client, provider.token()) == 503


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:9/keys",
        "https://169.254.169.254/keys",
        "file:///etc/passwd",
        "http://id.example/keys",
        "https://[",
        "https://id.example\0/keys",
        f"{ISSUER}/keys\n",
        f"{ISSUER}/{'k' * 70_000}",
    ],
)
async def test_an_address_of_keys_on_another_host_is_judged_like_any_foreign_address(
    client: httpx.AsyncClient, provider: IdentityProvider, url: str
) -> None:
    provider.metadata = {"jwks_uri": url}
    assert await status(client, provider.token()) == 503
    assert "/realms/studio/keys" not in provider.hits


@pytest.mark.parametrize("body", [b"x" * 300_000, b"{}", b'{"keys": {}}', b"[" * 100_000, b"\xff"])
async def test_keys_that_are_huge_or_broken_are_not_used(
    client: httpx.AsyncClient, provider: IdentityProvider, body: bytes
) -> None:
    provider.body = body
    assert await status(client, provider.token()) == 503


async def test_of_many_keys_the_first_are_used_and_broken_ones_left_out(
    client: httpx.AsyncClient, provider: IdentityProvider
) -> None:
    odd: list[Any] = [None, 7, {}, {"kty": "RSA"}, {"kty": "RSA", "n": "!", "e": "!"}, {"kty": "EC", "crv": "P-256"}]
    last = make_key("two").public_form()
    provider.keys = [*odd, make_key("one").public_form(), *({**last, "kid": f"k{n}"} for n in range(100)), last]
    assert await status(client, provider.token()) == 200
    assert await status(client, provider.token(make_key("two"))) == 401


async def test_a_token_that_names_no_key_is_verified_with_the_only_one(
    client: httpx.AsyncClient, provider: IdentityProvider, seconds: Any
) -> None:
    head, body, _ = provider.token().split(".")
    signed = f"{encode({'alg': 'RS256'})}.{body}"
    token = f"{signed}.{encode(jwt.get_algorithm_by_name('RS256').sign(signed.encode(), make_key('one').private))}"
    assert head
    assert await status(client, token) == 200
    provider.keys.append(make_key("two").public_form())
    seconds.now += 3600
    assert await status(client, token) == 401


# Scopes and metadata.


@pytest.mark.parametrize("given", [{"scope": "media other"}, {"scp": ["media"]}, {"scp": "media"}])
async def test_a_token_with_the_scope_is_accepted(
    signing: Signing, ask: Any, provider: IdentityProvider, given: dict[str, Any]
) -> None:
    async with ask(signing(scopes=("media",))) as client:
        assert await status(client, provider.token(**given)) == 200


@pytest.mark.parametrize("given", [{}, {"scope": "mediaother"}, {"scope": 7}, {"scope": "", "scp": "media"}])
async def test_a_token_without_the_scope_is_refused_with_the_reason(
    signing: Signing, ask: Any, provider: IdentityProvider, given: dict[str, Any]
) -> None:
    async with ask(signing(scopes=("media",))) as client:
        reply = await client.post("/mcp", headers={"Authorization": f"Bearer {provider.token(**given)}"})
        assert reply.status_code == 403
        assert 'error="insufficient_scope"' in reply.headers["www-authenticate"]
        assert "resource_metadata=" in reply.headers["www-authenticate"]


async def test_the_metadata_names_the_provider_and_the_scopes(signing: Signing, ask: Any) -> None:
    async with ask(signing(scopes=("media",))) as client:
        found = (await client.get("/.well-known/oauth-protected-resource/mcp")).json()
        assert found["resource"] == AUDIENCE
        assert found["authorization_servers"] == [ISSUER]
        assert found["scopes_supported"] == ["media"]


async def test_another_audience_may_be_set(signing: Signing, ask: Any, provider: IdentityProvider) -> None:
    async with ask(signing(audience="rotoscope")) as client:
        assert await status(client, provider.token(aud="rotoscope")) == 200
        assert await status(client, provider.token()) == 401


async def test_a_token_is_in_no_log(
    client: httpx.AsyncClient, provider: IdentityProvider, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    tokens = [provider.token(), provider.token(aud="x"), provider.token(make_key("two"))]
    for token in tokens:
        await status(client, token)
    provider.is_away = True
    assert not [one for one in tokens if one.split(".")[2] in caplog.text]


def test_metadata_is_looked_for_where_the_standards_put_it() -> None:
    assert discovery_urls("https://id.example/realms/studio") == (
        "https://id.example/.well-known/oauth-authorization-server/realms/studio",
        "https://id.example/.well-known/openid-configuration/realms/studio",
        "https://id.example/realms/studio/.well-known/openid-configuration",
    )
    assert discovery_urls("https://id.example/") == (
        "https://id.example/.well-known/oauth-authorization-server",
        "https://id.example/.well-known/openid-configuration",
    )
