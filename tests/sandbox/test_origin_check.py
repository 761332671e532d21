"""A sandbox on 127.0.0.1 answers programs of its machine, and no page that a browser shows."""

import http.client
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from rotoscope_sandbox import build_sandbox
from rotoscope_sandbox.serving import serve_in_thread

SUBMIT = "/v1/models/bytedance/sa2va-4b-image/predictions"
BODY = b'{"input": {"instruction": "a dog", "image": "data:,"}}'


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder: Path = tmp_path_factory.mktemp("sandbox")
    with serve_in_thread(build_sandbox(folder, pace=0)) as url:
        yield urlsplit(url).netloc


def status(place: str, method: str = "GET", path: str = "/sandbox/ledger", **headers: str) -> int:
    connection = http.client.HTTPConnection(place, timeout=20)
    try:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.putrequest(method, path, skip_host="Host" in named)
        body = BODY if method == "POST" else b""
        for name, value in {"Content-Length": str(len(body)), **named}.items():
            connection.putheader(name, value)
        connection.endheaders(body)
        return connection.getresponse().status
    finally:
        connection.close()


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "LOCALHOST", "localhost:1", "[::1]", "[::1]:8", "queue.fal.run"]
)
def test_names_of_its_own_machine_and_of_providers_are_answered(place: str, host: str) -> None:
    assert status(place, Host=host) == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8765",
        "127.0.0.1.evil.example",
        "127.0.0.1@evil.example",
        "localhost:1:2",
        "",
        "localhost.",
        "127.0.0.1:8000@evil",
        "localhost:port",
        "fal.run.evil.example",
        "0.0.0.0",
        "127.1",
        "localhost/x",
    ],
)
def test_any_other_name_is_turned_away(place: str, host: str) -> None:
    assert status(place, Host=host) == 421
    assert status(place, "POST", SUBMIT, Host=host, Authorization="Bearer x", Content_Type="application/json") == 421


@pytest.mark.parametrize(
    ("origin", "answer"),
    [
        ("http://localhost:3000", 200),
        ("http://127.0.0.1", 200),
        ("https://localhost", 200),
        ("http://evil.example", 403),
        ("null", 403),
        ("http://localhost.evil.example", 403),
        ("http://localhost@evil.example", 403),
        ("", 403),
        ("chrome-extension://localhost", 403),
        ("https://queue.fal.run", 403),
    ],
)
def test_a_page_is_answered_only_from_this_machine(place: str, origin: str, answer: int) -> None:
    assert status(place, Origin=origin) == answer


def test_what_a_page_may_post_anywhere_without_asking_is_no_json(place: str) -> None:
    paying = {"Authorization": "Bearer x"}
    for kind in ("text/plain", "text/plain; charset=utf-8", "application/x-www-form-urlencoded"):
        assert status(place, "POST", SUBMIT, Content_Type=kind, **paying) == 415
    assert status(place, "POST", SUBMIT, Content_Type="application/json", **paying) not in (403, 415, 421)
