"""What a request carries and where a download is kept, a piece at a time: no room holds a whole file."""

import base64
import hashlib
import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

import anyio

from rotoscope.errors import OutputLost, SlowHost, StorageFailed, TooLarge
from rotoscope.providers.http.messages import HttpCall

__all__ = [
    "CHUNK",
    "Download",
    "ProgressFile",
    "body_chunks",
    "data_uri_json",
    "download_error",
    "file_chunks",
    "has_file",
    "map_read_errors",
    "require_minimum_speed",
    "save_download",
    "slow_host_error",
    "source_span",
    "stream_lines",
]

CHUNK = 256 * 1024
"""Bytes that are sent, or written to a file, at once."""


MIN_BYTES_PER_SECOND, _SPEED_WINDOW_SECONDS = 1024, 30.0
"""Bytes a second that a download brings on average of so many seconds, or it would never end."""

_MAX_LINE_BYTES, _MAX_STREAM_BYTES = 256 * 1024, 32 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Download:
    """A file that was fetched: its hash (hex), its size in bytes and what the server called it."""

    sha256: str
    size: int
    content_type: str


class ProgressFile(FileIO):
    """A file for a form, which tells of every piece that is taken from it."""

    def __init__(self, path: Path, on_progress: Callable[[], None]) -> None:
        super().__init__(path, "rb")
        self._on_progress = on_progress

    def read(self, size: int | None = -1, /) -> bytes:
        """The next bytes, as of any file."""
        self._on_progress()
        return super().read(-1 if size is None else size) or b""


@contextmanager
def map_read_errors() -> Iterator[None]:
    """Our own files are read before anything is sent: what the disk refuses is no trouble of the network.

    Raises:
        StorageFailed: in place of an OSError.
    """
    try:
        yield
    except OSError as error:
        raise StorageFailed(
            "A file that was to be sent cannot be read; nothing was sent.", hint="Check ROTOSCOPE_HOME."
        ) from error


def has_file(call: HttpCall) -> bool:
    """Whether a request carries a file: it takes as long as it takes, as long as it goes on."""
    return call.source is not None or call.form is not None or call.data_uris is not None


def source_span(call: HttpCall) -> tuple[int, int]:
    """Which bytes of the source are sent, as (first, how many)."""
    size = call.source.stat().st_size if call.source else 0
    start, most = call.span or (0, size)
    return start, min(most, max(0, size - start))


async def file_chunks(source: Path, start: int, length: int, on_progress: Callable[[], None]) -> AsyncIterator[bytes]:
    """A part of a file; `on_progress` is called for every piece."""
    async with await anyio.open_file(source, "rb") as file:
        await file.seek(start)
        while length > 0 and (piece := await file.read(min(CHUNK, length))):
            length -= len(piece)
            on_progress()
            yield piece


async def body_chunks(body: bytes, on_progress: Callable[[], None]) -> AsyncIterator[bytes]:
    """A body that is long enough to be sent in pieces; `on_progress` is called for every one."""
    for start in range(0, len(body), CHUNK):
        on_progress()
        yield body[start : start + CHUNK]


def data_uri_json(files: Mapping[str, tuple[tuple[Path, str], ...]]) -> bytes:
    """The JSON object whose members are lists of data URIs."""
    return json.dumps(
        {name: [_data_uri(path, kind) for path, kind in listed] for name, listed in files.items()}
    ).encode()


def _data_uri(path: Path, content_type: str) -> str:
    return f"data:{content_type};base64,{base64.b64encode(path.read_bytes()).decode()}"


async def save_download(
    body: AsyncIterator[bytes], headers: Mapping[str, str], into: Path, limit: int, on_progress: Callable[[], None]
) -> Download:
    """Write what is downloaded into a file; `on_progress` is called for every piece.

    Raises:
        TooLarge: more than `limit` bytes.
        OutputLost: fewer bytes than its headers say.
        StorageFailed: the file cannot be written.
    """
    digest, size = hashlib.sha256(), 0
    declared = headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limit:
        raise _download_size_error(limit)
    with _map_write_errors():
        file = await anyio.open_file(into, "wb")
    try:
        async for piece in body:
            on_progress()
            size += len(piece)
            if size > limit:
                raise _download_size_error(limit)
            digest.update(piece)
            with _map_write_errors():
                await file.write(piece)
    finally:
        with _map_write_errors():
            await file.aclose()
    if declared.isdigit() and int(declared) != size:
        raise OutputLost("The file came back shorter than it should be.", hint="Try again.")
    return Download(digest.hexdigest(), size, headers.get("content-type", "").split(";")[0].strip().lower())


async def require_minimum_speed(body: AsyncIterator[bytes], clock: Callable[[], float]) -> AsyncIterator[bytes]:
    """The same pieces, as long as they come faster than a trickle that would hold us for days.

    Raises:
        SlowHost: they do not.
    """
    since, size = clock(), 0
    async for piece in body:
        yield piece
        size += len(piece)
        passed = clock() - since
        if passed >= _SPEED_WINDOW_SECONDS:
            if size < MIN_BYTES_PER_SECOND * min(
                passed, 2 * _SPEED_WINDOW_SECONDS
            ):  # a pause of this process is no fault of the host
                raise slow_host_error()
            since, size = clock(), 0


def slow_host_error() -> SlowHost:
    """A host gives a file, but so slowly that it would not be here in any time."""
    return SlowHost("The host of the file sends it too slowly.", hint="Try again later, or fetch it yourself.")


async def stream_lines(body: AsyncIterator[bytes], on_progress: Callable[[], None]) -> AsyncIterator[bytes]:
    """The lines of a stream; `on_progress` is called for every one. What has no end of a line, or no end, is left."""
    rest, size = b"", 0
    async for piece in body:
        size += len(piece)
        *lines, rest = (rest + piece).splitlines(keepends=True) or [b""]
        if rest.endswith((b"\n", b"\r")):
            lines, rest = [*lines, rest], b""
        for line in lines:
            on_progress()
            yield line.rstrip(b"\r\n")
        if len(rest) > _MAX_LINE_BYTES or size > _MAX_STREAM_BYTES:
            return
    if rest:
        on_progress()
        yield rest


@contextmanager
def _map_write_errors() -> Iterator[None]:
    """What the disk refuses; an error of the network passes."""
    try:
        yield
    except OSError as error:
        raise StorageFailed(
            "A file that was being fetched could not be written.", hint="Free some space in ROTOSCOPE_HOME."
        ) from error


def _download_size_error(limit: int) -> TooLarge:
    return TooLarge(f"The file has more than {limit // (1024 * 1024)} MB.", hint="Use a smaller file.")


def download_error(status: int) -> OutputLost:
    """What it means that the host of a file answered with this status."""
    expired = status in (401, 403, 404, 410)
    return OutputLost(
        f"The file could not be fetched: its host answered {status}.",
        hint="It may have expired." if expired else "Try again later.",
        code="output_expired" if expired else "download_failed",
    )
