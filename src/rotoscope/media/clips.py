"""The one place where videos and sounds are opened: magic bytes, then the header, then packets, then a decoder.

FFmpeg never sees a name or an address: it is handed an open file and told which reader to use, so that a playlist or
a reference to another file leads nowhere. The few decoders that may run refuse pictures above the limits themselves.
"""

import math
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from errno import EACCES, EDQUOT, EISDIR, ENOENT, ENOSPC, ENOTDIR, EROFS
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from rotoscope.errors import InvalidInput, StorageFailed, TooLarge
from rotoscope.media.boxes import read_claims
from rotoscope.media.sniff import content_type_of, foreign_format, is_audio, is_video

if TYPE_CHECKING:
    from types import ModuleType

    from av.audio.stream import AudioStream
    from av.container import InputContainer
    from av.sidedata.sidedata import SideDataContainer
    from av.stream import Stream
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream
    from PIL import Image

__all__ = [
    "DEFAULT_LIMITS",
    "Clip",
    "VideoLimits",
    "av_errors_are_ours",
    "codec_of",
    "frames_at",
    "judge_count",
    "judge_time",
    "opened",
    "quiet_av",
    "turn_of",
    "upright",
]

_SNIFFED_BYTES = 512
_BUFFER = 1 << 18
_FARTHEST = 300  # frames decoded on the way to one place
_WIDEST = 4  # times its height, for a picture that is scaled
_THREADS = 2  # each holds a frame
_MOST_ENTRIES = 2_000_000  # samples in all tables of a header; each takes some 40 bytes of memory

_READERS = {
    "video/mp4": "mov",
    "video/quicktime": "mov",
    "video/webm": "matroska",
    "audio/mp4": "mov",
    "audio/mpeg": "mp3",
    "audio/wav": "wav",
}
_FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,wav,mp3,aac"
_PICTURE_CODECS = frozenset({"h264", "hevc", "av1", "vp8", "vp9", "mpeg4", "mjpeg", "prores"})
_PLAIN_SOUNDS = (
    *(f"pcm_{kind}{order}" for kind in ("s16", "s24", "s32", "f32", "f64") for order in ("le", "be")),
    *("pcm_u8", "pcm_alaw", "pcm_mulaw"),
)
_SOUND_CODECS = frozenset({"aac", "mp3", "opus", "ac3", "eac3", "vorbis", "flac", "alac", *_PLAIN_SOUNDS})
_DECODERS = ",".join(sorted(_PICTURE_CODECS | _SOUND_CODECS | {"libdav1d", "mp3float", "libopus"}))
_STORAGE_TROUBLE = {EACCES, EDQUOT, EISDIR, ENOENT, ENOSPC, ENOTDIR, EROFS}


@dataclass(frozen=True, slots=True)
class VideoLimits:
    """How large a video or sound may be.

    Attributes:
        side: pixels along the longer side of a frame.
        megapixels: millions of pixels in one frame.
        seconds: duration.
        frames: number of frames.
        streams: tracks of any kind in the file.
    """

    side: int = 8192
    megapixels: int = 40
    seconds: int = 1800
    frames: int = 100_000
    streams: int = 8


DEFAULT_LIMITS = VideoLimits()


@dataclass(frozen=True, slots=True, eq=False)
class Clip:
    """An open file whose header was judged.

    Attributes:
        container: to read packets from.
        content_type: by the magic bytes.
        pictures: the first stream of moving pictures; None in a sound.
        sound: the first stream of sound, if there is one that can be decoded.
        size: of the file, in bytes.
    """

    container: "InputContainer"
    content_type: str
    pictures: "VideoStream | None"
    sound: "AudioStream | None"
    size: int

    def streams(self) -> "tuple[Stream, ...]":
        """The one or two streams that are read; all others are skipped."""
        return tuple(stream for stream in (self.pictures, self.sound) if stream is not None)


@contextmanager
def opened(path: Path, kind: str, limits: VideoLimits) -> Iterator[Clip]:
    """Open a local file after its magic bytes and its header were judged; nothing is decoded yet.

    Args:
        path: a local file.
        kind: "video" or "audio", whichever is needed.
        limits: pictures above them are refused by the decoders, too.

    Raises:
        InvalidInput: `not_media`, `unsupported` or `corrupt`; also for what FFmpeg raises while the clip is open.
        TooLarge: the header announces more than the limits.
    """
    with path.open("rb") as file, av_errors_are_ours():
        content_type = _sniffed(file.read(_SNIFFED_BYTES), kind)
        if _READERS[content_type] == "mov":
            _judge_claims(file, limits)
        size = file.seek(0, 2)
        file.seek(0)
        with _container(file, _READERS[content_type], limits) as container:
            yield _judged(container, content_type, size, kind, limits)


def quiet_av() -> "ModuleType":
    """PyAV, with FFmpeg's own log switched off: it would reach stderr, and where a callback is set, Python's log."""
    import av

    av.logging.set_level(None)
    return av


@contextmanager
def av_errors_are_ours() -> Iterator[None]:
    """Turn what FFmpeg raises into our own errors, without its words."""
    from av.error import FFmpegError

    try:
        yield
    except (FFmpegError, OSError) as error:  # a broken header can send the reader to places that no file has
        if isinstance(error, OSError) and error.errno in _STORAGE_TROUBLE:
            raise StorageFailed(
                "The video could not be stored.", hint="Check the results folder and the disk's space."
            ) from None
        message = "The file is broken or incomplete and cannot be decoded."
        raise InvalidInput(message, code="corrupt", hint="Save or download the file again.") from None


def codec_of(stream: "Stream") -> str:
    """The name of a stream's codec, such as "h264"; "unknown" when there is no decoder for it."""
    # A stream without a decoder has no context, which the type does not say.
    context = getattr(stream, "codec_context", None)
    return "unknown" if context is None else str(context.codec.canonical_name)


def turn_of(frame: "VideoFrame") -> tuple[tuple[int, ...], bool] | None:
    """How the picture must be turned to be upright.

    Returns:
        The display matrix (nine numbers, as FFmpeg has it) and whether it swaps width and height; None without one.
    """
    for data in cast("SideDataContainer", frame.side_data):  # which the type says wrongly
        if data.type.name == "DISPLAYMATRIX":
            matrix = struct.unpack("=9i", bytes(data)[:36])
            return matrix, abs(matrix[1]) > abs(matrix[0])
    return None


def frames_at(clip: Clip, first: "VideoFrame", times: Sequence[float]) -> "Iterator[VideoFrame]":
    """The frames that follow some times, or the last one before.

    Where a key frame stands nearer, what is between is skipped; where none does, at most 300 frames are decoded.

    Args:
        clip: whose file was read to its end once, so that its index is complete.
        first: its first frame, for a clip of which no other can be had.
        times: in seconds of the file, rising.
    """
    pictures = clip.pictures
    assert pictures is not None
    unit = pictures.time_base or Fraction(1, 1000)
    frame, frames = first, None
    for time in times:
        jump = frames is None or _key_before(pictures, time) > (frame.time or 0.0)
        if frames is None or jump:
            clip.container.seek(int(time / unit), stream=pictures)
            frames = _decoded(clip.container, pictures)
        if jump or (frame.time or 0.0) < time:
            for following in islice(frames, _FARTHEST):
                frame = following
                if (frame.time or 0.0) >= time:
                    break
        yield frame


def upright(frame: "VideoFrame", height: int | None = None) -> "Image.Image":
    """The frame as an RGB picture that stands upright.

    Args:
        frame: as it was decoded.
        height: of the picture in pixels, which is then at most four times as wide; None for its full size.
    """
    from PIL import Image
    from PIL.Image import Transpose

    turn = turn_of(frame)
    width, tall = (frame.height, frame.width) if turn and turn[1] else (frame.width, frame.height)
    scale = min(height / tall, _WIDEST * height / width) if height else 1.0
    size = max(round(frame.width * scale), 1), max(round(frame.height * scale), 1)
    pixels = frame.reformat(*size, "rgb24").to_ndarray()
    picture = Image.fromarray(pixels)
    turns = {
        (-1, 0, 0, 1): Transpose.FLIP_LEFT_RIGHT,
        (-1, 0, 0, -1): Transpose.ROTATE_180,
        (1, 0, 0, -1): Transpose.FLIP_TOP_BOTTOM,
        (0, 1, 1, 0): Transpose.TRANSPOSE,
        (0, 1, -1, 0): Transpose.ROTATE_270,
        (0, -1, -1, 0): Transpose.TRANSVERSE,
        (0, -1, 1, 0): Transpose.ROTATE_90,
    }
    signs = tuple((value > 0) - (value < 0) for value in (*turn[0][:2], *turn[0][3:5])) if turn else ()
    return picture.transpose(turns[signs]) if signs in turns else picture


def _decoded(container: "InputContainer", pictures: "VideoStream") -> "Iterator[VideoFrame]":
    """The frames from where the file is read now; what is broken in between is passed over, for people's eyes only."""
    from av.error import InvalidDataError

    for packet in container.demux(pictures):
        try:
            frames = pictures.decode(packet)
        except InvalidDataError:
            continue
        yield from frames


def _key_before(pictures: "VideoStream", time: float) -> float:
    """When the last key frame before a time stands, in seconds; minus infinity when the file's index does not tell."""
    unit = pictures.time_base or Fraction(1, 1000)
    found = pictures.index_entries.search_timestamp(int(time / unit))
    return float(pictures.index_entries[found].timestamp * unit) if found >= 0 else -math.inf


def _sniffed(head: bytes, kind: str) -> str:
    """The content type of a file that may hold the kind."""
    content_type = content_type_of(head)
    wanted = "A video" if kind == "video" else "A sound"
    # Many tools write sound alone under the brand of a video; whether it has pictures is seen once it is open.
    if content_type is not None and (is_video(content_type) or (is_audio(content_type) and kind == "audio")):
        return content_type
    if content_type is not None:
        found = {"image": "a picture", "audio": "a sound"}.get(content_type.partition("/")[0], "something else")
        message = f"{wanted} is needed, and this file is {found}."
        raise InvalidInput(message, code="unsupported", hint=_hint(kind))
    foreign = foreign_format(head)
    if foreign is not None:
        raise InvalidInput(f"Files of the format {foreign} are not read.", code="unsupported", hint=_hint(kind))
    raise InvalidInput(f"This is not {wanted.lower()}.", code="not_media", hint=_hint(kind))


def _hint(kind: str) -> str:
    return "Give an MP4, MOV or WEBM video." if kind == "video" else "Give an MP3, M4A or WAV sound."


def _judge_claims(file: BinaryIO, limits: VideoLimits) -> None:
    """Judge an MP4's header before FFmpeg builds its tables in memory."""
    claims = read_claims(file)
    if not claims.sane:
        message = "The header of the file is nested or packed in a way that is not read."
        raise InvalidInput(message, code="corrupt", hint="Save the video again with another program.")
    _judge_streams(claims.tracks, limits)
    _judge_size(claims.width, claims.height, limits)
    if claims.entries > _MOST_ENTRIES:
        message = f"The file announces {claims.entries} samples; at most {_MOST_ENTRIES} are read."
        raise TooLarge(message, hint="Give a shorter piece.")


def _container(file: BinaryIO, reader: str, limits: VideoLimits) -> "InputContainer":
    options = {
        "format_whitelist": _FORMATS,
        "protocol_whitelist": "file",
        "codec_whitelist": _DECODERS,
        "max_pixels": str(limits.megapixels * 1_100_000),  # decoders round sizes up to whole blocks
    }
    container: InputContainer = quiet_av().open(
        file, "r", format=reader, options=options, metadata_errors="replace", buffer_size=_BUFFER
    )
    return container


def _judged(container: "InputContainer", content_type: str, size: int, kind: str, limits: VideoLimits) -> Clip:
    """The streams to read, once the header keeps the limits."""
    _judge_streams(len(container.streams), limits)
    judge_time((container.duration or 0) / 1e6, limits)
    pictures = _first_pictures(container, kind)
    sound = next((stream for stream in container.streams.audio if codec_of(stream) in _SOUND_CODECS), None)
    if pictures is not None:
        _judge_frames(pictures, limits)
        pictures.codec_context.options = {"max_pixels": str(limits.megapixels * 1_100_000)}
        pictures.thread_type, pictures.thread_count = "AUTO", _THREADS
    for stream in container.streams:
        if stream is not pictures and stream is not sound:
            stream.discard = type(stream.discard).all
    return Clip(container, content_type, pictures, sound, size)


def _first_pictures(container: "InputContainer", kind: str) -> "VideoStream | None":
    """The first stream of moving pictures; the cover of a sound is none."""
    from av.stream import Disposition

    moving = [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]
    if kind == "audio":
        if moving:
            message = "A sound is needed, and this file is a video."
            raise InvalidInput(message, code="unsupported", hint=_hint(kind))
        return None
    if not moving:
        message = "A video is needed, and this file has no moving pictures."
        raise InvalidInput(message, code="unsupported", hint=_hint(kind))
    if codec_of(moving[0]) not in _PICTURE_CODECS:
        message = "The pictures of this video are in a codec that is not read."
        raise InvalidInput(message, code="unsupported", hint="Save it as an MP4 with H.264.")
    return moving[0]


def _judge_streams(number: int, limits: VideoLimits) -> None:
    if number > limits.streams:
        message = f"The file has {number} tracks; at most {limits.streams} are read."
        raise TooLarge(message, hint="Save it with one track of pictures and one of sound.")


def _judge_frames(pictures: "VideoStream", limits: VideoLimits) -> None:
    context = pictures.codec_context
    _judge_size(context.width, context.height, limits)
    judge_count(pictures.frames, limits)


def _judge_size(width: int, height: int, limits: VideoLimits) -> None:
    if max(width, height) > limits.side:
        message = f"The video is {width} x {height} pixels; at most {limits.side} along a side are read."
        raise TooLarge(message, hint="Give a smaller version of the video.")
    if width * height > limits.megapixels * 1_000_000:
        message = (
            f"A frame of the video has {width * height / 1e6:.1f} megapixels; at most {limits.megapixels} are read."
        )
        raise TooLarge(message, hint="Give a smaller version of the video.")


def judge_time(seconds: float, limits: VideoLimits) -> None:
    """Refuse what lasts too long."""
    if seconds > limits.seconds:
        message = f"The file lasts {seconds:.0f} seconds; at most {limits.seconds} are read."
        raise TooLarge(message, hint="Give a shorter piece.")


def judge_count(frames: int, limits: VideoLimits) -> None:
    """Refuse what has too many frames."""
    if frames > limits.frames:
        message = f"The video has {frames} frames or more; at most {limits.frames} are read."
        raise TooLarge(message, hint="Give a shorter piece.")
