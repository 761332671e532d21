"""Manifests of models that follow an object through a clip: what is refused of them, and what they send and cost."""

from typing import Any

import pytest

from rotoscope.errors import InvalidInput, PredictionFailed
from rotoscope.models.catalog import load_catalog, manifest_folder
from rotoscope.models.estimate import MediaLength
from rotoscope.models.manifest import Manifest
from rotoscope.models.manifest_check import check_manifest
from rotoscope.models.outputs import extract_output
from rotoscope.models.plan import plan_call
from rotoscope.models.run_documents import move_runs_to_file

CATALOG = load_catalog(manifest_folder())
RLE, FILM, REPLICATE = (
    CATALOG.models[name] for name in ("fal-ai/sam-3/video-rle", "fal-ai/sam-3/video", "lucataco/sam3-video")
)
TRACKS = [one for one in CATALOG.models.values() if one.tool == "segment_video"]
CLIP = "artifact://clip"


def plan(manifest: Manifest, frames: int = 81, **given: Any) -> Any:
    media = {CLIP: MediaLength(frames / 16, frames)}
    return plan_call(manifest, manifest.routes[0], {"video": CLIP, "frame": 0, **given}, lambda: 1, media)


@pytest.mark.parametrize("manifest", TRACKS, ids=lambda one: one.id)
def test_every_shipped_one_passes_its_check_and_asks_for_no_painted_film(manifest: Manifest) -> None:
    assert check_manifest(manifest, CATALOG.providers).problems == ()
    for name, sent in (("apply_mask", False), ("mask_only", True)):
        if name in manifest.inputs:
            assert (
                plan(manifest, instruction="a", box={"left": 1, "top": 1, "right": 9, "bottom": 9}).call.input[name]
                is sent
            )


@pytest.mark.parametrize(
    ("manifest", "name", "change"),
    [
        (FILM, "apply_mask", {"send": True}),
        (FILM, "apply_mask", {"send": None}),
        (REPLICATE, "mask_only", {"send": None}),
    ],
)
def test_a_manifest_that_asks_for_a_painted_film_is_refused(
    manifest: Manifest, name: str, change: dict[str, Any]
) -> None:
    inputs = {**manifest.inputs, name: manifest.inputs[name].model_copy(update=change)}
    (problem,) = check_manifest(manifest.model_copy(update={"inputs": inputs}), CATALOG.providers).problems
    assert problem.startswith(f"inputs.{name}: ")
    assert "painted" in problem


def test_a_manifest_that_gives_a_video_alone_is_refused() -> None:
    outputs = FILM.outputs.model_copy(update={"mask_film": None, "video": "video"})
    (problem,) = check_manifest(FILM.model_copy(update={"outputs": outputs}), CATALOG.providers).problems
    assert problem.startswith("outputs.mask_film: it is missing")


@pytest.mark.parametrize(("frames", "usd"), [(1, 0.005), (16, 0.005), (17, 0.01), (81, 0.03), (600, 0.19)])
def test_a_part_of_16_frames_costs_as_much_as_all_of_them(frames: int, usd: float) -> None:
    estimate = plan(RLE, frames, instruction="a").estimate
    assert (estimate.typical_usd, estimate.at_most_usd) == (usd, usd)


def test_points_and_a_box_name_their_frame_where_the_model_reads_it() -> None:
    given: dict[str, Any] = {
        "points": [{"x": 3.4, "y": 5, "keep": False}],
        "box": {"left": 1, "top": 2, "right": 8, "bottom": 9},
    }
    sent = plan(RLE, frame=12, **given).call.input
    assert sent["point_prompts"] == [{"label": 0, "x": 3, "y": 5, "frame_index": 12}]
    assert sent["box_prompts"] == [{"x_min": 1, "y_min": 2, "x_max": 8, "y_max": 9, "frame_index": 12}]
    assert plan(FILM, **given).call.input["point_prompts"] == [{"label": 0, "x": 3, "y": 5}]
    with pytest.raises(InvalidInput, match="on the first frame alone"):
        plan(FILM, frame=12, **given)
    with pytest.raises(InvalidInput, match="on the first frame alone"):
        plan(CATALOG.models["fal-ai/sam2/video"], frame=12, mask="artifact://mask")


def found(output: Any) -> Any:
    return extract_output(RLE, output, {}, lambda url: url.startswith("https://v3.fal.media/"))


def test_run_lengths_come_as_a_document_and_a_film_in_their_place_as_a_film() -> None:
    track = found({"rle": ["1 2", ""], "boxes": []}).track
    assert track.is_document
    assert track.url.startswith("data:application/json;base64,")
    named = found({"rle": {"url": "https://v3.fal.media/a.json"}}).track
    assert (named.url, named.is_document) == ("https://v3.fal.media/a.json", True)
    film = found({"video": {"url": "https://v3.fal.media/a.mp4", "content_type": "video/mp4"}}).track
    assert (film.url, film.is_document) == ("https://v3.fal.media/a.mp4", False)


def test_an_output_without_either_is_no_result_and_an_empty_one_has_found_nothing() -> None:
    assert found({"rle": []}).is_text_only
    with pytest.raises(PredictionFailed, match="without a result"):
        found({"seed": 4})


def test_run_lengths_that_were_moved_to_a_file_are_found_there() -> None:
    link = f"artifact://{'a' * 64}"
    moved = move_runs_to_file({"rle": ["1 2"] * 9, "sandbox": {"method": "x"}}, "rle", link)
    assert moved == {"rle": {"url": link}, "sandbox": {"method": "x"}}
    assert found(moved).track.url == link
    assert move_runs_to_file(["1 2"], "$", link) == {"url": link}
    assert move_runs_to_file({"a": {"b": "1 2", "c": 3}}, "a.b", link) == {"a": {"b": {"url": link}, "c": 3}}
