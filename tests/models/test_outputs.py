"""What is found in a model's output, and the error when there is nothing."""

import pytest

from rotoscope.errors import PredictionFailed
from rotoscope.models.catalog import load_catalog, manifest_folder
from rotoscope.models.outputs import MAX_OUTPUT_FILES, OutputFile, extract_output
from rotoscope.providers.http.messages import Json

MODELS = load_catalog(manifest_folder()).models


def test_sa2va_on_replicate_gives_one_mask_and_its_text() -> None:
    found = extract_output(
        MODELS["bytedance/sa2va-4b-image"], {"img": "https://r.d/o.png", "response": "Sure, [SEG].<|end|>"}, {}
    )
    assert found.masks == (OutputFile("https://r.d/o.png"),)
    assert found.text == "Sure, [SEG].<|end|>"


def test_sa2va_on_fal_gives_its_masks_in_order() -> None:
    masks: list[Json] = [
        {"url": f"https://v3.fal.media/{n}.png", "content_type": "image/png", "width": 9} for n in range(3)
    ]
    found = extract_output(MODELS["fal-ai/sa2va/8b/image"], {"output": "x", "masks": masks}, {})
    assert [source.url for source in found.masks] == [mask["url"] for mask in masks if isinstance(mask, dict)]
    assert found.masks[0].content_type == "image/png"


def test_an_output_that_is_the_file_itself_is_found() -> None:
    found = extract_output(MODELS["sam-v2-image"], "artifact://" + "b" * 64, {})
    assert found.masks == (OutputFile("artifact://" + "b" * 64),)
    video = extract_output(MODELS["bytedance/seedance-2.0"], "https://replicate.delivery/x.mp4", {})
    assert video.video == OutputFile("https://replicate.delivery/x.mp4")


@pytest.mark.parametrize(
    ("said", "taken"),
    [
        ("https://r.d/a%20b.png?c=1&d=[x]#e", "https://r.d/a%20b.png?c=1&d=[x]#e"),
        ("https://r.d/a b\n.png", "https://r.d/a%20b%0A.png"),
        ("https://r.d/ü.png", "https://r.d/%C3%BC.png"),
        ("https://r.d/half\ud83d.png", "https://r.d/half%EF%BF%BD.png"),
    ],
)
def test_an_address_is_taken_as_printable_ascii(said: str, taken: str) -> None:
    outputs: tuple[Json, ...] = ({"img": said}, {"img": {"url": said}})
    for output in outputs:
        found = extract_output(MODELS["bytedance/sa2va-4b-image"], output, {})
        assert [source.url for source in found.masks] == [taken]


def test_addresses_in_an_output_without_a_result_are_shown_within_bounds() -> None:
    urls: list[Json] = ["https://r.d/half\ud83d.png", "https://r.d/" + "a" * 9000, "https://r.d/ü.png"]
    with pytest.raises(PredictionFailed) as caught:
        extract_output(MODELS["bytedance/sa2va-4b-image"], {"other": urls}, {}, lambda _: False)
    assert caught.value.hint.endswith("https://r.d/half%EF%BF%BD.png https://r.d/%C3%BC.png")
    assert len(caught.value.hint) < 500


@pytest.mark.parametrize("output", [{"other": None}, {}, [], None, "text", {"img": {"u": 1}}])
def test_a_success_without_a_result_is_an_error(output: Json) -> None:
    with pytest.raises(PredictionFailed) as caught:
        extract_output(MODELS["bytedance/sa2va-4b-image"], output, {})
    assert caught.value.code == "provider_protocol"


def test_the_notice_of_the_sandbox_is_kept_from_either_place() -> None:
    said: Json = {"method": "salience", "confidence": 0.2, "notice": "No word was understood."}
    in_output = extract_output(MODELS["fal-ai/sam2/image"], {"image": {"url": "https://x/y.png"}, "sandbox": said}, {})
    in_metrics = extract_output(MODELS["sam-v2-image"], "artifact://c", {"sandbox": said})
    for found in (in_output, in_metrics):
        assert found.notice is not None
        assert (found.notice.method, found.notice.confidence) == ("salience", 0.2)


@pytest.mark.parametrize(
    "output",
    [
        {"img": None, "response": "I see nothing."},
        {"img": "", "response": "I see nothing."},
        {"response": "I see nothing."},
        {"img": None},
        {"img": []},
    ],
)
def test_text_without_a_mask_is_a_result(output: dict[str, Json]) -> None:
    """One in about five runs of a Sa2VA sibling had no picture."""
    found = extract_output(MODELS["bytedance/sa2va-4b-image"], output, {})
    assert found.is_text_only
    assert found.text == output.get("response")


@pytest.mark.parametrize("more", [{"masks": []}, {"masks": None}, {"masks": {}}, {}])
def test_a_description_needs_no_masks(more: dict[str, Json]) -> None:
    found = extract_output(MODELS["fal-ai/sa2va/8b/image"], {"output": "The picture shows a truck.", **more}, {})
    assert (found.text, found.masks) == ("The picture shows a truck.", ())


@pytest.mark.parametrize("output", [{"img": {"u": 1}, "response": "x"}, {"img": 7, "response": "x"}])
def test_a_place_that_holds_what_cannot_be_read_is_not_called_empty(output: dict[str, Json]) -> None:
    with pytest.raises(PredictionFailed) as caught:
        extract_output(MODELS["bytedance/sa2va-4b-image"], output, {})
    assert caught.value.code == "provider_protocol"


URL = "https://replicate.delivery/x.png"


@pytest.mark.parametrize(
    "output",
    [
        [URL],
        [[URL]],
        {"image": URL},
        {"output": {"img": [URL]}},
        {"masks": [{"mask": {"url": URL}}]},
        {"result": {"mask": {"url": URL, "content_type": "image/png"}}},
        [{"a": {"b": {"c": [[URL]]}}}],
    ],
)
@pytest.mark.parametrize("model", ["bytedance/sa2va-4b-image", "fal-ai/sa2va/8b/image", "sam-v2-image"])
def test_a_file_in_another_wrapping_is_taken(model: str, output: Json) -> None:
    found = extract_output(MODELS[model], output, {})
    assert [source.url for source in found.masks] == [URL]


@pytest.mark.parametrize(
    "output", [{"video": "https://r.d/x.mp4"}, [["https://r.d/x.mp4"]], {"a": {"url": "https://r.d/x.mp4"}}]
)
def test_a_video_in_another_wrapping_is_taken_with_a_warning(output: Json) -> None:
    found = extract_output(MODELS["bytedance/seedance-2.0"], output, {})
    assert found.video is not None
    assert found.video.url == "https://r.d/x.mp4"
    assert len(found.warnings) == 1


def test_masks_in_a_dictionary_of_labels_keep_their_labels() -> None:
    output: Json = {
        "masks": {"truck": {"url": "https://v3.fal.media/1.png"}, "tree": {"url": "https://v3.fal.media/2.png"}}
    }
    found = extract_output(MODELS["fal-ai/sa2va/8b/image"], output, {})
    assert [(source.label, source.url[-5:]) for source in found.masks] == [("truck", "1.png"), ("tree", "2.png")]


def test_further_videos_are_reported_with_their_addresses() -> None:
    found = extract_output(MODELS["bytedance/seedance-2.0"], ["https://r.d/1.mp4", "https://r.d/2.mp4"], {})
    assert found.video == OutputFile("https://r.d/1.mp4")
    assert "https://r.d/2.mp4" in " ".join(found.warnings)


def test_of_several_kinds_of_files_the_one_of_the_wanted_kind_is_taken() -> None:
    output: Json = {"thumbnail": "https://r.d/t.png", "link": "https://r.d/page", "video": "https://r.d/v.mp4"}
    found = extract_output(MODELS["bytedance/seedance-2.0"], output, {})
    assert found.video is not None
    assert found.video.url == "https://r.d/v.mp4"
    assert "https://r.d/t.png" in " ".join(found.warnings)


def test_a_file_on_a_host_that_is_not_allowed_is_reported_and_not_taken() -> None:
    with pytest.raises(PredictionFailed) as caught:
        extract_output(MODELS["sam-v2-image"], {"mask": "https://evil.example/x.png"}, {}, lambda _: False)
    assert "https://evil.example/x.png" in caught.value.hint


def test_an_output_of_any_size_and_depth_is_looked_through_for_a_bounded_time() -> None:
    deep: Json = URL
    for _ in range(500):
        deep = [deep]
    wide: Json = {"other": [f"https://r.d/{n}.png" for n in range(50_000)]}
    with pytest.raises(PredictionFailed):
        extract_output(MODELS["sam-v2-image"], {"x": deep}, {})
    found = extract_output(MODELS["sam-v2-image"], wide, {})
    assert len(found.masks) == MAX_OUTPUT_FILES
    assert len(" ".join(found.warnings)) < 3000


def test_masks_beyond_the_most_that_are_taken_are_counted_and_reported() -> None:
    masks: Json = [{"url": f"https://v3.fal.media/{n}.png"} for n in range(MAX_OUTPUT_FILES + 5)]
    found = extract_output(MODELS["fal-ai/sa2va/8b/image"], {"output": "x", "masks": masks}, {})
    assert (len(found.masks), found.excess_count, len(found.warnings)) == (MAX_OUTPUT_FILES, 5, 1)


SAM3 = MODELS["fal-ai/sam-3/image"]
TWO_MASKS: list[Json] = [{"url": f"https://v3.fal.media/{n}.png"} for n in range(2)]


def test_scores_belong_to_the_masks_in_their_order() -> None:
    assert extract_output(SAM3, {"masks": TWO_MASKS, "scores": [0.9, 0.25]}, {}).scores == (0.9, 0.25)


@pytest.mark.parametrize("scores", [None, [], [0.9], [0.9, 0.8, 0.7], [0.9, 1.5], [0.9, "high"], [0.9, True], 0.9])
def test_scores_that_do_not_fit_the_masks_are_none(scores: Json) -> None:
    found = extract_output(SAM3, {"masks": TWO_MASKS, "scores": scores}, {})
    assert (len(found.masks), found.scores) == (2, ())


def test_of_more_masks_than_are_taken_the_scores_are_those_of_the_taken_ones() -> None:
    count = MAX_OUTPUT_FILES + 3
    masks: list[Json] = [{"url": f"https://v3.fal.media/{n}.png"} for n in range(count)]
    scores: list[Json] = [n / count for n in range(count)]
    found = extract_output(SAM3, {"masks": masks, "scores": scores}, {})
    assert found.scores == tuple(n / count for n in range(MAX_OUTPUT_FILES))


def test_a_model_that_finds_nothing_gives_no_mask_and_is_no_failure() -> None:
    found = extract_output(SAM3, {"masks": [], "scores": [], "metadata": []}, {})
    assert (found.masks, found.scores) == ((), ())
