"""Cold start: process start to the first `tools/list` reply and to the first tool call's, side by side in one run.

A one-tool server on the plain SDK, ours as it is served (with the fast start that opens the session), and ours
without it are started in turn, many times, over stdio by the same client code; the medians and their ratios are
printed. The client waits for each reply, as clients do. The first call asks for the list of jobs: it opens the ledger.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from typing import NamedTuple

from figures import arguments, headline

PLAIN = """
from mcp.server.mcpserver import MCPServer
server = MCPServer("plain")
@server.tool()
def add(a: int, b: int) -> int:
    return a + b
server.run("stdio")
"""
WITHOUT = "from rotoscope.cli.commands import run_command; raise SystemExit(run_command(['serve']))"


class Served(NamedTuple):
    command: list[str]
    call: Mapping[str, object]


class Times(NamedTuple):
    """Seconds from the start of the process."""

    listed: float
    called: float


SERVERS = {
    "plain SDK, one tool": Served([sys.executable, "-c", PLAIN], {"name": "add", "arguments": {"a": 1, "b": 2}}),
    "rotoscope, no fast start": Served([sys.executable, "-c", WITHOUT], {"name": "list_jobs", "arguments": {}}),
    "rotoscope serve": Served([sys.executable, "-m", "rotoscope", "serve"], {"name": "list_jobs", "arguments": {}}),
}
# A machine's certificates of its own are checked at the start; no usual machine has any.
PLAIN_ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("SSL_CERT")}
OPENING = {
    "protocolVersion": "2025-11-25",
    "capabilities": {},
    "clientInfo": {"name": "bench", "version": "1"},
}


def first_replies(served: Served, home: str) -> Times:
    begun = time.perf_counter()
    with subprocess.Popen(
        served.command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**PLAIN_ENVIRONMENT, "ROTOSCOPE_HOME": home},
    ) as server:
        ask(server, 1, "initialize", OPENING)
        tell(server, {"method": "notifications/initialized"})
        ask(server, 2, "tools/list", {})
        listed = time.perf_counter() - begun
        ask(server, 3, "tools/call", served.call)
        called = time.perf_counter() - begun
        assert server.stdin is not None
        server.stdin.close()
        server.wait(timeout=20)
    return Times(listed, called)


def ask(server: "subprocess.Popen[bytes]", number: int, method: str, params: Mapping[str, object]) -> None:
    assert server.stdout is not None
    tell(server, {"id": number, "method": method, "params": params})
    reply: dict[str, object] = {}
    while reply.get("id") != number:
        reply = json.loads(server.stdout.readline())
    assert "result" in reply, reply


def tell(server: "subprocess.Popen[bytes]", message: Mapping[str, object]) -> None:
    assert server.stdin is not None
    server.stdin.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")
    server.stdin.flush()


def main(rounds: int) -> None:
    times: dict[str, list[Times]] = {name: [] for name in SERVERS}
    with tempfile.TemporaryDirectory() as home:
        for _ in range(rounds):
            for name, served in SERVERS.items():
                times[name].append(first_replies(served, home))
    medians = {name: Times(*map(statistics.median, zip(*found, strict=True))) for name, found in times.items()}
    plain, without, ours = medians.values()
    print(headline(f"cold start, {rounds} rounds"))
    print("                         tools/list   first call")
    for name, median in medians.items():
        print(f"  {name:24} {median.listed * 1000:7.0f} ms {median.called * 1000:9.0f} ms")
    print(f"  tools/list against the plain server    {ours.listed / plain.listed:.2f} (to hold: 0.25)")
    print(f"  without fast start, against the same   {without.listed / plain.listed:.2f} (to hold: 1.25)")
    print(f"  first call against no fast start       {ours.called / without.called:.2f} (to hold: 1.00)")
    print(f"  first call against the plain server    {ours.called / plain.called:.2f} (to hold: 1.20)")


if __name__ == "__main__":
    main(int(arguments(__doc__, rounds=(15, 1, "how often each server is started"))["rounds"]))
