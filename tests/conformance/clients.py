"""The official clients sign in to `rotoscope serve --http` by each way, and follow a job to the file of its result.

    python tests/conformance/clients.py [--all] [--only WORD]

Clients: the SDK for Python, both generations of the SDK for JavaScript, and the Inspector's command line, in the eras
that they have. Ways: a bearer token, an identity provider, and our own sign-in for clients that register and for
clients that have a document; there the suite's scenarios for authorization servers are run as well. Pages are opened
and forms filled in by plain HTTP. A client without a token must show what the server says of it. Exit codes as in
`run.py`.
"""

import argparse
import base64
import json
import logging
import os
import pty
import re
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import anyio
import anyio.abc
import httpx2
from anyio.streams.buffered import BufferedByteReceiveStream
from authorization import run_authorization_scenarios
from mcp import Client
from mcp.client.auth import OAuthClientProvider
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.auth import AuthorizationCodeResult, OAuthClientMetadata
from run import CANNOT, FAILED, HERE, NODE, OK, SUITE, SUITE_VERSION, CannotRunError, environment, install
from snippets import picture
from ways import SECONDS, TOKEN, WAYS, Case, serve_each_way

sys.path.insert(0, str(HERE.parent / "support"))

from client_story import fetch_results, finish_job, segment_upload
from people_site import MemoryStorage
from ports import find_free_port
from task_client import TaskClient

PACKAGES = {
    "@modelcontextprotocol/sdk": "1.32.2",
    "@modelcontextprotocol/client": "2.4.0",
    "@modelcontextprotocol/inspector": "2.12.0",
    SUITE: SUITE_VERSION,
    "node": "24",
}
HANDSHAKE, MODERN = "2025-11-25", "2026-07-28"
WITHOUT = "without a token"
"""No way: a client without a token, which looks for a page to sign in, at a server whose operator gives out tokens."""

HOW_TO_CONNECT = "configure the client to send one in the header Authorization: Bearer TOKEN"
BRIEF = {
    ("Python SDK", HANDSHAKE): ("people", WITHOUT),
    ("Python SDK", MODERN): WAYS,
    ("TypeScript SDK v1", HANDSHAKE): ("document",),
    ("TypeScript SDK v2", HANDSHAKE): ("tokens",),
    ("TypeScript SDK v2", MODERN): ("issuer", "people"),
    ("Inspector", HANDSHAKE): ("tokens", WITHOUT),
    ("Inspector", MODERN): ("people",),
    ("Conformance suite", "authorization"): ("people", "document"),
}
"""Without `--all`: every client, every era, every way, but not each with each."""

AT_ONCE = 3
LINE_BYTES = 1 << 20


def main() -> int:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--only", default="", help="run the cases whose name holds this")
    asked.add_argument("--all", action="store_true", help="run every way in every era of every client")
    given = asked.parse_args()
    logging.getLogger("mcp.client").setLevel(logging.CRITICAL)  # what a case gets wrong is in its line
    try:
        install(PACKAGES)
    except CannotRunError as error:
        print(error, file=sys.stderr)
        return CANNOT
    with tempfile.TemporaryDirectory() as folder:
        failures = anyio.run(run_cases, Path(folder), given.only, given.all)
    print("\n".join(failures) or "Every client reached its result.")
    return FAILED if failures else OK


async def run_cases(folder: Path, only: str, everything: bool) -> list[str]:
    """Run the cases, some at once; what failed, one line each."""
    failures: list[str] = []
    limiter = anyio.CapacityLimiter(AT_ONCE)
    (folder / "picture.png").write_bytes(base64.b64decode(picture()))
    async with AsyncExitStack() as closing:
        urls = await serve_each_way(folder, closing)
        async with anyio.create_task_group() as tasks:
            for case in make_cases(folder, urls):
                is_brief = case.way in BRIEF[case.client, case.era]
                if only in case.name and (everything or is_brief):
                    tasks.start_soon(run_case, case, limiter, failures)
    return failures


def make_cases(folder: Path, urls: dict[str, str]) -> Iterator[Case]:
    number = 0
    for client, (_, eras, ways) in CLIENTS.items():
        for era in eras:
            for way in (*ways, *((WITHOUT,) if era == HANDSHAKE else ())):
                number += 1
                home = folder / f"client{number}"
                home.mkdir()
                yield Case(client, era, way, number, urls["tokens" if way == WITHOUT else way], find_free_port(), home)


async def run_case(case: Case, limiter: anyio.CapacityLimiter, failures: list[str]) -> None:
    run = CLIENTS[case.client][0]
    async with limiter:
        started = anyio.current_time()
        try:
            with anyio.fail_after(SECONDS):
                seen = await run(case)
            if case.way == WITHOUT:
                failures.append(f"{case.name}: it was let in")
        except Exception as error:  # noqa: BLE001 - whatever a client does wrong is its line in the report
            seen = "shows how to connect"
            if case.way != WITHOUT or HOW_TO_CONNECT not in str(innermost(error)):
                failures.append(f"{case.name}: {innermost(error)!r}")
                seen = "failed"
        print(f"{case.name}: {seen} ({anyio.current_time() - started:.1f} s)", flush=True)


def innermost(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


async def run_python(case: Case) -> str:
    storage, tasks = MemoryStorage(), TaskClient()
    mode = "legacy" if case.era == HANDSHAKE else "auto"
    options = {"headers": {"Authorization": f"Bearer {TOKEN}"}} if case.way == "tokens" else {}
    auth = None if case.way == "tokens" else sign_in_of(case, storage)
    async with (
        httpx2.AsyncClient(timeout=SECONDS) as anybody,
        httpx2.AsyncClient(auth=auth, timeout=SECONDS, **options) as http,  # type: ignore[arg-type]
        Client(streamable_http_client(case.url, http_client=http), mode=mode, extensions=[tasks]) as client,
    ):
        first = await segment_upload(client, anybody, case.folder.parent / "picture.png", case.box)
        result = await finish_job(client, first)
        await fetch_results(anybody, result, case.url.removesuffix("/mcp"))
    if (case.era == MODERN) != bool(tasks.begun):
        raise AssertionError(f"tasks: {tasks.begun}")
    check_client_id(case, storage.client.client_id if storage.client is not None else None)
    return "task" if tasks.begun else "handle, then get_job"


def sign_in_of(case: Case, storage: MemoryStorage) -> OAuthClientProvider:
    urls: list[str] = []

    async def go(url: str) -> None:
        urls.append(url)

    async def come_back() -> AuthorizationCodeResult:
        query = parse_qs(urlsplit(await case.browse(urls.pop())).query)
        return AuthorizationCodeResult(code=query["code"][0], state=query["state"][0], iss=query["iss"][0])

    said = OAuthClientMetadata.model_validate({"redirect_uris": [case.callback], "client_name": "The SDK for Python"})
    return OAuthClientProvider(case.url, said, storage, go, come_back, case.document)


def check_client_id(case: Case, client_id: str | None) -> None:
    """Raises AssertionError: a client with a document has registered, or one without has not."""
    registers = case.way in ("issuer", "people")
    if client_id != case.document and not (registers and client_id):
        raise AssertionError(f"client id: {client_id}")


async def run_javascript(case: Case) -> str:
    orders = {
        "url": case.url,
        "callback": case.callback,
        "document": case.document,
        "token": TOKEN if case.way == "tokens" else None,
        "renews": case.way in ("people", "document"),  # the test's identity provider gives no refresh tokens
        "generation": 1 if case.client.endswith("v1") else 2,
        "mode": "legacy" if case.era == HANDSHAKE else "auto",
        "picture": str(case.folder.parent / "picture.png"),
        "box": case.box,
    }
    # Beside its packages: Node looks for them from the file's own folder upward.
    script = case.folder / "client.mjs"
    script.write_bytes((HERE / "client.mjs").read_bytes())
    (case.folder / "node_modules").symlink_to(NODE / "node_modules")
    async with await anyio.open_process(["node", str(script)], env=environment(), cwd=case.folder) as process:
        found = await converse(case, process, orders)
    wanted = {"upload": 201, "last": "succeeded", "revision": case.era, "renewed": orders["renews"]}
    wrong = {name: found[name] for name, value in wanted.items() if found[name] != value}
    if wrong or found["first"] not in ("queued", "running"):
        raise AssertionError(f"{found}")
    if found["file"]["status"] != 200 or found["file"]["bytes"] != found["file"]["wanted"]:
        raise AssertionError(f"{found}")
    check_client_id(case, found["client_id"])
    return "handle, then get_job"


async def converse(case: Case, process: anyio.abc.Process, orders: dict[str, Any]) -> dict[str, Any]:
    """Give a script its orders and a browser; what it found."""
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    await process.stdin.send(json.dumps(orders).encode() + b"\n")
    lines = BufferedByteReceiveStream(process.stdout)
    try:
        while True:
            said: dict[str, Any] = json.loads(await lines.receive_until(b"\n", LINE_BYTES))
            if "found" in said:
                return dict(said["found"])
            await process.stdin.send((await case.browse(said["open"])).encode() + b"\n")
    except (anyio.IncompleteRead, anyio.BrokenResourceError):
        message = b"".join([part async for part in process.stderr])
        raise AssertionError(message.decode()[-4000:]) from None


async def run_inspector(case: Case) -> str:
    image = f"data:image/png;base64,{picture()}"
    # A call whose time is over before its request is checked has no job yet, and says to make it again.
    while not (answer := await ask_inspector(case, "segment_image", image=image, box=case.box))["job_id"]:
        pass
    first = answer["status"]
    while answer["status"] in ("queued", "running"):
        answer = await ask_inspector(case, "get_job", job_id=answer["job_id"], wait_seconds=45)
    async with httpx2.AsyncClient(timeout=SECONDS) as anybody:
        await fetch_results(anybody, answer, case.url.removesuffix("/mcp"))
    if (case.era == MODERN) != (first == "succeeded"):
        raise AssertionError(f"first: {first}")
    return "task" if case.era == MODERN else "handle, then get_job"


async def ask_inspector(case: Case, tool: str, **arguments: Any) -> dict[str, Any]:
    """The structured result of a call; where the Inspector says to sign in, it is done."""
    command = [str(NODE / "node_modules" / ".bin" / "mcp-inspector"), "--cli", case.url, "--transport", "http"]
    command += ["--protocol-era", "legacy" if case.era == HANDSHAKE else "modern", "--format", "json", "-q"]
    command += ["--method", "tools/call", "--tool-name", tool, "--tool-args-json", json.dumps(arguments)]
    command += ["--callback-url", case.callback]
    command += ["--header", f"Authorization: Bearer {TOKEN}"] if case.way == "tokens" else []
    command += ["--client-metadata-url", case.document] if case.document else []
    env = {**environment(), "HOME": str(case.folder), "MCP_AUTO_OPEN_ENABLED": "false"}
    ours, its = pty.openpty()  # it signs in for somebody at a terminal alone
    try:
        async with await anyio.open_process(command, stdin=its, env=env, cwd=case.folder) as process:
            return await read_inspector(case, process)
    finally:
        os.close(ours)
        os.close(its)


async def read_inspector(case: Case, process: anyio.abc.Process) -> dict[str, Any]:
    assert process.stdout is not None
    assert process.stderr is not None
    errors = ""
    printed: list[bytes] = []

    async def keep_output(output: anyio.abc.ByteReceiveStream) -> None:
        printed.extend([part async for part in output])

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(keep_output, process.stdout)
        is_signed_in = False
        async for part in process.stderr:
            errors += part.decode()
            found = re.search(r"navigate to: (\S+)\s", errors)
            if found and not is_signed_in:
                is_signed_in = True
                await case.browse_back(found[1])
    said = json.loads(b"".join(printed) or "{}").get("result", {})
    if "structuredContent" not in said or said.get("isError"):
        raise AssertionError(f"{said} {errors[-1000:]}")
    return dict(said["structuredContent"])


Run = Callable[[Case], Awaitable[str]]
CLIENTS: dict[str, tuple[Run, Sequence[str], Sequence[str]]] = {
    "Python SDK": (run_python, (HANDSHAKE, MODERN), WAYS),
    "TypeScript SDK v1": (run_javascript, (HANDSHAKE,), WAYS),
    "TypeScript SDK v2": (run_javascript, (HANDSHAKE, MODERN), WAYS),
    "Inspector": (run_inspector, (HANDSHAKE, MODERN), WAYS),
    "Conformance suite": (run_authorization_scenarios, ("authorization",), ("people", "document")),
}
"""How each client is run, its eras, and the ways by which it signs in."""


if __name__ == "__main__":
    sys.exit(main())
