"""Tracks as they are written: copied packet by packet where their codec fits the file, otherwise encoded anew.

Nothing but packets is taken over: no metadata, no chapters, no attachments, and no bytes that belong to no packet.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from rotoscope.media.clips import Clip, quiet_av, turn_of

if TYPE_CHECKING:
    from av.audio.stream import AudioStream
    from av.container import OutputContainer
    from av.packet import Packet
    from av.stream import Stream
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

__all__ = ["copied", "encoded_pictures", "encoded_sound", "kept_whole", "poured", "written"]

_BITEXACT = {"fflags": "+bitexact"}  # no version of FFmpeg in the file: the same input gives the same bytes
_MUXERS = {
    "mp4": {"movflags": "+faststart"},
    "ipod": {"movflags": "+faststart"},
    "mp3": {"id3v2_version": "0"},
    "wav": {},
}
# The number of threads changes what x264 writes, and its rate control (mbtree) rounds differently from run to run
# unless told to be independent of the processor: with both, the same input gives the same bytes.
_X264 = {"preset": "veryfast", "crf": "20", "threads": "4", "x264-params": "cpu-independent=1"}
_AAC_RATES = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000)

Packets = Iterable["Packet[Stream]"]
Take = Callable[["Packet[Stream]"], Packets]


@contextmanager
def written(target: Path, muxer: str) -> Iterator["OutputContainer"]:
    """A new file to write tracks into.

    Args:
        target: where to write.
        muxer: "mp4", "ipod" (an M4A), "mp3" or "wav".
    """
    options = _BITEXACT | _MUXERS[muxer]
    with quiet_av().open(f"file:{target.absolute()}", "w", format=muxer, container_options=options) as container:
        yield container


@contextmanager
def kept_whole(target: Path) -> Iterator[None]:
    """Leave nothing of a file when anything goes wrong while it is written."""
    done = False
    try:
        yield
        done = True
    finally:
        if not done:
            target.unlink(missing_ok=True)


def poured(clip: Clip, takes: Sequence[Take], into: "OutputContainer") -> None:
    """Read the clip once from its start and write what each track makes of its packets."""
    by_index = {stream.index: take for stream, take in zip(clip.streams(), takes, strict=True)}
    for packet in clip.container.demux(*clip.streams()):
        for finished in by_index[packet.stream.index](packet):
            into.mux(finished)


def copied(
    stream: "Stream", into: "OutputContainer", *, keep: Callable[["Packet[Stream]"], bool] | None = None
) -> Take:
    """A track whose packets are taken over as they are; its turn goes along.

    Args:
        stream: the track to copy.
        into: the file to write.
        keep: says which packets are real, where the reader cannot tell.
    """
    track = into.add_stream_from_template(stream, opaque=True)
    if _is_tagged(stream, "hvc1"):
        track.codec_context.codec_tag = "hvc1"  # Apple's players want it, and FFmpeg writes another by default

    def take(packet: "Packet[Stream]") -> Packets:
        if not packet.size or packet.is_corrupt or (keep is not None and not keep(packet)):
            return ()
        packet.stream = track
        return (packet,)

    return take


def encoded_pictures(stream: "VideoStream", first: "VideoFrame", into: "OutputContainer") -> Take:
    """A track of pictures in H.264; frames keep their times.

    Args:
        stream: the track to decode.
        first: its first frame, which tells how pictures are turned and what their colours mean.
        into: the file to write.
    """
    rate = stream.average_rate or stream.guessed_rate
    track = into.add_stream("libx264", rate=rate or Fraction(25), options=dict(_X264))
    track.width, track.height = first.width + first.width % 2, first.height + first.height % 2
    track.pix_fmt = "yuv420p"
    track.codec_context.time_base = stream.time_base or Fraction(1, 1000)
    for name in ("colorspace", "color_range", "color_primaries", "color_trc"):
        setattr(track.codec_context, name, getattr(first, name))
    turn = turn_of(first)
    track.set_display_matrix(turn[0] if turn else None)
    last = -math.inf

    def take(packet: "Packet[Stream]") -> Packets:
        nonlocal last
        for frame in stream.decode(packet):
            if frame.pts is None or frame.pts <= last:
                continue
            last = frame.pts
            yield from track.encode(_even(frame, track))
        if not packet.size:
            yield from track.encode(None)

    return take


def encoded_sound(stream: "AudioStream", into: "OutputContainer") -> Take:
    """A track of sound in AAC, in mono or stereo."""
    from av.audio.resampler import AudioResampler

    layout = "mono" if stream.channels == 1 else "stereo"
    rate = stream.rate if stream.rate in _AAC_RATES else 48000
    track = into.add_stream("aac", rate=rate, layout=layout, bit_rate=128_000)
    resampler = AudioResampler(format="fltp", layout=layout, rate=rate, frame_size=1024)

    def take(packet: "Packet[Stream]") -> Packets:
        for frame in stream.decode(packet):
            for piece in resampler.resample(frame):
                yield from track.encode(piece)
        if not packet.size:
            for piece in resampler.resample(None):
                yield from track.encode(piece)
            yield from track.encode(None)

    return take


def _even(frame: "VideoFrame", track: "VideoStream") -> "VideoFrame":
    """The frame as the encoder takes it: of the track's size, which is even, and without notes from the source."""
    plain = frame.reformat(track.width, track.height, "yuv420p")
    plain.pict_type = 0  # the encoder decides where its own key frames stand
    return plain


def _is_tagged(stream: "Stream", tag: str) -> bool:
    """Whether a file names a track's codec by these four letters; in a broken one they may be no letters at all."""
    try:
        return stream.codec_context.codec_tag == tag
    except UnicodeDecodeError:
        return False
