"""The parts that films are made of: panels, captions, progress, masks, windows."""

import io
import itertools
import re
import unicodedata
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from rotoscope_sandbox.film.camera_motion import STILL
from rotoscope_sandbox.film.caption import caption, pages_of
from rotoscope_sandbox.film.compositing import cut_out_reference
from rotoscope_sandbox.film.edit_masks import read_mask
from rotoscope_sandbox.film.input_media import crop_to_size
from rotoscope_sandbox.film.panels import split, staged
from rotoscope_sandbox.film.temporal_inpaint import REACH, EditFrame, sliding_windows
from rotoscope_sandbox.film.tones import tones
from rotoscope_sandbox.film.tqdm_progress import TqdmProgress
from rotoscope_sandbox.models import UnusableInput

TQDM = re.compile(r"^\s*(\d+)%\s*\|.+?\|\s*(\d+)\/(\d+)")


def noise(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)


def sheet(rows: int, columns: int, ground: int, gutter: int = 12) -> tuple[NDArray[np.uint8], list[NDArray[np.uint8]]]:
    """A storyboard sheet and its panels in reading order."""
    panels = [noise(90, 160, number) for number in range(rows * columns)]
    whole = np.full((rows * (90 + gutter) + gutter, columns * (160 + gutter) + gutter, 3), ground, np.uint8)
    for number, panel in enumerate(panels):
        top, left = gutter + number // columns * (90 + gutter), gutter + number % columns * (160 + gutter)
        whole[top : top + 90, left : left + 160] = panel
    return whole, panels


@pytest.mark.parametrize(("rows", "columns", "ground"), [(2, 2, 255), (1, 3, 0), (3, 2, 128)])
def test_a_storyboard_sheet_is_split_at_its_gutters_in_reading_order(rows: int, columns: int, ground: int) -> None:
    whole, panels = sheet(rows, columns, ground)
    found = split(whole, "Image 1")
    assert [one.name for one in found] == [f"Image 1, panel {n}" for n in range(1, rows * columns + 1)]
    for one, panel in zip(found, panels, strict=True):
        assert np.array_equal(one.picture, panel)


def test_a_large_compressed_sheet_is_split_as_well() -> None:
    whole, _ = sheet(2, 2, 250, gutter=8)
    target = io.BytesIO()
    Image.fromarray(whole).resize((1720, 1010)).save(target, "JPEG", quality=80)
    found = split(np.asarray(Image.open(target)), "Image 2")
    assert len(found) == 4
    assert all(abs(one.picture.shape[1] / one.picture.shape[0] - 16 / 9) < 0.1 for one in found)


def test_a_picture_without_gutters_stays_whole(scene: Any) -> None:
    product = np.full((200, 300, 3), 255, np.uint8)
    rows, columns = np.mgrid[0:200, 0:300]
    for x in (80, 220):
        product[(rows - 100) ** 2 + (columns - x) ** 2 < 50**2] = (30, 90, 160)
    for whole in (scene.frame, product, np.zeros((50, 80, 3), np.uint8)):
        found = split(whole, "Image 1")
        assert (len(found), found[0].name) == (1, "Image 1")
        assert found[0].picture is whole


def test_a_panel_of_another_shape_is_shown_whole_before_its_own_blur() -> None:
    tall = noise(320, 90)
    stage = staged(tall, (320, 180))
    assert stage.shape == (180, 320, 3)
    assert stage[:, :100].std() < stage[:, 140:180].std() / 3


@pytest.mark.parametrize(
    "words",
    ["The slow river. " * 40, "按图一的故事版生成视频。镜头缓慢推进。" * 20, "ab" * 300, "Ветер и снег 🐘 " * 60],
)
def test_long_prompts_are_wrapped_into_pages_and_end_in_an_ellipsis(words: str) -> None:
    pages = pages_of(words, (864, 496), 2)
    assert 1 <= len(pages) <= 2
    assert all(1 <= len(lines) <= 3 for lines in pages)
    assert pages[-1][-1].endswith("…")
    assert not any(unicodedata.category(line[0]) == "Po" for lines in pages for line in lines)
    assert "🐘" not in "".join(itertools.chain.from_iterable(pages))


def test_a_short_prompt_is_one_line_and_nothing_is_no_page() -> None:
    assert pages_of("  Hello\n world ", (864, 496), 3) == [["Hello world"]]
    assert pages_of(" \n", (864, 496), 3) == []


@pytest.mark.parametrize("script", ["按故事版生成", "ゆっくり", "한국어", "Привет", "Grüße"])
def test_every_script_is_drawn_with_its_own_letters(script: str) -> None:
    drawn, other = (caption([words], (400, 240)).cover for words in (script, "?" * len(script)))
    assert drawn.max() > 0.95
    assert not np.array_equal(drawn, other)


def test_progress_never_goes_back_and_speaks_when_steps_are_slow(job: Callable[..., Any]) -> None:
    task, moments = job({}), itertools.count()
    progress = TqdmProgress(task, 5, clock=lambda: float(next(moments)))
    for _ in range(7):
        progress.advance()
    progress.finish()
    shown = [TQDM.match(line) for line in task.lines]
    assert [one[2] for one in shown if one] == ["0", "1", "2", "3", "4", "5"]
    assert shown[-1] is not None
    assert shown[-1][1] == "100"
    assert re.fullmatch(r"  0%\| {10}\| 0/5 \[00:0\d<\?,     \?it/s\]", task.lines[0])


def test_fewer_frames_than_said_still_end_at_the_end(job: Callable[..., Any]) -> None:
    task = job({})
    progress = TqdmProgress(task, 40)
    progress.advance()
    progress.finish()
    assert task.lines[-1].startswith("100%|██████████| 40/40 [")


def as_file(picture: Image.Image) -> bytes:
    target = io.BytesIO()
    picture.save(target, "PNG")
    return target.getvalue()


def test_masks_of_every_kind_select_the_same() -> None:
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
        assert np.array_equal(read_mask(as_file(picture), "src_mask"), wanted), picture.mode
    with pytest.raises(UnusableInput, match="damaged"):
        read_mask(b"nothing", "src_mask")


def test_a_frame_of_about_the_same_shape_is_scaled_and_of_another_is_cut_to_its_middle() -> None:
    wide = noise(90, 160)
    wide[:, :20] = 0
    assert not crop_to_size(wide, (83, 48))[:, :8].any()
    assert crop_to_size(wide, (48, 83)).all(axis=2).mean() > 0.9
    assert crop_to_size(wide, (160, 90)).shape == (90, 160, 3)


def test_no_more_frames_are_held_than_the_window_needs() -> None:
    made: list[int] = []

    def takes() -> Any:
        for number in range(200):
            made.append(number)
            yield EditFrame(np.full((2, 2, 3), number, np.uint8), np.zeros((2, 2), np.bool_), STILL)

    seen = []
    for around, at in sliding_windows(takes()):
        assert len(around) <= 2 * REACH + 1
        assert made[-1] - len(seen) <= REACH
        seen.append(int(around[at].frame[0, 0, 0]))
    assert seen == [number % 256 for number in range(200)]


def test_a_reference_loses_its_plain_ground_or_keeps_its_own_transparency() -> None:
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


def test_tones_begin_and_end_in_silence_and_come_from_the_seed() -> None:
    sound = tones(4, 9)
    assert sound.shape == (2, 4 * 48_000)
    assert not sound[:, [0, -1]].any()
    assert np.array_equal(sound, tones(4, 9))
    assert not np.array_equal(sound, tones(4, 10))
