"""How large a video or a sound may be, and how much work it may make: judged by what is announced, before any decoder.

| what | at most | because |
| --- | --- | --- |
| one frame | 18 megapixels, 28 MB decoded (112 MB where each stands alone) | decoders hold up to eight at a time |
| what must be decoded and encoded anew | 5 s by the table in `media.effort` | nobody waits longer in front of a tool |
| pieces in a file | 500,000 | each costs time, however few its bytes are |
"""

from dataclasses import dataclass

from rotoscope.errors import TooLarge
from rotoscope.models.uploads import Carrier

__all__ = [
    "DEFAULT_LIMITS",
    "VideoLimits",
    "judge_copy",
    "judge_count",
    "judge_frame",
    "judge_pieces",
    "judge_size",
    "judge_streams",
    "judge_time",
]

_HELD_AT_ONCE = 8  # frames, where pictures refer to others
_HELD_ALONE = 2
_ALONE = frozenset({"mjpeg", "prores"})  # every picture stands for itself
_HELD_BYTES = 224_000_000
_SMALLER = "Give a smaller version of the video."
_SHORTER = "Give a shorter piece."


@dataclass(frozen=True, slots=True)
class VideoLimits:
    """How large a video or sound may be.

    Attributes:
        side: pixels along the longer side of a frame.
        megapixels: millions of pixels in one frame.
        seconds: duration.
        frames: number of frames.
        streams: tracks of any kind in the file.
        pieces: packets of the tracks that are read.
        carrier: the provider to whom what is copied must be brought; None for anywhere.
        effort_seconds: of work on an ordinary core, to decode and encode what cannot be copied.
    """

    side: int = 8192
    megapixels: int = 18
    seconds: int = 1800
    frames: int = 100_000
    streams: int = 8
    pieces: int = 500_000
    effort_seconds: float = 5.0
    carrier: Carrier | None = None


DEFAULT_LIMITS = VideoLimits()


def judge_streams(number: int, limits: VideoLimits) -> None:
    """Refuse a file of too many tracks."""
    if number > limits.streams:
        message = f"The file has {number} tracks; at most {limits.streams} are read."
        raise TooLarge(message, hint="Save it with one track of pictures and one of sound.")


def judge_size(width: int, height: int, limits: VideoLimits) -> None:
    """Refuse pictures that are too large, in pixels."""
    if max(width, height) > limits.side:
        message = f"The video is {width} x {height} pixels; at most {limits.side} along a side are read."
        raise TooLarge(message, hint=_SMALLER)
    if width * height > limits.megapixels * 1_000_000:
        message = (
            f"A frame of the video has {width * height / 1e6:.1f} megapixels; at most {limits.megapixels} are read."
        )
        raise TooLarge(message, hint=_SMALLER)


def judge_frame(width: int, height: int, bits: int, codec: str) -> None:
    """Refuse frames that take too much memory once they are decoded, whatever the file's own size.

    Args:
        width: in pixels.
        height: in pixels.
        bits: of one decoded pixel, as `media.frames.bits_of` counts them.
        codec: of the pictures; where each refers to others, more are held at once.
    """
    most = _HELD_BYTES // (_HELD_ALONE if codec in _ALONE else _HELD_AT_ONCE)
    size = width * height * bits // 8
    if size > most:
        message = (
            f"A frame of the video ({width} x {height} pixels of {bits} bits) takes {size / 1e6:.0f} MB of memory; "
            f"at most {most / 1e6:.0f} are given."
        )
        raise TooLarge(message, hint="Save it smaller, or with 8 bits a colour (4:2:0).")


def judge_time(seconds: float, limits: VideoLimits) -> None:
    """Refuse what lasts too long."""
    if seconds > limits.seconds:
        message = f"The file lasts {seconds:.0f} seconds; at most {limits.seconds} are read."
        raise TooLarge(message, hint=_SHORTER)


def judge_count(frames: int, limits: VideoLimits) -> None:
    """Refuse what has too many frames."""
    if frames > limits.frames:
        message = f"The video has {frames} frames or more; at most {limits.frames} are read."
        raise TooLarge(message, hint=_SHORTER)


def judge_copy(size: int, limits: VideoLimits) -> None:
    """Refuse to copy what could not be brought to a provider, before there is a copy; `size` is in bytes."""
    carrier = limits.carrier
    if carrier is not None and size > carrier.most_bytes:
        message = (
            f"{carrier.title} takes files of up to {carrier.most_bytes / 1e6:g} MB, and the pictures or the sound of "
            f"this one have {size / 1e6:.1f} MB."
        )
        raise TooLarge(message, hint="Give a smaller file, or a public https URL.")


def judge_pieces(number: int, limits: VideoLimits) -> None:
    """Refuse a file of too many packets."""
    if number > limits.pieces:
        message = f"The file has more than {limits.pieces} pieces of picture and sound; no more are read."
        raise TooLarge(message, hint=_SHORTER)
