"""How much work it is to write pictures or sound anew, and in which form they are written so that it stays bounded.

Measured on one core of a small server, in single-threaded code; a pixel is one of one frame.

| work | a second |
| --- | --- |
| decode h264, vp8, vp9, mpeg4 | 350 million pixels |
| decode hevc, av1, prores, mjpeg | 180 million pixels |
| encode H.264 with care (veryfast) | 75 million pixels, 170 MB at 1080p |
| encode H.264 in haste (ultrafast, larger files) | 190 million pixels, 50 MB at 1080p |
| each frame, however small | 0.2 ms |
| encode AAC | 110 seconds of stereo at 48 kHz |
"""

from dataclasses import dataclass

from rotoscope.errors import TooLarge
from rotoscope.media.limits import VideoLimits

__all__ = [
    "EncoderSettings",
    "check_decode_effort",
    "check_sound_effort",
    "choose_encoder_settings",
    "max_probe_frames",
]

_FAST_DECODE_RATE, _SLOW_DECODE_RATE = 350e6, 180e6  # pixels a second
_SLOW_CODECS = frozenset({"hevc", "av1", "prores", "mjpeg"})
_FRAME_SECONDS = 0.0002
_QUALITY_PRESET, _FAST_PRESET = ("veryfast", 75e6), ("ultrafast", 190e6)
_QUALITY_SECONDS = 3.0  # up to which care is worth its time
_LARGE_PIXELS, _SMALL_PIXELS = 1920 * 1080, 1280 * 720  # pixels; models work at no more
_MIN_PROBE_FRAMES, _MAX_PROBE_FRAMES = 8, 2000  # frames that are tried
_SOUND_SECONDS, _SOUND_RATE = 110.0, 96_000  # of stereo at 48 kHz a second


@dataclass(frozen=True, slots=True)
class EncoderSettings:
    """How pictures are encoded: their even size before they are turned, in pixels, and the preset of x264."""

    width: int
    height: int
    preset: str


def choose_encoder_settings(
    stored: tuple[int, int], square: tuple[int, int], frames: int, codec: str, limits: VideoLimits
) -> tuple[EncoderSettings, float]:
    """The best form in which pictures can be encoded within the limits, and the seconds of work.

    With care where that is quick; else in haste; and where they are larger than any model works at, smaller.

    Args:
        stored: the size of a frame as it is decoded.
        square: the same with square pixels.
        frames: how many are decoded, hidden ones included.
        codec: of the pictures.
        limits: their `effort_seconds` count.

    Raises:
        TooLarge: no form is quick enough.
    """
    decoding = _decode_seconds(stored, frames, codec)
    careful = (
        _QUALITY_PRESET if stored[0] * stored[1] <= _LARGE_PIXELS else _FAST_PRESET
    )  # careful coding of large frames takes memory
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
    """How many frames of that size are decoded in the time that is given, between 8 and 2,000."""
    return min(
        max(int(limits.effort_seconds / _decode_seconds(stored, 1, codec)), _MIN_PROBE_FRAMES), _MAX_PROBE_FRAMES
    )


def check_decode_effort(stored: tuple[int, int], frames: int, codec: str, limits: VideoLimits) -> float:
    """The seconds of work to decode frames.

    Raises:
        TooLarge: more than the limits.
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
    """The seconds of work to encode a sound anew.

    Raises:
        TooLarge: more than the limits.
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
    """The size, or a smaller one of the same shape, in even numbers as the encoder wants them."""
    scale = min((pixels / (size[0] * size[1])) ** 0.5, 1.0)
    if scale == 1.0:
        return size[0] + size[0] % 2, size[1] + size[1] % 2
    return max(round(size[0] * scale / 2) * 2, 2), max(round(size[1] * scale / 2) * 2, 2)
