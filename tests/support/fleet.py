"""Servers and workers that share one PostgreSQL and one object store, which a test starts and kills."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from object_store import KEYS, ObjectServer
from ports import find_free_port, is_free

from rotoscope_sandbox import Sandbox

__all__ = ["TOKEN", "Caller", "Fleet", "Member", "call_server"]

TOKEN = "a-token-of-a-test-that-is-long-enough"
PROVIDER_KEYS = {"REPLICATE_API_TOKEN": "r8_k", "FAL_KEY": "k"}
SECRET = "0123456789abcdef0123456789abcdef"
PORT_SECONDS = 60.0


@dataclass
class Member:
    """A server (with a port) or a worker (without); what is killed is started again in its place."""

    name: str
    port: int | None = None
    pid: int | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@dataclass
class Fleet:
    """Processes of one installation, the provider that they pay, and what they share.

    Attributes:
        database: the URL of the PostgreSQL database.
        bucket: in the object store.
        folder: where each process has its home, and the pictures are.
    """

    spawner: subprocess.Popen[str]
    app: Sandbox
    provider: str
    database: str
    store: ObjectServer
    bucket: str
    folder: Path
    more: dict[str, str] = field(default_factory=dict)
    members: list[Member] = field(default_factory=list)

    @property
    def servers(self) -> list[Member]:
        return [one for one in self.members if one.port is not None]

    def environment(self, member: Member) -> dict[str, str]:
        bases = {f"{name}_BASE_URL": self.provider for name in ("REPLICATE", "FAL")}
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "ROTOSCOPE_HOME": str(self.folder / member.name),
            "ROTOSCOPE_ROOTS": str(self.folder / "pictures"),
            "ROTOSCOPE_DATABASE_URL": self.database,
            "ROTOSCOPE_STORE_URL": f"s3://{self.bucket}/results",
            "ROTOSCOPE_SIGN_IN": "tokens",
            "ROTOSCOPE_TOKENS": f"ann={TOKEN}",
            "ROTOSCOPE_SECRETS": SECRET,
            "ROTOSCOPE_SANDBOX": "never",
            "ROTOSCOPE_RESEND_BELOW_USD": "1",
            "ROTOSCOPE_INLINE_SECONDS": "1",
            "AWS_ENDPOINT_URL": self.store.endpoint,
            **KEYS,
            **PROVIDER_KEYS,
            **bases,
            **self.more,
        }

    def start(self, member: Member) -> None:
        """Start a process of a member, once the port is free that its former one may hold a moment longer."""
        wait_for_port(member)
        serve = ["serve", "--http", f"127.0.0.1:{member.port}"]
        order = {
            "arguments": serve if member.port is not None else ["worker"],
            "environment": self.environment(member),
            "folder": str(self.folder),
            "log": str(self.folder / f"{member.name}.log"),
        }
        assert self.spawner.stdin is not None
        assert self.spawner.stdout is not None
        self.spawner.stdin.write(json.dumps(order) + "\n")
        self.spawner.stdin.flush()
        member.pid = int(self.spawner.stdout.readline())

    def add_server(self) -> Member:
        member = Member(f"server{len(self.servers)}", find_free_port())
        self.members.append(member)
        self.start(member)
        return member

    def add_worker(self) -> Member:
        member = Member(f"worker{len(self.members) - len(self.servers)}")
        self.members.append(member)
        self.start(member)
        return member

    def signal(self, member: Member, how: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal to a process, if it lives."""
        with suppress(ProcessLookupError):
            if member.pid is not None:
                os.kill(member.pid, how)

    def stop_all(self) -> None:
        for member in self.members:
            self.signal(member)

    def bought(self) -> Counter[str]:
        """How often each request was accepted by the provider."""
        orders = [one.request for one in self.app.state.core.store.newest_first()]
        return Counter(str(order.input.get("instruction") or order.input.get("prompt")) for order in orders)

    def show_logs(self) -> None:
        """Write the end of every process's log: pytest shows it where a test has failed."""
        for member in self.members:
            log = self.folder / f"{member.name}.log"
            text = log.read_text(encoding="utf-8")[-3000:] if log.exists() else "has no log"
            sys.stderr.write(f"--- {member.name}\n{text}\n")


def wait_for_port(member: Member) -> None:
    give_up_at = time.monotonic() + PORT_SECONDS
    while member.port is not None and not is_free(member.port) and time.monotonic() < give_up_at:
        time.sleep(0.02)


@dataclass
class Caller:
    """A client that goes to any server that answers, and calls again where one does not."""

    fleet: Fleet
    chance: random.Random
    failures: int = 0

    async def call(self, tool: str, arguments: dict[str, Any], seconds: float = 240.0) -> dict[str, Any]:
        """The structured result of a call; equal calls join the job that one of them has opened."""
        with anyio.fail_after(seconds):
            while True:
                server = self.chance.choice(self.fleet.servers)
                try:
                    with anyio.fail_after(20.0):
                        return await call_server(server, tool, arguments)
                except Exception:  # noqa: BLE001 - the server was killed, however its end looks from here
                    self.failures += 1
                    await anyio.sleep(0.1)


async def call_server(server: Member, tool: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """One call of a client of the official SDK at one server.

    Raises:
        RuntimeError: the server refuses it for now.
    """
    headers = {"authorization": f"Bearer {TOKEN}"}
    async with (
        httpx2.AsyncClient(headers=headers, timeout=15.0) as http,
        Client(streamable_http_client(f"{server.url}/mcp", http_client=http)) as client,
    ):
        answer = await client.call_tool(tool, arguments)
    found: dict[str, Any] | None = answer.structured_content
    if found is None or (answer.is_error and not found.get("job_id")):
        raise RuntimeError(str(answer.content))
    return found
