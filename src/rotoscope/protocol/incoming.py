"""What a client's line says: messages, or the one error that answers a line which is none. Pure.

Every line that can have an answer gets one. What surely is a reply or a notification never does, however broken.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

from mcp_types import (
    INVALID_REQUEST,
    PARSE_ERROR,
    JSONRPCError,
    JSONRPCNotification,
    JSONRPCRequest,
    JSONRPCResponse,
)
from pydantic import BaseModel, ValidationError
from pydantic_core import from_json

from rotoscope.protocol.lines import RequestId, error_line, read_outline, strip_line

__all__ = ["Batch", "ErrorReply", "Message", "parse_line"]

BATCH_REVISION = "2025-03-26"
"""The one revision in which a line may be an array of messages."""

_MAX_BATCH_SIZE = 256
_LARGEST_EXACT_INTEGER = 2.0**53
_NO_JSON = "The line is not JSON in UTF-8, or is nested too deep, or has a number of too many digits."
_NO_REQUEST = "This is no JSON-RPC 2.0 request"
_MEMBER_ERRORS = {
    "jsonrpc": 'its member jsonrpc is not "2.0"',
    "id": "its id is no text and no whole number",
    "method": "its method is no text",
    "params": "its params are no object",
}

Message: TypeAlias = JSONRPCRequest | JSONRPCNotification | JSONRPCResponse | JSONRPCError
MessageT = TypeVar("MessageT", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class ErrorReply:
    """The error that answers what is no request.

    Attributes:
        request_id: as it was given, where it can be made out; else None.
    """

    request_id: RequestId
    code: int
    message: str

    def to_line(self) -> str:
        """As it is written."""
        return error_line(self.request_id, self.code, self.message).decode()


@dataclass(frozen=True, slots=True)
class Batch:
    """The messages of one array, whose answers go out as one array."""

    parts: tuple[Message | ErrorReply, ...]


def parse_line(line: str | bytes, revision: str = "") -> Message | ErrorReply | Batch | None:
    """What a line says; None for what says nothing and wants no answer.

    Args:
        line: one line as it was read; characters that are no UTF-8 become U+FFFD where they stand in a text.
        revision: the protocol's revision as its client asked for it, once it has.
    """
    written = strip_line(line.encode("utf-8", "surrogatepass") if isinstance(line, str) else line)
    if not written:
        return None
    try:
        found = from_json(written.decode("utf-8", "replace"))
    except ValueError:
        return _parse_error_reply(written)
    return _read_batch(found, revision) if isinstance(found, list) else _read_message(found)


def _parse_error_reply(written: bytes) -> ErrorReply | None:
    outline = read_outline(written)
    if outline is None or not outline.is_answer_expected:
        return None
    return ErrorReply(outline.request_id, PARSE_ERROR, _NO_JSON)


def _read_batch(found: list[object], revision: str) -> Batch | ErrorReply | None:
    if revision != BATCH_REVISION:
        return ErrorReply(None, INVALID_REQUEST, f"{_NO_REQUEST}: an array is read only in a {BATCH_REVISION} session.")
    if not found or len(found) > _MAX_BATCH_SIZE:
        return ErrorReply(None, INVALID_REQUEST, f"{_NO_REQUEST}: an array holds 1 to {_MAX_BATCH_SIZE} messages.")
    parts = tuple(part for one in found if (part := _read_message(one, in_batch=True)) is not None)
    return Batch(parts) if parts else None


def _read_message(found: object, *, in_batch: bool = False) -> Message | ErrorReply | None:
    if not isinstance(found, dict):
        return ErrorReply(None, INVALID_REQUEST, f"{_NO_REQUEST}: it is no object.")
    if "method" not in found:
        return _read_reply(found)
    if "id" not in found or _is_null_id_notification(found):
        notice = {name: value for name, value in found.items() if name != "id"}
        return _validate_message(JSONRPCNotification, notice, lambda _: None)
    request_id = _reply_id(found)
    if isinstance(request_id, float | None) or (in_batch and found["method"] == "initialize"):
        reason = _MEMBER_ERRORS["id"] if isinstance(request_id, float | None) else "initialize stands alone"
        return ErrorReply(request_id, INVALID_REQUEST, f"{_NO_REQUEST}: {reason}.")

    def refuse(wrong: str) -> ErrorReply:
        return ErrorReply(
            request_id, INVALID_REQUEST, f"{_NO_REQUEST}: {_MEMBER_ERRORS.get(wrong, 'it has another form')}."
        )

    return _validate_message(JSONRPCRequest, {**found, "id": request_id}, refuse)


def _read_reply(found: Mapping[str, object]) -> Message | ErrorReply | None:
    """A reply to what we asked; one that cannot be read is left alone, for nothing answers a reply."""
    if "result" in found:
        return _validate_message(JSONRPCResponse, found, lambda _: None)
    if "error" in found:
        return _validate_message(JSONRPCError, found, lambda _: None)
    return ErrorReply(_reply_id(found), INVALID_REQUEST, f"{_NO_REQUEST}: it has no method.")


def _is_null_id_notification(found: Mapping[str, object]) -> bool:
    """Whether it is a notification of a client that writes out the id which it does not have."""
    return found["id"] is None and str(found["method"]).startswith("notifications/")


def _reply_id(found: Mapping[str, object]) -> RequestId:
    """The id to answer under; a whole number that is written as a fraction is that number."""
    given = found.get("id")
    if isinstance(given, float) and given.is_integer() and abs(given) < _LARGEST_EXACT_INTEGER:
        return int(given)
    if isinstance(given, bool) or not isinstance(given, int | float | str):
        return None
    try:
        json.dumps(given, allow_nan=False)
    except ValueError:  # not finite
        return None
    return given


def _validate_message(
    kind: type[MessageT], found: Mapping[str, Any], otherwise: Callable[[str], ErrorReply | None]
) -> MessageT | ErrorReply | None:
    try:
        return kind.model_validate(found, by_name=False)
    except ValidationError as error:
        where = error.errors(include_url=False, include_context=False, include_input=False)[0]["loc"]
        return otherwise(str(where[0]) if where else "")
