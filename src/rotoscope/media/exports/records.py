"""What an export is made of, and what it gives, as frozen records. Masks are read one after the other."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from rotoscope.errors import InvalidInput

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from rotoscope.media.image.masks import Mask

__all__ = ["ExportFile", "ExportFrame", "FrameWriter", "LabelledMask", "too_many_corners_error"]


@dataclass(frozen=True, slots=True, eq=False)
class LabelledMask:
    """One object of a picture.

    Attributes:
        number: of the object, from 0 on; the same in every frame of a film.
        label: what it shows, cleaned (`media.exports.labels`) and never empty.
        mask: height x width of the picture; it may be empty, and may overlap others.
        score: how sure the model is, 0-1; None where it does not say so.
    """

    number: int
    label: str
    mask: "Mask"
    score: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class ExportFrame:
    """A picture, or one frame of a film, with its masks.

    Attributes:
        file_name: of the picture, safe as the name of a file, and no other frame has the same.
        width: of the upright picture, in pixels.
        height: of the upright picture, in pixels.
        masks: read once, one after the other.
        content: the picture as a file, where the format needs it.
        pixels: the picture as height x width x 3 in RGB, where the format needs it.
    """

    file_name: str
    width: int
    height: int
    masks: Iterable[LabelledMask]
    content: bytes | None = None
    pixels: "NDArray[np.uint8] | None" = None

    @property
    def stem(self) -> str:
        """The name without its ending."""
        return self.file_name.rpartition(".")[0] or self.file_name


@dataclass(frozen=True, slots=True)
class ExportFile:
    """One file: its name below the folder of the export, with forward slashes, and its content."""

    name: str
    content: bytes


FrameWriter: TypeAlias = Callable[[Iterable[ExportFrame], float], Iterator[ExportFile]]
"""Writes one format: from frames, and by how many pixels outlines may be off, to files, each once it is whole."""


def too_many_corners_error(number: int) -> InvalidInput:
    """The error for a mask whose outline would be of no use to anybody."""
    return InvalidInput(
        f"Mask {number} is noise: its outline has too many corners.",
        hint="Export it as coco, cvat, label-studio or png, which keep every pixel.",
        code="too_large",
    )
