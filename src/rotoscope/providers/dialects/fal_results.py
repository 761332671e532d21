"""How a run at fal ends, and how a request is refused there: the kinds of error, their words, and our codes for them.

Facts: "request errors" and the queue's pages in fal's documentation. An error is `detail` (a text, an object, or a list
in pydantic's form), beside it `error_type`, which may stand in the header `X-Fal-Error-Type` alone. A run that failed
tells little in its status ("Unprocessable Entity"); what was wrong stands in the answer to the question for its result.
"""

import re
from collections.abc import Mapping
from dataclasses import replace

from rotoscope.errors import RotoscopeError
from rotoscope.providers.dialects.error_map import broke, empty, gone, invalid, refused, unanswered
from rotoscope.providers.dialects.failures import POLICY, code_of_words, is_out_of_credit, is_policy, message_of
from rotoscope.providers.dialects.provider_text import quoted, said
from rotoscope.providers.http.messages import Json, Reply
from rotoscope.providers.states import Canceled, Failed, Prediction, Ready, Succeeded, Ticket

__all__ = ["is_unpaid", "read_end", "read_refusal", "read_result"]


def read_refusal(reply: Reply) -> RotoscopeError:
    """What a refusal of a submit means."""
    if is_unpaid(reply):
        return broke(reply)
    fields = reply.fields()
    if _refuses_content(reply, fields) and reply.status in {400, 403, 422}:
        return invalid(
            reply,
            "The provider's content policy refuses the input.",
            "Change the prompt or the media.",
            POLICY,
        )
    return refused(reply)


def is_unpaid(reply: Reply) -> bool:
    """Whether the account has run dry. fal mostly says so under 403, which also means other locks."""
    return reply.status == 402 or (reply.status == 403 and is_out_of_credit(said(reply)))  # noqa: PLR2004 - the wire's own numbers


def read_end(fields: Mapping[str, Json], ticket: Ticket, logs: tuple[str, ...]) -> Prediction:
    """The end that a status tells. One that failed is asked for its result once: there stands what was wrong."""
    end = _end_of_kind(_error_type(fields), ticket, quoted(fields.get("error")), logs)
    return Ready(ticket, logs, failure=end) if isinstance(end, Failed) else end


def read_result(reply: Reply, about: Ready) -> Prediction:
    """Read the answer to the question for a result.

    fal repeats the model's own error status here. It is told from an answer that only failed on its way (and is
    asked for again) by what it carries: a known error type, or fal's own form of an error, `detail`, under a status
    that no gateway on the way gives. Where the status has told the failure already, any answer is the last one.
    """
    if about.failure is not None:
        return _failure_in_full(reply, about, about.failure)
    if reply.status in {404, 410}:
        return gone(about.ticket)
    if reply.ok and reply.status != 202:  # noqa: PLR2004 - 202 is fal's word for "still running"
        return _output(reply, about)
    return _end(reply, about)


def _failure_in_full(reply: Reply, about: Ready, known: Failed) -> Prediction:
    """The end of a run that is known to have failed: with the details, where this answer has them."""
    fields = reply.fields()
    if reply.ok and reply.status != 202 and set(fields) - _ABOUT_THE_RUN:  # noqa: PLR2004 - "still running"
        return _output(reply, about)  # there is a result after all, and it is not thrown away
    if reply.ok or reply.status in _NO_VERDICT:
        return known
    try:
        end = _end(reply, about)
    except RotoscopeError:
        return known
    if not isinstance(end, Failed):
        return end
    # A kind that the status has named says more than what is guessed from a number.
    vague = end.code in _VAGUE and known.code not in _VAGUE
    return replace(known, said=end.said or known.said) if vague else replace(end, said=end.said or known.said)


def _end(reply: Reply, about: Ready) -> Prediction:
    fields = reply.fields()
    if reply.status in _NO_VERDICT or _is_unfinished(reply, fields):
        raise unanswered(reply)
    if reply.headers.get("x-fal-request-timeout-type") == "user":
        return _end_of_kind("request_timeout", about.ticket, said(reply), about.logs)
    kind = _kind(reply, fields)
    if kind in _ENDS or kind == _STOPPED or is_policy(kind):
        return _end_of_kind(kind, about.ticket, said(reply), about.logs)
    types = _detail_types(fields)
    if types or (fields.get("detail") and _is_the_models(reply.status)):
        return _end_by_detail(types, reply, about)
    raise unanswered(reply)


_NO_VERDICT = frozenset({202, 401, 402, 403, 408, 409, 425, 429})
"""What is said of the question, the key or the moment, and not of the run."""

_VAGUE = frozenset({"prediction_failed", "invalid_input", "provider_error"})

_ABOUT_THE_RUN = frozenset({
    "status", "request_id", "gateway_request_id", "response_url", "status_url", "cancel_url", "logs", "metrics",
    "error", "error_type", "detail", "queue_position",
})  # fmt: skip
"""What an answer may hold without being an output."""


def _is_the_models(status: int) -> bool:
    """Whether fal's own error form under this status is the end of the run: 502 to 504 may be an answer that passes."""
    return 400 <= status <= 500  # noqa: PLR2004 - client errors, and the plain server error


def _is_unfinished(reply: Reply, fields: Mapping[str, Json]) -> bool:
    return fields.get("status") in ("IN_QUEUE", "IN_PROGRESS") or "in progress" in (said(reply) or "").lower()


def _output(reply: Reply, about: Ready) -> Prediction:
    match reply.json():
        case None if reply.body.strip() == b"null":
            return empty(about.ticket, about.logs)
        case None:
            raise unanswered(reply)
        case output:
            return Succeeded(about.ticket, output, about.metrics, about.logs)


# The types of `detail` that speak of what was given: pydantic's own and fal's for media.
_ABOUT_INPUT = re.compile(
    r"missing|enum|extra_forbidden|(value|literal|assertion)_error|(greater|less)_than.*|multiple_of"
    r"|.*_(type|parsing|too_(large|small|long|short)|pattern_mismatch|load_error|download_error|format)"
)

_SAYS_NOTHING = "Internal Server Error"
"""The words of a server that was surprised; those of a model, or of fal's queue."""


def _detail_types(fields: Mapping[str, Json]) -> list[str]:
    detail = fields.get("detail")
    items = detail if isinstance(detail, list) else [detail]
    return [kind for item in items if isinstance(item, dict) and isinstance(kind := item.get("type"), str)]


def _error_type(fields: Mapping[str, Json]) -> str:
    kind = fields.get("error_type")
    return kind if isinstance(kind, str) else ""


def _kind(reply: Reply, fields: Mapping[str, Json]) -> str:
    return _error_type(fields) or reply.headers.get("x-fal-error-type", "")


def _refuses_content(reply: Reply, fields: Mapping[str, Json]) -> bool:
    types = _detail_types(fields)
    return any(map(is_policy, (*types, _kind(reply, fields)))) or (not types and is_policy(said(reply)))


def _end_by_detail(types: list[str], reply: Reply, about: Ready) -> Failed:
    """A run that ended with an error of the model's: by the types of its details, else by its words and status."""
    words = said(reply)
    code = code_of_words(words)
    about_input = all(map(_ABOUT_INPUT.fullmatch, types)) if types else reply.status < 500  # noqa: PLR2004 - a 4xx
    if any(map(is_policy, types)) or (not types and code == POLICY):
        code = POLICY
    elif about_input:
        code = "invalid_input"
    elif not types and words == _SAYS_NOTHING:
        # It may be the model's end or a fault on the way, so nothing is said of money, and it can be taken up again.
        message = "The provider could not give the result."
        return Failed(about.ticket, "provider_error", message, words, logs=about.logs)
    return Failed(about.ticket, code, message_of(code), words, charged=False, logs=about.logs)


def _end_of_kind(kind: str, ticket: Ticket, words: str | None, logs: tuple[str, ...]) -> Prediction:
    if kind == _STOPPED:
        return Canceled(ticket, charged=False, logs=logs)
    code = POLICY if is_policy(kind) else code_of_words(words)
    code, message = _ENDS.get(kind, (code, message_of(code)))
    return Failed(ticket, code, message, words, charged=False, logs=logs)


_STOPPED = "client_cancelled"
_PROVIDERS_FAULT = (
    "startup_timeout",
    "runner_scheduling_failure",
    "runner_connection_timeout",
    "runner_disconnected",
    "runner_connection_refused",
    "runner_connection_error",
    "runner_incomplete_response",
    "runner_server_error",
    "internal_error",
    "client_disconnected",
)
_ENDS: Mapping[str, tuple[str, str]] = {
    "request_timeout": ("rate_limited", "The run did not start in time."),
    "bad_request": ("invalid_input", "The provider does not accept the input."),
    **dict.fromkeys(_PROVIDERS_FAULT, ("provider_error", "The provider could not run the model.")),
}
"""fal's `error_type` words with our code and message; any other word is the model's own failure."""
