"""A provider that keeps what it was asked."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

__all__ = ["Recorder"]


class Recorder:
    """An ASGI app that keeps what it was asked and answers as the test says."""

    def __init__(self, status: int = 200, body: bytes = b"{}", headers: Sequence[tuple[bytes, bytes]] = ()) -> None:
        self.status, self.body, self.headers = status, body, list(headers)
        self.asked: list[dict[str, Any]] = []

    async def __call__(
        self, scope: dict[str, Any], receive: Callable[[], Awaitable[dict[str, Any]]], send: Any
    ) -> None:
        body = b""
        while (message := await receive())["type"] == "http.request":
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        headers = {name.decode().lower(): value.decode() for name, value in scope["headers"]}
        self.asked.append({"method": scope["method"], "path": scope["path"], "headers": headers, "body": body})
        await send({"type": "http.response.start", "status": self.status, "headers": self.headers})
        await send({"type": "http.response.body", "body": self.body})
