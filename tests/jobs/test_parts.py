"""Clips that are longer than a model takes: cut into parts, each a run of its own, and joined."""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import anyio
import numpy as np
import pytest
from films import bars, film, number_of, pictures, sound
from PIL import Image
from stand_in_model import StandInModel, read_frames, write_frames

from rotoscope.contracts.arguments import EditVideoWithMask, parse_arguments
from rotoscope.contracts.results import VideoResult
from rotoscope.errors import InvalidInput, OverBudget, TooLarge
from rotoscope.settings import Settings
from rotoscope.studio.studio import Studio

pytestmark = pytest.mark.anyio
SIZE, RATE = (160, 96), 16
BOX = (slice(30, 66), slice(20, 140))  # rows and columns: above the frame's number
PRICE = """
["prunaai/vace-14b@replicate"]
unit = "run"
usd = 0.5
seen = "2026-11"
"""


class Editor(StandInModel):
    """A model that edits: it paints what is under the mask in a grey that tells the run.

    Attributes:
        clips: of what each run was sent, the numbers of the first and the last frame, and how many there are.
        refused: the runs that fail, by the number of the first frame that they are sent.
    """

    def __init__(self) -> None:
        super().__init__(self.paint)
        self.clips: list[tuple[int, int, int]] = []
        self.refused: set[int] = set()

    def paint(self, run: int, given: dict[str, Any]) -> dict[str, Any]:
        clip, mask = (read_frames(self.uploads[given[name]]) for name in ("src_video", "src_mask"))
        self.clips.append((number_of(clip[0]), number_of(clip[-1]), len(clip)))
        if self.clips[-1][0] in self.refused:
            return {"status": "failed", "error": "no"}
        for frame, selected in zip(clip, mask, strict=True):
            frame[selected.mean(axis=2) > 128] = 40 + 40 * (run % 4)
        self.files[f"/p{run}.mp4"] = write_frames(clip, RATE)
        return {"status": "succeeded", "output": f"https://sandbox.invalid/p{run}.mp4"}


def boxes(number: int, width: int, height: int) -> np.ndarray:
    """The mask of every frame."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[BOX] = 255
    return pixels


def boxes_until(end: int) -> Callable[[int, int, int], np.ndarray]:
    """The mask of an object that is seen up to a frame."""

    def draw(number: int, width: int, height: int) -> np.ndarray:
        return boxes(number, width, height) if number < end else np.zeros((height, width, 3), np.uint8)

    return draw


@pytest.fixture
def provider(settings: Settings) -> Editor:
    (settings.home / "models").mkdir(parents=True, exist_ok=True)
    (settings.home / "models" / "prices.toml").write_text(PRICE, encoding="utf-8")
    return Editor()


def long_clip(home: Path, frames: int = 200, **more: Any) -> Path:
    return film(home / "clip.mp4", frames=frames, rate=RATE, size=SIZE, options={"qp": "0"}, **more)


def mask_of(home: Path, frames: int = 200, draw: Callable[[int, int, int], np.ndarray] = boxes) -> Path:
    return film(home / "mask.mp4", frames=frames, rate=RATE, size=SIZE, draw=draw, options={"qp": "0"})


def asked(video: Path, mask: Path, **more: Any) -> EditVideoWithMask:
    given = {"prompt": "grey", "model": "prunaai/vace-14b@replicate", **more}
    return parse_arguments(EditVideoWithMask, {"video": str(video), "mask": str(mask), **given})


async def edited(studio: Studio, arguments: EditVideoWithMask) -> VideoResult:
    with anyio.fail_after(240):
        result = await studio.perform("edit_video_with_mask", arguments, "local", 200)
    assert isinstance(result, VideoResult)
    return result


def greys(frame: np.ndarray) -> int:
    """The grey in the box of a frame."""
    return round(float(np.median(frame[BOX])))


async def test_a_long_clip_is_edited_in_parts_and_has_every_frame_in_its_place(
    studio: Studio, provider: Editor, home: Path
) -> None:
    result = await edited(studio, asked(long_clip(home, tone=True), mask_of(home)))
    assert result.status == "succeeded", result.error
    assert sorted(provider.clips) == [(0, 71, 73), (64, 135, 73), (128, 199, 73)]
    assert result.video is not None
    assert (result.video.frames, result.video.width, result.video.height, result.video.frame_rate) == (200, *SIZE, RATE)
    assert result.video.has_audio
    assert sound(Path(result.video.path)).size / 48_000 == pytest.approx(200 / RATE, abs=0.1)
    frames = list(pictures(Path(result.video.path)))
    assert [number_of(frame) for frame in frames] == list(range(200))
    assert all(np.ptp(frame[BOX].reshape(-1, 3).mean(axis=0)) < 8 for frame in frames)  # grey: nothing is left of it
    changes = result.changes
    assert changes is not None
    assert changes.changed_outside == 0
    assert changes.changed_inside is not None
    assert changes.changed_inside > 0.95
    assert (changes.frames_compared, changes.frames_dropped, changes.frames_added) == (200, 0, 0)
    assert changes.sound == "carried_over"


async def test_where_parts_overlap_one_passes_into_the_other(studio: Studio, provider: Editor, home: Path) -> None:
    result = await edited(studio, asked(long_clip(home, 150), mask_of(home, 150)))
    assert result.video is not None
    found = [greys(frame) for frame in pictures(Path(result.video.path))]
    first, last, middle = found[0], found[-1], found[70:80]
    assert abs(first - last) == pytest.approx(40, abs=4)
    assert found[:70] == pytest.approx([first] * 70, abs=3)
    assert found[80:] == pytest.approx([last] * 70, abs=3)
    rising = middle if last > first else middle[::-1]
    assert all(after - before > -2 for before, after in pairwise(rising))
    assert max(abs(after - before) for before, after in pairwise(found)) < 12


async def test_a_clip_is_cut_at_its_scene_changes(studio: Studio, provider: Editor, home: Path) -> None:
    def two_scenes(number: int, width: int, height: int) -> np.ndarray:
        pixels = bars(number, width, height)
        pixels[: 3 * height // 4] = pixels[: 3 * height // 4][:, ::-1] if number >= 70 else pixels[: 3 * height // 4]
        return pixels

    result = await edited(studio, asked(long_clip(home, 120, draw=two_scenes), mask_of(home, 120)))
    assert result.status == "succeeded", result.error
    assert sorted(provider.clips) == [(0, 69, 73), (70, 119, 53)]
    assert result.video is not None
    found = [greys(frame) for frame in pictures(Path(result.video.path))]
    assert len(set(found[:70])) <= 3
    assert abs(found[69] - found[70]) > 30  # at once


async def test_a_part_in_which_the_mask_selects_nothing_is_not_sent(
    studio: Studio, provider: Editor, home: Path
) -> None:
    clip = long_clip(home)
    result = await edited(studio, asked(clip, mask_of(home, draw=boxes_until(60))))
    assert result.status == "succeeded", result.error
    assert [first for first, _, _ in provider.clips] == [0]
    assert any("frames 64 to 135, 128 to 199" in warning for warning in result.warnings)
    assert result.video is not None
    for number, frame in enumerate(pictures(Path(result.video.path))):
        known = bars(number, *SIZE)
        assert number_of(frame) == number
        if number > 72:
            assert np.abs(frame.astype(int) - known).mean() < 6


async def test_the_sum_and_each_part_are_shown_before(studio: Studio, provider: Editor, home: Path) -> None:
    clip, mask = long_clip(home), mask_of(home)
    plan = await studio.plan("edit_video_with_mask", asked(clip, mask, dry_run=True), "local")
    result = await studio.carry_out(plan, 10)
    assert isinstance(result, VideoResult)
    assert provider.posts == 0
    assert result.cost.estimate_usd == pytest.approx(1.5)
    assert "3 times" in result.cost.basis
    assert result.planned_request is None
    requests = [step.planned_request for step in result.steps]
    assert [request is not None for request in requests] == [True, True, True, False]
    assert any("3 runs are paid for" in warning for warning in result.warnings)


async def test_caps_hold_for_all_parts_together(studio: Studio, provider: Editor, home: Path) -> None:
    capped = replace(studio, caps=replace(studio.caps, per_call=1.4))
    with pytest.raises(OverBudget):
        await edited(capped, asked(long_clip(home), mask_of(home)))
    assert provider.posts == 0


async def test_a_part_that_failed_is_the_only_one_that_is_paid_for_again(
    studio: Studio, provider: Editor, home: Path, expire_redelivery: Callable[[], bool]
) -> None:
    clip, mask = long_clip(home), mask_of(home)
    provider.refused = {64}
    failed = await edited(studio, asked(clip, mask))
    assert failed.status == "failed"
    assert provider.posts == 3
    provider.refused = set()
    await studio.mark_delivered(failed, "local")
    assert expire_redelivery()
    again = await edited(studio, asked(clip, mask))
    assert again.status == "succeeded", again.error
    assert provider.posts == 4
    assert [step.reused for step in again.steps] == [True, False, True, False]
    assert again.cost.estimate_usd == pytest.approx(0.5)


async def test_an_equal_call_gets_the_same_result_unpaid(studio: Studio, provider: Editor, home: Path) -> None:
    clip, mask = long_clip(home, 150), mask_of(home, 150)
    jobs = set()
    async with anyio.create_task_group() as tasks:

        async def call() -> None:
            jobs.add((await edited(studio, asked(clip, mask))).job_id)

        for _ in range(2):
            tasks.start_soon(call)
    assert len(jobs) == 1
    assert provider.posts == 2


async def test_keep_outside_holds_for_the_joined_film(studio: Studio, provider: Editor, home: Path) -> None:
    result = await edited(studio, asked(long_clip(home, 150), mask_of(home, 150), keep_outside=True))
    assert result.changes is not None
    assert result.changes.outside_restored
    assert result.changes.psnr_outside_db is None or result.changes.psnr_outside_db >= 40
    assert all("keep_outside" not in given for given in provider.inputs)


async def test_a_clip_that_takes_too_many_parts_is_refused_before_anything_is_paid(
    studio: Studio, provider: Editor, home: Path
) -> None:
    clip = film(home / "clip.mp4", frames=2000, rate=RATE, size=(32, 32), options={"preset": "ultrafast"})
    mask = film(home / "mask.mp4", frames=2000, rate=RATE, size=(32, 32), draw=half, options={"preset": "ultrafast"})
    with pytest.raises(TooLarge, match="28 runs; one call begins at most 24"):
        await edited(studio, asked(clip, mask))
    assert provider.posts == 0


def half(number: int, width: int, height: int) -> np.ndarray:
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[:, : width // 2] = 255
    return pixels


async def test_with_a_mask_picture_a_long_clip_is_not_cut(studio: Studio, provider: Editor, home: Path) -> None:
    """A picture is the mask of the first frame alone."""
    Image.fromarray(boxes(0, *SIZE)).save(home / "mask.png")
    plan = await studio.plan("edit_video_with_mask", asked(long_clip(home), home / "mask.png"), "local")
    assert plan.steps == ()


async def test_frames_that_the_user_counts_are_not_cut_into_parts(studio: Studio, provider: Editor, home: Path) -> None:
    plan = await studio.plan("edit_video_with_mask", asked(long_clip(home), mask_of(home), frame_num=81), "local")
    assert plan.steps == ()


async def test_a_mask_that_is_empty_in_every_part_is_refused(studio: Studio, provider: Editor, home: Path) -> None:
    with pytest.raises(InvalidInput, match="empty"):
        await edited(studio, asked(long_clip(home), mask_of(home, draw=boxes_until(0))))
    assert provider.posts == 0
