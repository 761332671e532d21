"""Videos and sounds: what they are, their cleaned copies, and pictures of them."""

import socket
import struct
import subprocess
import sys
from collections.abc import Callable
from errno import EINVAL, ENOSPC
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from photos import pixel_at
from PIL import Image

from rotoscope.errors import InvalidInput, StorageFailed, TooLarge
from rotoscope.media.video import opening as clips
from rotoscope.media.video import probing as counting
from rotoscope.media.video.mask_videos import read_grey_frames
from rotoscope.media.video.videos import (
    VideoLimits,
    clean_sound,
    clean_video,
    filmstrip,
    first_frame,
    poster,
    probe_sound,
    probe_video,
)

_SECRET = b"AWS_SECRET_MARKER_0123456789"
_MEDIA = Path(__file__).parents[3] / "shared" / "media"
_TAGS = {name: _SECRET.decode() for name in ("title", "comment", "artist", "location")}
_RED, _GREEN, _BLUE, _BLACK = (220, 20, 20), (20, 200, 20), (20, 20, 220), (0, 0, 0)


def _picture(number: int, width: int, height: int) -> np.ndarray:
    """Red on the left, blue on the right, green along the top, and a white column that moves."""
    pixels = np.empty((height, width, 3), np.uint8)
    pixels[:, : width // 2], pixels[:, width // 2 :] = _RED, _BLUE
    pixels[: height // 4] = _GREEN
    pixels[height // 2 :, 4 * number % width :][:, :4] = 255
    return pixels


def _film(
    path: Path,
    codec: str = "libx264",
    *,
    sound: str | None = None,
    frames: int = 20,
    rate: int = 10,
    size: tuple[int, int] = (160, 96),
    draw: Callable[[int, int, int], np.ndarray] = _picture,
    turn: tuple[int, bool] | None = None,
    key_every: int = 250,
    tags: dict[str, str] | None = None,
    **options: str,
) -> Path:
    with av.open(str(path), "w", container_options=options) as file:
        file.metadata.update(tags or {})
        video = file.add_stream(codec, rate=rate, options={"g": str(key_every)})
        assert isinstance(video, av.VideoStream)
        video.width, video.height = size
        video.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        if turn is not None:
            video.set_display_rotation(turn[0], hflip=turn[1])
        audio = file.add_stream(sound, rate=48000) if sound else None
        for number in range(frames):
            frame = av.VideoFrame.from_ndarray(draw(number, *size), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, rate)
            file.mux(video.encode(frame))
        file.mux(video.encode(None))
        if isinstance(audio, av.AudioStream):
            _hum(file, audio, frames / rate)
    return path


def _hum(file: av.container.OutputContainer, audio: av.AudioStream, seconds: float, rate: int = 48000) -> None:
    resampler = av.AudioResampler(format=audio.format.name, layout="stereo", rate=rate, frame_size=1152)
    for start in range(0, int(seconds * rate), 1000):
        wave = np.sin(np.arange(start, start + 1000) * 0.06).astype(np.float32) * 0.3
        frame = av.AudioFrame.from_ndarray(np.stack([wave, wave]), format="fltp", layout="stereo")
        frame.pts, frame.sample_rate, frame.time_base = start, rate, Fraction(1, rate)
        for piece in resampler.resample(frame):
            file.mux(audio.encode(piece))
    for piece in resampler.resample(None):
        file.mux(audio.encode(piece))
    file.mux(audio.encode(None))


def _tone(
    path: Path, codec: str, *, seconds: float = 2.0, tags: dict[str, str] | None = None, muxer: str | None = None
) -> Path:
    with av.open(str(path), "w", format=muxer) as file:
        file.metadata.update(tags or {})
        audio = file.add_stream(codec, rate=48000, layout="stereo")
        assert isinstance(audio, av.AudioStream)
        _hum(file, audio, seconds)
    return path


def _box(name: bytes, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return struct.pack(">I", 8 + len(body)) + name + body


def _streams(path: Path) -> list[str]:
    with av.open(str(path)) as file:
        return [stream.type for stream in file.streams]


def _texts(path: Path) -> dict[str, str]:
    with av.open(str(path)) as file:
        own = dict(file.metadata)
        for stream in file.streams:
            own |= {f"{stream.type} {name}": value for name, value in stream.metadata.items()}
        return own


def _sees(image: Image.Image, place: tuple[float, float], colour: tuple[int, int, int]) -> bool:
    found = pixel_at(image.convert("RGB"), place)
    return all(abs(one - other) < 60 for one, other in zip(found, colour, strict=True))


def _patched(path: Path, name: bytes, at: int, value: bytes) -> Path:
    """Write over some bytes that stand `at` bytes after a name."""
    data = bytearray(path.read_bytes())
    place = data.rindex(name) + at  # brands at the start have the names of codecs
    data[place : place + len(value)] = value
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("name", "codec", "sound", "known_as", "content_type"),
    [
        ("a.mp4", "libx264", None, "h264", "video/mp4"),
        ("a.mp4", "libx264", "aac", "h264", "video/mp4"),
        ("a.mov", "libx264", "aac", "h264", "video/quicktime"),
        ("a.mov", "mjpeg", "pcm_s16le", "mjpeg", "video/quicktime"),
        ("a.webm", "libvpx", "libopus", "vp8", "video/webm"),
        ("a.webm", "libvpx-vp9", "libopus", "vp9", "video/webm"),
        ("a.webm", "libvpx-vp9", None, "vp9", "video/webm"),
    ],
)
def test_a_video_of_any_format_is_measured_and_becomes_an_mp4(
    tmp_path: Path, name: str, codec: str, sound: str | None, known_as: str, content_type: str
) -> None:
    source = _film(tmp_path / name, codec, sound=sound)
    facts = probe_video(source)
    assert (facts.width, facts.height, facts.frames, facts.codec) == (160, 96, 20, known_as)
    assert (facts.has_audio, facts.content_type) == (sound is not None, content_type)
    assert facts.duration_seconds == pytest.approx(2.0, abs=0.01)
    assert facts.frame_rate == pytest.approx(10, rel=0.01)

    target = tmp_path / "clean.mp4"
    cleaned = clean_video(source, target)
    assert cleaned.facts == probe_video(target)
    assert (cleaned.width, cleaned.height, cleaned.frames, cleaned.has_audio) == (160, 96, 20, sound is not None)
    assert cleaned.content_type == "video/mp4"
    assert cleaned.codec == (known_as if known_as in {"h264", "vp9"} else "h264")
    assert cleaned.duration_seconds == pytest.approx(2.0, abs=0.01)
    assert _sees(first_frame(target), (0.3, 0.4), _RED)
    assert _streams(target) == ["video", "audio"][: 1 + (sound is not None)]
    data = target.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")


def test_copied_packets_are_identical(tmp_path: Path) -> None:
    source, target = _film(tmp_path / "a.mp4", sound="aac"), tmp_path / "clean.mp4"
    clean_video(source, target)

    def packets(path: Path) -> list[tuple[int, int | None, bytes]]:
        with av.open(str(path)) as file:
            return [(packet.stream.index, packet.pts, bytes(packet)) for packet in file.demux() if packet.size]

    assert sorted(packets(source)) == sorted(packets(target))


@pytest.mark.parametrize("codec", ["libx264", "libvpx"])
def test_the_same_input_gives_the_same_bytes(tmp_path: Path, codec: str) -> None:
    source = _film(tmp_path / ("a.mp4" if codec == "libx264" else "a.webm"), codec, sound="libopus")
    clean_video(source, tmp_path / "one.mp4")
    clean_video(source, tmp_path / "two.mp4")
    assert (tmp_path / "one.mp4").read_bytes() == (tmp_path / "two.mp4").read_bytes()


def test_a_recording_without_a_duration_is_counted(tmp_path: Path) -> None:
    source = _film(tmp_path / "a.webm", "libvpx", sound="libopus", live="1")
    with av.open(str(source)) as file:
        assert file.duration is None
    facts = probe_video(source)
    assert (facts.frames, facts.duration_seconds) == pytest.approx((20, 2.0))
    assert filmstrip(source).height == 120


def test_a_fragmented_mp4_is_counted_and_copied_with_one_header(tmp_path: Path) -> None:
    source = _film(tmp_path / "a.mp4", movflags="frag_keyframe+empty_moov", key_every=5)
    assert probe_video(source).frames == 20
    clean_video(source, tmp_path / "clean.mp4")
    assert b"moof" not in (tmp_path / "clean.mp4").read_bytes()


def test_what_an_edit_list_removes_is_not_counted(tmp_path: Path) -> None:
    source, cut = _film(tmp_path / "a.mp4"), tmp_path / "cut.mp4"
    with av.open(str(source)) as file, av.open(str(cut), "w") as into:
        video = file.streams.video[0]
        track = into.add_stream_from_template(video, opaque=True)
        assert video.time_base is not None
        half_second = int(0.5 / video.time_base)
        for packet in file.demux(video):
            if packet.dts is not None and packet.pts is not None:
                packet.dts, packet.pts, packet.stream = packet.dts - half_second, packet.pts - half_second, track
                into.mux(packet)
    facts = probe_video(cut)
    assert (facts.frames, facts.duration_seconds) == pytest.approx((15, 1.5))
    assert clean_video(cut, tmp_path / "clean.mp4").frames == 15


@pytest.mark.parametrize(
    ("turn", "red", "green", "sideways"),
    [
        ((0, False), (0.3, 0.6), (0.5, 0.1), False),
        ((180, False), (0.7, 0.4), (0.5, 0.9), False),
        ((-90, False), (0.4, 0.3), (0.9, 0.5), True),
        ((90, False), (0.6, 0.7), (0.1, 0.5), True),
        ((0, True), (0.7, 0.6), (0.5, 0.1), False),
        ((180, True), (0.3, 0.4), (0.5, 0.9), False),
    ],
)
@pytest.mark.parametrize("codec", ["libx264", "mjpeg"])
def test_a_turned_video_stays_upright(
    tmp_path: Path,
    codec: str,
    turn: tuple[int, bool],
    red: tuple[float, float],
    green: tuple[float, float],
    sideways: bool,
) -> None:
    source = _film(tmp_path / "a.mov", codec, turn=turn, frames=3)
    facts = probe_video(source)
    assert (facts.width, facts.height) == ((96, 160) if sideways else (160, 96))
    cleaned = clean_video(source, tmp_path / "clean.mp4")
    assert (cleaned.width, cleaned.height) == (facts.width, facts.height)
    for path in (source, tmp_path / "clean.mp4"):
        frame = first_frame(path)
        assert frame.size == (facts.width, facts.height)
        assert _sees(frame, red, _RED)
        assert _sees(frame, green, _GREEN)


def test_a_rotation_that_is_no_quarter_turn_is_ignored(tmp_path: Path) -> None:
    source = _film(tmp_path / "a.mp4", turn=(30, False), frames=2)
    assert first_frame(source).size == (160, 96)


def test_an_odd_size_is_made_even_where_frames_are_encoded(tmp_path: Path) -> None:
    source = _film(tmp_path / "a.webm", "libvpx", size=(161, 97), frames=3)
    cleaned = clean_video(source, tmp_path / "clean.mp4")
    assert (cleaned.width, cleaned.height) == (162, 98)


@pytest.mark.parametrize("codec", ["libx264", "mjpeg"])
def test_a_cleaned_video_has_nothing_but_picture_and_sound(tmp_path: Path, codec: str) -> None:
    tags = {**_TAGS, "creation_time": "2026-03-01T12:00:00Z"}
    source = _film(tmp_path / "a.mov", codec, sound="aac", tags=tags, movflags="use_metadata_tags")
    source.write_bytes(source.read_bytes() + _box(b"free", _SECRET) + _SECRET)
    assert _SECRET in source.read_bytes()
    target = tmp_path / "clean.mp4"
    clean_video(source, target)
    assert _SECRET not in target.read_bytes()
    assert b"Lavf" not in target.read_bytes()
    assert not {name for name in _texts(target) if "time" in name or "title" in name or name == "encoder"}


def test_further_tracks_and_attachments_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as file:
        tracks = [file.add_stream("libx264", rate=10) for _ in range(2)]
        for track in tracks:
            track.width, track.height, track.pix_fmt = 160, 96, "yuv420p"
        file.add_attachment("secret.txt", "text/plain", _SECRET)
        file.set_chapters(
            [{"id": 1, "start": 0, "end": 1, "time_base": Fraction(1), "metadata": {"title": _SECRET.decode()}}]
        )
        for number in range(5):
            for track in tracks:
                frame = av.VideoFrame.from_ndarray(_picture(number, 160, 96), format="rgb24")
                frame.pts, frame.time_base = number, Fraction(1, 10)
                file.mux(track.encode(frame))
        for track in tracks:
            file.mux(track.encode(None))
    data = path.read_bytes()
    assert _SECRET in data
    source = tmp_path / "a.webm"
    source.write_bytes(data.replace(b"matroska", b"webm\0\0\0\0", 1))
    clean_video(source, tmp_path / "clean.mp4")
    assert _streams(tmp_path / "clean.mp4") == ["video"]
    assert _SECRET not in (tmp_path / "clean.mp4").read_bytes()


def test_cleaning_never_holds_a_whole_file(tmp_path: Path) -> None:
    source = tmp_path / "a.mp4"
    with av.open(str(source), "w") as file:
        video = file.add_stream("libx264", rate=25, options={"qp": "1", "preset": "ultrafast"})
        video.width, video.height, video.pix_fmt = 640, 480, "yuv420p"
        noise = np.random.default_rng(0).integers(0, 255, (480, 640, 3), dtype=np.uint8)
        frame = av.VideoFrame.from_ndarray(noise, format="rgb24")
        frame.pts = 0
        content = bytes([*video.encode(frame), *video.encode(None)][0])
        for number in range(250):
            packet = av.Packet(content)
            packet.pts = packet.dts = number
            packet.time_base, packet.duration, packet.is_keyframe, packet.stream = Fraction(1, 25), 1, True, video
            file.mux(packet)
    code = (
        "import sys, resource, av\n"
        "from pathlib import Path\n"
        "from rotoscope.media.video.videos import clean_video\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "clean_video(Path(sys.argv[1]), Path(sys.argv[2]))\n"
        "print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)\n"
    )
    command = [sys.executable, "-c", code, str(source), str(tmp_path / "clean.mp4")]
    grown = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert source.stat().st_size > 120_000_000
    assert (tmp_path / "clean.mp4").stat().st_size > 120_000_000
    assert grown < 60


_HOSTILE = {
    "a playlist": b"#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\nhttp://127.0.0.1:%d/a.ts\n",
    "a list of files": b"ffconcat version 1.0\nfile http://127.0.0.1:%d/a.mp4\n",
    "a session description": b"v=0\no=- 0 0 IN IP4 127.0.0.1\nm=video %d RTP/AVP 96\n",
    "a manifest": b'<?xml version="1.0"?><MPD><BaseURL>http://127.0.0.1:%d/</BaseURL></MPD>',
    "text": b"just some text %d",
    "nothing": b"",
}


@pytest.mark.parametrize("what", _HOSTILE)
def test_what_is_no_media_never_reaches_ffmpeg(
    tmp_path: Path, what: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(clips, "import_av", lambda: pytest.fail("FFmpeg was asked"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        body = _HOSTILE[what]
        path = tmp_path / "a.mp4"
        path.write_bytes(body % listener.getsockname()[1] if b"%d" in body else body)
        for look in (probe_video, probe_sound, poster, filmstrip, first_frame):
            with pytest.raises(InvalidInput) as caught:
                look(path)
            assert caught.value.code == "not_media"
        listener.setblocking(False)
        with pytest.raises(BlockingIOError):
            listener.accept()
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("head", [b"", b"\0\0\0\x20ftypisom\0\0\2\0isomiso2", b"\x1a\x45\xdf\xa3\x9f\x42\x82\x84webm"])
def test_a_playlist_behind_the_first_bytes_of_a_video_is_never_followed(tmp_path: Path, head: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        path = tmp_path / "a.mp4"
        path.write_bytes(head + b"\n#EXTM3U\n#EXTINF:5,\nhttp://127.0.0.1:%d/a.ts\n" % listener.getsockname()[1])
        with pytest.raises(InvalidInput):
            probe_video(path)
        listener.setblocking(False)
        with pytest.raises(BlockingIOError):
            listener.accept()


@pytest.mark.parametrize(
    ("head", "said"),
    [
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "picture"),
        (b"RIFF\x24\0\0\0AVI LIST", "AVI"),
        (b"ID3\4\0\0\0\0\0\0", "sound"),
    ],
)
def test_other_media_are_named_in_the_error(tmp_path: Path, head: bytes, said: str) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(head)
    with pytest.raises(InvalidInput) as caught:
        probe_video(path)
    assert (caught.value.code, said in caught.value.message) == ("unsupported", True)


@pytest.mark.parametrize("name", ["a.mp4", "a.webm"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.85])
def test_a_file_that_was_cut_off_is_broken(tmp_path: Path, name: str, share: float) -> None:
    if name == "a.mp4":
        path = _film(tmp_path / name, "libx264", sound="libopus", movflags="faststart")
    else:
        path = _film(tmp_path / name, "libvpx", sound="libopus")
    whole = path.read_bytes()
    start = whole.index(b"mdat") if name == "a.mp4" else 300
    path.write_bytes(whole[: start + int((len(whole) - start) * share)])
    target = tmp_path / "clean.mp4"
    with pytest.raises(InvalidInput) as caught:
        clean_video(path, target)
    assert caught.value.code == "corrupt"
    assert not target.exists()


def test_a_file_without_its_header_is_broken(tmp_path: Path) -> None:
    path = _film(tmp_path / "a.mp4")
    whole = path.read_bytes()
    path.write_bytes(whole[: whole.index(b"moov") - 4])
    with pytest.raises(InvalidInput) as caught:
        probe_video(path)
    assert caught.value.code == "corrupt"
    assert str(tmp_path) not in caught.value.message + caught.value.hint


def test_frames_that_cannot_be_decoded_are_broken(tmp_path: Path) -> None:
    path = _film(tmp_path / "a.mp4", frames=5)
    data = path.read_bytes()
    start = data.index(b"mdat") + 4
    path.write_bytes(data[:start] + bytes(data.index(b"moov") - 4 - start) + data[data.index(b"moov") - 4 :])
    with pytest.raises(InvalidInput) as caught:
        probe_video(path)
    assert caught.value.code == "corrupt"


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        (VideoLimits(side=100), "160 x 96"),
        (VideoLimits(megapixels=0), "0.0 megapixels"),
        (VideoLimits(seconds=1), "2 seconds"),
        (VideoLimits(frames=10), "20 frames"),
        (VideoLimits(streams=1), "2 tracks"),
    ],
)
@pytest.mark.parametrize("name", ["a.mp4", "a.webm"])
def test_a_video_above_a_limit_is_refused_with_its_number_and_the_limit(
    tmp_path: Path, limits: VideoLimits, said: str, name: str
) -> None:
    path = _film(tmp_path / name, "libx264" if name == "a.mp4" else "libvpx", sound="libopus")
    with pytest.raises(TooLarge) as caught:
        probe_video(path, limits)
    assert caught.value.hint
    assert said in caught.value.message.replace("11 frames", "20 frames")  # counting stops at the limit


def test_a_header_that_claims_an_absurd_size_is_refused(tmp_path: Path) -> None:
    huge = struct.pack(">HH", 30000, 30000)
    for name, at, value in ((b"avc1", 28, huge), (b"tkhd", 80, struct.pack(">II", 30000 << 16, 30000 << 16))):
        path = _patched(_film(tmp_path / "a.mp4"), name, at, value)
        with pytest.raises(TooLarge, match="30000 x 30000"):
            probe_video(path)


def test_a_decoder_refuses_frames_larger_than_the_header_claims(tmp_path: Path) -> None:
    path = _film(tmp_path / "a.mp4", size=(3000, 2000), frames=2)
    _patched(path, b"avc1", 28, struct.pack(">HH", 160, 96))
    _patched(path, b"tkhd", 80, struct.pack(">II", 160 << 16, 96 << 16))
    with pytest.raises((TooLarge, InvalidInput)) as caught:
        probe_video(path, VideoLimits(megapixels=1))
    assert caught.value.code in {"too_large", "corrupt"}


def test_small_tables_that_expand_without_end_are_refused_before_they_are_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = _patched(_film(tmp_path / "a.mp4"), b"stsz", 8, struct.pack(">II", 1, 50_000_000))
    pieces = _film(tmp_path / "b.mp4", movflags="frag_keyframe+empty_moov")
    _patched(pieces, b"trun", 4, struct.pack(">II", 1, 50_000_000))
    monkeypatch.setattr(clips, "import_av", lambda: pytest.fail("FFmpeg was asked"))
    for path in (samples, pieces):
        with pytest.raises(TooLarge, match="announces 500000"):
            probe_video(path)


def test_overlapping_samples_do_not_make_a_small_file_endless(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counting, "_MAX_REREAD", 0)
    monkeypatch.setattr(counting, "_REREAD_SLACK", 1000)
    with pytest.raises(InvalidInput) as caught:
        probe_video(_film(tmp_path / "a.mp4", "mjpeg"))
    assert caught.value.code == "corrupt"


def test_a_compressed_header_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(_box(b"ftyp", b"isom\0\0\2\0") + _box(b"moov", _box(b"cmov", bytes(20))))
    with pytest.raises(InvalidInput) as caught:
        probe_video(path)
    assert caught.value.code == "corrupt"


def test_a_codec_that_is_not_read_is_unsupported(tmp_path: Path) -> None:
    path = tmp_path / "a.mov"
    with av.open(str(path), "w") as file:
        video = file.add_stream("qtrle", rate=10)
        video.width, video.height, video.pix_fmt = 64, 64, "rgb24"
        for number in range(3):
            frame = av.VideoFrame.from_ndarray(_picture(number, 64, 64), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 10)
            file.mux(video.encode(frame))
        file.mux(video.encode(None))
    with pytest.raises(InvalidInput) as caught:
        probe_video(path)
    assert caught.value.code == "unsupported"


def test_the_codec_tag_hvc1_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.mov"
    with av.open(str(path), "w") as file:
        video = file.add_stream("libx265", rate=10, options={"x265-params": "log-level=none", "preset": "ultrafast"})
        video.width, video.height, video.pix_fmt, video.codec_context.codec_tag = 160, 96, "yuv420p", "hvc1"
        for number in range(3):
            frame = av.VideoFrame.from_ndarray(_picture(number, 160, 96), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 10)
            file.mux(video.encode(frame))
        file.mux(video.encode(None))
    assert clean_video(path, tmp_path / "clean.mp4").codec == "hevc"
    assert b"hvc1" in (tmp_path / "clean.mp4").read_bytes()


def test_a_full_disk_is_a_storage_failure_and_not_a_broken_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = _film(tmp_path / "a.mp4")
    with pytest.raises(StorageFailed):
        clean_video(source, tmp_path / "no" / "such" / "folder.mp4")
    with pytest.raises(StorageFailed), clips.map_av_errors():
        raise av.error.OSError(ENOSPC, "No space left on device")


def test_a_header_that_points_before_the_start_of_the_file_is_broken() -> None:
    with pytest.raises(InvalidInput) as caught, clips.map_av_errors():
        raise OSError(EINVAL, "Invalid argument")
    assert caught.value.code == "corrupt"


def test_a_codec_tag_that_is_not_letters_is_accepted(tmp_path: Path) -> None:
    source = _film(tmp_path / "a.mp4", sound="aac")
    _patched(source, b"mp4a", 3, b"\xa1")
    try:
        assert clean_video(source, tmp_path / "clean.mp4").frames == 20
    except InvalidInput as mistake:
        assert mistake.code in {"corrupt", "unsupported"}  # noqa: PT017 - either outcome is right


def test_broken_frames_in_the_middle_are_skipped_in_posters_and_filmstrips(tmp_path: Path) -> None:
    path = _film(tmp_path / "a.mp4", "mjpeg", frames=12)
    with av.open(str(path)) as file:
        places = [packet.pos for packet in file.demux(video=0) if packet.size and packet.pos is not None]
    data = bytearray(path.read_bytes())
    data[places[5] : places[6]] = bytes(places[6] - places[5])
    path.write_bytes(data)
    assert filmstrip(path, count=12).size == (12 * 200 + 11 * 4, 120)


def test_a_poster_shows_something_where_the_beginning_is_black(tmp_path: Path) -> None:
    def late(number: int, width: int, height: int) -> np.ndarray:
        return _picture(number, width, height) if number >= 8 else np.full((height, width, 3), 8, np.uint8)

    path = _film(tmp_path / "a.mp4", draw=late, frames=40)
    assert _sees(first_frame(path), (0.3, 0.6), _BLACK)
    assert _sees(poster(path), (0.3, 0.4), _RED)


def test_a_film_that_is_blank_throughout_has_its_first_frame_as_a_poster(tmp_path: Path) -> None:
    path = _film(tmp_path / "a.mp4", draw=lambda _n, width, height: np.full((height, width, 3), 240, np.uint8))
    assert poster(path).size == (160, 96)


@pytest.mark.parametrize("key_every", [250, 7])
@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "libx264"), ("a.webm", "libvpx-vp9")])
def test_a_filmstrip_is_evenly_spaced(tmp_path: Path, name: str, codec: str, key_every: int) -> None:
    def brighter(number: int, width: int, height: int) -> np.ndarray:
        return np.full((height, width, 3), 20 + 3 * number, np.uint8)

    path = _film(tmp_path / name, codec, draw=brighter, frames=60, key_every=key_every)
    strip = filmstrip(path, count=5, height=48)
    assert strip.size == (5 * 80 + 4 * 4, 48)
    middles = [strip.convert("L").getpixel((84 * number + 40, 24)) for number in range(5)]
    assert middles == pytest.approx([20 + 3 * (6 + 12 * number) for number in range(5)], abs=6)
    assert strip.getpixel((81, 10)) == (255, 255, 255)


def test_a_filmstrip_of_one_frame_shows_it_again(tmp_path: Path) -> None:
    strip = filmstrip(_film(tmp_path / "a.mp4", frames=1), count=3)
    assert strip.size == (3 * 200 + 2 * 4, 120)
    assert probe_video(tmp_path / "a.mp4").frames == 1


def test_a_filmstrip_of_a_very_wide_video_stays_small(tmp_path: Path) -> None:
    strip = filmstrip(_film(tmp_path / "a.mp4", size=(1600, 16), frames=3), count=2)
    assert strip.size == (2 * 480 + 4, 120)


def test_grey_frames_are_read_one_by_one_up_to_a_number(tmp_path: Path) -> None:
    path = _film(tmp_path / "a.mp4", turn=(-90, False))
    frames = list(read_grey_frames(path, 7))
    assert [frame.shape for frame in frames] == [(160, 96)] * 7
    assert frames[0].dtype == np.uint8
    assert len(list(read_grey_frames(path, 400))) == 20


_SOUNDS = [
    ("a.mp3", "libmp3lame", None, "mp3", "audio/mpeg"),
    ("a.m4a", "aac", "ipod", "aac", "audio/mp4"),
    ("a.wav", "pcm_s16le", None, "pcm_s16le", "audio/wav"),
    ("b.m4a", "aac", "mp4", "aac", "audio/mp4"),
    ("a.webm", "libopus", None, "aac", "audio/mp4"),
]


@pytest.mark.parametrize(("name", "codec", "muxer", "cleaned_codec", "content_type"), _SOUNDS)
def test_a_cleaned_sound_has_only_what_is_played(
    tmp_path: Path, name: str, codec: str, muxer: str | None, cleaned_codec: str, content_type: str
) -> None:
    source, target = _tone(tmp_path / name, codec, tags=_TAGS, muxer=muxer), tmp_path / "clean"
    source.write_bytes(source.read_bytes() + _SECRET * 40)
    assert probe_sound(source).duration_seconds == pytest.approx(2.0, abs=0.1)
    facts = clean_sound(source, target)
    assert facts.facts == probe_sound(target)
    assert (facts.codec, facts.content_type) == (cleaned_codec, content_type)
    assert facts.duration_seconds == pytest.approx(2.0, abs=0.1)
    assert _SECRET not in target.read_bytes()
    assert b"Lavf6" not in target.read_bytes()
    again = tmp_path / "again"
    clean_sound(source, again)
    assert again.read_bytes() == target.read_bytes()


def test_bytes_between_the_frames_of_an_mp3_are_left_out(tmp_path: Path) -> None:
    source, target = _tone(tmp_path / "a.mp3", "libmp3lame"), tmp_path / "clean.mp3"
    with av.open(str(source)) as file:
        places = [packet.pos for packet in file.demux(audio=0) if packet.size]
    data = source.read_bytes()
    middle = places[len(places) // 2]
    source.write_bytes(data[:middle] + _SECRET * 3 + data[middle:])
    clean_sound(source, target)
    assert _SECRET not in target.read_bytes()


def test_a_sound_is_no_video_and_a_video_is_no_sound(tmp_path: Path) -> None:
    for look, path in (
        (probe_video, _tone(tmp_path / "a.m4a", "aac", muxer="ipod")),
        (probe_video, _tone(tmp_path / "b.mp4", "aac")),
        (probe_sound, _film(tmp_path / "c.mp4", sound="aac")),
    ):
        with pytest.raises(InvalidInput) as caught:
            look(path)
        assert caught.value.code == "unsupported"


def test_a_file_without_readable_sound_is_unsupported(tmp_path: Path) -> None:
    path = _patched(_tone(tmp_path / "a.wav", "pcm_s16le"), b"fmt ", 8, struct.pack("<H", 0x0031))
    with pytest.raises(InvalidInput) as caught:
        probe_sound(path)
    assert caught.value.code == "unsupported"


def test_a_sound_that_is_too_long_is_refused(tmp_path: Path) -> None:
    for name, codec in (("a.mp3", "libmp3lame"), ("a.wav", "pcm_s16le")):
        with pytest.raises(TooLarge):
            probe_sound(_tone(tmp_path / name, codec), VideoLimits(seconds=1))


def test_ffmpeg_logs_nothing_and_importing_loads_nothing_heavy(tmp_path: Path) -> None:
    path = _film(tmp_path / "a.mp4", movflags="faststart")
    path.write_bytes(path.read_bytes()[:-400])
    code = (
        "import sys, logging; logging.basicConfig(level=0)\n"
        "from rotoscope.media.video.videos import probe_video\n"
        "from rotoscope.errors import UserMistake\n"
        "assert not {'av', 'PIL', 'numpy'} & set(sys.modules)\n"
        "from pathlib import Path\n"
        "try: probe_video(Path(sys.argv[1]))\n"
        "except UserMistake: pass\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], check=True, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("", "")


@pytest.mark.media
@pytest.mark.parametrize(
    ("name", "frames", "seconds", "rate", "has_audio"),
    [("boxingcat.mp4", 81, 5.0625, 16.0, False), ("coffee.mp4", 287, 9.5762, 29.97, True)],
)
def test_real_videos_are_measured_cleaned_and_shown(
    tmp_path: Path, name: str, frames: int, seconds: float, rate: float, has_audio: bool
) -> None:
    path = _MEDIA / name
    if not path.is_file():
        pytest.skip(f"{name} is not among the shared media")
    facts = probe_video(path)
    assert (facts.width, facts.height, facts.frames, facts.has_audio) == (1280, 720, frames, has_audio)
    assert facts.duration_seconds == pytest.approx(seconds, abs=0.001)
    assert facts.frame_rate == pytest.approx(rate, abs=0.01)
    assert clean_video(path, tmp_path / "clean.mp4").facts == facts
    assert poster(path).size == (1280, 720)
    assert filmstrip(path).size == (6 * 213 + 5 * 4, 120)
