"""The page is what its source builds to, is complete in itself, and is offered as MCP Apps want it."""

import re
import subprocess
from pathlib import Path

import pytest
from http_client import HttpBuilder, connect, running
from mcp import Client
from object_store import KEYS
from viewer_site import SOURCE, install_tools

from rotoscope.server.viewer.page import page_policy, read_page, render_viewer
from rotoscope.settings import read_settings

pytestmark = pytest.mark.anyio
URI = "ui://rotoscope/viewer.html"


@pytest.mark.slow
def test_the_committed_page_is_what_its_source_builds_to(tmp_path: Path) -> None:
    tools = install_tools()
    built = tmp_path / "viewer.html"
    subprocess.run(["node", SOURCE / "build.mjs", built, tools], check=True, capture_output=True, timeout=120)
    assert built.read_text(encoding="utf-8") == read_page(), "run `make viewer`"


@pytest.mark.slow
def test_the_source_has_no_type_errors() -> None:
    compiler = install_tools() / "node_modules" / ".bin" / "tsc"
    done = subprocess.run(
        [compiler, "--noEmit", "-p", SOURCE], check=False, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout


def test_the_page_loads_nothing_from_elsewhere() -> None:
    page = read_page()
    assert not re.search(r"""(?:src|href)=["']?(?:https?:)?//""", page)
    assert not re.search(r"@import|url\(", page)
    assert page.count("<script>") == 1
    assert "innerHTML" not in page, "text of results never becomes HTML"


def test_data_in_the_page_cannot_end_its_script() -> None:
    page = render_viewer({"mode": "report", "record": {"text": "</script><script>alert(1)</script>"}})
    assert "<script>alert(1)" not in page
    assert "\\u003c/script>\\u003cscript>alert(1)" in page


def test_a_page_without_a_host_may_run_its_own_script_alone() -> None:
    policy = page_policy()
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy


async def test_tools_name_the_page_and_the_page_says_what_it_reaches(client: Client) -> None:
    metas = {tool.name: tool.meta for tool in (await client.list_tools()).tools}
    models = ("segment_image", "describe_with_masks", "generate_video", "edit_video_with_mask", "segment_video")
    shown = (*models, "get_job")
    assert {name for name, meta in metas.items() if meta and meta["ui"].get("resourceUri") == URI} == set(shown)
    assert metas["cancel_job"] == {"ui": {"visibility": ["model", "app"]}}
    (listed,) = (one for one in (await client.list_resources()).resources if str(one.uri).startswith("ui://"))
    assert (str(listed.uri), listed.mime_type) == (URI, "text/html;profile=mcp-app")
    (content,) = (await client.read_resource(URI)).contents
    assert content.mime_type == "text/html;profile=mcp-app"
    assert content.meta is not None
    assert content.meta["ui"]["csp"] == {}, "over stdio everything comes through the host"


async def test_over_http_the_page_may_reach_the_server(build_http: HttpBuilder) -> None:
    serving = build_http(ROTOSCOPE_PUBLIC_URL="http://localhost:8000")
    async with running(serving) as http, connect(http, "auto") as client:
        (content,) = (await client.read_resource(URI)).contents
    origin = ["http://localhost:8000"]
    assert content.meta is not None
    assert content.meta["ui"]["csp"] == {"connectDomains": origin, "resourceDomains": origin}


async def test_the_page_may_show_what_lies_in_an_object_store(
    build_http: HttpBuilder, environment: dict[str, str]
) -> None:
    store = {"ROTOSCOPE_STORE_URL": "s3://bucket/results", "AWS_ENDPOINT_URL": "https://store.example:9000/inner"}
    settings = read_settings({**environment, "ROTOSCOPE_PUBLIC_URL": "http://localhost:8000", **KEYS, **store})
    async with running(build_http(settings=settings)) as http, connect(http, "auto") as client:
        (content,) = (await client.read_resource(URI)).contents
    ours = "http://localhost:8000"
    assert content.meta is not None
    assert content.meta["ui"]["csp"] == {
        "connectDomains": [ours],
        "resourceDomains": [ours, "https://store.example:9000"],
    }


@pytest.mark.parametrize("client", ["auto"], indirect=True)
async def test_the_extension_is_declared(client: Client) -> None:
    """In the era that has extensions."""
    assert "io.modelcontextprotocol/ui" in (client.server_capabilities.extensions or {})
