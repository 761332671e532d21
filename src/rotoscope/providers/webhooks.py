"""Webhooks of providers, as records: which address is named to them, and what one that has come says. Pure.

A dialect whose provider sends webhooks for single runs has the methods of `WebhookSender` beside those of every
dialect. A webhook is a hint and no answer: it says which run to ask about, and the state is read by a poll.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from rotoscope.providers.http.messages import HttpCall, Json, Reply, measure_depth

__all__ = [
    "MAX_WEBHOOK_BYTES",
    "MAX_WEBHOOK_SKEW",
    "Rejection",
    "WebhookAddresses",
    "WebhookDelivery",
    "WebhookKeys",
    "WebhookNotice",
    "WebhookSender",
    "find_time_fault",
    "is_webhook_id",
    "read_webhook_fields",
]

MAX_WEBHOOK_BYTES = 1024 * 1024
"""Bytes of a webhook's body, at most."""

MAX_WEBHOOK_SKEW = 300.0
"""Seconds by which a webhook's time may differ from ours: both providers name five minutes."""

_MAX_ID_CHARS = 200
_MAX_JSON_DEPTH = 100

Rejection = Literal["malformed", "stale", "forged"]
"""Why a webhook is not believed: it cannot be read, its time is not now, or no known key has signed it."""

WebhookKeys = tuple[bytes, ...]
"""What a provider's webhooks are verified with; any of them may have signed one."""


@dataclass(frozen=True, slots=True)
class WebhookAddresses:
    """The addresses that providers are given.

    Attributes:
        public_url: the address at which providers reach this server, without a slash at its end.
        providers: those that are given one.
    """

    public_url: str
    providers: frozenset[str]

    def find_address(self, provider: str, nonce: str) -> str | None:
        """The address for one paying request, by the nonce of its intent; None where its provider is given none."""
        return f"{self.public_url}/webhooks/{provider}/{nonce}" if provider in self.providers else None


@dataclass(frozen=True, slots=True)
class WebhookDelivery:
    """What came in: the headers (names in lower case) and the body, byte for byte, because the bytes are signed."""

    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class WebhookNotice:
    """What a verified webhook says.

    Attributes:
        id: the provider's id of the delivery; the same when it is sent again.
        prediction_id: the run that it is about; None where it names none that can be asked about.
    """

    id: str
    prediction_id: str | None


@runtime_checkable
class WebhookSender(Protocol):
    """A dialect whose provider calls an address of ours when a run has ended."""

    def can_verify_webhooks(self) -> bool:
        """Whether what the verification needs is installed."""
        ...

    def add_webhook(self, request: HttpCall, address: str) -> HttpCall:
        """The paying request with an address to call when the run has ended; nothing else of it changes."""
        ...

    def ask_for_webhook_keys(self) -> HttpCall:
        """Build the free request for the keys. Without the provider's key in it, they are the same for everybody."""
        ...

    def read_webhook_keys(self, reply: Reply) -> WebhookKeys:
        """Read the keys.

        Raises:
            ProviderError: there are none in it.
        """
        ...

    def read_webhook(self, delivery: WebhookDelivery, keys: WebhookKeys, now: float) -> WebhookNotice | Rejection:
        """Verify a webhook and read which run it is about.

        Args:
            delivery: what came in.
            keys: the provider's keys.
            now: Unix seconds.
        """
        ...


def find_time_fault(text: str, now: float) -> Rejection | None:
    """What is wrong with the time that a webhook names, in Unix seconds as text; None where it is about now."""
    if not (text.isascii() and text.isdecimal() and len(text) <= len("9999999999")):
        return "malformed"
    return "stale" if abs(now - int(text)) > MAX_WEBHOOK_SKEW else None


def is_webhook_id(text: str) -> bool:
    """Whether a text can be the id of a delivery: short and printable."""
    return 0 < len(text) <= _MAX_ID_CHARS and text.isascii() and text.isprintable()


def read_webhook_fields(body: bytes) -> Mapping[str, Json]:
    """The members of a webhook's body; none where it is no JSON object, or is nested deeper than a provider sends."""
    try:
        found: Json = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    is_flat = measure_depth(found, _MAX_JSON_DEPTH + 1) <= _MAX_JSON_DEPTH
    return found if isinstance(found, dict) and is_flat else {}
