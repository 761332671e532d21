"""Values that providers write as text, from numbers, and the reverse: "5", "8s", "1080p", "24fps"."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rotoscope.errors import InvalidInput
from rotoscope.models.catalog import load_catalog, manifest_folder, read_manifest
from rotoscope.models.encoders import ENCODERS
from rotoscope.models.manifest import ENCODER_ALIASES, Input, Manifest
from rotoscope.models.plan import plan_call
from rotoscope.models.request_key import request_and_price_keys, trim_arguments

CATALOG = load_catalog(manifest_folder())
SEEDANCE = CATALOG.models["bytedance/seedance-2.0"]


def with_input(name: str, **facts: Any) -> Manifest:
    field = Input(argument=name, **facts)
    return SEEDANCE.model_copy(update={"inputs": {**SEEDANCE.inputs, name: field}})


def sent(manifest: Manifest, name: str, value: Any) -> Any:
    return plan_call(manifest, manifest.routes[0], {"prompt": "a", name: value}, lambda: 1).call.input[name]


@pytest.mark.parametrize(
    ("facts", "given", "expected"),
    [
        ({"choices": ("5", "10")}, 5, "5"),
        ({"choices": ("5", "10")}, 10.0, "10"),
        ({"choices": ("4s", "8s")}, 8, "8s"),
        ({"choices": ("8 s", "12 s")}, 12, "12 s"),
        ({"choices": ("auto", "5s"), "aliases": {"-1": "auto"}}, -1, "auto"),
        ({"choices": ("short", "long"), "aliases": {"5": "short", "10": "long"}}, 10, "long"),
        ({"spelling": "{}s"}, 7, "7s"),
        ({"spelling": "PT{}S", "minimum": 2, "maximum": 9}, 9, "PT9S"),
        ({"spelling": "{}s", "aliases": {"-1": "auto"}}, -1, "auto"),
    ],
)
def test_a_number_fills_a_text_input_as_the_manifest_spells_it(facts: Any, given: float, expected: str) -> None:
    assert sent(with_input("duration", kind="string", **facts), "duration", given) == expected


@pytest.mark.parametrize(
    ("facts", "given", "message"),
    [
        ({"choices": ("5", "10")}, 7, "'duration' cannot be '7'"),
        ({"choices": ("5s", "5min")}, 5, "'duration' cannot be '5'"),
        ({"choices": ("4k", "2k")}, 4, "'duration' cannot be '4'"),
        ({"spelling": "{}s", "minimum": 2, "maximum": 9}, 10, "the model takes 2 to 9"),
        ({"spelling": "{}s", "step": 4}, 6, "multiple of 4"),
        ({}, 5, "must be text"),
    ],
)
def test_a_number_that_the_manifest_does_not_spell_is_refused(facts: Any, given: int, message: str) -> None:
    manifest = with_input("duration", kind="string", **facts)
    with pytest.raises(InvalidInput, match=message):
        sent(manifest, "duration", given)


@pytest.mark.parametrize(
    ("facts", "given", "expected"),
    [
        ({"choices": (480, 720, 1080)}, "1080p", 1080),
        ({"choices": (480, 720, 1080)}, "720", 720),
        ({"spelling": "{}p", "minimum": 240, "maximum": 2160}, "1080p", 1080),
        ({"minimum": 240, "maximum": 2160}, "1080", 1080),
        ({"choices": (720, 2160), "aliases": {"4k": 2160}}, "4K", 2160),
    ],
)
def test_a_text_fills_a_number_input_as_the_manifest_spells_it(facts: Any, given: str, expected: int) -> None:
    assert sent(with_input("resolution", kind="integer", **facts), "resolution", given) == expected


@pytest.mark.parametrize(
    ("facts", "given", "message"),
    [
        ({"choices": (480, 720)}, "1080p", "must be a number"),
        ({"choices": (480, 720)}, "500", "cannot be '500'"),
        ({"spelling": "{}p", "maximum": 1080}, "1080i", "must be a number"),
        ({"spelling": "{}p", "maximum": 1080, "minimum": 1}, "1440p", "the model takes 1 to 1080"),
    ],
)
def test_a_text_that_is_no_number_of_the_model_is_refused(facts: Any, given: str, message: str) -> None:
    manifest = with_input("resolution", kind="integer", **facts)
    with pytest.raises(InvalidInput, match=message):
        sent(manifest, "resolution", given)


def test_a_truth_value_fills_a_text_input_by_its_alias() -> None:
    manifest = with_input(
        "generate_audio", kind="string", choices=("on", "off"), aliases={"true": "on", "false": "off"}
    )
    assert [sent(manifest, "generate_audio", value) for value in (True, False)] == ["on", "off"]


@given(st.integers(-999, 10**9), st.sampled_from(["{}", "{}s", "{} fps", "PT{}S", "{}p"]))
def test_a_spelled_number_is_read_back_as_the_same_number(number: int, spelling: str) -> None:
    text = sent(with_input("duration", kind="string", spelling=spelling), "duration", number)
    assert sent(with_input("resolution", kind="integer", spelling=spelling), "resolution", text) == number


def test_every_spelling_of_one_value_is_one_request() -> None:
    manifest = with_input("resolution", kind="integer", choices=(480, 720))
    keys = {
        request_and_price_keys("me", manifest, plan_call(manifest, manifest.routes[0], asked, lambda: 1), {})
        for text in ("720", "720p", " 720P ")
        for asked in [trim_arguments(manifest, {"prompt": "a", "resolution": text})]
    }
    assert len(keys) == 1


@given(st.integers(0, 2**31 - 1))
def test_a_drawn_seed_is_inside_the_range_of_the_model(drawn: int) -> None:
    manifest = with_input("seed", kind="integer", drawn=True, minimum=10, maximum=65_535)
    plan = plan_call(manifest, manifest.routes[0], {"prompt": "a"}, lambda: drawn)
    assert plan.seed is not None
    assert 10 <= plan.seed <= 65_535
    assert 10 <= drawn <= 65_535 or plan.seed != drawn


@pytest.mark.parametrize("former", ENCODER_ALIASES)
def test_a_former_name_of_an_encoder_means_the_same(former: str) -> None:
    known = Input(kind="string", argument="points", encode=former)  # type: ignore[arg-type]
    assert known.encode == ENCODER_ALIASES[former]
    assert known.encode in ENCODERS


def test_a_manifest_with_former_names_of_encoders_plans_the_same_request(tmp_path: Path) -> None:
    shipped = manifest_folder() / "models" / "sam-v2-image.toml"
    text = shipped.read_text(encoding="utf-8")
    for former, name in ENCODER_ALIASES.items():
        text = text.replace(f'"{name}"', f'"{former}"')
    (tmp_path / "mine.toml").write_text(text, encoding="utf-8")
    assert "kept_points_text" in text
    manifests = [read_manifest(file, CATALOG.providers) for file in (shipped, tmp_path / "mine.toml")]
    assert manifests[0] == manifests[1]


@pytest.mark.parametrize("spelling", ["s", "{}{}", "{", "{x}s"])
def test_a_spelling_without_one_place_for_the_number_is_refused(spelling: str) -> None:
    with pytest.raises(ValueError, match="spelling"):
        Input(kind="string", spelling=spelling)
