"""The page of an upload: what it is made of, and how it works in a browser, by mouse, by keys and without script."""

import re
import socket
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest
import uvicorn
from chromium import BROWSER, Page, open_page
from films import film
from photos import PHOTO
from upload_site import PUBLIC_URL, Replica, open_replica

from rotoscope.settings import Settings
from rotoscope_sandbox import Sandbox

pytestmark = pytest.mark.anyio
PAGE = {"accept": "text/html,application/xhtml+xml"}
needs_browser = pytest.mark.skipif(BROWSER is None, reason="no chromium is installed")


@pytest.fixture
async def replica(settings: Settings, sandbox: Sandbox) -> AsyncIterator[Replica]:
    async with open_replica(settings, sandbox, time.time) as opened:
        yield opened


@asynccontextmanager
async def listening(replica: Replica) -> AsyncIterator[str]:
    """The server on a port of this machine, for the time of a block; its address."""
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        port = opened.getsockname()[1]
        config = uvicorn.Config(replica.app, log_level="warning", lifespan="off")
        server = uvicorn.Server(config)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: server.serve(sockets=[opened]))
            try:
                yield f"http://127.0.0.1:{port}"
            finally:
                server.should_exit = True


@pytest.fixture
async def origin(replica: Replica) -> AsyncIterator[str]:
    async with listening(replica) as address:
        yield address


@pytest.fixture
async def page(tmp_path: Path) -> AsyncIterator[Page]:
    async with open_page(tmp_path / "browser") as opened:
        yield opened


async def new_page(replica: Replica, origin: str, **arguments: Any) -> str:
    return str((await replica.ask(**arguments))["page_url"]).replace(PUBLIC_URL, origin)


async def test_the_page_is_one_file_that_runs_its_own_script_alone(replica: Replica) -> None:
    ticket = await replica.ask(name='<img src=x onerror=alert(1)> [[script]] "', kind="image")
    answer = await replica.http.get(ticket["page_url"], headers=PAGE)
    assert answer.headers["content-type"].startswith("text/html")
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy
    assert answer.headers["referrer-policy"] == "same-origin"
    assert answer.headers["cache-control"] == "no-store"
    text = answer.text
    assert "&lt;img src=x onerror=alert(1)&gt; [[script]] &quot;" in text
    assert not re.search(r"(?:src|href)=[\"']?(?:https?:)?//", text)
    assert not re.search(r"\son\w+=", text.replace("onerror=alert(1)", ""))
    assert text.count("<script>") == 1
    assert 'accept="image/png,image/jpeg,image/webp,image/gif"' in text


async def test_curl_gets_the_state_and_not_the_page(replica: Replica) -> None:
    ticket = await replica.ask()
    state = (await replica.http.get(ticket["page_url"], headers={"accept": "*/*"})).json()
    assert state == {**ticket, "next_step": state["next_step"]}


async def test_a_form_works_without_script(replica: Replica) -> None:
    ticket = await replica.ask()
    refused = await replica.http.post(ticket["page_url"], headers=PAGE, files={"file": ("a.png", b"no medium")})
    assert refused.status_code == 415
    assert "neither a picture nor a film" in refused.text
    assert 'id="open" >' in refused.text, "another file may be chosen at once"
    taken = await replica.http.post(ticket["page_url"], headers=PAGE, files={"file": ("a.png", PHOTO.read_bytes())})
    assert (taken.status_code, taken.headers["location"]) == (303, ticket["page_url"].removeprefix(PUBLIC_URL))
    shown = await replica.http.get(taken.headers["location"], headers=PAGE)
    artifact = (await replica.ask(ticket=ticket["ticket"]))["artifact"]
    assert f'value="{artifact}"' in shown.text
    assert 'id="ready" >' in shown.text


async def test_an_address_that_takes_no_file_says_so(replica: Replica) -> None:
    answer = await replica.http.get(f"{PUBLIC_URL}/uploads/nothing", headers=PAGE)
    assert answer.status_code == 404
    assert "There is no such upload." in answer.text
    assert 'id="open" hidden>' in answer.text


@needs_browser
async def test_a_person_sends_a_photo_with_the_keys_alone(
    replica: Replica, origin: str, page: Page, tmp_path: Path
) -> None:
    ticket = await replica.ask(name="the astronaut")
    await page.size(1000, 800)
    await page.open(ticket["page_url"].replace(PUBLIC_URL, origin))
    await page.screenshot(tmp_path / "open.png")
    await page.press("Tab", 9)
    assert await page.run("document.activeElement.id") == "file"
    await page.choose_file("#file", PHOTO)
    await page.until("!document.getElementById('preview').hidden && document.getElementById('preview').naturalWidth")
    await page.screenshot(tmp_path / "chosen.png")
    await page.press("Tab", 9)
    assert await page.run("document.activeElement.id") == "send"
    await page.press("Enter", 13, "\r")
    await page.until("!document.getElementById('ready').hidden")
    assert await page.run("document.activeElement.textContent") == "The file is here. Go back to the chat."
    link = await page.run("document.getElementById('link').value")
    assert link == (await replica.ask(ticket=ticket["ticket"]))["artifact"]
    await page.screenshot(tmp_path / "ready.png")
    faults = [entry for entry in page.log if entry.get("method") in ("Log.entryAdded", "Runtime.exceptionThrown")]
    assert not [one for one in faults if "favicon" not in str(one)]


@needs_browser
async def test_a_refused_file_is_said_aloud_and_another_one_may_follow(
    replica: Replica, origin: str, page: Page, tmp_path: Path
) -> None:
    (tmp_path / "notes.png").write_text("just some words", encoding="utf-8")
    await page.size(360, 740, "dark")
    await page.open(await new_page(replica, origin))
    await page.choose_file("#file", tmp_path / "notes.png")
    await page.run("document.getElementById('form').requestSubmit()")
    await page.until("!document.getElementById('problem').hidden")
    assert await page.run("document.getElementById('problem').getAttribute('role')") == "alert"
    assert "neither a picture nor a film" in await page.run("document.getElementById('problem').textContent")
    await page.screenshot(tmp_path / "refused.png")
    assert await page.run("document.documentElement.scrollWidth <= innerWidth"), "nothing is cut off on a phone"
    await page.choose_file("#file", PHOTO)
    await page.run("document.getElementById('form').requestSubmit()")
    await page.until("!document.getElementById('ready').hidden")
    await page.screenshot(tmp_path / "phone.png")


@needs_browser
async def test_a_film_goes_in_parts_and_over_a_broken_line(
    replica: Replica, origin: str, page: Page, tmp_path: Path
) -> None:
    """Three parts, and the second is lost once: the server says where to go on."""
    clip = film(tmp_path / "clip.mp4")
    size = clip.stat().st_size
    await page.open(await new_page(replica, origin))
    await page.run(f"document.getElementById('upload').dataset.part = {size // 3 + 1}; window.sizes = []")
    await page.run(
        "(() => { const send = XMLHttpRequest.prototype.send; XMLHttpRequest.prototype.send = function (body) {"
        " if (body && window.sizes.push(body.size) === 2) setTimeout(() => this.onerror(), 0);"
        " else send.call(this, body); }; })()"
    )
    await page.choose_file("#file", clip)
    await page.run("document.getElementById('form').requestSubmit()")
    await page.until("!document.getElementById('ready').hidden")
    assert len(await page.run("window.sizes")) == 4
    assert (await page.run("document.getElementById('link').value")).startswith("artifact://")


@needs_browser
async def test_a_file_may_be_dropped_on_the_page(replica: Replica, origin: str, page: Page, tmp_path: Path) -> None:
    await page.open(await new_page(replica, origin))
    data = {"items": [], "files": [str(PHOTO)], "dragOperationsMask": 1}
    place = {"x": 200, "y": 200, "data": data}
    for kind in ("dragEnter", "dragOver", "drop"):
        await page.send("Input.dispatchDragEvent", type=kind, **place)
    await page.until("!document.getElementById('ready').hidden")


async def test_curl_sends_a_file_and_goes_on_after_a_break(replica: Replica, origin: str, tmp_path: Path) -> None:
    """As the documentation says: `-T` for the whole, `-C` to go on, `-F` for a form."""

    async def curl(*arguments: Any) -> str:
        command = ["curl", "--silent", "--show-error", "--max-time", "30", *arguments]
        done = await anyio.to_thread.run_sync(lambda: subprocess.run(command, capture_output=True, check=False))
        return (done.stdout + done.stderr).decode()

    clip = film(tmp_path / "clip.mp4")
    size = clip.stat().st_size
    whole = await new_page(replica, origin)
    assert '"status":"ready"' in await curl("-T", str(clip), whole)
    assert '"status":"ready"' in await curl("-F", f"file=@{clip}", await new_page(replica, origin))
    broken = await new_page(replica, origin)
    half = tmp_path / "half"
    half.write_bytes(clip.read_bytes()[: size // 2])
    headers = f"Content-Range: bytes 0-{size // 2 - 1}/{size}"
    await curl("-T", str(half), "-H", headers, broken)
    asked = await curl("-I", broken)
    assert f"upload-offset: {size // 2}" in asked
    assert '"status":"ready"' in await curl("-C", str(size // 2), "-T", str(clip), broken)
