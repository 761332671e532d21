"""Which providers can be used, and when the sandbox stands in: nobody who pays gets its results by surprise."""

import pytest

from rotoscope.errors import InvalidInput
from rotoscope.models.access import SANDBOX_URL, Access, access_of
from rotoscope.models.catalog import load_catalog, manifest_folder
from rotoscope.settings import read_settings

PROVIDERS = load_catalog(manifest_folder()).providers


def access(**environ: str) -> Access:
    return access_of(read_settings(environ), PROVIDERS)


def test_without_any_key_the_sandbox_serves_every_provider() -> None:
    found = access()
    assert found.sandbox
    assert found.built_in
    assert all(found.usable(name) for name in PROVIDERS)
    assert found.bases["gateway"]["api"] == f"{SANDBOX_URL}/replicate"


@pytest.mark.parametrize("value", ["", "  ", "${FAL_KEY}", "$FAL_KEY", "${FAL_KEY:-}"])
def test_a_key_that_is_empty_or_was_never_expanded_is_no_key(value: str) -> None:
    assert access(FAL_KEY=value).sandbox


def test_with_one_key_the_sandbox_serves_nothing_and_only_that_provider_is_usable() -> None:
    found = access(FAL_KEY="id:secret")
    assert not found.sandbox
    assert [name for name in PROVIDERS if found.usable(name)] == ["fal"]


def test_the_operator_can_insist_on_the_sandbox_or_forbid_it() -> None:
    assert access(FAL_KEY="x", ROTOSCOPE_SANDBOX="always").sandbox
    assert not access(ROTOSCOPE_SANDBOX="never").sandbox


def test_a_sandbox_at_an_url_is_trusted_and_serves_all() -> None:
    found = access(ROTOSCOPE_SANDBOX="http://127.0.0.1:8765/", FAL_KEY="x")
    assert found.sandbox
    assert not found.built_in
    assert found.bases["replicate"]["api"] == "http://127.0.0.1:8765"
    assert found.trusted == {"127.0.0.1:8765"}
    assert "x" not in found.keys.values()


def test_a_base_url_of_the_operators_replaces_every_base_and_is_trusted() -> None:
    found = access(REPLICATE_API_TOKEN="r", REPLICATE_BASE_URL="https://proxy.example/v1/")
    assert found.bases["replicate"] == {"api": "https://proxy.example"}
    assert found.trusted == frozenset()
    assert found.own_hosts == {"replicate": {"proxy.example"}}


def test_a_gateway_key_without_its_base_url_goes_nowhere() -> None:
    assert not access(GATEWAY_API_KEY="g").usable("gateway")
    assert access(GATEWAY_API_KEY="g", GATEWAY_BASE_URL="https://gw.example/replicate").usable("gateway")


def test_keys_are_not_shown() -> None:
    environ = {"FAL_KEY": "very-secret"}
    assert "very-secret" not in repr(access(**environ))
    assert "very-secret" not in repr(read_settings(environ))


@pytest.mark.parametrize(
    "environ",
    [{"ROTOSCOPE_INLINE_SECONDS": "soon"}, {"ROTOSCOPE_INLINE_SECONDS": "-1"}, {"ROTOSCOPE_SANDBOX": "perhaps"}],
)
def test_a_setting_that_cannot_be_used_is_told_by_its_name(environ: dict[str, str]) -> None:
    with pytest.raises(InvalidInput) as caught:
        read_settings(environ)
    assert next(iter(environ)) in caught.value.message
