"""How large a video or a sound may be, and how much work it may make: judged by what is announced, before any decoder.

| what | at most | because |
| --- | --- | --- |
| one frame | 18 megapixels, 28 MB decoded (112 MB where each stands alone) | decoders hold up to eight at a time |
| what must be decoded and encoded anew | 5 s by the table in `media.effort` | nobody waits longer in front of a tool |
| pieces in a file | 500,000 | each costs time, however few its bytes are |
"""

from dataclasses import dataclass

from rotoscope.errors import TooLarge
from rotoscope.models.catalog import UploadLimit

__all__ = [
    "DEFAULT_VIDEO_LIMITS",
    "VideoLimits",
    "check_duration",
    "check_frame_count",
    "check_frame_memory",
    "check_frame_size",
    "check_packet_count",
    "check_stream_count",
    "check_upload_size",
]

_FRAMES_IN_MEMORY = 8  # frames, where pictures refer to others
_INTRA_FRAMES_IN_MEMORY = 2
_INTRA_CODECS = frozenset({"mjpeg", "prores"})  # every picture stands for itself
_FRAME_MEMORY_BYTES = 224_000_000
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
        carrier: the provider to whom what is copied must be brought; None for anywhere.
        effort_seconds: of work on an ordinary core, to decode and encode what cannot be copied.
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
    """Refuse a file of too many tracks."""
    if number > limits.streams:
        message = f"The file has {number} tracks; at most {limits.streams} are read."
        raise TooLarge(message, hint="Save it with one track of pictures and one of sound.")


def check_frame_size(width: int, height: int, limits: VideoLimits) -> None:
    """Refuse pictures that are too large, in pixels."""
    if max(width, height) > limits.side:
        message = f"The video is {width} x {height} pixels; at most {limits.side} along a side are read."
        raise TooLarge(message, hint=_SMALLER_HINT)
    if width * height > limits.megapixels * 1_000_000:
        message = (
            f"A frame of the video has {width * height / 1e6:.1f} megapixels; at most {limits.megapixels} are read."
        )
        raise TooLarge(message, hint=_SMALLER_HINT)


def check_frame_memory(width: int, height: int, bits: int, codec: str) -> None:
    """Refuse frames that take too much memory once they are decoded, whatever the file's own size.

    Args:
        width: in pixels.
        height: in pixels.
        bits: of one decoded pixel, as `media.frames.bits_of` counts them.
        codec: of the pictures; where each refers to others, more are held at once.
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
    """Refuse what lasts too long."""
    if seconds > limits.seconds:
        message = f"The file lasts {seconds:.0f} seconds; at most {limits.seconds} are read."
        raise TooLarge(message, hint=_SHORTER_HINT)


def check_frame_count(frames: int, limits: VideoLimits) -> None:
    """Refuse what has too many frames."""
    if frames > limits.frames:
        message = f"The video has {frames} frames or more; at most {limits.frames} are read."
        raise TooLarge(message, hint=_SHORTER_HINT)


def check_upload_size(size: int, limits: VideoLimits) -> None:
    """Refuse to copy what could not be brought to a provider, before there is a copy; `size` is in bytes."""
    carrier = limits.carrier
    if carrier is not None and size > carrier.max_bytes:
        message = (
            f"{carrier.title} takes files of up to {carrier.max_bytes / 1e6:g} MB, and the pictures or the sound of "
            f"this one have {size / 1e6:.1f} MB."
        )
        raise TooLarge(message, hint="Give a smaller file, or a public https URL.")


def check_packet_count(number: int, limits: VideoLimits) -> None:
    """Refuse a file of too many packets."""
    if number > limits.packets:
        message = f"The file has more than {limits.packets} pieces of picture and sound; no more are read."
        raise TooLarge(message, hint=_SHORTER_HINT)
