"""Inputs that follow the video which is edited."""

from typing import Any

import pytest

from rotoscope.models.catalog import load_catalog, manifest_folder
from rotoscope.models.clip_defaults import ClipShape, arguments_for_clip
from rotoscope.models.manifest import Manifest

CATALOG = load_catalog(manifest_folder())
VACE = CATALOG.models["prunaai/vace-14b"]
WAN, VOID = CATALOG.models["fal-ai/wan-22-vace-fun-a14b/inpainting"], CATALOG.models["fal-ai/void-video-inpainting"]


def fit(width: int, height: int, frames: int, model: Manifest = VACE, **asked: Any) -> tuple[dict[str, Any], list[str]]:
    return arguments_for_clip(model, asked, ClipShape(width, height, frames))


@pytest.mark.parametrize(
    ("width", "height", "size"), [(480, 854, "480*832"), (1080, 1920, "480*832"), (512, 768, "480*832")]
)
def test_an_upright_video_is_edited_upright(width: int, height: int, size: str) -> None:
    chosen, notes = fit(width, height, 81)
    assert chosen["size"] == size
    assert f"{width}x{height}" in notes[0]


@pytest.mark.parametrize(("width", "height"), [(832, 480), (854, 480), (1280, 720), (1920, 1080)])
def test_a_wide_video_leaves_the_models_own_default(width: int, height: int) -> None:
    assert fit(width, height, 81) == ({}, [])


def test_a_size_that_is_given_is_kept() -> None:
    assert fit(480, 854, 81, size="1280*720") == ({}, [])


def test_a_short_video_is_edited_whole() -> None:
    chosen, notes = fit(832, 480, 50)
    assert chosen["frame_num"] == 49
    assert "50 frames" in notes[0]


def test_which_frames_of_a_long_video_are_edited_is_reported_as_unknown() -> None:
    chosen, notes = fit(832, 480, 200)
    assert chosen == {}
    assert len(notes) == 1
    assert "81 frames, the video has 200" in notes[0]
    assert "is not known" in notes[0]


def test_more_frames_than_the_video_has_are_reported_and_kept() -> None:
    chosen, notes = fit(832, 480, 50, frame_num=81)
    assert chosen == {}
    assert "only 50 frames" in notes[0]


def test_one_frame_is_still_a_video() -> None:
    assert fit(832, 480, 1)[0]["frame_num"] == 1


@pytest.mark.parametrize(
    ("model", "frames", "chosen"),
    [(WAN, 120, 120), (WAN, 300, 241), (WAN, 5, 17), (VOID, 120, 117), (VOID, 300, 197), (VOID, 30, 69)],
)
def test_a_model_whose_default_is_shorter_than_what_it_can_do_edits_as_much_of_the_video_as_it_can(
    model: Manifest, frames: int, chosen: int
) -> None:
    found, notes = fit(1280, 720, frames, model)
    assert found["frame_num"] == chosen
    assert notes


def test_the_default_of_such_a_model_is_not_sent_where_it_is_the_length_of_the_video() -> None:
    assert fit(1280, 720, 81, WAN) == ({}, [])
