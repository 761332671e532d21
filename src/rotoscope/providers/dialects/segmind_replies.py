"""How Segmind's replies are read: refusals, the one-shot result, the states of `v2`, and a row of the history."""

import re
from collections.abc import Iterable, Mapping

from rotoscope.data_uris import read_data_uri
from rotoscope.errors import InvalidInput, RotoscopeError
from rotoscope.providers.dialects.error_map import (
    credit_error,
    expiry_failure,
    invalid_input_error,
    is_of_another_run,
    no_output_failure,
    poll_error,
    reply_lost_error,
    submit_error,
)
from rotoscope.providers.dialects.failures import failure_code, failure_message
from rotoscope.providers.dialects.provider_text import (
    clean_line,
    error_text,
    header_number,
    is_success_word,
    reply_message,
    unknown_status_note,
)
from rotoscope.providers.http.messages import Json, Reply, safe_id, web_url
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
    "has_failed",
    "is_about_credit",
    "read_history_row",
    "read_one_shot",
    "read_segmind_refusal",
    "read_v2_answer",
    "read_v2_status",
    "run_failure",
]

# --- refusals

_NOT_ACCEPTABLE = 406
_FAILED_RUN = 422
_CREDIT = re.compile(r"\b(credits?|balance|cap|limits?)\b", re.IGNORECASE)
_CONTENT_TYPE = re.compile(r"content[ -]?type", re.IGNORECASE)


def read_segmind_refusal(reply: Reply) -> RotoscopeError:
    """The error for a refused submit."""
    return _not_acceptable_error(reply) if reply.status == _NOT_ACCEPTABLE else submit_error(reply)


def is_about_credit(reply: Reply) -> bool:
    """Whether a 406 is about money, and not about the form of the request."""
    return reply.status == _NOT_ACCEPTABLE and bool(_CREDIT.search(reply_message(reply) or ""))


def _not_acceptable_error(reply: Reply) -> RotoscopeError:
    if _CONTENT_TYPE.search(reply_message(reply) or "") and not is_about_credit(reply):
        return invalid_input_error(
            reply, "The provider does not take the form of our request.", "Report this as a defect of rotoscope."
        )
    return credit_error(reply)


def has_failed(reply: Reply) -> bool:
    """Whether a reply is about a run that failed, which is a normal body under HTTP 422."""
    return (reply.is_success or reply.status == _FAILED_RUN) and reply.fields().get("status") == "FAILED"


def run_failure(reply: Reply, ticket: Ticket | None) -> Failed:
    """The final state of a run that failed."""
    return _failure_with_charge(ticket, reply.fields().get("error"), charged=False)


def _failure_with_charge(ticket: Ticket | None, error: Json, *, charged: bool | None) -> Failed:
    text = error_text(error)
    code = failure_code(text)
    return Failed(ticket, code, failure_message(code), text, charged=charged)


# --- v1: the reply is the result


def read_one_shot(reply: Reply, call: Call) -> Prediction:
    """Read the reply to a v1 request, which is the result itself."""
    name = safe_id(reply.headers.get("x-request-id"))
    ticket = Ticket(name, call.endpoint) if name else None
    fields = reply.fields()
    if has_failed(reply):
        return run_failure(reply, ticket)
    if reply.status == 500 and error_text(fields.get("error")):  # noqa: PLR2004 - 502 to 504 may come from a proxy on the way, and prove nothing
        message = "The provider could not run the model."
        return Failed(ticket, "provider_error", message, error_text(fields.get("error")), charged=False)
    if not reply.is_success:
        raise read_segmind_refusal(reply)
    output = _one_shot_output(reply)
    if output is None:
        raise reply_lost_error(reply)
    if _is_error(output):
        # Only 200 is billed, and this is one; no document says whether an error under it is charged.
        return _failure_with_charge(ticket, fields.get("error") or fields, charged=None)
    return Succeeded(ticket, output, _metrics(reply))


def _is_error(output: Json | Blob) -> bool:
    """Whether a JSON result is the text of an error, with no URL in any other member."""
    if not isinstance(output, dict) or not error_text(output.get("error") or output.get("detail")):
        return False
    return not any("://" in text for name, text in _text_members(output) if name not in {"error", "detail", "message"})


def _text_members(output: Mapping[str, Json]) -> Iterable[tuple[str, str]]:
    return ((name, text) for name, value in output.items() for text in _all_texts(value))


def _all_texts(value: Json, depth: int = 4) -> Iterable[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list) and depth:
        for part in value.values() if isinstance(value, dict) else value:
            yield from _all_texts(part, depth - 1)


def _one_shot_output(reply: Reply) -> Json | Blob:
    """The media in the reply, as bytes or as base64 in JSON; else the JSON itself; None for anything else."""
    kind = reply.content_type
    if kind.startswith(("image/", "video/", "audio/")):
        return Blob(reply.body, kind) if reply.body else None
    if blob := _sniff_media(reply.body):
        return blob
    if kind not in {"application/json", ""}:
        return None
    parsed = reply.json()
    return next(filter(None, map(_decode_base64, _base64_candidates(parsed))), None) or (
        parsed if _is_result(parsed) else None
    )


def _is_result(parsed: Json) -> bool:
    return isinstance(parsed, dict | list) and bool(parsed)


def _base64_candidates(parsed: Json) -> Iterable[str]:
    """The texts that may be base64. The member's name is not documented; `image` was seen, so it goes first."""
    match parsed:
        case str():
            yield parsed
        case dict():
            values = (parsed.get("image"), *parsed.values())
            yield from (value for value in values if isinstance(value, str))


def _decode_base64(text: str) -> Blob | None:
    """The media in a text that is a data URI or plain base64; None for any other text."""
    try:
        return _sniff_media(read_data_uri(f"data:;base64,{text.rpartition('base64,')[2]}", len(text)))
    except InvalidInput:
        return None


_SIGNATURES = (
    (re.compile(rb"\x89PNG\r\n\x1a\n"), "image/png"),
    (re.compile(rb"\xff\xd8\xff"), "image/jpeg"),
    (re.compile(rb"RIFF.{4}WEBP", re.DOTALL), "image/webp"),
    (re.compile(rb"GIF8[79]a"), "image/gif"),
    (re.compile(rb".{4}ftyp", re.DOTALL), "video/mp4"),
)


def _sniff_media(content: bytes) -> Blob | None:
    return next((Blob(content, kind) for sign, kind in _SIGNATURES if sign.match(content)), None)


_NUMBER_HEADERS = {
    "x-cost": "cost",
    "x-generation-time": "generation_time",
    "x-remaining-credits": "remaining_credits",
    "x-seed-value": "seed",
}


def _metrics(reply: Reply) -> dict[str, Json]:
    given = reply.fields().get("metrics")
    metrics: dict[str, Json] = dict(given) if isinstance(given, dict) else {}
    for header, name in _NUMBER_HEADERS.items():
        if (value := header_number(reply.headers.get(header))) is not None:
            metrics[name] = value
    if sandbox := _sandbox_metrics(reply.headers):
        metrics["sandbox"] = sandbox
    return metrics


def _sandbox_metrics(headers: Mapping[str, str]) -> dict[str, Json]:
    """What the sandbox adds to a v1 result in headers; the wire has no other place for it."""
    metrics: dict[str, Json] = {
        name: clean_line(headers[f"x-sandbox-{name}"])
        for name in ("method", "confidence", "notice")
        if f"x-sandbox-{name}" in headers
    }
    if "confidence" in metrics:
        confidence = header_number(headers["x-sandbox-confidence"])
        metrics["confidence"] = None if confidence is None else float(confidence)
    return metrics


# --- v2: a status, then a result


def read_v2_answer(reply: Reply, about: Open) -> Prediction:
    """Read the answer about a v2 run."""
    fields = reply.fields()
    if is_of_another_run(fields, about.ticket):
        raise poll_error(reply)
    if has_failed(reply):
        return run_failure(reply, about.ticket)
    if reply.status in {404, 410}:
        return expiry_failure(about.ticket)
    if not reply.is_success or not isinstance(fields.get("status"), str):
        raise poll_error(reply)
    if not isinstance(about, Ready):
        return read_v2_status(fields, about.ticket)
    if fields["status"] != "COMPLETED" and not (is_success_word(fields["status"]) and fields.get("output")):
        raise poll_error(reply)
    return _v2_result(reply, about.ticket)


def read_v2_status(fields: Mapping[str, Json], ticket: Ticket) -> Prediction:
    """Read the status of a v2 run."""
    match fields.get("status"):
        case "QUEUED":
            return Waiting(ticket)
        case "PROCESSING":
            return Working(ticket)
        case "COMPLETED":
            return Ready(ticket)
        case word if is_success_word(word) and fields.get("output"):
            return Ready(ticket)
        case word:
            return Working(ticket, note=unknown_status_note(word))


def _v2_result(reply: Reply, ticket: Ticket) -> Prediction:
    output = reply.fields().get("output")
    return no_output_failure(ticket) if output is None else Succeeded(ticket, output, _metrics(reply))


# --- the history: the only place where a v1 request can be asked about


def read_history_row(reply: Reply, ticket: Ticket) -> Prediction:
    """Read what the history keeps of a request."""
    if reply.status in {404, 410}:
        return expiry_failure(ticket)
    fields = reply.fields()
    if not reply.is_success or not isinstance(fields.get("model_status"), str) or is_of_another_run(fields, ticket):
        raise poll_error(reply)
    match fields["model_status"]:
        case "PENDING":
            return Working(ticket)
        case "COMPLETED":
            url = web_url(fields.get("generation_url"))
            return (
                no_output_failure(ticket)
                if url is None
                else Succeeded(ticket, url, {"cost": fields.get("credits_deduction")})
            )
        case "FAILED":
            return _failure_with_charge(ticket, fields.get("error"), charged=False)
        case word:
            return Working(ticket, note=unknown_status_note(word))
