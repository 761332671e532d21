"""The harvest: what is found in an output, and an honest error when there is nothing."""

import pytest

from rotoscope.errors import PredictionFailed
from rotoscope.models.catalog import load_catalog, manifest_folder
from rotoscope.models.harvest import Source, harvest

MODELS = load_catalog(manifest_folder()).models


def test_sa2va_on_replicate_gives_one_mask_and_its_words() -> None:
    found = harvest(
        MODELS["bytedance/sa2va-4b-image"], {"img": "https://r.d/o.png", "response": "Sure, [SEG].<|end|>"}, {}
    )
    assert found.masks == (Source("https://r.d/o.png"),)
    assert found.text == "Sure, [SEG].<|end|>"


def test_sa2va_on_fal_gives_its_masks_in_order() -> None:
    masks = [{"url": f"https://v3.fal.media/{n}.png", "content_type": "image/png", "width": 9} for n in range(3)]
    found = harvest(MODELS["fal-ai/sa2va/8b/image"], {"output": "x", "masks": masks}, {})
    assert [source.url for source in found.masks] == [mask["url"] for mask in masks]
    assert found.masks[0].content_type == "image/png"


def test_an_output_that_is_the_file_itself_is_found() -> None:
    found = harvest(MODELS["sam-v2-image"], "artifact://" + "b" * 64, {})
    assert found.masks == (Source("artifact://" + "b" * 64),)
    video = harvest(MODELS["bytedance/seedance-2.0"], "https://replicate.delivery/x.mp4", {})
    assert video.video == Source("https://replicate.delivery/x.mp4")


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
    for output in ({"img": said}, {"img": {"url": said}}):
        found = harvest(MODELS["bytedance/sa2va-4b-image"], output, {})
        assert [source.url for source in found.masks] == [taken]


def test_addresses_in_an_output_without_a_result_are_told_readable_and_not_endless() -> None:
    urls = ["https://r.d/half\ud83d.png", "https://r.d/" + "a" * 9000, "https://r.d/ü.png"]
    with pytest.raises(PredictionFailed) as caught:
        harvest(MODELS["bytedance/sa2va-4b-image"], {"other": urls}, {})
    assert caught.value.hint.endswith("https://r.d/half%EF%BF%BD.png https://r.d/%C3%BC.png")
    assert len(caught.value.hint) < 500


@pytest.mark.parametrize(
    "output", [{"img": None, "response": "I see nothing."}, {}, [], None, "text", {"img": {"u": 1}}]
)
def test_a_success_without_a_result_is_an_honest_error(output: object) -> None:
    """One in about five runs of a Sa2VA sibling had no picture."""
    with pytest.raises(PredictionFailed) as caught:
        harvest(MODELS["bytedance/sa2va-4b-image"], output, {})  # type: ignore[arg-type]
    assert caught.value.code == "provider_protocol"


def test_what_the_sandbox_says_of_its_method_is_kept_wherever_it_says_it() -> None:
    said = {"method": "salience", "confidence": 0.2, "notice": "No word was understood."}
    in_output = harvest(MODELS["fal-ai/sam2/image"], {"image": {"url": "https://x/y.png"}, "sandbox": said}, {})
    in_metrics = harvest(MODELS["sam-v2-image"], "artifact://c", {"sandbox": said})
    for found in (in_output, in_metrics):
        assert found.notice is not None
        assert (found.notice.method, found.notice.confidence) == ("salience", 0.2)
