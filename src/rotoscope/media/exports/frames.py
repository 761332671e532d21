"""The frames of an export, made from files one after the other: only one mask and one picture are held at a time."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING

from rotoscope.errors import InvalidInput, UserMistake
from rotoscope.media.exports.formats import PictureNeed, find_format
from rotoscope.media.exports.labels import clean_label, make_file_name, replace_extension
from rotoscope.media.exports.records import ExportFrame, LabelledMask
from rotoscope.media.exports.sources import ExportOrder, FilmSource, MaskSource, PictureSource
from rotoscope.media.image.pictures import decode_upright, read_exif_orientation, read_picture_size
from rotoscope.media.sniff import HEAD_BYTES, content_type_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

    from rotoscope.media.image.masks import Mask

__all__ = ["FEWER_FRAMES", "MAX_MASKS", "FrameTally", "make_frames"]

MAX_MASKS = 5_000
"""Masks of one export, those of all frames together."""
FEWER_FRAMES = "Export fewer frames of a film with --every N."
"""The next step where an export would be too large."""
_MAX_PIXELS = 20_000_000_000  # pixels of all masks together
_SELECTED = 128  # of 255
_LISTED = 5  # names in a note
_EXTENSIONS = {"image/png": ".png", "image/jpeg": ".jpg"}  # of what every program reads


@dataclass(slots=True)
class FrameTally:
    """Counts the masks of an export, and notes what is unusual."""

    masks: int = 0
    pixels: int = 0
    notes: list[str] = field(default_factory=list)
    _empty: list[str] = field(default_factory=list)
    _misshapen: list[str] = field(default_factory=list)

    def add(self, name: str, mask: "Mask", *, fits: bool = True) -> None:
        """Count a mask.

        Args:
            name: of the mask, for people.
            mask: the mask.
            fits: whether it is of the picture's size; else it is left out.

        Raises:
            InvalidInput: there are more than an export has.
        """
        self.masks += 1
        self.pixels += mask.size
        if self.masks > MAX_MASKS or self.pixels > _MAX_PIXELS:
            raise InvalidInput(f"An export has at most {MAX_MASKS:,} masks.", hint=FEWER_FRAMES, code="too_large")
        if not fits:
            self._misshapen.append(name)
        elif not mask.any():
            self._empty.append(name)

    def describe(self) -> Iterator[str]:
        """What a user should know, in sentences."""
        yield from self.notes
        for names, words in (
            (self._empty, "selects nothing"),
            (self._misshapen, "is of another size than the picture, and was left out"),
        ):
            more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
            if names:
                yield f"The mask of {', '.join(names[:_LISTED])}{more} {words}."


def make_frames(order: ExportOrder, tally: FrameTally) -> Iterator[ExportFrame]:
    """The frames of an export, one after the other.

    Raises:
        InvalidInput: the format needs the picture, and it is not at hand; a mask is none.
        TooLarge: a film takes too long to read.
    """
    need = find_format(order.format).picture
    wants: PictureNeed = "file" if order.with_pictures and need == "without" else need
    source = order.source
    if isinstance(source, FilmSource):
        yield from _film_frames(source, wants, order.every, tally)
    else:
        yield _picture_frame(source, wants, tally)


def _absent_picture_error() -> InvalidInput:
    return InvalidInput(
        "The picture itself cannot be read: the job passed its address on.",
        hint="Export the masks alone, as coco, cvat or png without --images.",
    )


def _picture_frame(source: PictureSource, wants: PictureNeed, tally: FrameTally) -> ExportFrame:
    content = source.picture.read_bytes() if source.picture is not None else b""
    try:
        size = read_picture_size(content)
    except UserMistake:
        if wants != "without":
            raise _absent_picture_error() from None
        height, width = _read_mask(source.masks[0].path).shape
        size = width, height
    name = make_file_name(source.name)
    frame = ExportFrame(name, *size, _picture_masks(source.masks, size, tally))
    if wants == "pixels":
        return replace(frame, pixels=_pixels_of(decode_upright(content)))
    if wants == "file":
        written, extension = _upright_file(content)
        return replace(frame, file_name=replace_extension(name, extension), content=written)
    return frame


def _picture_masks(sources: tuple[MaskSource, ...], size: tuple[int, int], tally: FrameTally) -> Iterator[LabelledMask]:
    """The masks of a picture; those of another size are left out."""
    for number, source in enumerate(sources):
        mask, label = _read_mask(source.path), clean_label(source.label)
        fits = mask.shape == (size[1], size[0])
        tally.add(f"{label} (masks/{number})", mask, fits=fits)
        if fits:
            yield LabelledMask(number, label, mask, source.score)


def _read_mask(path: Path) -> "Mask":
    """A mask of a result: black and white, of its picture's size."""
    import numpy as np

    return np.asarray(decode_upright(path.read_bytes()).convert("L")) >= _SELECTED


def _pixels_of(picture: "Image.Image") -> "NDArray[np.uint8]":
    import numpy as np

    return np.asarray(picture.convert("RGB"))


def _upright_file(content: bytes) -> tuple[bytes, str]:
    """A picture as an upright JPEG or PNG, which every program reads, and the extension of that."""
    from rotoscope.media.image.encoding import write_png

    kind = content_type_of(content[:HEAD_BYTES])
    if kind in _EXTENSIONS and read_exif_orientation(content) == 1:
        return content, _EXTENSIONS[kind]
    shown = decode_upright(content)
    return write_png(shown.convert("RGBA" if shown.has_transparency_data else "RGB")), ".png"


def _film_frames(source: FilmSource, wants: PictureNeed, every: int, tally: FrameTally) -> Iterator[ExportFrame]:
    """The frames of a film with the mask of its object; those between the wanted ones are passed over."""
    from rotoscope.media.image.encoding import write_jpeg

    if wants != "without" and source.film is None:
        raise _absent_picture_error()
    name, label, size = make_file_name(source.name), clean_label(source.label), _film_size(source.film)
    pictures = _film_pictures(source.film, wants, every)
    for number, (mask, picture) in enumerate(zip(_film_masks(source, every), pictures, strict=False)):
        if number % every:
            continue
        fitted = _fit_mask(mask, size)
        tally.add(f"frame {number}", fitted)
        file_name = replace_extension(name, f"-{number:06}.jpg")
        frame = ExportFrame(file_name, fitted.shape[1], fitted.shape[0], (LabelledMask(0, label, fitted),))
        if picture is None:
            yield frame
        elif wants == "pixels":
            yield replace(frame, pixels=_pixels_of(picture))
        else:
            yield replace(frame, content=write_jpeg(picture))


def _film_size(film: Path | None) -> tuple[int, int] | None:
    from rotoscope.media.video.videos import probe_video

    if film is None:
        return None
    facts = probe_video(film)
    return facts.width, facts.height


def _film_pictures(film: Path | None, wants: PictureNeed, every: int) -> "Iterator[Image.Image | None]":
    from rotoscope.media.video.stills import read_upright_frames

    if film is None or wants == "without":
        return repeat(None)
    return read_upright_frames(film, _most_frames(every))


def _film_masks(source: FilmSource, every: int) -> "Iterator[Mask]":
    """The mask of every frame; of a mask picture, that of the first frame.

    Raises:
        InvalidInput: it is no mask.
    """
    from rotoscope.media.image.mask_reader import read_mask
    from rotoscope.media.image.masks import not_a_mask_error
    from rotoscope.media.video.mask_videos import read_film_masks, read_grey_frames, read_mask_film

    if source.is_exact:
        film = read_mask_film(source.mask, 1)
        yield from (mask for _, mask in read_film_masks(source.mask, film, _most_frames(every)))
        return
    if source.mask_is_film:
        for grey in read_grey_frames(source.mask, _most_frames(every)):
            yield (grey >= _SELECTED) != source.inverted
        return
    read = read_mask(decode_upright(source.mask.read_bytes(), exact=True))
    if read is None:
        raise not_a_mask_error()
    yield read.mask != source.inverted


def _most_frames(every: int) -> int:
    """How many frames are decoded: one more than may be exported, so that a longer film is refused and not cut."""
    return MAX_MASKS * every + 1


def _fit_mask(mask: "Mask", size: tuple[int, int] | None) -> "Mask":
    from rotoscope.media.image.masks import fit_mask_to_size

    return mask if size is None else fit_mask_to_size(mask, *size)[0]
