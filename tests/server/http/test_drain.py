"""A real process on a real socket that is asked to end: calls are answered, streams closed, jobs handed over."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import httpx2
import pytest
from ledger_rows import read_rows

from rotoscope_sandbox import build_sandbox
from rotoscope_sandbox.serving import serve_in_thread

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(sys.platform == "win32", reason="there are no such signals there"),
]
SECONDS = 180
PACE = 0.1  # a run takes some seconds: longer than it takes to ask the process to end
VERSION = "2026-07-28"
META = {
    "io.modelcontextprotocol/protocolVersion": VERSION,
    "io.modelcontextprotocol/clientCapabilities": {},
    "io.modelcontextprotocol/clientInfo": {"name": "t", "version": "1"},
}


@dataclass
class Served:
    """A process that serves, and its address."""

    process: "subprocess.Popen[str]"
    url: str

    def end(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    async def exit_code(self) -> int:
        return await anyio.to_thread.run_sync(self.process.wait, SECONDS)


@pytest.fixture
def env(tmp_path: Path, home: Path) -> Iterator[dict[str, str]]:
    kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    with serve_in_thread(build_sandbox(tmp_path / "sandbox", pace=PACE)) as url:
        named = {"ROTOSCOPE_SANDBOX": url, "ROTOSCOPE_INLINE_SECONDS": "45", "HOME": str(home)}
        weights = str(tmp_path / "none.onnx")  # named, so that no test downloads any
        yield {
            **kept,
            **named,
            "ROTOSCOPE_HOME": str(tmp_path / "rotoscope"),
            "ROTOSCOPE_SANDBOX_WEIGHTS": weights,
            "PYTHONWARNINGS": "error",
        }


@pytest.fixture
def serve_http(env: dict[str, str], home: Path) -> Iterator[Callable[..., Served]]:
    begun: list[subprocess.Popen[str]] = []

    def begin(*more: str) -> Served:
        words = [sys.executable, "-m", "rotoscope", "serve", "--http", "127.0.0.1:0", *more]
        process = subprocess.Popen(
            words, env=env, cwd=home, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        begun.append(process)
        assert process.stderr is not None
        first = process.stderr.readline()
        found = re.search(r"http://[0-9.:]+", first)
        assert found is not None, first + process.stderr.read()
        return Served(process, found[0])

    yield begin
    for process in begun:
        process.kill()
        process.communicate()


def request(number: int, method: str, params: dict[str, Any]) -> dict[str, Any]:
    body = {"jsonrpc": "2.0", "id": number, "method": method, "params": {**params, "_meta": META}}
    headers = {
        "accept": "application/json, text/event-stream",
        "mcp-protocol-version": VERSION,
        "mcp-method": method,
        **({"mcp-name": params["name"]} if "name" in params else {}),
    }
    return {"json": body, "headers": headers}


def rows(env: dict[str, str], query: str) -> list[tuple[Any, ...]]:
    return list(read_rows(Path(env["ROTOSCOPE_HOME"]) / "ledger.sqlite3", query))


async def wait_until_paid(env: dict[str, str]) -> None:
    """Until the provider has given the run an id; another process writes that, so it is looked for."""
    paid = "SELECT 1 FROM submissions WHERE prediction_id IS NOT NULL"
    with anyio.fail_after(SECONDS):
        while not await anyio.to_thread.run_sync(rows, env, paid):
            await anyio.lowlevel.checkpoint()


VIDEO = {"name": "generate_video", "arguments": {"prompt": "a boat on a lake", "duration": 4}}
LISTEN = {"notifications": {"toolsListChanged": True}}


async def test_a_process_that_is_asked_to_end_answers_closes_and_hands_over(
    serve_http: Callable[..., Served], env: dict[str, str]
) -> None:
    served, answers, stream = serve_http(), list[httpx2.Response](), list[str]()
    async with httpx2.AsyncClient(base_url=served.url, timeout=SECONDS) as http, anyio.create_task_group() as tasks:
        listening = anyio.Event()

        async def listen() -> None:
            async with http.stream("POST", "/mcp", **request(1, "subscriptions/listen", LISTEN)) as answer:
                async for text in answer.aiter_text():
                    stream.append(text)
                    listening.set()

        async def call() -> None:
            answers.append(await http.post("/mcp", **request(2, "tools/call", VIDEO)))

        tasks.start_soon(listen)
        tasks.start_soon(call)
        await listening.wait()
        await wait_until_paid(env)
        served.end()
        code = await served.exit_code()
    result = answers[0].json()["result"]["structuredContent"]
    assert (code, result["status"]) == (0, "running")
    assert "get_job" in result["next_step"]
    received = "".join(stream)
    assert "retry: 2000\n\n" in received
    assert json.loads(received.rpartition("data: ")[2])["id"] == 1
    assert rows(env, "SELECT owner, lease_until, state FROM jobs") in (
        [(None, None, "queued")],
        [(None, None, "running")],
    )
    driven = await anyio.to_thread.run_sync(run_to_end, env, "jobs", "drive")
    assert driven.returncode == 0, driven.stderr
    assert rows(env, "SELECT state FROM jobs") == [("succeeded",)]
    assert rows(env, "SELECT count(*) FROM runs") == [(1,)]


def run_to_end(env: dict[str, str], *arguments: str) -> "subprocess.CompletedProcess[str]":
    words = [sys.executable, "-m", "rotoscope", *arguments]
    return subprocess.run(words, env=env, capture_output=True, text=True, timeout=SECONDS, check=False)


async def test_a_second_signal_does_not_wait_for_clients(
    serve_http: Callable[..., Served], env: dict[str, str]
) -> None:
    served = serve_http()
    host, _, port = served.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=SECONDS) as half:
        head = (
            f"POST /mcp HTTP/1.1\r\nhost: {host}:{port}\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n"
        )
        half.sendall(head.encode())  # and never its body
        await wait_until_answered(served.url)
        served.end()
        await wait_until_closed(host, int(port))
        served.end()
        assert await served.exit_code() == 143
    assert served.process.stderr is not None
    assert "Traceback" not in served.process.stderr.read()


async def wait_until_closed(host: str, port: int) -> None:
    """Until nothing listens there any more."""
    with anyio.fail_after(SECONDS):
        while True:
            try:
                async with await anyio.connect_tcp(host, port):
                    await anyio.sleep(0.02)
            except OSError:
                return


async def wait_until_answered(url: str) -> None:
    async with httpx2.AsyncClient(base_url=url, timeout=SECONDS) as http:
        assert (await http.get("/readyz")).status_code == 200


async def test_an_address_that_is_taken_is_one_sentence(env: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        ended = await anyio.to_thread.run_sync(run_to_end, env, "serve", "--http", address)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith(f"rotoscope: --http {address} cannot be listened on: ")
    assert ended.stderr.count("\n") == 1
