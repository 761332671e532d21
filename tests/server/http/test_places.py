"""Clients are on other machines: no path is read or given; a result's address is taken where a file is asked for."""

import base64
from pathlib import Path

import pytest
from calls import BOX, text_of
from http_client import HttpBuilder, connect, running

from rotoscope.composition.http import check_listening, read_signer
from rotoscope.errors import InvalidInput
from rotoscope.server.http.addresses import parse_listen_address
from rotoscope.settings import read_settings

pytestmark = pytest.mark.anyio
SECRETS = "n" * 32 + "," + "o" * 32


def picture(photo: Path) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(photo.read_bytes()).decode()


@pytest.mark.parametrize("path", ["/etc/passwd", "photo.jpg", "~/photo.jpg", "file:///etc/passwd", "../x.png"])
async def test_a_path_is_refused_with_what_to_do_instead(build_http: HttpBuilder, path: str) -> None:
    async with running(build_http()) as http, connect(http, "auto") as client:
        answer = await client.call_tool("segment_image", {"image": path, "box": BOX})
        assert answer.is_error
        assert "path_denied" in text_of(answer)
        assert "upload_media" in text_of(answer)
        assert "https URL" in text_of(answer)


async def test_a_path_below_a_folder_of_the_operator_is_read(build_http: HttpBuilder, home: Path, photo: Path) -> None:
    async with running(build_http(ROTOSCOPE_ROOTS=home)) as http, connect(http, "auto") as client:
        answer = await client.call_tool("segment_image", {"image": str(photo), "box": BOX})
        assert not answer.is_error
        other = await client.call_tool("segment_image", {"image": "/etc/passwd", "box": BOX})
        assert str(home) in text_of(other)


async def test_a_result_names_addresses_and_no_path_of_the_server(
    build_http: HttpBuilder, photo: Path, environment: dict[str, str]
) -> None:
    async with running(build_http()) as http, connect(http, "auto") as client:
        answer = await client.call_tool("segment_image", {"image": picture(photo), "box": BOX})
        shown = answer.model_dump_json()
        assert environment["ROTOSCOPE_HOME"] not in shown
        assert "file://" not in shown
        assert answer.structured_content is not None
        assert "url" in answer.structured_content["next_step"]
        assert "by its path" not in shown
        assert answer.structured_content["overlay"]["url"] in text_of(answer)
        instructions = client.instructions or ""
        assert "not by path" in instructions


async def test_a_ledger_that_cannot_be_used_is_reported_without_its_path(
    build_http: HttpBuilder, photo: Path, environment: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    async with running(build_http()) as http, connect(http, "auto") as client:
        await client.call_tool("list_jobs", {})
        ledger = Path(environment["ROTOSCOPE_HOME"]) / "ledger.sqlite3"
        ledger.rename(ledger.with_name("elsewhere.sqlite3"))
        answer = await client.call_tool("segment_image", {"image": picture(photo), "box": BOX})
        assert answer.is_error
        assert "storage" in text_of(answer)
        assert environment["ROTOSCOPE_HOME"] not in answer.model_dump_json()
        assert str(ledger) in caplog.text, "the operator is shown which"


async def test_the_address_of_a_file_is_taken_as_input_and_shown(build_http: HttpBuilder, photo: Path) -> None:
    async with running(build_http()) as http, connect(http, "auto") as client:
        first = await client.call_tool("segment_image", {"image": picture(photo), "box": BOX})
        assert first.structured_content is not None
        url = first.structured_content["overlay"]["url"]
        again = await client.call_tool("segment_image", {"image": url, "box": BOX})
        assert not again.is_error, text_of(again)
        seen = await client.call_tool("view_media", {"uri": url})
        assert not seen.is_error, text_of(seen)


@pytest.mark.parametrize(
    ("address", "settings", "words"),
    [
        ("0.0.0.0:8000", {}, "ROTOSCOPE_SIGN_IN"),
        ("[::]:8000", {}, "ROTOSCOPE_SIGN_IN"),
        ("rotoscope.example:8000", {}, "ROTOSCOPE_SIGN_IN"),
        ("0.0.0.0:8000", {"ROTOSCOPE_PUBLIC_URL": "https://rotoscope.example"}, "ROTOSCOPE_SIGN_IN"),
        ("127.0.0.1:8000", {"ROTOSCOPE_PUBLIC_URL": "https://rotoscope.example"}, "ROTOSCOPE_SIGN_IN"),
        ("0.0.0.0:8000", {"ROTOSCOPE_SIGN_IN": "tokens"}, "ROTOSCOPE_PUBLIC_URL"),
    ],
)
def test_a_server_that_others_reach_needs_sign_in_and_a_name(
    environment: dict[str, str], address: str, settings: dict[str, str], words: str
) -> None:
    with pytest.raises(InvalidInput) as refusal:
        check_listening(read_settings({**environment, **settings}), parse_listen_address(address))
    assert words in f"{refusal.value.message} {refusal.value.hint}"


@pytest.mark.parametrize(
    ("address", "settings"),
    [
        ("127.0.0.1:8000", {}),
        ("localhost:0", {"ROTOSCOPE_PUBLIC_URL": "http://localhost:9000"}),
        ("127.0.0.1:8000", {"ROTOSCOPE_SIGN_IN": "tokens"}),
        ("0.0.0.0:8000", {"ROTOSCOPE_SIGN_IN": "tokens", "ROTOSCOPE_PUBLIC_URL": "https://rotoscope.example"}),
    ],
)
def test_a_server_for_this_machine_or_with_both_may_listen(
    environment: dict[str, str], address: str, settings: dict[str, str]
) -> None:
    check_listening(read_settings({**environment, **settings}), parse_listen_address(address))


def test_the_secrets_of_the_setting_sign_the_newest_first(environment: dict[str, str]) -> None:
    signer = read_signer(read_settings({**environment, "ROTOSCOPE_SECRETS": SECRETS}))
    assert signer.secrets == ("n" * 32, "o" * 32)


def test_a_secret_is_made_once_at_home_for_its_owner_alone(environment: dict[str, str]) -> None:
    settings = read_settings(environment)
    first, second = read_signer(settings), read_signer(settings)
    file = settings.home / "secret"
    assert first == second
    assert len(first.secrets[0]) >= 32
    assert file.stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in settings.home.iterdir()) == ["secret"]


async def test_providers_can_call_only_a_server_with_a_public_address(build_http: HttpBuilder) -> None:
    async with running(build_http()) as http:
        assert (await http.post("/webhooks/replicate/x", json={})).status_code == 404
    async with running(build_http(ROTOSCOPE_PUBLIC_URL="http://localhost:8000")) as http:
        assert (await http.post("/webhooks/replicate/x", json={})).status_code in (401, 503)
        assert (await http.post("/webhooks/nobody/x", json={})).status_code in (401, 503)
        counted = (await http.get("/metrics", headers={"host": "localhost:8000"})).status_code
        assert counted == 401  # others may come through a proxy
