"""Common formats that are not accepted are named in the error, by their first bytes."""

from pathlib import Path

import av
import numpy as np
import pytest
from films import film

from rotoscope.errors import InvalidInput
from rotoscope.media.preparing import PreparedKind, prepare_media
from rotoscope.media.sniff import content_type_of, foreign_format
from rotoscope.media.video.videos import probe_sound, probe_video


def _sound(path: Path, codec: str, muxer: str, rate: int = 44100) -> Path:
    with av.open(str(path), "w", format=muxer) as file:
        track = file.add_stream(codec, rate=rate, layout="mono")
        assert isinstance(track, av.AudioStream)
        wave = (np.sin(np.arange(rate) * 0.06) * 9000).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(wave[None], format="s16", layout="mono")
        frame.sample_rate = rate
        resampler = av.AudioResampler(format=track.format.name, layout="mono", rate=rate, frame_size=1024)
        for piece in (*resampler.resample(frame), *resampler.resample(None)):
            file.mux(track.encode(piece))
        file.mux(track.encode(None))
    return path


_FILMS = {
    "MPEG-TS": ("a.ts", "mpeg2video", {}),
    "M2TS": ("a.m2ts", "libx264", {"mpegts_m2ts_mode": "1"}),
    "MPEG-PS": ("a.mpg", "mpeg2video", {}),
    "AVI": ("a.avi", "mpeg4", {}),
    "FLV": ("a.flv", "libx264", {}),
    "Windows Media": ("a.wmv", "wmv2", {}),
    "Matroska": ("a.mkv", "libx264", {}),
    "Ogg": ("a.ogv", "libvpx", {}),
    "MXF": ("a.mxf", "mpeg2video", {}),
    "Y4M": ("a.y4m", "rawvideo", {}),
    "IVF": ("a.ivf", "libvpx", {}),
    "H.264 without a container": ("a.h264", "libx264", {}),
    "HEVC without a container": ("a.hevc", "libx265", {}),
}
_SOUNDS = {
    "AAC": ("a.aac", "aac", "adts"),
    "AIFF": ("a.aiff", "pcm_s16be", "aiff"),
    "Ogg": ("a.ogg", "libopus", "ogg"),
    "FLAC": ("a.flac", "flac", "flac"),
    "AC-3": ("a.ac3", "ac3", "ac3"),
    "MP2": ("a.mp2", "mp2", "mp2"),
    "CAF": ("a.caf", "pcm_s16be", "caf"),
    "AU": ("a.au", "pcm_s16be", "au"),
    "Wave64": ("a.w64", "pcm_s16le", "w64"),
}


@pytest.mark.parametrize("said", _FILMS)
def test_a_film_of_another_format_is_named(tmp_path: Path, said: str) -> None:
    name, codec, container = _FILMS[said]
    options = {"x265-params": "log-level=none"} if codec == "libx265" else {}
    rate = 25 if name == "a.mxf" else 10
    try:
        path = film(tmp_path / name, codec, frames=30, rate=rate, container=container, options=options)
    except (av.error.FFmpegError, ValueError):
        pytest.skip("this build writes none")
    kinds: tuple[PreparedKind, ...] = ("video", "mask")
    for kind in kinds:
        with pytest.raises(InvalidInput) as caught:
            prepare_media(kind, path, tmp_path / "clean.mp4")
        assert caught.value.code == "unsupported"
        assert said in caught.value.message
    assert not (tmp_path / "clean.mp4").exists()


@pytest.mark.parametrize("said", _SOUNDS)
def test_a_sound_of_another_format_is_named(tmp_path: Path, said: str) -> None:
    name, codec, muxer = _SOUNDS[said]
    path = _sound(tmp_path / name, codec, muxer, 48000 if codec in {"libopus", "ac3"} else 44100)
    for look in (probe_sound, probe_video):
        with pytest.raises(InvalidInput) as caught:
            look(path)
        assert caught.value.code == "unsupported"
        assert said in caught.value.message


@pytest.mark.parametrize(
    ("said", "head"),
    [
        ("AMR", b"#!AMR\n" + bytes(20)),
        ("AMR", b"#!AMR-WB\n" + bytes(20)),
        ("RealMedia", b".RMF\0\0\0\x12" + bytes(20)),
        ("DTS", b"\x7f\xfe\x80\x01" + bytes(20)),
        ("WavPack", b"wvpk" + bytes(28)),
        ("MIDI", b"MThd\0\0\0\6" + bytes(20)),
    ],
)
def test_a_rare_format_is_named_by_its_first_bytes(said: str, head: bytes) -> None:
    assert content_type_of(head) is None
    assert foreign_format(head) == said


@pytest.mark.parametrize("brand", [b"3gp4", b"3gp5", b"3g2a", b"isom", b"MSNV", b"dash", b"f4v "])
def test_the_relatives_of_mp4_are_read(tmp_path: Path, brand: bytes) -> None:
    path = film(tmp_path / "a.mp4", frames=5)
    data = bytearray(path.read_bytes())
    data[8:12] = brand
    path.write_bytes(data)
    assert probe_video(path).frames == 5


def test_a_codec_that_is_not_read_is_named(tmp_path: Path) -> None:
    path = film(tmp_path / "a.mov", "mpeg2video", frames=5, rate=25)
    with pytest.raises(InvalidInput, match="mpeg2video") as caught:
        probe_video(path)
    assert caught.value.code == "unsupported"


def test_text_as_a_mask_is_neither_a_picture_nor_a_film(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"just some words, more than a few of them" * 20)
    with pytest.raises(InvalidInput, match="neither a picture nor a film") as caught:
        prepare_media("mask", path, tmp_path / "clean.mp4")
    assert caught.value.code == "not_media"


@pytest.mark.parametrize("head", [b"\x47" + bytes(600), b"G" * 100, b"\xff\xf1\xff\xff\xff\xff\xff\xff" + bytes(9)])
def test_a_file_that_only_begins_like_a_stream_is_not_named_as_one(head: bytes) -> None:
    assert foreign_format(head) is None
