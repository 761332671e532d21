"""Files that stand in for those at addresses which the sandbox cannot reach: it has no network.

Snippets of the providers' documents name pictures and films of their own. So that they can be run, a picture, film,
mask or sound that was made here takes the place of each, by what the address and the field say that it is, and the
result's log and notice say so. It is asked for (`build_sandbox(stand_ins=True)`): else such an address is an error, as
it is for a provider that cannot fetch it.
"""

import io
import re
import wave
from collections.abc import Iterator
from fractions import Fraction
from importlib.resources import files
from pathlib import Path

__all__ = ["is_reachable_elsewhere", "make_stand_in"]

_ADDRESS = re.compile(r"https?://(?!sandbox\.invalid)[^/\s]+\.[a-z]{2,}(?::\d+)?/\S*", re.IGNORECASE)
_FILM = re.compile(r"\.(mp4|mov|webm|m4v)(\?|#|$)", re.IGNORECASE)
_SOUND = re.compile(r"\.(wav|mp3|m4a|aac|ogg)(\?|#|$)", re.IGNORECASE)
_SIZE, _FRAMES, _RATE = (832, 480), 33, 16
_SOUND_SECONDS, _SAMPLES = 2, 16_000


def is_reachable_elsewhere(reference: str) -> bool:
    """Whether it is an address that a program with a network might read."""
    return _ADDRESS.fullmatch(reference) is not None


def make_stand_in(field_name: str, reference: str, scratch: Path) -> Path:
    """Make a file in the scratch folder, in the place of what an address names.

    Args:
        field_name: the input; one with "mask" in its name gets a mask.
        reference: the address; its ending says whether it is a film or a sound.
        scratch: where the file is made.
    """
    mask = "mask" in field_name
    if _FILM.search(reference):
        return _film(scratch / f"stand-in-{'mask' if mask else 'film'}.mp4", mask=mask)
    if _SOUND.search(reference):
        return _write_file(scratch / "stand-in.wav", _silence())
    return (
        _write_file(scratch / "stand-in.png", _mask_picture())
        if mask
        else _write_file(scratch / "stand-in.jpg", _photo())
    )


def _write_file(place: Path, content: bytes) -> Path:
    place.write_bytes(content)
    return place


def _photo() -> bytes:
    return files("rotoscope_sandbox").joinpath("assets", "photo.jpg").read_bytes()


def _film(place: Path, *, mask: bool) -> Path:
    """The photo under a camera that moves to the right, or an ellipse that moves with it."""
    import numpy as np

    from rotoscope_sandbox.film.reel import Reel

    with Reel(place, _SIZE, Fraction(_RATE), crf=18) as reel:
        for picture in _mask_frames() if mask else _photo_frames():
            reel.show(np.frombuffer(picture, np.uint8).reshape(_SIZE[1], _SIZE[0], 3))
    return place


def _photo_frames() -> Iterator[bytes]:
    from PIL import Image

    with Image.open(io.BytesIO(_photo())) as photo:
        width = _SIZE[0] + 2 * _FRAMES
        wide = photo.convert("RGB").resize((width, photo.height * width // photo.width))
    top = (wide.height - _SIZE[1]) // 3
    for number in range(_FRAMES):
        yield wide.crop((2 * number, top, 2 * number + _SIZE[0], top + _SIZE[1])).tobytes()


def _mask_frames() -> Iterator[bytes]:
    from PIL import Image, ImageDraw

    for number in range(_FRAMES):
        picture = Image.new("RGB", _SIZE)
        left = _SIZE[0] // 3 - 2 * number
        ImageDraw.Draw(picture).ellipse((left, 90, left + 220, 390), fill=(255, 255, 255))
        yield picture.tobytes()


def _mask_picture() -> bytes:
    from PIL import Image

    target = io.BytesIO()
    Image.frombytes("RGB", _SIZE, next(_mask_frames())).convert("L").save(target, "PNG")
    return target.getvalue()


def _silence() -> bytes:
    target = io.BytesIO()
    with wave.open(target, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(_SAMPLES)
        sound.writeframes(bytes(2 * _SAMPLES * _SOUND_SECONDS))
    return target.getvalue()
