"""Lines as clients really send them: cut from the input within bounds, and understood as far as an answer needs it.

A line that nobody can parse may still be a request for whose answer its client waits: nested too deep, with a number of
too many digits, with half a character, cut off, in another encoding, or longer than is held. Its outline, the members
of its outermost object, tells under which id. It is read along the line in one pass, without recursion, and no more of
it is kept than some kilobytes. The standard library alone, and little of that: this stands before the first reply.
"""

import json
import re
from collections.abc import Callable, Iterator

__all__ = [
    "LONGEST_LINE",
    "LongLine",
    "MessageOutline",
    "RequestId",
    "error_line",
    "read_lines",
    "read_outline",
    "strip_line",
]

LONGEST_LINE = 20 * 1024 * 1024
"""Bytes of one line: a data URI of 10 MiB has 14 in base64, and there is more in a request."""

RequestId = int | float | str | None
"""What an answer may be given under. No request is served under a fraction or null, but each is refused under it."""

_BLANKS = b" \t\r\n\0"  # a line that was cut from UTF-16 ends or begins with half a character of its own
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_STRUCTURE = re.compile(rb'"|[\[{]+|[\]}]+')
_REST_OF_STRING = re.compile(rb'(?:[^"\\]++|\\.)*+', re.DOTALL)
_MEMBER = re.compile(rb'("(?:[^"\\]|\\.)*")\s*:\s*("(?:[^"\\]|\\.)*"|[^",{}\s]+)', re.DOTALL)
_MAX_EXCERPT_BYTES = 4_096
_MAX_STRING_BYTES = 400  # bytes of a string of the outermost object; an id of more is not found again
_MAX_STEPS = 200_000  # brackets and strings; about a tenth of a second


class MessageOutline:
    """The members of a line's outermost object, read along the line piece by piece.

    Attributes:
        is_whole: whether the line is one object from its first byte to its last, as far as brackets tell.
    """

    __slots__ = (
        "_depth",
        "_excerpt",
        "_is_in_string",
        "_rest",
        "_steps",
        "_string",
        "is_object",
        "is_over",
        "is_whole",
    )

    def __init__(self) -> None:
        self._depth = 0
        self._excerpt = bytearray()
        self._is_in_string = False
        self._rest = b""
        self._steps = 0
        self._string = bytearray()
        self.is_object = False
        self.is_over = False
        self.is_whole = True

    def add(self, piece: bytes) -> None:
        """Read on. Pieces may be cut anywhere."""
        piece, at = self._rest + piece.replace(b"\0", b""), 0
        self._rest = b""
        while at < len(piece) and not self.is_over:
            self._steps += 1
            self.is_over = self._steps > _MAX_STEPS
            at = self._scan_string(piece, at) if self._is_in_string else self._scan_structure(piece, at)
        if self.is_over and piece[at:].strip(_BLANKS):
            self.is_whole = False

    @property
    def members(self) -> dict[str, bytes]:
        """By name, the value of each member as it is written; `null` for one that holds others or is long."""
        return {_json_text(name): value for name, value in _MEMBER.findall(bytes(self._excerpt))}

    @property
    def request_id(self) -> RequestId:
        """The id under which an answer is waited for, as far as it can be made out."""
        written = self.members.get("id", b"null")
        try:
            found = json.loads(written) if len(written) <= _MAX_STRING_BYTES else None
            json.dumps(found, allow_nan=False)
            str(found).encode()
        except ValueError:  # no JSON, no finite number, half a character
            return None
        return found if isinstance(found, int | float | str) and not isinstance(found, bool) else None

    @property
    def is_answer_expected(self) -> bool:
        """Whether it is a request or may be one. Only what surely is a reply or a notification is not."""
        members = self.members
        if not self.is_object:
            return True
        if "method" not in members:
            return not members.keys() & {"result", "error"}
        notifies = _json_text(members["method"]).startswith("notifications/")
        if members.get("id", b"null") == b"null" and notifies:
            return False
        return "id" in members or not (self.is_whole and self._depth == 0)

    def _scan_structure(self, piece: bytes, at: int) -> int:
        found = _STRUCTURE.search(piece, at)
        self._append_excerpt(piece[at : found.start() if found else len(piece)])
        if found is None:
            return len(piece)
        run = found.group()
        if run == b'"':
            self._is_in_string = True
            return found.end()
        if self._depth == 0:
            return self._enter_root(piece, at, found.start())
        self._change_depth(len(run) if run[0] in b"[{" else -len(run))
        return found.end()

    def _enter_root(self, piece: bytes, at: int, start: int) -> int:
        """The first bracket of the line decides whether it is an object."""
        self.is_object = piece[start : start + 1] == b"{"
        self.is_over = not self.is_object
        self.is_whole = self.is_whole and self.is_object and not piece[at:start].strip(_BLANKS)
        self._depth = 1
        return start + 1

    def _change_depth(self, change: int) -> None:
        if change > 0 and self._depth == 1:
            self._append_excerpt(b"null")
        self._depth += change
        self.is_over = self.is_over or self._depth <= 0

    def _scan_string(self, piece: bytes, at: int) -> int:
        found = _REST_OF_STRING.match(piece, at)
        end = found.end() if found else at
        if len(self._string) <= _MAX_STRING_BYTES:
            self._string += piece[at : min(end, at + _MAX_STRING_BYTES + 1)]
        if end == len(piece):
            return end
        if piece[end : end + 1] == b"\\":  # the last byte of the piece
            self._rest = b"\\"
            return len(piece)
        self._append_excerpt(b"null" if len(self._string) > _MAX_STRING_BYTES else b'"%b"' % bytes(self._string))
        self._string.clear()
        self._is_in_string = False
        return end + 1

    def _append_excerpt(self, written: bytes) -> None:
        if self._depth == 1:
            self._excerpt += written[: max(_MAX_EXCERPT_BYTES - len(self._excerpt), 0)]
        elif self._depth == 0 and written.strip(_BLANKS):
            self.is_whole = False


class LongLine:
    """A line of more bytes than are held.

    Attributes:
        outline: what is known of it.
    """

    __slots__ = ("outline",)

    def __init__(self, outline: MessageOutline) -> None:
        self.outline = outline


def read_outline(line: bytes) -> MessageOutline | None:
    """The outline of a line; None for one that is blank."""
    if not (line := strip_line(line)):
        return None
    outline = MessageOutline()
    outline.add(line)
    return outline


def strip_line(line: bytes) -> bytes:
    """The line without byte order marks, blanks and line ends around it."""
    line = line.strip(_BLANKS)
    while line.startswith(_BYTE_ORDER_MARK):
        line = line[len(_BYTE_ORDER_MARK) :].strip(_BLANKS)
    return line


def error_line(request_id: RequestId, code: int, words: str) -> bytes:
    """An error of JSON-RPC as one line."""
    error = {"code": code, "message": words}
    return json.dumps({"jsonrpc": "2.0", "id": request_id, "error": error}).encode() + b"\n"


def read_lines(read: Callable[[], bytes], longest: int = LONGEST_LINE) -> Iterator[bytes | LongLine]:
    """The lines of an input, each with its end; the last one may have none.

    Args:
        read: the next bytes of the input, none at its end.
        longest: how many bytes of a line are held. Of what is longer the outline is read, and the rest let go.
    """
    begun: list[bytes] = []
    held, outline = 0, None
    while chunk := read():
        *ended, rest = chunk.split(b"\n")
        for part in ended:
            yield LongLine(_extend_outline(outline, part)) if outline else b"".join((*begun, part, b"\n"))
            begun, held, outline = [], 0, None
        if outline is None and held + len(rest) > longest:
            outline = MessageOutline()
            for part in begun:
                outline.add(part)
            begun = []
        if outline is not None:
            outline.add(rest)
            continue
        begun.append(rest)
        held += len(rest)
    if outline is not None:
        yield LongLine(outline)
    elif held:
        yield b"".join(begun)


def _extend_outline(outline: MessageOutline, piece: bytes) -> MessageOutline:
    outline.add(piece)
    return outline


def _json_text(written: bytes) -> str:
    try:
        found = json.loads(written)
    except ValueError:
        return ""
    return found if isinstance(found, str) else ""
