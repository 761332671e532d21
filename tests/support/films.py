"""Films that tests make for themselves, and what can be done to their bytes."""

import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

_DIGITS = 8
Draw = Callable[[int, int, int], np.ndarray]


def bars(number: int, width: int, height: int) -> np.ndarray:
    """Red on the left, blue on the right, green along the top; below, the frame's number in black and white blocks."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[:, : width // 2], pixels[:, width // 2 :] = (220, 20, 20), (20, 20, 220)
    pixels[: height // 4] = (20, 200, 20)
    for place in range(_DIGITS):
        block = slice(place * width // _DIGITS, (place + 1) * width // _DIGITS)
        pixels[3 * height // 4 :, block] = 255 * (number >> place & 1)
    return pixels


def number_of(frame: np.ndarray) -> int:
    """Which frame of `bars` this RGB picture is."""
    height, width = frame.shape[:2]
    places = [round((place + 0.5) * width / _DIGITS) for place in range(_DIGITS)]
    return sum(int(frame[7 * height // 8, at].mean() > 128) << place for place, at in enumerate(places))


def film(
    path: Path,
    codec: str = "libx264",
    *,
    size: tuple[int, int] = (160, 96),
    frames: int = 20,
    rate: int = 10,
    draw: Draw = bars,
    pixels: str = "yuv420p",
    shape: Fraction | None = None,
    turn: int = 0,
    tone: bool = False,
    key_every: int = 250,
    options: dict[str, str] | None = None,
    container: dict[str, str] | None = None,
) -> Path:
    """A film.

    Args:
        path: its ending says the container.
        codec: of the pictures.
        size: in which frames are stored, in pixels.
        frames: how many.
        rate: frames a second.
        draw: what frame number N looks like, by number, width and height, in RGB or (for "rgba") RGBA.
        pixels: their format; of what has an alpha, "yuva420p".
        shape: of a pixel, its width over its height.
        turn: by how many degrees it stands upright.
        tone: whether there is sound: a tone whose pitch rises with every second.
        key_every: frames from one key frame to the next.
        options: of the encoder.
        container: options of the container.
    """
    with av.open(str(path), "w", container_options=container or {}) as file:
        video = file.add_stream(codec, rate=rate, options={"g": str(key_every), **(options or {})})
        assert isinstance(video, av.VideoStream)
        video.width, video.height = size
        video.pix_fmt = pixels
        if shape is not None:
            video.codec_context.sample_aspect_ratio = shape
        if turn:
            video.set_display_rotation(turn)
        audio = file.add_stream("aac", rate=48000, layout="mono") if tone else None
        for number in range(frames):
            drawn = draw(number, *size)
            frame = av.VideoFrame.from_ndarray(drawn, format="rgba" if drawn.shape[2] > 3 else "rgb24")
            frame.pts, frame.time_base = number, Fraction(1, rate)
            file.mux(video.encode(frame))
        file.mux(video.encode(None))
        if audio is not None:
            _rise(file, audio, frames / rate)
    return path


def _rise(file: av.container.OutputContainer, audio: av.AudioStream, seconds: float) -> None:
    for start in range(0, int(seconds * 48000) // 1024 * 1024, 1024):
        second = np.arange(start, start + 1024) / 48000
        wave = np.sin(2 * np.pi * (500 + 500 * (start // 48000)) * second).astype(np.float32) * 0.4
        frame = av.AudioFrame.from_ndarray(wave[None], format="fltp", layout="mono")
        frame.pts, frame.sample_rate, frame.time_base = start, 48000, Fraction(1, 48000)
        file.mux(audio.encode(frame))
    file.mux(audio.encode(None))


def trim(path: Path, start: float, seconds: float) -> Path:
    """Change the edit lists of an MP4 so that its tracks begin at `start` and last `seconds`; nothing is removed."""
    data = bytearray(path.read_bytes())
    movie = struct.unpack(">I", data[(place := data.index(b"mvhd")) + 16 : place + 20])[0]
    scales = [struct.unpack(">I", data[at + 16 : at + 20])[0] for at in _places(data, b"mdhd")]
    for at, scale in zip(_places(data, b"elst"), scales, strict=True):
        begins = struct.unpack(">i", data[at + 16 : at + 20])[0]
        data[at + 12 : at + 20] = struct.pack(">Ii", round(seconds * movie), begins + round(start * scale))
    path.write_bytes(data)
    return path


def _places(data: bytearray, name: bytes) -> list[int]:
    places, at = [], data.find(name)
    while at >= 0:
        places.append(at)
        at = data.find(name, at + 1)
    return places


def pictures(path: Path, *, hidden: bool = False) -> list[np.ndarray]:
    """The frames of a film in RGB; with `hidden`, those too that its edit list hides."""
    with av.open(str(path), options={"ignore_editlist": "1"} if hidden else {}) as file:
        return [frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]


def sound(path: Path, *, hidden: bool = False) -> np.ndarray:
    """The sound of a file, the samples of its first channel; with `hidden`, what an edit list hides, too."""
    with av.open(str(path), options={"ignore_editlist": "1"} if hidden else {}) as file:
        return np.concatenate([frame.to_ndarray()[0] for frame in file.decode(audio=0)])


def pitch(samples: np.ndarray) -> float:
    """The strongest pitch in samples of 48 kHz, in hertz."""
    return float(np.argmax(np.abs(np.fft.rfft(samples * np.hanning(samples.size)))) * 48000 / samples.size)
