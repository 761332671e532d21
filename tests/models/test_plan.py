"""The plan: the exact input that a provider gets, and every value that is refused before it."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rotoscope.errors import InvalidInput
from rotoscope.models.catalog import load_catalog, manifest_folder
from rotoscope.models.plan import media_inputs, plan_call, prompt_kinds, replace_media
from rotoscope.providers.http.messages import Json

CATALOG = load_catalog(manifest_folder())
PICTURE = "artifact://" + "a" * 64


def planned(model: str, **arguments: Any) -> dict[str, Any]:
    manifest = CATALOG.models[model]
    return dict(plan_call(manifest, manifest.routes[0], arguments, lambda: 7).call.input)


def test_text_becomes_the_instruction_of_sa2va() -> None:
    found = planned("bytedance/sa2va-4b-image", image=PICTURE, instruction="segment the snowboarder")
    assert found == {"image": PICTURE, "instruction": "segment the snowboarder"}


def test_a_description_without_a_prompt_sends_the_prompt_of_the_document() -> None:
    found = planned("fal-ai/sa2va/8b/image", image=PICTURE, prompt=None)
    assert found["prompt"] == CATALOG.models["fal-ai/sa2va/8b/image"].example["prompt"]


def test_a_prompt_for_a_description_is_made_to_ask_for_masks() -> None:
    found = planned("fal-ai/sa2va/8b/image", image=PICTURE, prompt="What is on the table?")
    assert found["prompt"].startswith("What is on the table? ")
    assert "interleaved segmentation masks" in found["prompt"]


def test_a_prompt_that_asks_for_masks_itself_is_left_alone() -> None:
    words = "Name the cars with segmentation masks."
    assert planned("fal-ai/sa2va/8b/image", image=PICTURE, prompt=words)["prompt"] == words


def test_points_and_box_become_what_sam2_on_fal_takes() -> None:
    points = [{"x": 10.4, "y": 20, "keep": True}, {"x": 5, "y": 6, "keep": False}]
    box = {"left": 1, "top": 2, "right": 30, "bottom": 40.6}
    assert planned("fal-ai/sam2/image", image=PICTURE, points=points, box=box) == {
        "image_url": PICTURE,
        "prompts": [{"label": 1, "x": 10, "y": 20}, {"label": 0, "x": 5, "y": 6}],
        "box_prompts": [{"x_min": 1, "y_min": 2, "x_max": 30, "y_max": 41}],
        "apply_mask": False,
        "output_format": "png",
    }


@pytest.mark.parametrize(
    ("points", "kept", "dropped"),
    [
        ([{"x": 834, "y": 74, "keep": True}], "[834,74]", None),
        ([{"x": 839, "y": 74, "keep": True}, {"x": 844, "y": 20, "keep": True}], "[[839,74],[844,20]]", None),
        ([{"x": 1, "y": 2, "keep": True}, {"x": 3, "y": 4, "keep": False}], "[1,2]", "[3,4]"),
    ],
)
def test_points_become_text_in_the_form_of_the_segmind_page(
    points: list[dict[str, Any]], kept: str, dropped: str | None
) -> None:
    found = planned("sam-v2-image", image=PICTURE, points=points)
    assert found["coordinates"] == kept
    assert found.get("remove_coordinates") == dropped
    assert found["prompt"] == ""


def test_overlay_and_base64_are_always_sent_to_segmind() -> None:
    """The page and its generator disagree about the defaults, so neither is left to chance."""
    found = planned("sam-v2-image", image=PICTURE, instruction="boy")
    assert found == {"image": PICTURE, "prompt": "boy", "overlay_mask": False, "base64": False}


def test_a_seed_is_drawn_when_the_model_takes_one_and_none_is_given() -> None:
    manifest = CATALOG.models["bytedance/seedance-2.0"]
    drawn = plan_call(manifest, manifest.routes[0], {"prompt": "a cat"}, lambda: 1234)
    assert drawn.seed == drawn.call.input["seed"] == 1234


def test_a_seed_that_is_given_is_kept() -> None:
    manifest = CATALOG.models["bytedance/seedance-2.0"]
    assert plan_call(manifest, manifest.routes[0], {"prompt": "a cat", "seed": 99}, lambda: 1).seed == 99


def test_prompts_in_any_script_pass_untouched() -> None:
    words = "按 Image 1 的故事版生成视频 🎬"
    assert planned("bytedance/seedance-2.0", prompt=words)["prompt"] == words


def test_a_short_alias_becomes_the_exact_string_of_the_model() -> None:
    found = planned("prunaai/vace-14b", prompt="x", speed_mode="fastest", size="832x480")
    assert found["speed_mode"] == "Extra Juiced 🚀 (even more speed)"
    assert found["size"] == "832*480"


@pytest.mark.parametrize(
    ("model", "arguments", "words"),
    [
        ("bytedance/sa2va-4b-image", {"image": PICTURE}, "'instruction'"),
        ("bytedance/sa2va-4b-image", {"image": PICTURE, "instruction": "x" * 2001}, "at most 2000"),
        ("bytedance/sa2va-4b-image", {"image": PICTURE, "instruction": 5}, "must be text"),
        ("bytedance/seedance-2.0", {"prompt": "a", "duration": 3}, "4 to 15, or -1"),
        ("bytedance/seedance-2.0", {"prompt": "a", "duration": 16}, "4 to 15, or -1"),
        ("bytedance/seedance-2.0", {"prompt": "a", "duration": 4.5}, "whole number"),
        ("bytedance/seedance-2.0", {"prompt": "a", "duration": True}, "must be a number"),
        ("bytedance/seedance-2.0", {"prompt": "a", "generate_audio": "yes"}, "true or false"),
        ("bytedance/seedance-2.0", {"prompt": "a", "resolution": "8k"}, "cannot be '8k'"),
        ("bytedance/seedance-2.0", {"prompt": "a", "last_frame": PICTURE}, "needs 'first_frame'"),
        (
            "bytedance/seedance-2.0",
            {"prompt": "a", "first_frame": PICTURE, "reference_images": [PICTURE]},
            "cannot go together",
        ),
        ("bytedance/seedance-2.0", {"prompt": "a", "reference_audios": ["https://a.b/c.mp3"]}, "needs one of"),
        ("bytedance/seedance-2.0", {"prompt": "a", "reference_images": [PICTURE] * 10}, "at most 9"),
        ("prunaai/vace-14b", {"prompt": "a", "frame_num": 80}, "multiple of 4 plus 1"),
        ("prunaai/vace-14b", {"prompt": "a", "frame_num": 85}, "1 to 81"),
    ],
)
def test_a_value_that_the_model_does_not_take_is_refused_by_the_name_of_the_argument(
    model: str, arguments: dict[str, Any], words: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        planned(model, **arguments)
    assert words in caught.value.message
    assert caught.value.hint


def test_automatic_duration_is_taken_although_it_is_outside_the_range() -> None:
    assert planned("bytedance/seedance-2.0", prompt="a", duration=-1)["duration"] == -1


def test_an_empty_list_of_references_counts_as_none() -> None:
    found = planned("bytedance/seedance-2.0", prompt="a", first_frame=PICTURE, reference_images=[])
    assert found["reference_images"] == []


def test_a_known_price_is_estimated_and_an_unknown_one_is_unknown() -> None:
    film = CATALOG.find_at("bytedance/seedance-2.0", "replicate")
    known = plan_call(film, film.routes[0], {"prompt": "a"}, lambda: 1).estimate
    assert known.typical_usd == 0.9
    assert known.basis == "5 s at 720p, 0.18 USD a second; replicate, 2026-11"
    edit = CATALOG.find_at("prunaai/vace-14b", "gateway")
    assert plan_call(edit, edit.routes[0], {"prompt": "a"}, lambda: 1).estimate.typical_usd is None


def test_only_media_are_moved_to_the_providers_urls() -> None:
    manifest = CATALOG.models["bytedance/seedance-2.0"]
    asked: dict[str, Json] = {"prompt": PICTURE, "image": PICTURE, "reference_images": [PICTURE, "https://x.y/z.png"]}
    moved = replace_media(manifest, asked, {PICTURE: "https://files/1"})
    assert moved == {
        "prompt": PICTURE,
        "image": "https://files/1",
        "reference_images": ["https://files/1", "https://x.y/z.png"],
    }
    assert media_inputs(manifest, asked) == (PICTURE, "https://x.y/z.png")


@given(
    st.lists(
        st.fixed_dictionaries({"x": st.floats(0, 9e3), "y": st.floats(0, 9e3), "keep": st.booleans()}),
        min_size=1,
        max_size=8,
    )
)
def test_no_point_is_lost_or_changes_sides(points: list[dict[str, Any]]) -> None:
    found = planned("sam-v2-image", image=PICTURE, points=points)

    def count(text: str | None) -> int:
        parsed = json.loads(text) if text else []
        return 1 if parsed and not isinstance(parsed[0], list) else len(parsed)

    assert count(found.get("coordinates")) == sum(p["keep"] for p in points)
    assert count(found.get("remove_coordinates")) == sum(not p["keep"] for p in points)


def test_the_kinds_of_prompt_are_distinguished() -> None:
    assert prompt_kinds({"instruction": "a", "points": None, "box": {}}) == {"text"}
    assert prompt_kinds({"instruction": None, "points": [{"x": 1}], "box": {"left": 1}}) == {"points", "box"}
