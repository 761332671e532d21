"""What an export is made of, as files: a picture with its masks, or a film with the mask of an object."""

from dataclasses import dataclass
from pathlib import Path

__all__ = ["ExportOrder", "FilmSource", "MaskSource", "PictureSource"]


@dataclass(frozen=True, slots=True)
class MaskSource:
    """The file of a mask in black and white, its label, and how sure the model is, 0-1."""

    path: Path
    label: str
    score: float | None = None


@dataclass(frozen=True, slots=True)
class PictureSource:
    """A picture with its masks.

    Attributes:
        name: of the picture, as who gave it calls it.
        picture: the picture; None where it is not at hand.
        masks: in their order.
    """

    name: str
    picture: Path | None
    masks: tuple[MaskSource, ...]


@dataclass(frozen=True, slots=True)
class FilmSource:
    """A film and the mask of one object in it.

    Attributes:
        name: of the film, as who gave it calls it.
        film: the film; None where it is not at hand.
        mask: a mask film, whose frames are those of the film, or a mask picture, which is that of its first frame.
        mask_is_film: which of the two it is.
        label: of the object.
        inverted: whether black is selected.
        is_exact: whether the mask film is of this project's making, and so read in its full size.
    """

    name: str
    film: Path | None
    mask: Path
    mask_is_film: bool
    label: str
    inverted: bool = False
    is_exact: bool = False


@dataclass(frozen=True, slots=True)
class ExportOrder:
    """What is to be made.

    Attributes:
        format: a name in `FORMATS`.
        source: what it is made of.
        simplify: by how many pixels an outline may be off, so that it has fewer corners; 0: it is exact.
        with_pictures: whether the pictures are written, too, where the format does without.
        every: of a film, every how manieth frame.
    """

    format: str
    source: PictureSource | FilmSource
    simplify: float = 0.0
    with_pictures: bool = False
    every: int = 1
