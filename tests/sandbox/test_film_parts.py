"""Captions, progress lines, masks, windows of frames and reference cutouts."""

import io
import itertools
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from engine_media import local_task
from numpy.typing import NDArray
from PIL import Image

from rotoscope_sandbox.film.camera_motion import STILL
from rotoscope_sandbox.film.caption import draw_caption, wrap_text
from rotoscope_sandbox.film.compositing import cut_out_reference
from rotoscope_sandbox.film.edit_masks import read_mask_picture
from rotoscope_sandbox.film.input_media import crop_to_size
from rotoscope_sandbox.film.temporal_inpaint import REACH, EditFrame, sliding_windows
from rotoscope_sandbox.film.tqdm_progress import TqdmProgress
from rotoscope_sandbox.models import UnusableInput

TQDM = re.compile(r"^\s*(\d+)%\s*\|.+?\|\s*(\d+)\/(\d+)")


def noise(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    "text",
    ["The slow river. " * 40, "按图一的故事版生成视频。镜头缓慢推进。" * 20, "ab" * 300, "Ветер и снег 🐘 " * 60],
)
def test_long_text_is_wrapped_to_the_width_and_ends_in_an_ellipsis(text: str) -> None:
    lines = wrap_text(text, 400, 20, 3)
    assert len(lines) == 3
    assert all(len(line) > 10 for line in lines), "lines are filled"
    assert lines[-1].endswith("…")
    assert "🐘" not in "".join(lines)


def test_text_breaks_between_words() -> None:
    lines = wrap_text("The slow river and the snow on it", 150, 20, 9)
    assert len(lines) > 1
    assert [word for line in lines for word in line.split()] == [
        "The",
        "slow",
        "river",
        "and",
        "the",
        "snow",
        "on",
        "it",
    ]


def test_short_text_is_one_line_and_blank_text_none() -> None:
    assert wrap_text("  Hello\n world ", 400, 20, 3) == ["Hello world"]
    assert wrap_text(" \n", 400, 20, 3) == []


@pytest.mark.parametrize("script", ["按故事版生成", "ゆっくり", "한국어", "Привет", "Grüße"])
def test_every_script_is_drawn_with_its_own_letters(script: str) -> None:
    drawn, other = (np.zeros((240, 400, 3), np.uint8) for _ in range(2))
    draw_caption(drawn, script)
    draw_caption(other, "?" * len(script))
    assert drawn.max() > 240
    assert not np.array_equal(drawn, other)


def test_progress_never_falls_and_logs_every_step_when_steps_are_slow(tmp_path: Path) -> None:
    task, moments = local_task(tmp_path, {}), itertools.count()
    progress = TqdmProgress(task, 5, clock=lambda: float(next(moments)))
    for _ in range(7):
        progress.advance()
    progress.finish()
    shown = [TQDM.match(line) for line in task.lines]
    assert [one[2] for one in shown if one] == ["0", "1", "2", "3", "4", "5"]
    assert shown[-1] is not None
    assert shown[-1][1] == "100"
    assert re.fullmatch(r"  0%\| {10}\| 0/5 \[00:0\d<\?,     \?it/s\]", task.lines[0])


def test_progress_ends_at_100_percent_with_fewer_steps_than_announced(tmp_path: Path) -> None:
    task = local_task(tmp_path, {})
    progress = TqdmProgress(task, 40)
    progress.advance()
    progress.finish()
    assert task.lines[-1].startswith("100%|██████████| 40/40 [")


def as_file(picture: Image.Image) -> bytes:
    target = io.BytesIO()
    picture.save(target, "PNG")
    return target.getvalue()


def test_masks_of_every_picture_mode_select_the_same_pixels() -> None:
    """Palette masks hold object numbers: a threshold in the middle would find nothing in them."""
    wanted = np.zeros((20, 30), np.bool_)
    wanted[4:12, 5:20] = True
    numbers = Image.fromarray(wanted.astype(np.uint8) * 3)
    palette = numbers.copy()
    palette.putpalette([0, 0, 0, 120, 0, 0, 0, 120, 0, 10, 10, 10])
    white = Image.fromarray(wanted.astype(np.uint8) * 255)
    clear = Image.merge("RGBA", (*([Image.new("L", (30, 20), 255)] * 3), white))
    deep = Image.fromarray(wanted.astype(np.uint16) * 65535)
    for picture in (palette, numbers, white, white.convert("RGB"), white.convert("1"), clear, deep):
        assert np.array_equal(read_mask_picture(as_file(picture), "src_mask"), wanted), picture.mode
    with pytest.raises(UnusableInput, match="damaged"):
        read_mask_picture(b"nothing", "src_mask")


def test_a_frame_of_about_the_same_shape_is_scaled_and_of_another_cropped_to_its_middle() -> None:
    wide = noise(90, 160)
    wide[:, :20] = 0
    assert not crop_to_size(wide, (83, 48))[:, :8].any()
    assert crop_to_size(wide, (48, 83)).all(axis=2).mean() > 0.9
    assert crop_to_size(wide, (160, 90)).shape == (90, 160, 3)


def test_a_sliding_window_holds_no_more_frames_than_it_needs() -> None:
    made: list[int] = []

    def edit_frames() -> Iterator[EditFrame]:
        for number in range(200):
            made.append(number)
            yield EditFrame(np.full((2, 2, 3), number, np.uint8), np.zeros((2, 2), np.bool_), STILL)

    seen: list[int] = []
    for around, at in sliding_windows(edit_frames()):
        assert len(around) <= 2 * REACH + 1
        assert made[-1] - len(seen) <= REACH
        seen.append(int(around[at].frame[0, 0, 0]))
    assert seen == [number % 256 for number in range(200)]


def test_a_reference_is_cut_out_by_its_transparency_or_its_plain_background() -> None:
    picture = np.full((80, 100, 3), 250, np.uint8)
    picture[20:60, 30:70] = noise(40, 40)
    found = cut_out_reference(picture, None)
    assert found.method == "its plain ground removed"
    assert abs(found.cover.shape[0] - 40) <= 2
    alpha = np.zeros((80, 100), np.float32)
    alpha[10:30, 10:50] = 1
    own = cut_out_reference(picture, alpha)
    assert (own.method, own.cover.shape) == ("its own transparency", (20, 40))
    full = cut_out_reference(picture, np.ones((80, 100), np.float32))
    assert full.method == found.method, "an alpha channel that hides nothing says nothing"
