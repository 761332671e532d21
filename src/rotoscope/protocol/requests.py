"""What every request passes on its way in and every error on its way out, over any transport.

Clients write the arguments of a call as JSON in a text, and an empty object as an empty list: what is meant is taken,
what is not is refused by name. An error repeats no more of what was asked than a person reads.

A client counts the seconds from when it sent a request, also while the server is still loading: so whoever reads the
lines of a session sets the time at which each came in. The SDK serves each message in a copy of its reader's context,
so that time is known where the request is served, and nowhere else.
"""

import json
import time
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import replace
from typing import Any

from mcp import MCPError
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp_types import INVALID_PARAMS, ErrorData

from rotoscope.contracts.characters import is_blank

__all__ = ["arrival_time", "check_request", "set_arrival_time", "shorten_error"]

_WITH_ARGUMENTS = {"tools/call", "prompts/get"}
_LONGEST_WORDS, _LONGEST_ECHO = 800, 100
_SCALARS = (bool, int, float)
_ARRIVAL_TIME: ContextVar[float | None] = ContextVar("arrival", default=None)


async def check_request(ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
    """Serve a request as it is meant.

    Raises:
        MCPError: its arguments are no object; or whatever its handler raises, with a short message.
    """
    try:
        if ctx.method in _WITH_ARGUMENTS and ctx.params is not None and "arguments" in ctx.params:
            meant = _read_arguments(ctx.method, ctx.params["arguments"])
            ctx = replace(ctx, params={**ctx.params, "arguments": meant})
        return await call_next(ctx)
    except MCPError as error:
        raise MCPError.from_error_data(shorten_error(error.error)) from error


def shorten_error(error: ErrorData) -> ErrorData:
    """The same error with at most some 200 characters of what it repeats of the request."""
    data, words = error.data, error.message
    if isinstance(data, Mapping):
        for value in data.values():
            if isinstance(value, str) and value:
                words = words.replace(value, _limit_text(value, _LONGEST_ECHO))
        data = {name: _limit_text(value, _LONGEST_ECHO) for name, value in data.items()}
    changed = {"message": _limit_text(words, _LONGEST_WORDS)}
    return error.model_copy(update=changed if data is None else {**changed, "data": _limit_text(data, _LONGEST_ECHO)})


def _limit_text(value: Any, longest: int) -> Any:
    return value[:longest] + "…" if isinstance(value, str) and len(value) > longest else value


def _read_arguments(method: str, given: Any) -> dict[str, Any] | None:
    found = _decode_arguments(given)
    if found is None or (isinstance(found, list) and not found):
        return {}
    if not isinstance(found, dict):
        kind = "a text that is no JSON object" if isinstance(given, str) else "no object"
        raise MCPError(INVALID_PARAMS, f"The arguments of {method} are {kind}. Give an object with a member for each.")
    return found if method == "tools/call" else {name: _argument_text(value) for name, value in found.items()}


def _decode_arguments(given: Any) -> Any:
    if not isinstance(given, str):
        return given
    if is_blank(given):
        return None
    try:
        return json.loads(given)
    except (ValueError, RecursionError):
        return given


def _argument_text(value: Any) -> Any:
    """The arguments of a prompt are texts."""
    if value is None:
        return ""
    return json.dumps(value) if isinstance(value, _SCALARS) else value


def set_arrival_time(at: float) -> None:
    """Set when the line that is read next came in, in seconds of `time.monotonic`."""
    _ARRIVAL_TIME.set(at)


def arrival_time() -> float:
    """When the request that is served here came in, in seconds of `time.monotonic`; now, where that was not set."""
    at = _ARRIVAL_TIME.get()
    return time.monotonic() if at is None else at
