"""What a reply stands for that holds no prediction: one error or failure for each case, in our words.

Two questions, two tables. To a *submit*, only a definite refusal proves that nothing was accepted; every doubt is
`ReplyLost`, because the request must then not be sent again. To an *ask*, every doubt is `ProviderDown`, because
asking again is free. The numbers and what they mean: the providers' error documents; 408 and 409 are documented by
none of them, so they count as doubt.
"""

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
from rotoscope.predictions.dialects.pauses import pause
from rotoscope.predictions.dialects.words import said
from rotoscope.predictions.states import Failed, Ticket
from rotoscope.wire.messages import Json, Reply

__all__ = [
    "broke",
    "busy",
    "empty",
    "gone",
    "heard",
    "invalid",
    "lost",
    "refused",
    "unanswered",
    "unasked",
    "untaken",
]


def refused(reply: Reply) -> RotoscopeError:
    """What a reply that is no prediction means as the answer to a submit."""
    return _TO_SUBMIT.get(reply.status, invalid if _refuses(reply) else lost)(reply)


def unanswered(reply: Reply) -> ProviderError:
    """What a reply that is no prediction means as the answer to an ask."""
    return _TO_ASK.get(reply.status, _silent)(reply)


def heard(reply: Reply, ticket: Ticket) -> dict[str, Json] | Failed:
    """The fields of an answer that tells a status; a failure when there is nothing to tell of any more.

    Raises:
        ProviderError: the answer says nothing.
    """
    if reply.status in {404, 410}:
        return gone(ticket)
    fields = reply.fields()
    if not reply.ok or not isinstance(fields.get("status"), str):
        raise unanswered(reply)
    return fields


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


def invalid(
    reply: Reply,
    message: str = "The provider does not accept the input.",
    hint: str = "Change what the provider names.",
    code: str = "invalid_input",
) -> InvalidInput:
    """The provider refused the request itself, before it ran anything; nothing was spent."""
    return InvalidInput(message, hint=hint, code=code, said=said(reply))


def unasked(reply: Reply) -> Refused:
    """The provider does not let this key in."""
    return Refused(
        "The provider does not accept the key.",
        hint="Check the provider's key and what its account may do.",
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
    405: _unknown,
    408: lost,
    409: lost,
    410: _unknown,
}
