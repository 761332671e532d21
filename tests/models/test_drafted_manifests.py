"""Manifests drafted from schemas: what fills each input, where the result is, and why some models give none."""

import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from schemas import fal_document, replicate_document

from rotoscope.errors import InvalidInput
from rotoscope.models.catalog import load_catalog, manifest_folder
from rotoscope.models.manifest import Manifest
from rotoscope.models.manifest_check import check_manifest
from rotoscope.models.price import Price
from rotoscope.models.schemas.documents import parse_model_name, read_document
from rotoscope.models.schemas.drafting import Draft, draft_manifest
from rotoscope.models.schemas.tools import DraftRefusal
from rotoscope.models.schemas.writing import write_manifest

PROVIDERS = load_catalog(manifest_folder()).providers
FILE = {"$ref": "#/components/schemas/File"}
IMAGE = {"$ref": "#/components/schemas/Image"}
URI = {"type": "string", "format": "uri"}
TEXT = {"type": "string"}
POINT = {"type": "object", "properties": {"x": {}, "y": {}, "label": {}, "frame_index": {}}}
BOX = {"type": "object", "properties": {"x_min": {}, "y_min": {}, "x_max": {}, "y_max": {}}}


def drafted(name: str, document: Any, tool: Any = None) -> Draft | DraftRefusal:
    return draft_manifest(read_document(parse_model_name(name), document), PROVIDERS, "2026-11-28", tool)


def manifest_of(name: str, document: Any, tool: Any = None) -> Manifest:
    """The manifest as it comes back from its file, which says the same as the draft."""
    found = drafted(name, document, tool)
    assert isinstance(found, Draft), found
    read = Manifest.model_validate(tomllib.loads(write_manifest(found.manifest, found.comments)))
    assert read == found.manifest
    assert not check_manifest(read, PROVIDERS).problems
    return read


def fal_video(properties: dict[str, Any], *, required: list[str] | None = None) -> Manifest:
    document = fal_document("o/m", properties, {"video": FILE}, required=required, category="image-to-video")
    return manifest_of("fal:o/m", document)


def fillings(manifest: Manifest) -> dict[str, str | None]:
    return {name: one.argument for name, one in manifest.inputs.items()}


def test_the_usual_inputs_of_a_video_model_are_filled_by_the_arguments_that_mean_them() -> None:
    found = fal_video(
        {
            "prompt": {"type": "string", "maxLength": 2500},
            "image_url": TEXT,
            "tail_image_url": TEXT,
            "reference_image_urls": {"type": "array", "items": TEXT, "maxItems": 4},
            "audio_url": TEXT,
            "duration": {"type": "string", "enum": ["auto", "4s", "8s"], "default": "8s"},
            "resolution": {"type": "string", "enum": ["720p", "1080p"], "default": "720p"},
            "aspect_ratio": {"type": "string", "enum": ["16:9", "9:16"]},
            "generate_audio": {"type": "boolean", "default": True},
            "seed": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
            "negative_prompt": {"type": "string", "default": "blur"},
            "cfg_scale": {"type": "number", "default": 0.5, "minimum": 0, "maximum": 1},
            "sync_mode": {"type": "boolean"},
        },
        required=["prompt", "image_url"],
    )
    assert fillings(found) == {
        "prompt": "prompt",
        "image_url": "first_frame",
        "tail_image_url": "last_frame",
        "reference_image_urls": "reference_images",
        "audio_url": "reference_audios",
        "duration": "duration",
        "resolution": "resolution",
        "aspect_ratio": "aspect_ratio",
        "generate_audio": "generate_audio",
        "seed": "seed",
        "negative_prompt": None,
        "cfg_scale": None,
    }
    assert found.tool == "generate_video"
    assert found.outputs.video == "video"
    assert found.inputs["seed"].drawn
    assert found.inputs["duration"].aliases == {"-1": "auto"}
    assert found.inputs["image_url"].kind == "image"
    assert found.inputs["prompt"].max_length == 2500
    assert "sync_mode" not in found.inputs


def test_limits_of_a_list_of_files_are_taken_from_the_description_where_only_it_says_them() -> None:
    clips = "Max 15 MB per file. Up to 3 files, combined duration must not exceed 15 seconds."
    pictures = "If videos are given up to 4 images are allowed; otherwise up to 7 images."
    found = fal_video(
        {
            "prompt": TEXT,
            "video_urls": {"type": "array", "items": TEXT, "description": clips},
            "image_urls": {"type": "array", "items": TEXT, "description": pictures},
        }
    )
    assert (found.inputs["video_urls"].max_items, found.inputs["video_urls"].max_total_seconds) == (3, 15)
    assert (found.inputs["image_urls"].max_items, found.inputs["image_urls"].max_total_seconds) == (7, None)


@pytest.mark.parametrize(("names", "last"), [(("image1", "image2"), "last_frame"), (("img_1", "img_2", "img_3"), None)])
def test_the_second_of_two_numbered_pictures_is_the_end_and_of_three_it_is_not(
    names: tuple[str, ...], last: str | None
) -> None:
    found = fal_video({"prompt": TEXT, **{f"{name}_url": TEXT for name in names}})
    assert [one.argument for one in found.inputs.values()][:3] == ["prompt", "first_frame", last]


def test_minus_one_seconds_let_the_model_choose() -> None:
    found = fal_video({"prompt": TEXT, "duration": {"type": "integer", "minimum": -1, "maximum": 15, "default": 5}})
    assert (found.inputs["duration"].minimum, found.inputs["duration"].also) == (1, (-1,))


def test_a_single_file_is_filled_by_an_argument_that_is_a_list() -> None:
    found = fal_video(
        {"prompt": TEXT, "video_url": TEXT, "reference_image_url": TEXT}, required=["prompt", "video_url"]
    )
    assert fillings(found) == {
        "prompt": "prompt", "video_url": "reference_videos", "reference_image_url": "reference_images",
    }  # fmt: skip
    assert not found.inputs["video_url"].many


def test_a_length_in_frames_is_no_duration() -> None:
    found = fal_video({"prompt": TEXT, "length": {"type": "integer", "description": "in frames", "default": 97}})
    assert found.inputs["length"].argument is None


def test_a_segmenter_is_asked_for_bare_masks_and_never_for_its_authors_own_words() -> None:
    document = fal_document(
        "o/sam-3/image",
        {
            "image_url": TEXT,
            "prompt": {"type": "string", "default": "wheel"},
            "point_prompts": {"type": "array", "items": {"$ref": "#/components/schemas/Point"}, "default": []},
            "box_prompts": {"type": "array", "items": {"$ref": "#/components/schemas/Box"}},
            "apply_mask": {"type": "boolean", "default": True},
            "return_multiple_masks": {"type": "boolean", "default": False},
            "max_masks": {"type": "integer", "default": 3, "minimum": 1, "maximum": 32},
            "output_format": {"type": "string", "enum": ["jpeg", "png"], "default": "png"},
        },
        {"image": IMAGE, "masks": {"type": "array", "items": IMAGE}},
        required=["image_url"],
        category="image-to-image",
        schemas={"Point": POINT, "Box": BOX},
    )
    found = manifest_of("fal:o/sam-3/image", document)
    assert (found.tool, found.prompts) == ("segment_image", ("text", "points", "box"))
    assert found.outputs.masks == "masks[]"
    sent = {name: one.send for name, one in found.inputs.items() if one.send is not None}
    assert sent == {
        "prompt": "", "apply_mask": False, "return_multiple_masks": True, "max_masks": 32, "output_format": "png",
    }  # fmt: skip
    encoded = {name: one.encode for name, one in found.inputs.items() if one.encode}
    assert encoded == {"point_prompts": "labelled_points", "box_prompts": "corner_box"}


def test_a_model_that_gives_an_archive_or_a_painted_picture_by_default_is_asked_for_the_mask() -> None:
    properties = {
        "image": URI,
        "prompt": {"type": "string", "default": "person"},
        "mask_only": {"type": "boolean", "default": False},
        "return_zip": {"type": "boolean", "default": True},
        "save_overlay": {"type": "boolean", "default": False},
    }
    document = replicate_document("o/sam3-image", properties, URI, required=["image"], description="Segment anything")
    document["default_example"] = {"output": "https://example.com/out.png", "metrics": {"predict_time": 1.23}}
    found = manifest_of("replicate:o/sam3-image", document)
    assert {name: found.inputs[name].send for name in ("mask_only", "return_zip", "save_overlay")} == {
        "mask_only": True, "return_zip": False, "save_overlay": False,
    }  # fmt: skip
    assert (found.timing.typical_seconds, found.timing.inferred) == (1.2, ("deadline_seconds",))
    assert found.routes[0].form == "version"
    assert found.routes[0].version == "0" * 64


def test_clicks_as_text_are_filled_where_the_schema_shows_their_form() -> None:
    properties = {
        "image": URI,
        "coordinates": {"type": "string", "description": "[x,y] or [[x,y],[x,y]]"},
        "remove_coordinates": {"type": "string", "description": "[x,y] of what is left out"},
    }
    document = replicate_document("o/sam", properties, {"type": "object", "properties": {"mask": URI}})
    found = manifest_of("replicate:o/sam", document)
    assert [one.encode for one in found.inputs.values()] == [None, "include_points_json", "exclude_points_json"]
    assert found.prompts == ("points",)
    assert found.outputs.masks == "mask"


def test_a_masked_edit_covers_its_video_and_follows_its_length() -> None:
    properties = {
        "prompt": TEXT,
        "video_url": TEXT,
        "mask_video_url": TEXT,
        "mask_image_url": TEXT,
        "ref_image_urls": {"type": "array", "items": TEXT},
        "num_frames": {"type": "integer", "default": 81, "minimum": 17, "maximum": 241},
        "num_inference_steps": {"type": "integer", "default": 30, "minimum": 2, "maximum": 50},
        "task": {"type": "string", "enum": ["depth", "inpainting"], "default": "depth"},
    }
    document = fal_document("o/vace", properties, {"video": FILE}, required=["prompt", "video_url"])
    document["info"]["x-fal-metadata"]["category"] = "video-to-video"
    found = manifest_of("fal:o/vace", document)
    assert found.tool == "edit_video_with_mask"
    assert found.inputs["mask_video_url"].covers == "video_url"
    assert (found.inputs["num_frames"].fits, found.inputs["num_frames"].step) == ("frames", 4)
    assert found.inputs["num_inference_steps"].argument == "sample_steps"
    assert found.inputs["task"].send == "inpainting"
    assert found.inputs["mask_image_url"].argument is None


def test_a_mask_of_a_video_that_may_be_a_picture_takes_both() -> None:
    properties = {
        "video": URI,
        "mask": {**URI, "description": "A mask as image or video"},
        "prompt": TEXT,
    }
    document = replicate_document("o/erase", properties, URI, required=["video", "mask"])
    document["default_example"] = {"output": "https://example.com/out.mp4"}
    assert manifest_of("replicate:o/erase", document).inputs["mask"].kind == "visual"


def test_an_authors_own_file_is_never_the_default_of_anybody_else() -> None:
    properties = {"image": {**URI, "default": "https://example.com/author.png"}, "prompt": TEXT}
    document = replicate_document("o/animate", properties, URI, is_official=True)
    document["default_example"] = {"output": ["https://example.com/out.mp4"]}
    found = manifest_of("replicate:o/animate", document)
    assert found.inputs["image"].required
    assert found.inputs["image"].default is None
    assert (found.routes[0].form, found.routes[0].version) == ("official", None)


def test_secrets_and_what_is_deprecated_are_left_out_and_said() -> None:
    properties = {
        "prompt": TEXT,
        "token": {"type": "string", "format": "password"},
        "old": {**TEXT, "deprecated": True},
    }
    found = drafted("fal:o/m", fal_document("o/m", properties, {"video": FILE}, category="text-to-video"))
    assert isinstance(found, Draft)
    assert list(found.manifest.inputs) == ["prompt"]
    text = write_manifest(found.manifest, found.comments)
    assert "left out: token (a secret is never sent)" in text
    assert "left out: old" in text


def test_a_required_input_that_no_argument_fills_is_said_with_what_to_write() -> None:
    properties = {"prompt": TEXT, "effect": {"type": "string", "enum": ["a hug", "a kiss"]}}
    document = fal_document("o/m", properties, {"video": FILE}, required=["effect"], category="text-to-video")
    found = drafted("fal:o/m", document)
    assert isinstance(found, Draft)
    (said,) = found.open_inputs
    assert "options = {effect: ...}" in said
    assert "send = ..." in said
    assert found.manifest.example["effect"] == "a hug"


def test_a_files_kind_comes_from_the_example_where_the_name_says_nothing() -> None:
    properties = {"input": {**URI}, "prompt": TEXT}
    document = replicate_document("o/restyle", properties, URI)
    document["default_example"] = {
        "input": {"input": "https://example.com/a.mp4"}, "output": "https://example.com/b.mp4",
    }  # fmt: skip
    found = manifest_of("replicate:o/restyle", document)
    assert (found.inputs["input"].kind, found.inputs["input"].argument) == ("video", "reference_videos")


SEGMENTER = {"image": URI, "text_prompt": TEXT}


@pytest.mark.parametrize(
    ("reason", "name", "document"),
    [
        ("pictures", "fal:o/m", fal_document("o/m", {"prompt": TEXT}, {"images": {"type": "array", "items": IMAGE}})),
        ("audio", "fal:o/m", fal_document("o/m", {"prompt": TEXT}, {"audio": FILE})),
        ("text", "fal:o/m", fal_document("o/m", {"prompt": TEXT}, {"output": TEXT})),
        ("training", "fal:o/lora-trainer", fal_document("o/lora-trainer", {"images_data_url": TEXT}, {"file": FILE})),
        ("realtime", "fal:o/m/realtime", fal_document("o/m/realtime", {"prompt": TEXT}, {"video": FILE})),
        ("3d", "fal:o/m", fal_document("o/m", {"image_url": TEXT}, {"model_mesh": FILE, "video": FILE})),
        ("archive", "fal:o/m", fal_document("o/m", {"prompt": TEXT}, {"archive_zip": FILE})),
        ("no words", "fal:o/upscale", fal_document("o/upscale", {"video_url": TEXT}, {"video": FILE})),
        ("video masks", "fal:o/sam2/video", fal_document("o/sam2/video", {"video_url": TEXT}, {"video": FILE})),
        ("no words", "replicate:o/sam", replicate_document("o/sam", {"image": URI}, {"properties": {"mask": URI}})),
        ("no input", "fal:o/m", fal_document("o/m", {"fps": {"type": "integer"}}, {"video": FILE})),
        (
            "no input",
            "fal:o/m",
            fal_document("o/m", {"image_url": {**TEXT, "deprecated": True}}, {"video": FILE}),
        ),
        ("data", "replicate:o/m", replicate_document("o/m", {"prompt": TEXT}, {"type": "number"})),
        ("unknown output", "replicate:o/m", replicate_document("o/m", {"prompt": TEXT}, URI)),
    ],
)
def test_a_model_that_fits_no_tool_is_refused_in_one_sentence(reason: str, name: str, document: Any) -> None:
    found = drafted(name, document)
    assert isinstance(found, DraftRefusal)
    assert found.reason == reason
    assert found.message.endswith(".")


def test_a_named_tool_is_taken_where_the_schema_alone_would_refuse() -> None:
    document = replicate_document("o/sam", {"image": URI}, {"type": "object", "properties": {"mask": URI}})
    assert manifest_of("replicate:o/sam", document, "segment_image").outputs.masks == "mask"


def test_a_tool_that_cannot_be_served_is_refused_with_what_is_missing() -> None:
    document = fal_document("o/m", {"prompt": TEXT}, {"video": FILE})
    found = drafted("fal:o/m", document, "edit_video_with_mask")
    assert isinstance(found, DraftRefusal)
    assert "argument = 'video'" in found.message


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=20,
)
WORDS = st.sampled_from(
    [
        "prompt", "image", "image_url", "video_url", "mask", "mask_url", "audio", "duration", "seed", "resolution",
        "num_frames", "size", "points", "masks", "video", "output", "text", "a.b", "[x]", "ключ", "a b", '"', "\x7f",
    ]
)  # fmt: skip
VALUES = st.sampled_from(
    [
        "string", "integer", "number", "boolean", "array", "object", "null", "uri", "password", "auto", "5", 5, -1, 0.5,
        None, True, [], {}, "https://example.com/a.png", "\ud800", "\x00", float("inf"), 10**400, ["string", "null"],
        [1, "a", None], ["5", "10s"], {"url": {"type": "string"}}, {"type": "string"},
        {"$ref": "#/components/schemas/A"},
    ]
)  # fmt: skip
SCHEMA = st.recursive(
    JSON | st.just({"type": "string"}) | st.just({"$ref": "#/components/schemas/A"}),
    lambda inner: st.fixed_dictionaries(
        {},
        optional={
            "type": VALUES, "enum": st.lists(VALUES, max_size=4), "default": VALUES, "format": VALUES,
            "minimum": VALUES, "maximum": VALUES, "exclusiveMinimum": VALUES, "maxLength": VALUES, "title": VALUES,
            "description": st.text(max_size=20) | VALUES, "examples": st.lists(VALUES, max_size=3), "required": JSON,
            "properties": st.dictionaries(WORDS, inner, max_size=5), "items": inner, "nullable": VALUES,
            "allOf": st.lists(inner, max_size=2), "anyOf": st.lists(inner, max_size=3), "multipleOf": VALUES,
            "maxItems": VALUES, "x-order": VALUES, "x-fal-order-properties": JSON,
        },
    ),
    max_leaves=12,
)  # fmt: skip
OUTPUT = SCHEMA | st.fixed_dictionaries(
    {"properties": st.dictionaries(WORDS, st.sampled_from([FILE, IMAGE, URI, TEXT]), min_size=1, max_size=3)}
)
INPUT = st.fixed_dictionaries(
    {"type": st.just("object"), "properties": st.dictionaries(WORDS, SCHEMA, min_size=1, max_size=8)},
    optional={"required": st.lists(WORDS | VALUES, max_size=4), "x-fal-order-properties": JSON},
)


def check_outcome(name: str, document: Any, tool: Any = None) -> None:
    """A manifest that passes the check and comes back from its file, or one sentence: nothing else."""
    try:
        found = drafted(name, document, tool)
    except InvalidInput:
        return
    if isinstance(found, DraftRefusal):
        assert found.message
        return
    read = Manifest.model_validate(tomllib.loads(write_manifest(found.manifest, found.comments)))
    assert read == found.manifest
    assert not check_manifest(read, PROVIDERS).problems


TOOLS = st.sampled_from([None, "segment_image", "describe_with_masks", "generate_video", "edit_video_with_mask"])


@given(taken=INPUT, given=OUTPUT, other=SCHEMA, tool=TOOLS)
def test_any_schema_at_fal_gives_a_manifest_or_a_refusal(taken: Any, given: Any, other: Any, tool: Any) -> None:
    document = fal_document("o/m", {}, {}, schemas={"AppInput": taken, "AppOutput": given, "A": other})
    check_outcome("fal:o/m", document, tool)


@given(taken=INPUT, given=OUTPUT, other=SCHEMA, example=JSON, tool=TOOLS)
def test_any_schema_at_replicate_gives_a_manifest_or_a_refusal(
    taken: Any, given: Any, other: Any, example: Any, tool: Any
) -> None:
    schemas = {"Input": taken, "Output": given, "A": other}
    shown = {"input": example, "output": example, "metrics": {"predict_time": 2}}
    check_outcome("replicate:o/m", replicate_document("o/m", {}, {}, schemas=schemas, default_example=shown), tool)


@given(document=JSON)
def test_any_json_gives_a_manifest_or_a_refusal(document: Any) -> None:
    for name in ("fal:o/m", "replicate:o/m"):
        check_outcome(name, document)


@pytest.mark.parametrize("name", ["num_outputs", "n", "num_videos", "batch_size"])
def test_how_many_results_a_run_makes_is_one_because_the_price_is_that_of_one(name: str) -> None:
    found = fal_video({"prompt": TEXT, name: {"type": "integer", "default": 2, "minimum": 1, "maximum": 8}})
    count = found.inputs[name]
    assert (count.send, count.maximum) == (1, 1)
    assert {"send", "maximum"} <= set(count.inferred)


@pytest.mark.parametrize(
    ("properties", "margin"), [({}, 0.05), ({"resolution": {"type": "string", "enum": ["720p", "4k"]}}, 2.0)]
)
def test_a_price_of_one_number_has_a_margin_that_makes_a_bound_of_it(properties: Any, margin: float) -> None:
    document = fal_document("o/m", {"prompt": TEXT, **properties}, {"video": FILE}, category="text-to-video")
    price = Price(unit="run", usd=0.2, seen="2026-11")
    found = draft_manifest(read_document(parse_model_name("fal:o/m"), document), PROVIDERS, "2026-11-28", price=price)
    assert isinstance(found, Draft), found
    assert found.manifest.price is not None
    assert (found.manifest.price.margin, found.manifest.price.inferred) == (margin, ("margin",))
    assert Manifest.model_validate(tomllib.loads(write_manifest(found.manifest, found.comments))) == found.manifest


def test_a_model_whose_name_says_that_it_edits_one_video_by_words_serves_the_edit_tool() -> None:
    """What it takes is that of Wan 2.7 at fal; a video that is a reference makes another film."""
    inputs = {
        "prompt": TEXT,
        "video_url": TEXT,
        "reference_image_url": TEXT,
        "resolution": {"type": "string", "enum": ["720p", "1080p"], "default": "1080p"},
        "duration": {"type": "integer", "enum": [0, *range(2, 11)], "default": 0},
        "audio_setting": {"type": "string", "enum": ["auto", "origin"], "default": "auto"},
        "keep_audio": {"type": "boolean", "default": True},
        "seed": {"type": "integer"},
    }

    def draft(endpoint: str) -> Manifest:
        document = fal_document(endpoint, inputs, {"video": FILE}, required=["prompt", "video_url"])
        return manifest_of(f"fal:{endpoint}", document)

    found = draft("fal-ai/wan/v2.7/edit-video")
    assert found.tool == "edit_video_with_mask"
    assert found.edits_by_words
    assert fillings(found) == {
        "prompt": "prompt",
        "video_url": "video",
        "reference_image_url": "reference_images",
        "resolution": "size",
        "duration": None,
        "audio_setting": None,
        "keep_audio": None,
        "seed": "seed",
    }
    assert (found.inputs["audio_setting"].send, found.inputs["keep_audio"].send) == ("origin", True)
    assert draft("fal-ai/wan/v2.7/reference-to-video").tool == "generate_video"
