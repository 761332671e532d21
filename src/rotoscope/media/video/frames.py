"""Frames as a player shows them: which are shown at all, how wide their pixels are, and which way is up.

A file may store frames narrower or wider than they are shown (its pixels are not square), and turned. What is measured,
shown and sent here is always what a player shows: the stored width is scaled by the aspect ratio of the pixels, the
height stays, and then the picture is turned.
"""

import math
import struct
from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import islice
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.sidedata.sidedata import SideDataContainer
    from av.stream import Stream
    from av.video.format import VideoFormat
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream
    from PIL import Image
    from PIL.Image import Transpose

__all__ = [
    "SQUARE",
    "bits_per_pixel",
    "display_matrix_of",
    "display_size",
    "frames_at",
    "is_hidden_frame",
    "is_hidden_packet",
    "is_sideways",
    "pixel_aspect",
    "rotate_upright",
    "square_pixel_size",
    "turn_of",
    "turned_picture",
    "upright_picture",
]

SQUARE = Fraction(1)
"""The aspect ratio of square pixels."""
_SQUARE_TOLERANCE = Fraction(1, 100)  # an aspect ratio this close to 1 counts as square: programs round sizes
_MAX_PIXEL_ASPECT = 8  # width over height, or the reverse; a file that claims more is wrong
_SEEK_PIXEL_BUDGET = 1_200_000_000  # pixels decoded to reach all frames of a poster or filmstrip: 3 to 7 s
_MAX_SEEK_FRAMES = 300  # frames decoded to reach one of them
_MAX_SCALED_ASPECT = 4  # width over height of a scaled picture


def pixel_aspect(stream: "VideoStream") -> Fraction:
    """The width of a stored pixel over its height; 1 where the file does not tell, tells nonsense, or nearly 1."""
    claimed = stream.sample_aspect_ratio
    if (
        not claimed
        or claimed <= 0
        or not Fraction(1, _MAX_PIXEL_ASPECT) <= claimed <= _MAX_PIXEL_ASPECT
        or abs(claimed - 1) <= _SQUARE_TOLERANCE
    ):
        return SQUARE
    return Fraction(claimed)


def square_pixel_size(width: int, height: int, aspect: Fraction) -> tuple[int, int]:
    """Width and height of a stored picture once its pixels are square."""
    return max(round(width * aspect), 1), height


def display_size(frame: "VideoFrame", aspect: Fraction) -> tuple[int, int]:
    """Width and height of a frame as it is shown: square pixels, upright."""
    width, height = square_pixel_size(frame.width, frame.height, aspect)
    turn = display_matrix_of(frame)
    return (height, width) if turn and turn[1] else (width, height)


def display_matrix_of(frame: "VideoFrame") -> tuple[tuple[int, ...], bool] | None:
    """How the picture must be turned to be upright.

    Returns:
        The display matrix (nine numbers, as FFmpeg has it) and whether it swaps width and height; None without one.
    """
    for data in cast("SideDataContainer", frame.side_data):  # the declared type is wrong
        if data.type.name == "DISPLAYMATRIX":
            matrix = struct.unpack("=9i", bytes(data)[:36])
            return matrix, abs(matrix[1]) > abs(matrix[0])
    return None


def bits_per_pixel(form: "VideoFormat") -> int:
    """How many bits one pixel takes in memory: each component in whole bytes, subsampled ones by their share."""
    bits = Fraction(0)
    for part in form.components:
        share = Fraction(form.chroma_width(64) * form.chroma_height(64), 64 * 64) if part.is_chroma else Fraction(1)
        bits += share * 8 * -(-part.bits // 8)
    return math.ceil(bits)


def is_hidden_packet(packet: "Packet[Stream]") -> bool:
    """Whether a player shows nothing of a packet: an edit list removes it, or it ends before the video begins."""
    if packet.is_discard:
        return True
    return packet.pts is not None and packet.pts < 0 and packet.pts + (packet.duration or 0) <= 0


def is_hidden_frame(frame: "VideoFrame") -> bool:
    """Whether a frame ends before the video begins; decoders themselves drop frames that an edit list removes."""
    return frame.pts is not None and frame.pts < 0 and frame.pts + (frame.duration or 0) <= 0


def frames_at(
    container: "InputContainer", pictures: "VideoStream", first: "VideoFrame", times: Sequence[float]
) -> "Iterator[VideoFrame]":
    """For each time the first frame at or after it, or else the last one before.

    Frames before the nearest key frame are skipped; then at most 300 frames are decoded, fewer where they are large.

    Args:
        container: an open file that was read to its end once, so that its index is complete.
        pictures: its video stream.
        first: its first frame, given where no other can be decoded.
        times: in seconds of the file, ascending.
    """
    unit = pictures.time_base or Fraction(1, 1000)
    share = _SEEK_PIXEL_BUDGET // (max(len(times), 1) * first.width * first.height)
    farthest = min(max(share, 1), _MAX_SEEK_FRAMES)
    frame, frames = first, None
    for time in times:
        jump = frames is None or _key_frame_time(pictures, time) > (frame.time or 0.0)
        if frames is None or jump:
            container.seek(int(time / unit), stream=pictures)
            frames = _decode_shown_frames(container, pictures, farthest)
        if jump or (frame.time or 0.0) < time:
            for following in islice(frames, farthest):
                frame = following
                if (frame.time or 0.0) >= time:
                    break
        yield frame


def upright_picture(frame: "VideoFrame", aspect: Fraction, height: int | None = None) -> "Image.Image":
    """The frame as an upright RGB picture with square pixels.

    Args:
        frame: as it was decoded.
        aspect: width over height of its pixels.
        height: of the picture in pixels, which is then at most four times as wide; None for its full size.
    """
    return turned_picture(frame, aspect, turn_of(frame), height)


def turned_picture(
    frame: "VideoFrame", aspect: Fraction, turn: "Transpose | None", height: int | None = None
) -> "Image.Image":
    """As `upright_picture`, for one of many frames of a film: how the film is turned was asked of its first frame.

    So no frame is tied into a cycle, see `turn_of`.
    """
    from PIL import Image

    width, tall = square_pixel_size(frame.width, frame.height, aspect)
    width, tall = (tall, width) if is_sideways(turn) else (width, tall)
    scale = min(height / tall, _MAX_SCALED_ASPECT * height / width) if height else 1.0
    across, down = square_pixel_size(frame.width, frame.height, aspect)
    size = max(round(across * scale), 1), max(round(down * scale), 1)
    return rotate_upright(Image.fromarray(frame.reformat(*size, "rgb24", threads=1).to_ndarray()), turn)


def is_sideways(turn: "Transpose | None") -> bool:
    """Whether a turn swaps width and height."""
    from PIL.Image import Transpose

    return turn in (Transpose.ROTATE_90, Transpose.ROTATE_270, Transpose.TRANSPOSE, Transpose.TRANSVERSE)


def rotate_upright(picture: "Image.Image", turn: "Transpose | None") -> "Image.Image":
    """A picture of a frame, turned upright as `turn_of` says."""
    return picture if turn is None else picture.transpose(turn)


def turn_of(frame: "VideoFrame") -> "Transpose | None":
    """How a picture of a frame is turned upright; None where it is.

    To look at it ties the frame into a cycle: its memory is free only when the collector of garbage has run. So of a
    film only the first frame is looked at.
    """
    from PIL.Image import Transpose

    turns: dict[tuple[int, ...], Transpose] = {
        (-1, 0, 0, 1): Transpose.FLIP_LEFT_RIGHT,
        (-1, 0, 0, -1): Transpose.ROTATE_180,
        (1, 0, 0, -1): Transpose.FLIP_TOP_BOTTOM,
        (0, 1, 1, 0): Transpose.TRANSPOSE,
        (0, 1, -1, 0): Transpose.ROTATE_270,
        (0, -1, -1, 0): Transpose.TRANSVERSE,
        (0, -1, 1, 0): Transpose.ROTATE_90,
    }
    turn = display_matrix_of(frame)
    signs = tuple((value > 0) - (value < 0) for value in (*turn[0][:2], *turn[0][3:5])) if turn else ()
    return turns.get(signs)


def _decode_shown_frames(container: "InputContainer", pictures: "VideoStream", most: int) -> "Iterator[VideoFrame]":
    """The shown frames from the current position on. Broken ones are skipped: this is for pictures that people look at.

    It ends after `most` packets without a shown frame, because hidden frames cost as much as others.
    """
    from av.error import InvalidDataError

    since = 0
    for packet in container.demux(pictures):
        since += 1
        try:
            frames = [frame for frame in pictures.decode(packet) if not is_hidden_frame(frame)]
        except InvalidDataError:
            continue
        if frames:
            since = 0
        elif since > most:
            return
        yield from frames


def _key_frame_time(pictures: "VideoStream", time: float) -> float:
    """The time of the last key frame before a time, in seconds; minus infinity when the index has none."""
    unit = pictures.time_base or Fraction(1, 1000)
    found = pictures.index_entries.search_timestamp(int(time / unit))
    return float(pictures.index_entries[found].timestamp * unit) if found >= 0 else -math.inf
