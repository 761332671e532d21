"""Mask videos: which pixels each frame selects, and the same video in black and white.

| the video | selected is |
| --- | --- |
| black and white, or black and one flat colour | what is brighter than half of its brightest, by any channel |
| partly transparent, and its colours are no mask of their own | what is opaque |
| partly transparent, and its colours are another mask | what the colours select |

Models ignore transparency and expect black and white: a mask video that is not, or that is not of the size of the
video that it covers, is replaced by one that is before it is sent.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from rotoscope.errors import InvalidInput
from rotoscope.media.video.frames import is_hidden_frame, rotate_upright, square_pixel_size, turn_of
from rotoscope.media.video.limits import (
    DEFAULT_VIDEO_LIMITS,
    VideoLimits,
    check_decode_effort,
    choose_encoder_settings,
)
from rotoscope.media.video.opening import ALPHA_MODE_TAG, OpenClip, codec_of, import_av, max_pixels_option, open_clip
from rotoscope.media.video.probing import count_video, video_stream_of
from rotoscope.media.video.remux import add_mask_track, open_output, remove_on_failure
from rotoscope.workers.limits import request_cpu_seconds

if TYPE_CHECKING:
    import numpy as np
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from numpy.typing import NDArray
    from PIL.Image import Transpose

    from rotoscope.media.image.masks import Mask

    Pixels = NDArray[np.uint8]

__all__ = ["MaskFilm", "read_film_masks", "read_grey_frames", "read_mask_film", "read_transparency", "write_mask_film"]

_MAX_SIDE = 1280  # pixels along the longer side at which masks are read: no model works at more
_DARK, _BRIGHT = 48, 208  # of 255: values between are neither black nor white, as at soft and compressed edges
_HALF, _WHITE = 128, 255  # of 255
_MIN_BRIGHTNESS = 64  # of 255: where no value is higher, nothing is selected
_STRAY_SHARE = 0.0002  # part of a frame: so many brightest pixels may be stray
_COLOUR_DISTANCE = 64  # of 255: a pixel whose channels differ by more is coloured
_COLOURED_SHARE = 0.001  # part of a frame: with more coloured pixels it is coloured
_MAX_GREY_SHARE = 0.25  # part of a frame of a mask that may lie between dark and bright
_SAME_COLOUR_DISTANCE = 40  # of 255: a pixel is of another colour when a channel differs by more
_MAX_UNEVEN_SHARE = 0.15  # part of the bright pixels of a mask that may be of another colour
_BRIGHT_TOLERANCE = 0.16  # part of the brightest value by which a bright pixel may be darker
_CHECKED_FRAMES = 5  # first frames whose greys and colours decide whether it is a mask
_SAME_MASK_SHARE = 0.01  # part of a frame by which two masks may differ and count as equal
_RGBA_CHANNELS = 4
_RESULT_LIMITS = replace(DEFAULT_VIDEO_LIMITS, effort_seconds=60.0)  # what was paid for is read, however long it takes
_CPU_MARGIN = 4  # times the work to decode: the pixels are also read, and the machine may be slower
_ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}

MaskSource = Literal["light", "alpha"]


@dataclass(frozen=True, slots=True)
class MaskFilm:
    """What a mask video selects, and how it is written.

    Attributes:
        source: whether its brightness or its transparency is the mask.
        top: the brightest value in it, 0 to 255.
        coloured: whether it is in a colour.
        conflict: whether it is also partly transparent, and that is another mask.
        greys: the largest part of one of the first frames that is neither dark nor bright, 0 to 1.
        uneven: the largest part of the bright pixels of one of the first frames that is of another colour, 0 to 1.
        least: the smallest part of a frame that is selected, 0 to 1.
        most: the largest part of a frame that is selected, 0 to 1.
        frames: how many frames were read.
        at_all_borders: whether what is selected touches all four borders of a frame.
    """

    source: MaskSource
    top: int
    coloured: bool
    conflict: bool
    greys: float
    uneven: float
    least: float
    most: float
    frames: int
    at_all_borders: bool

    @property
    def is_plain(self) -> bool:
        """Whether its brightness alone, above half, gives the same mask."""
        return self.source == "light" and not self.coloured and (self.top >= _BRIGHT or self.top < _MIN_BRIGHTNESS)

    @property
    def is_mask(self) -> bool:
        """Whether it is a mask and not an ordinary video."""
        return self.greys <= _MAX_GREY_SHARE and self.uneven <= _MAX_UNEVEN_SHARE

    @property
    def threshold(self) -> int:
        """The lowest value of a selected pixel, 0 to 255."""
        return _HALF if self.source == "alpha" else _threshold_for(self.top)


def read_mask_film(path: Path, most: int) -> MaskFilm:
    """What a mask video selects, by its first frames.

    Args:
        path: a local file.
        most: how many frames are decoded at most.

    Raises:
        InvalidInput: as for `probe_video`; or its transparency cannot be read.
        TooLarge: as for `probe_video`, or it takes too long to read.
    """
    light, alpha = _Histograms(), _Histograms()
    coloured = apart = False
    uneven = 0.0
    for _, pixels, _ in _read_pixels(path, most):
        values = _max_channel(pixels)
        light.add(values)
        uneven = max(uneven, _off_colour_share(pixels, values)) if len(light.frames) <= _CHECKED_FRAMES else uneven
        coloured = coloured or _is_coloured(pixels, values)
        if pixels.shape[2] == _RGBA_CHANNELS:
            alpha.add(pixels[:, :, 3])
            apart = apart or bool(((values >= _HALF) != (pixels[:, :, 3] >= _HALF)).mean() > _SAME_MASK_SHARE)
    top = light.brightest_value()
    shown = light.shares_above(_threshold_for(top))
    opaque = alpha.shares_above(_HALF)
    by_light = MaskFilm(
        "light",
        top,
        coloured,
        False,
        light.grey_share(top),
        uneven,
        *_min_and_max(shown),
        len(shown),
        light.border >= _threshold_for(top),
    )
    if not opaque or min(opaque) == 1:
        return by_light
    if apart and by_light.is_mask and by_light.most > 0 and by_light.least < 1:
        return replace(by_light, conflict=True)
    return MaskFilm(
        "alpha",
        _WHITE,
        coloured,
        False,
        alpha.grey_share(_WHITE),
        0.0,
        *_min_and_max(opaque),
        len(opaque),
        alpha.border >= _HALF,
    )


def read_transparency(path: Path) -> MaskFilm | None:
    """What a partly transparent mask video selects; None where nothing is transparent.

    Raises:
        InvalidInput: as for `read_mask_film`.
        TooLarge: as for `read_mask_film`.
    """
    with open_clip(path, "video", DEFAULT_VIDEO_LIMITS) as clip:
        if not clip.transparent:
            return None
        facts, _, _ = count_video(clip, DEFAULT_VIDEO_LIMITS)
    film = read_mask_film(path, facts.frames)
    return film if film.source == "alpha" or film.conflict else None


def write_mask_film(path: Path, target: Path, film: MaskFilm, size: tuple[int, int], *, inverted: bool = False) -> None:
    """Write a mask video in black and white: white where it selects; without smoothing, frames keep their times.

    Args:
        path: a local file.
        target: where to write; nothing is left there when this fails.
        film: what `read_mask_film` found.
        size: width and height of the new video, in pixels; made even.
        inverted: whether it is black where it selects, and white elsewhere.

    Raises:
        InvalidInput: as for `probe_video`.
        TooLarge: as for `probe_video`, or it takes too long to write.
        StorageFailed: the target cannot be written.
    """
    import numpy as np
    from PIL import Image

    with open_clip(path, "video", DEFAULT_VIDEO_LIMITS) as clip:
        facts, first, _ = count_video(clip, DEFAULT_VIDEO_LIMITS)
    even = size[0] + size[0] % 2, size[1] + size[1] % 2
    _, work = choose_encoder_settings(
        (first.width, first.height), even, facts.frames, facts.codec, DEFAULT_VIDEO_LIMITS
    )
    request_cpu_seconds(_CPU_MARGIN * work)
    rate = Fraction(facts.frame_rate).limit_denominator(1001)
    with remove_on_failure(target), open_output(target, "mp4") as into:
        track = add_mask_track(into, even, rate)
        for frame, pixels, turn in _read_pixels(path, facts.frames):
            values = _max_channel(pixels) if film.source == "light" else pixels[:, :, 3]
            white = (values >= film.threshold) != inverted
            picture = Image.fromarray(white.astype(np.uint8) * _WHITE)
            shown = rotate_upright(picture, turn).resize(even, Image.Resampling.NEAREST)
            into.mux(track.encode(_make_grey_frame(np.asarray(shown), frame)))
        into.mux(track.encode(None))


def read_grey_frames(path: Path, most: int) -> "Iterator[Pixels]":
    """The frames of a mask video from its start, upright, in grey: bright where selected.

    Args:
        path: a local file.
        most: how many frames are decoded at most.

    Returns:
        Arrays of height x width, at most 1280 pixels along a side; 128 of 255 and more is selected.

    Raises:
        InvalidInput: as for `probe_video`, while the frames are read.
        TooLarge: as for `probe_video`.
    """
    import numpy as np
    from PIL import Image

    film = read_mask_film(path, most)
    scale = _HALF / film.threshold
    for _, pixels, turn in _read_pixels(path, most):
        values = _max_channel(pixels) if film.source == "light" else pixels[:, :, 3]
        bright = np.minimum(values * scale, _WHITE).astype(np.uint8)
        yield np.asarray(rotate_upright(Image.fromarray(bright), turn))


def read_film_masks(path: Path, film: MaskFilm, most: int) -> "Iterator[tuple[float, Mask]]":
    """The masks of a mask video in its own size, upright, each with its time in seconds.

    Args:
        path: a local file.
        film: what `read_mask_film` found.
        most: how many frames are decoded at most.

    Raises:
        InvalidInput: as for `probe_video`, while the frames are read.
    """
    import numpy as np
    from PIL import Image

    for frame, pixels, turn in _read_pixels(path, most, side=DEFAULT_VIDEO_LIMITS.side, limits=_RESULT_LIMITS):
        values = _max_channel(pixels) if film.source == "light" else pixels[:, :, 3]
        white = Image.fromarray((values >= film.threshold).astype(np.uint8))
        yield frame.time or 0.0, np.asarray(rotate_upright(white, turn)).astype(np.bool_)


@dataclass(slots=True)
class _Histograms:
    """How often each value from 0 to 255 occurs in each frame, as parts of the frame."""

    frames: "list[NDArray[np.float64]]" = field(default_factory=list)
    border: int = 0  # the largest value that all four borders of one of the frames reach

    def add(self, values: "Pixels") -> None:
        import numpy as np

        self.frames.append(np.bincount(values.reshape(-1), minlength=_WHITE + 1) / values.size)
        borders = values[0], values[-1], values[:, 0], values[:, -1]
        self.border = max(self.border, min(int(border.max()) for border in borders))

    def brightest_value(self) -> int:
        """The brightest value, without stray pixels."""
        import numpy as np

        brightest = 0
        for frame in self.frames:
            brightest = max(brightest, int(np.argmax(np.cumsum(frame) >= 1 - _STRAY_SHARE)))
        return brightest

    def grey_share(self, top: int) -> float:
        low, high = _DARK * top // _WHITE, _BRIGHT * top // _WHITE
        return max((float(frame[low + 1 : high].sum()) for frame in self.frames[:_CHECKED_FRAMES]), default=0.0)

    def shares_above(self, threshold: int) -> list[float]:
        return [float(frame[threshold:].sum()) for frame in self.frames]


def _min_and_max(shares: list[float]) -> tuple[float, float]:
    return min(shares, default=0.0), max(shares, default=0.0)


def _threshold_for(top: int) -> int:
    return _HALF if top < _MIN_BRIGHTNESS or top >= _BRIGHT else top // 2 + 1


def _max_channel(pixels: "Pixels") -> "Pixels":
    import numpy as np

    return np.maximum(np.maximum(pixels[:, :, 0], pixels[:, :, 1]), pixels[:, :, 2])


def _off_colour_share(pixels: "Pixels", brightest: "Pixels") -> float:
    """The part of the bright pixels whose colour differs from their median."""
    import numpy as np

    colours = pixels[:, :, :3][brightest >= (1 - _BRIGHT_TOLERANCE) * max(int(brightest.max()), _MIN_BRIGHTNESS)]
    if not colours.size:
        return 0.0
    usual = np.median(colours, axis=0).astype(np.int16)
    return float((np.abs(colours - usual) > _SAME_COLOUR_DISTANCE).any(axis=1).mean())


def _is_coloured(pixels: "Pixels", brightest: "Pixels") -> bool:
    import numpy as np

    darkest = np.minimum(np.minimum(pixels[:, :, 0], pixels[:, :, 1]), pixels[:, :, 2])
    return bool((brightest - darkest > _COLOUR_DISTANCE).mean() > _COLOURED_SHARE)


def _read_pixels(
    path: Path, most: int, *, side: int = _MAX_SIDE, limits: VideoLimits | None = None
) -> "Iterator[tuple[VideoFrame, Pixels, Transpose | None]]":
    """The first shown frames with their pixels, RGB or RGBA, with square pixels, and how these are turned upright."""
    with open_clip(path, "video", DEFAULT_VIDEO_LIMITS) as clip:
        pictures = video_stream_of(clip)
        context = pictures.codec_context
        work = check_decode_effort(
            (context.width, context.height),
            min(most, pictures.frames or most),
            codec_of(pictures),
            limits or DEFAULT_VIDEO_LIMITS,
        )
        request_cpu_seconds(_CPU_MARGIN * work)
        turn = None
        for number, frame in enumerate(islice(_decode_mask_frames(clip), most)):
            turn = turn_of(frame) if number == 0 else turn
            width, height = square_pixel_size(frame.width, frame.height, clip.aspect)
            scale = min(side / max(width, height), 1.0)
            form = "rgba" if _has_alpha(frame) else "rgb24"
            size = max(round(width * scale), 1), max(round(height * scale), 1)
            yield frame, cast("Pixels", frame.reformat(*size, form, threads=1).to_ndarray()), turn


def _decode_mask_frames(clip: OpenClip) -> "Iterator[VideoFrame]":
    """The shown frames; in WebM, transparency is a second video beside the frames."""
    pictures = video_stream_of(clip)
    if pictures.metadata.get(ALPHA_MODE_TAG) != "1":
        frames = (frame for packet in clip.container.demux(pictures) for frame in pictures.decode(packet))
    else:
        decode = _make_alpha_decoder(codec_of(pictures))
        # The empty packet at the end makes the decoder give what it still holds.
        frames = (
            frame for packet in clip.container.demux(pictures) for frame in decode(packet if packet.size else None)
        )
    return (frame for frame in frames if not is_hidden_frame(frame))


def _make_alpha_decoder(codec: str) -> "Callable[[Packet[Any] | None], list[VideoFrame]]":
    av = import_av()
    try:
        context = av.CodecContext.create(_ALPHA_DECODERS[codec], "r")
    except (KeyError, av.codec.codec.UnknownCodecError):
        raise InvalidInput(
            "The mask film is transparent, and its transparency is not read here.",
            code="unsupported",
            hint="Give a film that is white where the video is to be edited, and black elsewhere.",
        ) from None
    context.options = {"max_pixels": max_pixels_option(DEFAULT_VIDEO_LIMITS)}
    context.thread_count = 1
    return cast("Callable[[Packet[Any] | None], list[VideoFrame]]", context.decode)


def _has_alpha(frame: "VideoFrame") -> bool:
    return any(part.is_alpha for part in frame.format.components)


def _make_grey_frame(values: "Pixels", frame: "VideoFrame") -> "VideoFrame":
    """A frame of grey values with the time of another frame."""
    av = import_av()
    drawn: VideoFrame = av.VideoFrame.from_ndarray(values, format="gray").reformat(format="yuv420p", threads=1)
    drawn.pts = max(frame.pts or 0, 0)
    if frame.time_base is not None:
        drawn.time_base = frame.time_base
    return drawn
