"""fal's webhooks: how the request names an address, and how one is verified. Pure.

Facts: https://docs.fal.ai/model-apis/model-endpoints/webhooks. They are signed with Ed25519 over the request id, the
user's id, the time and the SHA-256 of the body, a line each; the keys are public, as a JWKS. They are the same for all
users of fal, so a signature alone does not show whose run it is about: the nonce in the address and the poll do.
"""

import base64
import hashlib
from dataclasses import replace
from importlib.util import find_spec
from urllib.parse import quote

from rotoscope.providers.dialects.error_map import poll_error
from rotoscope.providers.http.messages import HttpCall, Json, Reply, safe_id
from rotoscope.providers.webhooks import (
    Rejection,
    WebhookDelivery,
    WebhookKeys,
    WebhookNotice,
    find_time_fault,
    is_webhook_id,
    read_webhook_fields,
)

__all__ = ["add_fal_webhook", "can_verify_fal_webhooks", "read_fal_keys", "read_fal_webhook"]

_MAX_KEYS = 16
_KEY_BYTES, _SIGNATURE_BYTES = 32, 64


def can_verify_fal_webhooks() -> bool:
    """Whether the package `cryptography` is installed, which `rotoscope[server]` brings."""
    return find_spec("cryptography") is not None


def add_fal_webhook(request: HttpCall, address: str) -> HttpCall:
    """The paying request with an address in its query; fal calls it once, when the run has ended."""
    mark = "&" if "?" in request.url else "?"
    return replace(request, url=f"{request.url}{mark}fal_webhook={quote(address, safe='')}")


def read_fal_keys(reply: Reply) -> WebhookKeys:
    """The public keys of a JWKS; a key of another kind is left out.

    Raises:
        ProviderError: there is none in the reply.
    """
    listed = reply.fields().get("keys") if reply.is_success else None
    rows = listed[:_MAX_KEYS] if isinstance(listed, list) else []
    keys = tuple(key for row in rows if (key := _public_key(row)) is not None)
    if not keys:
        raise poll_error(Reply(reply.status))
    return keys


def read_fal_webhook(delivery: WebhookDelivery, keys: WebhookKeys, now: float) -> WebhookNotice | Rejection:
    """Verify a webhook, and read which request it is about (see `WebhookSender.read_webhook`)."""
    parts = ("request-id", "user-id", "timestamp", "signature")
    name, user, stamp, given = (delivery.headers.get(f"x-fal-webhook-{part}", "") for part in parts)
    fault = find_time_fault(stamp, now) if is_webhook_id(name) and is_webhook_id(user) else "malformed"
    if fault is not None:
        return fault
    signed = "\n".join((name, user, stamp, hashlib.sha256(delivery.body).hexdigest())).encode()
    signature = _signature(given)
    if signature is None:
        return "malformed"
    if not any(_has_signed(key, signature, signed) for key in keys):
        return "forged"
    return WebhookNotice(name, safe_id(read_webhook_fields(delivery.body).get("request_id")))


def _signature(text: str) -> bytes | None:
    try:
        found = bytes.fromhex(text)
    except ValueError:
        return None
    return found if len(found) == _SIGNATURE_BYTES else None


def _has_signed(key: bytes, signature: bytes, signed: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, signed)
    except (InvalidSignature, ValueError):
        return False
    return True


def _public_key(row: Json) -> bytes | None:
    """The 32 bytes of an Ed25519 key (RFC 8037); None for a row that has none."""
    if not isinstance(row, dict) or (row.get("kty"), row.get("crv")) != ("OKP", "Ed25519"):
        return None
    text = row.get("x")
    if not isinstance(text, str):
        return None
    try:
        key = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except ValueError:
        return None
    return key if len(key) == _KEY_BYTES else None
