"""Pixels that are not square: a video is measured, shown and sent as a player shows it."""

from fractions import Fraction
from pathlib import Path

import av
import pytest
from films import bars, film
from photos import pixel_at
from PIL import Image

from rotoscope.media.video.videos import clean_video, filmstrip, first_frame, poster, probe_video

_WIDE, _NARROW = Fraction(64, 27), Fraction(8, 9)


def _sees(image: Image.Image, place: tuple[float, float], colour: tuple[int, ...]) -> bool:
    found = pixel_at(image.convert("RGB"), place)
    return all(abs(one - other) < 60 for one, other in zip(found, colour, strict=True))


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.mp4", "libx264"), ("a.mov", "libx264"), ("a.mkv", "libx264"), ("a.mp4", "mpeg4"), ("a.mov", "prores_ks")],
)
@pytest.mark.parametrize(("shape", "shown", "sent"), [(_WIDE, (213, 120), (214, 120)), (_NARROW, (80, 120), (80, 120))])
def test_a_video_of_wide_or_narrow_pixels_is_shown_and_sent_with_square_pixels(
    tmp_path: Path, name: str, codec: str, shape: Fraction, shown: tuple[int, int], sent: tuple[int, int]
) -> None:
    pixels = "yuv422p10le" if codec == "prores_ks" else "yuv420p"
    source = film(tmp_path / name, codec, size=(90, 120), frames=12, shape=shape, pixels=pixels)
    if name == "a.mkv":
        data = source.read_bytes()
        source = tmp_path / "a.webm"
        source.write_bytes(data.replace(b"matroska", b"webm\0\0\0\0", 1))
    facts = probe_video(source)
    assert (facts.width, facts.height) == shown
    assert first_frame(source).size == shown
    assert poster(source).size == shown
    target = tmp_path / "clean.mp4"
    cleaned = clean_video(source, target)
    assert (cleaned.width, cleaned.height, cleaned.frames) == (*sent, 12)
    assert cleaned.stored == (90, 120)
    assert any("90x120" in note and f"{sent[0]}x{sent[1]}" in note for note in cleaned.notes)
    with av.open(str(target)) as file:
        stream = file.streams.video[0]
        assert (stream.width, stream.height) == sent  # what reads no shape of pixels sees the same
        assert stream.sample_aspect_ratio in (None, 1)
    assert _sees(first_frame(target), (0.25, 0.5), (220, 20, 20))
    assert clean_video(target, tmp_path / "again.mp4").notes == ()


@pytest.mark.parametrize("turn", [90, -90, 180])
def test_pixel_aspect_and_rotation_are_both_applied(tmp_path: Path, turn: int) -> None:
    source = film(tmp_path / "a.mp4", size=(90, 120), frames=5, shape=_WIDE, turn=turn)
    facts = probe_video(source)
    sideways = abs(turn) == 90
    assert (facts.width, facts.height) == ((120, 213) if sideways else (213, 120))
    cleaned = clean_video(source, tmp_path / "clean.mp4")
    assert (cleaned.width, cleaned.height) == ((120, 214) if sideways else (214, 120))
    assert cleaned.stored == ((120, 90) if sideways else (90, 120))
    before, after = first_frame(source), first_frame(tmp_path / "clean.mp4")
    for place in ((0.5, 0.1), (0.1, 0.5), (0.9, 0.5), (0.5, 0.9)):
        colour = pixel_at(before, place)
        assert _sees(after, place, colour)


def test_a_filmstrip_has_the_shape_that_a_player_shows(tmp_path: Path) -> None:
    strip = filmstrip(film(tmp_path / "a.mp4", size=(90, 120), shape=_WIDE), count=2, height=60)
    assert strip.size == (2 * 106 + 4, 60)


@pytest.mark.parametrize("shape", [Fraction(1281, 1280), Fraction(1, 40), Fraction(99, 1)])
def test_a_pixel_aspect_near_one_or_absurd_counts_as_square(tmp_path: Path, shape: Fraction) -> None:
    source = film(tmp_path / "a.mp4", frames=5, shape=shape)
    assert (probe_video(source).width, probe_video(source).height) == (160, 96)
    assert clean_video(source, tmp_path / "clean.mp4").notes == ()


def test_the_first_frame_with_square_pixels_is_what_was_drawn(tmp_path: Path) -> None:
    image = first_frame(film(tmp_path / "a.mp4", size=(90, 120), shape=_WIDE, frames=1))
    drawn = Image.fromarray(bars(0, 90, 120)).resize(image.size)
    for place in ((0.2, 0.1), (0.2, 0.5), (0.8, 0.5)):
        assert _sees(image, place, pixel_at(drawn, place))
