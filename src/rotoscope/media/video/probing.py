"""What a video or a sound is, counted from its packets and proved by decoding the first of them."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from rotoscope.errors import InvalidInput
from rotoscope.media.video.frames import display_size, is_hidden_frame, is_hidden_packet
from rotoscope.media.video.limits import (
    VideoLimits,
    check_duration,
    check_frame_count,
    check_packet_count,
    max_probe_frames,
)
from rotoscope.media.video.opening import OpenClip, codec_of

if TYPE_CHECKING:
    from av.audio.stream import AudioStream
    from av.packet import Packet
    from av.stream import Stream
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

__all__ = [
    "SoundFacts",
    "TrackTotals",
    "VideoFacts",
    "audio_stream_of",
    "count_sound",
    "count_video",
    "video_stream_of",
]

_COMPLETE_SHARE = 0.95  # less than this part of the announced duration means that the file was cut off
_MAX_REREAD = 2  # times the size of the file: overlapping samples would make a small file an endless one
_REREAD_SLACK = 1 << 20  # bytes
_RATE_TOLERANCE = 0.05  # by this part a frame rate in a header may differ from what was counted
_CLOCK_TIME = re.compile(r"(\d{1,4}):(\d\d):(\d\d(?:\.\d{1,9})?)")

Frame = TypeVar("Frame")
DecodePacket = Callable[["Packet[Any]"], Iterable[Frame]]


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
class TrackTotals:
    """What the packets of one track add up to; times in seconds.

    Attributes:
        default_duration: the duration of a packet that does not tell its own.
        packets: how many are shown or heard.
        hidden_before: how many are not shown, and stand before one that is: that one may refer to them.
        hidden_after: how many are not shown and stand behind all that are.
        start: when the first one that is shown begins; None without one.
        end: when the last one ends.
        hidden_seconds: how much of the track lies before the start of the film.
        size: of the packets that are shown, in bytes.
        is_in_decode_order: whether the packets come in the order in which they are decoded.
    """

    default_duration: float
    packets: int = 0
    hidden_before: int = 0
    hidden_after: int = 0
    start: float | None = None
    end: float = 0.0
    hidden_seconds: float = 0.0
    size: int = 0
    is_in_decode_order: bool = True
    last_dts: int | None = None

    @property
    def all_packets(self) -> int:
        """All packets, shown or not."""
        return self.packets + self.hidden_before + self.hidden_after

    def add(self, packet: "Packet[Stream]") -> None:
        """Count one packet."""
        if not packet.size or packet.is_corrupt:
            return
        if packet.dts is not None:
            self.is_in_decode_order = self.is_in_decode_order and (self.last_dts is None or packet.dts > self.last_dts)
            self.last_dts = packet.dts
        place = None if packet.pts is None else float(packet.pts * packet.time_base)
        if place is not None and place < 0:
            self.hidden_seconds = max(self.hidden_seconds, -place)
        if is_hidden_packet(packet):
            self.hidden_after += 1
            return
        self.hidden_before, self.hidden_after = self.hidden_before + self.hidden_after, 0
        self.packets += _is_shown(packet)
        self.size += packet.size
        if place is not None:
            self.start = place if self.start is None else min(self.start, place)
            self.end = max(
                self.end, place + (float((packet.duration or 0) * packet.time_base) or self.default_duration)
            )

    def seconds(self) -> float:
        """From the first to the end of the last, without what is hidden."""
        return self.end - (self.start or 0.0)

    def latest_end(self) -> float:
        """How far the packets of the file reach at most, by whatever start its header counts."""
        return max(self.seconds(), self.end) + self.hidden_seconds


def count_video(clip: OpenClip, limits: VideoLimits) -> "tuple[VideoFacts, VideoFrame, dict[int, TrackTotals]]":
    """The facts of a video, its first shown frame, and by the index of each track what its packets add up to.

    Raises:
        InvalidInput: `corrupt`.
        TooLarge: larger or longer than the limits.
    """
    pictures = video_stream_of(clip)
    context = pictures.codec_context
    patience = max_probe_frames((context.width, context.height), codec_of(pictures), limits)

    def decode_shown(packet: "Packet[Any]") -> "list[VideoFrame]":
        return [frame for frame in pictures.decode(packet) if not is_hidden_frame(frame)]

    first, tallies = _read_packets(clip, pictures, decode_shown, patience, limits)
    tally = tallies[pictures.index]
    duration, counted = tally.seconds(), tally.packets / (tally.seconds() or 1)
    said = float(pictures.average_rate or 0)
    rate = said if abs(said - counted) <= _RATE_TOLERANCE * counted else counted
    size, codec, sounds = display_size(first, clip.aspect), codec_of(pictures), clip.audio is not None
    return VideoFacts(*size, duration, rate, tally.packets, codec, sounds, clip.content_type), first, tallies


def count_sound(clip: OpenClip, limits: VideoLimits) -> tuple[SoundFacts, TrackTotals]:
    """The facts of a sound, and what its packets add up to.

    Raises:
        InvalidInput: `corrupt`, or `unsupported` where it holds no sound that is read.
        TooLarge: longer than the limits.
    """
    sound = audio_stream_of(clip)
    _, tallies = _read_packets(clip, sound, sound.decode, _SOUND_PACKET_LIMIT, limits)
    tally = tallies[sound.index]
    return SoundFacts(tally.seconds(), codec_of(sound), clip.content_type), tally


def video_stream_of(clip: OpenClip) -> "VideoStream":
    """The pictures of a clip that was opened as a video."""
    assert clip.video is not None  # whoever opens a video has found its pictures
    return clip.video


def audio_stream_of(clip: OpenClip) -> "AudioStream":
    """The sound of a clip.

    Raises:
        InvalidInput: there is none that is read.
    """
    if clip.audio is None:
        message = "The file holds no sound that is read."
        raise InvalidInput(message, code="unsupported", hint="Give an MP3, M4A or WAV sound.")
    return clip.audio


_SOUND_PACKET_LIMIT = 250  # packets until something must have been decoded


def _read_packets(
    clip: OpenClip, main: "Stream", decode: DecodePacket[Frame], patience: int, limits: VideoLimits
) -> tuple[Frame, dict[int, TrackTotals]]:
    """Read all packets once; decode those of the main track until something comes out, at most `patience` of them.

    Returns:
        The first frame, and by the index of each track what its packets add up to.
    """
    rate = clip.video.average_rate if clip.video is not None else None
    tallies = {stream.index: TrackTotals(0.0) for stream in clip.streams()}
    tally = tallies[main.index] = TrackTotals(float(1 / rate) if rate else 0.0)
    first: Frame | None = None
    read = 0
    # Those of size 0 at the end ask for what decoders still hold.
    for number, packet in enumerate(clip.container.demux(*clip.streams())):
        tallies[packet.stream.index].add(packet)
        if first is None and packet.stream.index == main.index and tally.all_packets <= patience:
            first = next(iter(decode(packet)), None)
        read += packet.size
        check_packet_count(number, limits)
        check_frame_count(tally.all_packets if main is clip.video else 0, limits)
        check_duration(tally.end - (tally.start or 0.0), limits)
        if read > _MAX_REREAD * clip.size + _REREAD_SLACK:
            raise _corrupt_file_error("The file counts the same bytes many times over.")
    if first is None or not tally.packets:
        raise _corrupt_file_error("Nothing in the file can be decoded.")
    _check_not_cut_off(clip, tallies)
    return first, tallies


def _check_not_cut_off(clip: OpenClip, tallies: dict[int, TrackTotals]) -> None:
    """Refuse a file that ends long before the time that it announces; tracks that are not read prove nothing."""
    if clip.content_type == "audio/mpeg":
        return  # says no duration, and what is guessed from its first frames may be far off
    said = {index: _header_seconds(clip, stream) for index, stream in _streams_by_index(clip).items()}
    cut = [
        tallies[index].latest_end() < _COMPLETE_SHARE * seconds
        for index, seconds in said.items()
        if seconds is not None
    ]
    if not cut and clip.container.duration is not None and len(said) == len(clip.container.streams):
        cut = [max(tally.latest_end() for tally in tallies.values()) < _COMPLETE_SHARE * clip.container.duration / 1e6]
    if any(cut):
        raise _corrupt_file_error("The file ends before the time that its header announces.")


def _streams_by_index(clip: OpenClip) -> "dict[int, Stream]":
    return {stream.index: stream for stream in clip.streams()}


def _header_seconds(clip: OpenClip, stream: "Stream") -> float | None:
    """How long a track is said to be, in seconds: by the header, or in Matroska by the note of whoever wrote it."""
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    clock = _CLOCK_TIME.fullmatch(stream.metadata.get("DURATION", ""))
    if clock is None or clip.container.duration is None:
        return None
    hours, minutes, seconds = clock.groups()
    # A note that outlived a cut is longer than the file.
    return min(int(hours) * 3600 + int(minutes) * 60 + float(seconds), clip.container.duration / 1e6)


def _is_shown(packet: "Packet[Stream]") -> bool:
    """Whether a packet shows a frame of its own; in VP8, some only help others."""
    return codec_of(packet.stream) != "vp8" or bool(memoryview(packet)[0] & 0x10)


def _corrupt_file_error(message: str) -> InvalidInput:
    return InvalidInput(message, code="corrupt", hint="Save or download the file again.")
