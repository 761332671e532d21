"""What a worker process does with a medium that was given: prove it, and write what of it may leave.

These functions are called by `media.decoders`; they take paths and give plain records, and write nothing but the file
that they were told to write.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rotoscope.media.pictures import check_size, clean
from rotoscope.media.videos import (
    SoundFacts,
    VideoFacts,
    clean_sound,
    clean_video,
    first_frame,
    probe_sound,
    probe_video,
)

__all__ = ["Facts", "PreparedKind", "measure", "prepare"]

PreparedKind = Literal["image", "still", "video", "audio"]


@dataclass(frozen=True, slots=True)
class Facts:
    """What a medium is; see `media.intake.Admitted` for the meaning of each.

    `content_type` is None where the file was not written here, and its own first bytes say it.
    """

    content_type: str | None = None
    width: int | None = None
    height: int | None = None
    duration_seconds: float | None = None
    frames: int | None = None
    notes: tuple[str, ...] = ()


def prepare(kind: PreparedKind, source: Path, target: Path) -> Facts:
    """Write what of a file may leave.

    Args:
        kind: what it must be; a `still` is the first frame of a video.
        source: the file.
        target: where to write.

    Raises:
        UserMistake: it is no medium of that kind that can be used.
        StorageFailed: the target cannot be written.
    """
    return _PREPARE[kind](source, target)


def measure(kind: PreparedKind, path: Path) -> Facts:
    """What a file is that was made here.

    Raises:
        UserMistake: as for `prepare`.
    """
    match kind:
        case "video":
            return _film(probe_video(path))
        case "audio":
            return _sound(probe_sound(path))
        case _:
            width, height = check_size(path.read_bytes())
            return Facts(width=width, height=height)


def _picture(source: Path, target: Path) -> Facts:
    picture = clean(source.read_bytes())
    target.write_bytes(picture.content)
    return Facts(picture.content_type, picture.width, picture.height)


def _still(source: Path, target: Path) -> Facts:
    """Without loss: a mask is found on it, and nobody needs a tool of their own to cut it out."""
    image = first_frame(source)
    image.save(target, "PNG")
    return Facts("image/png", image.width, image.height)


def _film(facts: VideoFacts) -> Facts:
    return Facts(facts.content_type, facts.width, facts.height, facts.duration_seconds, facts.frames)


def _sound(facts: SoundFacts) -> Facts:
    return Facts(facts.content_type, duration_seconds=facts.duration_seconds)


_PREPARE: Mapping[PreparedKind, Callable[[Path, Path], Facts]] = {
    "image": _picture,
    "still": _still,
    "video": lambda source, target: _film(clean_video(source, target)),
    "audio": lambda source, target: _sound(clean_sound(source, target)),
}
