"""Which providers are given an address: only where both sides can be reached, and it is known who is spoken to."""

import pytest

from rotoscope.composition.parts import make_dialects
from rotoscope.composition.webhooks import make_webhooks
from rotoscope.models.access import resolve_access
from rotoscope.models.catalog import load_catalog, manifest_folder
from rotoscope.providers.dialects import fal_webhooks
from rotoscope.settings import read_settings
from rotoscope.store.database import Database
from rotoscope.store.webhook_log import WebhookLog

CATALOG = load_catalog(manifest_folder())
PUBLIC = {"ROTOSCOPE_PUBLIC_URL": "https://rotoscope.example/"}
LOCAL = {"ROTOSCOPE_PUBLIC_URL": "http://127.0.0.1:8000"}
KEYS = {"REPLICATE_API_TOKEN": "r8_x", "FAL_KEY": "x", "SEGMIND_API_KEY": "x", "GATEWAY_API_KEY": "x"}
ALL = {**KEYS, "GATEWAY_BASE_URL": "https://gateway.example/replicate"}


def asked(environ: dict[str, str], *with_webhooks: str) -> set[str]:
    """The providers that are given an address; `with_webhooks` are those whose record says so besides the shipped."""
    settings = read_settings(environ)
    providers = {
        name: one.model_copy(update={"webhooks": True}) if name in with_webhooks else one
        for name, one in CATALOG.providers.items()
    }
    access = resolve_access(settings, providers)
    dialects = make_dialects(CATALOG, access)
    log = WebhookLog(Database("sqlite://"), lambda: 0.0)
    found = make_webhooks(settings, access, providers, dialects, log)
    return set() if found is None else set(found.addresses.providers)


def test_replicate_and_fal_are_given_one_at_their_own_hosts() -> None:
    assert asked({**ALL, **PUBLIC}) == {"replicate", "fal"}


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        (ALL, set()),  # no address
        ({**ALL, **LOCAL}, set()),  # one that no provider reaches
        ({"FAL_KEY": "x", **PUBLIC}, {"fal"}),  # no key for the other
        ({**ALL, **PUBLIC, "REPLICATE_BASE_URL": "https://proxy.example"}, {"fal"}),  # who is behind it is not known
        ({**ALL, **PUBLIC, "FAL_BASE_URL": "https://proxy.example"}, {"replicate"}),
        ({**ALL, **PUBLIC, "REPLICATE_BASE_URL": "https://api.replicate.com/v1"}, {"replicate", "fal"}),
        # Whose secret would verify a webhook of Replicate's is not known before it is verified.
        ({**ALL, **PUBLIC, "ROTOSCOPE_KEYS": "principal", "ROTOSCOPE_ENCRYPTION_KEYS": "k" * 32}, {"fal"}),
        (PUBLIC, set()),  # the sandbox calls this machine alone
        (LOCAL, {"replicate", "fal"}),
        ({**LOCAL, "ROTOSCOPE_SANDBOX": "http://127.0.0.1:9"}, {"replicate", "fal"}),
    ],
)
def test_nobody_else_is(environ: dict[str, str], expected: set[str]) -> None:
    assert asked(environ) == expected


def test_a_gateway_is_given_one_only_where_its_own_record_says_that_it_calls() -> None:
    assert asked({**ALL, **PUBLIC}, "gateway") == {"replicate", "fal", "gateway"}


def test_a_provider_whose_dialect_has_no_webhooks_is_given_none_whatever_its_record_says() -> None:
    assert asked({**ALL, **PUBLIC}, "segmind") == {"replicate", "fal"}


def test_without_ed25519_fal_is_given_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fal_webhooks, "find_spec", lambda _: None)
    assert asked({**ALL, **PUBLIC}) == {"replicate"}
