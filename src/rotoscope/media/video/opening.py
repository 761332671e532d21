"""The one place where videos and sounds are opened: first bytes, then the header, then packets, then a decoder.

FFmpeg never gets a name or an address: it is given an open file and the reader to use, so that a playlist or a
reference to another file has no effect. The few decoders that may run refuse frames above the limits themselves.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from errno import EACCES, EDQUOT, EISDIR, ENOENT, ENOMEM, ENOSPC, ENOTDIR, EROFS
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal

from rotoscope.errors import InvalidInput, StorageFailed, TooLarge
from rotoscope.media.sniff import HEAD_BYTES, check_head
from rotoscope.media.video.frames import SQUARE, bits_per_pixel, pixel_aspect
from rotoscope.media.video.limits import (
    VideoLimits,
    check_duration,
    check_frame_count,
    check_frame_memory,
    check_frame_size,
    check_stream_count,
)
from rotoscope.media.video.mp4_header import read_header_claims

if TYPE_CHECKING:
    from types import ModuleType

    from av.audio.stream import AudioStream
    from av.container import InputContainer
    from av.stream import Stream
    from av.video.stream import VideoStream

__all__ = ["ALPHA_MODE_TAG", "OpenClip", "codec_of", "import_av", "map_av_errors", "max_pixels_option", "open_clip"]

ALPHA_MODE_TAG = "alpha_mode"
"""The tag of a WebM stream whose transparency is a second video beside it; FFmpeg's own decoders ignore that one."""
_BUFFER_BYTES = 1 << 18  # bytes that are read at once
_MAX_ENTRIES = 2_000_000  # samples in all tables of a header; each takes some 40 bytes of memory

_READERS = {
    "video/mp4": "mov",
    "video/quicktime": "mov",
    "video/webm": "matroska",
    "audio/mp4": "mov",
    "audio/mpeg": "mp3",
    "audio/wav": "wav",
}
_FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,wav,mp3,aac"
_VIDEO_CODECS = frozenset({"h264", "hevc", "av1", "vp8", "vp9", "mpeg4", "mjpeg", "prores"})
_PCM_CODECS = (
    *(f"pcm_{kind}{order}" for kind in ("s16", "s24", "s32", "f32", "f64") for order in ("le", "be")),
    *("pcm_u8", "pcm_alaw", "pcm_mulaw"),
)
_AUDIO_CODECS = frozenset({"aac", "mp3", "opus", "ac3", "eac3", "vorbis", "flac", "alac", *_PCM_CODECS})
_DECODERS = ",".join(sorted(_VIDEO_CODECS | _AUDIO_CODECS | {"libdav1d", "mp3float", "libopus"}))
_STORAGE_ERRORS = {EACCES, EDQUOT, EISDIR, ENOENT, ENOSPC, ENOTDIR, EROFS}


@dataclass(frozen=True, slots=True, eq=False)
class OpenClip:
    """An open file whose header was checked.

    Attributes:
        container: where packets are read from.
        content_type: by the first bytes.
        video: the first video stream; None in a sound.
        audio: the first audio stream, if there is one that can be decoded.
        size: of the file, in bytes.
        aspect: width over height of a stored pixel.
        transparent: whether the video has an alpha channel.
    """

    container: "InputContainer"
    content_type: str
    video: "VideoStream | None"
    audio: "AudioStream | None"
    size: int
    aspect: Fraction
    transparent: bool

    def streams(self) -> "tuple[Stream, ...]":
        """The one or two streams that are read; the others are skipped."""
        return tuple(stream for stream in (self.video, self.audio) if stream is not None)


@contextmanager
def open_clip(path: Path, kind: Literal["video", "audio"], limits: VideoLimits) -> Iterator[OpenClip]:
    """Open a local file after its first bytes and its header were checked; nothing is decoded yet.

    Args:
        path: a local file.
        kind: which of the two it must be.
        limits: also given to the decoders.

    Raises:
        InvalidInput: `not_media`, `unsupported` or `corrupt`; also for what FFmpeg raises while the clip is open.
        TooLarge: the header claims more than the limits.
    """
    with path.open("rb") as file, map_av_errors():
        content_type = check_head(file.read(HEAD_BYTES), kind)
        if _READERS[content_type] == "mov":
            _check_header_claims(file, limits)
        size = file.seek(0, 2)
        file.seek(0)
        with _open_container(file, _READERS[content_type], limits) as container:
            yield _select_streams(container, content_type, size, kind, limits)


def import_av() -> "ModuleType":
    """PyAV, with FFmpeg's log switched off: it would go to stderr, or to Python's log where a callback is set."""
    import av

    av.logging.set_level(None)
    return av


@contextmanager
def map_av_errors() -> Iterator[None]:
    """Turn what FFmpeg raises into the project's errors, without FFmpeg's text."""
    from av.error import FFmpegError

    try:
        yield
    except MemoryError:
        raise _memory_limit_error() from None
    except (FFmpegError, OSError) as error:  # OSError: a broken header can make the reader seek outside the file
        if error.errno == ENOMEM:
            raise _memory_limit_error() from None
        if isinstance(error, OSError) and error.errno in _STORAGE_ERRORS:
            raise StorageFailed(
                "The video could not be stored.", hint="Check the results folder and the disk's space."
            ) from None
        message = "The file is broken or incomplete and cannot be decoded."
        raise InvalidInput(message, code="corrupt", hint="Save or download the file again.") from None


def max_pixels_option(limits: VideoLimits) -> str:
    """FFmpeg's limit of the pixels of a frame: a tenth more, as decoders round sizes up to whole blocks."""
    return str(limits.megapixels * 1_100_000)


def codec_of(stream: "Stream") -> str:
    """The name of a stream's codec, such as "h264"; "unknown" when there is no decoder for it."""
    # A stream without a decoder has no context, although the declared type has one.
    context = getattr(stream, "codec_context", None)
    return "unknown" if context is None else str(context.codec.canonical_name)


def _memory_limit_error() -> TooLarge:
    message = "Reading this file takes more memory than is given to one file."
    return TooLarge(message, hint="Give a smaller version of it.")


def _format_hint(kind: str) -> str:
    return "Give an MP4, MOV or WEBM video." if kind == "video" else "Give an MP3, M4A or WAV sound."


def _check_header_claims(file: BinaryIO, limits: VideoLimits) -> None:
    """Check an MP4's header before FFmpeg builds its tables in memory."""
    claims = read_header_claims(file)
    if not claims.is_consistent:
        message = "The header of the file is nested or packed in a way that is not read."
        raise InvalidInput(message, code="corrupt", hint="Save the video again with another program.")
    check_stream_count(claims.tracks, limits)
    check_frame_size(claims.width, claims.height, limits)
    if claims.entries > _MAX_ENTRIES:
        message = f"The file announces {claims.entries} samples; at most {_MAX_ENTRIES} are read."
        raise TooLarge(message, hint="Give a shorter piece.")


def _open_container(file: BinaryIO, reader: str, limits: VideoLimits) -> "InputContainer":
    options = {
        "format_whitelist": _FORMATS,
        "protocol_whitelist": "file",
        "codec_whitelist": _DECODERS,
        "max_pixels": max_pixels_option(limits),
    }
    container: InputContainer = import_av().open(
        file, "r", format=reader, options=options, metadata_errors="replace", buffer_size=_BUFFER_BYTES
    )
    return container


def _select_streams(
    container: "InputContainer", content_type: str, size: int, kind: str, limits: VideoLimits
) -> OpenClip:
    """The streams to read, after the header was checked against the limits."""
    check_stream_count(len(container.streams), limits)
    pictures = _first_video_stream(container, kind)
    sound = next((stream for stream in container.streams.audio if codec_of(stream) in _AUDIO_CODECS), None)
    _check_announced_duration(container, [stream for stream in (pictures, sound) if stream is not None], limits)
    if pictures is not None:
        _check_video_header(pictures, limits)
        pictures.codec_context.options = {"max_pixels": max_pixels_option(limits)}
        pictures.thread_type, pictures.thread_count = "SLICE", 1  # each thread would hold a frame of its own
    for stream in container.streams:
        if stream is not pictures and stream is not sound:
            stream.discard = type(stream.discard).all
    aspect = pixel_aspect(pictures) if pictures is not None else SQUARE
    return OpenClip(container, content_type, pictures, sound, size, aspect, _is_transparent(pictures))


def _check_announced_duration(container: "InputContainer", read: "Sequence[Stream]", limits: VideoLimits) -> None:
    """Check the duration that the tracks claim, or the whole file where they do not and no other track is in it."""
    claimed = [float(stream.duration * stream.time_base) for stream in read if stream.duration and stream.time_base]
    if not claimed and len(read) == len(container.streams):
        claimed = [(container.duration or 0) / 1e6]
    check_duration(max(claimed, default=0.0), limits)


def _first_video_stream(container: "InputContainer", kind: str) -> "VideoStream | None":
    """The first video stream; the cover picture of a sound does not count."""
    from av.stream import Disposition

    moving = [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]
    if kind == "audio":
        if moving:
            message = "A sound is needed, and this file is a video."
            raise InvalidInput(message, code="unsupported", hint=_format_hint(kind))
        return None
    if not moving:
        message = "A video is needed, and this file has no moving pictures."
        raise InvalidInput(message, code="unsupported", hint=_format_hint(kind))
    if codec_of(moving[0]) not in _VIDEO_CODECS:
        message = f"The pictures of this video are in the codec {codec_of(moving[0])}, which is not read."
        raise InvalidInput(message, code="unsupported", hint="Save it as an MP4 with H.264.")
    return moving[0]


def _is_transparent(pictures: "VideoStream | None") -> bool:
    if pictures is None:
        return False
    form = pictures.codec_context.format
    inside = form is not None and any(part.is_alpha for part in form.components)
    return inside or pictures.metadata.get(ALPHA_MODE_TAG) == "1"


def _check_video_header(pictures: "VideoStream", limits: VideoLimits) -> None:
    context = pictures.codec_context
    check_frame_size(context.width, context.height, limits)
    if context.format is not None:
        check_frame_memory(context.width, context.height, bits_per_pixel(context.format), codec_of(pictures))
    check_frame_count(pictures.frames, limits)
