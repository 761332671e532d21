"""A provider that holds back its answers to paying requests."""

import threading
from dataclasses import dataclass, field
from typing import Any

import anyio
import anyio.to_thread

from rotoscope_sandbox import Sandbox

__all__ = ["Held"]

_SECONDS = 180


@dataclass
class Held:
    """A provider that accepts, counts and charges, and says so only when the test lets it."""

    app: Sandbox
    accepted: threading.Event = field(default_factory=threading.Event)
    let: threading.Event = field(default_factory=threading.Event)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        said: list[Any] = []

        async def keep(message: Any) -> None:
            said.append(message)

        pays = scope["type"] == "http" and scope["method"] == "POST" and scope["path"].endswith("/predictions")
        await self.app(scope, receive, keep if pays else send)
        if pays:
            self.accepted.set()
            await anyio.to_thread.run_sync(self.let.wait, _SECONDS)
        for message in said:
            await send(message)
