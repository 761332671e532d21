"""What each provider answers when it refuses, in its own words. Pure: from a fault and an operation to a reply.

Sources: the providers' public pages on errors and limits, and answers that users have shown.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from http import HTTPStatus

from rotoscope_sandbox.faults.definitions import Fault
from rotoscope_sandbox.faults.operations import Action, Operation

__all__ = ["HttpReply", "error_reply", "json_reply", "refusal_reply"]

_THROTTLED = "Request was throttled. Your rate limit resets in ~{}s."
_EXHAUSTED = "User is locked. Reason: Exhausted balance. Top up your balance at fal.ai/dashboard/billing."
_CREDIT_STATUS = {"replicate": 402, "fal": 403, "segmind": 406}
_UNKNOWN_KEY = {
    "replicate": "You did not pass a valid authentication token",
    "fal": "Authentication is required to access this application.",
    "segmind": "Invalid API key",
}
_FLAGGED = "The input was flagged as sensitive by the content checker."
_UNREADABLE = "The input could not be used."
_UNPROCESSABLE = 422


@dataclass(frozen=True, slots=True)
class HttpReply:
    """A whole answer; header names are in lower case."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def is_success(self) -> bool:
        """Whether the status is any of 200 to 299."""
        return self.status // 100 == 2  # noqa: PLR2004 - the class of success


def json_reply(body: object, status: int, headers: Mapping[str, str] | None = None) -> HttpReply:
    """A reply in JSON."""
    return HttpReply(status, {"content-type": "application/json", **(headers or {})}, json.dumps(body).encode())


def error_reply(family: str, status: int, text: str, error_type: str = "") -> HttpReply:
    """An error in a wire's form: Replicate like RFC 7807, fal with `detail`, Segmind with `error`."""
    if family == "replicate":
        return json_reply({"title": _phrase(status), "detail": text, "status": status}, status)
    if family == "segmind":
        return json_reply({"error": text}, status)
    typed = {"error_type": error_type} if error_type else {}
    headers = {"x-fal-error-type": error_type} if error_type else {}
    return json_reply({"detail": text} | typed, status, headers)


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"


def refusal_reply(fault: Fault, operation: Operation, now: float) -> HttpReply:
    """What the provider answers to an operation that a fault refuses. `now` is in seconds since the epoch."""
    family = operation.family
    match fault.name:
        case "throttled":
            return _throttle(family, now, fault.text("retry-after"))
        case "odd-throttle":
            return _odd_throttle(fault, family, now)
        case "server-error" | "poll-error":
            return _server_error(fault, operation)
        case "no-credit":
            return _no_credit(fault, family)
        case "input-refused":
            return _input_refusal(fault, family)
        case name:
            text = _UNKNOWN_KEY.get(family) if name in ("key-refused", "key-revoked") else None
            return error_reply(family, fault.integer("status"), text or _phrase(fault.integer("status")))


def _throttle(family: str, now: float, after: str) -> HttpReply:
    seconds = int(after) if after.isdecimal() else 30
    text = _THROTTLED.format(seconds)
    if family == "segmind":
        return json_reply({"error": text}, 429, {"x-rate-limit-reset-at-utc": _utc(now + seconds)})
    return json_reply({"detail": text}, 429, {"retry-after": after})


def _odd_throttle(fault: Fault, family: str, now: float) -> HttpReply:
    """A 429 whose headers are as odd as the fault asks for; without any, only the text says how long."""
    seconds = fault.integer("seconds")
    headers = {}
    if (after := fault.text("retry-after")) != "none":
        date = format_datetime(datetime.fromtimestamp(now + seconds, UTC), usegmt=True)
        headers["retry-after"] = date if after == "date" else after
    if (reset := fault.text("reset")) != "none":
        headers["x-rate-limit-reset-at-utc"] = _utc(now + seconds) if reset == "date" else reset
    name = "error" if family == "segmind" else "detail"
    return json_reply({name: _THROTTLED.format(seconds)}, 429, headers)


def _utc(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _server_error(fault: Fault, operation: Operation) -> HttpReply:
    """A server error: in JSON from the application, in HTML from whatever stands in front of it.

    Segmind's v1 bills only 200, so its own JSON says that nothing was made: that a run was accepted and its answer
    lost can only come from the machine in front.
    """
    status, form = fault.integer("status"), fault.text("body")
    is_lost = operation.action is Action.SUBMIT and fault.is_accepted and operation.family == "segmind"
    if form == "html" or (form == "auto" and is_lost):
        page = f"<html><head><title>{status} {_phrase(status)}</title></head></html>"
        return HttpReply(status, {"content-type": "text/html"}, page.encode())
    return error_reply(operation.family, status, _phrase(status), "internal_error")


def _no_credit(fault: Fault, family: str) -> HttpReply:
    asked = fault.text("status")
    status = int(asked) if asked != "auto" else _CREDIT_STATUS.get(family, 402)
    if family == "replicate":
        detail = "You need to set up billing to run this model."
        return json_reply({"title": "Billing required", "detail": detail, "status": status}, status)
    if family == "segmind":
        return json_reply({"error": "Not enough credits"}, status)
    text = _EXHAUSTED if status == _CREDIT_STATUS["fal"] else "Payment required: no credit is left."
    return json_reply({"detail": text}, status)


def _input_refusal(fault: Fault, family: str) -> HttpReply:
    is_policy = fault.text("kind") == "policy"
    text = _FLAGGED if is_policy else _UNREADABLE
    if family == "segmind":
        return error_reply(family, 400, text)
    kind = "content_policy_violation" if is_policy else "value_error"
    if family == "replicate":
        fields = [{"type": kind, "field": "input", "description": text}]
        body = {"title": "Input validation failed", "detail": f"- input: {text}\n", "status": _UNPROCESSABLE}
        return json_reply(body | {"invalid_fields": fields}, _UNPROCESSABLE)
    row = {"loc": ["body", "prompt"], "msg": text, "type": kind, "url": f"https://docs.fal.ai/errors#{kind}"}
    return json_reply({"detail": [row]}, _UNPROCESSABLE)
