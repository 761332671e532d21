"""What a video or a sound is, counted from its packets and proved by decoding the first of them."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from rotoscope.errors import InvalidInput
from rotoscope.media.limits import VideoLimits, judge_count, judge_pieces, judge_time
from rotoscope.media.video.effort import frames_within
from rotoscope.media.video.frames import is_hidden, is_hidden_frame, shown_size
from rotoscope.media.video.opening import Clip, codec_of

if TYPE_CHECKING:
    from av.audio.stream import AudioStream
    from av.packet import Packet
    from av.stream import Stream
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

__all__ = ["SoundFacts", "Tally", "VideoFacts", "count_sound", "count_video", "pictures_of", "sound_of"]

_WHOLE = 0.95  # less than this part of the announced duration means that the file was cut off
_READ_AGAIN = 2  # times the size of the file: overlapping samples would make a small file an endless one
_SLACK = 1 << 20  # bytes
_OFF = 0.05  # by this part a frame rate in a header may differ from what was counted
_CLOCK = re.compile(r"(\d{1,4}):(\d\d):(\d\d(?:\.\d{1,9})?)")

Frame = TypeVar("Frame")
Decode = Callable[["Packet[Any]"], Iterable[Frame]]


@dataclass(frozen=True, slots=True)
class VideoFacts:
    """What a video is, counted from its packets and not only read from its header.

    Attributes:
        width: pixels of the upright picture, in square pixels, as a player shows it.
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


@dataclass(slots=True)
class Tally:
    """What the packets of one track add up to; times in seconds.

    Attributes:
        step: the duration of a packet that does not tell its own.
        packets: how many are shown or heard.
        hidden_before: how many are not shown, and stand before one that is: that one may refer to them.
        hidden_after: how many are not shown and stand behind all that are.
        start: when the first one that is shown begins; None without one.
        end: when the last one ends.
        hidden_seconds: how much of the track lies before the start of the film.
        size: of the packets that are shown, in bytes.
        rises: whether the packets come in the order in which they are decoded.
    """

    step: float
    packets: int = 0
    hidden_before: int = 0
    hidden_after: int = 0
    start: float | None = None
    end: float = 0.0
    hidden_seconds: float = 0.0
    size: int = 0
    rises: bool = True
    last: int | None = None

    @property
    def pieces(self) -> int:
        """All packets, shown or not."""
        return self.packets + self.hidden_before + self.hidden_after

    def add(self, packet: "Packet[Stream]") -> None:
        """Count one packet."""
        if not packet.size or packet.is_corrupt:
            return
        if packet.dts is not None:
            self.rises = self.rises and (self.last is None or packet.dts > self.last)
            self.last = packet.dts
        place = None if packet.pts is None else float(packet.pts * packet.time_base)
        if place is not None and place < 0:
            self.hidden_seconds = max(self.hidden_seconds, -place)
        if is_hidden(packet):
            self.hidden_after += 1
            return
        self.hidden_before, self.hidden_after = self.hidden_before + self.hidden_after, 0
        self.packets += _is_shown(packet)
        self.size += packet.size
        if place is not None:
            self.start = place if self.start is None else min(self.start, place)
            self.end = max(self.end, place + (float((packet.duration or 0) * packet.time_base) or self.step))

    def seconds(self) -> float:
        """From the first to the end of the last, without what is hidden."""
        return self.end - (self.start or 0.0)

    def reach(self) -> float:
        """How far the packets of the file reach at most, by whatever start its header counts."""
        return max(self.seconds(), self.end) + self.hidden_seconds


def count_video(clip: Clip, limits: VideoLimits) -> "tuple[VideoFacts, VideoFrame, dict[int, Tally]]":
    """The facts of a video, its first shown frame, and by the index of each track what its packets add up to.

    Raises:
        InvalidInput: `corrupt`.
        TooLarge: larger or longer than the limits.
    """
    pictures = pictures_of(clip)
    context = pictures.codec_context
    patience = frames_within((context.width, context.height), codec_of(pictures), limits)

    def decode(packet: "Packet[Any]") -> "list[VideoFrame]":
        return [frame for frame in pictures.decode(packet) if not is_hidden_frame(frame)]

    first, tallies = _walked(clip, pictures, decode, patience, limits)
    tally = tallies[pictures.index]
    duration, counted = tally.seconds(), tally.packets / (tally.seconds() or 1)
    said = float(pictures.average_rate or 0)
    rate = said if abs(said - counted) <= _OFF * counted else counted
    size, codec, sounds = shown_size(first, clip.aspect), codec_of(pictures), clip.sound is not None
    return VideoFacts(*size, duration, rate, tally.packets, codec, sounds, clip.content_type), first, tallies


def count_sound(clip: Clip, limits: VideoLimits) -> tuple[SoundFacts, Tally]:
    """The facts of a sound, and what its packets add up to.

    Raises:
        InvalidInput: `corrupt`, or `unsupported` where it holds no sound that is read.
        TooLarge: longer than the limits.
    """
    sound = sound_of(clip)
    _, tallies = _walked(clip, sound, sound.decode, _SOUND_PATIENCE, limits)
    tally = tallies[sound.index]
    return SoundFacts(tally.seconds(), codec_of(sound), clip.content_type), tally


def pictures_of(clip: Clip) -> "VideoStream":
    """The pictures of a clip that was opened as a video."""
    assert clip.pictures is not None  # whoever opens a video has found its pictures
    return clip.pictures


def sound_of(clip: Clip) -> "AudioStream":
    """The sound of a clip.

    Raises:
        InvalidInput: there is none that is read.
    """
    if clip.sound is None:
        message = "The file holds no sound that is read."
        raise InvalidInput(message, code="unsupported", hint="Give an MP3, M4A or WAV sound.")
    return clip.sound


_SOUND_PATIENCE = 250  # packets until something must have been decoded


def _walked(
    clip: Clip, main: "Stream", decode: Decode[Frame], patience: int, limits: VideoLimits
) -> tuple[Frame, dict[int, Tally]]:
    """Read all packets once; decode those of the main track until something comes out, at most `patience` of them.

    Returns:
        The first frame, and by the index of each track what its packets add up to.
    """
    rate = clip.pictures.average_rate if clip.pictures is not None else None
    tallies = {stream.index: Tally(0.0) for stream in clip.streams()}
    tally = tallies[main.index] = Tally(float(1 / rate) if rate else 0.0)
    first: Frame | None = None
    read = 0
    # Those of size 0 at the end ask for what decoders still hold.
    for number, packet in enumerate(clip.container.demux(*clip.streams())):
        tallies[packet.stream.index].add(packet)
        if first is None and packet.stream.index == main.index and tally.pieces <= patience:
            first = next(iter(decode(packet)), None)
        read += packet.size
        judge_pieces(number, limits)
        judge_count(tally.pieces if main is clip.pictures else 0, limits)
        judge_time(tally.end - (tally.start or 0.0), limits)
        if read > _READ_AGAIN * clip.size + _SLACK:
            raise _corrupt("The file counts the same bytes many times over.")
    if first is None or not tally.packets:
        raise _corrupt("Nothing in the file can be decoded.")
    _judge_whole(clip, tallies)
    return first, tallies


def _judge_whole(clip: Clip, tallies: dict[int, Tally]) -> None:
    """Refuse a file that ends long before the time that it announces; tracks that are not read prove nothing."""
    if clip.content_type == "audio/mpeg":
        return  # says no duration, and what is guessed from its first frames may be far off
    said = {index: _announced(clip, stream) for index, stream in _by_index(clip).items()}
    cut = [tallies[index].reach() < _WHOLE * seconds for index, seconds in said.items() if seconds is not None]
    if not cut and clip.container.duration is not None and len(said) == len(clip.container.streams):
        cut = [max(tally.reach() for tally in tallies.values()) < _WHOLE * clip.container.duration / 1e6]
    if any(cut):
        raise _corrupt("The file ends before the time that its header announces.")


def _by_index(clip: Clip) -> "dict[int, Stream]":
    return {stream.index: stream for stream in clip.streams()}


def _announced(clip: Clip, stream: "Stream") -> float | None:
    """How long a track is said to be, in seconds: by the header, or in Matroska by the note of whoever wrote it."""
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    clock = _CLOCK.fullmatch(stream.metadata.get("DURATION", ""))
    if clock is None or clip.container.duration is None:
        return None
    hours, minutes, seconds = clock.groups()
    # A note that outlived a cut is longer than the file.
    return min(int(hours) * 3600 + int(minutes) * 60 + float(seconds), clip.container.duration / 1e6)


def _is_shown(packet: "Packet[Stream]") -> bool:
    """Whether a packet shows a frame of its own; in VP8, some only help others."""
    return codec_of(packet.stream) != "vp8" or bool(memoryview(packet)[0] & 0x10)


def _corrupt(message: str) -> InvalidInput:
    return InvalidInput(message, code="corrupt", hint="Save or download the file again.")
