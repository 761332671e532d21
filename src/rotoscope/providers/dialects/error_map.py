"""The error or failure for a reply that holds no prediction, by HTTP status and text.

There are two tables, for two requests. To a *submit*, only a definite refusal proves that nothing was accepted; any
other reply is `ReplyLost`, because the request must then not be sent again. To an *ask*, any unclear reply is
`ProviderDown`, because asking again is free. The statuses and their meaning are from the providers' error documents;
none of them documents 408 and 409, so these prove nothing.
"""

import re
from collections.abc import Callable, Mapping

from rotoscope.errors import (
    Busy,
    InvalidInput,
    OutOfCredit,
    ProviderDown,
    ProviderError,
    Refused,
    ReplyLost,
    RotoscopeError,
)
from rotoscope.providers.dialects.failures import is_out_of_credit
from rotoscope.providers.dialects.provider_text import reply_message
from rotoscope.providers.dialects.retry_after import retry_after
from rotoscope.providers.http.messages import Json, Reply
from rotoscope.providers.states import Failed, Ticket

__all__ = [
    "auth_error",
    "busy_error",
    "credit_error",
    "expiry_failure",
    "invalid_input_error",
    "is_of_another_run",
    "no_output_failure",
    "parse_status",
    "poll_error",
    "reply_lost_error",
    "submit_error",
    "upload_error",
]


def submit_error(reply: Reply) -> RotoscopeError:
    """The error for a reply to a submit that is no prediction.

    Gateways in front of a model put an error code of their own under a status that says something else: an account
    without money under 403, a model that none of their channels serves under 503. Such a code proves that the request
    was sent to no model.
    """
    code = _gateway_error_code(reply)
    if reply.status in _GATEWAY_REFUSALS and is_out_of_credit(code):
        return credit_error(reply)
    if reply.status == 403 and is_out_of_credit(reply_message(reply)):  # noqa: PLR2004 - the wire's own number
        return credit_error(reply)
    if code in _NO_SUCH_MODEL:
        return _unknown_model_error(reply)
    return _TO_SUBMIT.get(reply.status, invalid_input_error if _is_refusal(reply) else reply_lost_error)(reply)


_GATEWAY_REFUSALS = frozenset({400, 401, 402, 403, 422, 429, 503})
_NO_SUCH_MODEL = frozenset({"model_not_found", "no_available_channel"})


def _gateway_error_code(reply: Reply) -> str:
    """The error code in the form of one-api, new-api and OpenAI: `error.code`, else `error.type`; "" without one."""
    fields = reply.fields()
    error = fields.get("error")
    named = (error.get("code"), error.get("type")) if isinstance(error, dict) else (fields.get("code"),)
    return next((code for code in named if isinstance(code, str) and code), "")


def poll_error(reply: Reply) -> ProviderError:
    """The error for a reply to an ask that is no prediction."""
    return _TO_ASK.get(reply.status, _no_status_error)(reply)


def parse_status(reply: Reply, ticket: Ticket) -> dict[str, Json] | Failed:
    """The fields of a reply to an ask, with a status in them; a failure when the provider has deleted the prediction.

    Raises:
        ProviderError: the reply has no status, or is about another prediction.
    """
    if reply.status in {404, 410}:
        return expiry_failure(ticket)
    fields = reply.fields()
    if not reply.is_success or not isinstance(fields.get("status"), str) or is_of_another_run(fields, ticket):
        raise poll_error(reply)
    return fields


def is_of_another_run(fields: Mapping[str, Json], ticket: Ticket) -> bool:
    """Whether a reply names another prediction than the ticket's: it then says nothing about the ticket's."""
    named = (fields.get(name) for name in ("id", "request_id"))
    shown_id = next((one for one in named if isinstance(one, str) and one), None)
    return shown_id is not None and shown_id != ticket.id


def upload_error(reply: Reply) -> ProviderError:
    """The error for a reply to an upload that names no file."""
    return _TO_UPLOAD.get(reply.status, _file_refusal if _is_refusal(reply) else _no_address_error)(reply)


def _is_refusal(reply: Reply) -> bool:
    return 400 <= reply.status < 500 and reply.status not in {408, 409}  # noqa: PLR2004 - what a definite 4xx is


def _no_status_error(reply: Reply) -> ProviderDown:
    return ProviderDown(
        f"The provider's answer (HTTP {reply.status}) says nothing about the prediction.",
        hint="The prediction goes on at the provider; ask again.",
        provider_message=reply_message(reply),
    )


def _file_refusal(reply: Reply) -> ProviderError:
    return ProviderError(
        "The provider did not take the file.",
        hint="Give the file as a public https URL, or a smaller file.",
        provider_message=reply_message(reply),
    )


def _no_address_error(reply: Reply) -> ProviderDown:
    return ProviderDown(
        f"The provider's answer (HTTP {reply.status}) does not say where the file is.",
        hint="Uploads are free; try again.",
        provider_message=reply_message(reply),
    )


def _unknown_model_error(reply: Reply) -> InvalidInput:
    return invalid_input_error(reply, "The provider has no such model.", "Check the model's endpoint and version.")


def _wrong_method_error(reply: Reply) -> InvalidInput:
    """The error for 405: the address exists there, and takes no such request."""
    return invalid_input_error(
        reply,
        "The provider takes no such request at this address.",
        "Check the base URL that is set for the provider, and the model's endpoint.",
    )


def invalid_input_error(
    reply: Reply,
    message: str = "The provider does not accept the input.",
    hint: str = "Change what the provider names.",
    code: str = "invalid_input",
) -> InvalidInput:
    """The error for a request that the provider refused before it ran anything; nothing was spent."""
    return InvalidInput(message, hint=hint, code=code, provider_message=reply_message(reply))


def auth_error(reply: Reply) -> Refused:
    """The error for a key that the provider does not accept, or whose account it has locked."""
    if _LOCKED.search(reply_message(reply) or ""):
        return _account_lock_error(reply)
    return Refused(
        "The provider does not accept the key.",
        hint="Check the provider's key and what its account may do.",
        provider_message=reply_message(reply),
    )


_LOCKED = re.compile(r"\b(user|account|organi[sz]ation)\b.{0,30}\b(locked|suspended|disabled|banned)\b", re.IGNORECASE)


def _account_lock_error(reply: Reply) -> Refused:
    return Refused(
        "The provider has locked the account.",
        hint="Ask the provider's support why; the key itself may be good.",
        provider_message=reply_message(reply),
    )


def credit_error(reply: Reply) -> OutOfCredit:
    """The error for an account without money; nothing was spent."""
    return OutOfCredit(
        "The provider's account has no credit left.",
        hint="Add credit at the provider, then start again.",
        provider_message=reply_message(reply),
    )


def busy_error(reply: Reply) -> Busy:
    """The error for too many requests; nothing was accepted. It has the seconds to wait where the reply names them."""
    return Busy(
        "The provider takes no more requests just now.",
        hint="Wait a little, then try again.",
        provider_message=reply_message(reply),
        retry_after=retry_after(reply),
    )


def reply_lost_error(reply: Reply) -> ReplyLost:
    """The error for a submit that may or may not have been accepted: the reply proves neither."""
    return ReplyLost(
        f"The provider's answer (HTTP {reply.status}) does not say whether it accepted the request.",
        hint="Do not send it again before the provider's list of recent predictions was checked.",
        provider_message=reply_message(reply),
    )


def expiry_failure(ticket: Ticket, *, charged: bool | None = None) -> Failed:
    """The final state of a prediction that the provider has deleted, or whose result it has."""
    return Failed(ticket, code="output_expired", message="The provider no longer has the result.", charged=charged)


def no_output_failure(ticket: Ticket, logs: tuple[str, ...] = ()) -> Failed:
    """The final state of a prediction that "succeeded" without an output; the run is paid for."""
    return Failed(
        ticket,
        code="provider_protocol",
        message="The provider reports success without an output.",
        charged=True,
        logs=logs,
    )


_TO_ASK: Mapping[int, Callable[[Reply], ProviderError]] = {401: auth_error, 403: auth_error, 429: busy_error}
_TO_UPLOAD: Mapping[int, Callable[[Reply], ProviderError]] = {**_TO_ASK, 402: credit_error}
_TO_SUBMIT: Mapping[int, Callable[[Reply], RotoscopeError]] = {
    **_TO_UPLOAD,
    404: _unknown_model_error,
    405: _wrong_method_error,
    408: reply_lost_error,
    409: reply_lost_error,
    410: _unknown_model_error,
}
