"""What a video or a sound is: counted from its packets, and proved by decoding the first of them."""

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

_COMPLETE_SHARE = 0.95  # a file that ends before this part of the duration in its header was cut off
_MAX_REREAD = 2  # times the size of the file may be read: overlapping samples make a small file endless
_REREAD_SLACK = 1 << 20  # bytes that may be read besides
_RATE_TOLERANCE = 0.05  # part by which the frame rate in a header may differ from the counted one and be used
_SOUND_PACKET_LIMIT = 250  # packets of a sound by which something must have been decoded
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
        codec: FFmpeg's name, such as "h264".
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
    """The totals of the packets of one track; times in seconds. "Shown" means played, also of sound.

    Attributes:
        default_duration: the duration of a packet that does not state its own.
        packets: how many are shown.
        hidden_before: how many are not shown and come before a shown one, which may refer to them.
        hidden_after: how many are not shown and come after all shown ones.
        start: when the first shown one begins; None without one.
        end: when the last shown one ends.
        hidden_seconds: how much of the track lies before the start of the video.
        size: of the shown packets, in bytes.
        is_in_decode_order: whether the packets come in the order in which they are decoded.
        last_dts: the decoding time stamp of the last packet.
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
        """From the start of the first shown packet to the end of the last."""
        return self.end - (self.start or 0.0)

    def latest_end(self) -> float:
        """The latest end of the packets, from whichever start the header counts the duration."""
        return max(self.seconds(), self.end) + self.hidden_seconds


def count_video(clip: OpenClip, limits: VideoLimits) -> "tuple[VideoFacts, VideoFrame, dict[int, TrackTotals]]":
    """The facts of a video, its first shown frame, and by the index of each track the totals of its packets.

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
    claimed = float(pictures.average_rate or 0)
    rate = claimed if abs(claimed - counted) <= _RATE_TOLERANCE * counted else counted
    size, codec, sounds = display_size(first, clip.aspect), codec_of(pictures), clip.audio is not None
    return VideoFacts(*size, duration, rate, tally.packets, codec, sounds, clip.content_type), first, tallies


def count_sound(clip: OpenClip, limits: VideoLimits) -> tuple[SoundFacts, TrackTotals]:
    """The facts of a sound, and the totals of its packets.

    Raises:
        InvalidInput: `corrupt`, or `unsupported` where it has no sound that can be read.
        TooLarge: longer than the limits.
    """
    sound = audio_stream_of(clip)
    _, tallies = _read_packets(clip, sound, sound.decode, _SOUND_PACKET_LIMIT, limits)
    tally = tallies[sound.index]
    return SoundFacts(tally.seconds(), codec_of(sound), clip.content_type), tally


def video_stream_of(clip: OpenClip) -> "VideoStream":
    """The video stream of a clip that was opened as a video."""
    assert clip.video is not None  # `open_clip` has checked it
    return clip.video


def audio_stream_of(clip: OpenClip) -> "AudioStream":
    """The audio stream of a clip.

    Raises:
        InvalidInput: there is none that can be read.
    """
    if clip.audio is None:
        message = "The file holds no sound that is read."
        raise InvalidInput(message, code="unsupported", hint="Give an MP3, M4A or WAV sound.")
    return clip.audio


def _read_packets(
    clip: OpenClip, main: "Stream", decode: DecodePacket[Frame], patience: int, limits: VideoLimits
) -> tuple[Frame, dict[int, TrackTotals]]:
    """Read all packets once; decode those of the main track until there is a frame, at most `patience` packets.

    Returns:
        The first frame, and by the index of each track the totals of its packets.
    """
    rate = clip.video.average_rate if clip.video is not None else None
    tallies = {stream.index: TrackTotals(0.0) for stream in clip.streams()}
    tally = tallies[main.index] = TrackTotals(float(1 / rate) if rate else 0.0)
    first: Frame | None = None
    read = 0
    # The empty packets at the end make decoders give what they still hold.
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
    """Raise `InvalidInput` for a file that ends long before the end that it claims, by the tracks that are read."""
    if clip.content_type == "audio/mpeg":
        return  # it states no duration, and what FFmpeg guesses from its first frames may be far off
    claimed = {index: _header_seconds(clip, stream) for index, stream in _streams_by_index(clip).items()}
    cut = [
        tallies[index].latest_end() < _COMPLETE_SHARE * seconds
        for index, seconds in claimed.items()
        if seconds is not None
    ]
    if not cut and clip.container.duration is not None and len(claimed) == len(clip.container.streams):
        cut = [max(tally.latest_end() for tally in tallies.values()) < _COMPLETE_SHARE * clip.container.duration / 1e6]
    if any(cut):
        raise _corrupt_file_error("The file ends before the time that its header announces.")


def _streams_by_index(clip: OpenClip) -> "dict[int, Stream]":
    return {stream.index: stream for stream in clip.streams()}


def _header_seconds(clip: OpenClip, stream: "Stream") -> float | None:
    """The duration of a track in seconds by the header, or in Matroska by a tag; None where neither has one."""
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    clock = _CLOCK_TIME.fullmatch(stream.metadata.get("DURATION", ""))
    if clock is None or clip.container.duration is None:
        return None
    hours, minutes, seconds = clock.groups()
    # A tag that is older than a cut is longer than the file.
    return min(int(hours) * 3600 + int(minutes) * 60 + float(seconds), clip.container.duration / 1e6)


def _is_shown(packet: "Packet[Stream]") -> bool:
    """Whether a packet shows a frame; in VP8, some only serve as reference for others."""
    return codec_of(packet.stream) != "vp8" or bool(memoryview(packet)[0] & 0x10)


def _corrupt_file_error(message: str) -> InvalidInput:
    return InvalidInput(message, code="corrupt", hint="Save or download the file again.")
