"""Webhooks, sent only to plain-http addresses of this machine that the request itself named, and signed as the
providers sign them.

Everything else is accepted and never called: the sandbox opens no connection to anywhere else. A delivery is tried
once. What can go wrong with it is F26: twice, in the wrong order (`disorder`), before the POST is answered
(`early`), never, signed with a foreign key (`forged`), or with a time an hour ago (`old`).

Sources: Replicate signs like the Standard Webhooks, with the secret of `GET /v1/webhooks/default/secret`; fal signs
with ED25519 and publishes its key as a JWKS. Without the `cryptography` package fal's are sent unsigned.
"""

import base64
import hashlib
import hmac
import http.client
import json
import logging
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias
from urllib.parse import urlsplit

from anyio import to_thread

from rotoscope_sandbox.predictions import Fate, JsonObject, Prediction
from rotoscope_sandbox.site import Site

__all__ = [
    "Signer",
    "Webhook",
    "fal_keys",
    "is_own_machine",
    "notify",
    "replicate_secret",
    "signed_by_fal",
    "signed_by_replicate",
]

_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_FINAL_SECONDS = 600.0
_SEND_SECONDS = 5.0
_EARLY_SECONDS = 15.0
_LOOK_SECONDS = 0.05
_OLD_SECONDS = 3600
_MOST_AT_ONCE = 64

Signer: TypeAlias = Callable[[bytes, str, int, bytes], Mapping[str, str]]
"""From a key (32 bytes), an id, a time in whole seconds and the body to the headers that vouch for them."""

_log = logging.getLogger(__name__)
_slots = threading.BoundedSemaphore(_MOST_AT_ONCE)


@dataclass(frozen=True, slots=True)
class Webhook:
    """Where to, about what, and in whose words.

    Attributes:
        url: as the request named it.
        events: those of `start`, `output`, `logs`, `completed` that are wanted.
        tell: the body for a prediction as it is now.
        sign: the provider's signature.
        key: what it signs with.
    """

    url: str
    events: tuple[str, ...]
    tell: Callable[[Prediction], JsonObject]
    sign: Signer
    key: bytes


@dataclass(frozen=True, slots=True)
class _Letter:
    id: str
    body: bytes


def is_own_machine(url: str) -> bool:
    """Whether an address is plain http to a loopback host."""
    try:
        parts = urlsplit(url)
        port = parts.port or 80
    except ValueError:
        return False
    return parts.scheme == "http" and parts.hostname in _LOOPBACK and port > 0


async def notify(site: Site, known: Prediction, webhook: Webhook, fate: Fate) -> None:
    """Starts telling of a prediction; with the flaw `early` it returns only when all has been told."""
    if fate.webhook == "never" or not is_own_machine(webhook.url) or not _slots.acquire(blocking=False):
        return
    thread = threading.Thread(target=_told, args=(site, known, webhook, fate.webhook), name="webhook", daemon=True)
    thread.start()
    if fate.webhook == "early":
        await to_thread.run_sync(thread.join, _EARLY_SECONDS)


def _told(site: Site, known: Prediction, webhook: Webhook, flaw: str) -> None:
    try:
        first = [_letter(webhook, known)] if "start" in webhook.events else []
        if flaw != "disorder":
            _deliver(site, webhook, first, flaw)
        done = _finished(site, known)
        if done is None:
            return
        last = [_letter(webhook, done) for event in ("output", "logs", "completed") if event in webhook.events]
        _deliver(site, webhook, [*reversed(last), *first] if flaw == "disorder" else last, flaw)
    finally:
        _slots.release()


def _finished(site: Site, known: Prediction) -> Prediction | None:
    """The prediction once it is final; None when that takes too long."""
    rest, end = threading.Event(), time.monotonic() + _FINAL_SECONDS
    while time.monotonic() < end:
        site.crew.wait(known.order.id, 1.0)
        found = site.store.get(known.order.id)
        if found is None or found.stage(site.clock()).final:
            return found
        rest.wait(_LOOK_SECONDS)
    return None


def _letter(webhook: Webhook, known: Prediction) -> _Letter:
    return _Letter(f"msg_{secrets.token_urlsafe(12)}", json.dumps(webhook.tell(known)).encode())


def _deliver(site: Site, webhook: Webhook, letters: Iterable[_Letter], flaw: str) -> None:
    for letter in letters:
        stamp = int(site.clock()) - (_OLD_SECONDS if flaw == "old" else 0)
        key = secrets.token_bytes(32) if flaw == "forged" else webhook.key
        headers = webhook.sign(key, letter.id, stamp, letter.body)
        for _ in range(2 if flaw == "twice" else 1):
            _post(webhook.url, letter.body, headers)


def _post(url: str, body: bytes, headers: Mapping[str, str]) -> None:
    """One attempt; redirects are not followed."""
    parts = urlsplit(url)
    target = parts._replace(scheme="", netloc="", fragment="").geturl() or "/"
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port or 80, timeout=_SEND_SECONDS)
    try:
        connection.request("POST", target, body, {"content-type": "application/json", **headers})
        connection.getresponse().read(1024)
    except (OSError, http.client.HTTPException) as problem:
        _log.info("a webhook was not taken: %s", problem)
    finally:
        connection.close()


def replicate_secret(key: bytes) -> str:
    """The signing secret as Replicate tells it."""
    return f"whsec_{base64.b64encode(key).decode()}"


def signed_by_replicate(key: bytes, id_: str, stamp: int, body: bytes) -> Mapping[str, str]:
    """Replicate's three headers: HMAC-SHA256 over id, time and body."""
    made = hmac.new(key, f"{id_}.{stamp}.".encode() + body, hashlib.sha256).digest()
    signature = f"v1,{base64.b64encode(made).decode()}"
    return {"webhook-id": id_, "webhook-timestamp": str(stamp), "webhook-signature": signature}


def signed_by_fal(key: bytes, id_: str, stamp: int, body: bytes) -> Mapping[str, str]:
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
    told = base64.urlsafe_b64encode(public).decode().rstrip("=")
    return {"keys": [{"kty": "OKP", "crv": "Ed25519", "use": "sig", "kid": "sandbox", "x": told}]}
