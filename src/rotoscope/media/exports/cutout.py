"""Cut-outs: each object as a PNG of the picture's size, transparent around it. Pure."""

import io
from collections.abc import Iterable, Iterator

from rotoscope.media.exports.labels import make_slug
from rotoscope.media.exports.records import ExportFile, ExportFrame

__all__ = ["write_cutouts"]

_FAST_PIXELS = 4_000_000  # above, to pack better takes seconds


def write_cutouts(frames: Iterable[ExportFrame], _: float) -> Iterator[ExportFile]:
    """One file for each mask that selects anything. Around the object the colours are black, so nothing else leaves."""
    import numpy as np
    from PIL import Image

    for frame in frames:
        if frame.pixels is None:
            raise ValueError("a cut-out needs the picture")
        for one in frame.masks:
            if not one.mask.any():
                continue
            pixels = np.zeros((frame.height, frame.width, 4), np.uint8)
            pixels[one.mask, :3] = frame.pixels[one.mask]
            pixels[one.mask, 3] = 255
            target = io.BytesIO()
            level = 1 if one.mask.size > _FAST_PIXELS else 6
            Image.fromarray(pixels).save(target, "PNG", compress_level=level)
            yield ExportFile(f"{frame.stem}-{one.number:03}-{make_slug(one.label)}.png", target.getvalue())
