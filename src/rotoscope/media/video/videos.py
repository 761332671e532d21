"""Videos and sounds: what they are, and the cleaned copy that may be uploaded.

Every untrusted video is read here. It is opened by `media.video.opening`, proved by decoding, and its packets are
written to a new file: without metadata, further tracks, anything that was appended to the file, and anything that an
edit list hides. The copy is what a player shows:

- Pixels that are not square are made square, which takes encoding: some models obey the aspect ratio of pixels and some
  do not, so only with square pixels do the model, the mask and the pictures that people see agree.
- A piece that was cut out of a longer video may need hidden frames to be decoded; then it is encoded again. Where
  hidden frames are at the end only, they are left out and the rest is copied.
"""

from dataclasses import asdict, dataclass, fields, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from rotoscope.media.sniff import content_type_of
from rotoscope.media.video.frames import SQUARE, display_matrix_of, is_hidden_packet, square_pixel_size
from rotoscope.media.video.limits import (
    DEFAULT_VIDEO_LIMITS,
    EncoderSettings,
    VideoLimits,
    check_sound_effort,
    check_upload_size,
    choose_encoder_settings,
)
from rotoscope.media.video.opening import OpenClip, codec_of, open_clip
from rotoscope.media.video.probing import (
    SoundFacts,
    TrackTotals,
    VideoFacts,
    audio_stream_of,
    count_sound,
    count_video,
    video_stream_of,
)
from rotoscope.media.video.remux import (
    PacketHandler,
    copy_track,
    encode_audio_track,
    encode_video_track,
    mux_packets,
    open_output,
    remove_on_failure,
)
from rotoscope.media.video.stills import filmstrip, first_frame, poster
from rotoscope.workers.limits import request_cpu_seconds

if TYPE_CHECKING:
    from av.container import OutputContainer
    from av.packet import Packet
    from av.stream import Stream
    from av.video.frame import VideoFrame

__all__ = [
    "DEFAULT_VIDEO_LIMITS",
    "CleanSound",
    "CleanVideo",
    "SoundFacts",
    "VideoFacts",
    "VideoLimits",
    "clean_sound",
    "clean_video",
    "filmstrip",
    "first_frame",
    "poster",
    "probe_sound",
    "probe_video",
]

_MP3_HEADER = 4  # bytes of the header of a frame
_MP4_PICTURES = frozenset({"h264", "hevc", "av1", "vp9", "mpeg4"})
_MP4_SOUNDS = frozenset({"aac", "mp3", "opus", "ac3"})
_M4A_SOUNDS = frozenset({"aac", "alac"})
_CPU_MARGIN = 2  # times the computed work: the machine may be slower
_PRIMING_SAMPLES = 4096  # samples at the start that encoders add, and players hide
_PADDING_PACKETS = 2  # packets at the end, likewise


@dataclass(frozen=True, slots=True)
class CleanVideo(VideoFacts):
    """What a cleaned video is.

    Attributes:
        notes: sentences for the user, where picture or sound are not exactly the same as before.
        stored: width and height of the source's upright frames as stored, where its pixels were not square: a mask may
            have been made from those.
    """

    notes: tuple[str, ...] = ()
    stored: tuple[int, int] | None = None

    @property
    def facts(self) -> VideoFacts:
        """The facts of the new file alone."""
        return VideoFacts(**{field.name: getattr(self, field.name) for field in fields(VideoFacts)})


@dataclass(frozen=True, slots=True)
class CleanSound(SoundFacts):
    """What a cleaned sound is; `notes` are sentences for the user, where it is not exactly the same as before."""

    notes: tuple[str, ...] = ()

    @property
    def facts(self) -> SoundFacts:
        """The facts of the new file alone."""
        return SoundFacts(**{field.name: getattr(self, field.name) for field in fields(SoundFacts)})


def probe_video(path: Path, limits: VideoLimits = DEFAULT_VIDEO_LIMITS) -> VideoFacts:
    """What a video is: its packets are counted and its first frame is decoded.

    Raises:
        InvalidInput: `not_media`, `unsupported`, or `corrupt` (also when the file was cut off).
        TooLarge: larger or longer than the limits; the header is checked before anything is decoded.
    """
    with open_clip(path, "video", limits) as clip:
        return count_video(clip, limits)[0]


def probe_sound(path: Path, limits: VideoLimits = DEFAULT_VIDEO_LIMITS) -> SoundFacts:
    """What a sound is: its packets are counted and some of it is decoded.

    Raises:
        InvalidInput: `not_media`, `unsupported` (also for a video), or `corrupt`.
        TooLarge: longer than the limits.
    """
    with open_clip(path, "audio", limits) as clip:
        return count_sound(clip, limits)[0]


def clean_video(source: Path, target: Path, limits: VideoLimits = DEFAULT_VIDEO_LIMITS) -> CleanVideo:
    """Write the cleaned copy of a video: an MP4 that begins with its header and has only what a player shows and plays.

    The first video track and the first audio track are copied without loss where MP4 takes their codecs and a copy has
    what a player shows; otherwise they are encoded as H.264 and AAC. The picture stays upright. The same input gives
    the same bytes.

    Args:
        source: a local file.
        target: where to write; nothing is left there when this fails.
        limits: as for `probe_video`; also for the work of encoding.

    Returns:
        What the new file is.

    Raises:
        InvalidInput: as for `probe_video`.
        TooLarge: as for `probe_video`, or encoding it would take too long.
        StorageFailed: the target cannot be written.
    """
    with remove_on_failure(target):
        with open_clip(source, "video", limits) as clip:
            plan = _plan_rewrite(clip, limits)
        with open_clip(source, "video", limits) as clip, open_output(target, "mp4") as into:
            takes = [_video_packet_handler(clip, plan, into)]
            if clip.audio is not None:
                takes.append(_audio_packet_handler(clip, plan, into))
            mux_packets(clip, takes, into)
        facts = probe_video(target, limits)
        return CleanVideo(**asdict(facts), notes=plan.notes, stored=plan.stored)


def clean_sound(source: Path, target: Path, limits: VideoLimits = DEFAULT_VIDEO_LIMITS) -> CleanSound:
    """Write the cleaned copy of a sound: only what a player plays.

    An MP3 stays an MP3 and a WAV stays a WAV, without loss; everything else becomes an M4A, without loss where M4A
    takes the codec and no edit list removes a part. The same input gives the same bytes.

    Args:
        source: a local file.
        target: where to write; nothing is left there when this fails.
        limits: as for `probe_sound`; also for the work of encoding.

    Returns:
        What the new file is; its content type may differ from that of the source.

    Raises:
        InvalidInput: as for `probe_sound`.
        TooLarge: as for `probe_sound`, or encoding it would take too long.
        StorageFailed: the target cannot be written.
    """
    with remove_on_failure(target):
        with open_clip(source, "audio", limits) as clip:
            facts, tally = count_sound(clip, limits)
            muxer = {"audio/mpeg": "mp3", "audio/wav": "wav"}.get(facts.content_type, "ipod")
            trimmed = muxer == "ipod" and _is_trimmed(clip, tally)
            encode = muxer == "ipod" and (trimmed or facts.codec not in _M4A_SOUNDS)
            if encode:
                _request_sound_effort(clip, tally, limits)
            else:
                check_upload_size(tally.size, limits)
        with open_clip(source, "audio", limits) as clip, open_output(target, muxer) as into:
            sound = audio_stream_of(clip)
            if encode:
                take = encode_audio_track(sound, into, end=_sound_end(sound) if trimmed else None)
            else:
                take = copy_track(sound, into, keep=_is_mp3_packet if muxer == "mp3" else None)
            mux_packets(clip, [take], into)
        return CleanSound(**asdict(probe_sound(target, limits)), notes=(_SOUND_CUT_NOTE,) if trimmed else ())


_TRANSPARENCY_NOTE = "The video has a channel of transparency, which is not sent: its colours are taken alone."
_SOUND_CUT_NOTE = "The sound is a piece of a longer one, so it was encoded anew: what was cut away stays here."


@dataclass(frozen=True, slots=True)
class _RewritePlan:
    """How the cleaned copy of a video is written.

    Attributes:
        first: its first frame.
        form: how frames are encoded; None: they are copied.
        encode_sound: whether the sound is encoded.
        end: where the sound ends, in seconds, where it is cut.
        notes: sentences for the user.
        stored: as in `CleanVideo`.
    """

    first: "VideoFrame"
    form: EncoderSettings | None
    encode_sound: bool
    end: float | None
    notes: tuple[str, ...]
    stored: tuple[int, int] | None


def _plan_rewrite(clip: OpenClip, limits: VideoLimits) -> _RewritePlan:
    facts, first, tallies = count_video(clip, limits)
    pictures, sound = video_stream_of(clip), clip.audio
    tally = tallies[pictures.index]
    cut = tally.hidden_before > 0
    encode_sound, end, effort = False, None, 0.0
    if sound is not None:
        totals = tallies[sound.index]
        trimmed = _is_trimmed(clip, totals) or (totals.hidden_seconds > 0 and cut)
        encode_sound = trimmed or codec_of(sound) not in _MP4_SOUNDS
        end = _sound_end(sound) if trimmed else None
        effort = _request_sound_effort(clip, totals, limits) if encode_sound else 0.0
    fits = facts.codec in _MP4_PICTURES and clip.aspect == SQUARE and tally.is_in_decode_order and not cut
    clear = (_TRANSPARENCY_NOTE,) if clip.transparent else ()
    if fits:
        check_upload_size(tally.size, limits)
        return _RewritePlan(first, None, encode_sound, end, clear, None)
    stored, square = (first.width, first.height), square_pixel_size(first.width, first.height, clip.aspect)
    left = replace(limits, effort_seconds=max(limits.effort_seconds - effort, 0.0))
    form, work = choose_encoder_settings(stored, square, tally.all_packets, facts.codec, left)
    request_cpu_seconds(_CPU_MARGIN * work)
    sideways = bool((display_matrix_of(first) or ((), False))[1])
    sizes = [_swap_sides(size, sideways) for size in (stored, square)]
    notes = (*clear, *_rewrite_notes(cut=cut, sizes=sizes, form=form, sideways=sideways))
    return _RewritePlan(first, form, encode_sound, end, notes, sizes[0] if clip.aspect != SQUARE else None)


def _rewrite_notes(*, cut: bool, sizes: list[tuple[int, int]], form: EncoderSettings, sideways: bool) -> list[str]:
    stored, square = sizes
    became = _swap_sides((form.width, form.height), sideways)
    notes = []
    if cut:
        notes.append("The video is a piece of a longer one, so it was encoded anew: what was cut away stays here.")
    if stored != square:
        notes.append(
            f"The video's pixels are no squares: it was encoded anew from {_size_text(stored)} as "
            f"{_size_text(became)}, "
            "which is what a player shows."
        )
    elif became[0] * became[1] < square[0] * square[1]:
        notes.append(
            f"The video was made smaller, from {_size_text(square)} to {_size_text(became)}, to encode it in time."
        )
    return notes


def _video_packet_handler(clip: OpenClip, plan: _RewritePlan, into: "OutputContainer") -> PacketHandler:
    pictures = video_stream_of(clip)
    if plan.form is None:
        return copy_track(pictures, into, keep=_is_shown_packet)
    return encode_video_track(pictures, plan.first, plan.form, into)


def _audio_packet_handler(clip: OpenClip, plan: _RewritePlan, into: "OutputContainer") -> PacketHandler:
    sound = audio_stream_of(clip)
    return encode_audio_track(sound, into, end=plan.end) if plan.encode_sound else copy_track(sound, into)


def _is_trimmed(clip: OpenClip, tally: TrackTotals) -> bool:
    """Whether an edit list removes more of a sound than what encoders add at its start and its end."""
    sound = audio_stream_of(clip)
    missing = 0 if codec_of(sound).startswith("pcm_") else sound.frames - tally.all_packets
    return tally.hidden_seconds * sound.rate > _PRIMING_SAMPLES or missing > _PADDING_PACKETS


def _sound_end(sound: "Stream") -> float | None:
    """Where a sound that an edit list cuts ends, in seconds; None: at the end of the file."""
    if not sound.frames or sound.duration is None:
        return None
    return float(((sound.start_time or 0) + sound.duration) * (sound.time_base or Fraction(0)))


def _request_sound_effort(clip: OpenClip, tally: TrackTotals, limits: VideoLimits) -> float:
    sound = audio_stream_of(clip)
    work = check_sound_effort(tally.seconds() + tally.hidden_seconds, sound.rate, sound.channels, limits)
    request_cpu_seconds(_CPU_MARGIN * work)
    return work


def _is_shown_packet(packet: "Packet[Stream]") -> bool:
    return not is_hidden_packet(packet)


def _is_mp3_packet(packet: "Packet[Stream]") -> bool:
    """Whether a packet is a frame of an MP3; other data may stand between frames or after them."""
    return content_type_of(bytes(packet)[:_MP3_HEADER]) == "audio/mpeg"


def _swap_sides(size: tuple[int, int], sideways: bool) -> tuple[int, int]:
    return (size[1], size[0]) if sideways else size


def _size_text(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"
