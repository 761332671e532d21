"""From a tool's arguments to the request on the wire: what the API documents show is what a provider gets."""

import json
from pathlib import Path
from typing import Any

import pytest

from rotoscope.contracts.arguments import EditVideoWithMask, GenerateVideo, SegmentImage, parse_arguments
from rotoscope.models.catalog import load_catalog, manifest_folder
from rotoscope.models.plan import plan_call
from rotoscope.providers.dialects import DIALECTS
from rotoscope.providers.http.messages import HttpCall

SEEDS = Path(__file__).parents[3] / "shared" / "seeds"
CATALOG = load_catalog(manifest_folder())
STORYBOARD = "https://replicate.delivery/pbxt/P0gcM2jonEv6KS1aMlSNwt1s0BkgTB4tvHOpwveo2iC6b1XB/HHAglbTXAAAR3bD.jpeg"
SEEDANCE = {
    "aspect_ratio": "16:9",
    "duration": 15,
    "generate_audio": True,
    "prompt": "按 Image 1 的故事版生成视频",
    "reference_audios": [],
    "reference_images": [STORYBOARD],
    "reference_videos": [],
    "resolution": "480p",
    "seed": 99,
}
VACE = dict(CATALOG.models["prunaai/vace-14b"].example)


def worded(model: str, provider: str, arguments: Any) -> HttpCall:
    manifest = CATALOG.models[model]
    (route,) = (route for route in manifest.routes if route.provider == provider)
    planned = plan_call(manifest, route, arguments.model_dump(mode="json"), lambda: 12345)
    found = CATALOG.providers[provider]
    return DIALECTS[found.dialect](found.bases).submit(planned.call)


def test_the_arguments_of_the_seedance_document_become_its_request() -> None:
    call = worded("bytedance/seedance-2.0", "replicate", parse_arguments(GenerateVideo, SEEDANCE))
    assert call.method == "POST"
    assert call.url == "https://api.replicate.com/v1/models/bytedance/seedance-2.0/predictions"
    assert call.json == {"input": SEEDANCE}


def edit(seed: int) -> EditVideoWithMask:
    names = {"src_video": "video", "src_mask": "mask", "src_ref_images": "reference_images"}
    return parse_arguments(EditVideoWithMask, {names.get(k, k): v for k, v in VACE.items()} | {"seed": seed})


@pytest.mark.parametrize("provider", ["gateway", "replicate"])
def test_the_arguments_of_the_vace_document_become_its_request(provider: str) -> None:
    call = worded("prunaai/vace-14b", provider, edit(7))
    assert isinstance(call.json, dict)
    assert call.json["input"] == {**VACE, "seed": 7}
    assert str(call.json["version"]).endswith("51299232dc3d0946d5f5ed74935d85243e172698f747d291460db1e6ef3669fb")


def test_the_gateway_is_asked_at_the_path_of_its_document() -> None:
    call = worded("prunaai/vace-14b", "gateway", edit(7))
    assert call.url.endswith("/replicate/v1/models/prunaai/vace-14b/predictions")


def test_any_seed_is_drawn_because_only_a_known_one_finds_a_lost_reply() -> None:
    """The document's example sends -1, which is a seed that nobody knows."""
    call = worded("prunaai/vace-14b", "gateway", edit(-1))
    assert isinstance(call.json, dict)
    assert call.json["input"] == {**VACE, "seed": 12345}


def test_the_arguments_of_the_sa2va_document_become_its_request() -> None:
    example = dict(CATALOG.models["bytedance/sa2va-4b-image"].example)
    call = worded("bytedance/sa2va-4b-image", "replicate", parse_arguments(SegmentImage, example))
    assert isinstance(call.json, dict)
    assert call.json["input"] == example


@pytest.mark.media
@pytest.mark.skipif(not SEEDS.is_dir(), reason="the API documents under ../shared/seeds are not here")
@pytest.mark.parametrize(("number", "fields"), [("002", SEEDANCE), ("004", VACE)])
def test_the_requests_are_those_of_the_documents(number: str, fields: dict[str, Any]) -> None:
    (file,) = SEEDS.glob(f"{number}_*.txt")
    text = file.read_text(encoding="utf-8")
    plain = text.replace("\\n", "\n").replace('\\"', '"')
    for name, value in fields.items():
        assert f'"{name}": ' in plain
        for one in value if isinstance(value, list) else [value]:
            assert json.dumps(one, ensure_ascii=False) in plain


VIDEO, PICTURE = "https://example.com/street.mp4", "https://example.com/hat.png"
BY_WORDS = [
    (
        "fal-ai/wan/v2.7/edit-video",
        "fal",
        "https://queue.fal.run/fal-ai/wan/v2.7/edit-video",
        {
            "prompt": "Give him the hat.",
            "video_url": VIDEO,
            "reference_image_url": PICTURE,
            "resolution": "720p",
            "audio_setting": "origin",
            "seed": 7,
        },
    ),
    (
        "fal-ai/wan/v2.7/edit-video",
        "replicate",
        "https://api.replicate.com/v1/models/wan-video/wan-2.7-videoedit/predictions",
        {
            "prompt": "Give him the hat.",
            "video": VIDEO,
            "reference_image": PICTURE,
            "resolution": "720p",
            "audio_setting": "origin",
            "seed": 7,
        },
    ),
    *(
        (
            f"fal-ai/kling-video/o3/{tier}/video-to-video/edit",
            "fal",
            f"https://queue.fal.run/fal-ai/kling-video/o3/{tier}/video-to-video/edit",
            {"prompt": "Give him the hat.", "video_url": VIDEO, "image_urls": [PICTURE], "keep_audio": True},
        )
        for tier in ("standard", "pro")
    ),
    (
        "bytedance/seedance-2.0/edit",
        "replicate",
        "https://api.replicate.com/v1/models/bytedance/seedance-2.0/predictions",
        {
            "prompt": "Edit Video 1: Give him the hat.",
            "reference_videos": [VIDEO],
            "reference_images": [PICTURE],
            "duration": -1,
            "aspect_ratio": "adaptive",
            "generate_audio": False,
            "seed": 7,
        },
    ),
    (
        "bytedance/seedance-2.0/edit",
        "fal",
        "https://queue.fal.run/bytedance/seedance-2.0/reference-to-video",
        {
            "prompt": "Edit @Video1: Give him the hat.",
            "video_urls": [VIDEO],
            "image_urls": [PICTURE],
            "aspect_ratio": "auto",
            "generate_audio": False,
        },
    ),
]


@pytest.mark.parametrize(("model", "provider", "url", "sent"), BY_WORDS, ids=[f"{m}@{p}" for m, p, _, _ in BY_WORDS])
def test_an_edit_by_words_sends_what_the_document_takes_and_no_mask(
    model: str, provider: str, url: str, sent: dict[str, Any]
) -> None:
    asked = {"prompt": "Give him the hat.", "video": VIDEO, "reference_images": [PICTURE], "seed": 7}
    arguments = parse_arguments(EditVideoWithMask, asked | {"mask": "https://example.com/mask.mp4"})
    manifest = CATALOG.models[model]
    (route,) = (one for one in manifest.routes if one.provider == provider)
    planned = plan_call(manifest.at(route), route, arguments.model_dump(mode="json"), lambda: 12345)
    found = CATALOG.providers[provider]
    call = DIALECTS[found.dialect](found.bases).submit(planned.call)
    assert call.url.split("?")[0] == url
    assert isinstance(call.json, dict)
    assert (call.json["input"] if provider == "replicate" else call.json) == sent


@pytest.mark.parametrize("prompt", ["In [Video1] he wears a hat.", "@Video1 at night", "video 1 at night"])
def test_a_prompt_that_names_the_video_is_sent_as_it_is(prompt: str) -> None:
    manifest = CATALOG.models["bytedance/seedance-2.0/edit"]
    planned = plan_call(manifest, manifest.routes[0], {"prompt": prompt, "video": VIDEO}, lambda: 1)
    assert planned.call.input["prompt"] == prompt
