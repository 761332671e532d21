"""Over HTTP: what belongs to another principal is answered exactly like what does not exist, byte for byte.

That the answers also take equally long is by construction, and not measured here: every verb finds what it is asked for
by one statement with the principal and the id in its condition (`Ledger.job`, `JobLinks.can_read_artifact`), so a row
of another principal is as absent as one that was never written, and both take the same way from there on.
"""

import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from calls import BOX
from decoding import InThread
from http_calls import HttpCaller
from identity_provider import AUDIENCE, ISSUER, NOW, IdentityProvider
from principal_requests import LISTS, REQUESTS, Names, listen
from starlette.types import ASGIApp

from rotoscope.composition.http import build_http_server, read_signer
from rotoscope.media.file_addresses import FileAddresses
from rotoscope.providers.http.client import Wire
from rotoscope.server.http.addresses import ListenAddress
from rotoscope.server.sign_in.contract import SignIn
from rotoscope.server.sign_in.documents import IssuerDocuments, issuer_access
from rotoscope.server.sign_in.issuer import make_issuer_sign_in
from rotoscope.server.sign_in.token_file import TokenFile
from rotoscope.server.sign_in.tokens import make_token_sign_in
from rotoscope.settings import read_settings
from rotoscope_sandbox import Sandbox

pytestmark = pytest.mark.anyio

Reverse = Callable[[Names], Names]
TOKENS = {"anna": "a" * 40, "bert": "b" * 40}


@pytest.fixture(params=["tokens", "issuer"])
async def signed(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[SignIn, dict[str, str]]]:
    """Each way to sign in, with the tokens of anna and bert."""
    if request.param == "tokens":
        yield make_token_sign_in(AUDIENCE, list(TOKENS.items()), TokenFile(tmp_path / "tokens.json")), TOKENS
        return
    monkeypatch.setattr("mcp.server.auth.middleware.bearer_auth.time.time", lambda: NOW)
    provider = IdentityProvider()
    wire = Wire(issuer_access(ISSUER), sandbox=provider)
    sign_in = make_issuer_sign_in(AUDIENCE, ISSUER, None, (), IssuerDocuments(ISSUER, wire), lambda: NOW)
    yield sign_in, {name: provider.token(sub=name) for name in TOKENS}
    await wire.aclose()


@pytest.fixture
async def app(
    signed: tuple[SignIn, dict[str, str]], environment: dict[str, str], sandbox: Sandbox, home: Path
) -> AsyncIterator[ASGIApp]:
    """The real server, in this process."""
    settings = read_settings(
        {**environment, "ROTOSCOPE_PUBLIC_URL": "https://rotoscope.example", "ROTOSCOPE_ROOTS": str(home)}
    )
    where = ListenAddress("127.0.0.1", 8000)
    serving = build_http_server(settings, where, home, sign_in=signed[0], sandbox=sandbox, decoders=InThread())
    async with serving.app.running():
        yield serving.app


@pytest.fixture(params=["handshake", "modern"])
async def callers(
    request: pytest.FixtureRequest, signed: tuple[SignIn, dict[str, str]], app: ASGIApp
) -> dict[str, HttpCaller]:
    """Clients of anna and bert, in each era."""
    plain = {name: HttpCaller(app, token) for name, token in signed[1].items()}
    return plain if request.param == "modern" else {name: await one.initialize() for name, one in plain.items()}


async def finish_job(caller: HttpCaller, photo: Path) -> Names:
    params = {"name": "segment_image", "arguments": {"image": str(photo), "box": BOX}}
    answer = await caller.call("tools/call", capabilities={"extensions": {}}, **params)
    result = answer.message["result"]["structuredContent"]
    assert result["status"] == "succeeded"
    media = result["masks"][0]["media"]
    return Names(result["job_id"], media["sha256"], media["url"])


@pytest.fixture
def reverse(environment: dict[str, str]) -> Reverse:
    """Makes names of the same form that lead nowhere; also an address that is signed, for a file that is not there."""

    def make(names: Names) -> Names:
        sha256 = names.sha256[::-1]
        signer = read_signer(read_settings(environment))
        address = FileAddresses("https://rotoscope.example", signer, time.time).sign(f"{sha256}.png")
        return Names(names.job[::-1], sha256, address.url)

    return make


def comparable(names: Names, answer: Any) -> str:
    text: str = answer.comparable()
    for name, given in (("path", names.path), ("job", names.job), ("sha256", names.sha256)):
        text = text.replace(given, f"{{{name}}}")
    return text


async def test_what_is_anothers_is_answered_like_what_is_not_there(
    callers: dict[str, HttpCaller], photo: Path, reverse: Reverse
) -> None:
    anna, bert = callers["anna"], callers["bert"]
    hers = await finish_job(anna, photo)
    nobodys = reverse(hers)
    is_modern = anna.session is None
    for method, params in [one for requests in REQUESTS.values() for one in requests]:
        foreign = comparable(hers, await bert.call(method, **hers.fill(params)))
        absent = comparable(nobodys, await bert.call(method, **nobodys.fill(params)))
        assert foreign == absent, params
        owner = comparable(hers, await anna.call(method, **hers.fill(params)))
        is_acknowledged = method in ("tasks/cancel", "tasks/update")  # an empty answer, whatever there is
        assert owner != absent or is_acknowledged or (method.startswith("tasks/") and not is_modern), params
    kept = await anna.ask("tools/call", name="get_job", arguments={"job_id": hers.job})
    assert kept["result"]["structuredContent"]["status"] == "succeeded"


async def test_lists_and_completions_hold_nothing_of_another(callers: dict[str, HttpCaller], photo: Path) -> None:
    hers = await finish_job(callers["anna"], photo)
    for method, params in LISTS.values():
        assert hers.job in str(await callers["anna"].ask(method, **params))
        assert hers.job not in str(await callers["bert"].ask(method, **params))


async def test_a_subscription_to_anothers_job_is_like_one_to_none(
    callers: dict[str, HttpCaller], photo: Path, reverse: Reverse
) -> None:
    hers = await finish_job(callers["anna"], photo)
    nobodys = reverse(hers)
    if callers["anna"].session is None:
        asked = [listen(resourceSubscriptions=["job://{job}"]), listen(taskIds=["{job}"])]
    else:
        asked = [("resources/subscribe", {"uri": "job://{job}"}), ("resources/unsubscribe", {"uri": "job://{job}"})]
    for method, params in asked:
        foreign = without_stream(hers, await callers["bert"].call(method, **hers.fill(params)))
        absent = without_stream(nobodys, await callers["bert"].call(method, **nobodys.fill(params)))
        assert foreign == absent
        owner = without_stream(hers, await callers["anna"].call(method, **hers.fill(params)))
        assert owner != absent or method == "resources/unsubscribe"


def without_stream(names: Names, answer: Any) -> str:
    """An answer without the number of its stream, which is that of the request."""
    answer.message.get("params", {}).pop("_meta", None)
    return comparable(names, answer)


async def test_a_session_belongs_to_the_principal_that_began_it(
    signed: tuple[SignIn, dict[str, str]], app: ASGIApp
) -> None:
    hers = await HttpCaller(app, signed[1]["anna"]).initialize()
    assert hers.session is not None
    for method, message in (
        ("POST", {"jsonrpc": "2.0", "id": 5, "method": "tools/list"}),
        ("GET", None),
        ("DELETE", None),
    ):
        answers = []
        for session in (hers.session, hers.session[::-1]):
            caller = HttpCaller(app, signed[1]["bert"], session)
            headers = {"mcp-session-id": session, "mcp-protocol-version": "2025-11-25"}
            answers.append((await caller.send(method, "/mcp", message, headers)).comparable())
        assert answers[0] == answers[1]
        assert '"error"' in answers[0].replace("\\", "")
    assert (await hers.call("tools/list")).status == 200


async def test_nothing_is_served_without_a_token_but_the_metadata(
    signed: tuple[SignIn, dict[str, str]], app: ASGIApp
) -> None:
    nobody = HttpCaller(app, "")
    for method in ("GET", "POST", "DELETE", "PUT"):
        assert (await nobody.send(method, "/mcp")).status == 401
    assert (await nobody.call("tools/list")).status == 401
    assert (await nobody.send("GET", "/.well-known/oauth-protected-resource/mcp")).status == 200
