"""Servers of each way to sign in, in processes of their own, for the official clients, and what one client is to do."""

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio
import httpx2
import uvicorn
from run import HERE

sys.path.insert(0, str(HERE.parent / "support"))

from browsing import let_client_in
from oauth_provider import OAuthProvider
from people_site import PASSPHRASE

__all__ = ["DOCUMENT", "SECONDS", "TOKEN", "WAYS", "Case", "serve_each_way"]

WAYS = ("tokens", "issuer", "people", "document")
"""`document`: as `people`, for a client that has a document and need not register."""

DOCUMENT = "https://app.example/client.json"
TOKEN = "a-token-of-anna-that-is-long-enough"
SECONDS = 180
ROTOSCOPE = [sys.executable, "-m", "rotoscope"]


@dataclass(frozen=True)
class Case:
    """One client, in one era, that signs in by one way.

    Attributes:
        number: of the case; it makes the request another one than any other client's.
        url: the MCP endpoint.
        port: where the client waits for the browser to come back.
        folder: its home.
    """

    client: str
    era: str
    way: str
    number: int
    url: str
    port: int
    folder: Path

    @property
    def name(self) -> str:
        return f"{self.client}, {self.era}, {self.way}"

    @property
    def callback(self) -> str:
        return f"http://127.0.0.1:{self.port}/callback"

    @property
    def document(self) -> str | None:
        return DOCUMENT if self.way == "document" else None

    @property
    def box(self) -> dict[str, int]:
        return {"left": 90 + self.number, "top": 50, "right": 230, "bottom": 210}

    async def browse(self, url: str) -> str:
        """What the person does at an address that the client opens; where the browser arrives."""
        async with httpx2.AsyncClient(timeout=SECONDS) as browser:
            return await let_client_in(browser, url, self.callback, "anna", PASSPHRASE)

    async def browse_back(self, url: str) -> None:
        """The same for a client that waits at its address for the browser."""
        async with httpx2.AsyncClient(timeout=SECONDS) as browser:
            (await browser.get(await self.browse(url))).raise_for_status()


async def serve_each_way(folder: Path, closing: AsyncExitStack) -> dict[str, str]:
    """Start a server of each way, all at once; the MCP endpoint of each."""
    issuer = await closing.enter_async_context(identity_provider())
    describe_client(folder / "documents")
    settings = {
        "tokens": {"ROTOSCOPE_TOKENS": f"anna={TOKEN}"},
        "issuer": {"ROTOSCOPE_ISSUER": issuer, "ROTOSCOPE_SCOPES": "media"},
        "people": {},
    }
    started = {way: closing.enter_context(server(folder, way, more)) for way, more in settings.items()}
    urls = {way: await anyio.to_thread.run_sync(read_url, one) for way, one in started.items()}
    return {**urls, "document": urls["people"]}


def describe_client(folder: Path) -> None:
    """Put the document of a client where the server reads it."""
    folder.mkdir()
    said = {
        "client_id": DOCUMENT,
        "client_name": "A client with a document",
        "redirect_uris": ["http://127.0.0.1/callback"],
        "token_endpoint_auth_method": "none",
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
    }
    (folder / "client.json").write_text(json.dumps(said), encoding="utf-8")


@contextmanager
def server(folder: Path, way: str, more: dict[str, str]) -> Iterator["subprocess.Popen[str]"]:
    """The command, in a process of its own; anna may sign in where people do."""
    env = {
        **{name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ},
        "HOME": str(folder),
        "ROTOSCOPE_HOME": str(folder / way),
        "ROTOSCOPE_SIGN_IN": way,
        "ROTOSCOPE_SANDBOX": "always",
        "ROTOSCOPE_INLINE_SECONDS": "0.5",  # less than a run takes: calls answer with their job
        **more,
    }
    command = ROTOSCOPE
    if way == "people":
        adding = [*ROTOSCOPE, "people", "add", "anna", "--passphrase"]
        subprocess.run(adding, check=True, capture_output=True, text=True, timeout=60, env=env, input=f"{PASSPHRASE}\n")
        command = [sys.executable, str(HERE / "documented.py"), str(folder / "documents")]
    serve = [*command, "serve", "--http", "127.0.0.1:0"]
    with subprocess.Popen(serve, text=True, env=env, stderr=subprocess.PIPE, cwd=folder) as process:
        try:
            yield process
        finally:
            process.terminate()
            process.wait(timeout=60)


def read_url(process: "subprocess.Popen[str]") -> str:
    """The MCP endpoint that a server names at its start."""
    assert process.stderr is not None
    said = ""
    while line := process.stderr.readline():
        said += line
        if found := re.search(r"serving MCP at (\S+)", line):
            return found[1]
    raise RuntimeError(f"The server has ended: {said}")


@asynccontextmanager
async def identity_provider() -> AsyncIterator[str]:
    """A running identity provider; its issuer."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        issuer = f"http://127.0.0.1:{listener.getsockname()[1]}/realms/studio"
        config = uvicorn.Config(OAuthProvider(issuer), log_level="error", lifespan="off")
        running = uvicorn.Server(config)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: running.serve(sockets=[listener]))
            yield issuer
            running.should_exit = True
