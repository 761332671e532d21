"""The page in a browser of this machine: who may ask, how long it is served, and what a person sees there."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import httpx  # noqa: TID251 - a browser without a window
import pytest
from calls import BOX, SECONDS
from decoding import InThread
from mcp import Client
from mcp.server.mcpserver import MCPServer
from viewer_site import find_violations, listen, open_browser, serve_app, take_shot

from rotoscope.composition.viewer import PageServer, build_page_server
from rotoscope.errors import UnknownJob
from rotoscope.server.http.limits import HttpLimits
from rotoscope.server.lazy_studio import LazyStudio
from rotoscope.server.viewer.loopback import OpenPages
from rotoscope.settings import Settings, read_settings
from rotoscope_sandbox import Sandbox

pytestmark = pytest.mark.anyio


@pytest.fixture
async def job_id(server: MCPServer[LazyStudio], photo: Path) -> str:
    async with Client(server) as client:
        answer = await client.call_tool("segment_image", {"image": str(photo), "box": BOX})
    assert answer.structured_content is not None
    return str(answer.structured_content["job_id"])


@asynccontextmanager
async def serving(
    settings: Settings, sandbox: Sandbox, home: Path, job_id: str
) -> AsyncIterator[tuple[PageServer, str]]:
    """The page's server and its address, for the time of a block."""
    listener, bound = listen()
    page = build_page_server(
        settings, bound, home, home, job_id, limits=HttpLimits(), sandbox=sandbox, decoders=InThread()
    )
    with listener:
        async with page.running(), serve_app(page, listener):
            yield page, bound.url
            page.pages.end()


@pytest.fixture
async def site(settings: Settings, sandbox: Sandbox, home: Path, job_id: str) -> AsyncIterator[tuple[PageServer, str]]:
    async with serving(settings, sandbox, home, job_id) as opened:
        yield opened


async def test_nothing_answers_without_the_cookie(site: tuple[PageServer, str]) -> None:
    page, url = site
    async with httpx.AsyncClient(base_url=url) as http:
        for path in ("/", "/files/x.png", "/mcp", "/nothing"):
            assert (await http.get(path)).status_code == 403, path
        for path in ("/rpc", "/alive"):
            assert (await http.post(path, json={})).status_code == 403, path
        assert (await http.get("/open/wrong")).status_code == 403
        assert (await http.get(page.key.path)).status_code == 303


async def test_the_address_opens_once(site: tuple[PageServer, str]) -> None:
    page, url = site
    async with httpx.AsyncClient(base_url=url) as first, httpx.AsyncClient(base_url=url) as second:
        opened = await first.get(page.key.path)
        assert (opened.status_code, opened.headers["location"]) == (303, "/")
        assert "HttpOnly" in opened.headers["set-cookie"]
        assert "samesite=strict" in opened.headers["set-cookie"].lower()
        shown = await first.get("/")
        assert shown.status_code == 200
        policy = shown.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'sha256-")
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert (await second.get(page.key.path)).status_code == 403


async def test_only_the_own_name_and_origin_may_ask(site: tuple[PageServer, str]) -> None:
    page, url = site
    async with httpx.AsyncClient(base_url=url) as http:
        await http.get(page.key.path)
        assert (await http.get("/", headers={"host": "evil.example"})).status_code == 421
        asked = {"method": "resources/read", "params": {"uri": "job://x"}}
        foreign = await http.post("/rpc", json=asked, headers={"origin": "http://evil.example"})
        assert foreign.status_code == 403


async def test_the_page_reads_and_calls_what_it_needs_and_nothing_else(
    site: tuple[PageServer, str], job_id: str
) -> None:
    page, url = site
    async with httpx.AsyncClient(base_url=url, timeout=SECONDS) as http:
        await http.get(page.key.path)
        read = await http.post("/rpc", json={"method": "resources/read", "params": {"uri": f"job://{job_id}"}})
        assert job_id in read.json()["result"]["contents"][0]["text"]
        got = await http.post(
            "/rpc", json={"method": "tools/call", "params": {"name": "get_job", "arguments": {"job_id": job_id}}}
        )
        found = got.json()["result"]["structuredContent"]
        assert found["status"] == "succeeded"
        assert (await http.get(found["overlay"]["url"])).headers["content-type"] == "image/jpeg"
        for params in ({"name": "generate_video", "arguments": {"prompt": "x"}}, {"name": "list_jobs"}):
            refused = await http.post("/rpc", json={"method": "tools/call", "params": params})
            assert "may not" in refused.json()["error"]["message"]
        for body in (b"[]", b"no JSON", b'{"method": "x"}'):
            assert (await http.post("/rpc", content=body)).status_code == 400
        assert (await http.post("/rpc", content=b" " * 300_000)).status_code == 413


async def test_a_job_that_is_not_there_is_refused_before_anything_is_served(
    settings: Settings, sandbox: Sandbox, home: Path
) -> None:
    with pytest.raises(UnknownJob):
        async with serving(settings, sandbox, home, "0" * 32):
            pass


async def test_it_ends_when_no_page_was_open_for_a_while() -> None:
    pages, ended = OpenPages(), anyio.Event()

    async def wait() -> None:
        await pages.wait_until_left(first_seconds=SECONDS, grace_seconds=0.0)
        ended.set()

    with anyio.fail_after(SECONDS):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            await anyio.wait_all_tasks_blocked()
            with pages.hold():
                await anyio.wait_all_tasks_blocked()
                assert not ended.is_set(), "a page is open"
            await ended.wait()


async def test_it_ends_when_nobody_comes() -> None:
    with anyio.fail_after(SECONDS):
        await OpenPages().wait_until_left(first_seconds=0.0, grace_seconds=SECONDS)


@pytest.mark.slow
async def test_a_person_sees_the_job_and_corrects_its_mask(site: tuple[PageServer, str], tmp_path: Path) -> None:
    page, url = site
    async with open_browser() as context:
        tab = await context.new_page()
        log: list[str] = []
        tab.on("console", lambda message: log.append(f"{message.type}: {message.text}"))
        tab.on("pageerror", lambda error: log.append(f"error: {error}"))
        await tab.goto(f"{url}{page.key.path}")
        await tab.locator("[data-ready]").wait_for()
        assert tab.url == f"{url}/", "the token is not left in the address"
        await take_shot(tab, "in-the-browser", tmp_path)
        assert await find_violations(tab) == []
        await tab.get_by_role("button", name="Correct this mask").click()
        await tab.keyboard.press("Enter")
        await tab.get_by_role("button", name="Segment again").click()
        await tab.get_by_role("button", name="Back to the mask before").wait_for()
        await tab.get_by_role("button", name=re.compile("Copy as COCO")).click()
        await tab.locator(".note:not([hidden])").wait_for()
        assert [line for line in log if line.startswith("error")] == []
        await tab.close()


@pytest.mark.slow
async def test_a_correction_that_costs_is_agreed_to_by_one_key(
    environment: dict[str, str], sandbox: Sandbox, home: Path, job_id: str, tmp_path: Path
) -> None:
    settings = read_settings({**environment, "ROTOSCOPE_ASK_ABOVE_USD": "0"})
    async with serving(settings, sandbox, home, job_id) as (page, url), open_browser() as context:
        tab = await context.new_page()
        await tab.goto(f"{url}{page.key.path}")
        await tab.locator("[data-ready]").wait_for()
        await tab.get_by_role("button", name="Correct this mask").click()
        await tab.keyboard.press("Enter")
        for answer in ("No", "Yes, run it"):
            await tab.get_by_role("button", name="Segment again").click()
            yes = tab.get_by_role("button", name="Yes, run it")
            await yes.wait_for()
            assert await yes.evaluate("(yes) => yes === document.activeElement"), "one key is enough"
            await take_shot(tab, "price-in-the-browser", tmp_path)
            if answer == "No":
                await tab.get_by_role("button", name=answer, exact=True).click()
                await yes.wait_for(state="detached")
                assert await tab.get_by_role("button", name="Back to the mask before").count() == 0
        await tab.keyboard.press("Enter")
        await tab.get_by_role("button", name="Back to the mask before").wait_for()
        await tab.close()
