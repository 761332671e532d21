"""What each provider answers when it refuses, in its own words. Pure: from a fault and a deed to a reply.

Sources: the providers' public pages on errors and limits, and answers that users have shown.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from http import HTTPStatus

from rotoscope_sandbox.faults.deeds import Deed, What
from rotoscope_sandbox.faults.scenarios import Fault

__all__ = ["Reply", "as_json", "problem", "refusal"]

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
class Reply:
    """A whole answer; header names are in lower case."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


def as_json(body: object, status: int, headers: Mapping[str, str] | None = None) -> Reply:
    """A reply in JSON."""
    return Reply(status, {"content-type": "application/json", **(headers or {})}, json.dumps(body).encode())


def problem(family: str, status: int, text: str, error_type: str = "") -> Reply:
    """An error as a wire words it: Replicate like RFC 7807, fal with `detail`, Segmind with `error`."""
    if family == "replicate":
        return as_json({"title": _phrase(status), "detail": text, "status": status}, status)
    if family == "segmind":
        return as_json({"error": text}, status)
    typed = {"error_type": error_type} if error_type else {}
    headers = {"x-fal-error-type": error_type} if error_type else {}
    return as_json({"detail": text} | typed, status, headers)


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"


def refusal(fault: Fault, deed: Deed, now: float) -> Reply:
    """What the provider answers to a deed that a fault refuses. `now` is in seconds since the epoch."""
    match fault.name:
        case "F8":
            return _busy(deed.family, now, after=fault.said("retry-after"))
        case "F9":
            return _throttled(fault, deed, now)
        case "F10" | "F11":
            return _down(fault, deed)
        case "F15":
            return _no_credit(fault, deed.family)
        case "F16":
            return _refused_input(fault, deed.family)
        case name:
            key_refused = name in ("F13", "F14")
            text = _UNKNOWN_KEY.get(deed.family) if key_refused else None
            return problem(deed.family, fault.number("status"), text or _phrase(fault.number("status")))


def _busy(family: str, now: float, *, after: str) -> Reply:
    seconds = int(after) if after.isdecimal() else 30
    text = _THROTTLED.format(seconds)
    if family == "segmind":
        return as_json({"error": text}, 429, {"x-rate-limit-reset-at-utc": _utc(now + seconds)})
    return as_json({"detail": text}, 429, {"retry-after": after})


def _throttled(fault: Fault, deed: Deed, now: float) -> Reply:
    """A 429 whose headers are as odd as was asked; without any, only the text says how long."""
    seconds = fault.number("seconds")
    headers = {}
    if (after := fault.said("retry-after")) != "none":
        date = format_datetime(datetime.fromtimestamp(now + seconds, UTC), usegmt=True)
        headers["retry-after"] = date if after == "date" else after
    if (reset := fault.said("reset")) != "none":
        headers["x-rate-limit-reset-at-utc"] = _utc(now + seconds) if reset == "date" else reset
    name = "error" if deed.family == "segmind" else "detail"
    return as_json({name: _THROTTLED.format(seconds)}, 429, headers)


def _utc(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _down(fault: Fault, deed: Deed) -> Reply:
    """A server error: in JSON from the application, in HTML from whatever stands in front of it.

    Segmind's v1 bills only 200, so its own JSON says that nothing was made: one that was accepted and lost
    can only be told by the machine in front.
    """
    status, form = fault.number("status"), fault.said("body")
    lost = deed.what is What.SUBMIT and fault.accepted and deed.family == "segmind"
    if form == "html" or (form == "auto" and lost):
        page = f"<html><head><title>{status} {_phrase(status)}</title></head></html>"
        return Reply(status, {"content-type": "text/html"}, page.encode())
    return problem(deed.family, status, _phrase(status), "internal_error")


def _no_credit(fault: Fault, family: str) -> Reply:
    said = fault.said("status")
    status = int(said) if said != "auto" else _CREDIT_STATUS.get(family, 402)
    if family == "replicate":
        detail = "You need to set up billing to run this model."
        return as_json({"title": "Billing required", "detail": detail, "status": status}, status)
    if family == "segmind":
        return as_json({"error": "Not enough credits"}, status)
    return as_json({"detail": _EXHAUSTED if status == 403 else "Payment required: no credit is left."}, status)  # noqa: PLR2004 - the status that comes with these words


def _refused_input(fault: Fault, family: str) -> Reply:
    policy = fault.said("kind") == "policy"
    text = _FLAGGED if policy else _UNREADABLE
    if family == "segmind":
        return problem(family, 400, text)
    kind = "content_policy_violation" if policy else "value_error"
    if family == "replicate":
        fields = [{"type": kind, "field": "input", "description": text}]
        body = {"title": "Input validation failed", "detail": f"- input: {text}\n", "status": _UNPROCESSABLE}
        return as_json(body | {"invalid_fields": fields}, _UNPROCESSABLE)
    row = {"loc": ["body", "prompt"], "msg": text, "type": kind, "url": f"https://docs.fal.ai/errors#{kind}"}
    return as_json({"detail": [row]}, _UNPROCESSABLE)
