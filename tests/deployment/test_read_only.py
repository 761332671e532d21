"""What the container promises, without a container: no rights, and nothing to write to but /data and /tmp."""

import base64
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from calls import BOX, SECONDS
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from ports import find_free_port

SCRIPT = Path(__file__).with_name("unprivileged.sh")
Start = Callable[..., "subprocess.Popen[bytes]"]


def obstacle() -> str:
    """Why it cannot be tried here; "" where it can."""
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        return "only root on Linux may make a mount namespace"
    if not shutil.which("unshare") or not shutil.which("setpriv"):
        return "unshare and setpriv are not here"
    tried = subprocess.run(["unshare", "--mount", "mount", "--make-rprivate", "/"], capture_output=True, check=False)
    return "" if tried.returncode == 0 else "this machine lets nobody make a mount namespace"


pytestmark = [pytest.mark.skipif(bool(obstacle()), reason=obstacle() or "possible"), pytest.mark.anyio]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a command; /data is a folder of this test."""
    (tmp_path / "data").mkdir(mode=0o700)
    running: list[subprocess.Popen[bytes]] = []

    def begin(*command: str) -> "subprocess.Popen[bytes]":
        around = ["unshare", "--mount", "sh", str(SCRIPT), sys.base_prefix, str(tmp_path / "data")]
        started = subprocess.Popen([*around, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        running.append(started)
        return started

    yield begin
    for one in running:
        one.kill()
        one.communicate()


def rotoscope(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "rotoscope", *arguments]


async def finish(process: "subprocess.Popen[bytes]") -> tuple[int, str, str]:
    out, err = await anyio.to_thread.run_sync(lambda: process.communicate(timeout=SECONDS))
    return process.returncode, out.decode(), err.decode()


async def test_the_file_system_cannot_be_changed(start: Start) -> None:
    """Else what follows would show nothing."""
    for place in ("/usr/x", str(Path(__file__).with_name("x")), "/data/../x"):
        code, _, err = await finish(start("touch", place))
        assert (code, "ead-only" in err or "denied" in err) == (1, True), err
    code, out, _ = await finish(start("sh", "-c", "touch /data/x /tmp/x && id -u"))
    assert (code, out.strip()) == (0, "10001")


async def test_the_demo_runs(start: Start, tmp_path: Path) -> None:
    code, out, err = await finish(start(*rotoscope("demo", "--out", "/data/demo")))
    assert code == 0, err
    assert out
    assert {path.suffix for path in (tmp_path / "data" / "demo").iterdir()} >= {".png"}


async def test_a_server_segments_a_picture_and_serves_the_mask(start: Start, photo: Path) -> None:
    port = find_free_port()
    server = start(*rotoscope("serve", "--http", f"127.0.0.1:{port}"))
    url = f"http://127.0.0.1:{port}"
    async with httpx2.AsyncClient(timeout=30.0) as http:
        with anyio.fail_after(SECONDS):
            while True:
                try:
                    ready = await http.get(f"{url}/readyz")
                except httpx2.TransportError:
                    await anyio.sleep(0.1)
                    assert server.poll() is None, server.communicate()
                    continue
                assert ready.status_code == 200, ready.text
                break
            found = await segment(url, photo)
        mask = found["masks"][0]["media"]
        reply = await http.get(mask["url"])
        assert hashlib.sha256(reply.content).hexdigest() == mask["sha256"]


async def segment(url: str, photo: Path) -> dict[str, Any]:
    """The result of a call over HTTP, which may first be answered with a job."""
    picture = f"data:image/jpeg;base64,{base64.b64encode(photo.read_bytes()).decode()}"
    async with Client(streamable_http_client(f"{url}/mcp")) as client:
        answer = await client.call_tool("segment_image", {"image": picture, "box": BOX})
        found: dict[str, Any] = answer.structured_content or {}
        while found.get("status") in ("queued", "running"):
            answer = await client.call_tool("get_job", {"job_id": found["job_id"], "wait_seconds": 2})
            found = answer.structured_content or {}
    assert found.get("status") == "succeeded", answer.content
    return found
