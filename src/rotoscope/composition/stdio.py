"""The server of a stdio session."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rotoscope.composition.parts import find_media_origins
from rotoscope.models.catalog import manifest_folder
from rotoscope.settings import Settings

if TYPE_CHECKING:
    from mcp.server.mcpserver import MCPServer

    from rotoscope.media.paths import Roots
    from rotoscope.server.lazy_studio import LazyStudio

from rotoscope.composition.studio import make_studio_opener

__all__ = ["build_stdio_server", "stdio_roots"]

_DAY = 86_400.0  # seconds


def stdio_roots(settings: Settings, start: Path, home: Path | None) -> "Roots":
    """Where an assistant's paths may lead over stdio."""
    from rotoscope.media.paths import Roots, default_roots

    return Roots(settings.roots, start) if settings.roots is not None else default_roots(start, home)


def build_stdio_server(settings: Settings, start: Path, home: Path | None) -> "MCPServer[LazyStudio]":
    """The server of a stdio session.

    Args:
        settings: the operator's decisions.
        start: the working directory.
        home: the user's home directory, if there is one.
    """
    from rotoscope.server.app import build_server
    from rotoscope.server.clients.profiles import read_client_profiles
    from rotoscope.store.sqlite_probe import has_open_jobs

    clients = read_client_profiles(manifest_folder() / "clients.toml")
    return build_server(
        make_studio_opener(settings, stdio_roots(settings, start, home)),
        clients,
        settings.inline_seconds,
        ask_above_usd=settings.ask_above_usd,
        has_open_jobs=partial(has_open_jobs, settings.database),
        retention_seconds=settings.retention_days * _DAY,
        media_origins=find_media_origins(settings),
    )
