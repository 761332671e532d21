"""Writing tracks: copied packet by packet where the file format takes their codec, otherwise encoded again.

Nothing but packets is copied: no metadata, no chapters, no attachments, and no bytes that belong to no packet.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from rotoscope.media.video.frames import display_matrix_of, is_hidden_frame
from rotoscope.media.video.limits import EncoderSettings
from rotoscope.media.video.opening import OpenClip, import_av

if TYPE_CHECKING:
    from av.audio.frame import AudioFrame
    from av.audio.stream import AudioStream
    from av.container import OutputContainer
    from av.packet import Packet
    from av.stream import Stream
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

__all__ = [
    "PacketHandler",
    "add_mask_track",
    "add_picture_track",
    "add_track",
    "copy_track",
    "encode_audio_track",
    "encode_video_track",
    "mux_packets",
    "open_output",
    "remove_on_failure",
]

_BITEXACT = {"fflags": "+bitexact"}  # no version of FFmpeg in the file: the same input gives the same bytes
_MUXERS = {
    "mp4": {"movflags": "+faststart"},
    "ipod": {"movflags": "+faststart"},
    "mp3": {"id3v2_version": "0"},
    "wav": {},
}
# The number of threads changes what x264 writes, and its rate control (mbtree) rounds differently from run to run
# unless it is made independent of the processor: with both settings the same input gives the same bytes. Each further
# thread would take memory for frames of its own.
_X264 = {"crf": "20", "threads": "1", "x264-params": "cpu-independent=1"}
_FAST_AAC = {"aac_coder": "fast"}
_AAC_RATES = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000)

Packets = Iterable["Packet[Stream]"]
PacketHandler = Callable[["Packet[Stream]"], Packets]


@contextmanager
def open_output(target: Path, muxer: str) -> Iterator["OutputContainer"]:
    """A new file for tracks.

    Args:
        target: where to write.
        muxer: "mp4", "ipod" (an M4A), "mp3" or "wav".
    """
    options = _BITEXACT | _MUXERS[muxer]
    with import_av().open(f"file:{target.absolute()}", "w", format=muxer, container_options=options) as container:
        yield container


@contextmanager
def remove_on_failure(target: Path) -> Iterator[None]:
    """Remove a file when anything fails while it is written."""
    done = False
    try:
        yield
        done = True
    finally:
        if not done:
            target.unlink(missing_ok=True)


def mux_packets(clip: OpenClip, takes: Sequence[PacketHandler], into: "OutputContainer") -> None:
    """Read the clip once from its start; give each packet to its track's handler and write what that returns."""
    by_index = {stream.index: take for stream, take in zip(clip.streams(), takes, strict=True)}
    for packet in clip.container.demux(*clip.streams()):
        for finished in by_index[packet.stream.index](packet):
            into.mux(finished)


def copy_track(
    stream: "Stream", into: "OutputContainer", *, keep: Callable[["Packet[Stream]"], bool] | None = None
) -> PacketHandler:
    """A handler that copies the packets of a track; its display matrix is copied, too.

    Args:
        stream: the track to copy.
        into: the file to write.
        keep: decides which packets are copied; None: all.
    """
    track = into.add_stream_from_template(stream, opaque=True)
    if _has_codec_tag(stream, "hvc1"):
        track.codec_context.codec_tag = "hvc1"  # Apple's players need it, and FFmpeg writes another by default

    def copy_packet(packet: "Packet[Stream]") -> Packets:
        if not packet.size or packet.is_corrupt or (keep is not None and not keep(packet)):
            return ()
        packet.stream = track
        return (packet,)

    return copy_packet


def encode_video_track(
    stream: "VideoStream", first: "VideoFrame", form: EncoderSettings, into: "OutputContainer"
) -> PacketHandler:
    """A handler that encodes a video track as H.264 with square pixels; frames keep their times, hidden ones go.

    Args:
        stream: the track to decode.
        first: its first frame, which has the display matrix and the colour space.
        form: the size of the new frames, and how they are encoded.
        into: the file to write.
    """
    rate = stream.average_rate or stream.guessed_rate
    track = into.add_stream("libx264", rate=rate or Fraction(25), options={**_X264, "preset": form.preset})
    track.width, track.height = form.width, form.height
    track.codec_context.sample_aspect_ratio = Fraction(1)
    track.pix_fmt = "yuv420p"
    track.codec_context.time_base = stream.time_base or Fraction(1, 1000)
    for name in ("colorspace", "color_range", "color_primaries", "color_trc"):
        setattr(track.codec_context, name, getattr(first, name))
    turn = display_matrix_of(first)
    track.set_display_matrix(turn[0] if turn else None)
    last = -math.inf

    def encode_video_packet(packet: "Packet[Stream]") -> Packets:
        nonlocal last
        for frame in stream.decode(packet):
            if frame.pts is None or is_hidden_frame(frame) or frame.pts <= last:
                continue
            last = frame.pts
            plain = _format_for_encoder(frame, track)
            plain.pts = max(frame.pts, 0)  # the first may begin a little before the video
            yield from track.encode(plain)
        if not packet.size:
            yield from track.encode(None)

    return encode_video_packet


def add_mask_track(into: "OutputContainer", size: tuple[int, int], rate: Fraction) -> "VideoStream":
    """A track of H.264 for black and white frames with sharp edges; `size` is even."""
    return add_track(into, size, rate, {"preset": "ultrafast", "crf": "10"})


def add_track(
    into: "OutputContainer", size: tuple[int, int], rate: Fraction, quality: Mapping[str, str]
) -> "VideoStream":
    """A track of H.264, as every browser plays it.

    Args:
        into: the file to write.
        size: width and height in pixels, both even.
        rate: frames a second.
        quality: x264's settings; where one is `qp`, no other says how fine it is.
    """
    plain = {name: value for name, value in _X264.items() if name != "crf" or "qp" not in quality}
    track = into.add_stream("libx264", rate=rate, options=plain | dict(quality))
    track.width, track.height = size
    track.pix_fmt = "yuv420p"
    track.codec_context.time_base = Fraction(1, 90_000)
    return track


def add_picture_track(
    into: "OutputContainer", size: tuple[int, int], rate: Fraction, *, crf: int, preset: str, like: "VideoFrame"
) -> "VideoStream":
    """A track of H.264 for new frames.

    Args:
        into: the file to write.
        size: width and height in pixels, both even.
        rate: frames a second.
        crf: x264's quality; lower is better.
        preset: of x264.
        like: a frame that has the colour space.
    """
    track = into.add_stream("libx264", rate=rate, options=_X264 | {"preset": preset, "crf": str(crf)})
    track.width, track.height = size
    track.pix_fmt = "yuv420p"
    track.codec_context.time_base = Fraction(1, 90_000)
    for name in ("colorspace", "color_primaries", "color_trc"):
        setattr(track.codec_context, name, getattr(like, name))
    return track


def encode_audio_track(stream: "AudioStream", into: "OutputContainer", *, end: float | None = None) -> PacketHandler:
    """A handler that encodes an audio track as AAC, in mono or stereo, from the start of the video.

    Args:
        stream: the track to decode.
        into: the file to write.
        end: where the sound ends, in seconds; None: at the end of the file.
    """
    from av.audio.resampler import AudioResampler

    layout = "mono" if stream.channels == 1 else "stereo"
    rate = stream.rate if stream.rate in _AAC_RATES else 48000
    track = into.add_stream("aac", rate=rate, layout=layout, bit_rate=128_000, options=dict(_FAST_AAC))
    resampler = AudioResampler(format="fltp", layout=layout, rate=rate, frame_size=1024)

    def encode_audio_packet(packet: "Packet[Stream]") -> Packets:
        for frame in stream.decode(packet):
            part = _cut_audio_frame(frame, end)
            for piece in resampler.resample(part) if part is not None else ():
                yield from track.encode(piece)
        if not packet.size:
            for piece in resampler.resample(None):
                yield from track.encode(piece)
            yield from track.encode(None)

    return encode_audio_packet


def _cut_audio_frame(frame: "AudioFrame", end: float | None) -> "AudioFrame | None":
    """The part of a frame of sound between the start of the video and an end in seconds; None: nothing."""
    from av.audio.frame import AudioFrame

    if frame.time is None:
        return frame
    skipped = max(round(-frame.time * frame.sample_rate), 0)
    kept = frame.samples if end is None else min(round((end - frame.time) * frame.sample_rate), frame.samples)
    if skipped == 0 and kept == frame.samples:
        return frame
    if kept <= skipped:
        return None
    width = 1 if frame.format.is_planar else len(frame.layout.channels)
    samples = frame.to_ndarray()[:, skipped * width : kept * width]
    part = AudioFrame.from_ndarray(samples.copy(), frame.format.name, frame.layout.name)
    part.sample_rate, part.time_base = frame.sample_rate, Fraction(1, frame.sample_rate)
    part.pts = round(frame.time * frame.sample_rate) + skipped
    return part


def _format_for_encoder(frame: "VideoFrame", track: "VideoStream") -> "VideoFrame":
    """The frame as the encoder needs it: of the track's size, which is even, and without the source's frame type."""
    plain = frame.reformat(track.width, track.height, "yuv420p", threads=1)
    plain.pict_type = 0  # the encoder decides where its own key frames stand
    return plain


def _has_codec_tag(stream: "Stream", tag: str) -> bool:
    """Whether a file names a track's codec by these four letters; in a broken file they may not be letters."""
    try:
        return stream.codec_context.codec_tag == tag
    except UnicodeDecodeError:
        return False
