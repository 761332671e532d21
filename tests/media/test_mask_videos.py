"""Mask videos: what they select, however they are written, and the black and white video that is sent for them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from films import film, pictures

from rotoscope.errors import InvalidInput
from rotoscope.media.video import mask_videos as mask_films
from rotoscope.media.video.mask_videos import read_grey_frames, read_mask_film, write_mask_film
from rotoscope.media.video.videos import probe_video

_SIZE = (160, 96)
_AREA = 40 * 30 / (160 * 96)


def _box(number: int) -> tuple[slice, slice]:
    return slice(20, 50), slice(20 + number, 60 + number)


def _coloured(colour: tuple[int, int, int]) -> Callable[[int, int, int], np.ndarray]:
    def draw(number: int, width: int, height: int) -> np.ndarray:
        pixels = np.zeros((height, width, 3), np.uint8)
        pixels[_box(number)] = colour
        return pixels

    return draw


def _alpha(number: int, width: int, height: int) -> np.ndarray:
    """White throughout, opaque in the box alone."""
    pixels = np.full((height, width, 4), 255, np.uint8)
    pixels[:, :, 3] = 0
    pixels[(*_box(number), 3)] = 255
    return pixels


def _bars_in_alpha(number: int, width: int, height: int) -> np.ndarray:
    """A film of the world, cut out."""
    pixels = _alpha(number, width, height)
    pixels[:, :, :3] = np.random.default_rng(1).integers(0, 255, (height // 8, width // 8, 3)).repeat(8, 0).repeat(8, 1)
    return pixels


def _two_masks(number: int, width: int, height: int) -> np.ndarray:
    """Colours that are a clean mask, and a transparency that is another."""
    pixels = np.zeros((height, width, 4), np.uint8)
    pixels[_box(number)] = 255
    pixels[60:, :, 3] = 255
    return pixels


@pytest.mark.parametrize("colour", [(255, 255, 255), (255, 0, 0), (0, 0, 255), (20, 200, 20), (110, 110, 110)], ids=str)
@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "libx264"), ("a.webm", "libvpx-vp9"), ("a.webm", "libvpx")])
def test_black_and_one_flat_colour_selects_the_colour(
    tmp_path: Path, colour: tuple[int, int, int], name: str, codec: str
) -> None:
    path = film(tmp_path / name, codec, draw=_coloured(colour), frames=8, options={"crf": "8", "b": "2M"})
    found = read_mask_film(path, 81)
    assert found.is_mask
    assert (found.source, found.frames) == ("light", 8)
    assert found.least == pytest.approx(_AREA, rel=0.1)
    assert found.most == pytest.approx(_AREA, rel=0.1)
    assert found.is_plain == (colour == (255, 255, 255))
    assert all((frame >= 128).mean() == pytest.approx(_AREA, rel=0.1) for frame in read_grey_frames(path, 81))


def test_an_ordinary_video_is_no_mask(tmp_path: Path) -> None:
    assert not read_mask_film(film(tmp_path / "a.mp4"), 81).is_mask


def test_bright_patches_of_many_colours_are_no_mask(tmp_path: Path) -> None:
    def draw(number: int, width: int, height: int) -> np.ndarray:
        colours = np.array([(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (255, 255, 255)], np.uint8)
        return np.repeat(colours[(np.arange(width) // 32 + number) % 5][None], height, axis=0)

    assert not read_mask_film(film(tmp_path / "a.mp4", draw=draw), 81).is_mask


@pytest.mark.parametrize(("codec", "name"), [("libvpx-vp9", "a.webm"), ("prores_ks", "a.mov")])
@pytest.mark.parametrize("draw", [_alpha, _bars_in_alpha])
def test_what_is_opaque_is_the_mask_where_the_colours_are_none(
    tmp_path: Path, codec: str, name: str, draw: object
) -> None:
    pixels = {"prores_ks": "yuva444p10le"}.get(codec, "yuva420p")
    path = film(tmp_path / name, codec, draw=draw, frames=6, pixels=pixels)  # type: ignore[arg-type]
    found = read_mask_film(path, 81)
    assert (found.source, found.conflict, found.is_plain, found.is_mask) == ("alpha", False, False, True)
    assert found.least == pytest.approx(_AREA, rel=0.1)
    target = tmp_path / "mask.mp4"
    write_mask_film(path, target, found, _SIZE)
    for number, frame in enumerate(pictures(target)):
        selected = frame.min(axis=2) > 127
        wanted = np.zeros(_SIZE[::-1], bool)
        wanted[_box(number)] = True
        assert (selected != wanted).mean() < 0.01


def test_of_two_masks_in_one_film_the_colours_count(tmp_path: Path) -> None:
    found = read_mask_film(film(tmp_path / "a.webm", "libvpx-vp9", draw=_two_masks, frames=6, pixels="yuva420p"), 81)
    assert (found.source, found.conflict) == ("light", True)
    assert found.most == pytest.approx(_AREA, rel=0.1)


def test_a_codec_whose_transparency_cannot_be_decoded_is_refused_with_that_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = film(tmp_path / "a.webm", "libvpx-vp9", draw=_alpha, frames=3, pixels="yuva420p")
    monkeypatch.setattr(mask_films, "_ALPHA_DECODERS", {"vp9": "no_such_decoder"})
    with pytest.raises(InvalidInput, match="transparency is not read") as caught:
        read_mask_film(path, 81)
    assert caught.value.code == "unsupported"


def test_a_mask_video_is_written_in_black_and_white_in_another_size_at_the_same_times(tmp_path: Path) -> None:
    source, target = film(tmp_path / "a.mp4", draw=_coloured((255, 0, 0)), frames=8, rate=16), tmp_path / "mask.mp4"
    write_mask_film(source, target, read_mask_film(source, 81), (320, 193))
    frames = pictures(target)
    assert [frame.shape for frame in frames] == [(194, 320, 3)] * 8
    for number, frame in enumerate(frames):
        assert int(np.ptp(frame.astype(int), axis=2).max()) < 12
        assert (frame[:, :, 0] > 127).mean() == pytest.approx(_AREA, rel=0.1)
        columns = np.flatnonzero((frame[:, :, 0] > 127).any(axis=0))
        assert columns[0] == pytest.approx(2 * (20 + number), abs=2)
    found = read_mask_film(target, 81)
    assert found.is_plain
    facts = probe_video(target)
    assert (facts.frames, facts.duration_seconds) == pytest.approx((8, 0.5), abs=0.01)


def test_a_turned_mask_film_is_read_and_written_upright(tmp_path: Path) -> None:
    source, target = film(tmp_path / "a.mp4", draw=_coloured((0, 255, 0)), frames=2, turn=-90), tmp_path / "mask.mp4"
    upright = next(iter(read_grey_frames(source, 1)))
    assert upright.shape == (160, 96)
    write_mask_film(source, target, read_mask_film(source, 81), (96, 160))
    sent = pictures(target)[0][:, :, 0] > 127
    assert (sent != (upright >= 128)).mean() < 0.01


@pytest.mark.parametrize("level", [0, 30])
def test_a_dark_film_selects_nothing(tmp_path: Path, level: int) -> None:
    found = read_mask_film(film(tmp_path / "a.mp4", draw=_coloured((level, level, level)), frames=4), 81)
    assert (found.least, found.most) == (0, 0)
