"""The limits of videos and sounds, and of the work that they cost: checked before they are decoded or encoded."""

import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from films import film

from rotoscope.errors import InvalidInput, TooLarge
from rotoscope.media.preparing import prepare_media
from rotoscope.media.video import mask_videos as mask_films
from rotoscope.media.video import probing as counting
from rotoscope.media.video import videos
from rotoscope.media.video.limits import (
    DEFAULT_VIDEO_LIMITS,
    VideoLimits,
    check_decode_effort,
    check_frame_memory,
    check_sound_effort,
    check_track_pixels,
    choose_encoder_settings,
    max_probe_frames,
)
from rotoscope.media.video.mask_videos import read_mask_film
from rotoscope.media.video.videos import clean_sound, clean_video, filmstrip, first_frame, poster, probe_video
from rotoscope.models.catalog import UploadLimit

_FAST_VPX = {"cpu-used": "8", "deadline": "realtime"}


def _grey(_: int, width: int, height: int) -> np.ndarray:
    return np.full((height, width, 3), 90, np.uint8)


@pytest.mark.parametrize(
    ("size", "frames", "codec"),
    [
        ((1920, 1080), 3000, "vp8"),
        ((3840, 2160), 1000, "vp8"),
        ((1920, 1080), 1000, "prores"),
        ((64, 64), 100_000, "vp8"),
        ((4096, 4096), 200, "mjpeg"),
    ],
)
def test_work_that_takes_too_long_is_refused(size: tuple[int, int], frames: int, codec: str) -> None:
    with pytest.raises(TooLarge, match=f"{frames} frames") as caught:
        choose_encoder_settings(size, size, frames, codec, DEFAULT_VIDEO_LIMITS)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("size", "frames", "codec", "form"),
    [
        ((160, 96), 200, "vp8", (160, 96, "veryfast")),
        ((161, 97), 200, "vp8", (162, 98, "veryfast")),
        ((1280, 720), 600, "vp8", (1280, 720, "ultrafast")),
        ((1920, 1080), 75, "h264", (1920, 1080, "veryfast")),
        ((1920, 1080), 300, "vp8", (1280, 720, "ultrafast")),
        ((3840, 2160), 60, "h264", (1920, 1080, "ultrafast")),
    ],
)
def test_encoder_settings_fall_from_slow_to_fast_to_a_smaller_size(
    size: tuple[int, int], frames: int, codec: str, form: tuple[int, int, str]
) -> None:
    found, seconds = choose_encoder_settings(size, size, frames, codec, DEFAULT_VIDEO_LIMITS)
    assert (found.width, found.height, found.preset) == form
    assert seconds <= DEFAULT_VIDEO_LIMITS.effort_seconds


def test_encoding_is_refused_before_it_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(videos, "open_output", lambda *_: pytest.fail("it was written"))
    hasty = VideoLimits(effort_seconds=0.001)
    for source in (film(tmp_path / "a.webm", "libvpx"), film(tmp_path / "a.mp4", shape=Fraction(4, 3))):
        with pytest.raises(TooLarge, match="20 frames") as caught:
            clean_video(source, tmp_path / "clean.mp4", hasty)
        assert caught.value.code == "too_large"
    whole = film(tmp_path / "b.mp4", tone=True)
    with av.open(str(whole)) as file, av.open(str(tmp_path / "c.webm"), "w") as into:
        track = into.add_stream("libopus", rate=48000)
        for frame in file.decode(audio=0):
            into.mux(track.encode(frame))
        into.mux(track.encode(None))
    with pytest.raises(TooLarge, match="The sound lasts 2 seconds"):
        clean_sound(tmp_path / "c.webm", tmp_path / "clean.m4a", hasty)


def test_a_film_that_is_only_copied_needs_no_work(tmp_path: Path) -> None:
    hasty = VideoLimits(effort_seconds=0.001)
    assert clean_video(film(tmp_path / "a.mp4"), tmp_path / "clean.mp4", hasty).frames == 20


def test_a_video_that_is_made_smaller_has_a_note(tmp_path: Path) -> None:
    source = film(tmp_path / "a.mov", "mjpeg", size=(2560, 1440), frames=2, draw=_grey, pixels="yuvj420p")
    cleaned = clean_video(source, tmp_path / "clean.mp4")
    assert (cleaned.width, cleaned.height) == (1920, 1080)
    assert any("2560x1440 to 1920x1080" in note for note in cleaned.notes)


def test_frames_that_take_too_much_memory_are_refused_by_every_function(tmp_path: Path) -> None:
    fast = {"preset": "ultrafast"}
    deep = film(tmp_path / "a.mp4", size=(3072, 2048), frames=1, draw=_grey, pixels="yuv444p10le", options=fast)
    huge = film(tmp_path / "a.webm", "libvpx", size=(5200, 4000), frames=1, draw=_grey, options=_FAST_VPX)
    for path, said in ((deep, "48 bits"), (huge, "20.8 megapixels")):
        for look in (probe_video, first_frame, poster, filmstrip):
            with pytest.raises(TooLarge, match=said):
                look(path)


@pytest.mark.parametrize(
    ("width", "height", "bits", "codec", "taken"),
    [
        (3840, 2160, 12, "h264", True),
        (3840, 2160, 24, "hevc", True),
        (7680, 4320, 12, "vp8", False),
        (3840, 2160, 48, "h264", False),
        (3840, 2160, 64, "prores", True),
    ],
)
def test_bytes_of_decoded_frames_are_counted(width: int, height: int, bits: int, codec: str, taken: bool) -> None:
    if taken:
        check_frame_memory(width, height, bits, codec)
        return
    with pytest.raises(TooLarge, match=f"{width} x {height}"):
        check_frame_memory(width, height, bits, codec)


def test_a_file_of_too_many_packets_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TooLarge, match="pieces"):
        probe_video(film(tmp_path / "a.mp4", tone=True), VideoLimits(packets=30))


def test_sounds_are_counted_by_channels_and_rate() -> None:
    assert check_sound_effort(60, 48000, 2, DEFAULT_VIDEO_LIMITS) == pytest.approx(60 / 110)
    for seconds, rate, channels in ((1700, 48000, 2), (300, 48000, 8), (300, 192_000, 2)):
        with pytest.raises(TooLarge):
            check_sound_effort(seconds, rate, channels, DEFAULT_VIDEO_LIMITS)


def test_mask_films_are_counted_before_they_are_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TooLarge, match="400 frames"):
        check_decode_effort((3840, 2160), 400, "hevc", DEFAULT_VIDEO_LIMITS)
    monkeypatch.setattr(mask_films, "DEFAULT_VIDEO_LIMITS", VideoLimits(effort_seconds=0.001))
    monkeypatch.setattr(mask_films, "_decode_mask_frames", lambda _: pytest.fail("it was decoded"))
    with pytest.raises(TooLarge, match="To read 20 frames"):
        read_mask_film(film(tmp_path / "a.mp4"), 81)


def test_only_so_many_packets_are_decoded_to_find_a_first_frame(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert max_probe_frames((64, 64), "h264", DEFAULT_VIDEO_LIMITS) == 2000
    assert max_probe_frames((3840, 2160), "hevc", DEFAULT_VIDEO_LIMITS) < 120
    tried = []

    def decode(frame: object) -> bool:
        tried.append(frame)
        return True

    monkeypatch.setattr(counting, "max_probe_frames", lambda *_: 7)
    monkeypatch.setattr(counting, "is_hidden_frame", decode)
    with pytest.raises(InvalidInput, match="Nothing in the file"):
        probe_video(film(tmp_path / "a.mp4", options={"bf": "0"}))
    assert len(tried) <= 7


@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "libx264"), ("a.webm", "libvpx")])
def test_a_4k_clip_costs_less_than_256_mb(tmp_path: Path, name: str, codec: str) -> None:
    speed = {"preset": "ultrafast"} if codec == "libx264" else _FAST_VPX
    path = film(tmp_path / name, codec, size=(3840, 2160), frames=6, draw=_grey, options=speed)
    code = (
        "import sys, resource, av, numpy, PIL.Image\n"
        "from pathlib import Path\n"
        "from rotoscope.media.video.videos import clean_video, filmstrip, poster\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "path = Path(sys.argv[1])\n"
        "clean_video(path, path.with_suffix('.clean.mp4')), poster(path), filmstrip(path)\n"
        "print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], check=True, capture_output=True, text=True)
    assert int(done.stdout) < 256


def test_what_no_provider_takes_is_refused_before_it_is_copied(tmp_path: Path) -> None:
    source, target = film(tmp_path / "a.mp4", tone=True), tmp_path / "clean.mp4"
    with pytest.raises(TooLarge, match="Replicate takes files of up to") as caught:
        prepare_media("video", source, target, UploadLimit("Replicate", 1000))
    assert caught.value.hint
    assert not target.exists()
    assert prepare_media("video", source, target, UploadLimit("Replicate", 10_000_000)).frames == 20
    large = film(tmp_path / "b.webm", "libvpx")  # is encoded: how large it becomes is not known before
    assert prepare_media("video", large, target, UploadLimit("Replicate", 10)).frames == 20


@pytest.mark.parametrize(("frames", "is_taken"), [(452, True), (453, False)])
def test_a_clip_in_which_an_object_is_followed_has_so_many_pixels_at_most(frames: int, is_taken: bool) -> None:
    """Beyond, its masks would take too long to become films, and that would show only once it was paid for."""
    if is_taken:
        check_track_pixels(4096, 2160, frames)
        return
    with pytest.raises(TooLarge, match="453 frames of 4096 x 2160 pixels; at most 452"):
        check_track_pixels(4096, 2160, frames)
