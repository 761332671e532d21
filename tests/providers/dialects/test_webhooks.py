"""Webhooks of Replicate and fal: what a paying request names, and which that come in are believed."""

import base64
import json
from dataclasses import dataclass, replace
from typing import Any

import pytest
from webhook_scene import signed

from rotoscope.errors import ProviderError
from rotoscope.models.request_key import call_digest
from rotoscope.providers.dialects import DIALECTS
from rotoscope.providers.http.messages import Json, Reply
from rotoscope.providers.states import Call
from rotoscope.providers.webhooks import Rejection, WebhookDelivery, WebhookKeys, WebhookNotice, WebhookSender
from rotoscope_sandbox.webhooks import fal_keys, replicate_secret

NOW = 1_800_000_000
KEY, OTHER = bytes(range(32)), bytes(range(32, 64))
ADDRESS = "https://rotoscope.example/webhooks/replicate/0f3a"
BASES = {
    "replicate": {"api": "https://api.replicate.com"},
    "fal": {"api": "https://queue.fal.run", "storage": "https://rest.fal.ai"},
}
BODIES = {
    "replicate": b'{"id":"p1","status":"succeeded","output":null}',
    "fal": b'{"request_id":"p1","status":"OK","payload":{}}',
}
PREFIXES = {"replicate": "webhook-", "fal": "x-fal-webhook-"}


def sender_of(provider: str) -> WebhookSender:
    dialect = DIALECTS[provider](BASES[provider])
    assert isinstance(dialect, WebhookSender)
    return dialect


def keys_of(provider: str, *private: bytes) -> WebhookKeys:
    """The keys as the provider's reply has them, read by the dialect."""
    if provider == "replicate":
        return tuple(
            key
            for one in private
            for key in sender_of(provider).read_webhook_keys(
                Reply(200, {}, json.dumps({"key": replicate_secret(one)}).encode())
            )
        )
    listed = [row for one in private for row in fal_keys(one)["keys"]]
    return sender_of(provider).read_webhook_keys(Reply(200, {}, json.dumps({"keys": listed}).encode()))


@dataclass(frozen=True)
class Post:
    """A webhook that is right in all points; a test changes one."""

    provider: str
    key: bytes = KEY
    stamp: int = NOW
    sent: bytes | None = None
    """The body that arrives, where it is not the one that was signed."""

    def delivery(self) -> WebhookDelivery:
        body = BODIES[self.provider]
        headers = signed(self.provider, self.key, "msg_1", self.stamp, body)
        return WebhookDelivery(headers, body if self.sent is None else self.sent)


def read(provider: str, delivery: WebhookDelivery, *private: bytes) -> WebhookNotice | Rejection:
    return sender_of(provider).read_webhook(delivery, keys_of(provider, *(private or (KEY,))), NOW)


both = pytest.mark.parametrize("provider", ["replicate", "fal"])


@both
def test_what_the_provider_has_signed_just_now_names_its_run(provider: str) -> None:
    assert read(provider, Post(provider).delivery()) == WebhookNotice("msg_1", "p1")


@both
@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"key": OTHER}, "forged"),
        ({"sent": b'{"id":"p2","request_id":"p2"}'}, "forged"),
        ({"sent": b""}, "forged"),
        ({"stamp": NOW - 300}, WebhookNotice("msg_1", "p1")),
        ({"stamp": NOW + 300}, WebhookNotice("msg_1", "p1")),
        ({"stamp": NOW - 301}, "stale"),
        ({"stamp": NOW + 301}, "stale"),
        ({"stamp": NOW - 365 * 86_400}, "stale"),
    ],
    ids=["other key", "other body", "no body", "5 minutes old", "5 minutes ahead", "older", "newer", "a year old"],
)
def test_what_is_forged_or_not_of_now_is_not_believed(
    provider: str, change: dict[str, Any], found: WebhookNotice | Rejection
) -> None:
    assert read(provider, replace(Post(provider), **change).delivery()) == found


@both
@pytest.mark.parametrize("name", ["timestamp", "signature", "id"])
@pytest.mark.parametrize("value", ["", "soon", "-1", "1e9", "١٢٣", "v1", "v1,", ",", " ", "\x00", "x" * 5000, "é"])
def test_a_header_that_means_nothing_is_refused_without_an_error(provider: str, name: str, value: str) -> None:
    header = PREFIXES[provider] + ("request-id" if (provider, name) == ("fal", "id") else name)
    delivery = Post(provider).delivery()
    spoilt = WebhookDelivery({**delivery.headers, header: value}, delivery.body)
    assert read(provider, spoilt) in ("malformed", "forged")


@both
def test_no_header_at_all_is_malformed(provider: str) -> None:
    assert read(provider, WebhookDelivery({}, BODIES[provider])) == "malformed"


def test_the_time_is_signed_too() -> None:
    for provider in ("replicate", "fal"):
        delivery = Post(provider, stamp=NOW - 400).delivery()
        moved = WebhookDelivery({**delivery.headers, f"{PREFIXES[provider]}timestamp": str(NOW)}, delivery.body)
        assert read(provider, moved) == "forged"


def test_one_of_several_signatures_of_replicates_is_enough() -> None:
    """While the secret changes, what the old and the new one sign stands in one header."""
    delivery = Post("replicate").delivery()
    right, wrong = (
        delivery.headers["webhook-signature"],
        Post("replicate", OTHER).delivery().headers["webhook-signature"],
    )
    for several in (f"{wrong} {right}", f"v1a,abc {right}", f"{right} ,", f"nonsense {right}"):
        assert read("replicate", replace_header(delivery, several)) == WebhookNotice("msg_1", "p1")
    for several in (f"{wrong} {wrong}", right.replace("v1,", "v2,"), " ".join([wrong] * 50 + [right])):
        assert read("replicate", replace_header(delivery, several)) == "forged"


def replace_header(delivery: WebhookDelivery, signature: str) -> WebhookDelivery:
    return WebhookDelivery({**delivery.headers, "webhook-signature": signature}, delivery.body)


@both
def test_any_of_several_keys_may_have_signed(provider: str) -> None:
    assert read(provider, Post(provider).delivery(), OTHER, KEY) == WebhookNotice("msg_1", "p1")


@pytest.mark.parametrize("body", [b"[]", b"{", b'{"id":7}', b'{"id":"../x"}', b"\xff", b"[" * 100_000, b'{"id":null}'])
def test_a_signed_body_that_names_no_run_is_taken_without_one(body: bytes) -> None:
    delivery = WebhookDelivery(signed("replicate", KEY, "msg_1", NOW, body), body)
    assert read("replicate", delivery) == WebhookNotice("msg_1", None)


@pytest.mark.parametrize(
    ("provider", "body"),
    [
        ("replicate", {}),
        ("replicate", {"key": 7}),
        ("replicate", {"key": "whsec_"}),
        ("replicate", {"key": "whsec_!!!"}),
        ("replicate", {"key": f"whsec_{base64.b64encode(b'short').decode()}"}),
        ("fal", {}),
        ("fal", {"keys": []}),
        ("fal", {"keys": "x"}),
        ("fal", {"keys": [None, 7, {"kty": "RSA", "n": "x"}, {"kty": "OKP", "crv": "Ed25519", "x": "AAAA"}]}),
        ("fal", {"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "*"}, {"kty": "OKP", "crv": "Ed25519"}]}),
    ],
)
def test_a_reply_without_a_usable_key_is_none(provider: str, body: object) -> None:
    for status in (200, 403, 500):
        with pytest.raises(ProviderError) as refused:
            sender_of(provider).read_webhook_keys(Reply(status, {}, json.dumps(body).encode()))
        assert "whsec_" not in str(refused.value)


def test_the_secret_goes_with_the_key_to_the_providers_own_base_and_the_public_keys_without() -> None:
    secret, public = sender_of("replicate").ask_for_webhook_keys(), sender_of("fal").ask_for_webhook_keys()
    assert (secret.url, secret.with_key) == ("https://api.replicate.com/v1/webhooks/default/secret", True)
    assert (public.url, public.with_key) == ("https://rest.fal.ai/.well-known/jwks.json", False)


def test_an_address_changes_nothing_else_of_the_request_and_not_its_digest() -> None:
    call = Call("replicate", "o/m", {"prompt": "a", "seed": 7}, "v" * 64, "version", 60)
    plain = DIALECTS["replicate"](BASES["replicate"]).submit(call)
    named = sender_of("replicate").add_webhook(plain, ADDRESS)
    assert isinstance(named.json, dict)
    assert isinstance(plain.json, dict)
    added: dict[str, Json] = {"webhook": ADDRESS, "webhook_events_filter": ["completed"]}
    assert named == replace(plain, json={**plain.json, **added})
    assert not added.keys() & plain.json.keys()
    queued = Call("fal", "fal-ai/m", {"prompt": "a"}, None, "queue", 60)
    plain = DIALECTS["fal"](BASES["fal"]).submit(queued)
    named = sender_of("fal").add_webhook(plain, ADDRESS)
    encoded = "https%3A%2F%2Frotoscope.example%2Fwebhooks%2Freplicate%2F0f3a"
    assert named == replace(plain, url=f"https://queue.fal.run/fal-ai/m?fal_webhook={encoded}")
    assert call_digest(call) == call_digest(replace(call))


def test_segmind_has_no_webhooks_for_single_runs() -> None:
    assert not isinstance(DIALECTS["segmind"]({"api": "https://api.segmind.com"}), WebhookSender)
