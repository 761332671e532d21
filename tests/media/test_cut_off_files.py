"""Tracks that are longer than the others: only those that are read show whether a file was cut off."""

from pathlib import Path

import av
import pytest
from films import film

from rotoscope.errors import InvalidInput
from rotoscope.media.video.limits import VideoLimits
from rotoscope.media.video.videos import clean_video, probe_video


def _with_another(folder: Path, name: str, seconds: int) -> Path:
    """A film of two seconds with a second track of pictures, which nobody reads, that lasts longer."""
    source, path = film(folder / "plain.mp4", key_every=5), folder / name
    long = film(folder / "long.mp4", frames=seconds, rate=1)
    with av.open(str(source)) as file, av.open(str(long)) as other, av.open(str(path), "w") as into:
        tracks = [into.add_stream_from_template(one.streams.video[0]) for one in (file, other)]
        for one, track in zip((file, other), tracks, strict=True):
            for packet in one.demux(video=0):
                if packet.size:
                    packet.stream = track
                    into.mux(packet)
    return path


def _webm(path: Path) -> Path:
    """The same file under the name of WebM, whose readers are the same."""
    path.write_bytes(path.read_bytes().replace(b"matroska", b"webm\0\0\0\0", 1))
    return path


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
@pytest.mark.parametrize("noted", [True, False])
def test_a_longer_track_that_is_not_read_does_not_make_a_file_cut_off(tmp_path: Path, name: str, noted: bool) -> None:
    path = _with_another(tmp_path, name, 40)
    if name == "a.mkv":
        _webm(path)
    if not noted:  # not every writer notes how long each track lasts
        path.write_bytes(path.read_bytes().replace(b"DURATION", b"DURATIOM"))
    facts = probe_video(path, VideoLimits(seconds=10))
    assert (facts.frames, facts.duration_seconds) == pytest.approx((20, 2.0), abs=0.01)
    assert clean_video(path, tmp_path / "clean.mp4").frames == 20
    with av.open(str(tmp_path / "clean.mp4")) as file:
        assert len(file.streams) == 1


@pytest.mark.parametrize("alone", [True, False])
def test_a_film_that_was_cut_off_is_broken_whatever_else_is_in_the_file(tmp_path: Path, alone: bool) -> None:
    path = film(tmp_path / "a.mkv", key_every=5) if alone else _with_another(tmp_path, "a.mkv", 4)
    data = _webm(path).read_bytes()
    path.write_bytes(data[: len(data) // 3])
    with pytest.raises(InvalidInput) as caught:
        probe_video(path)
    assert caught.value.code == "corrupt"


def test_a_video_whose_sound_ends_early_is_not_cut_off(tmp_path: Path) -> None:
    loud, path = film(tmp_path / "loud.mp4", frames=20, tone=True), tmp_path / "a.mp4"
    with av.open(str(loud)) as file, av.open(str(path), "w") as into:
        tracks = [into.add_stream_from_template(stream) for stream in file.streams]
        for packet in file.demux():
            if packet.size == 0 or packet.pts is None:
                continue
            if packet.stream.type == "video" or float(packet.pts * packet.time_base) < 0.5:
                packet.stream = tracks[packet.stream.index]
                into.mux(packet)
    facts = probe_video(path)
    assert (facts.frames, facts.has_audio) == (20, True)
