"""The real app of the HTTP server, without sockets, for the folders whose tests speak to it."""

from pathlib import Path

import pytest
from decoding import InThread
from http_client import PORT, HttpBuilder

from rotoscope.composition.http import HttpServing, build_http_server
from rotoscope.server.http.addresses import ListenAddress
from rotoscope.server.http.limits import HttpLimits
from rotoscope.settings import Settings, read_settings
from rotoscope_sandbox import Sandbox

__all__ = ["build_http"]


@pytest.fixture
def build_http(environment: dict[str, str], home: Path, sandbox: Sandbox) -> HttpBuilder:
    """Builds the app as `rotoscope serve --http` does, with more settings, other limits and sign-in where given."""

    def build(limits: HttpLimits | None = None, settings: Settings | None = None, **more: object) -> HttpServing:
        named = {name: str(more.pop(name)) for name in list(more) if name.startswith("ROTOSCOPE_")}
        decided = settings or read_settings({**environment, **named})
        return build_http_server(
            decided,
            ListenAddress("127.0.0.1", PORT),
            home,
            sandbox=sandbox,
            decoders=InThread(),
            limits=limits,
            **more,  # type: ignore[arg-type]
        )

    return build
