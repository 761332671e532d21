"""The files of results at their signed addresses: whole or one range of it, for as long as the address opens.

A wrong or expired signature, an unknown file and a name that is none all get the same answer.
"""

import logging
import re
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio
import anyio.to_thread
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from rotoscope.errors import RotoscopeError
from rotoscope.media.file_addresses import FILES_PATH, FileAddresses, is_file_name
from rotoscope.media.sniff import content_type_of_name
from rotoscope.server.http.guard import Refusal

__all__ = ["ByteRange", "FileServing", "file_routes", "read_range"]

_log = logging.getLogger(__name__)
_CHUNK = 256 * 1024  # bytes in memory for each file that is sent
_UNKNOWN = Refusal(404, "There is no such file, or its address has expired: get_job gives a new one.")
_BUSY = Refusal(503, "Too many files are being read. Try again.", {"retry-after": "1"})
_AWAY = Refusal(503, "The files cannot be read now. Try again.", {"retry-after": "5"})
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")
_SAFE = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",  # the address is a key
    "accept-ranges": "bytes",
}
_ANY_PAGE = {"access-control-allow-origin": "*", "cross-origin-resource-policy": "cross-origin"}
"""Chats show pictures in pages of theirs, and read them to draw on them. The address alone gives the right."""
_SHOWN_DIGITS = 12
_SHUT = "sandbox; default-src 'none'"
_MEDIA_PAGE = f"{_SHUT}; img-src 'self'; media-src 'self'; style-src 'unsafe-inline'"
"""A browser shows a picture or a film in a page of its own making, whose parts this lets in; nothing runs in it."""


@dataclass(frozen=True, slots=True)
class FileServing:
    """What the file route needs.

    Attributes:
        addresses: judges signatures.
        open_file: a local path of a stored file by its hash, for the time of a block; None where there is none.
        most: how many files are sent at once.
    """

    addresses: FileAddresses
    open_file: Callable[[str], AbstractAsyncContextManager[Path | None]]
    most: int


@dataclass(frozen=True, slots=True)
class ByteRange:
    """A part of a file: its first byte, and the byte after its last."""

    start: int
    end: int


def file_routes(serving: FileServing) -> list[BaseRoute]:
    """The route of files."""
    return [Route(f"{FILES_PATH}{{name}}", endpoint=_FileEndpoint(serving), methods=["GET", "HEAD"])]


def read_range(text: str | None, size: int) -> ByteRange | None:
    """The part of a file that a Range header asks for; None for the whole, also where it asks for several parts.

    Raises:
        ValueError: the file has no such part.
    """
    found = _RANGE.fullmatch(text.strip()) if text is not None else None
    if found is None or not (found[1] or found[2]):
        return None
    if not found[1]:
        last = int(found[2])
        if last == 0 or size == 0:
            raise ValueError(text)
        return ByteRange(max(size - last, 0), size)
    start, end = int(found[1]), min(int(found[2]), size - 1) + 1 if found[2] else size
    if found[2] and int(found[2]) < start:
        return None  # no range at all, which is as if there were none
    if start >= size:
        raise ValueError(text)
    return ByteRange(start, end)


class _FileEndpoint:
    """Answers for one file."""

    def __init__(self, serving: FileServing) -> None:
        self._serving = serving
        self._open = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope)
        if not self._has_address(request):
            await _UNKNOWN.response()(scope, receive, send)
        elif self._open >= self._serving.most:
            await _BUSY.response()(scope, receive, send)
        else:
            self._open += 1
            try:
                async with self._find_answer(request) as answer:
                    await answer(scope, receive, send)
            finally:
                self._open -= 1

    def _has_address(self, request: Request) -> bool:
        name, query = request.path_params["name"], request.query_params.multi_items()
        if not is_file_name(name) or len(query) != 1:
            return False
        return self._serving.addresses.can_read(name, *query[0])

    @asynccontextmanager
    async def _find_answer(self, request: Request) -> AsyncIterator[Response]:
        """The answer to a request whose address is valid; the file stays open for the time of the block."""
        name = request.path_params["name"]
        async with AsyncExitStack() as closing:
            try:
                path = await closing.enter_async_context(self._serving.open_file(name.partition(".")[0]))
                size = -1 if path is None else (await anyio.to_thread.run_sync(path.stat)).st_size
            except (RotoscopeError, OSError):
                _log.warning("a file cannot be read", exc_info=True)
                yield _AWAY.response()
                return
            if path is None or path.name != name:
                yield _UNKNOWN.response()
            else:
                yield _file_response(request, path, size)


def _file_response(request: Request, path: Path, size: int) -> Response:
    """The whole file or a part of it, its head, or that it has not changed or has no such part."""
    shown, content_type = next(iter(request.query_params)), content_type_of_name(path.name)
    tag = f'"{path.stem}"'
    headers = {
        **_SAFE,
        "etag": tag,
        "cache-control": "private, max-age=86400, immutable",
        "content-security-policy": _MEDIA_PAGE if shown == "inline" else _SHUT,
        "content-disposition": f'{shown}; filename="{path.stem[:_SHOWN_DIGITS]}{path.suffix}"',
        **(_ANY_PAGE if content_type.startswith("image/") else {}),
    }
    if _names_tag(request.headers.get("if-none-match"), tag):
        return Response(status_code=304, headers=headers)
    headers["content-type"] = content_type
    if request.method == "HEAD":
        return Response(headers={**headers, "content-length": str(size)})
    wanted = request.headers.get("range") if request.headers.get("if-range") in (None, tag) else None
    try:
        part = read_range(wanted, size)
    except ValueError:
        return Refusal(416, "The file has no such part.", {"content-range": f"bytes */{size}"}).response()
    whole = ByteRange(0, size) if part is None else part
    headers["content-length"] = str(whole.end - whole.start)
    if part is not None:
        headers["content-range"] = f"bytes {part.start}-{part.end - 1}/{size}"
    return StreamingResponse(_read_chunks(path, whole), 200 if part is None else 206, headers)


def _names_tag(text: str | None, tag: str) -> bool:
    """Whether an If-None-Match header names a tag, strong or weak."""
    return text is not None and any(one.strip().removeprefix("W/") in (tag, "*") for one in text.split(","))


async def _read_chunks(path: Path, part: ByteRange) -> AsyncIterator[bytes]:
    """The bytes of a part, a little at a time."""
    async with await anyio.open_file(path, "rb") as opened:
        await opened.seek(part.start)
        left = part.end - part.start
        while left > 0 and (chunk := await opened.read(min(left, _CHUNK))):
            left -= len(chunk)
            yield chunk
