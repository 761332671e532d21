"""Edits of films: what is said about sound, pixel shapes and mask films before money is spent, and what is sent."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from films import film, pictures, trim
from PIL import Image
from vaults import stored_path

from rotoscope.contracts.arguments import EditVideoWithMask, parse_arguments
from rotoscope.contracts.results import VideoResult
from rotoscope.errors import InvalidInput
from rotoscope.studio.studio import Studio

pytestmark = pytest.mark.anyio
_BOX = (slice(20, 60), slice(30, 80))


async def planned(studio: Studio, video: Path, mask: Path, **more: Any) -> VideoResult:
    asked = {"prompt": "a red ball", "video": str(video), "mask": str(mask), "dry_run": True, "seed": 1}
    arguments = parse_arguments(EditVideoWithMask, {**asked, "model": "prunaai/vace-14b@replicate", **more})
    result = await studio.perform("edit_video_with_mask", arguments, "local", 60)
    assert isinstance(result, VideoResult)
    return result


def sent(studio: Studio, result: VideoResult, name: str) -> Path:
    assert result.planned_input is not None
    return stored_path(studio.context.vault, str(result.planned_input[name]))


def picture_mask(path: Path, size: tuple[int, int]) -> Path:
    """The left half is selected."""
    pixels = np.zeros((size[1], size[0]), np.uint8)
    pixels[:, : size[0] // 2] = 255
    Image.fromarray(pixels).save(path)
    return path


def flat(colour: tuple[int, int, int]) -> Any:
    def draw(number: int, width: int, height: int) -> np.ndarray:
        pixels = np.zeros((height, width, 3), np.uint8)
        pixels[_BOX] = colour
        return pixels

    return draw


def opaque(number: int, width: int, height: int) -> np.ndarray:
    pixels = np.full((height, width, 4), 255, np.uint8)
    pixels[:, :, 3] = 0
    pixels[(*_BOX, 3)] = 255
    return pixels


async def test_sound_that_the_model_does_not_give_is_said_to_be_put_back(studio: Studio, home: Path) -> None:
    mask = picture_mask(home / "m.png", (160, 96))
    loud = await planned(studio, film(home / "loud.mp4", frames=33, rate=16, tone=True), mask)
    assert any("clip's own is put back" in warning for warning in loud.warnings)
    silent = await planned(studio, film(home / "silent.mp4", frames=33, rate=16), mask)
    assert not any("sound" in warning for warning in silent.warnings)


async def test_a_film_of_wide_pixels_takes_masks_as_it_is_stored_and_as_it_is_shown(studio: Studio, home: Path) -> None:
    video = film(home / "v.mp4", size=(180, 240), frames=33, rate=16, shape=Fraction(64, 27))
    shown = (428, 240)
    for size in ((180, 240), (427, 240), (360, 480)):
        result = await planned(studio, video, picture_mask(home / f"m{size[0]}.png", size))
        assert result.planned_input is not None
        assert result.planned_input.get("size", "832*480") == "832*480"
        selected = np.asarray(Image.open(sent(studio, result, "src_mask"))) > 127
        assert selected.shape == (shown[1], shown[0])
        assert selected[:, :214].mean() > 0.99
        assert selected[:, 214:].mean() < 0.01
        assert pictures(sent(studio, result, "src_video"))[0].shape == (shown[1], shown[0], 3)
        assert any("no squares" in warning for warning in result.warnings)
    with pytest.raises(InvalidInput, match="another shape"):
        await planned(studio, video, picture_mask(home / "m.png", (240, 180)))


async def test_a_mask_film_of_stored_pixels_is_stretched_to_what_is_shown(studio: Studio, home: Path) -> None:
    video = film(home / "v.mp4", size=(180, 240), frames=33, rate=16, shape=Fraction(64, 27))
    mask = film(home / "m.mp4", size=(180, 240), frames=33, rate=16, draw=flat((255, 255, 255)))
    result = await planned(studio, video, mask)
    frame = pictures(sent(studio, result, "src_mask"))[0]
    assert frame.shape == (240, 428, 3)
    assert (frame[:, :, 0] > 127).mean() == pytest.approx(40 * 50 / (180 * 240), rel=0.1)


@pytest.mark.parametrize(
    ("frames", "rate", "numbers"), [(66, 32, ("66", "33", "32", "16")), (20, 16, ("20", "33")), (33, 8, ("16", "8"))]
)
async def test_a_mask_film_of_another_frame_rate_is_warned_of_with_both_numbers(
    studio: Studio, home: Path, frames: int, rate: int, numbers: tuple[str, ...]
) -> None:
    video = film(home / "v.mp4", frames=33, rate=16)
    result = await planned(studio, video, film(home / "m.mp4", frames=frames, rate=rate, draw=flat((255, 255, 255))))
    reported = [warning for warning in result.warnings if warning.startswith("The mask has")]
    assert len(reported) == 1
    assert all(number in reported[0] for number in numbers)


async def test_a_mask_film_of_the_same_frame_rate_is_sent_unchanged_without_a_warning(
    studio: Studio, home: Path
) -> None:
    mask = film(home / "m.mp4", frames=33, rate=16, draw=flat((255, 255, 255)))
    result = await planned(studio, film(home / "v.mp4", frames=33, rate=16), mask)
    assert not any("mask" in warning.lower() for warning in result.warnings)
    with_own = await planned(studio, home / "v.mp4", sent(studio, result, "src_mask"))
    assert with_own.planned_input is not None
    assert result.planned_input is not None
    assert with_own.planned_input["src_mask"] == result.planned_input["src_mask"]


@pytest.mark.parametrize("kind", ["red", "transparent", "dim"])
async def test_what_a_mask_film_means_is_sent_in_black_and_white(studio: Studio, home: Path, kind: str) -> None:
    video = film(home / "v.mp4", frames=33, rate=16)
    if kind == "transparent":
        mask = film(home / "m.webm", "libvpx-vp9", frames=33, rate=16, draw=opaque, pixels="yuva420p")
    else:
        mask = film(home / "m.mp4", frames=33, rate=16, draw=flat((255, 0, 0) if kind == "red" else (100, 100, 100)))
    result = await planned(studio, video, mask)
    wanted = np.zeros((96, 160), bool)
    wanted[_BOX] = True
    frames = pictures(sent(studio, result, "src_mask"))
    assert len(frames) == 33
    assert all(((frame.min(axis=2) > 127) != wanted).mean() < 0.01 for frame in frames)
    word = "transparency" if kind == "transparent" else "black and white"
    assert any(word in warning for warning in result.warnings)


async def test_a_trimmed_clip_is_warned_of_and_counted_as_it_is_shown(studio: Studio, home: Path) -> None:
    video = trim(film(home / "v.mp4", frames=100, rate=16), 1.0, 2.0)
    result = await planned(studio, video, picture_mask(home / "m.png", (160, 96)))
    assert any("what was cut away stays here" in warning for warning in result.warnings)
    assert any("the video has 32 frames" in warning for warning in result.warnings)
    assert len(pictures(sent(studio, result, "src_video"), hidden=True)) == 32


async def test_which_frames_of_a_long_film_are_edited_is_not_promised(studio: Studio, home: Path) -> None:
    result = await planned(studio, film(home / "v.mp4", frames=120, rate=16), picture_mask(home / "m.png", (160, 96)))
    reported = next(warning for warning in result.warnings if "120" in warning)
    assert "not known" in reported
