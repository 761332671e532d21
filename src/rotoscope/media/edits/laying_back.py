"""An edit brought back to its original: a new film with the original's size, frame rate and times.

Every frame of the original that the edit shows gets the edit's nearest frame. With `keeps_outside` the original is laid
back outside of the edit's mask: inside every pixel is the model's, and over a few pixels outside of it the edit passes
into the original. Frames are laid together as they are stored for an encoder (Y, Cb, Cr in 4:2:0), so that the
original's pixels are encoded once more and not converted.
"""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, cast

from rotoscope.media.edits.films import ShownFrame
from rotoscope.media.edits.measuring import FilmPair, FramePair, read_original_pairs
from rotoscope.media.edits.pairing import Region
from rotoscope.media.video.opening import import_av
from rotoscope.media.video.remux import add_picture_track, open_output, remove_on_failure

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
_FAST_PIXELS = 1920 * 1080  # of a larger frame the quicker preset is used, which takes less memory


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
    shape = films.shapes[0]
    size = shape.size[0] - shape.size[0] % 2, shape.size[1] - shape.size[1] % 2
    rate = Fraction(shape.facts.frame_rate).limit_denominator(1001)
    preset = "veryfast" if size[0] * size[1] <= _FAST_PIXELS else "ultrafast"
    layers, track, written = _Layers(size, films.pairing.region, keeps_outside), None, list[int]()
    with remove_on_failure(target), open_output(target, "mp4") as into:
        for pair in read_original_pairs(films, with_masks=keeps_outside):
            frame = layers.lay_together(pair)
            if track is None:
                track = add_picture_track(into, size, rate, crf=crf, preset=preset, like=frame)
            written.append(pair.number)
            frame.pts, frame.time_base = shape.stamps[pair.number] - shape.stamps[0], shape.unit
            into.mux(track.encode(frame))
        if track is not None:
            into.mux(track.encode(None))
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

    def lay_together(self, pair: FramePair) -> "VideoFrame":
        """A new frame, in the colour space of the original."""
        import numpy as np

        av = import_av()
        (width, height), place = self.size, self._place()
        self.form = pair.original.frame if pair.original is not None else self.form
        is_mixed = self.keeps_outside and pair.mask is not None
        if pair.original is None or not (is_mixed or (place.width, place.height) != self.size):
            planes = self._edit_planes(pair, Region(0, 0, *self.size))
        else:
            planes = _planes_of(pair.original, self.size)
            shares = np.ones((height, width), np.float32)  # what the model does not show stays the original's
            if is_mixed and pair.mask is not None:
                shares = _edit_shares(pair.mask[:height, :width], self.size)
            _mix_planes(planes, self._edit_planes(pair, place), shares, place)
        stacked = np.concatenate([plane.reshape(-1) for plane in planes]).reshape(height * 3 // 2, width)
        made: VideoFrame = av.VideoFrame.from_ndarray(stacked, format="yuv420p")
        if self.form is not None:
            made.colorspace, made.color_primaries = self.form.colorspace, self.form.color_primaries
            made.color_trc = self.form.color_trc
        return made

    def _place(self) -> Region:
        """The region, cut to the even size."""
        region = self.region
        width, height = min(region.width, self.size[0] - region.left), min(region.height, self.size[1] - region.top)
        return Region(region.left, region.top, width - width % 2, height - height % 2)

    def _edit_planes(self, pair: FramePair, place: Region) -> "list[Pixels]":
        form = self.form.colorspace if self.form is not None else None
        return _planes_of(pair.edit, (place.width, place.height), form)


def _planes_of(shown: ShownFrame, size: tuple[int, int], colorspace: int | None = None) -> "list[Pixels]":
    """Y, Cb and Cr of a frame, upright and of a size, in 4:2:0 and limited range; in a colour space, or its own."""
    frame, (width, height) = shown.frame, shown.stored_size(size)
    stored = frame.reformat(
        width,
        height,
        "yuv420p",
        src_colorspace=frame.colorspace,
        dst_colorspace=frame.colorspace if colorspace is None else colorspace,
        threads=1,
    )
    flat, count = cast("Pixels", stored.to_ndarray()).reshape(-1), width * height
    chroma = [flat[start : start + count // 4].reshape(height // 2, -1) for start in (count, count + count // 4)]
    return [shown.turn_upright(plane) for plane in (flat[:count].reshape(height, width), *chroma)]


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
