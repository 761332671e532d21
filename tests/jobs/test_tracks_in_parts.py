"""Objects that are followed through a clip that is longer than a model takes: each keeps its identity."""

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import anyio
import av
import numpy as np
import pytest
from engine_media import write_video
from numpy.typing import NDArray
from PIL import Image
from stand_in_model import StandInModel, read_frames

from rotoscope.contracts.arguments import EditVideoWithMask, SegmentVideo, parse_arguments
from rotoscope.contracts.results import SegmentVideoResult, VideoResult
from rotoscope.errors import TooLarge
from rotoscope.settings import Settings
from rotoscope.studio.studio import Studio

pytestmark = pytest.mark.anyio
WIDTH, HEIGHT, FRAMES, RATE, MOST = 96, 64, 70, 12, 30
Mask = NDArray[np.bool_]
FOLLOWER = """
id = "me/follower"
title = "Follower"
tool = "segment_video"
source = "me"
rank = 1
prompts = PROMPTS
[[routes]]
provider = "replicate"
form = "official"
endpoint = "me/follower"
[routes.price]
unit = "run"
usd = 0.25
seen = "2026-11"
[inputs.clip]
kind = "video"
required = true
argument = "video"
max_frames = 30
[inputs.words]
kind = "string"
argument = "instruction"
[inputs.box]
kind = "object"
many = true
argument = "box"
encode = "framed_box"
MASK
[outputs]
rle = "$"
[timing]
typical_seconds = 5
deadline_seconds = 60
[example]
clip = "https://example.com/a.mp4"
"""
MASK = """
[inputs.mask]
kind = "image"
argument = "mask"
covers = "clip"
[inputs.frame]
kind = "integer"
argument = "frame"
default = 0
minimum = 0
maximum = 10000
"""


def disc(number: int, row: int) -> Mask:
    """One of two discs that move to the right, in frame `number`."""
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH]
    return np.asarray((columns - 14 - number) ** 2 + (rows - row) ** 2 <= 64)


UPPER, LOWER = 16, 46


def picture(number: int, end: int = FRAMES) -> np.ndarray:
    """A frame: the upper disc is white, the lower one black, and after `end` neither is there."""
    pixels = np.full((HEIGHT, WIDTH, 3), 120, np.uint8)
    pixels[:, (number * 7) % WIDTH] = 130
    if number < end:
        pixels[disc(number, UPPER)], pixels[disc(number, LOWER)] = 240, 10
    return pixels


def runs(mask: Mask) -> str:
    flat = np.concatenate(([0], mask.ravel().astype(np.int8), [0]))
    edges = np.flatnonzero(np.diff(flat))
    return " ".join(f"{one} {two - one}" for one, two in zip(edges[0::2] + 1, edges[1::2] + 1, strict=True))


class Follower(StandInModel):
    """A model that follows the discs: both by words, else the one in the box or under the mask.

    By words it numbers them in another order in every second run.
    """

    def __init__(self) -> None:
        super().__init__(self.follow)

    def follow(self, run: int, given: dict[str, Any]) -> dict[str, Any]:
        clip = [frame[..., 1].astype(int) for frame in read_frames(self.uploads[given["clip"]])]
        assert len(clip) <= MOST
        found = [[frame > 200, frame < 60] for frame in clip]
        if "words" in given:
            objects = [[runs(one) for one in (both if run % 2 else both[::-1])] for both in found]
            return {"status": "succeeded", "output": {"frames": [{"objects": one} for one in objects]}}
        chosen = self.choose(given, found)
        return {"status": "succeeded", "output": [runs(both[chosen]) for both in found]}

    def choose(self, given: dict[str, Any], found: list[list[Mask]]) -> int:
        if "mask" in given:
            from io import BytesIO

            picked = np.asarray(Image.open(BytesIO(self.uploads[given["mask"]])).convert("L")) > 128
            shown = found[int(given.get("frame", 0))]
            covers = [np.count_nonzero(picked & one) for one in shown]
            assert max(covers) > 0.9 * np.count_nonzero(picked)
            return int(np.argmax(covers))
        return 0 if given["box"][0]["y_max"] <= HEIGHT // 2 else 1


@pytest.fixture
def provider(settings: Settings) -> Follower:
    write_manifest(settings, '["text", "box", "mask"]', MASK)
    return Follower()


def write_manifest(settings: Settings, prompts: str, mask: str) -> None:
    folder = settings.home / "models"
    folder.mkdir(parents=True, exist_ok=True)
    text = FOLLOWER.replace("PROMPTS", prompts).replace("MASK", mask)
    (folder / "follower.toml").write_text(text, encoding="utf-8")


def clip_of(home: Path, end: int = FRAMES) -> str:
    write_video(home / "clip.mp4", [picture(number, end) for number in range(FRAMES)], Fraction(RATE))
    return str(home / "clip.mp4")


async def segment(studio: Studio, clip: str, **more: Any) -> SegmentVideoResult:
    asked = parse_arguments(SegmentVideo, {"video": clip, "model": "me/follower", **more})
    with anyio.fail_after(120):
        result = await studio.perform("segment_video", asked, "local", 100)
    assert isinstance(result, SegmentVideoResult)
    return result


def shown(result: SegmentVideoResult) -> list[Mask]:
    assert result.status == "succeeded", result.error
    assert result.mask is not None
    with av.open(result.mask.path) as container:
        return [frame.to_ndarray(format="rgb24")[..., 0] >= 128 for frame in container.decode(video=0)]


def overlap(one: Mask, other: Mask) -> float:
    union = np.count_nonzero(one | other)
    return np.count_nonzero(one & other) / union if union else 1.0


async def test_objects_that_words_name_keep_their_numbers_through_all_parts(
    studio: Studio, provider: Follower, home: Path
) -> None:
    result = await segment(studio, clip_of(home), instruction="the discs")
    masks = shown(result)
    assert provider.posts == 3
    assert len(masks) == FRAMES
    assert all(overlap(mask, disc(n, UPPER) | disc(n, LOWER)) > 0.85 for n, mask in enumerate(masks))
    assert result.coco is not None
    document = json.loads(Path(result.coco.path).read_text("utf-8"))
    tops: dict[int, set[bool]] = {}
    for one in document["annotations"]:
        tops.setdefault(one["track_id"], set()).add(one["bbox"][1] < HEIGHT // 2)
    assert sorted(tops) == [0, 1]
    assert sorted(map(sorted, tops.values())) == [[False], [True]]
    assert len(document["annotations"]) == 2 * FRAMES


@pytest.mark.parametrize("frame", [0, 35, 69])
@pytest.mark.parametrize("row", [UPPER, LOWER])
async def test_an_object_in_a_box_on_any_frame_is_followed_into_every_part(
    studio: Studio, provider: Follower, home: Path, frame: int, row: int
) -> None:
    box = {"left": 4 + frame, "top": row - 10, "right": 24 + frame, "bottom": row + 10}
    box["right"] = min(box["right"], WIDTH)
    masks = shown(await segment(studio, clip_of(home), box=box, frame=frame))
    assert len(masks) == FRAMES
    assert all(overlap(mask, disc(n, row)) > 0.85 for n, mask in enumerate(masks))
    assert sum("mask" in given for given in provider.inputs) == provider.posts - 1


async def test_where_an_object_has_gone_no_further_part_is_paid_for(
    studio: Studio, provider: Follower, home: Path
) -> None:
    box = {"left": 4, "top": UPPER - 10, "right": 24, "bottom": UPPER + 10}
    result = await segment(studio, clip_of(home, end=15), box=box)
    masks = shown(result)
    assert provider.posts == 1
    assert all(overlap(mask, disc(n, UPPER)) > 0.85 for n, mask in enumerate(masks[:15]))
    assert not any(mask.any() for mask in masks[15:])
    assert any("not seen in a part" in warning for warning in result.warnings)


async def test_a_model_that_takes_no_mask_cannot_follow_a_box_through_parts(
    studio: Studio, provider: Follower, home: Path, settings: Settings, opened: Any
) -> None:
    write_manifest(settings, '["text", "box"]', "")
    async with opened(settings, provider) as fresh:
        box = {"left": 4, "top": UPPER - 10, "right": 24, "bottom": UPPER + 10}
        with pytest.raises(TooLarge, match="no mask with which a next part could go on"):
            await segment(fresh, clip_of(home), box=box)
    assert provider.posts == 0


async def test_an_edit_of_a_named_target_is_found_and_edited_in_parts(
    studio: Studio, provider: Follower, home: Path, settings: Settings
) -> None:
    """Finding takes three runs, which are joined, and editing one; all are steps of one job."""
    asked = {"video": clip_of(home), "prompt": "nothing", "target": "the discs", "dry_run": True}
    edit = parse_arguments(EditVideoWithMask, {**asked, "model": "prunaai/vace-14b@replicate"})
    result = await studio.carry_out(await studio.plan("edit_video_with_mask", edit, "local"), 10)
    assert isinstance(result, VideoResult)
    assert [step.tool for step in result.steps] == 4 * ["segment_video"] + ["edit_video_with_mask"]
    assert [step.planned_request is None for step in result.steps] == [*3 * [False], True, False]
