"""Webhooks of providers over the served app: they come in beside the MCP endpoint, at whichever server."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from http_client import HttpBuilder, connect, running
from photos import PHOTO
from webhook_scene import PUBLIC_URL, Mailman, post_to, signed

from rotoscope.composition.http import HttpServing
from rotoscope_sandbox import Sandbox

pytestmark = pytest.mark.anyio
WITH_ADDRESS = {"ROTOSCOPE_PUBLIC_URL": PUBLIC_URL, "ROTOSCOPE_SANDBOX": "always"}
METRICS = {"ROTOSCOPE_METRICS_TOKEN": "t" * 32}


@pytest.fixture
async def mailman() -> AsyncIterator[Mailman]:
    found = Mailman(asyncio.get_running_loop())
    yield found
    await found.finish()


@pytest.fixture
def sandbox(tmp_path: Path, mailman: Mailman) -> Sandbox:
    """In the place of the usual one: its webhooks reach the servers of these tests."""
    return mailman.build_sandbox(tmp_path / "sandbox")


@pytest.fixture
def build(build_http: HttpBuilder, home: Path) -> "Builder":
    return Builder(build_http, home)


class Builder:
    """Builds servers that may read the photo and have an address for providers."""

    def __init__(self, build_http: HttpBuilder, home: Path) -> None:
        self.build_http, self.photo = build_http, home / "photo.jpg"
        self.photo.write_bytes(PHOTO.read_bytes())

    def __call__(self, **more: str) -> HttpServing:
        return self.build_http(**WITH_ADDRESS, **METRICS, ROTOSCOPE_ROOTS=str(self.photo.parent), **more)

    @property
    def call(self) -> dict[str, str]:
        return {"image": str(self.photo), "instruction": "the helmet", "model": "bytedance/sa2va-4b-image"}


async def test_a_webhook_to_one_server_is_about_the_job_of_another(build: Builder, mailman: Mailman) -> None:
    asked, other = build(), build()
    async with running(asked) as one, running(other) as two:
        mailman.app = other.app
        async with connect(one, "2026-07-28") as client:
            made = await client.call_tool("segment_image", build.call)
        assert made.structured_content is not None
        assert made.structured_content["status"] == "succeeded"
        await mailman.finish()
        numbers = await two.get("/metrics", headers={"authorization": f"Bearer {METRICS['ROTOSCOPE_METRICS_TOKEN']}"})
    assert mailman.statuses == [202]
    assert 'rotoscope_webhooks_total{outcome="taken",provider="replicate"} 1.0' in numbers.text


async def test_it_needs_no_sign_in_but_the_right_name_and_no_page_may_send_one(build: Builder) -> None:
    serving = build()
    body = b'{"id":"p1"}'
    headers = signed("replicate", bytes(32), "msg_1", time.time(), body)
    path = "/webhooks/replicate/" + "0" * 16
    async with running(serving):
        plain = await post_to(serving.app, path, body, headers)
        elsewhere = await post_to(serving.app, path, body, {**headers, "host": "evil.example"})
        page = await post_to(serving.app, path, body, {**headers, "origin": "https://evil.example"})
    assert [one.status_code for one in (plain, elsewhere, page)] == [401, 421, 403]


async def test_without_a_public_address_there_is_no_such_route(build_http: HttpBuilder) -> None:
    serving = build_http()
    async with running(serving) as http:
        assert (await http.post("/webhooks/replicate/" + "0" * 16, content=b"{}")).status_code == 404
