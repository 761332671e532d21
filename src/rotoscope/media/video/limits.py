"""How large a video or a sound may be, and how much work it may cost; checked by its header, before it is decoded.

| what | at most | because |
| --- | --- | --- |
| one frame | 18 megapixels, 28 MB decoded (112 MB where each stands alone) | decoders hold up to eight at a time |
| decoding and encoding | 5 s by the table below | nobody waits longer for a tool to begin |
| packets in a file | 500,000 | each costs time, however few bytes it has |
| pixels of a clip in which an object is followed | 4,000 million in all frames | every frame is painted and encoded |

How much work it is, and in which form a video is encoded so that the work stays within the limit, follows from speeds
measured on one core of a small server, in single-threaded code; pixels are counted over all frames.

| work | speed |
| --- | --- |
| decode h264, vp8, vp9, mpeg4 | 350 million pixels a second |
| decode hevc, av1, prores, mjpeg | 180 million pixels a second |
| encode H.264, preset veryfast | 75 million pixels a second, 170 MB of memory at 1080p |
| encode H.264, preset ultrafast (larger files) | 190 million pixels a second, 50 MB of memory at 1080p |
| each frame, however small | 0.2 ms |
| encode AAC | 110 seconds of stereo at 48 kHz a second |
"""

from dataclasses import dataclass

from rotoscope.errors import TooLarge
from rotoscope.models.catalog import UploadLimit

__all__ = [
    "DEFAULT_VIDEO_LIMITS",
    "EncoderSettings",
    "VideoLimits",
    "check_decode_effort",
    "check_duration",
    "check_frame_count",
    "check_frame_memory",
    "check_frame_size",
    "check_packet_count",
    "check_sound_effort",
    "check_stream_count",
    "check_track_pixels",
    "check_upload_size",
    "choose_encoder_settings",
    "max_probe_frames",
]

_FRAMES_IN_MEMORY = 8  # decoded frames that a decoder holds at once, where frames refer to others
_INTRA_FRAMES_IN_MEMORY = 2  # the same where each frame stands alone
_INTRA_CODECS = frozenset({"mjpeg", "prores"})  # each frame stands alone
_FRAME_MEMORY_BYTES = 224_000_000  # of all decoded frames together: a worker has 256 MB (`media.decoders.FILM`)
_FAST_DECODE_RATE, _SLOW_DECODE_RATE = 350e6, 180e6  # pixels a second
_SLOW_CODECS = frozenset({"hevc", "av1", "prores", "mjpeg"})
_FRAME_SECONDS = 0.0002  # seconds for each frame, however small
_QUALITY_PRESET, _FAST_PRESET = ("veryfast", 75e6), ("ultrafast", 190e6)  # of x264, and its pixels a second
_QUALITY_SECONDS = 3.0  # seconds; where veryfast would take longer, ultrafast is used
_LARGE_PIXELS, _SMALL_PIXELS = 1920 * 1080, 1280 * 720  # pixels of a frame; no model works at more than the first
_MIN_PROBE_FRAMES, _MAX_PROBE_FRAMES = 8, 2000  # frames that are decoded to prove that a video can be decoded
_SOUND_SECONDS, _SOUND_RATE = 110.0, 96_000  # seconds of sound encoded a second, at so many samples a second
_TRACK_PIXELS = 4_000_000_000  # of all frames of a clip in which an object is followed: about ten minutes of work
_SMALLER_HINT = "Give a smaller version of the video."
_SHORTER_HINT = "Give a shorter piece."


@dataclass(frozen=True, slots=True)
class VideoLimits:
    """How large a video or sound may be.

    Attributes:
        side: pixels along the longer side of a frame.
        megapixels: millions of pixels in one frame.
        seconds: duration.
        frames: number of frames.
        streams: tracks of any kind in the file.
        packets: packets of the tracks that are read.
        effort_seconds: seconds of work on one core, to decode and encode what cannot be copied.
        carrier: the provider that a copy is uploaded to; None where its size does not matter.
    """

    side: int = 8192
    megapixels: int = 18
    seconds: int = 1800
    frames: int = 100_000
    streams: int = 8
    packets: int = 500_000
    effort_seconds: float = 5.0
    carrier: UploadLimit | None = None


DEFAULT_VIDEO_LIMITS = VideoLimits()


def check_stream_count(number: int, limits: VideoLimits) -> None:
    """Raise `TooLarge` for a file with too many tracks."""
    if number > limits.streams:
        message = f"The file has {number} tracks; at most {limits.streams} are read."
        raise TooLarge(message, hint="Save it with one track of pictures and one of sound.")


def check_frame_size(width: int, height: int, limits: VideoLimits) -> None:
    """Raise `TooLarge` for frames with too many pixels, in all or along a side."""
    if max(width, height) > limits.side:
        message = f"The video is {width} x {height} pixels; at most {limits.side} along a side are read."
        raise TooLarge(message, hint=_SMALLER_HINT)
    if width * height > limits.megapixels * 1_000_000:
        message = (
            f"A frame of the video has {width * height / 1e6:.1f} megapixels; at most {limits.megapixels} are read."
        )
        raise TooLarge(message, hint=_SMALLER_HINT)


def check_track_pixels(width: int, height: int, frames: int) -> None:
    """Raise `TooLarge` for a clip whose masks would take too long to become films: before anything is paid for."""
    if width * height * frames > _TRACK_PIXELS:
        most = _TRACK_PIXELS // (width * height)
        message = f"The clip has {frames} frames of {width} x {height} pixels; at most {most} of that size are taken."
        raise TooLarge(message, hint="Give a shorter piece, or a smaller version.")


def check_frame_memory(width: int, height: int, bits: int, codec: str) -> None:
    """Raise `TooLarge` for frames that take too much memory once they are decoded, however small the file is.

    Args:
        width: in pixels.
        height: in pixels.
        bits: of one decoded pixel, as `media.video.frames.bits_per_pixel` counts them.
        codec: FFmpeg's name; where frames refer to others, a decoder holds more of them at once.
    """
    most = _FRAME_MEMORY_BYTES // (_INTRA_FRAMES_IN_MEMORY if codec in _INTRA_CODECS else _FRAMES_IN_MEMORY)
    size = width * height * bits // 8
    if size > most:
        message = (
            f"A frame of the video ({width} x {height} pixels of {bits} bits) takes {size / 1e6:.0f} MB of memory; "
            f"at most {most / 1e6:.0f} are given."
        )
        raise TooLarge(message, hint="Save it smaller, or with 8 bits a colour (4:2:0).")


def check_duration(seconds: float, limits: VideoLimits) -> None:
    """Raise `TooLarge` for what lasts too long."""
    if seconds > limits.seconds:
        message = f"The file lasts {seconds:.0f} seconds; at most {limits.seconds} are read."
        raise TooLarge(message, hint=_SHORTER_HINT)


def check_frame_count(frames: int, limits: VideoLimits) -> None:
    """Raise `TooLarge` for too many frames."""
    if frames > limits.frames:
        message = f"The video has {frames} frames or more; at most {limits.frames} are read."
        raise TooLarge(message, hint=_SHORTER_HINT)


def check_upload_size(size: int, limits: VideoLimits) -> None:
    """Raise `TooLarge`, before a copy is made, if it would be larger (in bytes) than the provider takes."""
    carrier = limits.carrier
    if carrier is not None and size > carrier.max_bytes:
        message = (
            f"{carrier.title} takes files of up to {carrier.max_bytes / 1e6:g} MB, and the pictures or the sound of "
            f"this one have {size / 1e6:.1f} MB."
        )
        raise TooLarge(message, hint="Give a smaller file, or a public https URL.")


def check_packet_count(number: int, limits: VideoLimits) -> None:
    """Raise `TooLarge` for a file with too many packets."""
    if number > limits.packets:
        message = f"The file has more than {limits.packets} pieces of picture and sound; no more are read."
        raise TooLarge(message, hint=_SHORTER_HINT)


@dataclass(frozen=True, slots=True)
class EncoderSettings:
    """How frames are encoded: width and height in pixels before they are turned, both even, and x264's preset."""

    width: int
    height: int
    preset: str


def choose_encoder_settings(
    stored: tuple[int, int], square: tuple[int, int], frames: int, codec: str, limits: VideoLimits
) -> tuple[EncoderSettings, float]:
    """The best settings with which a video can be encoded within the limits, and the seconds of work.

    The slower preset is taken where it is quick enough, else the faster one, else the faster one at a smaller size.
    Frames larger than any model works at are always made smaller.

    Args:
        stored: width and height of a frame as it is decoded, in pixels.
        square: the same with square pixels.
        frames: how many are decoded, hidden ones included.
        codec: FFmpeg's name of the codec that they are decoded from.
        limits: `effort_seconds` is what counts.

    Raises:
        TooLarge: no settings are quick enough.
    """
    decoding = _decode_seconds(stored, frames, codec)
    # Where frames are large, veryfast would take too much memory besides the decoder's.
    careful = _QUALITY_PRESET if stored[0] * stored[1] <= _LARGE_PIXELS else _FAST_PRESET
    ways = ((_LARGE_PIXELS, careful, _QUALITY_SECONDS), (_LARGE_PIXELS, _FAST_PRESET, limits.effort_seconds))
    for pixels, (preset, speed), most in (*ways, (_SMALL_PIXELS, _FAST_PRESET, limits.effort_seconds)):
        width, height = _shrink_to_pixels(square, pixels)
        seconds = decoding + frames * width * height / speed
        if seconds <= min(most, limits.effort_seconds):
            return EncoderSettings(width, height, preset), seconds
    raise TooLarge(
        f"The video ({frames} frames of {square[0]} x {square[1]} pixels, {codec}) would have to be encoded anew, "
        f"which takes longer than the {limits.effort_seconds:g} seconds that are given.",
        hint="Save it as an MP4 with H.264 and square pixels, make it smaller, or give a shorter piece.",
    )


def max_probe_frames(stored: tuple[int, int], codec: str, limits: VideoLimits) -> int:
    """How many frames of a size are decoded within `effort_seconds`, between 8 and 2,000."""
    return min(
        max(int(limits.effort_seconds / _decode_seconds(stored, 1, codec)), _MIN_PROBE_FRAMES), _MAX_PROBE_FRAMES
    )


def check_decode_effort(stored: tuple[int, int], frames: int, codec: str, limits: VideoLimits) -> float:
    """The seconds of work to decode so many frames of a size (width and height in pixels).

    Raises:
        TooLarge: more than `effort_seconds`.
    """
    seconds = _decode_seconds(stored, frames, codec)
    if seconds > limits.effort_seconds:
        raise TooLarge(
            f"To read {frames} frames of {stored[0]} x {stored[1]} pixels takes longer than the "
            f"{limits.effort_seconds:g} seconds that are given.",
            hint="Give a smaller version.",
        )
    return seconds


def check_sound_effort(seconds: float, rate: int, channels: int, limits: VideoLimits) -> float:
    """The seconds of work to encode a sound of so many seconds and samples a second.

    Raises:
        TooLarge: more than `effort_seconds`.
    """
    work = seconds * max(rate * channels / _SOUND_RATE, 1.0) / _SOUND_SECONDS
    if work > limits.effort_seconds:
        raise TooLarge(
            f"The sound lasts {seconds:.0f} seconds and would have to be encoded anew, which takes longer than the "
            f"{limits.effort_seconds:g} seconds that are given.",
            hint="Save it as AAC in an MP4 or M4A, or give a shorter piece.",
        )
    return work


def _decode_seconds(stored: tuple[int, int], frames: int, codec: str) -> float:
    speed = _SLOW_DECODE_RATE if codec in _SLOW_CODECS else _FAST_DECODE_RATE
    return frames * (_FRAME_SECONDS + stored[0] * stored[1] / speed)


def _shrink_to_pixels(size: tuple[int, int], pixels: int) -> tuple[int, int]:
    """The size, or a smaller one of the same shape with at most so many pixels; even, as the encoder requires."""
    scale = min((pixels / (size[0] * size[1])) ** 0.5, 1.0)
    if scale == 1.0:
        return size[0] + size[0] % 2, size[1] + size[1] % 2
    return max(round(size[0] * scale / 2) * 2, 2), max(round(size[1] * scale / 2) * 2, 2)
