"""The sound of an edit: whether it is the original's, and the original's put beside the edit's pictures."""

from collections.abc import Iterator
from heapq import merge
from pathlib import Path
from typing import TYPE_CHECKING

from rotoscope.errors import InvalidInput
from rotoscope.media.edits.films import EDIT_LIMITS
from rotoscope.media.video.limits import check_sound_effort
from rotoscope.media.video.opening import OpenClip, codec_of, open_clip
from rotoscope.media.video.probing import audio_stream_of, count_video, video_stream_of
from rotoscope.media.video.remux import PacketHandler, copy_track, encode_audio_track, open_output, remove_on_failure

if TYPE_CHECKING:
    import numpy as np
    from av.packet import Packet
    from av.stream import Stream
    from numpy.typing import NDArray

    Samples = NDArray[np.float32]

__all__ = ["add_sound", "has_same_sound"]

_MP4_PICTURES = frozenset({"h264", "hevc", "av1", "vp9", "mpeg4"})
_MP4_SOUNDS = frozenset({"aac", "mp3", "opus", "ac3"})
_COMPARED_RATE, _COMPARED_SECONDS = 8_000, 60  # samples a second, and seconds from the start
_LONGEST_SHIFT = 1_200  # samples: encoders add up to some thousand at 48 kHz to the start, which not every file hides
_SAME_SOUND = 0.9  # correlation; measured 0.97 to 0.99 for noise that is encoded again as AAC, 0.06 for other noise
_SILENCE = 1e-4  # of 1: the mean of what is louder is a sound


def has_same_sound(original: Path, edit: Path) -> bool:
    """Whether an edit has its original's sound, perhaps encoded again. Both have a sound.

    Raises:
        InvalidInput: a sound is broken.
    """
    import numpy as np

    one, other = _read_sound(original), _read_sound(edit)
    most = min(one.size, other.size)
    if most <= 2 * _LONGEST_SHIFT:
        return False
    one, other = one[:most], other[:most]
    loud = float(np.sqrt(np.square(one).mean())), float(np.sqrt(np.square(other).mean()))
    if min(loud) < _SILENCE:
        return max(loud) < _SILENCE
    size = 1 << (2 * most).bit_length()
    across = np.fft.irfft(np.fft.rfft(one, size) * np.conj(np.fft.rfft(other, size)), size)
    best = max(float(across[: _LONGEST_SHIFT + 1].max()), float(across[-_LONGEST_SHIFT:].max()))
    return best / (most * loud[0] * loud[1]) >= _SAME_SOUND


def _read_sound(path: Path) -> "Samples":
    """The first minute of a film's sound, in mono."""
    import numpy as np
    from av.audio.resampler import AudioResampler
    from av.error import InvalidDataError

    resampler = AudioResampler(format="flt", layout="mono", rate=_COMPARED_RATE)
    parts, count = list["Samples"](), 0
    with open_clip(path, "video", EDIT_LIMITS) as clip:
        sound = audio_stream_of(clip)
        for packet in clip.container.demux(sound):
            try:
                frames = [piece for frame in sound.decode(packet) for piece in resampler.resample(frame)]
            except InvalidDataError:
                continue
            for frame in frames:
                parts.append(frame.to_ndarray().reshape(-1).astype(np.float32))
                count += parts[-1].size
            if count >= _COMPARED_RATE * _COMPARED_SECONDS:
                break
    return np.concatenate(parts)[: _COMPARED_RATE * _COMPARED_SECONDS] if parts else np.zeros(0, np.float32)


def add_sound(pictures: Path, sound: Path, target: Path) -> None:
    """Write a film of the pictures of one film and the sound of another, cut to the length of the pictures.

    The pictures are copied; so is the sound, where MP4 takes its codec, else it is encoded as AAC.

    Args:
        pictures: a local file.
        sound: a local file.
        target: where to write an MP4; nothing is left there when this fails.

    Raises:
        InvalidInput: a file is broken, or MP4 does not take the codec of the pictures.
        TooLarge: the sound takes too long to encode.
        StorageFailed: the target cannot be written.
    """
    with open_clip(pictures, "video", EDIT_LIMITS) as clip:
        seconds = count_video(clip, EDIT_LIMITS)[0].duration_seconds
    with (
        remove_on_failure(target),
        open_clip(pictures, "video", EDIT_LIMITS) as seen,
        open_clip(sound, "video", EDIT_LIMITS) as sounding,
        open_output(target, "mp4") as into,
    ):
        if codec_of(video_stream_of(seen)) not in _MP4_PICTURES:
            raise InvalidInput("An MP4 does not take the codec of the pictures.", code="unsupported")
        track = audio_stream_of(sounding)
        take_pictures = copy_track(video_stream_of(seen), into)
        if codec_of(track) in _MP4_SOUNDS:
            take_sound = copy_track(track, into)
        else:
            check_sound_effort(seconds, track.rate, track.channels, EDIT_LIMITS)
            take_sound = encode_audio_track(track, into, end=seconds)
        # In the order of their times: a muxer holds what has no neighbour yet.
        shown = _timed_packets(seen, video_stream_of(seen), None, take_pictures)
        for _, take, packet in merge(shown, _timed_packets(sounding, track, seconds, take_sound), key=_by_time):
            for finished in take(packet):
                into.mux(finished)


def _by_time(item: "tuple[float, PacketHandler, Packet[Stream]]") -> float:
    return item[0]


def _timed_packets(
    clip: OpenClip, track: "Stream", end: float | None, take: PacketHandler
) -> "Iterator[tuple[float, PacketHandler, Packet[Stream]]]":
    """The packets of a track that begin before an end in seconds: its time of decoding, and what takes it."""
    last = float("-inf")
    for packet in clip.container.demux(track):
        at = packet.dts if packet.dts is not None else packet.pts
        if at is not None:
            last = max(last, float(at * packet.time_base))
        if end is None or not packet.size or last < end:
            yield last, take, packet
