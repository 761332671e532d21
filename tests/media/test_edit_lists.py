"""Edit lists: a cleaned copy has what a player shows and plays, and nothing that a person cut away."""

from pathlib import Path

import av
import numpy as np
import pytest
from films import film, number_of, pictures, pitch, sound, trim

from rotoscope.media.video.videos import clean_sound, clean_video, first_frame, poster, probe_sound, probe_video

_CUT = "a piece of a longer one"


def _numbers(path: Path, *, hidden: bool = False) -> list[int]:
    return [number_of(frame) for frame in pictures(path, hidden=hidden)]


@pytest.mark.parametrize(("codec", "name"), [("libx264", "a.mp4"), ("libx264", "a.mov"), ("mpeg4", "a.mp4")])
@pytest.mark.parametrize(("start", "seconds"), [(1.3, 3.0), (0.1, 4.0), (4.9, 2.0)])
def test_of_a_trimmed_video_only_the_shown_part_is_copied(
    tmp_path: Path, codec: str, name: str, start: float, seconds: float
) -> None:
    source = film(tmp_path / name, codec, frames=100)
    if name == "a.mp4" and codec == "mpeg4":
        pytest.skip("this writer gives it no edit list") if b"elst" not in source.read_bytes() else None
    trim(source, start, seconds)
    target = tmp_path / "clean.mp4"
    cleaned = clean_video(source, target)
    wanted = list(range(round(start * 10), round((start + seconds) * 10)))
    assert _numbers(source) == wanted
    assert _numbers(target, hidden=True) == wanted
    assert (cleaned.frames, cleaned.duration_seconds) == pytest.approx((len(wanted), seconds), abs=0.01)
    assert any(_CUT in note for note in cleaned.notes)
    assert probe_video(source).frames == len(wanted)
    for picture in (first_frame(source), poster(source), first_frame(target)):
        assert number_of(np.asarray(picture)) == wanted[0]


def test_a_video_trimmed_at_its_end_only_is_copied_without_encoding(tmp_path: Path) -> None:
    source, target = film(tmp_path / "a.mp4", frames=40, options={"bf": "0"}), tmp_path / "clean.mp4"
    if b"elst" not in source.read_bytes():
        pytest.skip("this writer gives it no edit list")
    trim(source, 0, 2.0)
    cleaned = clean_video(source, target)
    assert _numbers(target, hidden=True) == list(range(20))
    assert cleaned.notes == ()
    with av.open(str(source)) as before, av.open(str(target)) as after:
        kept = [bytes(packet) for packet in before.demux(video=0) if packet.size and not packet.is_discard]
        assert kept == [bytes(packet) for packet in after.demux(video=0) if packet.size]


def test_the_sound_of_a_trimmed_clip_is_cut_with_it(tmp_path: Path) -> None:
    source, target = film(tmp_path / "a.mp4", frames=100, tone=True), tmp_path / "clean.mp4"
    trim(source, 3.0, 2.0)
    clean_video(source, target)
    everything = sound(target, hidden=True)
    assert everything.size / 48000 == pytest.approx(2.0, abs=0.05)
    assert pitch(everything[6000:40000]) == pytest.approx(2000, abs=20)
    spectrum = np.abs(np.fft.rfft(everything))
    cut_away = [round(hertz * everything.size / 48000) for hertz in (1500, 3000)]
    assert all(spectrum[place - 5 : place + 5].max() < 0.02 * spectrum.max() for place in cut_away)


def test_a_trimmed_sound_is_cut_with_a_note(tmp_path: Path) -> None:
    whole = film(tmp_path / "a.mp4", frames=80, tone=True)
    source, target = tmp_path / "b.m4a", tmp_path / "clean.m4a"
    with av.open(str(whole)) as file, av.open(str(source), "w", format="ipod") as into:
        track = into.add_stream_from_template(file.streams.audio[0])
        for packet in file.demux(audio=0):
            if packet.size:
                packet.stream = track
                into.mux(packet)
    assert clean_sound(source, target).notes == ()
    trim(source, 2.0, 1.5)
    assert probe_sound(source).duration_seconds == pytest.approx(1.5, abs=0.05)
    cleaned = clean_sound(source, target)
    assert any("cut away" in note for note in cleaned.notes)
    everything = sound(target, hidden=True)
    assert everything.size / 48000 == pytest.approx(1.5, abs=0.05)
    assert pitch(everything[6000:40000]) == pytest.approx(1500, abs=20)


def test_a_clip_that_is_not_trimmed_is_copied_with_its_sound(tmp_path: Path) -> None:
    source, target = film(tmp_path / "a.mp4", frames=30, tone=True), tmp_path / "clean.mp4"
    assert clean_video(source, target).notes == ()

    def packets(path: Path) -> list[bytes]:
        with av.open(str(path)) as file:
            return sorted(bytes(packet) for packet in file.demux() if packet.size)

    assert packets(source) == packets(target)


def test_frames_before_the_start_of_a_fragmented_video_are_left_out(tmp_path: Path) -> None:
    fragments = {"movflags": "frag_keyframe+empty_moov+delay_moov"}
    source = film(tmp_path / "a.mp4", frames=60, container=fragments)
    trim(source, 1.2, 0)
    target = tmp_path / "clean.mp4"
    assert probe_video(source).frames == 48
    assert number_of(np.asarray(first_frame(source))) == 12
    assert clean_video(source, target).frames == 48
    assert _numbers(target, hidden=True) == list(range(12, 60))


def test_a_trimmed_clip_stays_upright(tmp_path: Path) -> None:
    source = trim(film(tmp_path / "a.mp4", frames=40, turn=-90), 0.7, 2.0)
    cleaned = clean_video(source, tmp_path / "clean.mp4")
    assert (cleaned.width, cleaned.height, cleaned.frames) == (96, 160, 20)
