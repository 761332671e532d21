"""An edit brought back to its original: a new film with the original's size, frame rate and times.

Every frame of the original that the edit shows gets the edit's nearest frame. With `keeps_outside` the original is laid
back outside of the edit's mask: inside every pixel is the model's, and over a few pixels outside of it the edit passes
into the original. Frames are laid together as they are stored for an encoder (Y, Cb, Cr in 4:2:0), so that the
original's pixels are encoded once more and not converted.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rotoscope.media.edits.measuring import FilmPair, FramePair, read_original_pairs
from rotoscope.media.edits.pairing import Region
from rotoscope.media.edits.planes import NewFrame, even_size, planes_of, write_film

if TYPE_CHECKING:
    import numpy as np
    from av.video.frame import VideoFrame
    from numpy.typing import NDArray

    from rotoscope.media.image.masks import Mask

    Pixels = NDArray[np.uint8]
    Shares = NDArray[np.float32]

__all__ = ["restore_film"]

_FEATHER = 3.0  # pixels outside of the mask, for each 854 along the original's longer side
_FEATHER_SIDE = 854
_BAND = 64  # rows


def restore_film(films: FilmPair, target: Path, crf: int, *, keeps_outside: bool) -> list[int]:
    """Write the film.

    Args:
        films: the edit, its original and, with `keeps_outside`, the mask of every frame.
        target: where to write an MP4 without sound; nothing is left there when this fails.
        crf: of x264; lower is better.
        keeps_outside: whether the original is laid back outside of the mask.

    Returns:
        The numbers of the original's frames that were written; those that are broken in the edit are left out.

    Raises:
        InvalidInput: a file is broken.
        TooLarge: it takes too much memory or time.
        StorageFailed: the target cannot be written.
    """
    shape, written = films.shapes[0], list[int]()
    layers = _Layers(even_size(shape.size), films.pairing.region, keeps_outside)

    def make_frames() -> Iterator[NewFrame]:
        for pair in read_original_pairs(films, with_masks=keeps_outside):
            written.append(pair.number)
            pts = shape.stamps[pair.number] - shape.stamps[0]
            yield NewFrame(layers.lay_together(pair), pts, layers.form)

    write_film(target, shape, make_frames(), crf)
    return written


@dataclass(slots=True)
class _Layers:
    """Lays frames together.

    Attributes:
        size: width and height of the new frames in pixels, both even.
        region: the part of the original that the edit shows.
        keeps_outside: whether outside of the mask the original stays.
        form: the colour space of the original, once it is known.
    """

    size: tuple[int, int]
    region: Region
    keeps_outside: bool
    form: "VideoFrame | None" = None

    def lay_together(self, pair: FramePair) -> "list[Pixels]":
        """The planes of a new frame, in the colour space of the original."""
        import numpy as np

        (width, height), place = self.size, self._place()
        self.form = pair.original.frame if pair.original is not None else self.form
        is_mixed = self.keeps_outside and pair.mask is not None
        if pair.original is None or not (is_mixed or (place.width, place.height) != self.size):
            return self._edit_planes(pair, Region(0, 0, *self.size))
        planes = planes_of(pair.original, self.size)
        shares = np.ones((height, width), np.float32)  # what the model does not show stays the original's
        if is_mixed and pair.mask is not None:
            shares = _edit_shares(pair.mask[:height, :width], self.size)
        _mix_planes(planes, self._edit_planes(pair, place), shares, place)
        return planes

    def _place(self) -> Region:
        """The region, cut to the even size."""
        region = self.region
        width, height = min(region.width, self.size[0] - region.left), min(region.height, self.size[1] - region.top)
        return Region(region.left, region.top, width - width % 2, height - height % 2)

    def _edit_planes(self, pair: FramePair, place: Region) -> "list[Pixels]":
        form = self.form.colorspace if self.form is not None else None
        return planes_of(pair.edit, (place.width, place.height), form)


def _edit_shares(mask: "Mask", size: tuple[int, int]) -> "Shares":
    """How much of each pixel is the edit's, 0 to 1: all inside of the mask, less and less over the feather."""
    import cv2
    import numpy as np

    shares = cv2.distanceTransform(1 - mask.view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_3).astype(np.float32, copy=False)
    feather = _FEATHER * max(max(size) / _FEATHER_SIDE, 1.0)
    # In place: a frame of 4K has 33 MB of them.
    np.divide(shares, -np.float32(feather + 1), out=shares)
    np.add(shares, 1, out=shares)
    return np.clip(shares, 0, 1, out=shares)


def _mix_planes(planes: "list[Pixels]", edit: "list[Pixels]", shares: "Shares", place: Region) -> None:
    """Lay an edit into the planes of an original at a place, by its shares of all pixels."""
    import cv2
    import numpy as np

    part = shares[place.top : place.top + place.height, place.left : place.left + place.width]
    for number, (plane, laid) in enumerate(zip(planes, edit, strict=True)):
        step = 2 if number else 1
        weight = cv2.resize(part, (laid.shape[1], laid.shape[0]), interpolation=cv2.INTER_AREA) if number else part
        rows = np.flatnonzero(weight.any(axis=1))
        below = plane[place.top // step :, place.left // step : place.left // step + laid.shape[1]]
        # In bands: the sums in between are four times as large as the pixels.
        for top in range(int(rows[0]), int(rows[-1]) + 1, _BAND) if rows.size else ():
            band = slice(top, min(top + _BAND, int(rows[-1]) + 1))
            mixed = below[band] + (laid[band].astype(np.float32) - below[band]) * weight[band]
            below[band] = np.asarray(mixed + np.float32(0.5), np.uint8)
