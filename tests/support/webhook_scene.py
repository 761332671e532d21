"""Studios that take webhooks, each with the route that they come in by, and providers that send them."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import httpx  # noqa: TID251 - providers speak to our route as any client would
from calls import SECONDS, StudioOpener
from starlette.applications import Starlette
from starlette.types import ASGIApp

from rotoscope.composition.webhooks import make_webhook_routes
from rotoscope.settings import Settings
from rotoscope.studio.studio import Studio
from rotoscope_sandbox import Sandbox, build_sandbox
from rotoscope_sandbox.webhooks import sign_like_fal, sign_like_replicate

__all__ = ["PUBLIC_URL", "Mailman", "Replica", "post_to", "signed", "taking_webhooks"]

PUBLIC_URL = "http://localhost:8080"
"""Of this machine: the sandbox calls no other."""


@dataclass(frozen=True)
class Replica:
    """A studio and the app that its webhooks come in by; `outcomes` are those of every webhook, in order."""

    studio: Studio
    app: Starlette
    outcomes: list[tuple[str, str]] = field(default_factory=list)


@asynccontextmanager
async def taking_webhooks(
    opened: StudioOpener, settings: Settings, provider: Any, **more: Any
) -> AsyncIterator[Replica]:
    """Open a studio that names addresses to providers, and its route."""
    async with opened(settings, provider, takes_webhooks=True, **more) as studio:
        outcomes: list[tuple[str, str]] = []

        async def find_studio() -> Studio:
            return studio

        routes = make_webhook_routes(find_studio, lambda name, outcome: outcomes.append((name, outcome)))
        yield Replica(studio, Starlette(routes=routes), outcomes)


async def post_to(app: ASGIApp, path: str, body: Any, headers: Mapping[str, str] | None = None) -> httpx.Response:
    """Post to the route; a body is bytes, or an iterator of them."""
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=PUBLIC_URL) as client:
        return await client.post(path, content=body, headers=dict(headers or {}))


def signed(provider: str, key: bytes, name: str, stamp: float, body: bytes) -> dict[str, str]:
    """The headers of a webhook, as the sandbox signs for a provider."""
    sign = sign_like_replicate if provider == "replicate" else sign_like_fal
    return dict(sign(key, name, int(stamp), body))


@dataclass
class Mailman:
    """Brings the sandbox's webhooks to the app that a test names; the sandbox calls it in a thread.

    Attributes:
        app: who gets them; None: nobody is there.
        came: path and body of each attempt, in order.
        statuses: what was answered.
    """

    loop: asyncio.AbstractEventLoop
    app: ASGIApp | None = None
    came: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    statuses: list[int | None] = field(default_factory=list)

    def __call__(self, url: str, body: bytes, headers: Mapping[str, str]) -> int | None:
        self.came.append((url.removeprefix(PUBLIC_URL), json.loads(body)))
        status: int | None = None
        if self.app is not None:
            posting = post_to(self.app, url.removeprefix(PUBLIC_URL), body, headers)
            status = asyncio.run_coroutine_threadsafe(posting, self.loop).result(SECONDS).status_code
        self.statuses.append(status)
        return status

    async def finish(self) -> None:
        """Wait for what the sandbox still sends; from now on nobody is there to take it."""
        self.app = None
        for sender in threading.enumerate():
            if sender.name == "webhook":
                await anyio.to_thread.run_sync(sender.join, SECONDS)

    def build_sandbox(self, folder: Path, **more: Any) -> Sandbox:
        """A sandbox whose webhooks this one brings."""
        return build_sandbox(
            folder, **{"pace": 0.0, "public_url": "https://sandbox.invalid", **more}, post_webhook=self
        )
