"""The server that the conformance suite meets: the real one, plus what the suite wants to find on a server.

    python tests/conformance/server.py HOME

serves the HTTP app of `rotoscope serve --http` on a free port of 127.0.0.1, prints the URL, and ends when its standard
input does. Sign-in is on; the suite sends no token, so one is added to each of its requests on their way in. With
`--stdio` it speaks on standard input and output, through the runner of `rotoscope serve`.
"""

import logging
import sys
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
from content import add_content
from mcp.server.mcpserver import MCPServer
from questions import add_questions
from starlette.types import Receive, Scope, Send
from works import REQUIRED, Works, add_works

from rotoscope.composition import make_studio_opener, stdio_roots
from rotoscope.composition.http import build_http_server
from rotoscope.composition.sign_in import open_sign_in
from rotoscope.models.access import SANDBOX_URL
from rotoscope.models.catalog import manifest_folder
from rotoscope.protocol.stdio import serve_stdio
from rotoscope.protocol.tasks import PrincipalOf, TasksExtension, TaskStore
from rotoscope.server import app
from rotoscope.server.clients.profiles import read_client_profiles
from rotoscope.server.http.addresses import ListenAddress
from rotoscope.server.http.app import HttpApp
from rotoscope.server.http.guard import MCP_PATH
from rotoscope.server.http.serving import bind_listener, serve_app
from rotoscope.settings import Settings, read_settings
from rotoscope_sandbox import Sandbox, build_sandbox

TOKEN = "the-token-of-the-conformance-suite"


class Fixtures:
    """What the suite wants to find, for a server that is built afterwards."""

    def __init__(self) -> None:
        self._works: list[Works] = []

    def build_tasks(self, jobs: TaskStore, principal_of: PrincipalOf) -> TasksExtension:
        """The tasks extension, on the fixtures and the jobs."""
        self._works.append(Works(jobs))
        return TasksExtension(self._works[0], principal_of, REQUIRED)

    def add_to(self, server: MCPServer[Any]) -> tuple[()]:
        """Add the tools, resources and prompts; the routes to serve for them, which are none."""
        add_content(server)
        add_questions(server)
        add_works(server, lambda: self._works[0])
        return ()


class WithToken:
    """The app, asked by somebody who has signed in, whoever asks."""

    def __init__(self, inner: HttpApp) -> None:
        self._inner = inner

    def running(self) -> AbstractAsyncContextManager[None]:
        return self._inner.running()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        signed = [*scope["headers"], (b"authorization", f"Bearer {TOKEN}".encode())]
        await self._inner({**scope, "headers": signed}, receive, send)


def decide(home: Path) -> tuple[Settings, Sandbox]:
    """The settings, and a sandbox that needs no time."""
    environment = {
        "ROTOSCOPE_HOME": str(home / "rotoscope"),
        "ROTOSCOPE_ROOTS": str(home),
        "ROTOSCOPE_SIGN_IN": "tokens",
        "ROTOSCOPE_TOKENS": f"suite={TOKEN}",
        "ROTOSCOPE_INLINE_SECONDS": "45",  # a call that ends before its media are checked would have no job yet
    }
    return read_settings(environment), build_sandbox(home / "sandbox", pace=0.0, public_url=SANDBOX_URL)


def build_for_stdio(home: Path) -> MCPServer[Any]:
    settings, sandbox = decide(home)
    fixtures = Fixtures()
    opener = make_studio_opener(settings, stdio_roots(settings, home, home), sandbox)
    clients = read_client_profiles(manifest_folder() / "clients.toml")
    server = app.build_server(opener, clients, settings.inline_seconds, build_tasks=fixtures.build_tasks)
    fixtures.add_to(server)
    return server


async def serve_http(home: Path) -> None:
    settings, sandbox = decide(home)
    fixtures = Fixtures()
    # The composition builds the server; the only thing in it that is not the product's are the fixtures' tasks.
    app.build_server = partial(app.build_server, build_tasks=fixtures.build_tasks)
    with bind_listener(ListenAddress("127.0.0.1", 0)) as listener:
        bound = ListenAddress("127.0.0.1", listener.getsockname()[1])
        endpoint = f"{bound.url}{MCP_PATH}"
        async with AsyncExitStack() as closing, anyio.create_task_group() as tasks:
            serving = build_http_server(
                settings,
                bound,
                home,
                sign_in=open_sign_in(settings, endpoint, closing),
                routes=fixtures.add_to,
                sandbox=sandbox,
            )
            ended = anyio.Event()
            tasks.start_soon(set_when_input_ends, ended)
            announce = partial(print, endpoint, flush=True)
            await serve_app(WithToken(serving.app), listener, serving.limits, serving.drain, ended, announce)


async def set_when_input_ends(ended: anyio.Event) -> None:
    await anyio.to_thread.run_sync(sys.stdin.buffer.read, abandon_on_cancel=True)
    ended.set()


if __name__ == "__main__":
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING)
    place = Path(sys.argv[1])
    if "--stdio" in sys.argv:
        anyio.run(serve_stdio, build_for_stdio(place))
    else:
        anyio.run(serve_http, place)
