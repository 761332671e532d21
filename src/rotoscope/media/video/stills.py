"""Pictures of a video, as a player shows it: its first frame, a poster, a filmstrip."""

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from rotoscope.media.video.frames import frames_at, is_hidden_frame, turn_of, turned_picture, upright_picture
from rotoscope.media.video.limits import DEFAULT_VIDEO_LIMITS, check_decode_effort
from rotoscope.media.video.opening import codec_of, open_clip
from rotoscope.media.video.probing import TrackTotals, VideoFacts, count_video, video_stream_of

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["filmstrip", "first_frame", "poster", "read_upright_frames"]

_POSTER_PLACES = (0.0, 0.1, 0.25, 0.5, 0.75)  # parts of the duration, tried in this order
_BLANK_DEVIATION = 6.0  # standard deviation of brightness, of 255, below which a frame shows nothing
_GAP, _PAPER = 4, (255, 255, 255)  # pixels, and the colour between frames


def first_frame(path: Path) -> "Image.Image":
    """The first shown frame of a video, upright and in its full size.

    Raises:
        InvalidInput: as for `probe_video`.
        TooLarge: as for `probe_video`.
    """
    with open_clip(path, "video", DEFAULT_VIDEO_LIMITS) as clip:
        return upright_picture(count_video(clip, DEFAULT_VIDEO_LIMITS)[1], clip.aspect)


def read_upright_frames(path: Path, most: int) -> "Iterator[Image.Image]":
    """The shown frames of a video from its start, upright and in their full size.

    Args:
        path: a local file.
        most: how many are decoded at most.

    Raises:
        InvalidInput: as for `probe_video`, while the frames are read.
        TooLarge: as for `probe_video`, or it takes too long to read.
    """
    with open_clip(path, "video", DEFAULT_VIDEO_LIMITS) as clip:
        pictures = video_stream_of(clip)
        size = pictures.codec_context.width, pictures.codec_context.height
        check_decode_effort(size, min(most, pictures.frames or most), codec_of(pictures), DEFAULT_VIDEO_LIMITS)
        shown = (
            frame
            for packet in clip.container.demux(pictures)
            for frame in pictures.decode(packet)
            if not is_hidden_frame(frame)
        )
        turn = None
        for number, frame in enumerate(islice(shown, most)):
            turn = turn_of(frame) if number == 0 else turn
            yield turned_picture(frame, clip.aspect, turn)


def poster(path: Path) -> "Image.Image":
    """The first of a few frames of a video that is not blank; else the first frame.

    Raises:
        InvalidInput: as for `probe_video`.
        TooLarge: as for `probe_video`.
    """
    with open_clip(path, "video", DEFAULT_VIDEO_LIMITS) as clip:
        facts, first, tallies = count_video(clip, DEFAULT_VIDEO_LIMITS)
        opening = upright_picture(first, clip.aspect)
        if not _is_blank(opening):
            return opening
        pictures = video_stream_of(clip)
        times = _frame_times(facts, tallies[pictures.index], _POSTER_PLACES)
        found = frames_at(clip.container, pictures, first, times)
        shown = (upright_picture(frame, clip.aspect) for frame in found)
        return next((picture for picture in shown if not _is_blank(picture)), opening)


def filmstrip(path: Path, count: int = 6, height: int = 120) -> "Image.Image":
    """Frames of a video, evenly spaced in time, side by side with a thin gap.

    Args:
        path: a local file.
        count: how many frames; a shorter clip shows some of them twice.
        height: of the strip, in pixels.

    Raises:
        InvalidInput: as for `probe_video`.
        TooLarge: as for `probe_video`.
    """
    from PIL import Image

    with open_clip(path, "video", DEFAULT_VIDEO_LIMITS) as clip:
        facts, first, tallies = count_video(clip, DEFAULT_VIDEO_LIMITS)
        pictures = video_stream_of(clip)
        times = _frame_times(facts, tallies[pictures.index], [(number + 0.5) / count for number in range(count)])
        found = frames_at(clip.container, pictures, first, times)
        cells = [upright_picture(frame, clip.aspect, height) for frame in found]
    strip = Image.new("RGB", (sum(cell.width for cell in cells) + _GAP * (len(cells) - 1), height), _PAPER)
    left = 0
    for cell in cells:
        strip.paste(cell, (left, (height - cell.height) // 2))
        left += cell.width + _GAP
    return strip


def _frame_times(facts: VideoFacts, tally: TrackTotals, places: Sequence[float]) -> list[float]:
    """Parts of the duration (0 to 1) as times of the file in seconds; each in the middle of the frame shown then."""
    start = tally.start or 0.0
    early = 0.5 / facts.frame_rate
    return [start + max(place * facts.duration_seconds - early, 0.0) for place in places]


def _is_blank(picture: "Image.Image") -> bool:
    from PIL import ImageStat

    return ImageStat.Stat(picture.convert("L").resize((64, 64))).stddev[0] < _BLANK_DEVIATION
