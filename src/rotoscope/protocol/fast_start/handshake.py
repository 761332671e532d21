"""The opening of a session: what is answered from the stored replies, and what is kept for the server. No I/O.

The rules, as mcp 2.3.0 has them (`mcp.server.runner`):

1. The first request decides the era, once: with the envelope (`params._meta` has the version key) it is modern, else
   it is of the handshake. `initialize` is always of the handshake; a probe by `server/discover` decides nothing.
2. In the handshake era only `ping` is answered before `initialize`.
3. Only what a stored reply surely covers is answered. Everything else is kept, in order and unchanged.
4. The request that decided the era, and an `initialize`, are kept also when they were answered: the server must come to
   the same state. Its second reply to them is dropped.
5. After a line that cannot be understood here nothing more is answered: the server might understand it.
"""

import json
import re
from collections.abc import Mapping, Sequence

from rotoscope.protocol.fast_start.cached_replies import CachedReplies
from rotoscope.protocol.lines import strip_line

__all__ = ["Handshake"]

_VERSION_KEY = "io.modelcontextprotocol/protocolVersion"
_CAPABILITIES_KEY = "io.modelcontextprotocol/clientCapabilities"
_CLIENT_KEY = "io.modelcontextprotocol/clientInfo"
_RESERVED_PREFIX = "io.modelcontextprotocol/"
_MAX_LINE_BYTES = 65_536  # bytes; nothing that is answered here is longer
_MAX_BRACKETS = 150  # brackets that open; the server's parser takes 200 in one another, and no client needs as many
_MAX_DIGITS = 4_300  # digits, as the server's parser has it
_COMPLETE_ESCAPE = rb"\\(?:[^u]|u[^dD]...|u[dD][0-7]..|u[dD][89abAB]..\\u[dD][c-fC-F]..)"
_MAX_PENDING_LINES, _MAX_PENDING_BYTES = 1_000, 4 * 1024 * 1024
_MEMBERS = {"jsonrpc", "id", "method", "params"}
_OPEN_CAPABILITIES = {"experimental", "extensions"}  # capabilities whose settings are anybody's
_BOOLEAN_SETTINGS = {"listChanged", "applyDefaults"}
_REPLY_MEMBERS = {"jsonrpc", "id", "result", "error"}


class Handshake:
    """A session before the server is there.

    Attributes:
        pending_lines: lines for the server, in order.
        answered_ids: ids of kept requests whose replies were sent already.
    """

    __slots__ = ("_era", "_has_stopped", "_pending_bytes", "_replies", "_version", "answered_ids", "pending_lines")

    def __init__(self, replies: CachedReplies | None) -> None:
        self.pending_lines: list[bytes] = []
        self.answered_ids: set[int | str] = set()
        self._pending_bytes = 0
        self._replies = replies
        self._has_stopped = replies is None
        self._era = ""
        self._version = ""

    @property
    def is_full(self) -> bool:
        """Whether so much is kept that nothing more should be read until the server takes it."""
        return len(self.pending_lines) >= _MAX_PENDING_LINES or self._pending_bytes >= _MAX_PENDING_BYTES

    def answer_line(self, line: bytes) -> bytes | None:
        """The reply to a line, or None when the line was kept."""
        message = None if self._has_stopped or _can_server_refuse(line) else _parse_plain_message(strip_line(line))
        if message is None or "method" not in message or "id" not in message:
            self._has_stopped = self._has_stopped or (message is None and bool(strip_line(line)))
            self._keep_line(line)
            return None
        return self._answer_request(line, message)

    def _answer_request(self, line: bytes, message: Mapping[str, object]) -> bytes | None:
        method, params, request_id = message["method"], message.get("params"), message["id"]
        assert isinstance(method, str)
        assert isinstance(request_id, int | str)
        parts: Mapping[str, object] = params if isinstance(params, dict) else {}
        decides = self._decide_era(method, parts)
        stored = self._find_stored_parts(method, parts)
        reply = self._replies.reply_line(stored, request_id) if self._replies and stored else None
        if reply is None or decides or method == "initialize":
            self._keep_line(line)
            if reply is not None:
                self.answered_ids.add(request_id)
        return reply

    def _keep_line(self, line: bytes) -> None:
        self.pending_lines.append(line)
        self._pending_bytes += len(line)

    def _decide_era(self, method: str, params: Mapping[str, object]) -> bool:
        modern = _has_envelope(params) and method != "initialize"
        if self._era or (modern and method == "server/discover"):
            return False
        self._era = "modern" if modern else "handshake"
        return True

    def _find_stored_parts(self, method: str, params: Mapping[str, object]) -> Sequence[str] | None:
        """The parts of the stored result that answers a request, if there is one."""
        assert self._replies is not None
        if method == "initialize":
            return self._negotiate_version(params)
        if _has_envelope(params):
            version = _envelope_version(params) if self._era != "handshake" else None
            return self._replies.modern.get(version or "", {}).get(method)
        if self._era != "handshake" or not _has_only_meta(params) or not (self._version or method == "ping"):
            return None
        return self._replies.handshake[self._version or self._replies.latest].get(method)

    def _negotiate_version(self, params: Mapping[str, object]) -> Sequence[str] | None:
        assert self._replies is not None
        asked = params.get("protocolVersion")
        if self._era != "handshake" or self._version or not isinstance(asked, str) or not _is_initialize_valid(params):
            return None
        self._version = asked if asked in self._replies.handshake else self._replies.latest
        return self._replies.handshake[self._version]["initialize"]


def _parse_plain_message(line: bytes) -> dict[str, object] | None:
    """A message of plain shape; None for everything else, whatever the server will make of it."""
    if len(line) > _MAX_LINE_BYTES:
        return None
    try:
        message = json.loads(line.decode())
    except (ValueError, RecursionError):
        return None
    return message if isinstance(message, dict) and _is_plain_message(message) else None


def _can_server_refuse(line: bytes) -> bool:
    """Whether the server's parser may refuse what Python's takes: half a character, great depth, a long number."""
    if b"\\u" in line and b"\\" in re.sub(_COMPLETE_ESCAPE, b" ", line):
        return True
    if line.count(b"[") + line.count(b"{") > _MAX_BRACKETS:
        return True
    return len(line) > _MAX_DIGITS and re.search(rb"[0-9.eE+-]{%d}" % _MAX_DIGITS, line) is not None


def _is_plain_message(message: Mapping[str, object]) -> bool:
    if message.get("jsonrpc") != "2.0" or ("id" in message and not _is_id(message["id"])):
        return False
    if "method" not in message:
        return "id" in message and set(message) <= _REPLY_MEMBERS
    params = message.get("params")
    return (
        set(message) <= _MEMBERS and isinstance(message["method"], str) and (params is None or isinstance(params, dict))
    )


def _is_id(value: object) -> bool:
    return isinstance(value, int | str) and not isinstance(value, bool)


def _has_envelope(params: Mapping[str, object]) -> bool:
    meta = params.get("_meta")
    return isinstance(meta, dict) and _VERSION_KEY in meta


def _envelope_version(params: Mapping[str, object]) -> str | None:
    """The revision of an envelope that the server is sure to accept, with no parameter beside it."""
    meta = params["_meta"]
    assert isinstance(meta, dict)
    others = {key for key in meta if key.startswith(_RESERVED_PREFIX)} - {_VERSION_KEY, _CAPABILITIES_KEY, _CLIENT_KEY}
    client = meta.get(_CLIENT_KEY)
    sound = (client is None and _CLIENT_KEY not in meta) or _is_client_info(client)
    version = meta[_VERSION_KEY]
    covered = _has_only_meta(params) and not others and sound and _is_capability_map(meta.get(_CAPABILITIES_KEY))
    return version if covered and isinstance(version, str) else None


def _has_only_meta(params: Mapping[str, object]) -> bool:
    meta = params.get("_meta", {})
    return set(params) <= {"_meta"} and isinstance(meta, dict) and _is_id(meta.get("progressToken", 0))


def _is_initialize_valid(params: Mapping[str, object]) -> bool:
    """Whether the server is sure to accept these parameters of `initialize`."""
    meta = {key: value for key, value in params.items() if key == "_meta"}
    return (
        set(params) <= {"protocolVersion", "capabilities", "clientInfo", "_meta"}
        and _has_only_meta(meta)
        and _is_capability_map(params.get("capabilities"))
        and _is_client_info(params.get("clientInfo"))
    )


def _is_client_info(client: object) -> bool:
    if not isinstance(client, dict) or not {"name", "version"} <= {key for key in client if client[key] is not None}:
        return False
    texts = all(value is None or isinstance(value, str) for key, value in client.items() if key != "icons")
    return texts and _is_icon_list(client.get("icons", []))


def _is_icon_list(icons: object) -> bool:
    plain = {"src", "mimeType"}
    return isinstance(icons, list) and all(
        isinstance(icon, dict)
        and "src" in icon
        and set(icon) <= plain
        and all(isinstance(v, str) for v in icon.values())
        for icon in icons
    )


def _is_capability_map(capabilities: object) -> bool:
    if not isinstance(capabilities, dict):
        return False
    return all(
        _is_capability(value, free=1 if name in _OPEN_CAPABILITIES else None) for name, value in capabilities.items()
    )


def _is_capability(value: object, free: int | None) -> bool:
    """Objects in objects, with only the known yes-or-no in them; inside free ones, below a depth, anything."""
    if not isinstance(value, dict):
        return False
    if free == 0:
        return True
    deeper = free - 1 if free is not None else None
    return all(
        isinstance(part, bool) if name in _BOOLEAN_SETTINGS and free is None else _is_capability(part, deeper)
        for name, part in value.items()
    )
