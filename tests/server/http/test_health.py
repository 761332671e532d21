"""Whether the process lives, whether it can take calls, and its numbers."""

import base64
from pathlib import Path

import pytest
from calls import BOX
from http_client import HttpBuilder, connect, http_client, running
from starlette.applications import Starlette

from rotoscope.errors import StorageFailed
from rotoscope.server.http.drain import Drain
from rotoscope.server.http.health import Health, health_routes
from rotoscope.server.http.metrics import MetricsAccess

pytestmark = pytest.mark.anyio
TOKEN = "m" * 32


async def test_a_server_that_serves_is_alive_and_ready(build_http: HttpBuilder) -> None:
    async with running(build_http()) as http:
        for path in ("/healthz", "/readyz"):
            answer = await http.get(path)
            assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")


async def test_a_server_that_ends_is_alive_and_not_ready(build_http: HttpBuilder) -> None:
    serving = build_http()
    async with running(serving) as http:
        serving.drain.begin()
        assert (await http.get("/healthz")).status_code == 200
        answer = await http.get("/readyz")
        assert (answer.status_code, answer.text) == (503, "The server is ending.\n")


async def test_a_ledger_that_does_not_answer_is_named_without_its_place() -> None:
    async def check() -> None:
        raise StorageFailed("The ledger at postgresql://ann:secret@db is away.", hint="Look at it.")

    async with http_client(Starlette(routes=health_routes(Health(Drain(), check)))) as http:
        answer = await http.get("/readyz")
        assert answer.status_code == 503
        assert "storage" in answer.text
        assert "secret" not in answer.text
        assert (await http.get("/healthz")).status_code == 200


async def test_the_numbers_name_tools_routes_and_providers_and_no_caller(build_http: HttpBuilder, photo: Path) -> None:
    picture = "data:image/jpeg;base64," + base64.b64encode(photo.read_bytes()).decode()
    async with running(build_http()) as http:
        async with connect(http, "auto") as client:
            await client.call_tool("segment_image", {"image": picture, "box": BOX})
            await client.call_tool("segment_image", {"image": "/etc/passwd"})
        await http.get("/nowhere/at/all")
        await http.post("/mcp", headers={"host": "evil.example"})
        text = (await http.get("/metrics")).text
    assert 'rotoscope_tool_calls_total{outcome="result",tool="segment_image"} 1.0' in text
    assert 'rotoscope_tool_calls_total{outcome="error",tool="segment_image"} 1.0' in text
    assert 'rotoscope_http_requests_total{code="421",method="POST",route="other"} 1.0' in text
    assert 'rotoscope_http_requests_total{code="404",method="GET",route="other"} 1.0' in text
    assert 'route="/mcp"' in text
    assert "rotoscope_runs_today{provider=" in text
    assert "local" not in text
    assert "nowhere" not in text


@pytest.mark.parametrize(
    ("token", "public", "peer", "headers", "allowed"),
    [
        (None, False, "127.0.0.1", {}, True),
        (None, False, "::1", {}, True),
        (None, False, "10.0.0.9", {}, False),
        (None, True, "127.0.0.1", {}, False),
        (None, False, "127.0.0.1", {"x-forwarded-for": "1.2.3.4"}, False),
        (TOKEN, True, "10.0.0.9", {"authorization": f"Bearer {TOKEN}"}, True),
        (TOKEN, True, "10.0.0.9", {"authorization": f"Bearer {TOKEN}x"}, False),
        (TOKEN, True, "10.0.0.9", {"authorization": "Bearer "}, False),
        (TOKEN, True, "10.0.0.9", {}, False),
        (None, True, "10.0.0.9", {"authorization": "Bearer "}, False),
    ],
)
def test_the_numbers_are_for_this_machine_or_who_has_the_token(
    token: str | None, public: bool, peer: str, headers: dict[str, str], allowed: bool
) -> None:
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    assert MetricsAccess(token, public).allows({"client": (peer, 1), "headers": raw}) is allowed


async def test_who_may_not_read_the_numbers_is_given_the_setting(build_http: HttpBuilder) -> None:
    serving = build_http(ROTOSCOPE_PUBLIC_URL="http://localhost:8000", ROTOSCOPE_METRICS_TOKEN=TOKEN)
    async with running(serving) as http:
        refused = await http.get("/metrics")
        assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
        assert "ROTOSCOPE_METRICS_TOKEN" in refused.text
        assert (await http.get("/metrics", headers={"authorization": f"Bearer {TOKEN}"})).status_code == 200
