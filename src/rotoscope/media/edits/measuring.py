"""What an edit has changed inside and outside of its mask, counted over its frames.

A pixel counts as changed when the two frames, each made even over 5 x 5 pixels, differ by more than 12 of 255 in
brightness or in one of the two colour differences (Y, Cr, Cb of full range). The limit is fixed and not taken from the
clip: a model that changes everything a little would set its own limit. Frames are compared at the smaller of both
sizes, at most 854 pixels along the longer side, which also evens out what encoders do.
"""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from math import log10
from pathlib import Path
from typing import TYPE_CHECKING

from rotoscope.media.edits.films import FilmShape, FrameReader, GivenMask, MaskReader, ShownFrame
from rotoscope.media.edits.limits import MAX_FRAMES
from rotoscope.media.edits.pairing import Pairing, Region

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from rotoscope.media.image.masks import Mask

    Pixels = NDArray[np.uint8]

__all__ = ["FilmPair", "FramePair", "MaskedChange", "compared_size", "measure_change", "read_original_pairs"]

MAX_COMPARED = 400
"""Frames that are compared at most: of a longer film, each second, third and so on."""
_LONGEST_SIDE = 854  # pixels
_EVENED = (5, 5)  # pixels over which a frame is made even
_NOISE = 12  # of 255
_ROUNDING = 2  # pixels by which models round the sides of a frame
_RIM = 6  # pixels around the mask that count for neither side: encoders, soft edges and the evening reach over it
_WEIGHTS = (4, 1, 1)  # of Y, Cr and Cb, as many values as they have in 4:2:0


@dataclass(slots=True)
class MaskedChange:
    """What was counted.

    Attributes:
        frames: how many were compared.
        selected: pixels under the mask.
        changed_selected: those of them that differ.
        outside: pixels outside of the mask and its rim.
        changed_outside: those of them that differ.
        squares: the sum of the squared differences outside, weighted.
        pixels: all of them.
    """

    frames: int = 0
    selected: int = 0
    changed_selected: int = 0
    outside: int = 0
    changed_outside: int = 0
    squares: float = 0.0
    pixels: int = 0

    def add(self, original: "Pixels", shown: "Pixels", mask: "Mask") -> None:
        """Count a pair of RGB frames of one size, with the mask of that size."""
        import cv2
        import numpy as np

        one, other = (cv2.cvtColor(pixels, cv2.COLOR_RGB2YCrCb) for pixels in (original, shown))
        selected, rim = mask.astype(np.uint8), np.ones((2 * _RIM + 1, 2 * _RIM + 1), np.uint8)
        outside = np.asarray(1 - cv2.dilate(selected, rim), np.uint8)
        even = cv2.absdiff(cv2.blur(one, _EVENED), cv2.blur(other, _EVENED))
        off = np.asarray((cv2.max(cv2.max(*cv2.split(even)[:2]), cv2.split(even)[2]) > _NOISE), np.uint8)
        self.frames += 1
        self.pixels += mask.size
        self.selected += cv2.countNonZero(selected)
        self.changed_selected += cv2.countNonZero(off & selected)
        self.outside += cv2.countNonZero(outside)
        self.changed_outside += cv2.countNonZero(off & outside)
        for weight, a, b in zip(_WEIGHTS, cv2.split(one), cv2.split(other), strict=True):
            self.squares += weight * cv2.norm(a, b, cv2.NORM_L2SQR, outside) / sum(_WEIGHTS)

    @property
    def psnr(self) -> float | None:
        """Outside, in dB; None where the pixels are identical, or there are none."""
        return 10 * log10(255**2 * self.outside / self.squares) if self.squares and self.outside else None


@dataclass(frozen=True, slots=True)
class FramePair:
    """A frame of the edit, the original's frame that it shows, and the mask of that.

    Attributes:
        number: of the edit's frame, or of the original's, whichever are read one by one.
        original: None where the edit's frame shows none.
        mask: of the original's size; None where it is not known.
    """

    number: int
    edit: ShownFrame
    original: ShownFrame | None
    mask: "Mask | None"


@dataclass(frozen=True, slots=True)
class FilmPair:
    """An edit and its original: files, shapes, the mask if there is one, and how their frames belong together."""

    original: Path
    edit: Path
    shapes: tuple[FilmShape, FilmShape]
    mask: GivenMask | None
    pairing: Pairing


def read_original_pairs(films: FilmPair, *, with_masks: bool) -> Iterator[FramePair]:
    """Every frame of the original that an edit shows, beside the edit's nearest one; broken ones are left out.

    Args:
        films: the edit and its original.
        with_masks: whether the masks are read.

    Raises:
        InvalidInput: a file is broken, or the mask is none.
        TooLarge: the mask takes too long to read.
    """
    masks = MaskReader(films.mask, films.shapes[0]) if with_masks and films.mask is not None else None
    shown_frames = films.pairing.shown_frames(len(films.shapes[0].stamps))
    with (
        closing(FrameReader(films.original, films.shapes[0])) as original,
        closing(FrameReader(films.edit, films.shapes[1])) as edit,
    ):
        for number, place in enumerate(shown_frames[:MAX_FRAMES]):
            shown = edit.frame(place)
            if shown is not None:
                known = original.frame(number)
                mask = masks.mask(number) if masks is not None and known is not None else None
                yield FramePair(number, shown, known, mask)


def _read_pairs(films: FilmPair, step: int) -> Iterator[FramePair]:
    """Every `step`-th frame of an edit beside its original's, one pair at a time; those that are broken are left out.

    Raises:
        InvalidInput: a file is broken, or the mask is none.
        TooLarge: the mask takes too long to read.
    """
    masks = MaskReader(films.mask, films.shapes[0]) if films.mask is not None else None
    with (
        closing(FrameReader(films.original, films.shapes[0])) as original,
        closing(FrameReader(films.edit, films.shapes[1])) as edit,
    ):
        for number in range(0, min(len(films.pairing.sources), MAX_FRAMES), step):
            shown, source = edit.frame(number), films.pairing.sources[number]
            if shown is None:
                continue
            known = original.frame(source) if source is not None and source < MAX_FRAMES else None
            mask = masks.mask(source) if masks is not None and source is not None and known is not None else None
            yield FramePair(number, shown, known, mask)


def measure_change(films: FilmPair) -> MaskedChange:
    """Compare an edit with its original, frame by frame.

    Raises:
        InvalidInput: a file is broken, or the mask is none.
        TooLarge: the mask takes too long to read.
    """
    import cv2
    import numpy as np

    found, region = MaskedChange(), films.pairing.region
    size = compared_size(region, films.shapes[1].size)
    has_film = films.mask is not None and films.mask.is_film
    step = -(-min(len(films.pairing.sources), MAX_FRAMES) // MAX_COMPARED) if has_film else 1
    for pair in _read_pairs(films, step):
        if pair.original is None or pair.mask is None:
            if not has_film:
                break  # a picture is the mask of the first frame alone
            continue
        mask = cv2.resize(pair.mask[_area(region)].view(np.uint8), size, interpolation=cv2.INTER_AREA) > 0
        known = _picture_of_region(pair.original, region, films.shapes[0].size, size)
        found.add(known, pair.edit.picture(size), mask)
    return found


def _area(region: Region) -> tuple[slice, slice]:
    return slice(region.top, region.top + region.height), slice(region.left, region.left + region.width)


def _picture_of_region(frame: ShownFrame, region: Region, whole: tuple[int, int], size: tuple[int, int]) -> "Pixels":
    """A region of a frame whose whole size is given, scaled to a size."""
    if (region.width, region.height) == whole:
        return frame.picture(size)
    import cv2
    import numpy as np

    part = np.ascontiguousarray(frame.picture()[_area(region)])
    return np.asarray(cv2.resize(part, size, interpolation=cv2.INTER_AREA), np.uint8)


def compared_size(region: Region, edit: tuple[int, int]) -> tuple[int, int]:
    """Width and height at which frames are compared, in pixels: the smaller of both, and at most 854 along a side."""
    width, height = region.width, region.height
    scale = min(_LONGEST_SIDE / max(width, height), edit[0] / width, edit[1] / height, 1.0)
    size = max(round(width * scale), 1), max(round(height * scale), 1)
    is_nearly = all(abs(one - other) <= _ROUNDING for one, other in zip(size, edit, strict=True))
    return edit if is_nearly and max(edit) <= _LONGEST_SIDE else size
