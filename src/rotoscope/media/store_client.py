"""The client of an object store, in the few calls that the vault needs, with its errors in our words.

The client is `obstore`: it has its own HTTP, with its own rules for TLS and proxies, and speaks to nothing but the
store that the operator has named. Its errors hold addresses and the store's replies, which may name keys: nothing of
their text is shown or logged, and they are not chained to ours.
"""

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from rotoscope.errors import InvalidInput, StorageFailed
from rotoscope.media.store_place import StorePlace

if TYPE_CHECKING:
    from obstore.store import AzureStore, GCSStore, S3Store

__all__ = ["PART_BYTES", "QUICK", "KeyMissing", "StoreClient", "StorePatience", "StoredObject", "connect_store"]

PART_BYTES = 8 * 1024 * 1024
"""Bytes of one part of a large object, and of one read: so much of a file is in memory at once for each of the four
parts that are sent side by side. Stores take 10,000 parts and no part under 5 MB but the last."""

_PARTS_AT_ONCE = 4
_NO_CONTAINER = re.compile(r"NoSuchBucket|ContainerNotFound|bucket does not exist", re.IGNORECASE)
_NO_CREDENTIALS = re.compile(r"169\.254\.|metadata\.google|token request|[Mm]issing ?[Cc]redential|IMDS|identity")
_BAD_CREDENTIALS = re.compile(
    r"InvalidAccessKeyId|SignatureDoesNotMatch|ExpiredToken|AuthenticationFailed|AuthorizationFail|AccessDenied"
    r"|status code: 40[13]"
)


class KeyMissing(Exception):
    """The store has no object of that key."""


@dataclass(frozen=True, slots=True)
class StorePatience:
    """How long a store is waited for, in seconds.

    Attributes:
        connect: for a connection.
        request: for one request with all its bytes, of which there are `PART_BYTES` at most.
        retries: how often a request that failed for a while is sent again; a number.
        retrying: after which no request is sent again.
    """

    connect: float = 5.0
    request: float = 60.0
    retries: int = 3
    retrying: float = 20.0


QUICK = StorePatience(connect=3.0, request=10.0, retries=2, retrying=8.0)
"""For what is small, and may be waited for."""


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object of the store: its key, its size in bytes, and when it was last written (Unix seconds, the store's)."""

    key: str
    size: int
    written_at: float


@dataclass(frozen=True, slots=True)
class StoreClient:
    """Speaks to one store. Its calls block; all keys are below the place's prefix.

    Every call raises `StorageFailed` in our words where the store cannot be used.
    """

    place: StorePlace
    store: "S3Store | GCSStore | AzureStore"
    signer: "S3Store | GCSStore | AzureStore | None"

    def put_file(self, key: str, source: Path, attributes: Mapping[str, str]) -> None:
        """Write a file under a key; it appears there only when it is whole.

        Raises:
            FileNotFoundError: the source is not there.
        """
        import obstore

        is_large = source.stat().st_size > PART_BYTES
        with self._translate_errors(), contextlib.suppress(KeyMissing):
            obstore.put(
                self.store,
                key,
                source,
                attributes=dict(attributes),
                use_multipart=is_large,
                chunk_size=PART_BYTES,
                max_concurrency=_PARTS_AT_ONCE,
            )
            return
        if not source.exists():
            raise FileNotFoundError(source.name)
        raise self._away_error()

    def put_bytes(self, key: str, content: bytes = b"") -> None:
        """Write a small object."""
        import obstore

        with self._translate_errors():
            obstore.put(self.store, key, content, use_multipart=False)

    def list_objects(self, prefix: str = "") -> Iterator[Sequence[StoredObject]]:
        """Pages of the objects below a prefix, which is one or more whole parts of a key between slashes."""
        import obstore

        with self._translate_errors():
            for page in obstore.list(self.store, prefix or None, chunk_size=1000):
                yield [StoredObject(one["path"], one["size"], one["last_modified"].timestamp()) for one in page]

    def read_bytes(self, key: str, most: int = PART_BYTES) -> bytes:
        """The first bytes of an object, all where it is not larger.

        Raises:
            KeyMissing: there is none.
        """
        import obstore

        with self._translate_errors():
            return bytes(obstore.get(self.store, key, options={"range": (0, most)}).bytes())

    def copy_to_file(self, key: str, size: int, target: Path) -> None:
        """Write an object's bytes into a file, part by part, so that each request is short.

        Raises:
            KeyMissing: there is none.
            OSError: the file cannot be written.
        """
        import obstore

        with target.open("xb") as opened:
            for start in range(0, size, PART_BYTES):
                with self._translate_errors():
                    part = obstore.get_range(self.store, key, start=start, end=min(start + PART_BYTES, size))
                opened.write(part)

    def delete(self, keys: Sequence[str]) -> None:
        """Remove objects; one that is not there counts as removed."""
        import obstore

        with self._translate_errors(), contextlib.suppress(KeyMissing):
            obstore.delete(self.store, list(keys))

    def sign(self, key: str, seconds: float) -> str | None:
        """An address by which anybody can read an object for some seconds; None where none can be made."""
        import obstore

        if self.signer is None:
            return None
        try:
            with self._translate_errors():
                return obstore.sign(self.signer, "GET", key, timedelta(seconds=seconds))
        except (StorageFailed, KeyMissing):
            return None

    @contextlib.contextmanager
    def _translate_errors(self) -> Iterator[None]:
        """Raise what the client raises in our own words.

        Raises:
            KeyMissing: there is no object of that key.
            StorageFailed: the store cannot be used.
        """
        from obstore.exceptions import BaseError

        error: Exception
        try:
            yield
        except FileNotFoundError as missing:
            error = self._container_error() if _NO_CONTAINER.search(str(missing)) else KeyMissing()
        except BaseError as failure:
            error = self._describe_failure(failure)
        except (OSError, ValueError):
            error = self._away_error()
        else:
            return
        raise error from None

    def _describe_failure(self, failure: Exception) -> StorageFailed:
        from obstore.exceptions import PermissionDeniedError, UnauthenticatedError

        text = str(failure)
        if _NO_CONTAINER.search(text):
            return self._container_error()
        if _NO_CREDENTIALS.search(text.partition("Debug source")[0]):
            return StorageFailed(
                f"There are no credentials for the object store {self.place.url}.",
                hint=f"Set {self.place.credentials_hint}.",
            )
        if isinstance(failure, PermissionDeniedError | UnauthenticatedError) or _BAD_CREDENTIALS.search(text):
            return StorageFailed(
                f"The object store {self.place.url} does not accept the credentials.",
                hint=f"Correct {self.place.credentials_hint}, or what they are allowed to do there.",
            )
        return self._away_error()

    def _container_error(self) -> StorageFailed:
        word = self.place.container_word
        return StorageFailed(
            f"There is no {word} {self.place.bucket} at the object store {self.place.url}.",
            hint=f"Make the {word}, or correct ROTOSCOPE_STORE_URL.",
        )

    def _away_error(self) -> StorageFailed:
        return StorageFailed(
            f"The object store {self.place.url} cannot be reached just now.",
            hint=f"Check the network, ROTOSCOPE_STORE_URL and {self.place.endpoint_hint}.",
        )


def connect_store(place: StorePlace, patience: StorePatience | None = None) -> StoreClient:
    """A client for a store. Nothing is sent yet.

    Raises:
        InvalidInput: the client is not installed, or cannot work with the settings.
    """
    try:
        from obstore.exceptions import BaseError
    except ImportError as error:
        raise InvalidInput(
            "ROTOSCOPE_STORE_URL needs a part of rotoscope that is not installed.",
            hint="Install it with: pip install 'rotoscope[server]'",
        ) from error
    try:
        store = _make_store(place, place.options, patience or StorePatience())
        signing = place.signing_options
        signer = None if signing is None else _make_store(place, signing, patience or StorePatience())
    except (BaseError, OSError, ValueError):
        raise InvalidInput(
            f"The object store {place.url} cannot be used with these settings.",
            hint=f"Correct {place.credentials_hint}, or ROTOSCOPE_STORE_URL.",
        ) from None
    return StoreClient(place, store, signer)


def _make_store(
    place: StorePlace, options: Mapping[str, str], patience: StorePatience
) -> "S3Store | GCSStore | AzureStore":
    from obstore.store import AzureStore, GCSStore, S3Store

    kinds: dict[str, Callable[..., S3Store | GCSStore | AzureStore]] = {"s3": S3Store, "gs": GCSStore, "az": AzureStore}
    return kinds[place.kind](
        place.bucket,
        prefix=place.prefix or None,
        config=dict(options),
        client_options={
            "allow_http": any(value.startswith("http://") for value in options.values()),
            "connect_timeout": timedelta(seconds=patience.connect),
            "timeout": timedelta(seconds=patience.request),
        },
        retry_config={
            "max_retries": patience.retries,
            "retry_timeout": timedelta(seconds=patience.retrying),
            "backoff": {"init_backoff": timedelta(seconds=0.2), "max_backoff": timedelta(seconds=5), "base": 2},
        },
    )
