"""Cold start: process start to the first tools/list reply, against a one-tool server on the plain SDK, side by side.

Both are started in turn, many times, over stdio by the same client code; the medians and their ratio are printed.
"""

import json
import platform
import statistics
import subprocess
import sys
import time
from datetime import UTC, datetime

ROUNDS = 15
PLAIN = """
from mcp.server.mcpserver import MCPServer
server = MCPServer("plain")
@server.tool()
def add(a: int, b: int) -> int:
    return a + b
server.run("stdio")
"""
COMMANDS = {
    "plain SDK, one tool": [sys.executable, "-c", PLAIN],
    "rotoscope serve": [sys.executable, "-m", "rotoscope", "serve"],
}
OPENING = {
    "protocolVersion": "2025-11-25",
    "capabilities": {},
    "clientInfo": {"name": "bench", "version": "1"},
}


def seconds_to_first_list(command: list[str]) -> float:
    begun = time.perf_counter()
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        messages = [
            {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": OPENING},
            {"jsonrpc": "2.0", "method": "notifications/initialized"},
            {"jsonrpc": "2.0", "id": 2, "method": "tools/list"},
        ]
        server.stdin.write(b"".join(json.dumps(message).encode() + b"\n" for message in messages))
        server.stdin.flush()
        while json.loads(server.stdout.readline()).get("id") != 2:
            pass
        took = time.perf_counter() - begun
        server.stdin.close()
        server.wait(timeout=20)
    return took


def main() -> None:
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(ROUNDS):
        for name, command in COMMANDS.items():
            times[name].append(seconds_to_first_list(command))
    medians = {name: statistics.median(found) for name, found in times.items()}
    print(f"cold start to tools/list, {ROUNDS} rounds, {datetime.now(UTC):%Y-%m-%d}, {platform.machine()}")
    for name, median in medians.items():
        print(f"  {name:22} {median * 1000:6.0f} ms")
    plain, ours = medians.values()
    print(f"  ratio {ours / plain:.2f} (to hold: 1.25)")


if __name__ == "__main__":
    main()
