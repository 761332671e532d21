"""What every test may ask for: a home of its own, a studio on the sandbox, a client of either era."""

import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import hypothesis
import pytest
from mcp import Client
from mcp.server.mcpserver import MCPServer

from rotoscope.compose import open_roots, studio_opener
from rotoscope.models.access import SANDBOX_URL
from rotoscope.models.catalog import manifest_folder
from rotoscope.sandbox import Sandbox, build_sandbox
from rotoscope.server.app import build_server
from rotoscope.server.door import StudioDoor
from rotoscope.server.patience import read_clients
from rotoscope.settings import Settings, read_settings
from rotoscope.wire.client import AsgiApp

# A deadline would be an assertion on the clock; in CI the same examples run each time.
hypothesis.settings.register_profile("rotoscope", deadline=None, derandomize=bool(os.environ.get("CI")))
hypothesis.settings.load_profile("rotoscope")

PHOTO = Path(__file__).parents[1] / "src" / "rotoscope" / "assets" / "astronaut.jpg"
MEDIA = Path(__file__).parents[2] / "shared" / "media"


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
def sandbox(tmp_path: Path) -> Sandbox:
    """A sandbox that pretends to need no time."""
    return build_sandbox(tmp_path / "sandbox", pace=0.0, public_url=SANDBOX_URL)


@pytest.fixture
def serve(home: Path) -> Callable[[Settings, AsgiApp], MCPServer[StudioDoor]]:
    """Builds the real server, as `rotoscope serve` does, on an app that stands in for the providers."""

    def build(settings: Settings, app: AsgiApp) -> MCPServer[StudioDoor]:
        clients = read_clients(manifest_folder() / "clients.toml")
        opener = studio_opener(settings, open_roots(settings, home, home), app)
        return build_server(opener, clients, settings.inline_seconds, ask_above_usd=settings.ask_above_usd)

    return build


@pytest.fixture
def server(settings: Settings, sandbox: Sandbox, serve: Callable[..., MCPServer[StudioDoor]]) -> MCPServer[StudioDoor]:
    return serve(settings, sandbox)


@pytest.fixture(params=["legacy", "auto"])
async def client(request: pytest.FixtureRequest, server: MCPServer[StudioDoor]) -> AsyncIterator[Client]:
    """An in-memory client of each protocol era."""
    async with Client(server, mode=request.param) as connected:
        yield connected
