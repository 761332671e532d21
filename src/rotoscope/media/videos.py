"""Videos and sounds: what they are, what of them may leave this machine, and pictures of them for people.

Every untrusted video comes through here. It is opened as `media.clips` says, proved by decoding, and leaves as packets
in a new file: without metadata, without further tracks, and without anything that was appended to it.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from rotoscope.errors import InvalidInput
from rotoscope.media.clips import (
    DEFAULT_LIMITS,
    Clip,
    VideoLimits,
    codec_of,
    frames_at,
    judge_count,
    judge_time,
    opened,
    turn_of,
    upright,
)
from rotoscope.media.sniff import content_type_of
from rotoscope.media.tracks import copied, encoded_pictures, encoded_sound, kept_whole, poured, written

if TYPE_CHECKING:
    import numpy as np
    from av.audio.stream import AudioStream
    from av.packet import Packet
    from av.stream import Stream
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream
    from numpy.typing import NDArray
    from PIL import Image

__all__ = [
    "DEFAULT_LIMITS",
    "SoundFacts",
    "VideoFacts",
    "VideoLimits",
    "clean_sound",
    "clean_video",
    "filmstrip",
    "first_frame",
    "grey_frames",
    "poster",
    "probe_sound",
    "probe_video",
]

_MP3_HEADER = 4  # bytes
_PATIENCE = 250  # packets until something must have been decoded
_WHOLE = 0.95  # less than this part of the announced duration means that the file was cut off
_READ_AGAIN = 2  # times the size of the file: overlapping samples would make a small file an endless one
_SLACK = 1 << 20  # bytes
_OFF = 0.05  # by this part a frame rate in a header may differ from what was counted

_MP4_PICTURES = frozenset({"h264", "hevc", "av1", "vp9", "mpeg4"})
_MP4_SOUNDS = frozenset({"aac", "mp3", "opus", "ac3"})
_M4A_SOUNDS = frozenset({"aac", "alac"})

_POSTER_PLACES = (0.0, 0.1, 0.25, 0.5, 0.75)
_BLANK = 6.0  # standard deviation of brightness, of 255, below which a frame shows nothing
_GAP, _PAPER = 4, (255, 255, 255)  # pixels, and the colour between frames

Frame = TypeVar("Frame")
Decode = Callable[["Packet[Any]"], list[Frame]]


@dataclass(frozen=True, slots=True)
class VideoFacts:
    """What a video is, counted from its packets and not only read from its header.

    Attributes:
        width: pixels of the upright picture.
        height: pixels of the upright picture.
        duration_seconds: from the first frame to the end of the last.
        frame_rate: frames a second, on average.
        frames: how many are shown.
        codec: of the pictures, such as "h264".
        has_audio: whether there is sound.
        content_type: of the file, such as "video/mp4".
    """

    width: int
    height: int
    duration_seconds: float
    frame_rate: float
    frames: int
    codec: str
    has_audio: bool
    content_type: str


@dataclass(frozen=True, slots=True)
class SoundFacts:
    """What a sound is: its duration, its codec such as "mp3", and the content type of its file."""

    duration_seconds: float
    codec: str
    content_type: str


def probe_video(path: Path, limits: VideoLimits = DEFAULT_LIMITS) -> VideoFacts:
    """Learn what a video is. Its first frame is decoded, its packets are counted.

    Raises:
        InvalidInput: `not_media`, `unsupported`, or `corrupt` (also when the file was cut off).
        TooLarge: larger or longer than the limits; what the header says is judged before anything is decoded.
    """
    with opened(path, "video", limits) as clip:
        return _video(clip, limits)[0]


def probe_sound(path: Path, limits: VideoLimits = DEFAULT_LIMITS) -> SoundFacts:
    """Learn what a sound is. Some of it is decoded, its packets are counted.

    Raises:
        InvalidInput: `not_media`, `unsupported` (also for a video), or `corrupt`.
        TooLarge: longer than the limits.
    """
    with opened(path, "audio", limits) as clip:
        sound = _sound_of(clip)
        _, tallies = _walked(clip, sound, sound.decode, limits)
        return SoundFacts(tallies[sound.index].seconds(), codec_of(sound), clip.content_type)


def clean_video(source: Path, target: Path, limits: VideoLimits = DEFAULT_LIMITS) -> VideoFacts:
    """Write a video anew as an MP4 that begins with its header, so that only its pictures and its sound leave.

    The first track of pictures and the first of sound are copied without loss where MP4 takes their codecs, and
    encoded as H.264 and AAC otherwise. The picture stays upright. The same input gives the same bytes.

    Args:
        source: a local file.
        target: where to write; nothing is left there when this fails.
        limits: as for `probe_video`.

    Returns:
        What the new file is.

    Raises:
        InvalidInput: as for `probe_video`.
        TooLarge: as for `probe_video`.
        StorageFailed: the target cannot be written.
    """
    with kept_whole(target):
        with opened(source, "video", limits) as clip:
            _, first = _video(clip, limits)
        with opened(source, "video", limits) as clip, written(target, "mp4") as into:
            pictures = _pictures_of(clip)
            fits = codec_of(pictures) in _MP4_PICTURES
            takes = [copied(pictures, into) if fits else encoded_pictures(pictures, first, into)]
            if clip.sound is not None:
                fits = codec_of(clip.sound) in _MP4_SOUNDS
                takes.append(copied(clip.sound, into) if fits else encoded_sound(clip.sound, into))
            poured(clip, takes, into)
        return probe_video(target, limits)


def clean_sound(source: Path, target: Path, limits: VideoLimits = DEFAULT_LIMITS) -> SoundFacts:
    """Write a sound anew, so that only what is heard leaves.

    An MP3 stays an MP3 and a WAV stays a WAV, without loss; all else becomes an M4A, without loss where M4A takes the
    codec. The same input gives the same bytes.

    Args:
        source: a local file.
        target: where to write; nothing is left there when this fails.
        limits: as for `probe_sound`.

    Returns:
        What the new file is; its content type may differ from that of the source.

    Raises:
        InvalidInput: as for `probe_sound`.
        TooLarge: as for `probe_sound`.
        StorageFailed: the target cannot be written.
    """
    with kept_whole(target):
        content_type = probe_sound(source, limits).content_type
        muxer = {"audio/mpeg": "mp3", "audio/wav": "wav"}.get(content_type, "ipod")
        with opened(source, "audio", limits) as clip, written(target, muxer) as into:
            sound = _sound_of(clip)
            if muxer == "ipod" and codec_of(sound) not in _M4A_SOUNDS:
                take = encoded_sound(sound, into)
            else:
                take = copied(sound, into, keep=_is_mp3 if muxer == "mp3" else None)
            poured(clip, [take], into)
        return probe_sound(target, limits)


def first_frame(path: Path) -> "Image.Image":
    """The first frame of a video, upright and in its full size.

    Raises:
        InvalidInput: as for `probe_video`.
        TooLarge: as for `probe_video`.
    """
    with opened(path, "video", DEFAULT_LIMITS) as clip:
        return upright(_video(clip, DEFAULT_LIMITS)[1])


def poster(path: Path) -> "Image.Image":
    """A frame that stands for a video: the first of a few places where there is something to see; else the first.

    Raises:
        InvalidInput: as for `probe_video`.
        TooLarge: as for `probe_video`.
    """
    with opened(path, "video", DEFAULT_LIMITS) as clip:
        facts, first = _video(clip, DEFAULT_LIMITS)
        opening = upright(first)
        if not _is_blank(opening):
            return opening
        shown = (upright(frame) for frame in frames_at(clip, first, _times(clip, facts, _POSTER_PLACES)))
        return next((picture for picture in shown if not _is_blank(picture)), opening)


def filmstrip(path: Path, count: int = 6, height: int = 120) -> "Image.Image":
    """Frames of a video, evenly spaced in time, side by side with a thin gap.

    Args:
        path: a local file.
        count: how many frames; a shorter clip shows some of them twice.
        height: of the strip, in pixels.

    Raises:
        InvalidInput: as for `probe_video`.
        TooLarge: as for `probe_video`.
    """
    from PIL import Image

    with opened(path, "video", DEFAULT_LIMITS) as clip:
        facts, first = _video(clip, DEFAULT_LIMITS)
        times = _times(clip, facts, [(number + 0.5) / count for number in range(count)])
        cells = [upright(frame, height) for frame in frames_at(clip, first, times)]
    strip = Image.new("RGB", (sum(cell.width for cell in cells) + _GAP * (len(cells) - 1), height), _PAPER)
    left = 0
    for cell in cells:
        strip.paste(cell, (left, (height - cell.height) // 2))
        left += cell.width + _GAP
    return strip


def grey_frames(path: Path, most: int) -> "Iterator[NDArray[np.uint8]]":
    """The frames of a video from its start, upright and in shades of grey.

    Args:
        path: a local file.
        most: how many frames are decoded at most.

    Returns:
        Arrays of height x width, 0 is black and 255 white.

    Raises:
        InvalidInput: as for `probe_video`, while the frames are asked for.
        TooLarge: as for `probe_video`.
    """
    import numpy as np

    with opened(path, "video", DEFAULT_LIMITS) as clip:
        for frame in islice(clip.container.decode(_pictures_of(clip)), most):
            yield np.asarray(upright(frame).convert("L"))


@dataclass(slots=True)
class _Tally:
    """What the packets of one stream add up to; times in seconds."""

    step: float  # the duration of a packet that does not tell its own
    packets: int = 0
    start: float | None = None
    end: float = 0.0

    def add(self, packet: "Packet[Stream]") -> None:
        if not packet.size or packet.is_discard or packet.is_corrupt:
            return  # cut away by an edit list, or by the end of the file
        self.packets += _is_shown(packet)
        if packet.pts is not None:
            place = float(packet.pts * packet.time_base)
            self.start = place if self.start is None else min(self.start, place)
            self.end = max(self.end, place + (float((packet.duration or 0) * packet.time_base) or self.step))

    def seconds(self) -> float:
        return self.end - (self.start or 0.0)


def _video(clip: Clip, limits: VideoLimits) -> "tuple[VideoFacts, VideoFrame]":
    """The facts of a video, and its first frame."""
    pictures = _pictures_of(clip)
    first, tallies = _walked(clip, pictures, pictures.decode, limits)
    tally = tallies[pictures.index]
    duration, counted = tally.seconds(), tally.packets / (tally.seconds() or 1)
    said = float(pictures.average_rate or 0)
    rate = said if abs(said - counted) <= _OFF * counted else counted
    turn = turn_of(first)
    width, height = (first.height, first.width) if turn and turn[1] else (first.width, first.height)
    codec, sounds = codec_of(pictures), clip.sound is not None
    return VideoFacts(width, height, duration, rate, tally.packets, codec, sounds, clip.content_type), first


def _walked(clip: Clip, main: "Stream", decode: Decode[Frame], limits: VideoLimits) -> tuple[Frame, dict[int, _Tally]]:
    """Read all packets once; decode those of the main stream until something comes out.

    Returns:
        The first frame, and by stream index what the packets add up to.
    """
    rate = clip.pictures.average_rate if clip.pictures is not None else None
    tallies = {stream.index: _Tally(0.0) for stream in clip.streams()}
    tally = tallies[main.index] = _Tally(float(1 / rate) if rate else 0.0)
    first: Frame | None = None
    read = 0
    for packet in clip.container.demux(*clip.streams()):  # those of size 0 at the end ask for what decoders still hold
        tallies[packet.stream.index].add(packet)
        if first is None and packet.stream.index == main.index and tally.packets <= _PATIENCE:
            first = next(iter(decode(packet)), None)
        read += packet.size
        judge_count(tally.packets if main is clip.pictures else 0, limits)
        judge_time(tally.end - (tally.start or 0.0), limits)
        if read > _READ_AGAIN * clip.size + _SLACK:
            raise _corrupt("The file counts the same bytes many times over.")
    if first is None or not tally.packets:
        raise _corrupt("Nothing in the file can be decoded.")
    _judge_whole(clip, tallies)
    return first, tallies


def _judge_whole(clip: Clip, tallies: dict[int, _Tally]) -> None:
    """Refuse a file that ends long before the time that it announces."""
    if clip.content_type == "audio/mpeg":
        return  # says no duration, and what is guessed from its first frames may be far off
    cut = [
        tally.seconds() < _WHOLE * float(stream.duration * stream.time_base)
        for stream, tally in zip(clip.streams(), tallies.values(), strict=True)
        if stream.duration is not None and stream.time_base is not None
    ]
    if not cut and clip.container.duration is not None:
        cut = [max(tally.end for tally in tallies.values()) < _WHOLE * clip.container.duration / 1e6]
    if any(cut):
        raise _corrupt("The file ends before the time that its header announces.")


def _corrupt(message: str) -> InvalidInput:
    return InvalidInput(message, code="corrupt", hint="Save or download the file again.")


def _is_shown(packet: "Packet[Stream]") -> bool:
    """Whether a packet shows a frame of its own; in VP8, some only help others."""
    return codec_of(packet.stream) != "vp8" or bool(memoryview(packet)[0] & 0x10)


def _is_mp3(packet: "Packet[Stream]") -> bool:
    """Whether a packet is a frame of an MP3; what was put between frames or after them is not."""
    return content_type_of(bytes(packet)[:_MP3_HEADER]) == "audio/mpeg"


def _pictures_of(clip: Clip) -> "VideoStream":
    assert clip.pictures is not None  # whoever opens a video has found its pictures
    return clip.pictures


def _sound_of(clip: Clip) -> "AudioStream":
    if clip.sound is None:
        message = "The file holds no sound that is read."
        raise InvalidInput(message, code="unsupported", hint="Give an MP3, M4A or WAV sound.")
    return clip.sound


def _times(clip: Clip, facts: VideoFacts, places: Sequence[float]) -> list[float]:
    """Places between 0 and 1 as times of the file, in seconds; each in the middle of the frame that is shown then."""
    pictures = _pictures_of(clip)
    start = float((pictures.start_time or 0) * (pictures.time_base or 0))
    early = 0.5 / facts.frame_rate
    return [start + max(place * facts.duration_seconds - early, 0.0) for place in places]


def _is_blank(picture: "Image.Image") -> bool:
    from PIL import ImageStat

    return ImageStat.Stat(picture.convert("L").resize((64, 64))).stddev[0] < _BLANK
