"""What every test may ask for: a home of its own, a studio on the sandbox, a client of either era."""

import gc
import os
import signal
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import anyio
import hypothesis
import pytest
from calls import ServerBuilder
from client import ClientOpener, RawClient
from decoding import InThread
from known_masks import remember_cuts
from mcp import Client
from mcp.server.mcpserver import MCPServer
from mcp.server.runner import serve_dual_era_loop
from photos import PHOTO

from rotoscope.composition import make_studio_opener, stdio_roots
from rotoscope.models.access import SANDBOX_URL
from rotoscope.models.catalog import manifest_folder
from rotoscope.protocol.lowlevel import lowlevel_server
from rotoscope.providers.http.client import AsgiApp
from rotoscope.server.app import build_server
from rotoscope.server.clients.profiles import read_client_profiles
from rotoscope.server.lazy_studio import LazyStudio
from rotoscope.settings import Settings, read_settings
from rotoscope.store.database import Database
from rotoscope_sandbox import Sandbox, build_sandbox
from rotoscope_sandbox.vision import grabcut

# A deadline would be an assertion on the clock; in CI the same examples run each time.
hypothesis.settings.register_profile("rotoscope", deadline=None, derandomize=bool(os.environ.get("CI")))
hypothesis.settings.register_profile("quick", hypothesis.settings.get_profile("rotoscope"), max_examples=20)
hypothesis.settings.load_profile("quick" if os.environ.get("HYPOTHESIS_PROFILE") == "quick" else "rotoscope")


def pytest_collection_finish() -> None:
    """Leave what was imported and collected out of garbage collections: it stays, and looking through the objects of
    eleven thousand tests again and again took a quarter of each process's time."""
    gc.collect()
    gc.freeze()


# What runs longest begins first: else one process would end it alone while the others have nothing left.
LONGEST = ("conformance", "jobs/test_crash_points", "faults", "jobs/test_laws", "kills", "replicas", "cli", "clients")
# Long simulations, and what runs in other processes: it would take as long as all the others, for nothing.
UNMEASURED = (
    *("bench", "faults", "kills", "replicas", "jobs/test_crash_points", "jobs/test_laws"),
    *("providers/test_pacer", "store/test_spending_laws", "server/test_processes", "sandbox/test_real_net"),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest first, and leave the long simulations out of the coverage (`make coverage`)."""
    top = Path(__file__).parent

    def place_of(item: pytest.Item) -> str:
        return item.path.relative_to(top).as_posix() if item.path.is_relative_to(top) else ""

    def rank(item: pytest.Item) -> int:
        return next((n for n, start in enumerate(LONGEST) if place_of(item).startswith(start)), len(LONGEST))

    items.sort(key=rank)
    for item in items:
        if place_of(item).startswith(UNMEASURED):
            item.add_marker(pytest.mark.no_cover)


@pytest.fixture(scope="session", autouse=True)
def signals_as_usual() -> None:
    """A suite that runs in the background ignores some signals, and so would every process that it starts."""
    for number in (signal.SIGHUP, signal.SIGINT):
        if signal.getsignal(number) is signal.SIG_IGN:
            usual = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
            signal.signal(number, usual)


KNOWN_CUTS = remember_cuts(grabcut._grabcut)


@pytest.fixture(autouse=True)
def known_cuts(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets the sandbox remember its cuts, but where the sandbox itself is what is tested."""
    if "sandbox" not in request.path.relative_to(Path(__file__).parent).parts[0]:
        monkeypatch.setattr(grabcut, "_grabcut", KNOWN_CUTS)


@pytest.fixture(autouse=True)
def closed_databases(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Closes every database that a test has opened: a connection that is left to the garbage collector is a warning
    of Python 3.13, in whichever test it is collected."""
    opened: list[Database] = []
    build = Database.__init__

    def remember(self: Database, *args: Any, **kwargs: Any) -> None:
        build(self, *args, **kwargs)
        opened.append(self)

    monkeypatch.setattr(Database, "__init__", remember)
    yield
    for database in opened:
        anyio.run(database.aclose)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The user's home directory."""
    folder = tmp_path / "home"
    folder.mkdir()
    return folder


@pytest.fixture
def photo(home: Path) -> Path:
    """A real photo where an assistant may point at it."""
    copy = home / "astronaut.jpg"
    copy.write_bytes(PHOTO.read_bytes())
    return copy


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """An environment with no key; tests add to it."""
    return {"ROTOSCOPE_HOME": str(tmp_path / "rotoscope"), "ROTOSCOPE_INLINE_SECONDS": "30"}


@pytest.fixture
def settings(environment: dict[str, str]) -> Settings:
    return read_settings(environment)


@pytest.fixture
def expire_redelivery(settings: Settings) -> Callable[[], bool]:
    """Lets the time pass in which an equal request gets the same result again; whether any result was delivered."""

    def pass_by() -> bool:
        with closing(sqlite3.connect(settings.home / "ledger.sqlite3", isolation_level=None)) as ledger:
            return (
                ledger.execute("UPDATE jobs SET delivered_at = delivered_at - 3600 WHERE delivered_at > 0").rowcount > 0
            )

    return pass_by


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[Sandbox]:
    """A sandbox that pretends to need no time; what it still computes when the test ends is stopped."""
    built = build_sandbox(tmp_path / "sandbox", pace=0.0, public_url=SANDBOX_URL)
    yield built
    built.state.core.workers.stop()


@pytest.fixture
def serve(home: Path) -> Callable[[Settings, AsgiApp], MCPServer[LazyStudio]]:
    """Builds the real server, as `rotoscope serve` does, on an app that stands in for the providers."""

    def build(settings: Settings, app: AsgiApp) -> MCPServer[LazyStudio]:
        clients = read_client_profiles(manifest_folder() / "clients.toml")
        opener = make_studio_opener(settings, stdio_roots(settings, home, home), app, InThread())
        return build_server(opener, clients, settings.inline_seconds, ask_above_usd=settings.ask_above_usd)

    return build


@pytest.fixture
def server(settings: Settings, sandbox: Sandbox, serve: ServerBuilder) -> MCPServer[LazyStudio]:
    return serve(settings, sandbox)


@pytest.fixture(params=["legacy", "auto"])
async def client(request: pytest.FixtureRequest, server: MCPServer[LazyStudio]) -> AsyncIterator[Client]:
    """An in-memory client of each protocol era."""
    async with Client(server, mode=request.param) as connected:
        yield connected


@pytest.fixture
def speak() -> ClientOpener:
    """Opens a raw connection to a server in memory."""

    @asynccontextmanager
    async def speaking(server: MCPServer[Any]) -> AsyncIterator[RawClient]:
        asking, incoming = anyio.create_memory_object_stream[Any](8)
        outgoing, answers = anyio.create_memory_object_stream[Any](0)
        inner = lowlevel_server(server)
        async with inner.lifespan(inner) as state, anyio.create_task_group() as serving, asking, answers:
            serving.start_soon(lambda: serve_dual_era_loop(inner, incoming, outgoing, lifespan_state=state))
            yield RawClient(asking, answers)
            serving.cancel_scope.cancel()

    return speaking
