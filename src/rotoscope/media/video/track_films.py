"""The films of an object that was followed through a clip: its mask, and the clip with the mask painted on it.

A mask film is H.264 as every browser plays it. It is written in good quality first, and each frame is then compared
with the mask that was meant: where a pixel would be read otherwise, the film is written again, the second time with so
fine a quantizer that no pixel is off by more than a level or two. x264's lossless mode is the last resort alone: not
every browser plays its profile. Pixels near the threshold count as differences, so that every reader gets the mask.
"""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rotoscope.media.video.frames import is_hidden_frame, turn_of, turned_picture
from rotoscope.media.video.limits import DEFAULT_VIDEO_LIMITS, VideoLimits
from rotoscope.media.video.opening import import_av, open_clip
from rotoscope.media.video.probing import video_stream_of
from rotoscope.media.video.remux import add_track, open_output, remove_on_failure

if TYPE_CHECKING:
    import numpy as np
    from av.container import OutputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream
    from numpy.typing import NDArray
    from PIL import Image
    from PIL.Image import Transpose

    from rotoscope.media.image.masks import Mask

__all__ = [
    "MASK_QUALITIES",
    "ClipFrame",
    "FrameClock",
    "TrackFilm",
    "mask_digest",
    "read_clip_frames",
    "read_clip_turn",
    "verify_mask_film",
]

MASK_QUALITIES: Sequence[dict[str, str]] = (
    {"preset": "ultrafast", "crf": "8"},
    {"preset": "ultrafast", "qp": "1"},
    {"preset": "ultrafast", "qp": "0"},
)
"""x264's settings for a mask film, tried in this order."""
_OVERLAY_QUALITY = {"preset": "veryfast", "crf": "20"}
_DARK, _BRIGHT = 110, 146  # of 255: luma between these is too near to every reader's threshold


@dataclass(frozen=True, slots=True)
class FrameClock:
    """When a frame is shown: in units of the file, and in seconds from its start."""

    pts: int
    unit: Fraction

    @property
    def seconds(self) -> float:
        """Seconds from the start of the file."""
        return float(self.pts * self.unit)


@dataclass(frozen=True, slots=True, eq=False)
class ClipFrame:
    """A frame of a clip: upright, and when it is shown."""

    picture: "Image.Image"
    clock: FrameClock


def read_clip_frames(path: Path, limits: VideoLimits = DEFAULT_VIDEO_LIMITS) -> Iterator[ClipFrame]:
    """The shown frames of a clip, one after the other.

    Args:
        path: a clip that was admitted, and so is not too large (`media.video.limits.check_track_pixels`).
        limits: for opening it.

    Raises:
        InvalidInput: as for `probe_video`, while the frames are read.
    """
    with open_clip(path, "video", limits) as clip:
        pictures = video_stream_of(clip)
        unit = pictures.time_base or Fraction(1, 90_000)
        frames = (frame for packet in clip.container.demux(pictures) for frame in pictures.decode(packet))
        turn = None
        for number, frame in enumerate(frame for frame in frames if not is_hidden_frame(frame)):
            turn = turn_of(frame) if number == 0 else turn
            yield ClipFrame(turned_picture(frame, clip.aspect, turn), FrameClock(max(frame.pts or 0, 0), unit))


def read_clip_turn(path: Path, limits: VideoLimits = DEFAULT_VIDEO_LIMITS) -> "Transpose | None":
    """How a picture of a clip as it is stored becomes upright; None where it is stored so.

    Raises:
        InvalidInput: as for `probe_video`.
    """
    with open_clip(path, "video", limits) as clip:
        frame = next(iter(clip.container.decode(video_stream_of(clip))), None)
        return None if frame is None else turn_of(frame)


class TrackFilm:
    """Writes a film of the size of a clip frame by frame; a context manager that finishes the file, or removes it.

    Where a side is odd, the film is one pixel larger, and the last row or column is repeated: H.264 has even sides.

    Args:
        path: the file.
        size: width and height of the clip in pixels.
        rate: frames a second.
        quality: x264's settings; None: those of an overlay.
    """

    def __init__(
        self, path: Path, size: tuple[int, int], rate: Fraction, quality: dict[str, str] | None = None
    ) -> None:
        self.path = path
        self._size = size[0] + size[0] % 2, size[1] + size[1] % 2
        self._rate, self._quality = rate, quality or _OVERLAY_QUALITY
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(remove_on_failure(self.path))
            self._into: OutputContainer = stack.enter_context(open_output(self.path, "mp4"))
            self._track: VideoStream = add_track(self._into, self._size, self._rate, self._quality)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        if problem is None:
            with self._stack:
                self._into.mux(self._track.encode(None))
        else:
            self._stack.__exit__(kind, problem, trace)

    def write(self, pixels: "NDArray[np.uint8]", clock: FrameClock) -> None:
        """Add a frame: height x width of grey, or height x width x 3 of RGB."""
        import numpy as np

        edge = [(0, self._size[1] - pixels.shape[0]), (0, self._size[0] - pixels.shape[1])]
        padded = np.pad(pixels, [*edge, (0, 0)][: pixels.ndim], mode="edge")
        form = "gray" if pixels.ndim == 2 else "rgb24"  # noqa: PLR2004 - a plane has two dimensions
        drawn: VideoFrame = import_av().VideoFrame.from_ndarray(np.ascontiguousarray(padded), format=form)
        shown = drawn.reformat(format="yuv420p", threads=1)
        shown.pts, shown.time_base = clock.pts, clock.unit
        self._into.mux(self._track.encode(shown))

    def write_mask(self, mask: "Mask", clock: FrameClock) -> None:
        """Add the frame of a mask: white where it selects."""
        import numpy as np

        self.write(mask.astype(np.uint8) * np.uint8(255), clock)


def mask_digest(mask: "Mask") -> bytes:
    """What tells a mask from any other."""
    import numpy as np

    return hashlib.blake2b(np.packbits(mask).tobytes(), digest_size=16).digest()


def verify_mask_film(path: Path, size: tuple[int, int], digests: Sequence[bytes]) -> bool:
    """Whether a mask film has, frame by frame, exactly the masks that were meant.

    Args:
        path: the film.
        size: width and height of the masks in pixels.
        digests: of every mask, in order.
    """
    import numpy as np

    width, height = size
    count = 0
    with open_clip(path, "video", DEFAULT_VIDEO_LIMITS) as clip:
        pictures = video_stream_of(clip)
        for packet in clip.container.demux(pictures):
            for frame in pictures.decode(packet):
                plane = np.asarray(frame.to_ndarray(format="yuv420p"), np.uint8)[:height, :width]
                bright = plane >= _BRIGHT
                is_clear = np.array_equal(bright, plane > _DARK)
                if count >= len(digests) or not is_clear or mask_digest(bright) != digests[count]:
                    return False
                count += 1
    return count == len(digests)
