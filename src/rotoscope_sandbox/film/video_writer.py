"""Writing a video: H.264 and, where there is sound, AAC in an MP4 that plays while it loads.

The same frames give the same bytes: a fixed number of encoder threads, no date, no randomness. Colours are BT.709,
limited range, and say so.
"""

from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Self, TypeAlias

import av
import numpy as np
from av.audio.stream import AudioStream
from av.video.reformatter import ColorRange, Colorspace
from av.video.stream import VideoStream
from numpy.typing import NDArray

from rotoscope_sandbox.vision.pixels import Frame

__all__ = ["SAMPLE_RATE", "StereoSound", "VideoWriter"]

SAMPLE_RATE = 48_000
"""Samples a second: a whole number of them for every frame at 24 frames a second."""

StereoSound: TypeAlias = NDArray[np.float32]
"""Two rows of samples in -1..1: left and right."""

_BT709 = 1
_LIMITED = 1
_THREADS = 2
_REPEATABLE = "cpu-independent=1"
"""Without it, x264's rate control (mbtree) rounds differently from run to run, and the same frames give other bytes."""

_SOUND_BITS = 96_000


class VideoWriter:
    """Writes a video frame by frame; a context manager that finishes the file.

    Args:
        path: the file, which is overwritten.
        size: width and height in pixels; both even.
        rate: frames a second.
        crf: x264's quality; 18 looks like the source, 23 is ordinary.
        sound: whether there is a sound track.
    """

    def __init__(self, path: Path, size: tuple[int, int], rate: Fraction, *, crf: int, sound: bool = False) -> None:
        self.frames = 0
        self._samples = 0
        self._rate = rate
        self._file = av.open(str(path), "w", format="mp4", options={"movflags": "faststart"})
        options = {"preset": "veryfast", "crf": str(crf), "x264-params": _REPEATABLE}
        self._video: VideoStream = self._file.add_stream("libx264", rate=rate, options=options)
        self._video.width, self._video.height = size
        self._video.pix_fmt = "yuv420p"
        context = self._video.codec_context
        context.thread_count = _THREADS
        context.colorspace = context.color_primaries = context.color_trc = _BT709
        context.color_range = _LIMITED
        self._audio: AudioStream | None = self._file.add_stream("aac", rate=SAMPLE_RATE) if sound else None
        if self._audio is not None:
            self._audio.layout = "stereo"
            self._audio.bit_rate = _SOUND_BITS

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        if problem is not None:
            # The file is useless anyway: an error while closing it must not hide the first one.
            with suppress(av.FFmpegError):
                self._file.close()
            return
        self._file.mux(self._video.encode(None))
        if self._audio is not None:
            self._file.mux(self._audio.encode(None))
        self._file.close()

    def write_frame(self, frame: Frame) -> None:
        """Add one frame (RGB) of the video's size."""
        shown = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24").reformat(
            format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG
        )
        shown.pts, shown.time_base = self.frames, 1 / self._rate
        self.frames += 1
        self._file.mux(self._video.encode(shown))

    def write_sound(self, sound: StereoSound) -> None:
        """Add the samples that follow; only where the video has a sound track."""
        assert self._audio is not None
        samples = av.AudioFrame.from_ndarray(np.ascontiguousarray(sound), format="fltp", layout="stereo")
        samples.sample_rate, samples.pts, samples.time_base = SAMPLE_RATE, self._samples, Fraction(1, SAMPLE_RATE)
        self._samples += sound.shape[1]
        self._file.mux(self._audio.encode(samples))
