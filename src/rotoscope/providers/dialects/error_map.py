"""What a reply stands for that holds no prediction: one error or failure for each case, in our words.

Two questions, two tables. To a *submit*, only a definite refusal proves that nothing was accepted; every doubt is
`ReplyLost`, because the request must then not be sent again. To an *ask*, every doubt is `ProviderDown`, because
asking again is free. The numbers and what they mean: the providers' error documents; 408 and 409 are documented by
none of them, so they count as doubt.
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
from rotoscope.providers.dialects.provider_text import said
from rotoscope.providers.dialects.retry_after import pause
from rotoscope.providers.http.messages import Json, Reply
from rotoscope.providers.states import Failed, Ticket

__all__ = [
    "broke",
    "busy",
    "empty",
    "gone",
    "heard",
    "invalid",
    "is_of_another_run",
    "lost",
    "refused",
    "unanswered",
    "unasked",
    "untaken",
]


def refused(reply: Reply) -> RotoscopeError:
    """What a reply that is no prediction means as the answer to a submit.

    Gateways in front of a model answer by a word of their own under numbers that say something else: an account
    without money under 403, a model that no channel of theirs serves under 503. What they name was sent to nobody.
    """
    word = _gateway_word(reply)
    if reply.status in _GATEWAY_REFUSALS and is_out_of_credit(word):
        return broke(reply)
    if reply.status == 403 and is_out_of_credit(said(reply)):  # noqa: PLR2004 - the wire's own number
        return broke(reply)
    if word in _NO_SUCH_MODEL:
        return _unknown(reply)
    return _TO_SUBMIT.get(reply.status, invalid if _refuses(reply) else lost)(reply)


_GATEWAY_REFUSALS = frozenset({400, 401, 402, 403, 422, 429, 503})
_NO_SUCH_MODEL = frozenset({"model_not_found", "no_available_channel"})


def _gateway_word(reply: Reply) -> str:
    """The word for the kind of an error in the form of one-api, new-api and OpenAI: `error.code`, else `error.type`."""
    fields = reply.fields()
    error = fields.get("error")
    named = (error.get("code"), error.get("type")) if isinstance(error, dict) else (fields.get("code"),)
    return next((word for word in named if isinstance(word, str) and word), "")


def unanswered(reply: Reply) -> ProviderError:
    """What a reply that is no prediction means as the answer to an ask."""
    return _TO_ASK.get(reply.status, _silent)(reply)


def heard(reply: Reply, ticket: Ticket) -> dict[str, Json] | Failed:
    """The fields of an answer that tells a status; a failure when there is nothing to tell of any more.

    Raises:
        ProviderError: the answer says nothing, or tells of another prediction.
    """
    if reply.status in {404, 410}:
        return gone(ticket)
    fields = reply.fields()
    if not reply.ok or not isinstance(fields.get("status"), str) or is_of_another_run(fields, ticket):
        raise unanswered(reply)
    return fields


def is_of_another_run(fields: Mapping[str, Json], ticket: Ticket) -> bool:
    """Whether an answer names another prediction than the one that was asked about: then it says nothing of ours."""
    named = (fields.get(name) for name in ("id", "request_id"))
    told = next((one for one in named if isinstance(one, str) and one), None)
    return told is not None and told != ticket.id


def untaken(reply: Reply) -> ProviderError:
    """What a reply to an upload means that names no file."""
    return _TO_UPLOAD.get(reply.status, _unwanted if _refuses(reply) else _unplaced)(reply)


def _refuses(reply: Reply) -> bool:
    return 400 <= reply.status < 500 and reply.status not in {408, 409}  # noqa: PLR2004 - what a definite 4xx is


def _silent(reply: Reply) -> ProviderDown:
    return ProviderDown(
        f"The provider's answer (HTTP {reply.status}) says nothing about the prediction.",
        hint="The prediction goes on at the provider; ask again.",
        said=said(reply),
    )


def _unwanted(reply: Reply) -> ProviderError:
    return ProviderError(
        "The provider did not take the file.",
        hint="Give the file as a public https URL, or a smaller file.",
        said=said(reply),
    )


def _unplaced(reply: Reply) -> ProviderDown:
    return ProviderDown(
        f"The provider's answer (HTTP {reply.status}) does not say where the file is.",
        hint="Uploads are free; try again.",
        said=said(reply),
    )


def _unknown(reply: Reply) -> InvalidInput:
    return invalid(reply, "The provider has no such model.", "Check the model's endpoint and version.")


def _wrong_method(reply: Reply) -> InvalidInput:
    """405: the address is known there, and takes no such request."""
    return invalid(
        reply,
        "The provider takes no such request at this address.",
        "Check the base URL that is set for the provider, and the model's endpoint.",
    )


def invalid(
    reply: Reply,
    message: str = "The provider does not accept the input.",
    hint: str = "Change what the provider names.",
    code: str = "invalid_input",
) -> InvalidInput:
    """The provider refused the request itself, before it ran anything; nothing was spent."""
    return InvalidInput(message, hint=hint, code=code, said=said(reply))


def unasked(reply: Reply) -> Refused:
    """The provider does not let this key in, or has locked its account."""
    if _LOCKED.search(said(reply) or ""):
        return _account_lock(reply)
    return Refused(
        "The provider does not accept the key.",
        hint="Check the provider's key and what its account may do.",
        said=said(reply),
    )


_LOCKED = re.compile(r"\b(user|account|organi[sz]ation)\b.{0,30}\b(locked|suspended|disabled|banned)\b", re.IGNORECASE)


def _account_lock(reply: Reply) -> Refused:
    return Refused(
        "The provider has locked the account.",
        hint="Ask the provider's support why; the key itself may be good.",
        said=said(reply),
    )


def broke(reply: Reply) -> OutOfCredit:
    """The account has no money left; nothing was spent."""
    return OutOfCredit(
        "The provider's account has no credit left.",
        hint="Add credit at the provider, then start again.",
        said=said(reply),
    )


def busy(reply: Reply) -> Busy:
    """Too many requests; nothing was accepted. Carries the seconds to wait where the reply names them."""
    return Busy(
        "The provider takes no more requests just now.",
        hint="Wait a little, then try again.",
        said=said(reply),
        after=pause(reply),
    )


def lost(reply: Reply) -> ReplyLost:
    """The submit may or may not have been accepted: the reply proves neither."""
    return ReplyLost(
        f"The provider's answer (HTTP {reply.status}) does not say whether it accepted the request.",
        hint="Do not send it again before the provider's list of recent predictions was checked.",
        said=said(reply),
    )


def gone(ticket: Ticket, *, charged: bool | None = None) -> Failed:
    """The provider keeps neither the prediction nor its result any more."""
    return Failed(ticket, code="output_expired", message="The provider no longer has the result.", charged=charged)


def empty(ticket: Ticket, logs: tuple[str, ...] = ()) -> Failed:
    """The provider says "succeeded" and gives no output; the run is paid for."""
    return Failed(
        ticket,
        code="provider_protocol",
        message="The provider reports success without an output.",
        charged=True,
        logs=logs,
    )


_TO_ASK: Mapping[int, Callable[[Reply], ProviderError]] = {401: unasked, 403: unasked, 429: busy}
_TO_UPLOAD: Mapping[int, Callable[[Reply], ProviderError]] = {**_TO_ASK, 402: broke}
_TO_SUBMIT: Mapping[int, Callable[[Reply], RotoscopeError]] = {
    **_TO_UPLOAD,
    404: _unknown,
    405: _wrong_method,
    408: lost,
    409: lost,
    410: _unknown,
}
