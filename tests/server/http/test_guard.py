"""The guard: exact names and origins, bounded headers, JSON alone; and what pages of the allowed origins are given."""

import pytest
from http_client import BASE, HttpBuilder, running

from rotoscope.errors import InvalidInput
from rotoscope.server.http.addresses import AccessRules, ListenAddress, build_access_rules, parse_listen_address
from rotoscope.server.http.guard import judge_request
from rotoscope.server.http.limits import HttpLimits

PUBLIC = "https://rotoscope.example"
LOCAL = build_access_rules(ListenAddress("127.0.0.1", 8000), None, (), ("/files/",), frozenset({"/healthz"}))
BEHIND = build_access_rules(ListenAddress("0.0.0.0", 8000), PUBLIC, ("https://app.example",))


def status_of(rules: AccessRules, path: str = "/mcp", method: str = "POST", **headers: str) -> int:
    """The status of a refusal; 0 where the request may go on."""
    named = {"host": "127.0.0.1:8000", "content_type": "application/json", **headers}
    raw = [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in named.items() if value != "-"]
    scope = {"type": "http", "method": method, "path": path, "headers": raw, "server": ("10.1.2.3", 8000)}
    refusal = judge_request(rules, HttpLimits(), scope)
    return 0 if refusal is None else refusal.status


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost:8000", "LOCALHOST:8000", "[::1]:8000"])
def test_the_loopback_names_with_the_port_are_known(host: str) -> None:
    assert status_of(LOCAL, host=host) == 0


@pytest.mark.parametrize(
    "host",
    [
        "-", "", "evil.example", "evil.example:8000", "127.0.0.1", "localhost", "127.0.0.1:8001", "127.0.0.1:8000@evil",
        "localhost:1:2", "localhost:8000.evil.example", "evil@127.0.0.1:8000", "127.0.0.1:8000 ", "127.1:8000",
        "0.0.0.0:8000", "[::ffff:127.0.0.1]:8000", "2130706433:8000", "localhost.:8000", "127.0.0.1:08000",
        "10.1.2.3:8000", "rotoscope.example",
    ],
)  # fmt: skip
def test_any_other_host_is_misdirected(host: str) -> None:
    assert status_of(LOCAL, host=host) == 421


@pytest.mark.parametrize("host", ["rotoscope.example", "rotoscope.example:443", "127.0.0.1:8000"])
def test_the_public_name_is_known_with_and_without_its_port(host: str) -> None:
    assert status_of(BEHIND, host=host) == 0


@pytest.mark.parametrize(
    "host", ["rotoscope.example:8000", "rotoscope.example:80", "sub.rotoscope.example", "0.0.0.0:8000"]
)
def test_a_name_that_is_like_the_public_one_is_not_known(host: str) -> None:
    assert status_of(BEHIND, host=host) == 421


def test_a_probe_may_come_by_the_very_address_of_the_process() -> None:
    assert status_of(LOCAL, "/healthz", "GET", host="10.1.2.3:8000") == 0
    assert status_of(LOCAL, "/healthz", "GET", host="10.1.2.4:8000") == 421
    assert status_of(LOCAL, "/mcp", host="10.1.2.3:8000") == 421


@pytest.mark.parametrize("origin", ["http://localhost:8000", "http://127.0.0.1:8000", "http://[::1]:8000", "-"])
def test_pages_of_the_server_itself_and_programs_may_call(origin: str) -> None:
    assert status_of(LOCAL, origin=origin) == 0


@pytest.mark.parametrize(
    "origin",
    [
        "null", "", "https://localhost:8000", "http://localhost", "http://localhost:8000.evil.example",
        "http://localhost:8000@evil.example", "http://evil.example", "http://localhost:8001", "http://10.1.2.3:8000",
        "http://localhost:8000/", "http://localhost:8000, http://evil.example", "https://rotoscope.example.evil.example",
    ],
)  # fmt: skip
def test_any_other_origin_is_forbidden(origin: str) -> None:
    assert status_of(LOCAL, origin=origin) == 403


def test_the_public_origin_and_those_of_the_setting_may_call() -> None:
    name = "rotoscope.example"
    assert status_of(BEHIND, host=name, origin=PUBLIC) == 0
    assert status_of(BEHIND, host=name, origin="https://app.example") == 0
    assert status_of(BEHIND, host=name, origin="http://app.example") == 403
    assert status_of(BEHIND, host=name, origin="http://rotoscope.example") == 403


def test_a_second_host_or_origin_is_refused() -> None:
    scope = {"type": "http", "method": "GET", "path": "/mcp", "server": None}
    twice = [(b"host", b"127.0.0.1:8000"), (b"host", b"127.0.0.1:8000")]
    assert judge_request(LOCAL, HttpLimits(), {**scope, "headers": twice}).status == 421  # type: ignore[union-attr]
    origins = [(b"host", b"127.0.0.1:8000"), (b"origin", b"http://localhost:8000"), (b"origin", b"http://evil.example")]
    assert judge_request(LOCAL, HttpLimits(), {**scope, "headers": origins}).status == 403  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "kind", ["-", "", "text/plain", "application/jsonp", "application/json, text/plain", "multipart/form-data"]
)
def test_the_mcp_endpoint_takes_json_alone(kind: str) -> None:
    assert status_of(LOCAL, content_type=kind) == 415


@pytest.mark.parametrize("kind", ["application/json", "Application/JSON; charset=utf-8"])
def test_json_may_say_its_characters(kind: str) -> None:
    assert status_of(LOCAL, content_type=kind) == 0


def test_too_many_and_too_long_headers_are_refused() -> None:
    assert status_of(LOCAL, **{f"x{n}": "1" for n in range(70)}) == 431
    assert status_of(LOCAL, x="1" * 17_000) == 431
    assert status_of(LOCAL, x="1" * 15_000) == 0


@pytest.mark.parametrize(
    "text", ["8000", ":8000", "localhost", "localhost:", "localhost:99999", "http://localhost:1", "a b:1"]
)
def test_an_address_that_is_none_is_refused_by_one_sentence(text: str) -> None:
    with pytest.raises(InvalidInput, match="HOST:PORT"):
        parse_listen_address(text)


@pytest.mark.parametrize(
    ("text", "host", "loopback"),
    [
        ("127.0.0.1:8000", "127.0.0.1", True), ("localhost:0", "localhost", True), ("[::1]:1", "::1", True),
        ("127.8.8.8:1", "127.8.8.8", True), ("0.0.0.0:80", "0.0.0.0", False), ("[::]:80", "::", False),
        ("10.0.0.1:80", "10.0.0.1", False), ("host.example:80", "host.example", False),
    ],
)  # fmt: skip
def test_an_address_says_whether_others_reach_it(text: str, host: str, loopback: bool) -> None:
    found = parse_listen_address(text)
    assert (found.host, found.is_loopback) == (host, loopback)


@pytest.mark.anyio
async def test_a_page_of_an_allowed_origin_may_ask_and_read_what_mcp_needs(build_http: HttpBuilder) -> None:
    async with running(build_http(ROTOSCOPE_ALLOWED_ORIGINS="https://app.example")) as http:
        asked = {"access-control-request-method": "POST", "access-control-request-headers": "mcp-method, x-any"}
        before = await http.options("/mcp", headers={"origin": "https://app.example", **asked})
        assert before.status_code == 204
        assert before.headers["access-control-allow-origin"] == "https://app.example"
        assert before.headers["access-control-allow-headers"] == "mcp-method, x-any"
        after = await http.get("/healthz", headers={"origin": "https://app.example"})
        assert after.headers["access-control-allow-origin"] == "https://app.example"
        assert "Mcp-Session-Id" in after.headers["access-control-expose-headers"]
        refused = await http.options("/mcp", headers={"origin": "https://evil.example", **asked})
        assert (refused.status_code, "access-control-allow-origin" in refused.headers) == (403, False)


@pytest.mark.anyio
async def test_a_refusal_is_a_sentence_and_nothing_of_it_is_kept(build_http: HttpBuilder) -> None:
    async with running(build_http()) as http:
        answer = await http.post("/mcp", headers={"host": "evil.example"}, json={})
        assert (answer.status_code, answer.headers["cache-control"]) == (421, "no-store")
        assert answer.text.count(".") >= 1
        assert BASE not in answer.text
