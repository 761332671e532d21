"""An object store on loopback for tests: moto's S3, with faults that a test may order, in this process."""

import contextlib
import secrets
import threading
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from rotoscope.media.object_vault import ObjectVault
from rotoscope.media.store_client import StorePatience, connect_store
from rotoscope.media.store_place import read_store_place

__all__ = ["KEYS", "ObjectServer", "object_server", "open_object_vault"]

KEYS = {"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMIEXAMPLE", "AWS_REGION": "us-east-1"}
IMPATIENT = StorePatience(connect=1.0, request=5.0, retries=0, retrying=1.0)

Answer = Callable[[Any, Any], Iterable[bytes]]
"""A WSGI app."""


class ObjectServer:
    """The store. It keeps what it holds when it is stopped, and starts again at the same address.

    Attributes:
        asked: method and path of every request, in order.
        fault: what answers in the store's place, or None; it may return None to leave a request to the store.
    """

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.fault: Callable[[dict[str, Any]], Answer | None] | None = None
        self.port = 0
        self._server: Any = None
        self._thread: threading.Thread | None = None
        self._app: Answer | None = None

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def is_up(self) -> bool:
        return self._server is not None

    def start(self) -> None:
        """Answer at the address."""
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
        from werkzeug.serving import make_server

        self._app = self._app or DomainDispatcherApplication(create_backend_app)

        class Silent(MotoRequestHandler):
            def log_request(self, *_: Any) -> None:
                """The tests read `asked`."""

        self._server = make_server("127.0.0.1", self.port, self._answer, threaded=True, request_handler=Silent)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Refuse every connection."""
        if self._server is not None and self._thread is not None:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join(10)
            self._server = None

    def _answer(self, environ: Any, start_response: Any) -> Iterable[bytes]:
        assert self._app is not None
        query = f"?{environ['QUERY_STRING']}" if environ["QUERY_STRING"] else ""
        self.asked.append(f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}{query}")
        faulty = self.fault(environ) if self.fault is not None else None
        return (faulty or self._app)(environ, start_response)

    def make_bucket(self) -> str:
        """A new bucket; its name."""
        bucket = f"test-{secrets.token_hex(6)}"
        with urllib.request.urlopen(urllib.request.Request(f"{self.endpoint}/{bucket}", method="PUT"), timeout=10):
            return bucket

    def keys(self, bucket: str) -> dict[str, Any]:
        """The objects of a bucket as moto has them, by their keys."""
        from moto.s3.models import s3_backends

        backend = s3_backends["123456789012"]["aws"]
        return {key: backend.buckets[bucket].keys[key] for key in list(backend.buckets[bucket].keys)}

    def set_written_at(self, bucket: str, sha256: str, at: float) -> None:
        """Make every object of a file as old as if it had been written at a time."""
        for key, one in self.keys(bucket).items():
            if sha256 in key:
                one.last_modified = datetime.fromtimestamp(at, UTC).replace(tzinfo=None)

    @contextlib.contextmanager
    def outage(self) -> Iterator[None]:
        """The store is away for the time of the block."""
        self.stop()
        try:
            yield
        finally:
            self.start()


@pytest.fixture(scope="session")
def running_server() -> Iterator[ObjectServer]:
    server = ObjectServer()
    server.start()
    yield server
    server.stop()


@pytest.fixture
def object_server(running_server: ObjectServer) -> Iterator[ObjectServer]:
    """The store, as it is at its best when a test begins."""
    running_server.asked.clear()
    yield running_server
    running_server.fault = None
    if not running_server.is_up:
        running_server.start()


def open_object_vault(
    server: ObjectServer, folder: Path, bucket: str, prefix: str = "results", **more: Any
) -> ObjectVault:
    """A vault in a bucket, with its local files in a folder; it gives up at once where the store is away."""
    variables = {**KEYS, "AWS_ENDPOINT_URL": server.endpoint}
    place = read_store_place(f"s3://{bucket}/{prefix}", variables.get)
    client = connect_store(place, IMPATIENT)
    return ObjectVault(client, client, folder, **more)
