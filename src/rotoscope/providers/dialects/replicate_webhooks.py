"""Replicate's webhooks: which the request asks for, and how one is verified. Pure.

Facts: https://replicate.com/docs/topics/webhooks. They are signed by the scheme of Standard Webhooks: HMAC-SHA256 over
`id.timestamp.body` with the account's secret, and the header may name several signatures while the secret changes. The
package of that name is not used: it reads the machine's clock by itself, and a malformed header ends it with an error.
"""

import base64
import hashlib
import hmac
from dataclasses import replace

from rotoscope.providers.dialects.error_map import poll_error
from rotoscope.providers.http.messages import HttpCall, Reply, safe_id
from rotoscope.providers.webhooks import (
    Rejection,
    WebhookDelivery,
    WebhookKeys,
    WebhookNotice,
    find_time_fault,
    is_webhook_id,
    read_webhook_fields,
)

__all__ = ["add_replicate_webhook", "read_replicate_secret", "read_replicate_webhook"]

_SECRET_PREFIX = "whsec_"  # noqa: S105 - what a secret begins with
_VERSION = "v1"
_MAX_SIGNATURES = 16
_MIN_SECRET_BYTES = 8


def add_replicate_webhook(request: HttpCall, address: str) -> HttpCall:
    """The paying request with an address for the end of the run alone: the other events would only repeat polls."""
    body = request.json if isinstance(request.json, dict) else {}
    return replace(request, json={**body, "webhook": address, "webhook_events_filter": ["completed"]})


def read_replicate_secret(reply: Reply) -> WebhookKeys:
    """The account's secret, out of `{"key": "whsec_..."}`.

    Raises:
        ProviderError: there is none in the reply.
    """
    text = reply.fields().get("key") if reply.is_success else None
    secret = _decode(text.removeprefix(_SECRET_PREFIX)) if isinstance(text, str) else b""
    if len(secret) < _MIN_SECRET_BYTES:
        raise poll_error(Reply(reply.status))  # not with the body: a secret that was not understood is one all the same
    return (secret,)


def read_replicate_webhook(delivery: WebhookDelivery, keys: WebhookKeys, now: float) -> WebhookNotice | Rejection:
    """Verify a webhook, and read which prediction it is (see `WebhookSender.read_webhook`)."""
    name, stamp, given = (delivery.headers.get(f"webhook-{part}", "") for part in ("id", "timestamp", "signature"))
    fault = find_time_fault(stamp, now) if is_webhook_id(name) else "malformed"
    if fault is not None:
        return fault
    signed = f"{name}.{stamp}.".encode() + delivery.body
    expected = [base64.b64encode(hmac.digest(key, signed, hashlib.sha256)) for key in keys]
    shown = [one.partition(",") for one in given.split(" ")[:_MAX_SIGNATURES]]
    signatures = [text.encode() for version, _, text in shown if version == _VERSION]
    # Every pair is compared, each in a time that does not depend on where they differ.
    matches = [hmac.compare_digest(right, one) for right in expected for one in signatures]
    return WebhookNotice(name, safe_id(read_webhook_fields(delivery.body).get("id"))) if any(matches) else "forged"


def _decode(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except ValueError:
        return b""
