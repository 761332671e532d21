"""A server that takes uploads, in memory: one or several replicas on one ledger and one vault."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import anyio.abc
import httpx  # noqa: TID251 - a client of the server in memory
from decoding import InThread
from starlette.applications import Starlette

from rotoscope.composition import open_studio
from rotoscope.contracts.arguments import UploadMedia
from rotoscope.media.decoders import DecodeRunner
from rotoscope.media.paths import Roots
from rotoscope.media.vault import Vault
from rotoscope.providers.http.client import AsgiApp
from rotoscope.server.http.upload_bodies import BodyLimits
from rotoscope.server.http.uploads import UploadSite, upload_routes
from rotoscope.server.lazy_studio import LazyStudio
from rotoscope.server.upload_calls import answer_upload
from rotoscope.settings import Settings
from rotoscope.studio.studio import Studio
from rotoscope.studio.uploads import Uploads

__all__ = ["PUBLIC_URL", "Replica", "open_replica", "part_headers"]

PUBLIC_URL = "https://rotoscope.example"


@dataclass(frozen=True)
class Replica:
    """One server process: what comes over HTTP, and what its tool answers."""

    studio: Studio
    http: httpx.AsyncClient
    app: Starlette

    async def ask(self, principal: str = "anna", seconds: float = 0.0, **arguments: Any) -> dict[str, Any]:
        """What the tool answers a principal."""
        given = UploadMedia.model_validate(arguments)
        answer = await answer_upload(self.studio, given, principal, PUBLIC_URL, seconds)
        assert answer.structured_content is not None
        return dict(answer.structured_content)

    async def put(self, address: str, content: Any, headers: dict[str, str] | None = None) -> httpx.Response:
        return await self.http.put(address, content=content, headers=headers)


@asynccontextmanager
async def open_replica(
    settings: Settings,
    sandbox: AsgiApp,
    clock: Callable[[], float],
    *,
    vault: Vault | None = None,
    decoders: DecodeRunner | None = None,
    limits: BodyLimits | None = None,
) -> AsyncIterator[Replica]:
    """One process, for the time of a block."""

    def open_its_studio(tasks: anyio.abc.TaskGroup, closing: AsyncExitStack) -> Studio:
        roots = Roots((), Path("/"))
        runner = decoders or InThread()
        return open_studio(settings, roots, tasks, closing, sandbox, clock=clock, decoders=runner, vault=vault)

    lazy_studio = LazyStudio(open_its_studio)

    async def open_uploads() -> Uploads:
        return (await lazy_studio.studio()).uploads

    site = UploadSite(open_uploads, PUBLIC_URL)
    app = Starlette(routes=upload_routes(site if limits is None else replace(site, limits=limits)))
    transport = httpx.ASGITransport(app)
    async with lazy_studio.lifespan(), httpx.AsyncClient(transport=transport, base_url=PUBLIC_URL) as http:
        yield Replica(await lazy_studio.studio(), http, app)


def part_headers(content: bytes, size: int) -> Iterator[tuple[bytes, dict[str, str]]]:
    """A file in parts of some size, each with its header."""
    for start in range(0, len(content), size):
        part = content[start : start + size]
        yield part, {"content-range": f"bytes {start}-{start + len(part) - 1}/{len(content)}"}
