"""Choices of a manifest: another spelling of one means it, where it can mean only one."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rotoscope.errors import InvalidInput
from rotoscope.models.catalog import load_catalog, manifest_folder
from rotoscope.models.manifest import Input, Manifest
from rotoscope.models.plan import plan_call
from rotoscope.models.request_key import request_and_price_keys, trim_arguments

CATALOG = load_catalog(manifest_folder())
OFFERED = [
    (manifest, name, choice)
    for manifest in CATALOG.models.values()
    for name, field in manifest.inputs.items()
    if field.argument
    for choice in (*field.choices, *field.aliases)
    if isinstance(choice, str)
]
NEEDED: dict[str, dict[str, Any]] = {
    "generate_video": {},
    "edit_video_with_mask": {"video": "artifact://a", "mask": "artifact://b"},
}


def planned(manifest: Manifest, **more: Any) -> dict[str, Any]:
    given = {"prompt": "a", **NEEDED[manifest.tool], **more}
    return dict(plan_call(manifest, manifest.routes[0], given, lambda: 1).call.input)


def key(manifest: Manifest, **more: Any) -> Any:
    given = trim_arguments(manifest, {"prompt": "a", **NEEDED[manifest.tool], **more})
    return request_and_price_keys("me", manifest, plan_call(manifest, manifest.routes[0], given, lambda: 1), {})


@given(st.sampled_from(OFFERED), st.sampled_from([str.upper, str.title, str.swapcase]), st.text(" \t\n", max_size=2))
def test_case_and_outer_blanks_make_no_other_choice(
    offered: tuple[Manifest, str, str], respell: Any, blanks: str
) -> None:
    manifest, name, choice = offered
    argument = manifest.inputs[name].argument or name
    spelled = f"{blanks}{respell(choice)}{blanks}"
    assert planned(manifest, **{argument: spelled})[name] == planned(manifest, **{argument: choice})[name]
    assert key(manifest, **{argument: spelled}) == key(manifest, **{argument: choice})


def with_choices(*choices: str, **aliases: str) -> Manifest:
    manifest = CATALOG.models["bytedance/seedance-2.0"]
    field = Input(kind="string", argument="resolution", choices=choices, aliases=aliases)
    return manifest.model_copy(update={"inputs": {**manifest.inputs, "resolution": field}})


def test_choices_that_differ_by_case_only_stay_two_and_what_may_mean_either_is_refused() -> None:
    manifest = with_choices("A", "a", "b")
    assert planned(manifest, resolution="A")["resolution"] == "A"
    assert planned(manifest, resolution=" a ")["resolution"] == "a"
    assert planned(manifest, resolution="B")["resolution"] == "b"
    assert key(manifest, resolution="A") != key(manifest, resolution="a")
    both = with_choices("Fast", "FAST")
    with pytest.raises(InvalidInput, match="cannot be 'fast'"):
        planned(both, resolution="fast")


def test_an_alias_and_a_choice_that_mean_the_same_are_one() -> None:
    manifest = with_choices("Full HD", "hd", FULL_HD="Full HD", HD="hd")
    assert planned(manifest, resolution="Hd")["resolution"] == "hd"
    assert planned(manifest, resolution="full_hd")["resolution"] == "Full HD"
