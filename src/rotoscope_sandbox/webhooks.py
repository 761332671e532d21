"""Webhooks, sent only to plain-http addresses of this machine that the request itself named, and signed as the
providers sign them.

Everything else is accepted and never called: the sandbox opens no connection to anywhere else. The end of a run that is
not answered with a 2xx is sent again as the providers do it: Replicate for about a minute, fal ten times in two hours.
What can go wrong is `odd-webhook`: twice, in the wrong order (`disorder`), before the POST is answered (`early`),
never, signed with a foreign key (`forged`), or with a time an hour ago (`old`).

Sources: Replicate signs like the Standard Webhooks, with the secret of `GET /v1/webhooks/default/secret`; fal signs
with ED25519 and publishes its key as a JWKS. Without the `cryptography` package fal's are sent unsigned.
"""

import base64
import hashlib
import hmac
import json
import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias
from urllib.parse import urlsplit

from anyio import to_thread

from rotoscope_sandbox.core import Core
from rotoscope_sandbox.predictions import ForcedOutcome, JsonObject, Prediction

__all__ = [
    "FAL_PAUSES",
    "REPLICATE_PAUSES",
    "Signer",
    "Webhook",
    "fal_keys",
    "is_own_machine",
    "notify",
    "replicate_secret",
    "sign_like_fal",
    "sign_like_replicate",
]

_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_FINAL_SECONDS = 600.0
_EARLY_SECONDS = 15.0
_POLL_SECONDS = 0.05
_OLD_SECONDS = 3600
_MOST_AT_ONCE = 64
_MOST_REPEATED = 256
_ACCEPTED = range(200, 300)

REPLICATE_PAUSES = (1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
FAL_PAUSES = tuple(7.0 * 2**n for n in range(10))
"""Seconds between two attempts, before the sandbox's pace: ten of them are two hours."""

Signer: TypeAlias = Callable[[bytes, str, int, bytes], Mapping[str, str]]
"""From a key (32 bytes), an id, a time in whole seconds and the body to the headers of the signature."""

_slots = threading.BoundedSemaphore(_MOST_AT_ONCE)
_repeats = threading.BoundedSemaphore(_MOST_REPEATED)


@dataclass(frozen=True, slots=True)
class Webhook:
    """Where a webhook goes, which events it gets, and in which form.

    Attributes:
        url: as the request named it.
        events: those of `start`, `output`, `logs`, `completed` that were asked for.
        make_body: the body for a prediction as it is now.
        sign: the provider's signature.
        key: what it signs with.
        is_named_by_run: whether a delivery has the run's id as its own, as fal's have.
        pauses: the seconds after which the end of a run is sent again while nobody takes it.
    """

    url: str
    events: tuple[str, ...]
    make_body: Callable[[Prediction], JsonObject]
    sign: Signer
    key: bytes
    is_named_by_run: bool = False
    pauses: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class _Delivery:
    id: str
    body: bytes
    is_end: bool


def is_own_machine(url: str) -> bool:
    """Whether an address is plain http to a loopback host."""
    try:
        parts = urlsplit(url)
        port = parts.port or 80
    except ValueError:
        return False
    return parts.scheme == "http" and parts.hostname in _LOOPBACK and port > 0


async def notify(core: Core, known: Prediction, webhook: Webhook, forced: ForcedOutcome) -> None:
    """Start to send the webhooks of a prediction; with the kind `early` it returns only when all are sent."""
    if forced.webhook == "never" or not is_own_machine(webhook.url) or not _slots.acquire(blocking=False):
        return
    thread = threading.Thread(
        target=_send_events, args=(core, known, webhook, forced.webhook), name="webhook", daemon=True
    )
    thread.start()
    if forced.webhook == "early":
        await to_thread.run_sync(thread.join, _EARLY_SECONDS)


def _send_events(core: Core, known: Prediction, webhook: Webhook, flaw: str) -> None:
    missed: list[_Delivery] = []
    try:
        first = [_delivery(webhook, known)] if "start" in webhook.events else []
        if flaw != "disorder":
            _deliver(core, webhook, first, flaw)
        done = _wait_for_end(core, known)
        if done is None:
            return
        events = [event for event in ("output", "logs", "completed") if event in webhook.events]
        last = [_delivery(webhook, done, is_end=event == "completed") for event in events]
        missed = _deliver(core, webhook, [*reversed(last), *first] if flaw == "disorder" else last, flaw)
    finally:
        _slots.release()
    if missed and _repeats.acquire(blocking=False):
        try:
            _repeat(core, webhook, missed, flaw)
        finally:
            _repeats.release()


def _wait_for_end(core: Core, known: Prediction) -> Prediction | None:
    """The prediction once it is final; None when that takes too long."""
    rest, end = threading.Event(), time.monotonic() + _FINAL_SECONDS
    while time.monotonic() < end:
        core.workers.wait(known.request.id, 1.0)
        found = core.store.get(known.request.id)
        if found is None or found.status(core.clock()).is_final:
            return found
        rest.wait(_POLL_SECONDS)
    return None


def _delivery(webhook: Webhook, known: Prediction, *, is_end: bool = False) -> _Delivery:
    body = json.dumps(webhook.make_body(known)).encode()
    name = known.request.id if webhook.is_named_by_run else f"msg_{secrets.token_urlsafe(12)}"
    return _Delivery(name, body, is_end)


def _repeat(core: Core, webhook: Webhook, missed: Sequence[_Delivery], flaw: str) -> None:
    """Send what nobody took again, with the same ids and a new time, until somebody takes it or no pause is left."""
    rest = threading.Event()
    for pause in webhook.pauses:
        rest.wait(pause * core.pace)
        missed = _deliver(core, webhook, missed, flaw)
        if not missed:
            return


def _deliver(core: Core, webhook: Webhook, deliveries: Sequence[_Delivery], flaw: str) -> list[_Delivery]:
    """Send some; those ends of runs that nobody took: nothing else is repeated."""
    missed = []
    for delivery in deliveries:
        stamp = int(core.clock()) - (_OLD_SECONDS if flaw == "old" else 0)
        key = secrets.token_bytes(32) if flaw == "forged" else webhook.key
        headers = {"content-type": "application/json", **webhook.sign(key, delivery.id, stamp, delivery.body)}
        statuses = [core.post_webhook(webhook.url, delivery.body, headers) for _ in range(2 if flaw == "twice" else 1)]
        if delivery.is_end and not any(status in _ACCEPTED for status in statuses):
            missed.append(delivery)
    return missed


def replicate_secret(key: bytes) -> str:
    """The signing secret in Replicate's form."""
    return f"whsec_{base64.b64encode(key).decode()}"


def sign_like_replicate(key: bytes, id_: str, stamp: int, body: bytes) -> Mapping[str, str]:
    """Replicate's three headers: HMAC-SHA256 over id, time and body."""
    digest = hmac.new(key, f"{id_}.{stamp}.".encode() + body, hashlib.sha256).digest()
    signature = f"v1,{base64.b64encode(digest).decode()}"
    return {"webhook-id": id_, "webhook-timestamp": str(stamp), "webhook-signature": signature}


def sign_like_fal(key: bytes, id_: str, stamp: int, body: bytes) -> Mapping[str, str]:
    """The four headers of fal's: ED25519, in hex, over request id, user id, time and the body's SHA-256."""
    user = "sandbox"
    headers = {"x-fal-webhook-request-id": id_, "x-fal-webhook-user-id": user, "x-fal-webhook-timestamp": str(stamp)}
    try:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    except ImportError:
        return headers
    message = "\n".join((id_, user, str(stamp), hashlib.sha256(body).hexdigest())).encode()
    return headers | {"x-fal-webhook-signature": Ed25519PrivateKey.from_private_bytes(key).sign(message).hex()}


def fal_keys(key: bytes) -> JsonObject:
    """The public key of fal's as a JWKS; empty without the `cryptography` package."""
    try:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    except ImportError:
        return {"keys": []}
    public = Ed25519PrivateKey.from_private_bytes(key).public_key().public_bytes_raw()
    encoded = base64.urlsafe_b64encode(public).decode().rstrip("=")
    return {"keys": [{"kty": "OKP", "crv": "Ed25519", "use": "sig", "kid": "sandbox", "x": encoded}]}
