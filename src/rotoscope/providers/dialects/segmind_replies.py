"""What Segmind's replies mean: refusals, the one-shot result, the states of `v2`, and a row of the history."""

import base64
import re
from collections.abc import Iterable, Mapping

from rotoscope.errors import RotoscopeError
from rotoscope.providers.dialects.error_map import (
    broke,
    empty,
    gone,
    invalid,
    is_of_another_run,
    lost,
    refused,
    unanswered,
)
from rotoscope.providers.dialects.failures import code_of_words, message_of
from rotoscope.providers.dialects.provider_text import cleaned, is_done, number, quoted, said, unknown_status
from rotoscope.providers.dialects.urls import identifier, web_url
from rotoscope.providers.http.messages import Json, Reply
from rotoscope.providers.states import (
    Blob,
    Call,
    Failed,
    Open,
    Prediction,
    Ready,
    Succeeded,
    Ticket,
    Waiting,
    Working,
)

__all__ = [
    "failure_of",
    "has_failed",
    "read_answer",
    "read_history_row",
    "read_one_shot",
    "read_refusal",
    "read_status",
    "speaks_of_credit",
]

# --- refusals

_NOT_ACCEPTABLE = 406
_FAILED_RUN = 422
_CREDIT = re.compile(r"\b(credits?|balance|cap|limits?)\b", re.IGNORECASE)
_CONTENT_TYPE = re.compile(r"content[ -]?type", re.IGNORECASE)


def read_refusal(reply: Reply) -> RotoscopeError:
    """What a refusal of a submit means."""
    return _unacceptable(reply) if reply.status == _NOT_ACCEPTABLE else refused(reply)


def speaks_of_credit(reply: Reply) -> bool:
    """Whether a 406 is about money, and not about the form of the request."""
    return reply.status == _NOT_ACCEPTABLE and bool(_CREDIT.search(said(reply) or ""))


def _unacceptable(reply: Reply) -> RotoscopeError:
    if _CONTENT_TYPE.search(said(reply) or "") and not speaks_of_credit(reply):
        return invalid(
            reply, "The provider does not take the form of our request.", "Report this as a defect of rotoscope."
        )
    return broke(reply)


def has_failed(reply: Reply) -> bool:
    """Whether a reply tells of a run that failed, which is a normal body under HTTP 422."""
    return (reply.ok or reply.status == _FAILED_RUN) and reply.fields().get("status") == "FAILED"


def failure_of(reply: Reply, ticket: Ticket | None) -> Failed:
    """The end of a run that failed."""
    return _failure(ticket, reply.fields().get("error"), charged=False)


def _failure(ticket: Ticket | None, error: Json, *, charged: bool | None) -> Failed:
    words = quoted(error)
    code = code_of_words(words)
    return Failed(ticket, code, message_of(code), words, charged=charged)


# --- v1: the reply is the result


def read_one_shot(reply: Reply, call: Call) -> Prediction:
    """Read the reply to a v1 request, which is the result itself."""
    name = identifier(reply.headers.get("x-request-id"))
    ticket = Ticket(name, call.endpoint) if name else None
    fields = reply.fields()
    if has_failed(reply):
        return failure_of(reply, ticket)
    if reply.status == 500 and quoted(fields.get("error")):  # noqa: PLR2004 - a 502 to 504 is not Segmind's own word
        message = "The provider could not run the model."
        return Failed(ticket, "provider_error", message, quoted(fields.get("error")), charged=False)
    if not reply.ok:
        raise read_refusal(reply)
    output = _output(reply)
    if output is None:
        raise lost(reply)
    if _is_error(output):
        # Only 200 is billed, and this is one: whether an error under it was charged, no document says.
        return _failure(ticket, fields.get("error") or fields, charged=None)
    return Succeeded(ticket, output, _metrics(reply))


def _is_error(output: Json | Blob) -> bool:
    """Whether what came in place of a result are words of an error, and no address of anything beside them."""
    if not isinstance(output, dict) or not quoted(output.get("error") or output.get("detail")):
        return False
    return not any("://" in text for name, text in _members(output) if name not in {"error", "detail", "message"})


def _members(output: Mapping[str, Json]) -> Iterable[tuple[str, str]]:
    return ((name, text) for name, value in output.items() for text in _all_texts(value))


def _all_texts(value: Json, depth: int = 4) -> Iterable[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list) and depth:
        for part in value.values() if isinstance(value, dict) else value:
            yield from _all_texts(part, depth - 1)


def _output(reply: Reply) -> Json | Blob:
    """The media in the reply, as bytes or as base64 in JSON; else the JSON itself; None for anything else."""
    kind = reply.content_type
    if kind.startswith(("image/", "video/", "audio/")):
        return Blob(reply.body, kind) if reply.body else None
    if blob := _media(reply.body):
        return blob
    if kind not in {"application/json", ""}:
        return None
    parsed = reply.json()
    return next(filter(None, map(_decoded, _texts(parsed))), None) or (parsed if _is_result(parsed) else None)


def _is_result(parsed: Json) -> bool:
    return isinstance(parsed, dict | list) and bool(parsed)


def _texts(parsed: Json) -> Iterable[str]:
    """Where base64 may stand. The member's name is documented nowhere; `image` was seen, so it goes first."""
    match parsed:
        case str():
            yield parsed
        case dict():
            values = (parsed.get("image"), *parsed.values())
            yield from (value for value in values if isinstance(value, str))


def _decoded(text: str) -> Blob | None:
    plain = "".join(text.rpartition("base64,")[2].split())
    try:
        return _media(base64.b64decode(plain, validate=True))
    except ValueError:
        return None


_SIGNS = (
    (re.compile(rb"\x89PNG\r\n\x1a\n"), "image/png"),
    (re.compile(rb"\xff\xd8\xff"), "image/jpeg"),
    (re.compile(rb"RIFF.{4}WEBP", re.DOTALL), "image/webp"),
    (re.compile(rb"GIF8[79]a"), "image/gif"),
    (re.compile(rb".{4}ftyp", re.DOTALL), "video/mp4"),
)


def _media(content: bytes) -> Blob | None:
    return next((Blob(content, kind) for sign, kind in _SIGNS if sign.match(content)), None)


_NUMBERS = {
    "x-cost": "cost",
    "x-generation-time": "generation_time",
    "x-remaining-credits": "remaining_credits",
    "x-seed-value": "seed",
}


def _metrics(reply: Reply) -> dict[str, Json]:
    told = reply.fields().get("metrics")
    metrics: dict[str, Json] = dict(told) if isinstance(told, dict) else {}
    for header, name in _NUMBERS.items():
        if (value := number(reply.headers.get(header))) is not None:
            metrics[name] = value
    if sandbox := _sandbox(reply.headers):
        metrics["sandbox"] = sandbox
    return metrics


def _sandbox(headers: Mapping[str, str]) -> dict[str, Json]:
    """What the sandbox says beside a v1 result; the wire has no other place for it."""
    told: dict[str, Json] = {
        name: cleaned(headers[f"x-sandbox-{name}"])
        for name in ("method", "confidence", "notice")
        if f"x-sandbox-{name}" in headers
    }
    if "confidence" in told:
        confidence = number(headers["x-sandbox-confidence"])
        told["confidence"] = None if confidence is None else float(confidence)
    return told


# --- v2: a status, then a result


def read_answer(reply: Reply, about: Open) -> Prediction:
    """Read the answer about a v2 run."""
    fields = reply.fields()
    if is_of_another_run(fields, about.ticket):
        raise unanswered(reply)
    if has_failed(reply):
        return failure_of(reply, about.ticket)
    if reply.status in {404, 410}:
        return gone(about.ticket)
    if not reply.ok or not isinstance(fields.get("status"), str):
        raise unanswered(reply)
    if not isinstance(about, Ready):
        return read_status(fields, about.ticket)
    if fields["status"] != "COMPLETED" and not (is_done(fields["status"]) and fields.get("output")):
        raise unanswered(reply)
    return _result(reply, about.ticket)


def read_status(fields: Mapping[str, Json], ticket: Ticket) -> Prediction:
    """Read the status of a v2 run."""
    match fields.get("status"):
        case "QUEUED":
            return Waiting(ticket)
        case "PROCESSING":
            return Working(ticket)
        case "COMPLETED":
            return Ready(ticket)
        case word if is_done(word) and fields.get("output"):
            return Ready(ticket)
        case word:
            return Working(ticket, note=unknown_status(word))


def _result(reply: Reply, ticket: Ticket) -> Prediction:
    output = reply.fields().get("output")
    return empty(ticket) if output is None else Succeeded(ticket, output, _metrics(reply))


# --- the history: the only place where a v1 request can be asked about


def read_history_row(reply: Reply, ticket: Ticket) -> Prediction:
    """Read what the history keeps of a request."""
    if reply.status in {404, 410}:
        return gone(ticket)
    fields = reply.fields()
    if not reply.ok or not isinstance(fields.get("model_status"), str) or is_of_another_run(fields, ticket):
        raise unanswered(reply)
    match fields["model_status"]:
        case "PENDING":
            return Working(ticket)
        case "COMPLETED":
            url = web_url(fields.get("generation_url"))
            return empty(ticket) if url is None else Succeeded(ticket, url, {"cost": fields.get("credits_deduction")})
        case "FAILED":
            return _failure(ticket, fields.get("error"), charged=False)
        case word:
            return Working(ticket, note=unknown_status(word))
