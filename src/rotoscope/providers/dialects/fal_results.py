"""How a run at fal ends, and how a request is refused there: fal's error types and texts, and our codes for them.

Facts: "request errors" and the queue's pages in fal's documentation. An error is `detail` (a text, an object, or a list
in pydantic's form), beside it `error_type`, which may stand in the header `X-Fal-Error-Type` alone. A run that failed
says little in its status ("Unprocessable Entity"); the reason is in the reply to the question for its result.
"""

import re
from collections.abc import Mapping
from dataclasses import replace

from rotoscope.errors import RotoscopeError
from rotoscope.providers.dialects.error_map import (
    credit_error,
    expiry_failure,
    invalid_input_error,
    no_output_failure,
    poll_error,
    submit_error,
)
from rotoscope.providers.dialects.failures import POLICY, failure_code, failure_message, is_out_of_credit, is_policy
from rotoscope.providers.dialects.fal_billing import billable_units
from rotoscope.providers.dialects.provider_text import error_text, reply_message
from rotoscope.providers.http.messages import Json, Reply
from rotoscope.providers.states import Canceled, Failed, Prediction, Ready, Succeeded, Ticket

__all__ = ["is_credit_refusal", "read_fal_refusal", "read_final_status", "read_result"]


def read_fal_refusal(reply: Reply) -> RotoscopeError:
    """The error for a refused submit."""
    if is_credit_refusal(reply):
        return credit_error(reply)
    fields = reply.fields()
    if _is_content_refusal(reply, fields) and reply.status in {400, 403, 422}:
        return invalid_input_error(
            reply,
            "The provider's content policy refuses the input.",
            "Change the prompt or the media.",
            POLICY,
        )
    return submit_error(reply)


def is_credit_refusal(reply: Reply) -> bool:
    """Whether the account has no money left. fal mostly says so under 403, which has other meanings too."""
    return reply.status == 402 or (reply.status == 403 and is_out_of_credit(reply_message(reply)))  # noqa: PLR2004 - the wire's own numbers


def read_final_status(fields: Mapping[str, Json], ticket: Ticket, logs: tuple[str, ...]) -> Prediction:
    """The state for a completed run with an error. A failed one is `Ready` once more: its result has the reason."""
    end = _end_of_kind(_error_type(fields), ticket, error_text(fields.get("error")), logs)
    return Ready(ticket, logs, failure=end) if isinstance(end, Failed) else end


def read_result(reply: Reply, about: Ready) -> Prediction:
    """Read the reply to the question for a result.

    fal repeats the model's own error status here. It is distinguished from a reply that failed on its way (the question
    is then repeated) by its content: a known error type, or fal's own form of an error, `detail`, under a status that
    no gateway on the way gives. Where the run is known to have failed already, any reply is the last one.
    """
    if about.failure is not None:
        return _add_billed_units(_failure_with_details(reply, about, about.failure), reply)
    if reply.status in {404, 410}:
        return expiry_failure(about.ticket)
    if reply.is_success and reply.status != 202:  # noqa: PLR2004 - 202 is fal's word for "still running"
        return _add_billed_units(_read_output(reply, about), reply)
    return _add_billed_units(_end_of_run(reply, about), reply)


def _add_billed_units(end: Prediction, reply: Reply) -> Prediction:
    """The final state with the units of fal's bill that its reply names; a run without a result that has some was
    charged.
    """
    units = billable_units(reply)
    match end:
        case Succeeded():
            return replace(end, metrics={**end.metrics, **units})
        case Failed() | Canceled() if any(units.values()):
            return replace(end, charged=True, metrics={**end.metrics, **units})
    return end


def _failure_with_details(reply: Reply, about: Ready, known: Failed) -> Prediction:
    """The final state of a run that is known to have failed, with the details where this reply has them."""
    fields = reply.fields()
    if reply.is_success and reply.status != 202 and set(fields) - _STATUS_FIELDS:  # noqa: PLR2004 - "still running"
        return _read_output(reply, about)  # there is a result after all
    if reply.is_success or reply.status in _INCONCLUSIVE:
        return known
    try:
        end = _end_of_run(reply, about)
    except RotoscopeError:
        return known
    if not isinstance(end, Failed):
        return end
    # An error type from the status says more than a code that is guessed from an HTTP status.
    vague = end.code in _GENERIC_CODES and known.code not in _GENERIC_CODES
    return (
        replace(known, provider_message=end.provider_message or known.provider_message)
        if vague
        else replace(end, provider_message=end.provider_message or known.provider_message)
    )


def _end_of_run(reply: Reply, about: Ready) -> Prediction:
    fields = reply.fields()
    if reply.status in _INCONCLUSIVE or _is_unfinished(reply, fields):
        raise poll_error(reply)
    if reply.headers.get("x-fal-request-timeout-type") == "user":
        return _end_of_kind("request_timeout", about.ticket, reply_message(reply), about.logs)
    kind = _error_kind(reply, fields)
    if kind in _ENDS_BY_TYPE or kind == _CANCEL_TYPE or is_policy(kind):
        return _end_of_kind(kind, about.ticket, reply_message(reply), about.logs)
    types = _detail_types(fields)
    if types or (fields.get("detail") and _is_model_error(reply.status)):
        return _end_by_detail(types, reply, about)
    raise poll_error(reply)


_INCONCLUSIVE = frozenset({202, 401, 402, 403, 408, 409, 425, 429})
"""HTTP statuses that are about the question, the key or the load, and say nothing of the run."""

_GENERIC_CODES = frozenset({"prediction_failed", "invalid_input", "provider_error"})

_STATUS_FIELDS = frozenset({
    "status", "request_id", "gateway_request_id", "response_url", "status_url", "cancel_url", "logs", "metrics",
    "error", "error_type", "detail", "queue_position",
})  # fmt: skip
"""The members of a status; a reply with any other member is an output."""


def _is_model_error(status: int) -> bool:
    """Whether fal's own error form under this status is the end of the run: 502 to 504 may pass."""
    return 400 <= status <= 500  # noqa: PLR2004 - client errors, and the plain server error


def _is_unfinished(reply: Reply, fields: Mapping[str, Json]) -> bool:
    return fields.get("status") in ("IN_QUEUE", "IN_PROGRESS") or "in progress" in (reply_message(reply) or "").lower()


def _read_output(reply: Reply, about: Ready) -> Prediction:
    match reply.json():
        case None if reply.body.strip() == b"null":
            return no_output_failure(about.ticket, about.logs)
        case None:
            raise poll_error(reply)
        case output:
            return Succeeded(about.ticket, output, about.metrics, about.logs)


# The types of `detail` that are about the input: pydantic's own and fal's for media.
_INPUT_ERROR_TYPE = re.compile(
    r"missing|enum|extra_forbidden|(value|literal|assertion)_error|(greater|less)_than.*|multiple_of"
    r"|.*_(type|parsing|too_(large|small|long|short)|pattern_mismatch|load_error|download_error|format)"
)

_GENERIC_ERROR = "Internal Server Error"
"""The text of an unexpected error, either in the model or in fal's queue."""


def _detail_types(fields: Mapping[str, Json]) -> list[str]:
    detail = fields.get("detail")
    items = detail if isinstance(detail, list) else [detail]
    return [kind for item in items if isinstance(item, dict) and isinstance(kind := item.get("type"), str)]


def _error_type(fields: Mapping[str, Json]) -> str:
    kind = fields.get("error_type")
    return kind if isinstance(kind, str) else ""


def _error_kind(reply: Reply, fields: Mapping[str, Json]) -> str:
    return _error_type(fields) or reply.headers.get("x-fal-error-type", "")


def _is_content_refusal(reply: Reply, fields: Mapping[str, Json]) -> bool:
    types = _detail_types(fields)
    return any(map(is_policy, (*types, _error_kind(reply, fields)))) or (not types and is_policy(reply_message(reply)))


def _end_by_detail(types: list[str], reply: Reply, about: Ready) -> Failed:
    """The failure of a run that ended with the model's error: by the types of its details, else by text and status."""
    text = reply_message(reply)
    code = failure_code(text)
    about_input = all(map(_INPUT_ERROR_TYPE.fullmatch, types)) if types else reply.status < 500  # noqa: PLR2004 - a 4xx
    if any(map(is_policy, types)) or (not types and code == POLICY):
        code = POLICY
    elif about_input:
        code = "invalid_input"
    elif not types and text == _GENERIC_ERROR:
        # It may be the model's failure or one on the way, so `charged` is unknown and the job can be taken up again.
        message = "The provider could not give the result."
        return Failed(about.ticket, "provider_error", message, text, logs=about.logs)
    return Failed(about.ticket, code, failure_message(code), text, charged=False, logs=about.logs)


def _end_of_kind(kind: str, ticket: Ticket, text: str | None, logs: tuple[str, ...]) -> Prediction:
    if kind == _CANCEL_TYPE:
        return Canceled(ticket, charged=False, logs=logs)
    code = POLICY if is_policy(kind) else failure_code(text)
    code, message = _ENDS_BY_TYPE.get(kind, (code, failure_message(code)))
    return Failed(ticket, code, message, text, charged=False, logs=logs)


_CANCEL_TYPE = "client_cancelled"
_PROVIDER_FAULTS = (
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
_ENDS_BY_TYPE: Mapping[str, tuple[str, str]] = {
    "request_timeout": ("rate_limited", "The run did not start in time."),
    "bad_request": ("invalid_input", "The provider does not accept the input."),
    **dict.fromkeys(_PROVIDER_FAULTS, ("provider_error", "The provider could not run the model.")),
}
"""Our code and message for fal's error types; any other type is the model's own failure."""
