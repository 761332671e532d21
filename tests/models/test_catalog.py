"""The shipped manifests, the user's own, and which model is chosen."""

from dataclasses import replace
from pathlib import Path

import pytest

from rotoscope.errors import InvalidInput, MissingKey, UnknownModel
from rotoscope.models.catalog import Catalog, load_catalog, manifest_folder, read_manifest
from rotoscope.models.manifest import ToolName

OWN = """
id = "me/my-segmenter"
title = "Mine"
tool = "segment_image"
rank = 1
prompts = ["text"]
source = "me"
[[routes]]
provider = "gateway"
form = "official"
endpoint = "me/my-segmenter"
[inputs.picture]
kind = "image"
required = true
argument = "image"
[inputs.what]
kind = "string"
required = true
argument = "instruction"
[outputs]
masks = "$"
[timing]
typical_seconds = 2
deadline_seconds = 60
[example]
picture = "https://example.com/a.png"
what = "cat"
"""
SHIPPED = {
    "bytedance/sa2va-4b-image": "segment_image",
    "fal-ai/sam2/image": "segment_image",
    "sam-v2-image": "segment_image",
    "fal-ai/sa2va/8b/image": "describe_with_masks",
    "bytedance/seedance-2.0": "generate_video",
    "prunaai/vace-14b": "edit_video_with_mask",
    "fal-ai/sam-3/image": "segment_image",
    "mattsays/sam3-image": "segment_image",
    "sam3-image": "segment_image",
    "bytedance/seedance-2.0/fast": "generate_video",
    "bytedance/seedance-2.0/mini": "generate_video",
    "fal-ai/wan-22-vace-fun-a14b/inpainting": "edit_video_with_mask",
    "fal-ai/void-video-inpainting": "edit_video_with_mask",
    **{
        f"fal-ai/{family}/{kind}": "segment_video" for family in ("sam-3", "sam-3-1") for kind in ("video", "video-rle")
    },
    "fal-ai/sam-3/video-rle-objects": "segment_video",
    "fal-ai/sam2/video": "segment_video",
    "lucataco/sam3-video": "segment_video",
    **{f"fal-ai/kling-video/o3/{tier}/video-to-video/edit": "edit_video_with_mask" for tier in ("standard", "pro")},
    "fal-ai/wan/v2.7/edit-video": "edit_video_with_mask",
    "bytedance/seedance-2.0/edit": "edit_video_with_mask",
}


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return load_catalog(manifest_folder())


def test_the_five_models_of_the_documents_and_those_of_today_are_shipped(catalog: Catalog) -> None:
    assert {m.id: m.tool for m in catalog.models.values()} == SHIPPED
    assert set(catalog.providers) == {"replicate", "fal", "segmind", "gateway"}
    assert not catalog.problems


@pytest.mark.parametrize("model", SHIPPED)
def test_every_fact_that_is_marked_inferred_is_stated(catalog: Catalog, model: str) -> None:
    """A mark on a fact that is not there would say nothing."""
    for name, field in catalog.models[model].inputs.items():
        assert set(field.inferred) <= field.model_fields_set, name


@pytest.mark.parametrize("model", SHIPPED)
def test_an_example_holds_every_required_input(catalog: Catalog, model: str) -> None:
    manifest = catalog.models[model]
    required = {name for name, field in manifest.inputs.items() if field.required}
    assert required <= set(manifest.example)


@pytest.mark.parametrize(
    ("tool", "kinds", "model"),
    [
        ("segment_image", {"text"}, "fal-ai/sam-3/image"),
        ("segment_image", {"points"}, "fal-ai/sam-3/image"),
        ("segment_image", {"box"}, "fal-ai/sam-3/image"),
        ("segment_image", {"text", "points", "box"}, "fal-ai/sam-3/image"),
        ("describe_with_masks", set(), "fal-ai/sa2va/8b/image"),
        ("generate_video", set(), "bytedance/seedance-2.0"),
        ("edit_video_with_mask", set(), "fal-ai/wan-22-vace-fun-a14b/inpainting"),
    ],
)
def test_without_a_name_the_first_fitting_model_is_chosen(
    catalog: Catalog, tool: ToolName, kinds: set[str], model: str
) -> None:
    manifest, _ = catalog.choose(tool, frozenset(kinds), None, lambda _: True)  # type: ignore[arg-type]
    assert manifest.id == model


def test_the_chosen_model_is_one_whose_provider_has_a_key(catalog: Catalog) -> None:
    manifest, (route,) = catalog.choose("segment_image", frozenset({"text"}), None, lambda name: name == "segmind")
    assert (manifest.id, route.provider) == ("sam-v2-image", "segmind")


def test_a_model_can_be_named_with_one_of_its_providers(catalog: Catalog) -> None:
    _, (route,) = catalog.choose("edit_video_with_mask", frozenset(), "prunaai/vace-14b@replicate", lambda _: True)
    assert (route.provider, route.form) == ("replicate", "version")


def test_a_missing_key_is_reported_by_the_name_of_its_variable(catalog: Catalog) -> None:
    with pytest.raises(MissingKey, match="REPLICATE_API_TOKEN"):
        catalog.choose("segment_image", frozenset({"text"}), "bytedance/sa2va-4b-image", lambda _: False)


def test_an_unknown_model_is_answered_with_the_nearest_name(catalog: Catalog) -> None:
    with pytest.raises(UnknownModel) as caught:
        catalog.choose("segment_image", frozenset({"text"}), "bytedance/sa2va-4b-imag", lambda _: True)
    assert "bytedance/sa2va-4b-image" in caught.value.hint


def test_a_model_of_another_tool_is_refused(catalog: Catalog) -> None:
    with pytest.raises(UnknownModel, match="generate_video"):
        catalog.choose("segment_image", frozenset({"text"}), "bytedance/seedance-2.0", lambda _: True)


def test_a_provider_that_does_not_offer_the_model_is_refused(catalog: Catalog) -> None:
    with pytest.raises(UnknownModel) as caught:
        catalog.choose("segment_image", frozenset({"text"}), "sam-v2-image@fal", lambda _: True)
    assert "segmind" in caught.value.hint


def test_a_prompt_that_the_named_model_does_not_take_is_refused(catalog: Catalog) -> None:
    with pytest.raises(InvalidInput, match="does not take a box"):
        catalog.choose("segment_image", frozenset({"box"}), "sam-v2-image", lambda _: True)


def test_prompts_that_no_model_takes_together_are_refused(catalog: Catalog) -> None:
    others = {name: one for name, one in catalog.models.items() if name != "fal-ai/sam-3/image"}
    with pytest.raises(InvalidInput, match="together"):
        replace(catalog, models=others).choose("segment_image", frozenset({"text", "box"}), None, lambda _: True)


def test_a_manifest_in_the_users_folder_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(OWN, encoding="utf-8")
    catalog = load_catalog(manifest_folder(), tmp_path)
    manifest, _ = catalog.choose("segment_image", frozenset({"text"}), None, lambda _: True)
    assert manifest.id == "me/my-segmenter"


def test_a_provider_in_the_users_folder_is_loaded(tmp_path: Path) -> None:
    providers = (
        '[mine]\ntitle = "Mine"\ndialect = "replicate"\nbases = { api = "https://models.example.com" }\n'
        'base_variable = "MINE_BASE_URL"\nkey_variables = ["MINE_KEY"]\n'
        'auth = { header = "Authorization", prefix = "Bearer " }\noutput_hosts = []\n'
        'can_cancel = true\ncan_upload = false\ninline_bytes = 1000\nsource = "me"\n'
    )
    (tmp_path / "providers.toml").write_text(providers, encoding="utf-8")
    (tmp_path / "mine.toml").write_text(OWN.replace('"gateway"', '"mine"'), encoding="utf-8")
    catalog = load_catalog(manifest_folder(), tmp_path)
    assert "mine" in catalog.providers
    assert "me/my-segmenter" in catalog.models


def test_a_users_manifest_with_a_mistake_is_left_out_and_reported(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(OWN.replace("rank = 1", "rnak = 1"), encoding="utf-8")
    catalog = load_catalog(manifest_folder(), tmp_path)
    assert set(catalog.models) == set(SHIPPED)
    assert "rnak" in catalog.problems[0]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (('tool = "segment_image"', 'tool = "make_tea"'), "tool"),
        (('provider = "gateway"', 'provider = "nobody"'), "nobody"),
        (('kind = "image"', 'kind = "smell"'), "inputs.picture.kind"),
        (("[outputs]", "[outputs"), "TOML"),
        (('what = "cat"', 'why = "cat"'), "why"),
        (('argument = "instruction"', 'argument = "instruction"\ninferred = ["colour"]'), "colour"),
    ],
)
def test_a_mistake_in_a_manifest_names_the_file_and_the_fact(
    tmp_path: Path, change: tuple[str, str], words: str
) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(OWN.replace(*change), encoding="utf-8")
    with pytest.raises(InvalidInput) as caught:
        read_manifest(file, load_catalog(manifest_folder()).providers)
    assert "mine.toml" in caught.value.message
    assert words in caught.value.message


def test_a_missing_manifest_is_reported(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"none\.toml cannot be read"):
        read_manifest(tmp_path / "none.toml", {})


PRICE = '\n[price]\nunit = "run"\nusd = 0.5\nseen = "2026-11"\n'
PICTURE_FACT = ('argument = "image"', 'argument = "image"\n{}')
NUMBERS = [
    ("price.usd", ("usd = 0.5", "usd = {}"), ["nan", "-nan", "inf", "-inf", "-1", "-0.01", "1e7", "true", '"4"']),
    ("timing.typical_seconds", ("typical_seconds = 2", "typical_seconds = {}"), ["nan", "inf", "0", "-2", "1e9"]),
    ("timing.deadline_seconds", ("deadline_seconds = 60", "deadline_seconds = {}"), ["nan", "inf", "0", "-2", "1e30"]),
    ("timing.cold_start_seconds", ("[timing]", "[timing]\ncold_start_seconds = {}"), ["nan", "inf", "-1"]),
    ("outputs.frame_rate", ("[outputs]", "[outputs]\nframe_rate = {}"), ["nan", "inf", "0", "-24", "1e6"]),
    ("inputs.picture.minimum", (PICTURE_FACT[0], PICTURE_FACT[1].format("minimum = {}")), ["nan", "inf", "-inf"]),
    ("inputs.picture.maximum", (PICTURE_FACT[0], PICTURE_FACT[1].format("maximum = {}")), ["nan", "inf"]),
    ("inputs.picture", (PICTURE_FACT[0], PICTURE_FACT[1].format("minimum = 3\nmaximum = {}")), ["2"]),
    ("inputs.picture.default", (PICTURE_FACT[0], PICTURE_FACT[1].format("default = {}")), ["nan", "inf"]),
    ("inputs.picture.send", (PICTURE_FACT[0], PICTURE_FACT[1].format("send = {}")), ["nan"]),
    ("inputs.picture.step", (PICTURE_FACT[0], PICTURE_FACT[1].format("step = {}")), ["0", "-4", "nan"]),
    ("inputs.picture.max_items", (PICTURE_FACT[0], PICTURE_FACT[1].format("max_items = {}")), ["0", "-1", "inf"]),
    ("inputs.picture.max_length", (PICTURE_FACT[0], PICTURE_FACT[1].format("max_length = {}")), ["0", "nan"]),
    ("inputs.picture.max_total_seconds", (PICTURE_FACT[0], PICTURE_FACT[1].format("max_total_seconds = {}")), ["nan"]),
    ("inputs.picture.choices.1", (PICTURE_FACT[0], PICTURE_FACT[1].format("choices = [1, {}]")), ["nan"]),
]


@pytest.mark.parametrize(
    ("place", "change", "value"), [(place, change, value) for place, change, values in NUMBERS for value in values]
)
def test_a_number_that_no_limit_can_be_compared_with_is_refused_by_its_place(
    tmp_path: Path, place: str, change: tuple[str, str], value: str
) -> None:
    """TOML has nan and inf: every comparison of a cap with nan is false."""
    text = OWN.replace("\n[example]", PRICE + "[example]")
    broken = text.replace(change[0], change[1].format(value), 1)
    assert broken != text
    (tmp_path / "mine.toml").write_text(broken, encoding="utf-8")
    catalog = load_catalog(manifest_folder(), tmp_path)
    assert set(catalog.models) == set(SHIPPED)
    (words,) = catalog.problems
    assert words.startswith(f"mine.toml: {place}: ")
    assert words.count("\n") == 0


@pytest.mark.parametrize("usd", ["0", "0.0", "2", "0.5", "1e6"])
def test_a_valid_price_is_read(tmp_path: Path, usd: str) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(OWN.replace("\n[example]", PRICE.replace("0.5", usd) + "[example]"), encoding="utf-8")
    price = read_manifest(file, load_catalog(manifest_folder()).providers).price
    assert price is not None
    assert price.usd == float(usd)


@pytest.mark.parametrize(
    "fact", ["inline_bytes = nan", "inline_bytes = -1", "output_seconds = 0", "at_once = 0", "upload_bytes = inf"]
)
def test_an_invalid_number_of_a_provider_is_reported(tmp_path: Path, fact: str) -> None:
    shipped = (manifest_folder() / "providers.toml").read_text(encoding="utf-8")
    gateway = shipped[shipped.index("[gateway]") :]
    kept = [line for line in gateway.splitlines() if not line.startswith(fact.partition(" ")[0])]
    (tmp_path / "providers.toml").write_text("\n".join([*kept, fact, ""]), encoding="utf-8")
    (words,) = load_catalog(manifest_folder(), tmp_path).problems
    assert fact.partition(" ")[0] in words


def test_a_model_that_takes_no_mask_is_chosen_where_it_is_named_or_no_other_can_be_used(catalog: Catalog) -> None:
    words = {name: one.model_copy(update={"rank": 1}) for name, one in catalog.models.items() if one.edits_by_words}
    assert len(words) == 4
    first = Catalog(catalog.providers, {**catalog.models, **words})
    chosen, _ = first.choose("edit_video_with_mask", frozenset(), None, lambda _: True)
    assert chosen.id == "fal-ai/wan-22-vace-fun-a14b/inpainting"
    named, _ = first.choose("edit_video_with_mask", frozenset(), "bytedance/seedance-2.0/edit@fal", lambda _: True)
    assert named.edits_by_words
    alone = Catalog(catalog.providers, {**words, "prunaai/vace-14b": catalog.models["prunaai/vace-14b"]})
    left, _ = alone.choose("edit_video_with_mask", frozenset(), None, lambda provider: provider == "fal")
    assert left.edits_by_words
