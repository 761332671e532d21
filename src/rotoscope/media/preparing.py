"""What a worker process does with a file from a user: check it, and write the cleaned copy that may be uploaded.

These functions run in the workers of `media.decoders`. They take paths and return plain records, and write no file but
the target.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from rotoscope.errors import InvalidInput
from rotoscope.media.image.pictures import clean_picture, decode_upright, read_picture_size
from rotoscope.media.image.previews import Thumbnail, make_thumbnail
from rotoscope.media.sniff import file_content_type, is_video
from rotoscope.media.video.mask_videos import read_transparency, write_mask_film
from rotoscope.media.video.videos import (
    DEFAULT_VIDEO_LIMITS,
    SoundFacts,
    VideoFacts,
    VideoLimits,
    clean_sound,
    clean_video,
    first_frame,
    poster,
    probe_sound,
    probe_video,
)
from rotoscope.models.catalog import UploadLimit

__all__ = ["MediaFacts", "MediaPreview", "PreparedKind", "measure_media", "prepare_media", "preview_media"]

PreparedKind = Literal["image", "picture_mask", "still", "video", "mask", "audio"]


@dataclass(frozen=True, slots=True)
class MediaFacts:
    """What a medium is; `media.intake.AdmittedMedia` describes each field.

    `content_type` is None where no file was written: then it follows from the source's first bytes.
    """

    content_type: str | None = None
    width: int | None = None
    height: int | None = None
    duration_seconds: float | None = None
    frames: int | None = None
    notes: tuple[str, ...] = ()
    frame_rate: float | None = None
    has_audio: bool | None = None
    stored: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class MediaPreview:
    """A small picture of a file, and the size of the file's own picture in pixels."""

    picture: Thumbnail
    width: int
    height: int


def prepare_media(kind: PreparedKind, source: Path, target: Path, carrier: UploadLimit | None = None) -> MediaFacts:
    """Write the cleaned copy of a file: nothing but its pixels and sound.

    Args:
        kind: what it must be; a `still` is the first frame of a video, a `mask` a mask video, a `picture_mask` a mask
            picture, whose exact numbers are kept.
        source: the file.
        target: where to write.
        carrier: the provider that takes the largest videos and sounds; what is larger is refused before it is copied.

    Raises:
        UserMistake: it is no usable medium of that kind.
        StorageFailed: the target cannot be written.
    """
    limits = replace(DEFAULT_VIDEO_LIMITS, carrier=carrier)
    match kind:
        case "video":
            return _prepare_video(source, target, limits)
        case "mask":
            return _prepare_mask_film(source, target, limits)
        case "audio":
            return _prepare_sound(source, target, limits)
        case "still":
            return _prepare_still(source, target)
        case _:
            return _prepare_picture(source, target, exact=kind == "picture_mask")


def measure_media(kind: PreparedKind, path: Path) -> MediaFacts:
    """What a file is that `prepare_media` has written earlier; nothing is written.

    Raises:
        UserMistake: as for `prepare_media`.
    """
    match kind:
        case "video" | "mask":
            return _video_media_facts(probe_video(path), (), None)
        case "audio":
            return _sound_media_facts(probe_sound(path), ())
        case _:
            width, height = read_picture_size(path.read_bytes())
            return MediaFacts(width=width, height=height)


def preview_media(path: Path, side: int, most: int) -> MediaPreview:
    """A small picture of a picture, or of a frame that stands for a video.

    Args:
        path: the file.
        side: the longest side of the small picture, in pixels.
        most: its largest size, in bytes.

    Raises:
        UserMistake: it cannot be decoded.
    """
    image = poster(path) if is_video(file_content_type(path)) else decode_upright(path.read_bytes())
    return MediaPreview(make_thumbnail(image, side, most), image.width, image.height)


def _prepare_picture(source: Path, target: Path, *, exact: bool = False) -> MediaFacts:
    picture = clean_picture(source.read_bytes(), exact=exact)
    target.write_bytes(picture.content)
    return MediaFacts(picture.content_type, picture.width, picture.height, notes=picture.notes)


def _prepare_still(source: Path, target: Path) -> MediaFacts:
    """The first frame of a video as a PNG: without loss, because a mask may be made for it."""
    image = first_frame(source)
    image.save(target, "PNG")
    return MediaFacts("image/png", image.width, image.height)


def _prepare_video(source: Path, target: Path, limits: VideoLimits) -> MediaFacts:
    made = clean_video(source, target, limits)
    return _video_media_facts(made.facts, made.notes, made.stored)


def _prepare_mask_film(source: Path, target: Path, limits: VideoLimits) -> MediaFacts:
    """A mask video; where its transparency is the mask, it becomes black and white: a plain copy would lose it."""
    try:
        film = read_transparency(source)
    except InvalidInput as error:
        if error.code != "not_media":
            raise
        hint = "Give a PNG, JPEG, WEBP or GIF picture, or an MP4, MOV or WEBM film."
        raise InvalidInput("The mask is neither a picture nor a film.", code="not_media", hint=hint) from None
    if film is None:
        return _prepare_video(source, target, limits)
    if film.source == "light":
        facts = _prepare_video(source, target, limits)
        return replace(facts, notes=(*facts.notes, "The mask film is partly transparent, too; its colours were used."))
    shown = probe_video(source)
    write_mask_film(source, target, film, (shown.width, shown.height))
    notes = ("The mask was taken from the film's transparency: what is opaque is edited.",)
    return _video_media_facts(probe_video(target), notes, None)


def _prepare_sound(source: Path, target: Path, limits: VideoLimits) -> MediaFacts:
    made = clean_sound(source, target, limits)
    return _sound_media_facts(made.facts, made.notes)


def _video_media_facts(facts: VideoFacts, notes: tuple[str, ...], stored: tuple[int, int] | None) -> MediaFacts:
    return MediaFacts(
        facts.content_type,
        facts.width,
        facts.height,
        facts.duration_seconds,
        facts.frames,
        notes,
        facts.frame_rate,
        facts.has_audio,
        stored,
    )


def _sound_media_facts(facts: SoundFacts, notes: tuple[str, ...]) -> MediaFacts:
    return MediaFacts(facts.content_type, duration_seconds=facts.duration_seconds, notes=notes)
