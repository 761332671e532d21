"""The server that the conformance suite meets: the real one, plus what the suite wants to find on a server.

    python tests/conformance/server.py HOME

serves HTTP on a free port of 127.0.0.1, prints the URL, and ends when its standard input does. With `--stdio` it
speaks on standard input and output, through the runner of `rotoscope serve`.
"""

import logging
import socket
import sys
import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any

import anyio
import uvicorn
from content import add_content
from mcp.server.mcpserver import MCPServer
from mcp.server.streamable_http import EventCallback, EventMessage, EventStore
from mcp_types import JSONRPCMessage
from questions import add_questions
from works import REQUIRED, Works, add_works

from rotoscope.composition import make_studio_opener, stdio_roots
from rotoscope.models.access import SANDBOX_URL
from rotoscope.models.catalog import manifest_folder
from rotoscope.protocol.stdio import serve_stdio
from rotoscope.protocol.tasks import PrincipalOf, TasksExtension, TaskStore
from rotoscope.server.app import build_server
from rotoscope.server.clients.profiles import read_client_profiles
from rotoscope.settings import read_settings
from rotoscope_sandbox import build_sandbox

_KEPT = 1000


class Events(EventStore):
    """The last events of all streams, in memory."""

    def __init__(self) -> None:
        self._events: OrderedDict[int, tuple[str, JSONRPCMessage | None]] = OrderedDict()
        self._next = 1

    async def store_event(self, stream_id: str, message: JSONRPCMessage | None) -> str:
        number, self._next = self._next, self._next + 1
        self._events[number] = (stream_id, message)
        if len(self._events) > _KEPT:
            self._events.popitem(last=False)
        return str(number)

    async def replay_events_after(self, last_event_id: str, send_callback: EventCallback) -> str | None:
        known = self._events.get(int(last_event_id)) if last_event_id.isdigit() else None
        if known is None:
            return None
        for number, (stream_id, message) in list(self._events.items()):
            if number > int(last_event_id) and stream_id == known[0] and message is not None:
                await send_callback(EventMessage(message, str(number)))
        return known[0]


def build(home: Path) -> MCPServer[Any]:
    """The server of the product on a sandbox that needs no time, with the fixtures."""
    found: list[Works] = []

    def tasks_on(jobs: TaskStore, principal_of: PrincipalOf) -> TasksExtension:
        found.append(Works(jobs))
        return TasksExtension(found[0], principal_of, REQUIRED)

    settings = read_settings({"ROTOSCOPE_HOME": str(home)})
    sandbox = build_sandbox(home / "sandbox", pace=0.0, public_url=SANDBOX_URL)
    opener = make_studio_opener(settings, stdio_roots(settings, home, home), sandbox)
    clients = read_client_profiles(manifest_folder() / "clients.toml")
    server = build_server(opener, clients, settings.inline_seconds, build_tasks=tasks_on)
    add_content(server)
    add_questions(server)
    add_works(server, lambda: found[0])
    return server


def serve_http(server: MCPServer[Any]) -> None:
    app = server.streamable_http_app(event_store=Events(), retry_interval=500)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        running = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1))
        threading.Thread(target=_until_input_ends, args=(running,), daemon=True).start()
        print(f"http://127.0.0.1:{listener.getsockname()[1]}/mcp", flush=True)
        running.run(sockets=[listener])


def _until_input_ends(running: uvicorn.Server) -> None:
    sys.stdin.buffer.read()
    running.should_exit = True


if __name__ == "__main__":
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING)
    built = build(Path(sys.argv[1]))
    if "--stdio" in sys.argv:
        anyio.run(serve_stdio, built)
    else:
        serve_http(built)
