"""A small ASGI app for a process of its own: it answers, streams, fails and waits as its path says."""

import os
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

import anyio

__all__ = ["build"]

Message = MutableMapping[str, Any]


def build(word: str, gone: Path) -> Callable[..., Awaitable[None]]:
    async def app(
        scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
    ) -> None:
        match scope["path"]:
            case "/denied":
                raise PermissionError("not here")
            case "/broken":
                raise KeyError("a bug")
            case "/ended":
                os._exit(1)
            case "/waits":
                try:
                    await anyio.sleep_forever()
                finally:
                    gone.touch()
            case _:
                await _echo(word, receive, send)

    return app


async def _echo(
    word: str, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
) -> None:
    size = 0
    while (message := await receive()).get("more_body"):
        size += len(message["body"])
    size += len(message["body"])
    keys = [name for name in os.environ if "KEY" in name]
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x-pid", str(os.getpid()).encode())]})
    for part in (word, str(size), str(keys), str("numpy" in sys.modules)):
        await send({"type": "http.response.body", "body": f"{part} ".encode(), "more_body": True})
    await send({"type": "http.response.body", "body": b""})
