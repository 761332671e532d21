"""The viewer of one job in a browser of this machine."""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rotoscope.composition.http import read_signer
from rotoscope.composition.parts import find_media_origins
from rotoscope.composition.stdio import stdio_roots
from rotoscope.composition.studio import make_studio_opener
from rotoscope.errors import UnknownJob
from rotoscope.models.catalog import manifest_folder
from rotoscope.settings import Settings

if TYPE_CHECKING:
    from mcp import Client
    from starlette.routing import BaseRoute
    from starlette.types import ASGIApp, Receive, Scope, Send

    from rotoscope.media.decoders import DecodeRunner
    from rotoscope.media.file_addresses import FileAddresses
    from rotoscope.media.vault import Vault
    from rotoscope.providers.http.client import AsgiApp
    from rotoscope.server.app import StudioServer
    from rotoscope.server.http.addresses import ListenAddress
    from rotoscope.server.http.limits import HttpLimits
    from rotoscope.server.viewer.loopback import OpenPages, PageKey

__all__ = ["PageServer", "build_page_server"]

_CLIENT = "rotoscope-view"


class PageServer:
    """An ASGI app that shows one job while `running` is entered.

    Attributes:
        key: who may ask; its path is the address to open.
        pages: those that are open.
    """

    def __init__(self, server: "StudioServer", job_id: str, key: "PageKey", pages: "OpenPages") -> None:
        self.key, self.pages = key, pages
        self._server, self._job_id = server, job_id
        self._client: Client | None = None
        self._app: ASGIApp | None = None

    def session(self) -> "Client":
        """The client of the MCP server to which the page's messages go."""
        assert self._client is not None, "it is asked while it runs"
        return self._client

    def serve_by(self, app: "ASGIApp") -> None:
        """Answer requests by an app, which is made when this object is there already."""
        self._app = app

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        assert self._app is not None, "it is made whole before it serves"
        await self._app(scope, receive, send)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """The time in which it serves.

        Raises:
            UnknownJob: there is no such job.
        """
        from mcp import Client, MCPError
        from mcp_types import Implementation

        from rotoscope import __version__

        refusal: UnknownJob | None = None
        async with AsyncExitStack() as stack:
            info = Implementation(name=_CLIENT, version=__version__)
            self._client = await stack.enter_async_context(Client(self._server, client_info=info))
            try:
                await self._client.read_resource(f"job://{self._job_id}")
            except MCPError:
                refusal = UnknownJob("There is no such job.", hint="rotoscope jobs list shows the jobs there are.")
            if refusal is None:
                yield
        if refusal is not None:
            raise refusal  # raised inside of a task group it would come out wrapped


def build_page_server(
    settings: Settings,
    bound: "ListenAddress",
    start: Path,
    home: Path | None,
    job_id: str,
    *,
    limits: "HttpLimits",
    sandbox: "AsgiApp | None" = None,
    decoders: "DecodeRunner | None" = None,
    clock: Callable[[], float] = time.time,
) -> PageServer:
    """The page of a job, served on loopback.

    Args:
        settings: the operator's decisions; how others reach a server does not matter here.
        bound: where it listens, with the real port.
        start: the working directory.
        home: the user's home directory, if there is one.
        job_id: the job.
        limits: what is taken.
        sandbox: an app that answers for the trusted hosts in place of the built-in sandbox.
        decoders: decodes media in place of worker processes.
        clock: the time in Unix seconds.

    Raises:
        InvalidInput: a setting cannot be used.
        StorageFailed: there is no secret to sign with.
    """
    from starlette.applications import Starlette

    from rotoscope.media.addressed_vault import AddressedVault
    from rotoscope.media.file_addresses import FileAddresses
    from rotoscope.server.app import build_server
    from rotoscope.server.clients.profiles import read_client_profiles
    from rotoscope.server.http.addresses import build_access_rules
    from rotoscope.server.http.guard import Guard
    from rotoscope.server.viewer.loopback import OpenPages, PageAccess, PageKey, page_routes

    settings = replace(settings, network=replace(settings.network, public_url=None, sign_in="none"))
    addresses = FileAddresses(bound.url, read_signer(settings), clock)

    def wrap_vault(vault: "Vault") -> "Vault":
        return AddressedVault(vault, addresses)

    roots = stdio_roots(settings, start, home)
    server = build_server(
        make_studio_opener(settings, roots, sandbox, decoders, wrap_vault=wrap_vault),
        read_client_profiles(manifest_folder() / "clients.toml"),
        settings.inline_seconds,
        ask_above_usd=settings.ask_above_usd,
        has_open_jobs=lambda: True,
    )
    page = PageServer(server, job_id, PageKey(bound.port), OpenPages())
    shown = page_routes(job_id, page.key, page.pages, page.session, find_media_origins(settings))
    routes = [*shown, *_file_routes(server, addresses, limits)]
    rules = build_access_rules(bound, None, ())
    page.serve_by(Guard(PageAccess(Starlette(routes=routes), page.key), rules, limits))
    return page


def _file_routes(server: "StudioServer", addresses: "FileAddresses", limits: "HttpLimits") -> "list[BaseRoute]":
    from rotoscope.server.http.files import FileServing, file_routes
    from rotoscope.studio.serving import open_file

    @asynccontextmanager
    async def open_stored(sha256: str) -> AsyncIterator[Path | None]:
        async with open_file(await server.lazy_studio.studio(), sha256) as path:
            yield path

    return file_routes(FileServing(addresses, open_stored, limits.downloads))
