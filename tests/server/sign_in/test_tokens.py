"""Bearer tokens: who has one, what is kept of it, and a file that may change or break while the server runs."""

import json
import os
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp.client.auth import OAuthClientProvider, OAuthRegistrationError
from mcp.shared.auth import OAuthClientMetadata

from rotoscope.cli.commands import run_command
from rotoscope.errors import InvalidInput
from rotoscope.server.sign_in.contract import SignIn
from rotoscope.server.sign_in.token_file import PREFIX, TokenFile, hash_token
from rotoscope.server.sign_in.tokens import TokenIndex, TokenVerifier, make_token_sign_in

pytestmark = pytest.mark.anyio

ENDPOINT = "https://rotoscope.example/mcp"
GIVEN = "a" * 40


@pytest.fixture
def file(tmp_path: Path) -> TokenFile:
    return TokenFile(tmp_path / "home" / "tokens.json")


@pytest.fixture
def following(file: TokenFile, seconds: Any) -> SignIn:
    """Sign-in by the file, by the clock of the test."""
    return SignIn(TokenVerifier(TokenIndex({hash_token(GIVEN): "carla"}), file, clock=seconds), ENDPOINT)


async def principal(client: Any, token: str) -> tuple[int, str | None]:
    reply = await client.get("/mcp", headers={"Authorization": f"Bearer {token}"})
    return reply.status_code, reply.json().get("principal")


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def test_a_token_names_its_principal_and_no_other_is_let_in(ask: Any, file: TokenFile) -> None:
    _, first = file.add("anna", 1.0)
    _, second = file.add("anna", 2.0)
    _, other = file.add("bert@example.com", 3.0)
    hashed = f"sha256:{hash_token('b' * 40)}"
    async with ask(make_token_sign_in(ENDPOINT, [("carla", GIVEN), ("dora", hashed)], file)) as client:
        assert await principal(client, first) == (200, "anna")
        assert await principal(client, second) == (200, "anna")
        assert await principal(client, other) == (200, "bert@example.com")
        assert await principal(client, GIVEN) == (200, "carla")
        assert await principal(client, "b" * 40) == (200, "dora")
        wrong = (first[:-1], first + "x", first.upper(), hash_token(first), hashed, "", "x" * 20_000, "é" * 40)
        for token in wrong:
            reply = await client.get("/mcp", headers=[(b"Authorization", b"Bearer " + token.encode())])
            assert reply.status_code == 401, token


async def test_a_request_without_a_token_learns_where_the_metadata_is(ask: Any, file: TokenFile) -> None:
    async with ask(make_token_sign_in(ENDPOINT, [("anna", GIVEN)], file)) as client:
        for headers in ({}, {"Authorization": "Basic YTpi"}, {"Authorization": GIVEN}):
            reply = await client.post("/mcp", headers=headers)
            assert reply.status_code == 401
            where = "https://rotoscope.example/.well-known/oauth-protected-resource/mcp"
            assert f'resource_metadata="{where}"' in reply.headers["www-authenticate"]
        metadata = await client.get(where, headers={"Origin": "https://app.example"})
        assert metadata.headers["access-control-allow-origin"] == "*"
        assert metadata.json() == {
            "resource": ENDPOINT,
            "bearer_methods_supported": ["header"],
            "resource_name": "rotoscope",
        }


async def test_a_client_that_looks_for_a_sign_in_page_is_answered_how_to_connect(ask: Any, file: TokenFile) -> None:
    """The SDK's client goes on to register itself where the metadata names no authorization server."""
    client_metadata = OAuthClientMetadata.model_validate({"redirect_uris": ["http://localhost:3030/callback"]})

    async def fail(*_: object) -> None:
        raise AssertionError("there is no page to open")

    async with ask(make_token_sign_in(ENDPOINT, [("anna", GIVEN)], file)) as server:

        async def pass_on(request: httpx2.Request) -> httpx2.Response:
            reply = await server.request(
                request.method, str(request.url), content=request.content, headers=dict(request.headers)
            )
            return httpx2.Response(reply.status_code, headers=dict(reply.headers), content=reply.content)

        auth = OAuthClientProvider(ENDPOINT, client_metadata, NoStorage(), fail, fail)  # type: ignore[arg-type]
        async with httpx2.AsyncClient(transport=httpx2.MockTransport(pass_on), auth=auth) as client:
            with pytest.raises(OAuthRegistrationError, match="Authorization: Bearer TOKEN"):
                await client.post(ENDPOINT, json={})


class NoStorage:
    """A client that has neither tokens nor a registration."""

    async def get_tokens(self) -> None:
        return None

    async def set_tokens(self, tokens: object) -> None:
        raise AssertionError

    async def get_client_info(self) -> None:
        return None

    async def set_client_info(self, client_info: object) -> None:
        raise AssertionError


async def test_a_running_server_follows_the_file_within_a_second(
    ask: Any, file: TokenFile, following: SignIn, seconds: Any
) -> None:
    async with ask(following) as client:
        assert await principal(client, GIVEN) == (200, "carla")
        made, token = file.add("anna", 1.0)
        assert (await principal(client, token))[0] == 401
        seconds.now += 1.0
        assert await principal(client, token) == (200, "anna")
        file.revoke(made.id)
        seconds.now += 1.0
        assert (await principal(client, token))[0] == 401
        _, again = file.add("anna", 2.0)
        seconds.now += 1.0
        assert await principal(client, again) == (200, "anna")
        file.path.unlink()
        seconds.now += 1.0
        assert (await principal(client, again))[0] == 401


async def test_while_the_file_is_broken_its_tokens_are_not_accepted_and_the_answer_is_503(
    ask: Any, file: TokenFile, following: SignIn, seconds: Any, caplog: pytest.LogCaptureFixture
) -> None:
    _, token = file.add("anna", 1.0)
    good = file.path.read_text()
    async with ask(following) as client:
        assert await principal(client, token) == (200, "anna")
        for broken in ("", "[]", "{", good.replace('"version": 1', '"version": 2'), good.replace("sha256", "hash")):
            file.path.write_text(broken)
            seconds.now += 1.0
            reply = await client.get("/mcp", headers=bearer(token))
            assert (reply.status_code, reply.headers["retry-after"]) == (503, "5"), broken
            assert await principal(client, GIVEN) == (200, "carla")
        file.path.write_text(good)
        seconds.now += 1.0
        assert await principal(client, token) == (200, "anna")
    assert "no token in it is accepted" in caplog.text
    assert token not in caplog.text


@pytest.mark.parametrize("mode", [0o604, 0o620, 0o602, 0o666])
def test_a_file_that_others_can_read_or_write_is_refused_in_one_sentence(file: TokenFile, mode: int) -> None:
    file.add("anna", 1.0)
    file.path.chmod(mode)
    with pytest.raises(InvalidInput, match="no token in it is accepted") as refused:
        make_token_sign_in(ENDPOINT, [], file)
    assert "\n" not in refused.value.message
    assert "chmod 600" in refused.value.hint


@pytest.mark.parametrize(
    ("given", "words"), [("short", "fewer than 32"), ("sha256:abc", "no SHA-256"), (f"sha256:{'g' * 64}", "no SHA-256")]
)
def test_a_token_of_the_settings_that_can_be_guessed_or_is_no_hash_is_refused(
    file: TokenFile, given: str, words: str
) -> None:
    with pytest.raises(InvalidInput, match=words) as refused:
        make_token_sign_in(ENDPOINT, [("anna", given)], file)
    assert given not in refused.value.message


def test_two_writers_keep_what_the_other_has_written(file: TokenFile) -> None:
    """Each writer reads under the lock that it writes under, so no token is lost however they interleave."""
    threads = [threading.Thread(target=lambda n=n: [file.add(f"p{n}", float(i)) for i in range(10)]) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(one.name for one in file.read()) == sorted(f"p{n}" for n in range(4) for _ in range(10))
    assert {path.name for path in file.path.parent.iterdir()} == {"tokens.json", "tokens.json.lock"}


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs `rotoscope tokens ...` in a home of its own; what it prints."""
    monkeypatch.setenv("ROTOSCOPE_HOME", str(tmp_path / "home"))

    def run(*words: str, code: int = 0) -> str:
        assert run_command(["tokens", *words]) == code
        shown = capsys.readouterr()
        return shown.out if code == 0 else shown.err

    return run


def test_the_command_prints_a_token_once_and_keeps_only_its_hash(command: Callable[..., str], file: TokenFile) -> None:
    token = command("add", "anna").strip()
    assert re.fullmatch(PREFIX + r"[A-Za-z0-9_-]{43}", token)  # 43 characters of base64 hold 256 bits
    kept = file.path.read_text()
    assert token not in kept
    assert token.removeprefix(PREFIX) not in kept
    assert hash_token(token) in kept
    assert file.path.stat().st_mode & 0o777 == 0o600
    listed = command("list")
    assert token[-4:] in listed
    assert token[-5:] not in listed
    assert hash_token(token) not in listed + command("list", "--json")
    assert json.loads(command("list", "--json"))[0]["name"] == "anna"


def test_the_command_revokes_one_token_by_its_id_or_all_of_a_name(command: Callable[..., str], file: TokenFile) -> None:
    for name in ("anna", "anna", "bert"):
        command("add", name)
    first = file.read()[0]
    assert first.id in command("revoke", first.id)
    assert [one.name for one in file.read()] == ["anna", "bert"]
    command("revoke", "anna")
    assert [one.name for one in file.read()] == ["bert"]
    assert "There is no token 'anna'" in command("revoke", "anna", code=2)


@pytest.mark.parametrize("name", ["", "an na", "a=b", "../x", "a" * 129, "anna\n"])
def test_a_name_that_no_setting_could_hold_is_refused(command: Callable[..., str], name: str) -> None:
    assert "no name for a token" in command("add", name, code=2)


def test_a_crash_between_two_files_leaves_the_old_one(file: TokenFile, monkeypatch: pytest.MonkeyPatch) -> None:
    file.add("anna", 1.0)

    def fail(*_: object) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(InvalidInput, match="cannot be written"):
        file.add("bert", 2.0)
    assert [one.name for one in file.read()] == ["anna"]
    assert {path.name for path in file.path.parent.iterdir()} == {"tokens.json", "tokens.json.lock"}
