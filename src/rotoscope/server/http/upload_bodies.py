"""The bodies of uploads: read in bounded memory, with limits on bytes and time that trust nothing the client says."""

from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import anyio

from rotoscope.errors import InvalidInput, RotoscopeError, StorageFailed, TooLarge

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

__all__ = ["BodyEnd", "BodyLimits", "BodySlots", "ReceivedBody", "TooBusy", "read_form_file", "write_body"]

_WRITE_BYTES = 1024 * 1024  # that are collected before they are written
_FORM_OVERHEAD = 1024 * 1024  # bytes of a form beside its file

BodyEnd = Literal["whole", "cut_off", "too_slow"]


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """What one process takes of uploads.

    Attributes:
        at_once: bodies that come at once.
        at_once_per_principal: of one principal.
        idle_seconds: how long nothing of a body may come.
        grace_seconds: how long a body may come at any rate.
        least_rate: bytes a second that it must have come at, after that.
    """

    at_once: int = 32
    at_once_per_principal: int = 4
    idle_seconds: float = 30.0
    grace_seconds: float = 60.0
    least_rate: float = 4096.0


@dataclass(frozen=True, slots=True)
class ReceivedBody:
    """How many bytes were written, and how the body ended."""

    size: int
    end: BodyEnd


class TooBusy(RotoscopeError):
    """Too many files are coming in at once."""

    code = "busy"


@dataclass(slots=True)
class BodySlots:
    """Counts the bodies that are coming in, by principal."""

    limits: BodyLimits
    _open: Counter[str] = field(default_factory=Counter)

    @contextmanager
    def hold(self, principal: str) -> Iterator[None]:
        """One more body, for the time of the block.

        Raises:
            TooBusy: there are as many as there may be.
        """
        if self._open[principal] >= self.limits.at_once_per_principal or self._open.total() >= self.limits.at_once:
            raise TooBusy("Too many files are being received.", hint="Try again in a few seconds.")
        self._open[principal] += 1
        try:
            yield
        finally:
            self._open[principal] -= 1
            if not self._open[principal]:
                del self._open[principal]


async def write_body(
    chunks: AsyncIterator[bytes],
    target: Path,
    limits: BodyLimits,
    *,
    most: int,
    skip: int = 0,
    clock: Callable[[], float] = anyio.current_time,
) -> ReceivedBody:
    """Write a body to a file, as far as it comes.

    Args:
        chunks: the body.
        target: the file.
        limits: how slowly it may come.
        most: its largest size in bytes.
        skip: how many of its first bytes are not written, because they came before.
        clock: the time in seconds.

    Raises:
        TooLarge: it has more bytes.
        StorageFailed: the file cannot be written.
    """
    begun, came = clock(), 0
    end: BodyEnd = "whole"
    try:
        async with await anyio.open_file(target, "wb") as file:
            waiting = bytearray()
            while True:
                chunk = await _next_chunk(chunks, limits.idle_seconds)
                if isinstance(chunk, str):
                    end = chunk
                    break
                waiting += chunk[max(0, skip - came) :]
                came += len(chunk)
                if came > most:
                    raise TooLarge(f"The body has more than {most} bytes.", hint="Send a smaller file.")
                if len(waiting) >= _WRITE_BYTES:
                    await file.write(bytes(waiting))
                    waiting.clear()
                if clock() - begun > limits.grace_seconds + came / limits.least_rate:
                    end = "too_slow"
                    break
            await file.write(bytes(waiting))
    except OSError as error:
        raise StorageFailed("The file cannot be written here.", hint="Free some space, then try again.") from error
    return ReceivedBody(max(0, came - skip), end)


async def _next_chunk(chunks: AsyncIterator[bytes], seconds: float) -> bytes | BodyEnd:
    """The next bytes, or how the body ended."""
    from starlette.requests import ClientDisconnect

    with anyio.move_on_after(seconds):
        try:
            return await anext(chunks)
        except StopAsyncIteration:
            return "whole"
        except ClientDisconnect:
            return "cut_off"
    return "too_slow"


async def read_form_file(chunks: AsyncIterator[bytes], content_type: str) -> AsyncIterator[bytes]:
    """The content of the first file in a `multipart/form-data` body; what else is in it is dropped.

    Raises:
        InvalidInput: it is no such form, or there is no file in it.
    """
    from python_multipart.exceptions import FormParserError
    from python_multipart.multipart import MultipartParser, parse_options_header

    boundary = parse_options_header(content_type)[1].get(b"boundary")
    if not boundary:
        raise _form_error("The form has no boundary.")
    form, beside = _FormFile(), 0
    try:
        parser = MultipartParser(boundary, form.callbacks())
        async for chunk in chunks:
            parser.write(chunk)
            content = b"".join(form.pieces)
            form.pieces.clear()
            beside += len(chunk) - len(content)
            if beside > _FORM_OVERHEAD:
                raise _form_error("The form holds too much beside its file.")
            if content:
                yield content
    except FormParserError as error:
        raise _form_error("The form cannot be read.") from error
    if not form.is_complete:
        raise _form_error("There is no file in the form.")


def _form_error(message: str) -> InvalidInput:
    return InvalidInput(message, hint="Choose a file, or send it as the body of a PUT.", code="no_file")


@dataclass(slots=True)
class _FormFile:
    """The first file of a form, as the parser finds it."""

    pieces: list[bytes] = field(default_factory=list)
    has_file: bool = False
    is_complete: bool = False
    _is_inside: bool = False
    _name: bytes = b""
    _disposition: bytes = b""
    _value: bytes = b""

    def callbacks(self) -> "MultipartCallbacks":
        """What the parser calls."""
        return {
            "on_part_begin": self._begin_part,
            "on_header_field": self._add_name,
            "on_header_value": self._add_value,
            "on_header_end": self._end_header,
            "on_headers_finished": self._end_headers,
            "on_part_data": self._add_data,
            "on_part_end": self._end_part,
        }

    def _begin_part(self) -> None:
        self._disposition = b""

    def _add_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _add_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        if self._name.lower() == b"content-disposition":
            self._disposition = self._value
        self._name = self._value = b""

    def _end_headers(self) -> None:
        from python_multipart.multipart import parse_options_header

        options = parse_options_header(self._disposition)[1]
        # A browser sends an empty name where no file was chosen.
        self._is_inside = not self.has_file and bool(options.get(b"filename"))
        self.has_file = self.has_file or self._is_inside

    def _add_data(self, data: bytes, start: int, end: int) -> None:
        if self._is_inside:
            self.pieces.append(data[start:end])

    def _end_part(self) -> None:
        self.is_complete = self.is_complete or self._is_inside
        self._is_inside = False
