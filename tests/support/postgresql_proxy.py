"""A way to PostgreSQL that breaks where a test wants it: what goes to the server arrives, its answer does not."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from sqlalchemy import make_url

__all__ = ["PostgresqlProxy", "open_proxy"]

_COMMIT = b"COMMIT\0"


class PostgresqlProxy:
    """Passes bytes on between clients and a server.

    Attributes:
        url: of the database, through this.
        lose_commit_after: where a client has sent these words, the answer to its next commit is lost, and its
            connection ends; it happens once.
        lost: how many answers were lost.
    """

    def __init__(self, url: str) -> None:
        server = make_url(url)
        self._server = (server.host or "", server.port or 5432)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = server.set(port=self._listener.getsockname()[1]).render_as_string(hide_password=False)
        self.lose_commit_after = b""
        self.lost = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Let nobody in any more."""
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                link = _Link(self, client, socket.create_connection(self._server))
                for work in (link.pass_requests, link.pass_answers):
                    threading.Thread(target=work, daemon=True).start()


class _Link:
    def __init__(self, proxy: PostgresqlProxy, client: socket.socket, server: socket.socket) -> None:
        self._proxy, self._client, self._server = proxy, client, server
        self._is_marked = self._is_losing = False

    def pass_requests(self) -> None:
        with suppress(OSError), self._client, self._server:
            while data := self._client.recv(65536):
                words = self._proxy.lose_commit_after
                self._is_marked = self._is_marked or bool(words and words in data)
                if self._is_marked and _COMMIT in data:
                    self._is_losing = True
                    self._proxy.lose_commit_after = b""
                self._server.sendall(data)

    def pass_answers(self) -> None:
        with suppress(OSError):
            while data := self._server.recv(65536):
                if self._is_losing:  # the server has answered, so it has committed
                    self._proxy.lost += 1
                    self._client.shutdown(socket.SHUT_RDWR)
                    self._server.shutdown(socket.SHUT_RDWR)
                    return
                self._client.sendall(data)
        with suppress(OSError):
            self._client.shutdown(socket.SHUT_RDWR)


@contextmanager
def open_proxy(url: str) -> Iterator[PostgresqlProxy]:
    """A proxy in front of a database."""
    proxy = PostgresqlProxy(url)
    try:
        yield proxy
    finally:
        proxy.close()
