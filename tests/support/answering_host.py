"""A host on loopback that answers each first part of a path in its own way, as providers and networks may."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

__all__ = ["AnsweringHost", "answering_host"]

_ANSWERS: dict[str, tuple[int, object]] = {
    "accepted": (200, {"results": [], "items": [], "data": []}),
    "refused": (401, {"detail": "You did not pass a valid token, [brackets] and all"}),
    "forbidden": (403, {"detail": "This key may not read requests."}),
    "locked": (403, {"detail": "User is locked. Reason: Exhausted balance."}),
    "missing": (404, {"detail": "Not found"}),
    "broken": (503, {"detail": "try later"}),
    "busy": (429, {"detail": "throttled"}),
    "redirect": (302, {}),
}


@dataclass
class AnsweringHost:
    """The host.

    Attributes:
        port: on 127.0.0.1.
        paths: of every request, in order.
        keys: the `Authorization` of every request, in order; empty without.
        now: what it takes for the time, in Unix seconds; None: this machine's clock.
        released: set when what is `slow` may be answered.
    """

    port: int = 0
    paths: list[str] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    now: float | None = None
    released: threading.Event = field(default_factory=threading.Event)

    def url(self, how: str) -> str:
        """A base URL below which everything is answered in one way: `accepted`, `refused`, `slow` and so on."""
        return f"http://127.0.0.1:{self.port}/{how}"


@contextmanager
def answering_host() -> Iterator[AnsweringHost]:
    """The host, until the end of the block."""
    host = AnsweringHost()

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            host.paths.append(self.path)
            host.keys.append(self.headers.get("Authorization", ""))
            how = self.path.split("/")[1]
            if how == "slow":
                host.released.wait(30)
            status, body = _ANSWERS.get(how, _ANSWERS["accepted"])
            content = json.dumps(body).encode()
            self.send_response_only(status)
            self.send_header("Date", formatdate(host.now, usegmt=True))
            if how == "redirect":
                self.send_header("Location", "https://portal.example/login?next=1")
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            with suppress(OSError):  # who was slow to be answered has gone
                self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """The tests read `paths`."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    host.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield host
    finally:
        host.released.set()
        server.shutdown()
        server.server_close()
        thread.join(10)
