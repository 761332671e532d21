"""Which providers can be used, and when the sandbox serves them instead: never by surprise for a user with a key."""

from dataclasses import replace

import pytest

from rotoscope.errors import InvalidInput
from rotoscope.models.access import SANDBOX_URL, resolve_access
from rotoscope.models.catalog import Access, fingerprint_keys, load_catalog, manifest_folder
from rotoscope.models.provider import Header
from rotoscope.settings import read_settings

PROVIDERS = load_catalog(manifest_folder()).providers


def access(**environ: str) -> Access:
    return resolve_access(read_settings(environ), PROVIDERS)


def test_without_any_key_the_sandbox_serves_every_provider() -> None:
    found = access()
    assert found.sandbox
    assert found.is_built_in
    assert all(found.is_usable(name) for name in PROVIDERS)
    assert found.base_urls["gateway"]["api"] == f"{SANDBOX_URL}/replicate"


@pytest.mark.parametrize(
    "value",
    [
        "",
        "  ",
        "${FAL_KEY}",
        "$FAL_KEY",
        "${FAL_KEY:-}",
        "${env:FAL_KEY}",
        "${user_config.fal_key}",
        "${input:fal-key}",
    ],
)
def test_a_key_that_is_empty_or_was_never_expanded_is_no_key(value: str) -> None:
    assert access(FAL_KEY=value).sandbox


def test_with_one_key_the_sandbox_serves_nothing_and_only_that_provider_is_usable() -> None:
    found = access(FAL_KEY="id:secret")
    assert not found.sandbox
    assert [name for name in PROVIDERS if found.is_usable(name)] == ["fal"]


def test_the_operator_can_insist_on_the_sandbox_or_forbid_it() -> None:
    assert access(FAL_KEY="x", ROTOSCOPE_SANDBOX="always").sandbox
    assert not access(ROTOSCOPE_SANDBOX="never").sandbox


def test_a_sandbox_at_an_url_is_trusted_and_serves_all() -> None:
    found = access(ROTOSCOPE_SANDBOX="http://127.0.0.1:8765/", FAL_KEY="x")
    assert found.sandbox
    assert not found.is_built_in
    assert found.base_urls["replicate"]["api"] == "http://127.0.0.1:8765"
    assert found.trusted_hosts == {"127.0.0.1:8765"}
    assert "x" not in found.keys.values()


def test_a_base_url_of_the_operators_replaces_every_base_and_is_trusted() -> None:
    found = access(REPLICATE_API_TOKEN="r", REPLICATE_BASE_URL="https://proxy.example/v1/")
    assert found.base_urls["replicate"] == {"api": "https://proxy.example"}
    assert found.trusted_hosts == frozenset()
    assert found.own_hosts == {"replicate": {"proxy.example"}}


@pytest.mark.parametrize(
    ("variable", "provider", "value"),
    [
        (variable, provider, form.format(host))
        for variable, provider, host in (
            ("REPLICATE_BASE_URL", "replicate", "api.replicate.com"),
            ("FAL_BASE_URL", "fal", "queue.fal.run"),
            ("SEGMIND_BASE_URL", "segmind", "api.segmind.com"),
        )
        for form in ("https://{}", "https://{}/", "https://{}/v1", "https://{}/v1/", "HTTPS://{}:443", "http://{}:80/")
    ]
    + [
        ("SEGMIND_BASE_URL", "segmind", "https://API.Segmind.com/v1"),
        ("FAL_BASE_URL", "fal", "https://queue.fal.run."),
    ],
)
def test_a_base_url_on_the_providers_own_host_keeps_its_other_hosts(variable: str, provider: str, value: str) -> None:
    found = access(FAL_KEY="k", **{variable: value})
    assert found.base_urls[provider] == PROVIDERS[provider].bases
    assert not found.trusted_hosts


@pytest.mark.parametrize("value", ["https://queue.fal.run:8443", "https://queue.fal.run.example", "http://127.0.0.1:9"])
def test_a_base_url_on_another_host_or_port_replaces_all(value: str) -> None:
    found = access(FAL_KEY="k", FAL_BASE_URL=value)
    assert set(found.base_urls["fal"].values()) == {value}


def test_the_two_halves_of_a_key_are_a_key_and_one_alone_is_none() -> None:
    assert access(FAL_KEY_ID="id", FAL_KEY_SECRET="half").keys["fal"] == "id:half"
    assert access(FAL_KEY_ID="id").sandbox
    assert access(FAL_KEY="whole", FAL_KEY_ID="id", FAL_KEY_SECRET="half").keys["fal"] == "whole"


def test_a_gateway_key_without_its_base_url_goes_nowhere() -> None:
    assert not access(GATEWAY_API_KEY="g").is_usable("gateway")
    assert access(GATEWAY_API_KEY="g", GATEWAY_BASE_URL="https://gw.example/replicate").is_usable("gateway")


BEHIND = PROVIDERS["replicate"].model_copy(
    update={
        "bases": {"api": "https://gw.example/v1/mine/replicate"},
        "version_path": "",
        "headers": {"x-gate": Header(variable="GATE_KEY", prefix="Bearer "), "x-route": Header(value="replicate")},
    }
)


def behind(**environ: str) -> Access:
    return resolve_access(read_settings({"ROTOSCOPE_SANDBOX": "never", **environ}), {"replicate": BEHIND})


def test_a_gateway_is_used_only_when_its_own_key_is_set_too() -> None:
    assert not behind(REPLICATE_API_TOKEN="r").is_usable("replicate")
    assert not behind(GATE_KEY="gate-key-1").is_usable("replicate")
    assert BEHIND.setup_variables == "REPLICATE_API_TOKEN and GATE_KEY"
    found = behind(REPLICATE_API_TOKEN="r", GATE_KEY="gate-key-1")
    assert found.headers == {"replicate": {"x-gate": "Bearer gate-key-1", "x-route": "replicate"}}
    assert found.secrets == {"replicate": ("gate-key-1",)}
    assert "gate-key-1" not in repr(found)


def test_a_gateways_own_key_is_a_part_of_the_account_and_must_look_like_a_key() -> None:
    one, other = (behind(REPLICATE_API_TOKEN="r", GATE_KEY=key) for key in ("gate-key-1", "gate-key-2"))
    assert one.account_fingerprint("replicate") != other.account_fingerprint("replicate")
    with pytest.raises(InvalidInput) as caught:
        behind(REPLICATE_API_TOKEN="r", GATE_KEY="gate key\n3")
    assert "GATE_KEY" in caught.value.message
    assert "gate key" not in caught.value.message


def test_the_sandbox_gets_no_key_of_a_gateway_and_none_of_its_paths() -> None:
    found = behind(REPLICATE_API_TOKEN="r", GATE_KEY="gate-key-1", ROTOSCOPE_SANDBOX="always")
    assert (found.headers, found.secrets) == ({}, {})
    assert found.base_urls == {"replicate": {"api": SANDBOX_URL}}


def test_another_path_on_a_gateways_host_is_another_account_of_it() -> None:
    found = behind(
        REPLICATE_API_TOKEN="r", GATE_KEY="gate-key-1", REPLICATE_BASE_URL="https://gw.example/v1/yours/replicate/v1"
    )
    assert found.base_urls == {"replicate": {"api": "https://gw.example/v1/yours/replicate/v1"}}


def test_keys_are_not_shown() -> None:
    environ = {"FAL_KEY": "very-secret"}
    assert "very-secret" not in repr(access(**environ))
    assert "very-secret" not in repr(read_settings(environ))


@pytest.mark.parametrize(
    "environ",
    [{"ROTOSCOPE_INLINE_SECONDS": "soon"}, {"ROTOSCOPE_INLINE_SECONDS": "-1"}, {"ROTOSCOPE_SANDBOX": "perhaps"}],
)
def test_a_setting_that_cannot_be_used_is_named(environ: dict[str, str]) -> None:
    with pytest.raises(InvalidInput) as caught:
        read_settings(environ)
    assert next(iter(environ)) in caught.value.message


def test_the_sandbox_stands_in_for_no_provider_of_an_installed_dialect() -> None:
    toy = PROVIDERS["replicate"].model_copy(update={"dialect": "toy", "key_variables": ("TOY_API_KEY",)})
    found = resolve_access(read_settings({"ROTOSCOPE_SANDBOX": "always"}), {**PROVIDERS, "toy": toy})
    assert found.is_usable("replicate")
    assert not found.is_usable("toy")


def test_where_each_principal_has_keys_of_its_own_the_operators_are_not_used_and_no_sandbox_serves() -> None:
    found = access(REPLICATE_API_TOKEN="r", ROTOSCOPE_KEYS="principal")
    assert not found.sandbox
    assert found.keys == {}
    assert found.own_for is not None
    assert {"replicate", "fal", "segmind"} <= found.own_for
    assert access(ROTOSCOPE_KEYS="principal", ROTOSCOPE_SANDBOX="always").own_for is None


def test_what_a_job_with_its_principals_own_key_needs_is_named_apart() -> None:
    own, operators = access(ROTOSCOPE_KEYS="principal"), access(REPLICATE_API_TOKEN="r")
    assert own.driver_key("replicate") == f"{operators.driver_key('replicate')}#own"


def test_a_gateways_own_key_is_no_part_of_a_principals_account() -> None:
    """The operator may change it; the principal's account stays the same."""
    own = access(ROTOSCOPE_KEYS="principal")
    with_key = replace(own, keys={"replicate": "a-key-of-anna"}, secrets={"replicate": ("one",)})
    changed = replace(with_key, secrets={"replicate": ("two",)})
    assert with_key.account_fingerprint("replicate") == changed.account_fingerprint("replicate")
    assert with_key.account_fingerprint("replicate") == fingerprint_keys("replicate", "a-key-of-anna")
