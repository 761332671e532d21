"""How the body of a response is read, a chunk at a time: a file onto the disk, or the lines of an event stream."""

import hashlib
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio

from rotoscope.errors import OutputLost, ReplyLost, SlowHost, StorageFailed, TooLarge

__all__ = [
    "Download",
    "download_error",
    "read_body",
    "require_minimum_speed",
    "save_download",
    "slow_host_error",
    "stream_lines",
]

MIN_BYTES_PER_SECOND, _SPEED_WINDOW_SECONDS = 1024, 30.0
"""Bytes a second that a download must bring, averaged over a window of so many seconds; a slower one may never end."""

_MAX_LINE_BYTES, _MAX_STREAM_BYTES = 256 * 1024, 32 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Download:
    """A file that was fetched: its hash (hex), its size in bytes and the content type that the server named."""

    sha256: str
    size: int
    content_type: str


async def save_download(
    body: AsyncIterator[bytes], headers: Mapping[str, str], into: Path, limit: int, on_progress: Callable[[], None]
) -> Download:
    """Write a response's body into a file; `on_progress` is called for each chunk.

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
    """The same chunks, as long as they come faster than a trickle that would hold us for days.

    Raises:
        SlowHost: they do not.
    """
    since, size = clock(), 0
    async for piece in body:
        yield piece
        size += len(piece)
        passed = clock() - since
        if passed >= _SPEED_WINDOW_SECONDS:
            # At most two windows count: a longer gap is a pause of this process, which is no fault of the host.
            if size < MIN_BYTES_PER_SECOND * min(passed, 2 * _SPEED_WINDOW_SECONDS):
                raise slow_host_error()
            since, size = clock(), 0


def slow_host_error() -> SlowHost:
    """The error for a host that sends a file too slowly for it to arrive in any useful time."""
    return SlowHost("The host of the file sends it too slowly.", hint="Try again later, or fetch it yourself.")


async def stream_lines(body: AsyncIterator[bytes], on_progress: Callable[[], None]) -> AsyncIterator[bytes]:
    """The lines of a stream; `on_progress` is called for each. It ends early where a line or the stream is too long."""
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


async def read_body(body: AsyncIterator[bytes], limit: int) -> bytes:
    """The whole of a small body.

    Raises:
        ReplyLost: more than `limit` bytes.
    """
    found = bytearray()
    async for piece in body:
        found += piece
        if len(found) > limit:
            raise ReplyLost("The provider's reply is larger than any reply should be.", hint="Ask for the job again.")
    return bytes(found)


@contextmanager
def _map_write_errors() -> Iterator[None]:
    """Errors of the disk become `StorageFailed`; errors of the network pass."""
    try:
        yield
    except OSError as error:
        raise StorageFailed(
            "A file that was being fetched could not be written.", hint="Free some space in ROTOSCOPE_HOME."
        ) from error


def _download_size_error(limit: int) -> TooLarge:
    return TooLarge(f"The file has more than {limit // (1024 * 1024)} MB.", hint="Use a smaller file.")


def download_error(status: int) -> OutputLost:
    """The error for a file whose host answered with this status."""
    expired = status in (401, 403, 404, 410)
    return OutputLost(
        f"The file could not be fetched: its host answered {status}.",
        hint="It may have expired." if expired else "Try again later.",
        code="output_expired" if expired else "download_failed",
    )
