"""Untrusted videos and sounds: opened as local files only, measured before anything is decoded."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from av.container import InputContainer

from rotoscope_sandbox.film.video_writer import SAMPLE_RATE, StereoSound
from rotoscope_sandbox.models import EngineTask, UnusableInput
from rotoscope_sandbox.vision.pixels import Frame

__all__ = [
    "InputSound",
    "InputVideo",
    "crop_to_size",
    "open_sound",
    "open_video",
    "read_frames",
    "read_sound",
    "sample_frames",
    "sound_of_video",
]

_VIDEO_FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm"
_SOUND_FORMATS = f"mp3,wav,{_VIDEO_FORMATS}"
_MOST_PIXELS = 4096 * 2304
"""Pixels of a frame; a decoded one of this size takes 28 MB."""

_MOST_RATE = 120
"""Frames a second; a file that claims more is damaged or hostile."""

_DEFAULT_RATE = Fraction(24)
"""Frames a second where a file does not say."""

_ASPECT_SLACK = 0.06
"""How far two shapes may be apart and still count as the same: 16:9 and 832*480 are."""

_QUARTER_TURN = 90


@dataclass(frozen=True, slots=True)
class InputVideo:
    """A video that has been measured: upright size in pixels, frames a second, length in seconds (0: unknown)."""

    path: Path
    field_name: str
    width: int
    height: int
    rate: Fraction
    seconds: float

    def count_frames(self, most: int) -> int:
        """How many frames there are, at most `most`; counted, because files say it wrongly or not at all."""
        with _open_container(self.path, self.field_name, _VIDEO_FORMATS) as file:
            packets = (1 for packet in file.demux(file.streams.video[0]) if packet.size)
            return sum(one for one, _ in zip(packets, range(most), strict=False))


@contextmanager
def _open_container(path: Path, field_name: str, formats: str) -> Iterator[InputContainer]:
    """The file, with the whitelists that keep playlists and references to other files out."""
    options = {"format_whitelist": formats, "protocol_whitelist": "file"}
    try:
        with av.open(str(path), options=options) as file:
            yield file
    except av.FFmpegError as problem:
        kind = "video" if formats == _VIDEO_FORMATS else "sound"
        message = f"The {kind} is damaged or in a format that is not taken."
        raise UnusableInput(field_name, message, f"{kind}_load_error") from problem


def open_video(task: EngineTask, field_name: str, reference: str) -> InputVideo:
    """The video that a reference stands for; its size is checked before any frame is decoded.

    Raises `UnusableInput` when it is no video, too large or empty.
    """
    path = task.place(field_name, reference)
    with _open_container(path, field_name, _VIDEO_FORMATS) as file:
        if not file.streams.video:
            raise UnusableInput(field_name, "The file holds no video.", "video_load_error")
        stream = file.streams.video[0]
        if stream.width * stream.height > _MOST_PIXELS:
            message = f"The video of {stream.width} x {stream.height} pixels is larger than 4096 x 2304."
            raise UnusableInput(field_name, message, "video_too_large")
        rate = stream.average_rate or stream.guessed_rate or _DEFAULT_RATE
        first = next(file.decode(stream), None)
        if first is None:
            raise UnusableInput(field_name, "The video has no frames.", "video_load_error")
        turned = first.rotation // _QUARTER_TURN % 2 == 1
        size = (first.height, first.width) if turned else (first.width, first.height)
        seconds = (file.duration or 0) / av.time_base
        return InputVideo(path, field_name, *size, min(rate, Fraction(_MOST_RATE)).limit_denominator(1001), seconds)


def read_frames(video: InputVideo, most: int | None = None) -> Iterator[Frame]:
    """The frames in their order, upright, as RGB; one at a time."""
    with _open_container(video.path, video.field_name, _VIDEO_FORMATS) as file:
        stream = file.streams.video[0]
        stream.thread_type = "AUTO"
        for number, frame in enumerate(file.decode(stream)):
            if number == most:
                return
            if frame.width * frame.height > _MOST_PIXELS:
                raise UnusableInput(
                    video.field_name, "The video changes to a size that is too large.", "video_too_large"
                )
            yield _upright_pixels(frame)


def _upright_pixels(frame: av.VideoFrame) -> Frame:
    pixels = np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)
    return np.rot90(pixels, frame.rotation // _QUARTER_TURN) if frame.rotation else pixels


def sample_frames(video: InputVideo, count: int) -> list[Frame]:
    """That many frames, evenly spread over the video; fewer where it is shorter."""
    total = video.count_frames(_MOST_RATE * 60)
    places = {total * (2 * number + 1) // (2 * count) for number in range(count)}
    return [frame for number, frame in enumerate(read_frames(video, max(places) + 1)) if number in places]


def crop_to_size(frame: Frame, size: tuple[int, int], *, nearest: bool = False) -> Frame:
    """The frame in exactly that width and height: scaled where the shape is about the same, else its middle is kept."""
    (height, width), (wide, high) = frame.shape[:2], size
    ratio = (width / height) / (wide / high)
    if abs(ratio - 1) > _ASPECT_SLACK:
        across, down = (round(height * wide / high), height) if ratio > 1 else (width, round(width * high / wide))
        left, top = (width - across) // 2, (height - down) // 2
        frame = frame[top : top + down, left : left + across]
    if frame.shape[:2] == (high, wide):
        return np.ascontiguousarray(frame)
    smooth = cv2.INTER_AREA if frame.shape[1] > wide else cv2.INTER_CUBIC
    scaled = cv2.resize(np.ascontiguousarray(frame), size, interpolation=cv2.INTER_NEAREST if nearest else smooth)
    return np.asarray(scaled, np.uint8)


@dataclass(frozen=True, slots=True)
class InputSound:
    """A sound that has been measured: its length in seconds, as its file says."""

    path: Path
    field_name: str
    seconds: float


def open_sound(task: EngineTask, field_name: str, reference: str) -> InputSound:
    """The sound that a reference stands for. Raises `UnusableInput` when the file holds none."""
    path = task.place(field_name, reference)
    with _open_container(path, field_name, _SOUND_FORMATS) as file:
        if not file.streams.audio:
            raise UnusableInput(field_name, "The file holds no sound.", "sound_load_error")
        return InputSound(path, field_name, (file.duration or 0) / av.time_base)


def sound_of_video(video: InputVideo) -> InputSound | None:
    """The sound of a video; None where it has none."""
    with _open_container(video.path, video.field_name, _VIDEO_FORMATS) as file:
        return InputSound(video.path, video.field_name, video.seconds) if file.streams.audio else None


def read_sound(sound: InputSound, most: float) -> Iterator[StereoSound]:
    """At most so many seconds of a sound, piece by piece, in the video writer's rate and two channels."""
    with _open_container(sound.path, sound.field_name, _SOUND_FORMATS) as file:
        same = av.AudioResampler(format="fltp", layout="stereo", rate=SAMPLE_RATE)
        left = round(most * SAMPLE_RATE)
        for frame in file.decode(file.streams.audio[0]):
            for piece in same.resample(frame):
                yield np.asarray(piece.to_ndarray(), np.float32)
                left -= piece.samples
            if left <= 0:
                return
