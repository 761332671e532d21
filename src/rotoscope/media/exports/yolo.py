"""YOLO segmentation: `images/`, `labels/` with one row of normalised corners for each area, and `data.yaml`. Pure.

What reads the labels fills polygons as OpenCV does, through the middles of pixels. Some programs cut the decimals of a
corner in pixels, others round them: corners lie a quarter of a pixel behind the pixel's edge, and both find the pixel.
An object of several areas has a row for each, as the format has one polygon a row.
"""

import json
from collections.abc import Iterable, Iterator

from rotoscope.media.exports.labels import LabelTable
from rotoscope.media.exports.outlines import Ring, trace_pixel_outlines
from rotoscope.media.exports.records import ExportFile, ExportFrame, too_many_corners_error

__all__ = ["write_yolo"]

_INSIDE = 0.25  # of a pixel
_TINY = ((-0.2, -0.2), (0.2, -0.2), (0.2, 0.2), (-0.2, 0.2))  # a ring around one corner, still in its pixel
_MIN_CORNERS = 3


def write_yolo(frames: Iterable[ExportFrame], tolerance: float) -> Iterator[ExportFile]:
    """The data set; both `train` and `val` are all pictures, so that it opens as it is.

    Raises:
        InvalidInput: a mask is noise, whose outline has too many corners.
    """
    labels = LabelTable()
    for frame in frames:
        rows = list[str]()
        for one in frame.masks:
            rings = trace_pixel_outlines(one.mask, tolerance)
            if rings is None:
                raise too_many_corners_error(one.number)
            if rings:
                number = labels.number(one.label)
                rows += [f"{number} {_normalise(ring, frame.width, frame.height)}" for ring in rings]
        if frame.content is not None:
            yield ExportFile(f"images/{frame.file_name}", frame.content)
        yield ExportFile(f"labels/{frame.stem}.txt", "".join(f"{row}\n" for row in rows).encode())
    # JSON's texts are also YAML's.
    names = "".join(f"  {number}: {json.dumps(name, ensure_ascii=False)}\n" for number, name in enumerate(labels.names))
    head = f"train: images\nval: images\nnc: {len(labels.names)}\n"
    yield ExportFile("data.yaml", f"{head}names:{f'{chr(10)}{names}' if names else ' {}' + chr(10)}".encode())


def _normalise(ring: Ring, width: int, height: int) -> str:
    """The corners as parts of the picture's width and height."""
    import numpy as np

    points = ring + _INSIDE
    if len(ring) < _MIN_CORNERS:
        points = np.concatenate([point + _TINY for point in points])
    parts = points / (width, height)
    return " ".join(f"{value:.8f}" for value in parts.ravel().tolist())
