"""Gives every request an id, which its answer names and every line that is logged for it; and logs each when it ends.

Of an address only the first part is logged: behind `/files/`, `/uploads/`, `/keys/` and in links to sign in stands what
lets somebody in.
"""

import logging
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rotoscope.logs import note_request

__all__ = ["RequestLog"]

_log = logging.getLogger(__name__)
_HEADER = b"x-request-id"
_SAFE_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_ID_BYTES = 8


@dataclass(frozen=True, slots=True)
class RequestLog:
    """Serves an app, and notes its requests.

    Attributes:
        app: the app.
        clock: seconds of a clock that never goes back.
        make_id: makes the id of a request that brought none.
    """

    app: ASGIApp
    clock: Callable[[], float] = time.perf_counter
    make_id: Callable[[], str] = lambda: secrets.token_hex(_ID_BYTES)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id, begun, statuses = self._id_of(scope), self.clock(), list[int]()

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                statuses.append(message["status"])
                message = {**message, "headers": [*message.get("headers", ()), (_HEADER, request_id.encode())]}
            await send(message)

        with note_request(request_id):
            try:
                await self.app(scope, receive, send_with_id)
            finally:
                took = 1000 * (self.clock() - begun)
                status = statuses[0] if statuses else "without an answer"
                _log.info("%s %s %s, %.0f ms", scope["method"], _first_part(scope["path"]), status, took)

    def _id_of(self, scope: Scope) -> str:
        """The id that a proxy in front gave it, if that is one; else a new one."""
        given = next((value for name, value in scope["headers"] if name.lower() == _HEADER), b"")
        return given.decode("ascii") if _SAFE_ID.fullmatch(given) else self.make_id()


def _first_part(path: str) -> str:
    first, _, rest = path[1:].partition("/")
    return f"/{first}/…" if rest else f"/{first}"
