"""Uploads on the real HTTP app: from the tool to a file, and from its link to a result."""

from collections.abc import Callable
from pathlib import Path

import pytest
from calls import BOX
from http_client import BASE, connect, running

from rotoscope.composition.http import HttpServing

pytestmark = pytest.mark.anyio
HttpBuilder = Callable[..., HttpServing]


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_a_file_is_uploaded_and_its_link_goes_into_a_call(
    build_http: HttpBuilder, photo: Path, mode: str
) -> None:
    async with running(build_http()) as http, connect(http, mode) as client:
        ticket = (await client.call_tool("upload_media", {"name": "the astronaut"})).structured_content
        assert ticket is not None
        assert ticket["upload_url"].startswith(f"{BASE}/uploads/")
        sent = await http.put(ticket["upload_url"], content=photo.read_bytes())
        assert sent.status_code == 201, sent.text
        come = (await client.call_tool("upload_media", {"ticket": ticket["ticket"]})).structured_content
        assert come is not None
        result = (await client.call_tool("segment_image", {"image": come["artifact"], "box": BOX})).structured_content
        assert result is not None
        assert result["status"] == "succeeded"
        assert (await http.get(result["masks"][0]["media"]["url"])).status_code == 200


async def test_only_the_page_of_an_upload_may_send_to_it(build_http: HttpBuilder, photo: Path) -> None:
    async with running(build_http()) as http, connect(http, "auto") as client:
        ticket = (await client.call_tool("upload_media", {})).structured_content
        assert ticket is not None
        page = await http.get(ticket["page_url"], headers={"accept": "text/html"})
        assert page.headers["content-security-policy"].startswith("default-src 'none'")
        content = photo.read_bytes()
        for origin in ("https://evil.example", "null"):
            foreign = await http.put(ticket["upload_url"], content=content, headers={"origin": origin})
            assert foreign.status_code == 403
        assert (await http.put(ticket["upload_url"], content=content, headers={"origin": BASE})).status_code == 201


async def test_another_principal_gets_what_an_unknown_ticket_and_an_unknown_link_get(
    build_http: HttpBuilder, photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    caller = ["anna"]
    monkeypatch.setattr("rotoscope.server.app.principal_of", lambda _: caller[0])
    async with running(build_http()) as http, connect(http, "auto") as client:
        ticket = (await client.call_tool("upload_media", {})).structured_content
        assert ticket is not None
        artifact = (await http.put(ticket["upload_url"], content=photo.read_bytes())).json()["artifact"]

        async def answers(ticket: str, link: str) -> list[str]:
            calls: dict[str, dict[str, object]] = {"upload_media": {"ticket": ticket}, "view_media": {"uri": link}}
            calls["segment_image"] = {"image": link, "box": BOX, "dry_run": True}
            return [(await client.call_tool(name, given)).model_dump_json() for name, given in calls.items()]

        own = await answers(ticket["ticket"], artifact)
        caller[0] = "bert"
        foreign = await answers(ticket["ticket"], artifact)
        assert foreign == await answers(ticket["ticket"][::-1], f"artifact://{artifact[-1:10:-1]}")
        assert not set(own) & set(foreign)
