"""Films that are read side by side: frames by their number, and the masks that belong to them.

A frame has the number that its time has among the times of all shown frames. So a frame that cannot be decoded is
missing and moves no other one. Each film is read once from its start, and one frame of it is held at a time.
"""

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, cast

from rotoscope.errors import InvalidInput
from rotoscope.media.edits.limits import MAX_FRAMES
from rotoscope.media.video.frames import is_hidden_frame, is_hidden_packet, is_sideways, square_pixel_size, turn_of
from rotoscope.media.video.limits import DEFAULT_VIDEO_LIMITS, VideoLimits, check_packet_count
from rotoscope.media.video.opening import OpenClip, open_clip
from rotoscope.media.video.probing import VideoFacts, count_video, video_stream_of

if TYPE_CHECKING:
    import numpy as np
    from av.packet import Packet
    from av.stream import Stream
    from av.video.frame import VideoFrame
    from numpy.typing import NDArray
    from PIL.Image import Transpose

    from rotoscope.media.image.masks import Mask

    Pixels = NDArray[np.uint8]

__all__ = [
    "EDIT_LIMITS",
    "NO_MASK",
    "FilmShape",
    "FrameReader",
    "GivenMask",
    "MaskReader",
    "ShownFrame",
    "read_film_shape",
]

EDIT_LIMITS = replace(DEFAULT_VIDEO_LIMITS, effort_seconds=30.0)
"""What films of an edit may be: as everywhere, with more work, because what was paid for is measured."""
_SELECTED = 128  # of 255
_SAME_RATE_SHARE = 0.01  # frame rates that differ by at most this part count as equal: they are rounded in headers


@dataclass(frozen=True, slots=True)
class FilmShape:
    """What a film is, and when each shown frame begins.

    Attributes:
        facts: what it is.
        stamps: the time stamps of its shown frames, ascending, in units of its track.
        unit: of the time stamps, in seconds.
        turn: how its frames are turned upright; None: they are.
    """

    facts: VideoFacts
    stamps: tuple[int, ...]
    unit: Fraction
    turn: "Transpose | None" = None

    @property
    def times(self) -> list[float]:
        """When each shown frame begins, in seconds from the first one."""
        return [float((stamp - self.stamps[0]) * self.unit) for stamp in self.stamps]

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the upright picture, in square pixels."""
        return self.facts.width, self.facts.height


def read_film_shape(path: Path, limits: VideoLimits = EDIT_LIMITS) -> FilmShape:
    """Read what a film is; nothing but its first frame is decoded.

    Raises:
        InvalidInput: as for `probe_video`.
        TooLarge: as for `probe_video`.
    """
    with open_clip(path, "video", limits) as clip:
        facts, first, _ = count_video(clip, limits)
        turn = turn_of(first)
    with open_clip(path, "video", limits) as clip:
        pictures = video_stream_of(clip)
        stamps = set[int]()
        packets = cast("Iterator[Packet[Stream]]", clip.container.demux(pictures))
        for number, packet in enumerate(packets):
            check_packet_count(number, limits)
            if packet.size and packet.pts is not None and not packet.is_corrupt and not is_hidden_packet(packet):
                stamps.add(packet.pts)
        if not stamps:
            raise InvalidInput("The film's frames have no times.", code="corrupt", hint="Save the film again.")
        return FilmShape(facts, tuple(sorted(stamps)), pictures.time_base or Fraction(1, 1000), turn)


@dataclass(frozen=True, slots=True)
class ShownFrame:
    """A frame of a film, the aspect of its pixels, and how it is turned upright."""

    frame: "VideoFrame"
    aspect: Fraction
    turn: "Transpose | None"

    def stored_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Width and height of a size before it is turned."""
        return (size[1], size[0]) if is_sideways(self.turn) else size

    def turn_upright(self, stored: "Pixels") -> "Pixels":
        """Pixels of the frame, or one plane of them, turned upright."""
        if self.turn is None:
            return stored
        import numpy as np
        from PIL import Image

        return np.array(Image.fromarray(stored).transpose(self.turn))

    def picture(self, size: tuple[int, int] | None = None) -> "Pixels":
        """The frame as upright RGB in square pixels: height x width x 3.

        Args:
            size: width and height that it is scaled to; None: its own.
        """
        across = square_pixel_size(self.frame.width, self.frame.height, self.aspect)
        width, height = across if size is None else self.stored_size(size)
        stored = self.frame.reformat(width, height, "rgb24", interpolation="AREA", threads=1)
        return self.turn_upright(cast("Pixels", stored.to_ndarray()))


class FrameReader:
    """The frames of a film by their number, in ascending order.

    Args:
        path: a local file.
        shape: what is known of it.
    """

    def __init__(self, path: Path, shape: FilmShape) -> None:
        self._turn = shape.turn
        self._numbers = {stamp: number for number, stamp in enumerate(shape.stamps)}
        self._frames = self._read_frames(path)
        self._current: tuple[int, ShownFrame] | None = None

    def frame(self, number: int) -> ShownFrame | None:
        """A frame; None where it cannot be decoded. Numbers never go down.

        Raises:
            InvalidInput: the file is broken.
        """
        while self._current is None or self._current[0] < number:
            self._current = next(self._frames, None)
            if self._current is None:
                return None
        return self._current[1] if self._current[0] == number else None

    def close(self) -> None:
        """Close the file."""
        self._frames.close()

    def _read_frames(self, path: Path) -> "Generator[tuple[int, ShownFrame]]":
        with open_clip(path, "video", EDIT_LIMITS) as clip:
            last = -1
            for frame in _decode_shown_frames(clip):
                number = self._numbers.get(frame.pts, -1) if frame.pts is not None else last + 1
                if number > last:
                    last = number
                    yield number, ShownFrame(frame, clip.aspect, self._turn)


def _decode_shown_frames(clip: OpenClip) -> "Iterator[VideoFrame]":
    """The shown frames; those that are broken are skipped."""
    from av.error import InvalidDataError

    pictures = video_stream_of(clip)
    for packet in clip.container.demux(pictures):
        try:
            frames = pictures.decode(packet)
        except InvalidDataError:
            continue
        yield from (frame for frame in frames if not is_hidden_frame(frame))


@dataclass(frozen=True, slots=True)
class GivenMask:
    """The mask of an edit: its file (None: there is none, and nothing is selected), whether it is a film, and whether
    black is what it selects.
    """

    path: Path | None
    is_film: bool
    is_inverted: bool = False


NO_MASK = GivenMask(None, is_film=True)
"""The mask of an edit that was given none: all of every frame is outside of it."""


class MaskReader:
    """The masks of a film's frames, by the frames' numbers, in ascending order.

    A mask picture is that of the first frame alone. The last mask of a film stays where the film that it covers is
    longer. Frames are paired by their number where both have one frame rate, else by their times.

    Args:
        mask: the mask.
        film: what it covers.

    Raises:
        InvalidInput: as for `probe_video`.
        TooLarge: as for `probe_video`.
    """

    def __init__(self, mask: GivenMask, film: FilmShape) -> None:
        self._mask, self._size = mask, film.size
        self._number_of = _mask_numbers(mask, film)
        self._greys: Iterator[Pixels] | None = None
        self._at = -1
        self._held: Mask | None = None

    def mask(self, number: int) -> "Mask | None":
        """The mask of a frame of the film, of the film's size; None where it is not known.

        Raises:
            InvalidInput: it is no mask.
            TooLarge: it takes too long to read.
        """
        if self._mask.path is None:
            return _select_nothing(self._size)
        if not self._mask.is_film:
            if self._held is None:
                self._held = _fit(_read_picture_mask(self._mask), self._size)
            return self._held if number == 0 else None
        wanted = self._number_of(number)
        if self._greys is None:
            from rotoscope.media.video.mask_videos import read_grey_frames

            self._greys = read_grey_frames(self._mask.path, MAX_FRAMES)
        grey = None
        while self._at < wanted and (following := next(self._greys, None)) is not None:
            grey, self._at = following, self._at + 1
        if grey is not None:
            self._held = _fit((grey >= _SELECTED) != self._mask.is_inverted, self._size)
        return self._held


def _mask_numbers(mask: GivenMask, film: FilmShape) -> Callable[[int], int]:
    """From the number of a film's frame to that of the mask film's frame."""
    if not mask.is_film or mask.path is None:
        return int
    covering = read_film_shape(mask.path)
    rates = covering.facts.frame_rate, film.facts.frame_rate
    if abs(rates[0] - rates[1]) <= _SAME_RATE_SHARE * max(rates):
        return int
    times = film.times
    return lambda number: round(times[number] * rates[0])


def _read_picture_mask(mask: GivenMask) -> "Mask":
    from rotoscope.media.image.mask_reader import read_mask
    from rotoscope.media.image.masks import not_a_mask_error
    from rotoscope.media.image.pictures import decode_upright

    assert mask.path is not None
    read = read_mask(decode_upright(mask.path.read_bytes(), exact=True))
    if read is None:
        raise not_a_mask_error()
    selected: Mask = read.mask != mask.is_inverted
    return selected


def _select_nothing(size: tuple[int, int]) -> "Mask":
    import numpy as np

    return np.zeros((size[1], size[0]), np.bool_)


def _fit(mask: "Mask", size: tuple[int, int]) -> "Mask":
    import cv2
    import numpy as np

    if mask.shape == (size[1], size[0]):
        return mask
    fitted = cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
    return np.asarray(fitted, np.bool_)
